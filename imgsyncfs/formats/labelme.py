"""Annotations as labelme's JSON, beside an image as ``x.labelme.json``.

Opens in labelme 4.x to 6.x (files with masks from 5.4 on). Source: the readers and writers of labelme 4.0.0, 4.5.13,
5.0.1, 5.5.0, 5.11.2, 6.0.0 and 6.3.1. Bounding boxes, rotated boxes, polygons and masks are shapes; classifications
are image flags (``Gender: Female``). Regression values, labels of unknown types and all exact numbers are embedded
where labelme ignores them (`imgsyncfs.formats.originals`). labelme keeps unknown keys when it saves: those of shapes
from 4.0.1, those of the file always.

Reading back, a true flag is a classification, ``name: label``, or a label without a name; a false one says nothing. A
shape that the house format has no object for (circle, line, linestrip, point, points) becomes a label of type
``labelme`` that holds the shape as it is, and is shown again (`imgsyncfs.formats.labelme_only`). Unknown keys of the
file live in the annotation's extra key ``labelme``, and are shown again as well.
"""

from __future__ import annotations

import base64
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
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
from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Reading, Rendered
from imgsyncfs.formats.labelme_only import (
    drawing_positions,
    is_embedded_label,
    read_labels,
    render_label,
    shown_mark,
    with_drawing_order,
    with_mark,
    with_own_keys,
)
from imgsyncfs.formats.labelme_shapes import (
    EXTRA_NAME,
    Point,
    ReadShape,
    is_shown,
    read_shape,
    reason_hidden,
    render_shapes,
)
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    ImageSize,
    Outline,
    PlacedObject,
    Remainder,
    RestoredObject,
    embedded_object,
    embedded_remainder,
    match_moved,
    match_outlines,
    placed_objects,
    read_embedded_object,
    read_remainder,
    reassemble,
    shown_size,
)
from imgsyncfs.formats.remarks import LABELME_LABEL, count_changes, count_losses
from imgsyncfs.formats.shape_dialect import CHECKED_KEY, LABELME, PATH_KEY, ShapeDialect

_OWN_FORMAT = "format"
"""Stands beside what is embedded in a file that was rendered for another tool than labelme."""


