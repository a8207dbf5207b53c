"""Single shapes of labelme's as objects, the exact original where a shape was left as it was rendered.

What labelme itself changes when it saves is not an edit: integers become floats, a rectangle dragged by a corner may
start at any corner, its older versions drop a later point that equals the first, masks are packed anew, and flags
that its configuration lists are added as false. Source: the writers of labelme 4.0 to 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, isfinite
from typing import Any

import numpy as np

from imgsyncfs.annotations.geometry import boxes_from_corners, clockwise_corners, encode_run_length, rectangle_deviation
from imgsyncfs.annotations.house_format import (
    LARGEST_MASK_PIXELS,
    BoundingBox,
    LabelledObject,
    Mask,
    Polygon,
    RotatedBox,
    without_known_keys,
)
from imgsyncfs.annotations.labels import OBJECT_LABEL_TYPES
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.labelme_shapes import EXTRA_NAME, own_keys
from imgsyncfs.formats.mask_image import decode_mask_image
from imgsyncfs.formats.originals import (
    SHOWN_TOLERANCE,
    PlacedObject,
    RestoredObject,
    is_near,
    restored_bounding_box,
)

RECTANGLE_TOLERANCE_PIXELS = 1.0
RECTANGLE_TOLERANCE_OF_DIAGONAL = 0.01
"""Four corners this close to a rectangle's are one: nobody places a corner more exactly by hand."""

Point = tuple[float, float]


@dataclass(frozen=True)
class ReadShape:
    """One entry of ``shapes``.

    Attributes:
        content: the entry, with a checked ``label`` and ``shape_type``.
        points: its points, checked, one or more.
        original: what it carries, None for a shape that was not rendered.
        rendered: the shape that shows the original; None if there is none.
    """

    content: Mapping[str, Any]
    points: tuple[Point, ...]
    original: PlacedObject | None
    rendered: Mapping[str, Any] | None

    @property
    def source(self) -> LabelledObject | None:
        """The original object, if it is known how it was shown."""
        return self.original.item if self.original is not None and self.rendered is not None else None

    @property
    def rendered_points(self) -> Sequence[Point]:
        """The points that the original was shown with."""
        return self.rendered["points"] if self.rendered is not None else ()


def restore_object(
    shape: ReadShape, *, image_size: tuple[int | None, int | None], prefer_rotated_boxes: bool
) -> RestoredObject | None:
    """Read one shape.

    A ``rectangle`` is a bounding box, an ``oriented_rectangle`` (labelme 6.2) a rotated box, a ``mask`` a mask. A
    ``polygon`` is what it was rendered from. One that was rendered from a rotated box and edited stays a rotated box
    if its corners are four and lie within 1 pixel, or 1 % of its diagonal, of a rectangle's; else it becomes a
    polygon. A new polygon is a polygon or, in an annotation that holds nothing but rotated boxes, a rotated box by
    the same rule.

    Args:
        shape: what was read.
        image_size: (height, width), None where unknown; new masks get it.
        prefer_rotated_boxes: whether the annotation holds nothing but rotated boxes.

    Returns:
        The object; None for a shape that the house format has no object for (circle, line, linestrip, point, points).

    Raises:
        AnnotationError: its mask is damaged.
    """
    item = _geometry(shape, image_size, prefer_rotated_boxes)
    if item is None:
        return None
    label_type = OBJECT_LABEL_TYPES[type(item)]
    original, source = shape.original, shape.source
    class_name, extra = shape.content["label"], _restored_extra(shape)
    if original is not None and original.label_type != label_type:
        extra = without_known_keys(extra, label_type)
    if source is not None and shape.rendered is not None and class_name == shape.rendered["label"]:
        class_name = source.class_name
    # The readers of geometry give back the source itself where nothing was moved.
    if item is source and class_name == source.class_name and extra is source.extra:
        return RestoredObject(original, item, untouched=True)
    return RestoredObject(original, replace(item, class_name=class_name, extra=extra), untouched=False)


def _geometry(
    shape: ReadShape, image_size: tuple[int | None, int | None], prefer_rotated_boxes: bool
) -> LabelledObject | None:
    """The object, whose class and extra keys the caller sets."""
    shape_type = shape.content["shape_type"]
    if shape_type == "rectangle":
        return _bounding_box(shape)
    if shape_type == "oriented_rectangle":
        return _rotated_box(shape)
    if shape_type == "mask":
        return _mask(shape, image_size)
    if shape_type == "polygon":
        if isinstance(shape.source, RotatedBox) or (shape.source is None and prefer_rotated_boxes):
            return _rotated_box(shape) or _polygon(shape)
        return _polygon(shape)
    return None


