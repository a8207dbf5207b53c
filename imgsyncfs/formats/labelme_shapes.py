"""Single objects as labelme's shapes, and back; likewise for tools that began as copies of labelme.

A bounding box is a ``rectangle``, a rotated box a ``polygon`` through its corners (top left, top right, bottom right,
bottom left), a polygon a ``polygon``, a mask a ``mask`` (labelme 5.4 and later): a PNG of the part that is covered, in
base64. labelme's own ``group_id``, ``description``, true ``flags`` and unknown keys of a shape live in the object's
extra key ``labelme``, and are shown again from there. Where a tool differs, its `ShapeDialect` says how.

A shape that was left as it was rendered gives back the exact original. What labelme itself changes when it saves is
not an edit: integers become floats, a rectangle dragged by a corner may start at any corner, older versions drop a
later point that equals the first, masks are packed anew, and flags of labelme's configuration are added as false.
Source: the readers and writers of labelme 4.0 to 6.3.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, isfinite, pi
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgsyncfs.annotations.geometry import (
    boxes_from_corners,
    clockwise_corners,
    corners,
    decode_run_length,
    encode_run_length,
    mask_bounds,
    rectangle_deviation,
    shown_corners,
)
from imgsyncfs.annotations.house_format import (
    LARGEST_MASK_PIXELS,
    OBJECT_LABEL_TYPES,
    BoundingBox,
    LabelledObject,
    Mask,
    Polygon,
    RotatedBox,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Change
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    SHOWN_TOLERANCE,
    UNNAMED,
    PlacedObject,
    RestoredObject,
    is_close,
    restored_bounding_box,
    restored_object,
    restored_rotated_box,
)
from imgsyncfs.formats.shape_dialect import LABELME, ShapeDialect

EXTRA_NAME = "labelme"

SHAPE_KEYS = frozenset({"label", "points", "group_id", "description", "shape_type", "flags", "mask", EMBEDDED_NAME})

_SURELY_FINITE = 1e9
"""The corners of a box whose numbers are below this are finite."""

RECTANGLE_TOLERANCE_PIXELS = 1.0
RECTANGLE_TOLERANCE_OF_DIAGONAL = 0.01
"""Four corners this close to a rectangle's are one: nobody places a corner more exactly by hand."""

FITTED_TOLERANCE_PIXELS = 2.0
FITTED_TOLERANCE_OF_DIAGONAL = 0.03
"""Four corners that were a rotated box are one again if they are this close to the nearest rectangle: labelme moves
corners one by one, so that whoever corrects a box leaves it a little askew."""

_ASKEW_PIXELS = 0.01
"""Corners this close to a rectangle's were only rounded."""

_ROTATED_TYPES = frozenset({"oriented_rectangle", "rotation"})
"""Rotated boxes of labelme 6.2 and of X-AnyLabeling."""

_FITTED = Change(
    "rotated boxes with a corner moved",
    1,
    f"they are the nearest rectangles now, which have their corners within {FITTED_TOLERANCE_PIXELS:.0f} pixels or "
    f"{FITTED_TOLERANCE_OF_DIAGONAL:.0%} of the diagonal",
    is_harmless=True,
)
_NO_RECTANGLE = Change(
    "rotated boxes",
    1,
    f"they became polygons, since a corner is more than {FITTED_TOLERANCE_PIXELS:.0f} pixels and "
    f"{FITTED_TOLERANCE_OF_DIAGONAL:.0%} of the diagonal off the nearest rectangle",
)
_TAKEN = Change(
    "polygons",
    1,
    "they are rotated boxes now: all other objects of their files are, and their four corners are those of rectangles",
    is_harmless=True,
)
_AMONG_ROTATED = Change(
    "polygons", 1, "all other objects of their files are rotated boxes: who trains on these does not see them"
)
_OBJECT_NAMES: Mapping[str, str] = {
    "bbox": "bounding boxes",
    "rbbox": "rotated boxes",
    "poly": "polygons",
    "seg": "masks",
}

Point = tuple[float, float]


