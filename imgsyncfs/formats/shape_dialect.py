"""What tells apart the tools that write JSON with ``shapes``: labelme, and those that began as copies of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from imgsyncfs.formats.originals import EMBEDDED_NAME

ORDER_KEY = "shapes"
"""A key that no file can add to the unknown ones, since it is known."""

PATH_KEY = "imagePath"
"""Likewise; keeps the path of an image that does not lie beside its annotation."""

CHECKED_KEY = "checked"
"""Says whether somebody has checked a file, where the tool has that."""

FILE_KEYS = frozenset(
    {"version", "flags", ORDER_KEY, PATH_KEY, "imageData", "imageHeight", "imageWidth", EMBEDDED_NAME}
)
"""The keys of a file that every tool knows."""


def _takes_all(key: str, value: Any) -> bool:  # noqa: ARG001 - as the others are called
    return True


@dataclass(frozen=True)
class ShapeDialect:
    """How one tool writes shapes, and what it takes.

    Attributes:
        tool: its name in prose.
        version: what its files are rendered with.
        rotated_type: the type of the shape that shows a rotated box.
        rectangle_corners: how many corners a ``rectangle`` has: two opposite ones, or all.
        has_masks: whether there are shapes of type ``mask``.
        name: what is embedded in its files says that they were rendered for it; empty for labelme.
        has_checked: whether a file says if somebody has ``checked`` it: true, false or ``failed``.
        has_difficult: whether a shape says if it is ``difficult``, which an object keeps under the key that
            roLabelImg's objects have for it.
        outline_types: further types of closed outlines, by how many corners they have.
        point_counts: how many points the tool takes in a shape of each type that the house format has no object for.
        file_keys: the keys of a file that are known.
        silent_file_keys: keys that the tool adds to a file when it saves, with the values that say nothing.
        silent_keys: likewise to each shape.
        dropped_keys: keys of shapes that the tool drops when it saves.
        is_taken: whether the tool takes a file in which a shape has this key with this value.
        is_file_key_taken: whether it takes, and saves unchanged, a file that has this key with this value.
    """

    tool: str
    version: str
    rotated_type: Literal["polygon", "rotation"]
    rectangle_corners: Literal[2, 4]
    has_masks: bool
    name: str = ""
    has_checked: bool = False
    has_difficult: bool = False
    outline_types: Mapping[str, int] = field(default_factory=dict)
    point_counts: Mapping[str, range] = field(default_factory=dict)
    file_keys: frozenset[str] = FILE_KEYS
    silent_file_keys: Mapping[str, Any] = field(default_factory=dict)
    silent_keys: Mapping[str, Any] = field(default_factory=dict)
    dropped_keys: frozenset[str] = frozenset()
    is_taken: Callable[[str, Any], bool] = _takes_all
    is_file_key_taken: Callable[[str, Any], bool] = _takes_all


LABELME = ShapeDialect(
    tool="labelme",
    # Any text is taken by any version, and this one has all that is written here.
    version="5.5.0",
    rotated_type="polygon",
    rectangle_corners=2,
    has_masks=True,
    point_counts=MappingProxyType(
        {
            "point": range(1, 2),
            "points": range(1, 1 << 62),
            "circle": range(2, 3),
            "line": range(2, 3),
            "linestrip": range(1, 1 << 62),
        }
    ),
    is_taken=lambda key, value: key != "locked" or isinstance(value, bool),
)
