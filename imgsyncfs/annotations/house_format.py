"""The house format: one image's annotation read from and written to JSON.

Source: the users' own files, ``anno_version`` 0.2.0. Pixel coordinates, x to the right, y down; a rotated box is (x,
y, w, h, a) with ``a`` in radians, clockwise on screen. Whatever this module does not know (keys, whole labels) is
kept as it came: nothing in a file is lost between `parse_annotation` and `dump_annotation`, and an integer stays an
integer, a float a float.

The reader is tolerant where that harms no one (a missing ``depth``), strict where a wrong number would be shown (a
missing ``x``). Numbers beyond 64 bits are read as floats; NaN, infinity and a number no double can hold are refused.
"""

from __future__ import annotations

from typing import Any

import orjson

from imgsyncfs.annotations.house_json import annotation_from_json, annotation_to_json
from imgsyncfs.annotations.labels import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.errors import AnnotationError

__all__ = [
    "Annotation",
    "BoundingBox",
    "ClassificationLabel",
    "Label",
    "LabelledObject",
    "Mask",
    "ObjectLabel",
    "Polygon",
    "RegressionLabel",
    "RotatedBox",
    "UnknownLabel",
    "dump_annotation",
    "encode_json",
    "is_annotation",
    "parse_annotation",
]

_UTF8_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_annotation(content: bytes) -> bool:
    """Tell a house annotation from other JSON, cheaply.

    Args:
        content: a file's bytes.

    Returns:
        True for a JSON object with ``anno_version``, and for one that names it but is damaged: `parse_annotation`
        then says where.
    """
    if b'"anno_version"' not in content:
        return False
    try:
        document = orjson.loads(content.removeprefix(_UTF8_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        # labelme's files, which may carry an annotation within, have "shapes".
        return content.removeprefix(_UTF8_BYTE_ORDER_MARK).lstrip()[:1] == b"{" and b'"shapes"' not in content
    return isinstance(document, dict) and "anno_version" in document


def parse_annotation(content: bytes) -> Annotation:
    """Read a house annotation.

    Args:
        content: UTF-8 JSON, with or without a byte order mark.

    Returns:
        The annotation; `dump_annotation` of it holds all that `content` held.

    Raises:
        AnnotationError: it does not parse; `field` says where, for example ``labels[0].object[3].w``.
    """
    try:
        document = orjson.loads(content.removeprefix(_UTF8_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise AnnotationError(f"it is not valid JSON ({error}); write it again") from error
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
