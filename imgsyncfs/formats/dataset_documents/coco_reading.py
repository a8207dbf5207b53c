"""Reads COCO documents back: those that were written here, and those of CVAT, Roboflow, labelme2coco and others.

A rotated box is one with ``attributes.rotation``: with its four corners as ``segmentation``, as they are written here,
or, as CVAT has it, with the unturned box as ``bbox``. Otherwise a ``segmentation`` of points is a polygon for each
of its parts, one of run lengths a mask, and a ``bbox`` alone a bounding box. ``iscrowd`` 1 and other attributes are
kept in the object's extra keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from math import isfinite, radians
from typing import Any, TypeAlias

import numpy as np
import orjson

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.geometry import boxes_from_corners, corners, rectangle_deviation
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    LabelledObject,
    Polygon,
    RotatedBox,
    object_from_json,
    within,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Change, Reading
from imgsyncfs.formats.dataset_documents.contract import DocumentReading, grouped_labels, image_at
from imgsyncfs.formats.remarks import count_changes

CORNER_TOLERANCE = 0.5
"""Pixels that four corners may be off those of a rotated box; further off they are a polygon."""

_ANGLE_TOLERANCE = 1e-3
"""Pixels that the corners may move if the angle is taken that the document says."""

_Box: TypeAlias = tuple[float, float, float, float, float]

_DECIMALS = 9
"""Sums of written numbers are rounded to this, so that 0.1 + 0.2 is 0.3."""

_KEYPOINTS = Change("groups of keypoints", 1, "the house format has no object for them; they are left out")
_PARTS = Change("polygons of several parts", 1, "each part is an object of its own now, since house polygons have one")
_NO_PLACE = Change("annotations without box and segmentation", 1, "nothing is known of where they are")


def read_coco(content: bytes, *, label_checked: int = 1) -> Iterator[DocumentReading]:
    """Read a COCO document; see `imgsyncfs.formats.dataset_documents.contract.DatasetDocument.read`."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        fault = encoding_fault(content)
        raise AnnotationError(fault or f"it is not valid JSON ({error}); export it again") from error
    if not isinstance(document, dict):
        raise AnnotationError("a COCO document is a JSON object, this is none")
    names = {
        _whole(category, "id", f"categories[{index}]"): _text(category, "name", f"categories[{index}]")
        for index, category in enumerate(_objects(document, "categories"))
    }
    classes = tuple(names.values())
    found: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for index, annotation in enumerate(_objects(document, "annotations")):
        found.setdefault(_whole(annotation, "image_id", f"annotations[{index}]"), []).append((index, annotation))
    boxes = _rotated_boxes(document["annotations"])
    images = _objects(document, "images")
    numbers = [_whole(image, "id", f"images[{index}]") for index, image in enumerate(images)]
    strange = found.keys() - set(numbers)
    if strange:
        [(index, _), *_] = found[min(strange)]
        raise AnnotationError(f"there is no image {min(strange)}", field=f"annotations[{index}].image_id")
    for index, (number, image) in enumerate(zip(numbers, images, strict=True)):
        path = _text(image, "file_name", f"images[{index}]")
        height, width = (
            _whole(image, side, f"images[{index}]") if image.get(side) is not None else None
            for side in ("height", "width")
        )
        info = image_at(path, height, width)
        objects: list[LabelledObject] = []
        changes: list[Change] = []
        for place, annotation in found.get(number, ()):
            read = partial(_read_annotation, names=names, box=boxes.get(place))
            more, changed = within(read, annotation, f"annotations[{place}]")
            objects += more
            changes += changed
        annotated = Annotation(
            label_checked=label_checked,
            height=info.height,
            width=info.width,
            ext=info.ext or None,
            labels=grouped_labels(objects),
        )
        yield DocumentReading(info, Reading(annotated, count_changes(changes)), classes=classes)


