"""The house format: what is labelled in one image, as typed, frozen objects, read from and written to JSON.

Source: the users' own files, ``anno_version`` 0.2.0. Pixel coordinates, x to the right, y down; a rotated box is (x,
y, w, h, a) with ``a`` in radians, clockwise on screen. Unknown keys go into ``extra``, unknown labels stay as they
came: nothing in a file is lost between `parse_annotation` and `dump_annotation`, and an integer stays an integer, a
float a float.

The reader is tolerant where that harms no one (a missing ``depth``), strict where a wrong number would be shown (a
missing ``x``). Numbers beyond 64 bits are read as floats. NaN, infinity and a number that no double holds are refused.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import orjson

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.geometry import check_run_length
from imgsyncfs.errors import AnnotationError

ANNO_VERSION = "0.2.0"

LARGEST_MASK_PIXELS = 1 << 28
"""A mask beyond this (16,384 x 16,384) is refused: drawing it would take a quarter of a gigabyte."""

_ANNOTATION_KEYS = frozenset({"anno_version", "label_checked", "height", "width", "depth", "ext", "labels"})
_BOUNDING_BOX_KEYS = frozenset({"class", "x1", "y1", "x2", "y2"})
_ROTATED_BOX_KEYS = frozenset({"class", "x", "y", "w", "h", "a"})
_POLYGON_KEYS = frozenset({"class", "points"})
_MASK_KEYS = frozenset({"class", "rle"})
_RUN_LENGTH_KEYS = frozenset({"size", "counts"})
_OBJECT_LABEL_KEYS = frozenset({"label_type", "object"})
_VALUE_LABEL_KEYS = frozenset({"label_type", "label_name", "label"})
_NUMBER_TYPES = frozenset({int, float})

_Content = TypeVar("_Content")
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class BoundingBox:
    """An upright box from its top left (x1, y1) to its bottom right (x2, y2), in pixels."""

    class_name: str
    x1: float
    y1: float
    x2: float
    y2: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RotatedBox:
    """A box around (x, y), w by h pixels, turned clockwise on screen by `a` radians."""

    class_name: str
    x: float
    y: float
    w: float
    h: float
    a: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Polygon:
    """A closed outline through `points`, each (x, y) in pixels."""

    class_name: str
    points: tuple[tuple[float, float], ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mask:
    """A region as COCO run lengths (column by column, starting with background).

    Attributes:
        class_name: what the region shows.
        size: (height, width) of the whole mask in pixels.
        counts: the run lengths, or COCO's compressed text of them; as they came.
        extra: unknown keys of the object; unknown keys of its ``rle`` stand under ``rle``.
    """

    class_name: str
    size: tuple[int, int]
    counts: tuple[int, ...] | str
    extra: Mapping[str, Any] = field(default_factory=dict)


LabelledObject: TypeAlias = BoundingBox | RotatedBox | Polygon | Mask

OBJECT_LABEL_TYPES: Mapping[type[LabelledObject], str] = MappingProxyType(
    {BoundingBox: "bbox", RotatedBox: "rbbox", Polygon: "poly", Mask: "seg"}
)
"""The type of the label that holds objects of a class."""


@dataclass(frozen=True)
class ObjectLabel:
    """Objects of one ``label_type``: bbox (`BoundingBox`), rbbox (`RotatedBox`), poly (`Polygon`) or seg (`Mask`)."""

    label_type: str
    objects: tuple[LabelledObject, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassificationLabel:
    """A word about the whole image (``clf``), such as Gender: Female."""

    label_name: str
    label: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RegressionLabel:
    """A number about the whole image (``reg``), such as Age: 42."""

    label_name: str
    label: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UnknownLabel:
    """A label of a type that is not known here, kept as it came."""

    content: Mapping[str, Any]


Label: TypeAlias = ObjectLabel | ClassificationLabel | RegressionLabel | UnknownLabel


@dataclass(frozen=True)
class Annotation:
    """Everything that is labelled in one image.

    Attributes:
        anno_version: version of the house format.
        label_checked: 1 when somebody has looked at the image, 0 when nobody has.
        height: of the image in pixels, None if unknown.
        width: as `height`.
        depth: of the image in channels, None if unknown.
        ext: the image file's extension without a dot, None if unknown.
        labels: in the file's order.
        extra: unknown keys.
    """

    anno_version: str = ANNO_VERSION
    label_checked: int = 0
    height: int | None = None
    width: int | None = None
    depth: int | None = None
    ext: str | None = None
    labels: tuple[Label, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def object_count(self) -> int:
        """How many things are labelled: objects, clf and reg entries, unknown labels."""
        return sum(len(label.objects) if isinstance(label, ObjectLabel) else 1 for label in self.labels)


def is_annotation(content: bytes) -> bool:
    """Recognize a house annotation by a cheap look.

    Args:
        content: a file's bytes.

    Returns:
        True for a JSON object with ``anno_version``, and for one that names it but is damaged: `parse_annotation`
        then says where.
    """
    if b'"anno_version"' not in content:
        return False
    try:
        document = orjson.loads(content.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError:
        # labelme's files, which may carry an annotation within, have "shapes".
        return content.removeprefix(BOM_UTF8).lstrip()[:1] == b"{" and b'"shapes"' not in content
    return isinstance(document, dict) and "anno_version" in document


def parse_annotation(content: bytes) -> Annotation:
    """Read a house annotation.

    Args:
        content: UTF-8 JSON, with or without a byte order mark.

    Returns:
        The annotation; `dump_annotation` of it holds all that `content` held.

    Raises:
        AnnotationError: it does not parse; `field` says where, for example ``labels[0].object[3].w``.
        MemoryError: this process may take no more memory.
    """
    try:
        document = orjson.loads(content.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError as error:
        if "enough memory" in error.msg:
            # Nothing is wrong with the annotation; orjson says this as if there were.
            raise MemoryError(error.msg) from error
        fault = encoding_fault(content)
        raise AnnotationError(fault or f"it is not valid JSON ({error}); write it again") from error
    return annotation_from_json(document)


def dump_annotation(annotation: Annotation) -> bytes:
    """Write a house annotation.

    Args:
        annotation: read by `parse_annotation`, or made by a program.

    Returns:
        UTF-8 JSON, indented for people; `parse_annotation` of it equals `annotation`.

    Raises:
        AnnotationError: `parse_annotation` would refuse it (a NaN, a rotated box in a bbox label), or it holds what
            JSON cannot (an integer beyond 64 bits, lone surrogates, 250 levels of nesting).
    """
    document = annotation_to_json(annotation)
    annotation_from_json(document)
    return encode_json(document, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def encode_json(document: Any, option: int = 0) -> bytes:
    """Write JSON with orjson; what it cannot write raises `AnnotationError`."""
    try:
        return orjson.dumps(document, option=option)
    except TypeError as error:
        raise AnnotationError(f"it holds a value that JSON cannot ({error}); change that value") from error


def annotation_from_json(document: Any) -> Annotation:
    """Read a house annotation from decoded JSON.

    Args:
        document: what a JSON reader gave.

    Returns:
        The annotation. Unknown values are shared with `document`, not copied.

    Raises:
        AnnotationError: as for `parse_annotation`.
    """
    if not isinstance(document, dict):
        raise AnnotationError(f"an annotation is a JSON object, this is {_kind(document)}")
    if "anno_version" not in document:
        raise AnnotationError("the key is missing: this is no annotation", field="anno_version")
    labels = _required(document, "labels", list, "a list")
    return Annotation(
        anno_version=_required(document, "anno_version", str, "text"),
        label_checked=_count(document, "label_checked") or 0,
        height=_count(document, "height"),
        width=_count(document, "width"),
        depth=_count(document, "depth"),
        ext=None if document.get("ext") is None else _required(document, "ext", str, "text"),
        labels=tuple([within(label_from_json, label, f"labels[{index}]") for index, label in enumerate(labels)]),
        extra=_unknown(document, _ANNOTATION_KEYS),
    )


def label_from_json(content: Any) -> Label:
    """Read one entry of ``labels``; raises `AnnotationError` whose field is relative to it."""
    if not isinstance(content, dict):
        raise AnnotationError(f"a label is a JSON object, this is {_kind(content)}")
    label_type = _required(content, "label_type", str, "text")
    if label_type in _OBJECT_READERS:
        reader = _OBJECT_READERS[label_type]
        objects = _required(content, "object", list, "a list")
        return ObjectLabel(
            label_type,
            tuple([within(reader, item, f"object[{index}]") for index, item in enumerate(objects)]),
            _unknown(content, _OBJECT_LABEL_KEYS),
        )
    if label_type == "clf":
        name, label = _required(content, "label_name", str, "text"), _required(content, "label", str, "text")
        return ClassificationLabel(name, label, _unknown(content, _VALUE_LABEL_KEYS))
    if label_type == "reg":
        name, (value,) = _required(content, "label_name", str, "text"), _numbers(content, ("label",))
        return RegressionLabel(name, value, _unknown(content, _VALUE_LABEL_KEYS))
    return UnknownLabel(content)


def object_from_json(label_type: str, content: Any) -> LabelledObject:
    """Read one object of a bbox, rbbox, poly or seg label; raises `AnnotationError` whose field is relative to it."""
    return _OBJECT_READERS[label_type](content)


def annotation_to_json(annotation: Annotation) -> dict[str, Any]:
    """Return the JSON object of an annotation, not yet encoded."""
    return {
        "anno_version": annotation.anno_version,
        "label_checked": annotation.label_checked,
        "height": annotation.height,
        "width": annotation.width,
        "depth": annotation.depth,
        "ext": annotation.ext,
        "labels": [label_to_json(label) for label in annotation.labels],
        **annotation.extra,
    }


def label_to_json(label: Label) -> dict[str, Any]:
    """Return the JSON object of one entry of ``labels``."""
    if isinstance(label, ObjectLabel):
        objects = [object_to_json(item) for item in label.objects]
        return {"label_type": label.label_type, "object": objects, **label.extra}
    if isinstance(label, UnknownLabel):
        return dict(label.content)
    label_type = "clf" if isinstance(label, ClassificationLabel) else "reg"
    return {"label_type": label_type, "label_name": label.label_name, "label": label.label, **label.extra}


def object_to_json(item: LabelledObject) -> dict[str, Any]:
    """Return the JSON object of one labelled object."""
    if isinstance(item, BoundingBox):
        return {"class": item.class_name, "x1": item.x1, "y1": item.y1, "x2": item.x2, "y2": item.y2, **item.extra}
    if isinstance(item, RotatedBox):
        return {"class": item.class_name, "x": item.x, "y": item.y, "w": item.w, "h": item.h, "a": item.a, **item.extra}
    if isinstance(item, Polygon):
        return {"class": item.class_name, "points": item.points, **item.extra}
    rle = {"size": item.size, "counts": item.counts, **item.extra.get("rle", {})}
    return {"class": item.class_name, **item.extra, "rle": rle}


def without_known_keys(extra: Mapping[str, Any], label_type: str) -> dict[str, Any]:
    """Return the unknown keys of an object that becomes one of another type, where some of them may be known."""
    return {key: value for key, value in extra.items() if key not in _OBJECT_KEYS[label_type]}


def within(reader: Callable[[_Content], _Part], content: _Content, place: str) -> _Part:
    """Read a part of a document; an `AnnotationError` in it is told with the part's place before its own field."""
    try:
        return reader(content)
    except AnnotationError as error:
        raise AnnotationError(error.reason, field=f"{place}.{error.field}" if error.field else place) from error


