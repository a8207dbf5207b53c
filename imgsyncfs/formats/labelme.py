"""Annotations as labelme's JSON, beside an image as ``x.labelme.json``.

Opens in labelme 4.x to 6.x (files with masks from 5.4 on). Source: the readers and writers of labelme 4.0.0, 4.5.13,
5.0.1, 5.5.0, 5.11.2, 6.0.0 and 6.3.1. Bounding boxes, rotated boxes, polygons and masks are shapes; classifications
are image flags (``Gender: Female``). Regression values, labels of unknown types and all exact numbers are embedded
where labelme ignores them (`imgsyncfs.formats.originals`). labelme keeps unknown keys when it saves: those of shapes
from 4.0.1, those of the file always.

Reading back, a true flag is a classification, ``name: label``, or a label without a name; a false one says nothing. A
shape that the house format has no object for (circle, line, linestrip, point, points) becomes a label of type
``labelme`` that holds the shape as it is. Unknown keys of the file live in the annotation's extra key ``labelme``, and
are shown again.
"""

from __future__ import annotations

import base64
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import PureWindowsPath
from typing import Any

import orjson

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import (
    Annotation,
    ClassificationLabel,
    Label,
    ObjectLabel,
    UnknownLabel,
    within,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Rendered
from imgsyncfs.formats.labelme_shapes import EXTRA_NAME, Point, ReadShape, read_shape, reason_hidden, render_shapes
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    ImageSize,
    Outline,
    Remainder,
    RestoredObject,
    count_losses,
    embedded_object,
    embedded_remainder,
    match_outlines,
    placed_objects,
    read_embedded_object,
    read_remainder,
    reassemble,
    shown_size,
)

_VERSION = "5.5.0"
"""What the files say: any text is taken by any version, and this one has all that is written here."""

