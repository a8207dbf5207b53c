"""A reader of Pascal VOC's XML that demands what labelImg and programs that train on VOC's files demand together.

Whole numbers in ``bndbox``, one in each object, its corners in order; a ``filename`` with an extension; a ``size`` of
whole numbers; ``truncated`` and ``difficult`` of 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class VocObject:
    """One object: its class and its upright box, as left, top, right, bottom."""

    name: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class VocFile:
    """What a file says."""

    file_name: str
    width: int
    height: int
    objects: tuple[VocObject, ...]


def read_voc(content: bytes) -> VocFile:
    """Read a file; raises `ValueError` where a reader would fail."""
    root = ET.fromstring(content)
    name = _text(root, "filename")
    if root.tag != "annotation" or "." not in name:
        raise ValueError("no annotation, or a filename without extension")
    size = root.find("size")
    if size is None:
        raise ValueError("no size")
    width, height, _ = (int(_text(size, side)) for side in ("width", "height", "depth"))
    return VocFile(name, width, height, tuple(map(_object, root.findall("object"))))


def _object(element: ET.Element) -> VocObject:
    boxes = element.findall("bndbox")
    if len(boxes) != 1:
        raise ValueError(f"{len(boxes)} boxes in an object")
    if {_text(element, "truncated"), _text(element, "difficult")} - {"0", "1"}:
        raise ValueError("a flag is neither 0 nor 1")
    left, top, right, bottom = (int(_text(boxes[0], edge)) for edge in ("xmin", "ymin", "xmax", "ymax"))
    if left > right or top > bottom:
        raise ValueError("a box is inside out")
    return VocObject(_text(element, "name"), (left, top, right, bottom))


def _text(parent: ET.Element, name: str) -> str:
    text = parent.findtext(name)
    if not text:
        raise ValueError(f"no {name}")
    return text
