"""What roLabelImg makes of a file when it opens and saves it: only what its window shows, and some of that changed.

After ``libs/labelFile.py`` and ``libs/pascal_voc_io.py``, which have no package to be installed from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

from support.rolabelimg_reader import RolabelimgShape, is_verified, read_rolabelimg

Edit = Callable[[list[RolabelimgShape]], Sequence[RolabelimgShape]]


def save_in_rolabelimg(path: Path, size: tuple[int, int, int], edit: Edit = lambda shapes: shapes) -> None:
    """Open a file, edit its shapes, and save it over itself.

    Args:
        path: of the file.
        size: (height, width, depth) of the image as Qt loads it: not turned by EXIF, with a depth of 1 or 3.
        edit: what somebody does in the window; the shapes are in their order there.
    """
    path.write_bytes(saved_by_rolabelimg(path.read_bytes(), size, edit, name=path.stem, folder=path.parent))


def saved_by_rolabelimg(
    content: bytes,
    size: tuple[int, int, int],
    edit: Edit = lambda shapes: shapes,
    *,
    name: str = "a",
    folder: Path = Path("/data"),
) -> bytes:
    """As `save_in_rolabelimg`, in memory."""
    shapes = edit(read_rolabelimg(content))
    height, width, depth = size
    top = ET.Element("annotation", verified="yes" if is_verified(content) else "no")
    _add(top, "folder", folder.name)
    _add(top, "filename", name)
    _add(top, "path", str(folder / f"{name}.jpg"))
    _add(ET.SubElement(top, "source"), "database", "Unknown")
    sizes = ET.SubElement(top, "size")
    for side, pixels in (("width", width), ("height", height), ("depth", depth)):
        _add(sizes, side, pixels)
    _add(top, "segmented", 0)
    for shape in sorted(shapes, key=lambda shape: shape.is_rotated):
        element = ET.SubElement(top, "object")
        _add(element, "type", "robndbox" if shape.is_rotated else "bndbox")
        _add(element, "name", shape.label)
        _add(element, "pose", "Unspecified")
        box = _upright(shape)
        _add(element, "truncated", 0 if shape.is_rotated else int(_touches(box, height, width)))
        _add(element, "difficult", int(shape.difficult))
        numbers = ET.SubElement(element, "robndbox" if shape.is_rotated else "bndbox")
        shown: Mapping[str, float] = _rotated(shape) if shape.is_rotated else box
        for key, number in shown.items():
            _add(numbers, key, number)
    ET.indent(top)
    return bytes(ET.tostring(top, encoding="utf-8"))


def moved(shape: RolabelimgShape, x: float, y: float) -> RolabelimgShape:
    """A shape that was dragged."""
    return replace(shape, corners=tuple((left + x, top + y) for left, top in shape.corners))


def turned(shape: RolabelimgShape, angle: float) -> RolabelimgShape:
    """A rotated shape that was turned clockwise by some radians."""
    centre = sum(complex(*corner) for corner in shape.corners) / 4
    places = [
        centre + (complex(*corner) - centre) * complex(math.cos(angle), math.sin(angle)) for corner in shape.corners
    ]
    return replace(shape, corners=tuple((place.real, place.imag) for place in places), angle=shape.angle + angle)


def upright(label: str, left: float, top: float, right: float, bottom: float) -> RolabelimgShape:
    """A box that was drawn."""
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return RolabelimgShape(label, corners, 0.0, is_rotated=False, difficult=False)


def _upright(shape: RolabelimgShape) -> dict[str, int]:
    xs, ys = [x for x, _ in shape.corners], [y for _, y in shape.corners]
    return {
        "xmin": int(max(1, min(xs))),
        "ymin": int(max(1, min(ys))),
        "xmax": int(max(xs)),
        "ymax": int(max(ys)),
    }


def _rotated(shape: RolabelimgShape) -> dict[str, float]:
    first, second, third, _ = (complex(*corner) for corner in shape.corners)
    centre = sum(complex(*corner) for corner in shape.corners) / 4
    return {
        "cx": round(centre.real, 4),
        "cy": round(centre.imag, 4),
        "w": round(abs(first - second), 4),
        "h": round(abs(third - second), 4),
        "angle": round(shape.angle % math.pi, 6),
    }


def _touches(box: dict[str, int], height: int, width: int) -> bool:
    return box["ymax"] == height or box["ymin"] == 1 or box["xmax"] == width or box["xmin"] == 1


def _add(parent: ET.Element, name: str, value: object) -> None:
    ET.SubElement(parent, name).text = str(value)
