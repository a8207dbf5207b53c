"""Annotations as X-AnyLabeling's JSON, beside an image as ``x.xanylabeling.json``.

Source: ``views/labeling/label_file.py``, ``shape.py`` and ``label_widget.py`` of X-AnyLabeling 4.2.1. It began as a
copy of labelme, and its files look like labelme's, yet neither opens the other's: it refuses a whole file for one shape
of type ``mask``, ``points`` or ``oriented_rectangle``. What is the same is in `imgsyncfs.formats.labelme`; here:

- A rotated box is a ``rotation`` of four points, its ``direction`` the angle of the first edge in [0, 2 pi). A
  rectangle has four points.
- ``checked`` is `Annotation.label_checked`. It is the third key, since the tool reads every file of a folder in steps
  of 8 kB until it has seen it. ``failed`` counts as not checked, and is shown again.
- ``difficult`` of a shape is the object's extra key of this name. ``score``, ``attributes`` and ``kie_linking`` live in
  its extra key ``labelme``, as all that only such tools know.
- A ``quadrilateral`` is read as a polygon and shown as one again; a ``cuboid`` is kept as labelme's circles are.

On saving it adds ``score``, ``difficult``, ``attributes`` and ``kie_linking`` to each shape and ``description`` to the
file, makes floats of integers, and drops ``locked``: that is no edit.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from math import isfinite
from types import MappingProxyType
from typing import Any

import orjson

from imgsyncfs.formats.labelme import LabelmeFormat, rendered_for
from imgsyncfs.formats.shape_dialect import CHECKED_KEY, FILE_KEYS, ShapeDialect

_NAME = "xanylabeling"

_OWN_TYPES = frozenset({"rotation", "quadrilateral", "cuboid"})
"""Types of shapes that labelme has not."""


def _is_taken(key: str, value: Any) -> bool:
    """Whether the tool takes a shape that has this key with this value."""
    if key == "kie_linking":
        # Pairs of whole numbers: anything else makes it refuse the file.
        return isinstance(value, list) and all(
            isinstance(pair, list) and [*map(type, pair)] == [int, int] for pair in value
        )
    if key == "score":
        return type(value) in (int, float) and isfinite(value)
    return key != "attributes" or isinstance(value, dict)


def _is_file_key_taken(key: str, value: Any) -> bool:
    """Whether the tool takes a file that has this key with this value, and saves it unchanged."""
    if key == "tags":
        # Each once, without blanks around it and without line ends.
        return (
            isinstance(value, list)
            and all(isinstance(tag, str) and tag and tag == tag.strip() and not {*"\r\n"} & {*tag} for tag in value)
            and len({*value}) == len(value)
        )
    return key != "description" or isinstance(value, str)


class XanylabelingFormat(LabelmeFormat):
    """X-AnyLabeling's JSON."""

    dialect = ShapeDialect(
        tool="X-AnyLabeling",
        name=_NAME,
        version="4.2.1",
        rotated_type="rotation",
        rectangle_corners=4,
        has_masks=False,
        has_checked=True,
        has_difficult=True,
        outline_types=MappingProxyType({"quadrilateral": 4}),
        point_counts=MappingProxyType(
            {
                "point": range(1, 2),
                "circle": range(2, 3),
                "line": range(2, 3),
                "linestrip": range(1, 1 << 62),
                "cuboid": range(8, 9),
            }
        ),
        file_keys=FILE_KEYS | {CHECKED_KEY},
        silent_file_keys=MappingProxyType({"description": ""}),
        silent_keys=MappingProxyType({"attributes": {}, "kie_linking": []}),
        dropped_keys=frozenset({"locked"}),
        is_taken=_is_taken,
        is_file_key_taken=_is_file_key_taken,
    )

    def recognizes(self, content: bytes) -> bool:
        """Recognize X-AnyLabeling's JSON: labelme's keys and ``checked``, or a shape of a type that labelme has not.

        A file that was rendered for labelme is labelme's, whichever keys an annotation has brought along.
        """
        if not super().recognizes(content):
            return False
        if not any(b'"%s"' % sign.encode() in content for sign in (CHECKED_KEY, *_OWN_TYPES)):
            return False
        try:
            document = orjson.loads(content.removeprefix(BOM_UTF8))
        except orjson.JSONDecodeError:
            # It is damaged, and the third key comes before the shapes.
            return b'"%s"' % CHECKED_KEY.encode() in content.partition(b'"shapes"')[0]
        if not isinstance(document, dict):
            return False
        name = rendered_for(document)
        return name == _NAME if name is not None else CHECKED_KEY in document or _has_own_shape(document.get("shapes"))


def _has_own_shape(shapes: Any) -> bool:
    return isinstance(shapes, list) and any(
        isinstance(shape, dict) and shape.get("shape_type") in _OWN_TYPES for shape in shapes
    )