def _read_annotation(
    annotation: Mapping[str, Any], names: Mapping[int, str], box: _Box | None
) -> tuple[list[LabelledObject], list[Change]]:
    number = annotation.get("category_id")
    if type(number) is not int or number not in names:
        raise AnnotationError(f"there is no category {number!r:.40}", field="category_id")
    attributes = annotation.get("attributes")
    attributes = dict(attributes) if isinstance(attributes, dict) else {}
    attributes.pop("rotation", None)
    extra: dict[str, Any] = {"attributes": attributes} if attributes else {}
    if annotation.get("iscrowd") == 1:
        extra["iscrowd"] = 1
    changes = [_KEYPOINTS] if annotation.get("keypoints") else []
    degrees = _rotation(annotation)
    class_name, segmentation = names[number], annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return [object_from_json("seg", {"class": class_name, "rle": segmentation, **extra})], changes
    if isinstance(segmentation, list) and segmentation:
        parts = [_points(part, f"segmentation[{index}]") for index, part in enumerate(segmentation)]
        if box is not None:
            return [RotatedBox(class_name, *box, extra)], changes
        if len(parts) > 1:
            changes.append(_PARTS)
        return [Polygon(class_name, part, dict(extra)) for part in parts], changes
    if annotation.get("bbox"):
        x, y, w, h = _numbers(annotation["bbox"], "bbox", 4)
        if degrees:
            return [RotatedBox(class_name, x + w / 2, y + h / 2, w, h, radians(degrees), extra)], changes
        return [BoundingBox(class_name, x, y, round(x + w, _DECIMALS), round(y + h, _DECIMALS), extra)], changes
    return [], [*changes, _NO_PLACE]


def _rotated_boxes(annotations: list[dict[str, Any]]) -> dict[int, _Box]:
    """The rotated boxes of annotations that have an angle and corners, by index; one by one they would take minutes."""
    found = {
        index: (segmentation[0], rotation)
        for index, annotation in enumerate(annotations)
        if (rotation := _rotation(annotation)) is not None
        and isinstance(segmentation := annotation.get("segmentation"), list)
        and len(segmentation) == 1
        and isinstance(segmentation[0], list)
        and len(segmentation[0]) == 8
        and all(type(number) in {int, float} and isfinite(number) for number in segmentation[0])
    }
    points = np.array([numbers for numbers, _ in found.values()], dtype=np.float64).reshape(-1, 4, 2)
    boxes = boxes_from_corners(points)
    deviations = rectangle_deviation(points)
    # The angle of a small box can be told from its rounded corners less exactly than from what is said of it.
    said = boxes.copy()
    said[:, 4] = np.radians([degrees for _, degrees in found.values()])
    with np.errstate(over="ignore", invalid="ignore"):
        is_said = np.abs(corners(said) - points).max(axis=(1, 2), initial=0.0) <= _ANGLE_TOLERANCE
    boxes[is_said] = said[is_said]
    boxes[:, :4] = boxes[:, :4].round(_DECIMALS)
    is_box = (deviations <= CORNER_TOLERANCE) & np.isfinite(boxes).all(axis=1)
    return {
        index: tuple(box)
        for index, box, is_rotated in zip(found, boxes.tolist(), is_box.tolist(), strict=True)
        if is_rotated
    }


def _rotation(annotation: Mapping[str, Any]) -> float | None:
    """The degrees in ``attributes.rotation``."""
    attributes = annotation.get("attributes")
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    return float(rotation) if isinstance(rotation, int | float) and isfinite(rotation) else None


def _points(part: Any, field: str) -> tuple[tuple[float, float], ...]:
    numbers = _numbers(part, field)
    if len(numbers) % 2:
        raise AnnotationError(f"it has {len(numbers)} numbers, and points have two each", field=field)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _numbers(value: Any, field: str, count: int | None = None) -> list[float]:
    wanted = "a list of numbers" if count is None else f"a list of {count} numbers"
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise AnnotationError(f"it must be {wanted}", field=field)
    if not all(type(number) in {int, float} and isfinite(number) for number in value):
        raise AnnotationError(f"it must be {wanted}", field=field)
    return value


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if not isinstance(value, list):
        raise AnnotationError("it must be a list; a COCO document has images, annotations and categories", field=key)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise AnnotationError("it must be a JSON object", field=f"{key}[{index}]")
    return value


def _whole(content: Mapping[str, Any], key: str, place: str) -> int:
    value = content.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise AnnotationError("it must be a whole number from 0 on", field=f"{place}.{key}")
    return value


def _text(content: Mapping[str, Any], key: str, place: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise AnnotationError("it must be text", field=f"{place}.{key}")
    return value