_FILE_KEYS = frozenset(
    {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", EMBEDDED_NAME}
)


class LabelmeFormat(Format):
    """labelme's JSON."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`."""
        placed = placed_objects(annotation)
        shapes = render_shapes([each.item for each in placed])
        hidden = [each for each, shape in zip(placed, shapes, strict=True) if shape is None]
        for each, shape in zip(placed, shapes, strict=True):
            if shape is not None:
                shape[EMBEDDED_NAME] = embedded_object(each)
        size = shown_size(annotation, image)
        document = {
            "version": _VERSION,
            "flags": dict.fromkeys(_flag_texts(annotation.labels).values(), True),
            "shapes": [shape for shape in shapes if shape is not None],
            "imagePath": image.file_name,
            "imageData": None,
            "imageHeight": size.height,
            "imageWidth": size.width,
            **_unknown_keys(annotation.extra.get(EXTRA_NAME)),
            EMBEDDED_NAME: embedded_remainder(annotation, hidden, size),
        }
        reasons = [reason_hidden(each.item) for each in hidden]
        losses = count_losses(annotation.labels, reasons, "labelme", shows_classifications=True)
        return Rendered(encode_ascii_json(document, indented=True), losses)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back; see `Format.parse`."""
        document = _decode(content)
        remainder = (
            within(read_remainder, document[EMBEDDED_NAME], EMBEDDED_NAME) if EMBEDDED_NAME in document else None
        )
        shapes = _read_shapes(document)
        size = ImageSize(height=_pixels(document, "imageHeight"), width=_pixels(document, "imageWidth"))
        prefer_rotated_boxes = _label_types(remainder, shapes) == {"rbbox"}
        objects: list[RestoredObject] = []
        added: list[Label] = []
        for index, shape in enumerate(shapes):
            restored = within(
                lambda each: read_shape(
                    each, image_size=(size.height, size.width), prefer_rotated_boxes=prefer_rotated_boxes
                ),
                shape,
                f"shapes[{index}]",
            )
            if restored is not None:
                objects.append(restored)
            else:
                unknown = {key: value for key, value in shape.content.items() if key != EMBEDDED_NAME}
                added.append(UnknownLabel({"label_type": EXTRA_NAME, "shape": unknown}))
        removed, new = _restored_flags(remainder, document.get("flags") or {})
        annotation = reassemble(
            remainder, objects, size=size, label_checked=label_checked, removed=removed, added=[*new, *added]
        )
        return _with_file_keys(annotation, remainder, document)

    def recognizes(self, content: bytes) -> bool:
        """Recognize labelme's JSON: an object with ``shapes`` and ``imagePath``."""
        return (
            b'"shapes"' in content
            and b'"imagePath"' in content
            and content.removeprefix(BOM_UTF8).lstrip().startswith(b"{")
        )

    def image_reference(self, content: bytes) -> ImageReference:
        """Read what a file says of its image: labelme opens ``imagePath``, else what is in ``imageData``."""
        document = _decode(content)
        named = str(document.get("imagePath") or "")
        path = PureWindowsPath(named)
        sides = [document.get("imageHeight"), document.get("imageWidth"), _embedded_depth(document)]
        sizes = [side if type(side) is int else None for side in sides]
        return ImageReference(
            ImageInfo("", path.stem, path.suffix.removeprefix("."), *sizes),
            opened_paths=(named,) if named else (),
            embedded_content=_embedded_content(document.get("imageData")),
        )

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
        """Put back what a tool dropped; see `Format.reattached`."""
        document = _decode(content)
        bare = [shape for shape in document["shapes"] if EMBEDDED_NAME not in shape]
        if EMBEDDED_NAME in document and not bare:
            return content
        rendered = _decode(self.render(original, image).content)
        if document.setdefault(EMBEDDED_NAME, rendered[EMBEDDED_NAME]) != rendered[EMBEDDED_NAME]:
            return content  # it was rendered from another annotation
        taken = [shape[EMBEDDED_NAME]["at"] for shape in document["shapes"] if EMBEDDED_NAME in shape]
        free = [shape for shape in rendered["shapes"] if shape[EMBEDDED_NAME]["at"] not in taken]
        for index, origin in match_outlines([*map(_outline, bare)], [*map(_outline, free)]).items():
            bare[index].update({key: free[origin][key] for key in ("points", EMBEDDED_NAME)})
        return orjson.dumps(document)


def _decode(content: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(content.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as error:
        fault = encoding_fault(content)
        raise AnnotationError(fault or f"it is not valid JSON ({error}); save it again with labelme") from error
    if not isinstance(document, dict):
        raise AnnotationError("a labelme file is a JSON object; save it again with labelme")
    if not isinstance(document.get("shapes"), list):
        raise AnnotationError("it must be a list; this is no file of labelme's", field="shapes")
    if not isinstance(document.get("flags") or {}, dict):
        raise AnnotationError("it must be an object", field="flags")
    return document


def _embedded_depth(document: Mapping[str, Any]) -> Any:
    """The depth that a file was rendered with, which labelme has no place for."""
    embedded = document.get(EMBEDDED_NAME)
    sizes = embedded.get("image") if isinstance(embedded, dict) else None
    return sizes.get("depth") if isinstance(sizes, dict) else None


def _embedded_content(image_data: Any) -> bytes | None:
    """The embedded image; damaged base64 as it is, so that `convert` refuses to drop it."""
    if not image_data:
        return None
    try:
        return base64.b64decode(image_data)
    except (TypeError, ValueError):
        return str(image_data).encode()


def _outline(shape: Mapping[str, Any]) -> Outline:
    numbers = tuple([number for point in shape["points"] for number in point])
    return Outline(shape.get("shape_type", "polygon"), shape["label"], numbers)


def _read_shapes(document: Mapping[str, Any]) -> list[ReadShape]:
    contents = document["shapes"]
    points = [within(_points, content, f"shapes[{index}]") for index, content in enumerate(contents)]
    originals = [
        within(read_embedded_object, content[EMBEDDED_NAME], f"shapes[{index}].{EMBEDDED_NAME}")
        if EMBEDDED_NAME in content
        else None
        for index, content in enumerate(contents)
    ]
    rendered = iter(render_shapes([original.item for original in originals if original is not None]))
    return [
        ReadShape(
            {"shape_type": "polygon", **content},
            points[index],
            original,
            next(rendered) if original is not None else None,
        )
        for index, (content, original) in enumerate(zip(contents, originals, strict=True))
    ]


def _points(shape: Any) -> tuple[Point, ...]:
    """The points of a shape whose label and type are checked as well."""
    if not isinstance(shape, dict):
        raise AnnotationError("a shape is a JSON object")
    for key in ("label", "shape_type"):
        if not isinstance(shape.get(key, "polygon" if key == "shape_type" else None), str):
            raise AnnotationError("it must be text", field=key)
    points = shape.get("points")
    if not isinstance(points, list) or not points:
        raise AnnotationError("it must be a list of one or more points", field="points")
    for index, point in enumerate(points):
        if not (isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))):
            raise AnnotationError("a point is a list [x, y] of finite numbers", field=f"points[{index}]")
    return tuple([(x, y) for x, y in points])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _pixels(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if _is_number(value) and value >= 0 and value == int(value):
        return int(value) or None
    raise AnnotationError("it must be a whole number or null", field=key)


def _label_types(remainder: Remainder | None, shapes: Sequence[ReadShape]) -> set[str]:
    """The types of the labels that hold objects, as far as the file tells."""
    if remainder is not None:
        return {label.label_type for label in remainder.annotation.labels if isinstance(label, ObjectLabel)}
    return {shape.original.label_type for shape in shapes if shape.original is not None}


def _flag_texts(labels: Sequence[Label]) -> dict[int, str]:
    """The image flag of each classification, by the label's index."""
    return {
        index: f"{label.label_name}: {label.label}" if label.label_name else label.label
        for index, label in enumerate(labels)
        if isinstance(label, ClassificationLabel)
    }


def _restored_flags(remainder: Remainder | None, flags: Mapping[str, Any]) -> tuple[set[int], list[Label]]:
    """The indices of the remainder's classifications that are no longer flagged, and classifications that are new."""
    rendered = _flag_texts(remainder.annotation.labels) if remainder is not None else {}
    removed = {index for index, text in rendered.items() if flags.get(text) is not True}
    before = set(rendered.values())
    new: list[Label] = []
    for text, value in flags.items():
        if value is True and text not in before:
            name, separator, label = text.partition(": ")
            new.append(ClassificationLabel(name, label) if separator else ClassificationLabel("", text))
    return removed, new


def _unknown_keys(content: Any) -> dict[str, Any]:
    """The keys of a file that labelme does not know; a known one among them would take the place of the real one."""
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if key not in _FILE_KEYS and value is not None}


def _with_file_keys(annotation: Annotation, remainder: Remainder | None, document: Mapping[str, Any]) -> Annotation:
    """Add what the file says of itself: unknown keys, and for a file without a remainder the image's extension."""
    before = annotation.extra
    shown = _unknown_keys(document)
    extra = before
    if shown != _unknown_keys(before.get(EXTRA_NAME)):
        others = {key: value for key, value in before.items() if key != EXTRA_NAME}
        extra = {**others, EXTRA_NAME: shown} if shown else others
    if remainder is not None:
        return replace(annotation, extra=extra)
    path = document.get("imagePath")
    suffix = PureWindowsPath(path).suffix if isinstance(path, str) else ""
    return replace(annotation, extra=extra, ext=suffix.removeprefix(".") or None)