class LabelmeFormat(Format):
    """labelme's JSON, and that of a tool which began as a copy of labelme; its `dialect` says how that differs."""

    dialect: ShapeDialect = LABELME

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`."""
        placed = placed_objects(annotation)
        shapes = render_shapes([each.item for each in placed], self.dialect)
        hidden = [each for each, shape in zip(placed, shapes, strict=True) if shape is None]
        for each, shape in zip(placed, shapes, strict=True):
            if shape is not None:
                shape[EMBEDDED_NAME] = embedded_object(each)
        others = _other_shapes(annotation, self.dialect)
        shown = [*_in_label_order(placed, shapes, others, annotation)]
        order = drawing_positions([label_type for label_type, _ in shown], annotation)
        size = shown_size(annotation, image)
        embedded = embedded_remainder(annotation, hidden, size)
        document = {
            "version": self.dialect.version,
            "flags": dict.fromkeys(_flag_texts(annotation.labels).values(), True),
            **({CHECKED_KEY: shown_mark(annotation)} if self.dialect.has_checked else {}),
            "shapes": [shown[position][1] for position in order],
            "imagePath": image.path or image.file_name,
            "imageData": None,
            "imageHeight": size.height,
            "imageWidth": size.width,
            **_unknown_keys(annotation.extra.get(EXTRA_NAME), self.dialect),
            EMBEDDED_NAME: {**embedded, _OWN_FORMAT: self.dialect.name} if self.dialect.name else embedded,
        }
        reasons = [reason_hidden(each.item, self.dialect) for each in hidden]
        losses = count_losses(annotation.labels, reasons, self.dialect.tool, shows_classifications=True, shown=others)
        return Rendered(encode_ascii_json(document, indented=True), losses)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back; see `Format.parse`."""
        return self.read(content, label_checked=label_checked).annotation

    def read(self, content: bytes, *, label_checked: int = 1, image: ImageInfo | None = None) -> Reading:  # noqa: ARG002 - labelme turns pictures
        """Read an annotation back; see `Format.read`."""
        document = _decode(content)
        remainder = (
            within(read_remainder, document[EMBEDDED_NAME], EMBEDDED_NAME) if EMBEDDED_NAME in document else None
        )
        shapes = _read_shapes(document, self.dialect)
        size = ImageSize(height=_pixels(document, "imageHeight"), width=_pixels(document, "imageWidth"))
        # Where a tool cannot draw rotated boxes, its users draw polygons.
        draws_polygons = self.dialect.rotated_type == "polygon"
        prefer_rotated_boxes = draws_polygons and _label_types(remainder, shapes) == {"rbbox"}
        objects: list[RestoredObject] = []
        others: list[Mapping[str, Any]] = []
        order: list[str] = []
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
                others.append(shape.content)
            order.append(LABELME_LABEL if restored is None else restored.label_type)
        gone, replaced, added = read_labels(remainder, others, self.dialect)
        removed, new = _restored_flags(remainder, document.get("flags") or {})
        annotation = reassemble(
            remainder,
            objects,
            size=size,
            label_checked=label_checked,
            removed=removed | gone,
            replaced=replaced,
            added=[*new, *added],
        )
        changes = count_changes(restored.change for restored in objects if restored.change is not None)
        annotation = with_drawing_order(annotation, [*_shown_types(annotation, self.dialect)], order)
        annotation = _with_file_keys(annotation, remainder, document, self.dialect)
        if self.dialect.has_checked and CHECKED_KEY in document:
            annotation = with_mark(annotation, remainder, document[CHECKED_KEY])
        return Reading(annotation, changes)

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
        height, width, depth = (side if type(side) is int else None for side in sides)
        image = ImageInfo("", path.stem, path.suffix.removeprefix("."), height, width, depth)
        return ImageReference(
            replace(image, path=_path_elsewhere(named)),
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
        found, before = [*map(_outline, bare)], [*map(_outline, free)]
        unmoved = match_outlines(found, before)
        for index, origin in unmoved.items():
            bare[index].update({key: free[origin][key] for key in ("points", EMBEDDED_NAME)})
        if not taken:
            # labelme 4.0 drops what it does not know of shapes; in a file of a later one, a bare shape is a new one.
            moved = [index for index in range(len(bare)) if index not in unmoved]
            left = sorted(set(range(len(free))).difference(unmoved.values()))
            matches = match_moved([found[index] for index in moved], [before[origin] for origin in left])
            for index, origin in matches.items():
                bare[moved[index]][EMBEDDED_NAME] = free[left[origin]][EMBEDDED_NAME]
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
    xs, ys = numbers[::2], numbers[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    box = (left / 2 + right / 2, top / 2 + bottom / 2, right - left, bottom - top)
    return Outline(shape.get("shape_type", "polygon"), shape["label"], numbers, box)


def rendered_for(document: Mapping[str, Any]) -> str | None:
    """The `ShapeDialect.name` of the tool that a decoded file was rendered for; None for a file that was not."""
    embedded = document.get(EMBEDDED_NAME)
    return str(embedded.get(_OWN_FORMAT, LABELME.name)) if isinstance(embedded, dict) else None


def _other_shapes(annotation: Annotation, dialect: ShapeDialect) -> dict[int, dict[str, Any]]:
    """The shapes that labels hold which hold no objects, by the labels' indices."""
    shapes = {
        index: render_label(index, label, dialect)
        for index, label in enumerate(annotation.labels)
        if isinstance(label, UnknownLabel)
    }
    return {index: shape for index, shape in shapes.items() if shape is not None}


def _in_label_order(
    placed: Sequence[PlacedObject],
    shapes: Sequence[dict[str, Any] | None],
    others: Mapping[int, dict[str, Any]],
    annotation: Annotation,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The type of the label of each shape, and the shape."""
    objects = iter(zip(placed, shapes, strict=True))
    for index, label in enumerate(annotation.labels):
        if index in others:
            yield LABELME_LABEL, others[index]
        for _ in label.objects if isinstance(label, ObjectLabel) else ():
            each, shape = next(objects)
            if shape is not None:
                yield each.label_type, shape


def _read_shapes(document: Mapping[str, Any], dialect: ShapeDialect) -> list[ReadShape]:
    contents = document["shapes"]
    points = [within(_points, content, f"shapes[{index}]") for index, content in enumerate(contents)]
    originals = [
        within(read_embedded_object, content[EMBEDDED_NAME], f"shapes[{index}].{EMBEDDED_NAME}")
        if EMBEDDED_NAME in content and not is_embedded_label(content[EMBEDDED_NAME])
        else None
        for index, content in enumerate(contents)
    ]
    rendered = iter(render_shapes([original.item for original in originals if original is not None], dialect))
    return [
        ReadShape(
            {"shape_type": "polygon", **content},
            points[index],
            original,
            next(rendered) if original is not None else None,
            dialect,
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


def _unknown_keys(content: Any, dialect: ShapeDialect) -> dict[str, Any]:
    """The keys of a file that its tool does not know; a known one among them would take the place of the real one."""
    if not isinstance(content, dict):
        return {}
    return {
        key: value
        for key, value in content.items()
        if key not in dialect.file_keys
        and value is not None
        and not (key in dialect.silent_file_keys and value == dialect.silent_file_keys[key])
        and dialect.is_file_key_taken(key, value)
    }


def _path_elsewhere(named: str) -> str:
    """The path of an image that does not lie beside the file that names it, with slashes; else nothing."""
    path = PureWindowsPath(named)
    return path.as_posix() if named and path.name != named.removeprefix("./") else ""


def _shown_types(annotation: Annotation, dialect: ShapeDialect) -> Iterator[str]:
    """The type of the label of each shape that shows an annotation, in the order of its labels."""
    others = _other_shapes(annotation, dialect)
    for index, label in enumerate(annotation.labels):
        if index in others:
            yield LABELME_LABEL
        if isinstance(label, ObjectLabel):
            yield from (label.label_type for item in label.objects if is_shown(item, dialect))


def _with_file_keys(
    annotation: Annotation, remainder: Remainder | None, document: Mapping[str, Any], dialect: ShapeDialect
) -> Annotation:
    """Add what the file says of itself: unknown keys, and without a remainder the image's place and extension."""
    before = _unknown_keys(annotation.extra.get(EXTRA_NAME), dialect)
    shown = _unknown_keys(document, dialect)
    if shown != before:
        annotation = with_own_keys(annotation, {**dict.fromkeys(before), **shown})
    if remainder is not None:
        return annotation
    path = document.get(PATH_KEY)
    if not isinstance(path, str):
        return annotation
    if elsewhere := _path_elsewhere(path):
        annotation = with_own_keys(annotation, {PATH_KEY: elsewhere})
    suffix = PureWindowsPath(path).suffix
    return replace(annotation, ext=suffix.removeprefix(".") or None)