@dataclass(frozen=True)
class ReadShape:
    """One entry of ``shapes``.

    Attributes:
        content: the entry, with a checked ``label`` and ``shape_type``.
        points: its points, checked, one or more.
        original: the embedded original, None for a shape that was not rendered.
        rendered: the shape that shows the original; None if there is none.
        dialect: of the tool whose file it is.
    """

    content: Mapping[str, Any]
    points: tuple[Point, ...]
    original: PlacedObject | None
    rendered: Mapping[str, Any] | None
    dialect: ShapeDialect = LABELME

    @property
    def source(self) -> LabelledObject | None:
        """The original object, if it is known how it was shown."""
        return self.original.item if self.original is not None and self.rendered is not None else None

    @property
    def rendered_points(self) -> Sequence[Point]:
        """The points that the original was shown with."""
        return self.rendered["points"] if self.rendered is not None else ()


def render_shapes(objects: Sequence[LabelledObject], dialect: ShapeDialect = LABELME) -> list[dict[str, Any] | None]:
    """Return the shapes that show these objects.

    Args:
        objects: of any types.
        dialect: of the tool.

    Returns:
        For each object its shape, without what is embedded in it; None for one that the tool cannot show
        (`reason_hidden` says why).

    Raises:
        AnnotationError: a mask's run lengths are damaged.
    """
    boxes = [(item.x, item.y, item.w, item.h, item.a) for item in objects if isinstance(item, RotatedBox)]
    quadrangles = iter(_rounded_corners(boxes))
    return [
        _rendered_shape(item, next(quadrangles) if isinstance(item, RotatedBox) else None, dialect) for item in objects
    ]


def is_shown(item: LabelledObject, dialect: ShapeDialect = LABELME) -> bool:
    """Whether `render_shapes` gives a shape for an object."""
    if isinstance(item, Polygon):
        return bool(item.points)
    if isinstance(item, Mask):
        return dialect.has_masks and mask_bounds(item.size, item.counts) is not None
    if isinstance(item, RotatedBox) and max(map(abs, (item.x, item.y, item.w, item.h))) > _SURELY_FINITE:
        return bool(np.isfinite(corners([(item.x, item.y, item.w, item.h, item.a)])).all())
    return True


def reason_hidden(item: LabelledObject, dialect: ShapeDialect = LABELME) -> tuple[str, str]:
    """Return (what, reason) of an object for which `render_shapes` gave None."""
    if isinstance(item, Polygon):
        return "polygons", f"{dialect.tool} refuses a polygon without points"
    if isinstance(item, Mask):
        return "masks", f"{dialect.tool} has no mask{' without pixels' if dialect.has_masks else 's'}"
    return "rotated boxes", "their corners lie beyond the largest number"


