"""Draw outlines and masks into an RGB picture: light lines with a dark rim, whatever their coordinates.

Coordinates are pixels, x to the right and y down; (0, 0) is the top left corner of the top left pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from imgsyncfs.annotations.class_colours import Colour, class_colour
from imgsyncfs.annotations.geometry import corners, decode_run_length, mask_bounds
from imgsyncfs.annotations.house_format import LabelledObject, Mask, Polygon, RotatedBox

DARK: Colour = (16, 16, 16)
"""The rim around lines, and the text on plates."""

Points = npt.NDArray[np.float64]
_Pixels = npt.NDArray[np.bool_]

_SIDE_PER_LINE_WIDTH = 280
"""A line is this part of the side of a square with as many pixels: 2.3 pixels in 640 x 640, 10 in 2880 x 2880."""

_FARTHEST = 1e9
"""Larger coordinates are clipped to this: far outside of any picture, and the arithmetic stays exact."""

_MASK_OPACITY = 0.4

_CIRCLE_POINTS = 65

_SMOOTHED_PIXELS = ((1 << 20, 4), (1 << 22, 2))
"""(most pixels of a picture, factor): lines are drawn larger by the factor and then reduced, which smooths them. In
larger pictures steps of a pixel are too fine to be seen, and smoothing would take gigabytes of memory."""


@dataclass(frozen=True)
class Strokes:
    """Lines of widths that fit a picture, in pixels.

    Attributes:
        line: of the light line.
        rim: of the dark rim on each of its sides.
    """

    line: float
    rim: float

    @property
    def reach(self) -> float:
        """How far a line's paint reaches to each side."""
        return self.line / 2 + self.rim


@dataclass(frozen=True)
class Outline:
    """One object's lines.

    Attributes:
        points: (n, 2) around the object; lines of a heading are not among them.
        paths: (k, 2) each, lines to draw.
        colour: of the lines.
    """

    points: Points
    paths: tuple[Points, ...]
    colour: Colour


@dataclass(frozen=True)
class _ClippedOutline:
    """What can be seen of an outline.

    Attributes:
        segments: (n, 2, 2) of each path.
        colour: of the lines.
        box: (left, top, right, bottom) in whole pixels around all paint.
    """

    segments: tuple[npt.NDArray[np.float64], ...]
    colour: Colour
    box: tuple[int, int, int, int]


def strokes_for(size: tuple[int, int]) -> Strokes:
    """Give the line widths for a picture of (width, height) pixels."""
    line = max(2.0, sqrt(size[0] * size[1]) / _SIDE_PER_LINE_WIDTH)
    return Strokes(line=line, rim=max(0.9, 0.4 * line))


def outline_of(item: LabelledObject, strokes: Strokes) -> Outline:
    """Say which lines show an object.

    A rotated box has an arrow to the middle of its right side (top right to bottom right), the side to which the angle
    `a` points, along `w`. It tells `w` from `h`, and the axis of what is in the box. As the formats reduce angles to
    half a turn, no format says at which end of this axis a head is.

    Args:
        item: any object; its numbers may be absurd.
        strokes: line widths; the arrow's size follows them.

    Returns:
        The lines. A mask has none, its points are the corners of what it covers; no points if it covers nothing.
    """
    colour = class_colour(item.class_name)
    if isinstance(item, Mask):
        bounds = mask_bounds(item.size, item.counts)
        if bounds is None:
            return Outline(np.zeros((0, 2)), (), colour)
        x1, y1, x2, y2 = bounds
        return Outline(_rectangle(x1, y1, x2 + 1, y2 + 1), (), colour)
    if isinstance(item, Polygon):
        points = np.array(item.points, dtype=np.float64).reshape(-1, 2)
        return Outline(points, (_closed(points),) if len(points) else (), colour)
    if isinstance(item, RotatedBox):
        points = corners([[item.x, item.y, item.w, item.h, item.a]])[0]
        return Outline(points, (_closed(points), *_heading(points, strokes)), colour)
    points = _rectangle(item.x1, item.y1, item.x2, item.y2)
    return Outline(points, (_closed(points),), colour)


