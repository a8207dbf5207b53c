"""Rotated boxes and masks as numbers: whole arrays at once, in pixels, x to the right and y down.

A rotated box is (x, y, w, h, a): centre, size, and the angle in radians that turns it clockwise on screen. Its four
corners go round clockwise from the top left of the unturned box: top left, top right, bottom right, bottom left. A
mask is COCO's run-length encoding: lengths of runs down the columns, background first, or COCO's compressed text of
these lengths.

Sources: roLabelImg's ``robndbox`` for the angle, which is the house format's; pycocotools' ``maskApi.c`` for masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np
import numpy.typing as npt

from imgsyncfs.errors import AnnotationError

ANGLE_TOLERANCE = 1e-6
"""An angle this close below pi is 0: the same box, written by somebody who rounded."""

_SHOWN_DECIMALS = 6
"""Sines may differ in their last digit from one processor to the next; what is shown must not."""

_LARGEST_ROUNDED = 1e9
"""Beyond this a double has no six decimals to be rounded to."""

_Floats = npt.NDArray[np.float64]

_SIXBIT_OFFSET = 48
_MORE_BIT, _SIGN_BIT, _VALUE_BITS = 0x20, 0x10, 0x1F
_LONGEST_NUMBER = 7  # characters of five bits each: more than any 32-bit run length needs


def corners(boxes: npt.ArrayLike) -> _Floats:
    """Return the corners of rotated boxes.

    Args:
        boxes: (n, 5) of x, y, w, h, a.

    Returns:
        (n, 4, 2): top left, top right, bottom right, bottom left of each. Infinite or NaN where numbers overflow.
    """
    x, y, w, h, a = np.asarray(boxes, dtype=np.float64).reshape(-1, 5).T
    result = np.empty((len(x), 4, 2))
    with np.errstate(over="ignore", invalid="ignore"):
        cosine, sine = np.cos(a), np.sin(a)
        right_x, right_y = w / 2 * cosine, w / 2 * sine
        down_x, down_y = -h / 2 * sine, h / 2 * cosine
        result[:, 0, 0], result[:, 0, 1] = x - right_x - down_x, y - right_y - down_y
        result[:, 1, 0], result[:, 1, 1] = x + right_x - down_x, y + right_y - down_y
        result[:, 2, 0], result[:, 2, 1] = x + right_x + down_x, y + right_y + down_y
        result[:, 3, 0], result[:, 3, 1] = x - right_x + down_x, y - right_y + down_y
    return result


def shown_corners(boxes: npt.ArrayLike) -> _Floats:
    """Return the corners of rotated boxes, rounded so that every processor gives the same.

    Args:
        boxes: as for `corners`.

    Returns:
        As `corners`, with six decimals where a double has them.
    """
    exact = corners(boxes)
    large = ~(np.abs(exact) <= _LARGEST_ROUNDED)
    return np.where(large, exact, np.round(np.where(large, 0.0, exact), _SHOWN_DECIMALS))


def boxes_from_corners(points: npt.ArrayLike) -> _Floats:
    """Return the rotated boxes that have these corners, or come nearest to them by the sum of squared distances.

    Args:
        points: (n, 4, 2) in the order of `corners`, clockwise. `rectangle_deviation` tells how far off they are.

    Returns:
        (n, 5) of x, y, w, h, a, with a in [0, pi). Infinite or NaN where numbers overflow.
    """
    boxes = _fitted_boxes(np.asarray(points, dtype=np.float64).reshape(-1, 4, 2))
    boxes[:, 4] = reduce_angle(boxes[:, 4])
    return boxes


def clockwise_corners(points: npt.ArrayLike) -> _Floats:
    """Turn four-cornered outlines that go round anticlockwise on screen into clockwise ones, keeping the first edge.

    Args:
        points: (n, 4, 2).

    Returns:
        (n, 4, 2): the same corners; where the order was anticlockwise, the second one first.
    """
    quadrangles = np.array(points, dtype=np.float64).reshape(-1, 4, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        one, other = quadrangles[:, 2] - quadrangles[:, 0], quadrangles[:, 3] - quadrangles[:, 1]
        anticlockwise = one[:, 0] * other[:, 1] < one[:, 1] * other[:, 0]
    quadrangles[anticlockwise] = quadrangles[anticlockwise][:, [1, 0, 3, 2]]
    return quadrangles


def rectangle_deviation(points: npt.ArrayLike) -> _Floats:
    """Measure how far four corners are from the corners of a rotated box.

    Args:
        points: (n, 4, 2) in the order of `corners`.

    Returns:
        (n,) pixels: the largest distance in x or y between a corner and that of `boxes_from_corners`.
    """
    quadrangles = np.asarray(points, dtype=np.float64).reshape(-1, 4, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(corners(_fitted_boxes(quadrangles)) - quadrangles)
    result: _Floats = distance.max(axis=(1, 2), initial=0.0)
    return result


def reduce_angle(angles: npt.ArrayLike) -> _Floats:
    """Bring angles into [0, pi), where half a turn is no turn; one within `ANGLE_TOLERANCE` of pi is 0.

    Args:
        angles: radians, any shape.

    Returns:
        The same shape.
    """
    reduced = np.mod(np.asarray(angles, dtype=np.float64), pi)
    return np.where(reduced > pi - ANGLE_TOLERANCE, 0.0, reduced)


def mask_bounds(size: tuple[int, int], counts: Sequence[int] | str) -> tuple[int, int, int, int] | None:
    """Find the pixels that a mask covers, without drawing it.

    Args:
        size: (height, width) of the mask.
        counts: run lengths, or their compressed text.

    Returns:
        (x1, y1, x2, y2) of the first and the last covered column and row, both inclusive; None if nothing is covered.

    Raises:
        AnnotationError: `counts` are damaged.
    """
    return measure_mask(size, counts)[0]


def measure_mask(size: tuple[int, int], counts: Sequence[int] | str) -> tuple[tuple[int, int, int, int] | None, int]:
    """Find the pixels that a mask covers and count them; see `mask_bounds`.

    Returns:
        The bounds, and how many pixels are covered.
    """
    height, _ = size
    starts, stops = _foreground(size, counts)
    if not len(starts):
        return None, 0
    first_columns, last_columns = starts // height, (stops - 1) // height
    if np.any(first_columns < last_columns):
        top, bottom = 0, height - 1
    else:
        top, bottom = int((starts % height).min()), int(((stops - 1) % height).max())
    return (int(first_columns[0]), top, int(last_columns[-1]), bottom), int((stops - starts).sum())


def decode_run_length(
    size: tuple[int, int], counts: Sequence[int] | str, *, bounds: tuple[int, int, int, int] | None = None
) -> npt.NDArray[np.bool_]:
    """Draw a mask.

    Args:
        size: (height, width) of the mask.
        counts: run lengths, or their compressed text.
        bounds: draw only this part, (x1, y1, x2, y2), both inclusive.

    Returns:
        (height, width) of `size` or of `bounds`, True where the mask covers.

    Raises:
        AnnotationError: `counts` are damaged, or do not fill `size`.
    """
    height, width = size
    x1, y1, x2, y2 = bounds or (0, 0, width - 1, height - 1)
    starts, stops = _foreground(size, counts)
    # Marks where a run begins and ends, summed up, are 1 within the runs.
    marks = np.zeros((x2 - x1 + 1) * height + 1, dtype=np.int8)
    low, high = x1 * height, (x2 + 1) * height
    inside = (starts < high) & (stops > low)
    np.add.at(marks, np.clip(starts[inside], low, high) - low, 1)
    np.add.at(marks, np.clip(stops[inside], low, high) - low, -1)
    columns = np.cumsum(marks[:-1], dtype=np.int8).astype(np.bool_).reshape(x2 - x1 + 1, height)
    return np.ascontiguousarray(columns[:, y1 : y2 + 1].T)


def encode_run_length(mask: npt.ArrayLike) -> list[int]:
    """Return the run lengths of a mask.

    Args:
        mask: (height, width), true where covered.

    Returns:
        Lengths of runs down the columns, background first; their sum is height x width.
    """
    flat = np.asarray(mask, dtype=np.bool_).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]]) if flat.size else np.zeros(1, dtype=np.int64)
    counts: list[int] = np.diff(edges).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def decompress_counts(text: str) -> npt.NDArray[np.int64]:
    """Read COCO's compressed text of run lengths (``rleFrString`` of maskApi.c).

    Args:
        text: characters from ``0`` to ``o``.

    Returns:
        (n,) run lengths.

    Raises:
        AnnotationError: the text is damaged.
    """
    if not text:
        return np.zeros(0, dtype=np.int64)
    if not text.isascii():
        raise AnnotationError("it is no compressed run-length text")
    characters = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - _SIXBIT_OFFSET
    last = characters & _MORE_BIT == 0
    starts = np.concatenate([[0], np.flatnonzero(last[:-1]) + 1])
    lengths = np.diff(starts, append=len(characters))
    if (
        characters.min() < 0
        or characters.max() > _MORE_BIT + _VALUE_BITS
        or not last[-1]
        or lengths.max() > _LONGEST_NUMBER
    ):
        raise AnnotationError("it is no compressed run-length text")
    shifts = 5 * (np.arange(len(characters)) - np.repeat(starts, lengths))
    values = np.add.reduceat((characters & _VALUE_BITS) << shifts, starts)
    negative = characters[last] & _SIGN_BIT != 0
    values[negative] -= np.int64(1) << (5 * lengths[negative])
    # From the fourth on each is the difference to the one before the last.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.min() < 0:
        raise AnnotationError("its run lengths are negative")
    return values


def compress_counts(counts: Sequence[int]) -> str:
    """Write run lengths as COCO's compressed text (``rleToString`` of maskApi.c).

    Args:
        counts: run lengths below 2^32.

    Returns:
        What `decompress_counts` reads.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    values = lengths.copy()
    # From the fourth on each is the difference to the one before the last.
    values[3:] -= lengths[1:-2]
    widths = np.ones(len(values), dtype=np.int64)
    for width in range(1, _LONGEST_NUMBER):
        limit = 1 << (5 * width - 1)
        widths += (values >= limit) | (values < -limit)
    starts = np.cumsum(widths) - widths
    places = np.arange(int(widths.sum())) - np.repeat(starts, widths)
    bits = np.repeat(values, widths) >> (5 * places) & _VALUE_BITS
    bits[places < np.repeat(widths, widths) - 1] |= _MORE_BIT
    return (bits + _SIXBIT_OFFSET).astype(np.uint8).tobytes().decode("ascii")


