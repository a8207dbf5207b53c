"""Objects as outlines of four corners, for formats whose rows have nothing else and no place to embed anything.

Bounding boxes, rotated boxes and polygons of four points are such outlines. Read alone, four corners of a rectangle are
a rotated box, others a polygon. Read beside the annotation that a file was rendered from, an outline where one was
rendered is that object, and one that was moved, turned or resized keeps the object's kind and keys. A new upright one
is a bounding box where all objects are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import hypot, isfinite
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgsyncfs.annotations.geometry import (
    boxes_from_corners,
    clockwise_corners,
    rectangle_deviation,
    shown_corners,
)
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, LabelledObject, Polygon, RotatedBox
from imgsyncfs.formats.originals import (
    SHOWN_TOLERANCE,
    ImageSize,
    Outline,
    PlacedObject,
    RestoredObject,
    embedded_remainder,
    match_moved,
    match_outlines,
    placed_objects,
    read_remainder,
    reassemble,
    restored_bounding_box,
    restored_object,
    restored_rotated_box,
)

Corners = tuple[tuple[float, float], ...]

RECTANGLE_TOLERANCE_PIXELS = 1.0
RECTANGLE_TOLERANCE_OF_DIAGONAL = 0.01
"""Four corners this close to a rectangle's are one: many tools round them to whole pixels."""


class QuadrangleRow(NamedTuple):
    """One row of a file: an outline, in pixels, and what is said of it."""

    corners: Corners
    name: str
    is_difficult: bool = False


def render_quadrangles(objects: Sequence[LabelledObject]) -> list[Corners | None]:
    """Return the four corners of these objects, clockwise from the top left of a box; None for one that has none."""
    rotated = [(item.x, item.y, item.w, item.h, item.a) for item in objects if isinstance(item, RotatedBox)]
    turned = iter(shown_corners(rotated).tolist() if rotated else ())
    return [_quadrangle(item, next(turned) if isinstance(item, RotatedBox) else ()) for item in objects]


def is_difficult(item: LabelledObject) -> bool:
    """Whether an object says that it is difficult, as roLabelImg's objects do."""
    return item.extra.get("difficult") in (1, True, "1")


def read_rows(rows: Sequence[QuadrangleRow]) -> list[RestoredObject]:
    """Read rows of a file of which nothing else is known."""
    shapes = _fitted(rows)
    return [_new_object(row, box, prefer_upright=False) for row, box in zip(rows, shapes, strict=True)]


def read_rows_beside(
    rows: Sequence[QuadrangleRow], before: Annotation, names: Sequence[str | None], *, label_checked: int
) -> Annotation:
    """Read rows in the light of the annotation that their file was rendered from.

    Args:
        rows: those of the file.
        before: the annotation.
        names: for each of its objects, what its row is called; None for one that has no row.
        label_checked: the value if anything was edited.

    Returns:
        The annotation with the edits, what the file does not show included.
    """
    placed = placed_objects(before)
    quadrangles = render_quadrangles([each.item for each in placed])
    rendered = [
        (each, QuadrangleRow(corners, name, is_difficult(each.item)))
        for each, corners, name in zip(placed, quadrangles, names, strict=True)
        if corners is not None and name is not None
    ]
    hidden = [each for each, name in zip(placed, names, strict=True) if name is None]
    found, known = [*map(_outline, rows)], [_outline(row) for _, row in rendered]
    matches = match_outlines(found, known)
    moved = [index for index in range(len(rows)) if index not in matches]
    left = sorted(set(range(len(known))).difference(matches.values()))
    again = match_moved([found[index] for index in moved], [known[origin] for origin in left])
    origins = {**matches, **{moved[index]: left[origin] for index, origin in again.items()}}
    boxes = _fitted(rows)
    prefer_upright = bool(placed) and all(each.label_type == "bbox" for each in placed)
    objects = [
        _restored(row, boxes[index], *rendered[origins[index]], is_moved=index not in matches)
        if index in origins
        else _new_object(row, boxes[index], prefer_upright=prefer_upright)
        for index, row in enumerate(rows)
    ]
    remainder = read_remainder(embedded_remainder(before, hidden, ImageSize()))
    return reassemble(remainder, objects, size=ImageSize(), label_checked=label_checked)