def read_shape(
    shape: ReadShape, *, image_size: tuple[int | None, int | None], prefer_rotated_boxes: bool
) -> RestoredObject | None:
    """Read one shape.

    A ``rectangle`` is a bounding box, a ``mask`` a mask, a ``quadrilateral`` (X-AnyLabeling) a polygon. An
    ``oriented_rectangle`` (labelme 6.2) or a ``rotation`` (X-AnyLabeling) is a rotated box, and so is a ``polygon``
    that was rendered from one, if its corners are four and lie within 2 pixels, or 3 % of its diagonal, of the nearest
    rectangle's; else it becomes a polygon. A new polygon is a polygon or, in an annotation that holds nothing but
    rotated boxes, a rotated box if its four corners lie within 1 pixel, or 1 % of its diagonal.

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
    class_name = shape.content["label"]
    if shape.source is not None and shape.rendered is not None and class_name == shape.rendered["label"]:
        class_name = shape.source.class_name
    restored = restored_object(shape.original, item, class_name=class_name, extra=_restored_extra(shape))
    return restored._replace(change=_change(shape, item, prefer_rotated_boxes=prefer_rotated_boxes))


def _change(shape: ReadShape, item: LabelledObject, *, prefer_rotated_boxes: bool) -> Change | None:
    """What there is to say of a shape that is of another kind than it was, or than it is drawn."""
    shape_type = shape.content["shape_type"]
    was_rotated = isinstance(shape.source, RotatedBox) or shape_type in _ROTATED_TYPES
    if was_rotated and isinstance(item, Polygon):
        return _NO_RECTANGLE
    if was_rotated and isinstance(item, RotatedBox) and item is not shape.source:
        askew = rectangle_deviation(clockwise_corners([shape.points]))[0] > _ASKEW_PIXELS
        return _FITTED if askew else None
    if shape.original is not None:
        label_type = OBJECT_LABEL_TYPES[type(item)]
        if label_type == shape.original.label_type:
            return None
        return Change(_OBJECT_NAMES[shape.original.label_type], 1, f"they became {_OBJECT_NAMES[label_type]}")
    if prefer_rotated_boxes and shape_type == "polygon":
        return _TAKEN if isinstance(item, RotatedBox) else _AMONG_ROTATED
    return None


def is_same_shape(shown: Mapping[str, Any], rendered: Mapping[str, Any], dialect: ShapeDialect = LABELME) -> bool:
    """Whether two shapes that are no masks say the same, each with a label, a type and points."""
    return (
        (shown["label"], shown["shape_type"]) == (rendered["label"], rendered["shape_type"])
        and _all_close(shown["points"], rendered["points"])
        and _unknown_keys(shown, dialect) == _unknown_keys(rendered, dialect)
        and _is_difficult(shown, dialect) == _is_difficult(rendered, dialect)
    )


def _rounded_corners(boxes: Sequence[tuple[float, ...]]) -> list[list[list[float]] | None]:
    if not boxes:
        return []
    rounded = shown_corners(boxes)
    if np.isfinite(rounded).all():
        return rounded.tolist()  # type: ignore[no-any-return]  # numpy types it as Any
    return [points.tolist() if np.isfinite(points).all() else None for points in rounded]


def _rendered_shape(
    item: LabelledObject, quadrangle: list[list[float]] | None, dialect: ShapeDialect
) -> dict[str, Any] | None:
    if isinstance(item, BoundingBox):
        return _shape(item, "rectangle", _rectangle(item, dialect), dialect)
    if isinstance(item, RotatedBox):
        return _shape(item, dialect.rotated_type, quadrangle, dialect) if quadrangle is not None else None
    if isinstance(item, Polygon):
        return _shape(item, _outline_type(item, dialect), item.points, dialect) if item.points else None
    bounds = mask_bounds(item.size, item.counts) if dialect.has_masks else None
    if bounds is None:
        return None
    x1, y1, x2, y2 = bounds
    shape = _shape(item, "mask", ((x1, y1), (x2, y2)), dialect)
    shape["mask"] = _encode_mask_image(decode_run_length(item.size, item.counts, bounds=bounds))
    return shape


def _rectangle(item: BoundingBox, dialect: ShapeDialect) -> Sequence[Point]:
    left, top = min(item.x1, item.x2), min(item.y1, item.y2)
    right, bottom = max(item.x1, item.x2), max(item.y1, item.y2)
    if dialect.rectangle_corners == 2:
        return (left, top), (right, bottom)
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _outline_type(item: Polygon, dialect: ShapeDialect) -> str:
    """The type of a closed outline: one of a tool's own if the object remembers it and still has as many corners."""
    remembered = _own_keys(item.extra).get("shape_type")
    is_own = isinstance(remembered, str) and dialect.outline_types.get(remembered) == len(item.points)
    return str(remembered) if is_own else "polygon"


def _shape(
    item: LabelledObject, shape_type: str, points: Sequence[Sequence[float]], dialect: ShapeDialect
) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "label": item.class_name if item.class_name.strip() else UNNAMED,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
        "flags": {},
    }
    own = _own_keys(item.extra)
    shape |= shown_keys(own, dialect)
    if dialect.has_difficult:
        difficult = item.extra.get("difficult", own.get("difficult"))
        shape["difficult"] = difficult in (1, True, "1")
    if shape_type == "rotation" and isinstance(item, RotatedBox):
        shape["direction"] = _direction(item)
    return shape