def outline_of_shape(shape: Mapping[str, Any], strokes: Strokes) -> Outline | None:
    """Say which lines show a shape of labelme's for which the house format has no object.

    A point is a ring, a circle goes through its second point around its first, a line and a linestrip are open; a shape
    of an unknown type is closed.

    Args:
        shape: as labelme has it, perhaps written by hand.
        strokes: line widths; the rings of points follow them.

    Returns:
        The lines; None if the shape has no points that can be drawn.
    """
    name, shape_type = shape.get("label"), shape.get("shape_type")
    try:
        points = np.array(shape.get("points"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        return None
    colour = class_colour(name if isinstance(name, str) else "")
    if shape_type in ("point", "points") or len(points) == 1:
        rings = tuple([_circle(point, 2 * strokes.line) for point in points])
        return Outline(np.concatenate(rings), rings, colour)
    if shape_type == "circle":
        ring = _circle(points[0], float(np.hypot(*np.clip(points[1] - points[0], -_FARTHEST, _FARTHEST))))
        return Outline(ring, (ring,), colour)
    is_open = shape_type in ("line", "linestrip")
    return Outline(points, (points if is_open else _closed(points),), colour)


def draw_outlines(picture: Image.Image, outlines: Sequence[Outline], strokes: Strokes) -> None:
    """Draw outlines into an RGB picture, the last one on top; what lies outside or is not finite is left out."""
    pixels = picture.width * picture.height
    scale = next((times for limit, times in _SMOOTHED_PIXELS if pixels <= limit), 1)
    clipped = [each for outline in outlines if (each := _clip(outline, picture.size, strokes)) is not None]
    if scale == 1:
        _paint(ImageDraw.Draw(picture), clipped, strokes, (0, 0), 1)
        return
    # A canvas for each outline is mostly a small one; many large ones are quicker on one canvas.
    alone = sum(_area(each.box) for each in clipped) <= pixels
    for group in [[each] for each in clipped] if alone else [clipped]:
        _draw_smoothed(picture, group, strokes, scale)


def _clip(outline: Outline, size: tuple[int, int], strokes: Strokes) -> _ClippedOutline | None:
    """What can be seen of an outline in a picture of (width, height) pixels; None if nothing can."""
    reach = np.array([strokes.reach, strokes.reach])
    high = np.array(size, dtype=np.float64)
    segments = tuple([_clipped(path, -reach, high + reach) for path in outline.paths])
    points = np.concatenate([np.zeros((0, 2)), *(each.reshape(-1, 2) for each in segments)])
    if not len(points):
        return None
    # A pixel more, for lines are drawn to whole pixels of the canvas.
    left, top = np.clip(np.floor(points.min(axis=0) - reach - 1), 0, high).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(axis=0) + reach + 1), 0, high).astype(int).tolist()
    return _ClippedOutline(segments, outline.colour, (left, top, right, bottom))


def _area(box: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def _draw_smoothed(picture: Image.Image, group: Sequence[_ClippedOutline], strokes: Strokes, scale: int) -> None:
    """Draw outlines on a canvas that is larger by a factor, and lay that over the picture."""
    left, top = min(each.box[0] for each in group), min(each.box[1] for each in group)
    width, height = max(each.box[2] for each in group) - left, max(each.box[3] for each in group) - top
    if width <= 0 or height <= 0:
        return
    # Four bands that are reduced each by itself. Paint is opaque and all else is 0, which is colours multiplied by
    # their opacity already: as RGBA, Pillow would do that for the whole canvas, in a third of the time of all.
    canvas = Image.new("CMYK", (width * scale, height * scale))
    _paint(ImageDraw.Draw(canvas), group, strokes, (left, top), scale)
    reduced = canvas.reduce(scale)
    overlay = Image.frombytes("RGBa", reduced.size, reduced.tobytes()).convert("RGBA")
    picture.paste(overlay, (left, top), overlay)


def _paint(
    pen: ImageDraw.ImageDraw,
    group: Sequence[_ClippedOutline],
    strokes: Strokes,
    corner: tuple[int, int],
    scale: int,
) -> None:
    """Draw outlines with a pen whose canvas begins at a corner and is larger by a factor."""
    opaque = () if scale == 1 else (255,)
    for each in group:
        segments = [(part - np.array(corner)) * scale - 0.5 for part in each.segments]
        for colour, width in ((DARK, 2 * strokes.reach), (each.colour, strokes.line)):
            for part in segments:
                _draw_segments(pen, part, (*colour, *opaque), width * scale)


def draw_mask(picture: Image.Image, mask: Mask, strokes: Strokes) -> None:
    """Lay a mask over an RGB picture: translucent, with a line along the inside of its border."""
    bounds = mask_bounds(mask.size, mask.counts)
    if bounds is None or bounds[0] >= picture.width or bounds[1] >= picture.height:
        return
    x1, y1, x2, y2 = bounds[0], bounds[1], min(bounds[2], picture.width - 1), min(bounds[3], picture.height - 1)
    covered = decode_run_length(mask.size, mask.counts, bounds=(x1, y1, x2, y2))
    rim, line = max(1, round(strokes.rim)), max(1, round(strokes.line))
    inside_rim = _eroded(covered, rim)
    inside_line = _eroded(inside_rim, line)
    colour = class_colour(mask.class_name)
    for paint, pixels, opacity in (
        (DARK, covered & ~inside_rim, 1.0),
        (colour, inside_rim & ~inside_line, 1.0),
        (colour, inside_line, _MASK_OPACITY),
    ):
        stencil = Image.fromarray(pixels.astype(np.uint8) * np.uint8(round(255 * opacity)))
        picture.paste(paint, (x1, y1), stencil)


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> Points:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], dtype=np.float64)