def _bounding_box(content: Any) -> BoundingBox:
    class_name = _class_name(content)
    x1, y1, x2, y2 = _numbers(content, ("x1", "y1", "x2", "y2"))
    return BoundingBox(class_name, x1, y1, x2, y2, _unknown(content, _BOUNDING_BOX_KEYS))


def _rotated_box(content: Any) -> RotatedBox:
    class_name = _class_name(content)
    x, y, w, h, a = _numbers(content, ("x", "y", "w", "h", "a"))
    return RotatedBox(class_name, x, y, w, h, a, _unknown(content, _ROTATED_BOX_KEYS))


def _polygon(content: Any) -> Polygon:
    class_name = _class_name(content)
    points = []
    for index, point in enumerate(_required(content, "points", list | tuple, "a list")):
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise AnnotationError("a point is a list [x, y]", field=f"points[{index}]")
        x, y = point
        if not (type(x) in _NUMBER_TYPES and type(y) in _NUMBER_TYPES and _is_finite(x) and _is_finite(y)):
            raise AnnotationError("a point has two finite numbers", field=f"points[{index}]")
        points.append((x, y))
    return Polygon(class_name, tuple(points), _unknown(content, _POLYGON_KEYS))


def _mask(content: Any) -> Mask:
    class_name = _class_name(content)
    rle = _required(content, "rle", dict, "an object with size and counts")
    size = _required(rle, "size", list | tuple, "a list [height, width]", within="rle.")
    if len(size) != 2 or not all(type(side) is int and side >= 0 for side in size):
        raise AnnotationError("it must be two whole numbers [height, width]", field="rle.size")
    height, width = size
    if height * width > LARGEST_MASK_PIXELS:
        raise AnnotationError(f"{height} x {width} is more than {LARGEST_MASK_PIXELS} pixels", field="rle.size")
    counts = _required(rle, "counts", list | tuple | str, "a list of run lengths or compressed text", within="rle.")
    if not isinstance(counts, str):
        counts = tuple(counts)
        if not all(type(count) is int and 0 <= count <= height * width for count in counts):
            raise AnnotationError(f"it must be whole numbers up to {height} x {width}", field="rle.counts")
    try:
        check_run_length((height, width), counts)
    except AnnotationError as error:
        raise AnnotationError(error.reason, field="rle.counts") from error
    extra = _unknown(content, _MASK_KEYS)
    if len(rle) > len(_RUN_LENGTH_KEYS):
        extra["rle"] = _unknown(rle, _RUN_LENGTH_KEYS)
    return Mask(class_name, (height, width), counts, extra)


