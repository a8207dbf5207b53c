"""Put back into a tool's file what travelled along in it and was dropped when the tool saved.

roLabelImg writes its files anew, and so do labelme's oldest version and other programs: then the exact values, and
all that the tool does not show, are gone from the file. Where the annotation that it was rendered from is still
there, they need not be lost: what the file shows as that annotation would be shown is that annotation's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import floor, isfinite
from typing import Any, NamedTuple

import orjson
from lxml import etree

from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.formats.originals import CARRIED_NAME
from imgsyncfs.formats.registry import FORMATS, ImageInfo
from imgsyncfs.tools.convert.conversion import read_xml

_UNMOVED_PIXELS = 0.005
"""Tools compute a box anew from its corners; a hand moves nothing by less."""
_PIXELS_A_RADIAN = 100.0
"""An angle is judged by how far it moves a corner at this distance."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BOX_ELEMENTS = {"robndbox": ("cx", "cy", "w", "h", "angle"), "bndbox": ("xmin", "ymin", "xmax", "ymax")}


class _Outline(NamedTuple):
    """What a file shows of an object: its kind, its class, and all its numbers in order."""

    kind: str
    name: str
    numbers: tuple[float, ...]


def reattached(name: str, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
    """Put back what a tool dropped.

    Args:
        name: the format, a key of `imgsyncfs.formats.registry.FORMATS`.
        content: a file of that format that parses.
        original: the annotation that it was probably rendered from.
        image: the image that both belong to.

    Returns:
        The file with what it would carry had the tool kept it; the same bytes if it still carries that. Objects that
        are shown within 0.005 pixels of where the original's are count as left where they were.
    """
    if name == "labelme":
        return _reattached_json(content, original, image)
    if name == "rolabelimg":
        return _reattached_xml(content, original, image)
    return content


def _reattached_json(content: bytes, original: Annotation, image: ImageInfo) -> bytes:
    document = orjson.loads(content.removeprefix(_BYTE_ORDER_MARK))
    bare = [shape for shape in document["shapes"] if CARRIED_NAME not in shape]
    if CARRIED_NAME in document and not bare:
        return content
    rendered = orjson.loads(FORMATS["labelme"].render(original, image).content)
    if document.setdefault(CARRIED_NAME, rendered[CARRIED_NAME]) != rendered[CARRIED_NAME]:
        return content  # it was rendered from another annotation
    taken = [shape[CARRIED_NAME]["at"] for shape in document["shapes"] if CARRIED_NAME in shape]
    free = [shape for shape in rendered["shapes"] if shape[CARRIED_NAME]["at"] not in taken]
    for index, origin in _matched([*map(_shape_outline, bare)], [*map(_shape_outline, free)]).items():
        bare[index].update({key: free[origin][key] for key in ("points", CARRIED_NAME)})
    return orjson.dumps(document)


def _reattached_xml(content: bytes, original: Annotation, image: ImageInfo) -> bytes:
    root = read_xml(content)
    objects = root.findall("object")
    bare = [element for element in objects if element.find(CARRIED_NAME) is None]
    if root.find(CARRIED_NAME) is not None and not bare:
        return content
    rendered = read_xml(FORMATS["rolabelimg"].render(original, image).content)
    if root.find(CARRIED_NAME) is None:
        root.extend(rendered.findall(CARRIED_NAME))
    elif _frame_text(root) != _frame_text(rendered):
        return content  # it was rendered from another annotation
    taken = [_place(element) for element in objects if element.find(CARRIED_NAME) is not None]
    free = [element for element in rendered.findall("object") if _place(element) not in taken]
    for index, origin in _matched([*map(_box_outline, bare)], [*map(_box_outline, free)]).items():
        _restore_box(bare[index], free[origin])
    return etree.tostring(root)


def _frame_text(root: Any) -> str:
    return "".join(element.text or "" for element in root.findall(CARRIED_NAME))


def _place(element: Any) -> list[int]:
    place: list[int] = orjson.loads(element.findtext(CARRIED_NAME))["at"]
    return place


def _restore_box(element: Any, rendered: Any) -> None:
    for kind in _BOX_ELEMENTS:
        shown, exact = element.find(kind), rendered.find(kind)
        if shown is not None and exact is not None:
            element.replace(shown, exact)
    element.append(rendered.find(CARRIED_NAME))


def _shape_outline(shape: Mapping[str, Any]) -> _Outline:
    numbers = tuple([number for point in shape["points"] for number in point])
    return _Outline(shape.get("shape_type", "polygon"), shape["label"], numbers)


def _box_outline(element: Any) -> _Outline:
    name = (element.findtext("name") or "").strip()
    for kind, parts in _BOX_ELEMENTS.items():
        box = element.find(kind)
        if box is not None:
            *lengths, last = [float(box.findtext(part)) for part in parts]
            return _Outline(kind, name, (*lengths, last * _PIXELS_A_RADIAN if kind == "robndbox" else last))
    return _Outline("", name, ())


def _matched(found: Sequence[_Outline], rendered: Sequence[_Outline]) -> dict[int, int]:
    """Say which one of `rendered` each one of `found` is, by their indices; those of the same class come first."""
    cells: defaultdict[tuple[str, int, int], list[int]] = defaultdict(list)
    for index, outline in enumerate(rendered):
        cells[_cell(outline)].append(index)
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for same_class in (True, False):
        for index, outline in enumerate(found):
            if index in matches:
                continue
            for origin in _near_indices(outline, cells):
                other = rendered[origin]
                if origin not in taken and (other.name == outline.name or not same_class) and _is_near(outline, other):
                    matches[index] = origin
                    taken.add(origin)
                    break
    return matches


def _cell(outline: _Outline, step: int = 0) -> tuple[str, int, int]:
    """A key that outlines share which may be near each other: comparing all with all takes too long for thousands."""
    first = outline.numbers[0] if outline.numbers and isfinite(outline.numbers[0]) else 0.0
    return outline.kind, len(outline.numbers), floor(first) + step


def _near_indices(outline: _Outline, cells: Mapping[tuple[str, int, int], list[int]]) -> list[int]:
    return [index for step in (-1, 0, 1) for index in cells.get(_cell(outline, step), ())]


def _is_near(one: _Outline, other: _Outline) -> bool:
    return all(abs(a - b) <= _UNMOVED_PIXELS for a, b in zip(one.numbers, other.numbers, strict=True))