def _quadrangle(item: LabelledObject, turned: Sequence[Sequence[float]]) -> Corners | None:
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


def _fitted(rows: Sequence[QuadrangleRow]) -> list[tuple[float, ...] | None]:
    """The rotated boxes that have these corners; None where they are no rectangle's."""
    if not rows:
        return []
    quadrangles: npt.NDArray[np.float64] = clockwise_corners([row.corners for row in rows])
    deviations = rectangle_deviation(quadrangles).tolist()
    return [
        tuple(box) if all(map(isfinite, box)) and deviation <= _tolerance(box) else None
        for box, deviation in zip(boxes_from_corners(quadrangles).tolist(), deviations, strict=True)
    ]


def _tolerance(box: Sequence[float]) -> float:
    return max(RECTANGLE_TOLERANCE_PIXELS, RECTANGLE_TOLERANCE_OF_DIAGONAL * hypot(box[2], box[3]))


def _outline(row: QuadrangleRow) -> Outline:
    numbers = tuple([number for place in row.corners for number in place])
    xs, ys = numbers[::2], numbers[1::2]
    (x0, y0), (x1, y1), (x2, y2), _ = row.corners
    sides = (hypot(x1 - x0, y1 - y0), hypot(x2 - x1, y2 - y1))
    return Outline("", row.name, numbers, (sum(x / 4 for x in xs), sum(y / 4 for y in ys), *sides))


def _upright_edges(row: QuadrangleRow) -> tuple[float, float, float, float] | None:
    """The (left, top, right, bottom) of an outline whose corners are an upright box's; else None."""
    xs, ys = [x for x, _ in row.corners], [y for _, y in row.corners]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    places = {(left, top), (right, top), (right, bottom), (left, bottom)}
    return (left, top, right, bottom) if {*row.corners} == places else None


def _new_object(row: QuadrangleRow, box: tuple[float, ...] | None, *, prefer_upright: bool) -> RestoredObject:
    edges = _upright_edges(row) if prefer_upright else None
    item: LabelledObject = Polygon("", row.corners)
    if edges is not None:
        item = BoundingBox("", *edges)
    elif box is not None:
        item = RotatedBox("", *box)  # type: ignore[arg-type]  # five of them
    extra = {"difficult": 1} if row.is_difficult else {}
    return restored_object(None, item, class_name=row.name, extra=extra)


def _restored(
    row: QuadrangleRow,
    box: tuple[float, ...] | None,
    original: PlacedObject,
    rendered: QuadrangleRow,
    *,
    is_moved: bool,
) -> RestoredObject:
    source = original.item
    item = _moved(row, box, source, rendered) if is_moved else source
    class_name = source.class_name if row.name == rendered.name else row.name
    extra = source.extra
    if row.is_difficult != rendered.is_difficult:
        extra = {**extra, "difficult": int(row.is_difficult)}
    return restored_object(original, item, class_name=class_name, extra=extra)


def _moved(
    row: QuadrangleRow, box: tuple[float, ...] | None, source: LabelledObject, rendered: QuadrangleRow
) -> LabelledObject:
    """The object in its new place: of the kind that it was, if its corners are still such an object's."""
    edges = _upright_edges(row)
    if isinstance(source, BoundingBox) and edges is not None:
        return restored_bounding_box(edges, source, _upright_edges(rendered) or edges)
    if isinstance(source, Polygon) or box is None:
        return replace(source, points=row.corners) if isinstance(source, Polygon) else Polygon("", row.corners)
    if not isinstance(source, RotatedBox):
        return RotatedBox("", *box)  # type: ignore[arg-type]  # five of them
    was = boxes_from_corners(clockwise_corners([rendered.corners]))[0].tolist()
    same_angle = abs(box[4] - was[4]) * max(box[2], box[3]) <= SHOWN_TOLERANCE
    return restored_rotated_box(box, source, was, same_angle=same_angle)
