"""The outlines of objects, and the upright boxes around them, for formats that have no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from imgsyncfs.annotations.geometry import corners, mask_bounds
from imgsyncfs.annotations.house_format import BoundingBox, LabelledObject, Mask, Polygon, RotatedBox

Points: TypeAlias = Sequence[Sequence[float]]


class Box(NamedTuple):
    """An upright box: its top left, and its size; in pixels, not below 0."""

    x: float
    y: float
    w: float
    h: float


NOTHING = Box(0, 0, 0, 0)


def outlines(items: Sequence[LabelledObject]) -> list[Points]:
    """The points of objects: the corners of rotated boxes, all of them worked out at once, and two of upright ones.

    Args:
        items: the objects of an image.

    Returns:
        The points of each; those of a mask are none. Infinite or NaN where numbers overflow.
    """
    turned = [(item.x, item.y, item.w, item.h, item.a) for item in items if isinstance(item, RotatedBox)]
    found = iter(corners(turned).tolist() if turned else ())
    return [next(found) if isinstance(item, RotatedBox) else _points(item) for item in items]


def enclosing_box(item: LabelledObject, outline: Points) -> Box:
    """The smallest upright box around an object; `NOTHING` if there is nothing of it.

    Args:
        item: the object.
        outline: what `outlines` gave for it.

    Returns:
        The box; infinite or NaN where numbers overflow.
    """
    if isinstance(item, Mask):
        bounds = mask_bounds(item.size, item.counts)
        return NOTHING if bounds is None else mask_box(bounds)
    if not outline:
        return NOTHING
    xs, ys = [float(x) for x, _ in outline], [float(y) for _, y in outline]
    left, top = min(xs), min(ys)
    return Box(left, top, max(xs) - left, max(ys) - top)


def mask_box(bounds: tuple[int, int, int, int]) -> Box:
    """The box of the first and the last covered column and row."""
    x1, y1, x2, y2 = bounds
    return Box(x1, y1, x2 - x1 + 1, y2 - y1 + 1)


def polygon_area(points: Points) -> float:
    """The area within an outline; parts that it goes round in opposite directions count against each other.

    Args:
        points: of the outline, in pixels; at least one.

    Returns:
        Square pixels; infinite or NaN where numbers overflow.
    """
    # Relative to the first point, so that large coordinates cost no digits.
    x0, y0 = map(float, points[0])
    twice = 0.0
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        twice += (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return abs(twice) / 2


def _points(item: LabelledObject) -> Points:
    if isinstance(item, BoundingBox):
        return (item.x1, item.y1), (item.x2, item.y2)
    return item.points if isinstance(item, Polygon) else ()