def _restored_extra(shape: ReadShape) -> Mapping[str, Any]:
    shown = own_keys(shape.content)
    before: Mapping[str, Any] = shape.original.item.extra if shape.original is not None else {}
    if shape.original is not None and shape.rendered is not None and shown == own_keys(shape.rendered):
        return before
    others = {key: value for key, value in before.items() if key != EXTRA_NAME}
    return {**others, EXTRA_NAME: shown} if shown else others


def _bounding_box(shape: ReadShape) -> BoundingBox | None:
    """A rectangle by two opposite corners, by all four, or by one where both are the same; None for anything else."""
    points = shape.points
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    upright = all(x in (low_x, high_x) and y in (low_y, high_y) for x, y in points)
    if len(points) not in (1, 2, 4) or not upright:
        return None
    rendered = [number for point in shape.rendered_points for number in point]
    return restored_bounding_box((low_x, low_y, high_x, high_y), shape.source, rendered)


def _rotated_box(shape: ReadShape) -> RotatedBox | None:
    """Four corners close to a rectangle's; None for anything else."""
    source = shape.source
    if isinstance(source, RotatedBox) and _same_outline(shape.points, shape.rendered_points):
        return source
    if len(shape.points) != 4:
        return None
    quadrangle = clockwise_corners([shape.points])
    x, y, w, h, a = boxes_from_corners(quadrangle)[0].tolist()
    tolerance = max(RECTANGLE_TOLERANCE_PIXELS, RECTANGLE_TOLERANCE_OF_DIAGONAL * hypot(w, h))
    if not (all(map(isfinite, (x, y, w, h, a))) and rectangle_deviation(quadrangle)[0] <= tolerance):
        return None
    if not isinstance(source, RotatedBox):
        return RotatedBox("", x, y, w, h, a)
    # A box that was moved keeps its exact size and angle, one that was turned its exact size.
    before = boxes_from_corners(clockwise_corners([shape.rendered_points]))[0].tolist()
    return replace(
        source,
        x=source.x if is_near(x, before[0]) else x,
        y=source.y if is_near(y, before[1]) else y,
        w=source.w if is_near(w, before[2]) else w,
        h=source.h if is_near(h, before[3]) else h,
        a=source.a if abs(a - before[4]) * max(w, h) <= SHOWN_TOLERANCE else a,
    )


def _polygon(shape: ReadShape) -> Polygon:
    source = shape.source
    if not isinstance(source, Polygon):
        return Polygon("", shape.points)
    if _same_outline(shape.points, source.points):
        return source
    # labelme writes 12 as 12.0; a point that was not moved keeps the number that the original has.
    exact = {point: point for point in source.points}
    return replace(source, points=tuple([exact.get(point, point) for point in shape.points]))


def _same_outline(shown: Sequence[Point], rendered: Sequence[Point]) -> bool:
    if len(shown) == len(rendered) and _all_near(shown, rendered):
        return True
    return _all_near(_without_repeated_first(shown), _without_repeated_first(rendered))


def _all_near(shown: Sequence[Point], rendered: Sequence[Point]) -> bool:
    return len(shown) == len(rendered) and all(
        is_near(x, rendered_x) and is_near(y, rendered_y)
        for (x, y), (rendered_x, rendered_y) in zip(shown, rendered, strict=True)
    )


def _without_repeated_first(points: Sequence[Point]) -> list[Point]:
    (first_x, first_y), *others = points
    return [points[0], *(point for point in others if not (is_near(point[0], first_x) and is_near(point[1], first_y)))]


def _mask(shape: ReadShape, image_size: tuple[int | None, int | None]) -> Mask:
    text = shape.content.get("mask")
    if not isinstance(text, str):
        raise AnnotationError("a shape of type mask needs a mask in base64", field="mask")
    source, rendered = shape.source, shape.rendered
    if isinstance(source, Mask) and rendered is not None and _same_outline(shape.points, shape.rendered_points):
        if text == rendered["mask"]:
            return source
        covered = _decoded(text)
        if np.array_equal(covered, decode_mask_image(rendered["mask"])):
            return source
    else:
        covered = _decoded(text)
    # labelme's own conversion puts the part at its first point, decimals cut off.
    left, top = int(shape.points[0][0]), int(shape.points[0][1])
    known_height, known_width = source.size if isinstance(source, Mask) else image_size
    height = known_height or max(0, top + covered.shape[0])
    width = known_width or max(0, left + covered.shape[1])
    if height * width > LARGEST_MASK_PIXELS:
        raise AnnotationError(f"{height} x {width} is more than {LARGEST_MASK_PIXELS} pixels", field="mask")
    whole = np.zeros((height, width), dtype=np.bool_)
    part = covered[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    y, x = max(0, top), max(0, left)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return Mask("", (height, width), tuple(encode_run_length(whole)))


def _decoded(text: str) -> np.typing.NDArray[np.bool_]:
    try:
        return decode_mask_image(text)
    except AnnotationError as error:
        raise AnnotationError(error.reason, field="mask") from error