def _circle(centre: Points, radius: float) -> Points:
    turns = np.linspace(0, 2 * pi, _CIRCLE_POINTS)
    return centre + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _closed(points: Points) -> Points:
    return np.concatenate([points, points[:1]])


def _heading(box_corners: Points, strokes: Strokes) -> tuple[Points, ...]:
    """The arrow to the middle of a rotated box's right side; it leaves the centre free, where the object is."""
    with np.errstate(over="ignore", invalid="ignore"):
        top_left, top_right, bottom_right, _ = box_corners
        centre, tip = top_left / 2 + bottom_right / 2, top_right / 2 + bottom_right / 2
        along, down = tip - centre, bottom_right - tip
        half_width, half_height = np.hypot(*along), np.hypot(*down)
        if not (np.isfinite(half_width + half_height) and half_width > 0 and half_height > 0):
            return ()
        length = min(5 * strokes.line, 0.6 * half_width, 0.6 * half_height)
        back, aside = along * (length / half_width), down * (length / half_height)
        return np.array([centre + along / 3, tip]), np.array([tip - back - aside, tip, tip - back + aside])


def _clipped(path: Points, low: Points, high: Points) -> npt.NDArray[np.float64]:
    """The parts of a path's segments within a rectangle, as (n, 2, 2); Liang and Barsky's method."""
    bounded = np.clip(path, -_FARTHEST, _FARTHEST)
    starts, ends = (bounded, bounded) if len(path) == 1 else (bounded[:-1], bounded[1:])
    steps = ends - starts
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # infinite: this side is never reached
        to_low, to_high = (low - starts) / steps, (high - starts) / steps
    within = (starts >= low) & (starts <= high)
    still = steps == 0
    enter = np.where(still, np.where(within, 0.0, np.inf), np.minimum(to_low, to_high)).max(axis=1, initial=0.0)
    leave = np.where(still, np.inf, np.maximum(to_low, to_high)).min(axis=1, initial=1.0)
    shown = enter <= leave  # False for NaN as well
    starts, steps, enter, leave = starts[shown], steps[shown], enter[shown, None], leave[shown, None]
    return np.stack([starts + steps * enter, starts + steps * leave], axis=1)


def _draw_segments(
    pen: ImageDraw.ImageDraw, segments: npt.NDArray[np.float64], colour: tuple[int, ...], width: float
) -> None:
    for (x1, y1), (x2, y2) in segments.tolist():
        pen.line([(x1, y1), (x2, y2)], fill=colour, width=max(1, round(width)))
    radius = width / 2
    if round(width) < 2:
        return
    # Round ends, so that the lines of a corner meet.
    for x, y in dict.fromkeys(map(tuple, segments.reshape(-1, 2).tolist())):
        pen.ellipse([x - radius + 0.5, y - radius + 0.5, x + radius - 0.5, y + radius - 0.5], fill=colour)


def _eroded(mask: _Pixels, distance: int) -> _Pixels:
    """The pixels of a mask around which a square of `distance` pixels to each side is covered."""
    result = np.pad(mask, distance)
    for axis in (0, 1):
        # A run of 2 x distance + 1 pixels is covered if two overlapping shorter runs are: doubling takes few steps.
        run, wanted = 1, 2 * distance + 1
        while run < wanted:
            step = min(run, wanted - run)
            one, other = (slice(None, -step), slice(step, None))
            result = result[one] & result[other] if axis == 0 else result[:, one] & result[:, other]
            run += step
    return result