def check_run_length(size: tuple[int, int], counts: Sequence[int] | str) -> None:
    """Raise `AnnotationError` if run lengths are damaged or do not fill (height, width)."""
    _foreground(size, counts)


def _foreground(
    size: tuple[int, int], counts: Sequence[int] | str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the covered runs start and stop in the column by column order; runs of length 0 are left out."""
    lengths = decompress_counts(counts) if isinstance(counts, str) else np.asarray(counts, dtype=np.int64)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    if total != size[0] * size[1]:
        raise AnnotationError(f"its run lengths add up to {total}, not to {size[0]} x {size[1]}")
    stops = ends[1::2]
    starts = stops - lengths[1::2]
    filled = stops > starts
    return starts[filled], stops[filled]


def _fitted_boxes(quadrangles: _Floats) -> _Floats:
    """As `boxes_from_corners`, with angles of a whole turn, so that the first corner stays the first."""
    result = np.empty((len(quadrangles), 5))
    with np.errstate(over="ignore", invalid="ignore"):
        result[:, :2] = quadrangles.mean(axis=1)
        complex_points = quadrangles[..., 0] + 1j * quadrangles[..., 1]
        first, second, third, fourth = complex_points.T
        # Twice the mean of the sides that go along the box, and of the others, turned back by a quarter.
        along, across = second - first + third - fourth, -1j * (third - second + fourth - first)
        # The sum of squares is least where the sides' lengths along a direction have the largest sum of squares.
        half = np.angle(along**2 + across**2) / 2
        backwards = np.real((along + across) * np.exp(-1j * half)) < 0
        result[:, 4] = np.where(backwards, np.where(half > 0, half - pi, half + pi), half)
        back = np.exp(-1j * result[:, 4])
        result[:, 2], result[:, 3] = np.real(along * back) / 2, np.real(across * back) / 2
    return result
