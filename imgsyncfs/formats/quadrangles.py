"""Objects as outlines of four corners: DOTA's rows and YOLO's oriented boxes.

Bounding boxes, rotated boxes and polygons of four points are such outlines. By themselves, four corners of a rectangle
are a rotated box, others a polygon; beside an annotation that has bounding boxes alone, an upright one is such a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import hypot, isfinite

from imgsyncfs.annotations.geometry import (
    boxes_from_corners,
    clockwise_corners,
    rectangle_deviation,
    shown_corners,
)
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, LabelledObject, Polygon, RotatedBox
from imgsyncfs.formats.originals import (
    SHOWN_TOLERANCE,
    placed_objects,
    restored_bounding_box,
    restored_rotated_box,
)
from imgsyncfs.formats.rows import Points, Row

RECTANGLE_TOLERANCE_PIXELS = 1.0
RECTANGLE_TOLERANCE_OF_DIAGONAL = 0.01
"""Four corners this close to a rectangle's are one: many tools round them to whole pixels."""


def render_quadrangles(objects: Sequence[LabelledObject]) -> list[Points | None]:
    """Return the four corners of these objects, clockwise from the top left of a box; None for one that has none."""
    rotated = [(item.x, item.y, item.w, item.h, item.a) for item in objects if isinstance(item, RotatedBox)]
    turned = iter(shown_corners(rotated).tolist() if rotated else ())
    return [_quadrangle(item, next(turned) if isinstance(item, RotatedBox) else ()) for item in objects]


def read_quadrangles(rows: Sequence[Row], before: Annotation | None = None) -> list[LabelledObject]:
    """Return the geometry that rows of four corners show by themselves.

    Args:
        rows: those of a file.
        before: the annotation that the file was rendered from; None if it is not known.
    """
    if not rows:
        return []
    placed = placed_objects(before) if before is not None else []
    prefer_upright = bool(placed) and all(each.label_type == "bbox" for each in placed)
    quadrangles = clockwise_corners([row.points for row in rows])
    deviations = rectangle_deviation(quadrangles).tolist()
    items: list[LabelledObject] = []
    for row, box, deviation in zip(rows, boxes_from_corners(quadrangles).tolist(), deviations, strict=True):
        edges = upright_edges(row.points) if prefer_upright else None
        x, y, w, h, a = box
        tolerance = max(RECTANGLE_TOLERANCE_PIXELS, RECTANGLE_TOLERANCE_OF_DIAGONAL * hypot(w, h))
        if edges is not None:
            items.append(BoundingBox("", *edges))
        elif all(map(isfinite, box)) and deviation <= tolerance:
            items.append(RotatedBox("", x, y, w, h, a))
        else:
            items.append(Polygon("", row.points))
    return items


def moved_quadrangle(row: Row, item: LabelledObject, source: LabelledObject, rendered: Row) -> LabelledObject:
    """The object of a row of four corners in its new place: of the kind that it was, if the corners allow it.

    Args:
        row: the row.
        item: what `read_quadrangles` gave for it.
        source: the original.
        rendered: the row that this was rendered as.
    """
    if isinstance(source, Polygon):
        return replace(source, points=row.points)
    edges = upright_edges(row.points)
    if isinstance(source, BoundingBox) and edges is not None:
        return restored_bounding_box(edges, source, upright_edges(rendered.points) or edges)
    if not isinstance(source, RotatedBox) or not isinstance(item, RotatedBox):
        return item
    was = boxes_from_corners(clockwise_corners([rendered.points]))[0].tolist()
    same_angle = abs(item.a - was[4]) * max(item.w, item.h) <= SHOWN_TOLERANCE
    return restored_rotated_box((item.x, item.y, item.w, item.h, item.a), source, was, same_angle=same_angle)


def upright_edges(points: Points) -> tuple[float, float, float, float] | None:
    """The (left, top, right, bottom) of an outline whose corners are an upright box's; else None."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    places = {(left, top), (right, top), (right, bottom), (left, bottom)}
    return (left, top, right, bottom) if {*points} == places else None


def _quadrangle(item: LabelledObject, turned: Sequence[Sequence[float]]) -> Points | None:
    if isinstance(item, BoundingBox):
        left, top = min(item.x1, item.x2), min(item.y1, item.y2)
        right, bottom = max(item.x1, item.x2), max(item.y1, item.y2)
        return (left, top), (right, top), (right, bottom), (left, bottom)
    if isinstance(item, RotatedBox):
        places = tuple([(x, y) for x, y in turned])
        return places if all(isfinite(number) for place in places for number in place) else None
    if isinstance(item, Polygon):
        points = item.points[:-1] if len(item.points) == 5 and item.points[0] == item.points[-1] else item.points
        return points if len(points) == 4 else None
    return None