_OBJECT_READERS: Mapping[str, Callable[[Any], LabelledObject]] = {
    "bbox": _bounding_box,
    "rbbox": _rotated_box,
    "poly": _polygon,
    "seg": _mask,
}
_OBJECT_KEYS = {"bbox": _BOUNDING_BOX_KEYS, "rbbox": _ROTATED_BOX_KEYS, "poly": _POLYGON_KEYS, "seg": _MASK_KEYS}


def _class_name(content: Any) -> str:
    if type(content) is not dict:
        raise AnnotationError(f"an object is a JSON object, this is {_kind(content)}")
    name = content.get("class")
    if type(name) is not str:
        raise _wrong(content, "class", "text")
    return name


def _numbers(content: Mapping[str, Any], keys: tuple[str, ...]) -> list[float]:
    try:
        values = [content[key] for key in keys]
        if _NUMBER_TYPES.issuperset(map(type, values)) and all(map(isfinite, values)):
            return values
    except (KeyError, OverflowError):
        pass
    for key in keys:
        value = content.get(key)
        if type(value) not in _NUMBER_TYPES:
            raise _wrong(content, key, "a number")
    raise AnnotationError("a number must be finite", field=next(key for key in keys if not _is_finite(content[key])))


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an integer that no double can hold; only objects made by hand have one
        return False


def _count(content: Mapping[str, Any], key: str) -> int | None:
    """A whole number that may be missing; ``300.0`` and ``true``, as some writers put it, are taken."""
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and _is_finite(value) and value >= 0 and value == int(value):
        return int(value)
    raise _wrong(content, key, "a whole number from 0 on")


def _required(content: Mapping[str, Any], key: str, kind: Any, expected: str, *, within: str = "") -> Any:
    value = content.get(key)
    if isinstance(value, kind):
        return value
    raise _wrong(content, key, expected, within=within)


def _wrong(content: Mapping[str, Any], key: str, expected: str, *, within: str = "") -> AnnotationError:
    found = f"this is {_kind(content[key])}" if key in content else "it is missing"
    return AnnotationError(f"it must be {expected}, {found}", field=f"{within}{key}")


def _unknown(content: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    if len(content) <= len(known) and known.issuperset(content):
        return {}
    return {key: value for key, value in content.items() if key not in known}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {value!r:.40}")