def _own_keys(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """What only tools know of an object."""
    own = extra.get(EXTRA_NAME)
    return own if isinstance(own, dict) else {}


def _direction(item: RotatedBox) -> float:
    """The angle of the first edge, from 0 to a whole turn."""
    angle = float(np.mod(item.a + (pi if item.w < 0 else 0.0), 2 * pi))
    return angle if angle < 2 * pi else 0.0


def shown_keys(own: Mapping[str, Any], dialect: ShapeDialect = LABELME) -> dict[str, Any]:
    """Of what only tools know of a shape, that which a tool takes: one bad shape makes it refuse the file."""
    shown = {
        key: value
        for key, value in own.items()
        if key not in SHAPE_KEYS
        and key not in dialect.dropped_keys
        and not (key == "difficult" and dialect.has_difficult)
        and dialect.is_taken(key, value)
    }
    if type(own.get("group_id")) is int:
        shown["group_id"] = own["group_id"]
    if isinstance(own.get("description"), str):
        shown["description"] = own["description"]
    if isinstance(own.get("flags"), dict):
        shown["flags"] = {name: True for name, value in own["flags"].items() if value is True}
    return shown


def _unknown_keys(shape: Mapping[str, Any], dialect: ShapeDialect) -> dict[str, Any]:
    """Return what a shape says that the house format has no place for; empty if nothing."""
    own = {
        key: value
        for key, value in shape.items()
        if key not in SHAPE_KEYS
        and value is not None
        and not (key in dialect.silent_keys and value == dialect.silent_keys[key])
    }
    if dialect.has_difficult:
        own.pop("difficult", None)
    if shape.get("shape_type") == "rotation":
        own.pop("direction", None)  # the box has it
    if shape.get("shape_type") in dialect.outline_types:
        own["shape_type"] = shape["shape_type"]
    if shape.get("group_id") is not None:
        own["group_id"] = shape["group_id"]
    if shape.get("description"):
        own["description"] = shape["description"]
    flags = shape.get("flags")
    true_flags = {name: True for name, value in flags.items() if value is True} if isinstance(flags, dict) else {}
    return {**own, "flags": true_flags} if true_flags else own


def _is_difficult(shape: Mapping[str, Any], dialect: ShapeDialect) -> bool:
    return dialect.has_difficult and shape.get("difficult") is True


def _geometry(
    shape: ReadShape, image_size: tuple[int | None, int | None], prefer_rotated_boxes: bool
) -> LabelledObject | None:
    """The object, whose class and extra keys the caller sets."""
    shape_type = shape.content["shape_type"]
    if shape_type == "rectangle":
        return _bounding_box(shape)
    if shape_type in _ROTATED_TYPES:
        return _rotated_box(shape) or (_polygon(shape) if len(shape.points) > 2 else None)
    if shape_type == "mask":
        return _mask(shape, image_size)
    if shape_type in shape.dialect.outline_types:
        return _polygon(shape) if len(shape.points) > 2 else None
    if shape_type == "polygon":
        if isinstance(shape.source, RotatedBox) or (shape.source is None and prefer_rotated_boxes):
            return _rotated_box(shape) or _polygon(shape)
        return _polygon(shape)
    return None


def _restored_extra(shape: ReadShape) -> Mapping[str, Any]:
    shown = _unknown_keys(shape.content, shape.dialect)
    before: Mapping[str, Any] = shape.original.item.extra if shape.original is not None else {}
    rendered = shape.rendered if shape.original is not None else None
    was_shown = _unknown_keys(rendered, shape.dialect) if rendered is not None else {}
    extra = before
    if rendered is None or shown != was_shown:
        # What this tool does not take stays for the one that does.
        own = {key: value for key, value in _own_keys(before).items() if rendered is not None and key not in was_shown}
        own |= shown
        extra = {key: value for key, value in before.items() if key != EXTRA_NAME}
        extra = {**extra, EXTRA_NAME: own} if own else extra
    is_difficult = _is_difficult(shape.content, shape.dialect)
    if is_difficult != (rendered is not None and _is_difficult(rendered, shape.dialect)):
        extra = {**extra, "difficult": int(is_difficult)}
    return extra


def _bounding_box(shape: ReadShape) -> BoundingBox | None:
    """A rectangle by two opposite corners, by all four, or by one where both are the same; None for anything else."""
    points = shape.points
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    upright = all(x in (low_x, high_x) and y in (low_y, high_y) for x, y in points)
    if len(points) not in (1, 2, 4) or not upright:
        return None
    rendered = [edge(axis) for edge in (min, max) for axis in zip(*shape.rendered_points, strict=True)]
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
    if isinstance(source, RotatedBox) or shape.content["shape_type"] in _ROTATED_TYPES:
        tolerance = max(FITTED_TOLERANCE_PIXELS, FITTED_TOLERANCE_OF_DIAGONAL * hypot(w, h))
    else:
        tolerance = max(RECTANGLE_TOLERANCE_PIXELS, RECTANGLE_TOLERANCE_OF_DIAGONAL * hypot(w, h))
    if not (all(map(isfinite, (x, y, w, h, a))) and rectangle_deviation(quadrangle)[0] <= tolerance):
        return None
    if not isinstance(source, RotatedBox):
        return RotatedBox("", x, y, w, h, a)
    # A box that was moved keeps its exact size and angle, one that was turned its exact size.
    before = boxes_from_corners(clockwise_corners([shape.rendered_points]))[0].tolist()
    same_angle = abs(a - before[4]) * max(w, h) <= SHOWN_TOLERANCE
    return restored_rotated_box((x, y, w, h, a), source, before, same_angle=same_angle)


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
    if len(shown) == len(rendered) and _all_close(shown, rendered):
        return True
    return _all_close(_without_repeated_first(shown), _without_repeated_first(rendered))


def _all_close(shown: Sequence[Point], rendered: Sequence[Point]) -> bool:
    return len(shown) == len(rendered) and all(
        is_close(x, rendered_x) and is_close(y, rendered_y)
        for (x, y), (rendered_x, rendered_y) in zip(shown, rendered, strict=True)
    )


def _without_repeated_first(points: Sequence[Point]) -> list[Point]:
    (first_x, first_y), *others = points
    return [
        points[0],
        *(point for point in others if not (is_close(point[0], first_x) and is_close(point[1], first_y))),
    ]


def _mask(shape: ReadShape, image_size: tuple[int | None, int | None]) -> Mask:
    text = shape.content.get("mask")
    if not isinstance(text, str):
        raise AnnotationError("a shape of type mask needs a mask in base64", field="mask")
    source, rendered = shape.source, shape.rendered
    if isinstance(source, Mask) and rendered is not None and _same_outline(shape.points, shape.rendered_points):
        if text == rendered["mask"]:
            return source
        covered = _decode_mask_image(text)
        if np.array_equal(covered, _decode_mask_image(rendered["mask"])):
            return source
    else:
        covered = _decode_mask_image(text)
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


def _encode_mask_image(mask: npt.NDArray[np.bool_]) -> str:
    """A mask as a black and white PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _decode_mask_image(text: str) -> npt.NDArray[np.bool_]:
    """Read a PNG in base64: labelme 5 and 6 write grey values 0 and 1, others 0 and 255."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG",)) as image:
            if image.width * image.height > LARGEST_MASK_PIXELS:
                pixels = f"{image.height} x {image.width}"
                raise AnnotationError(f"{pixels} is more than {LARGEST_MASK_PIXELS} pixels", field="mask")
            grey = image if image.mode in {"1", "L", "P", "I", "I;16"} else image.convert("L")
            covered: npt.NDArray[np.bool_] = np.asarray(grey) != 0
            return covered
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise AnnotationError(f"it is no PNG in base64 ({error})", field="mask") from error
