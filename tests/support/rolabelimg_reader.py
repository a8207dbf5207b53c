"""A reader of annotation XML that is as strict as roLabelImg's own, which has no package to be installed from.

It dies where roLabelImg dies: a number in ``bndbox`` that is not whole, an object without ``type`` or ``name``, a file
without ``filename``. The corners are worked out as roLabelImg does it, which is not how this project does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class RolabelimgShape:
    """What roLabelImg draws: corners go round from the top left of the unturned box."""

    label: str
    corners: tuple[tuple[float, float], ...]
    angle: float
    is_rotated: bool
    difficult: bool


def read_rolabelimg(source: Path | bytes) -> list[RolabelimgShape]:
    """Read a file, or its content, in its order; raises whatever roLabelImg would."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    root = ET.fromstring(content)
    if root.tag != "annotation" or not text_of(root, "filename"):
        raise ValueError("no annotation, or no filename")
    return [shape_of(element) for element in root.findall("object")]


def is_verified(content: bytes) -> bool:
    """Whether roLabelImg shows the image on green ground."""
    return ET.fromstring(content).attrib["verified"] == "yes"


def shape_of(element: ET.Element) -> RolabelimgShape:
    """One object; its type decides, not its children."""
    kind = text_of(element, "type")
    label = text_of(element, "name")
    if not label:
        raise ValueError("an object without a name")
    difficult = bool(int(text_of(element, "difficult")))
    if kind == "bndbox":
        box = child_of(element, "bndbox")
        left, top, right, bottom = (int(text_of(box, name)) for name in ("xmin", "ymin", "xmax", "ymax"))
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        return RolabelimgShape(label, corners, 0.0, is_rotated=False, difficult=difficult)
    if kind == "robndbox":
        box = child_of(element, "robndbox")
        x, y, w, h, angle = (float(text_of(box, name)) for name in ("cx", "cy", "w", "h", "angle"))
        offsets = ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
        turned = [complex(*offset) * complex(math.cos(angle), math.sin(angle)) for offset in offsets]
        places = tuple((x + corner.real, y + corner.imag) for corner in turned)
        return RolabelimgShape(label, places, angle, is_rotated=True, difficult=difficult)
    raise ValueError(f"an object of type {kind!r}, which roLabelImg leaves out")


def child_of(element: ET.Element, name: str) -> ET.Element:
    """A child that must be there."""
    child = element.find(name)
    if child is None:
        raise ValueError(f"no {name}")
    return child


def text_of(element: ET.Element, name: str) -> str:
    """The text of a child that must be there."""
    return child_of(element, name).text or ""
