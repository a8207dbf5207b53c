"""Single boxes as ``object`` elements of roLabelImg's XML, and back.

What roLabelImg itself changes when it saves is no edit: an edge left of or above pixel 1 comes to lie there,
``truncated`` becomes whether a bounding box touches the picture's edge, and ``pose`` becomes ``Unspecified``. Source:
``libs/labelFile.py`` and ``libs/pascal_voc_io.py`` of roLabelImg; labelImg does the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from math import isfinite
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from lxml import etree

from imgsyncfs.annotations.geometry import reduce_angle, shown_corners
from imgsyncfs.annotations.house_format import BoundingBox, LabelledObject, RotatedBox
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    UNNAMED,
    Outline,
    PlacedObject,
    RestoredObject,
    restored_bounding_box,
    restored_object,
    restored_rotated_box,
)
from imgsyncfs.formats.stored_frame import StoredFrame

EXTRA_NAME = "rolabelimg"

_ROBNDBOX_ELEMENTS = ("cx", "cy", "w", "h", "angle")
_BNDBOX_ELEMENTS = ("xmin", "ymin", "xmax", "ymax")
_BOX_ELEMENTS = {"robndbox": _ROBNDBOX_ELEMENTS, "bndbox": _BNDBOX_ELEMENTS}
_FIRST_PIXEL = 1
"""roLabelImg writes no edge left of or above this one."""
_PIXELS_PER_RADIAN = 100.0
"""In an outline, an angle is judged by how far it moves a corner at this distance."""
_ANGLE_TOLERANCE = 0.5e-6  # half of the last digit that is written
_DEFAULT_POSE = "Unspecified"
_OBJECT_ELEMENTS = frozenset({"type", "name", "pose", "truncated", "difficult", "bndbox", "robndbox", EMBEDDED_NAME})

# What XML 1.0 cannot hold.
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class RenderedBox(NamedTuple):
    """What a file shows of an object: `kind` is ``bndbox`` or ``robndbox``, `numbers` the texts of its elements."""

    kind: str
    name: str
    pose: str
    truncated: int
    difficult: int
    numbers: tuple[str, ...]


def render_boxes(objects: Sequence[LabelledObject], frame: StoredFrame) -> list[RenderedBox | None]:
    """Return what is shown of these objects; None for polygons and masks, which cannot be shown.

    Args:
        objects: in the pixels of the turned picture.
        frame: the stored pixels.
    """
    rotated = [frame.angle_to_stored(item.a) for item in objects if isinstance(item, RotatedBox)]
    angles = iter(reduce_angle(rotated).tolist() if rotated else ())
    return [_rendered_box(item, next(angles) if isinstance(item, RotatedBox) else 0.0, frame) for item in objects]


def box_to_xml(shown: RenderedBox, embedded: str, *, around: Sequence[int] | None = None) -> str:
    """Write an ``object`` element for the inside of ``annotation``.

    Args:
        shown: the box.
        embedded: JSON that the tool ignores.
        around: (left, top, right, bottom) of a ``bndbox`` to stand before a ``robndbox``, for readers of VOC's files,
            which know no ``type``; None for roLabelImg, which has either.
    """
    type_ = f"    <type>{shown.kind}</type>\n" if around is None else ""
    upright = _numbers_to_xml("bndbox", around) if around is not None and shown.kind != "bndbox" else ""
    return (
        f"  <object>\n{type_}"
        f"    <name>{escape_xml(shown.name)}</name>\n"
        f"    <pose>{escape_xml(shown.pose)}</pose>\n"
        f"    <truncated>{shown.truncated}</truncated>\n"
        f"    <difficult>{shown.difficult}</difficult>\n"
        f"{upright}{_numbers_to_xml(shown.kind, shown.numbers)}"
        f"    <{EMBEDDED_NAME}>{escape_xml(embedded)}</{EMBEDDED_NAME}>\n"
        "  </object>\n"
    )


def read_box(
    element: etree._Element, original: PlacedObject | None, rendered: RenderedBox | None, frame: StoredFrame
) -> RestoredObject:
    """Read one ``object`` element, given what is embedded in it and how that was rendered.

    The child ``bndbox`` or ``robndbox`` decides what it is: ``type`` is missing in labelImg2's files. Each value is the
    original's where it is shown as rendered, else the shown one.

    Raises:
        AnnotationError: it holds no box, or one of its numbers is none.
    """
    robndbox, bndbox = element.find("robndbox"), element.find("bndbox")
    source = original.item if original is not None else None
    item: RotatedBox | BoundingBox
    if robndbox is not None:
        item = _rotated_box(_numbers(robndbox, _ROBNDBOX_ELEMENTS), source, rendered, frame)
    elif bndbox is not None:
        item = _bounding_box(_numbers(bndbox, _BNDBOX_ELEMENTS), source, rendered, frame)
    else:
        raise AnnotationError("it has neither a bndbox nor a robndbox; draw it again")
    class_name = element_text(element, "name").strip()
    if source is not None and rendered is not None and _is_same_name(class_name, rendered.name):
        class_name = source.class_name
    return restored_object(original, item, class_name=class_name, extra=_restored_extra(element, source, rendered))


def box_outline(element: etree._Element) -> Outline:
    """Return what an ``object`` element that parses shows, once roLabelImg has saved it."""
    name = _with_one_line_end(element_text(element, "name").strip())
    for kind, parts in _BOX_ELEMENTS.items():
        box = element.find(kind)
        if box is None:
            continue
        numbers = _numbers(box, parts)
        if kind == "robndbox":
            x, y, w, h, angle = numbers
            return Outline(kind, name, (x, y, w, h, angle * _PIXELS_PER_RADIAN), (x, y, w, h))
        left, right = _saved_edges(numbers[0], numbers[2])
        top, bottom = _saved_edges(numbers[1], numbers[3])
        around = (left / 2 + right / 2, top / 2 + bottom / 2, right - left, bottom - top)
        return Outline(kind, name, (left, top, right, bottom), around)
    return Outline("", name, ())


def reattach_box(
    element: etree._Element, rendered: etree._Element, *, is_moved: bool, size: tuple[int | None, int | None]
) -> None:
    """Give an ``object`` element what is embedded in a rendered one, and undo what roLabelImg changed when it saved.

    Args:
        element: as roLabelImg saved it.
        rendered: the same object as it was rendered.
        is_moved: whether the box is another one; only what roLabelImg alone changes in it comes back then.
        size: (height, width) in the file, in pixels.
    """
    touches = _touches_edge(element, size)
    for kind in _BOX_ELEMENTS:
        shown, exact = element.find(kind), rendered.find(kind)
        if shown is not None and exact is not None:
            if is_moved:
                _restore_first_pixel(shown, exact)
            else:
                element.replace(shown, exact)
    if element_text(element, "pose").strip() in ("", _DEFAULT_POSE):
        _take_over(element, rendered, "pose")
    if _flag(element, "truncated") == int(touches):
        _take_over(element, rendered, "truncated")
    element.extend(rendered.findall(EMBEDDED_NAME))


def element_text(parent: etree._Element, name: str) -> str:
    """Return the text of a child element, empty if there is none."""
    return parent.findtext(name) or ""


def unknown_elements(parent: etree._Element, known: Collection[str] = ()) -> dict[str, Any]:
    """Return child elements as JSON, without `known` ones: texts, objects of their children, lists of repeated ones."""
    contents: dict[str, list[Any]] = {}
    for child in parent:
        if isinstance(child.tag, str) and child.tag not in known:  # comments have no name
            contents.setdefault(child.tag, []).append(unknown_elements(child) or child.text or "")
    return {name: values[0] if len(values) == 1 else values for name, values in contents.items()}


def escape_xml(text: str) -> str:
    """Escape a text for XML; characters that XML cannot hold become U+FFFD."""
    text = escape(text)
    # All printable characters are possible; looking for the others cost a quarter of a file's time.
    return text if text.isprintable() else _as_read_back(text).replace("\r", "&#13;")


def restore_rotated_boxes(saved: Sequence[etree._Element], rendered: Sequence[etree._Element]) -> None:
    """Give ``object`` elements that a tool for upright boxes saved the ``robndbox`` back that stood beside their box.

    Args:
        saved: objects without what was embedded in them. One whose ``bndbox`` is the one around a rotated box of the
            same class was left as it was.
        rendered: the objects that they may have been rendered as.
    """
    rotated: dict[tuple[str, tuple[int, ...]], list[etree._Element]] = {}
    for element in rendered:
        box = element.find("robndbox")
        if box is not None:
            (edges,) = enclosing_edges([_numbers(box, _ROBNDBOX_ELEMENTS)])
            if edges is not None:
                rotated.setdefault((element_text(element, "name").strip(), _from_first_pixel(edges)), []).append(box)
    for element in saved if rotated else ():
        upright = element.find("bndbox")
        if upright is None or element.find("robndbox") is not None:
            continue
        around = _from_first_pixel([*map(round, _numbers(upright, _BNDBOX_ELEMENTS))])
        same = rotated.get((element_text(element, "name").strip(), around))
        if same:
            element.append(deepcopy(same.pop(0)))


def enclosing_edges(boxes: Sequence[Sequence[float]]) -> list[tuple[int, ...] | None]:
    """Return (left, top, right, bottom) of the upright boxes around rotated ones, in whole pixels.

    Args:
        boxes: (x, y, w, h, a) each.

    Returns:
        None for a box whose corners lie beyond the largest number.
    """
    if not boxes:
        return []
    places = shown_corners(boxes)
    edges = np.concatenate([places.min(axis=1), places.max(axis=1)], axis=1)
    known = np.isfinite(edges).all(axis=1).tolist()
    return [tuple(map(round, each)) if is_known else None for each, is_known in zip(edges.tolist(), known, strict=True)]


def _numbers_to_xml(kind: str, numbers: Sequence[object]) -> str:
    lines = zip(_BOX_ELEMENTS[kind], numbers, strict=True)
    inside = "".join([f"      <{name}>{number}</{name}>\n" for name, number in lines])
    return f"    <{kind}>\n{inside}    </{kind}>\n"


def _rendered_box(item: LabelledObject, angle: float, frame: StoredFrame) -> RenderedBox | None:
    if isinstance(item, RotatedBox):
        kind = "robndbox"
        x, y = frame.to_stored(item.x, item.y)
        numbers: tuple[str, ...] = (f"{x:.4f}", f"{y:.4f}", f"{item.w:.4f}", f"{item.h:.4f}", f"{angle:.6f}")
    elif isinstance(item, BoundingBox):
        kind = "bndbox"
        (one_x, one_y), (other_x, other_y) = frame.to_stored(item.x1, item.y1), frame.to_stored(item.x2, item.y2)
        left, top = round(min(one_x, other_x)), round(min(one_y, other_y))
        right, bottom = round(max(one_x, other_x)), round(max(one_y, other_y))
        numbers = (str(left), str(top), str(right), str(bottom))
    else:
        return None
    name = item.class_name if item.class_name.strip() else UNNAMED
    if not item.extra:
        return RenderedBox(kind, name, _DEFAULT_POSE, 0, 0, numbers)
    pose = item.extra.get("pose")
    return RenderedBox(
        kind,
        name,
        pose if isinstance(pose, str) and pose.strip() else _DEFAULT_POSE,
        int(item.extra.get("truncated") in (1, True, "1")),
        int(item.extra.get("difficult") in (1, True, "1")),
        numbers,
    )


def _as_read_back(text: str) -> str:
    """The text as it comes back from a file."""
    return _NOT_XML.sub("\ufffd", text)


def _is_same_name(shown: str, rendered: str) -> bool:
    """Whether a class is shown as it was rendered; a carriage return that a tool wrote is read as the end of a line."""
    return _with_one_line_end(shown) == _with_one_line_end(_as_read_back(rendered).strip())


def _with_one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _numbers(parent: etree._Element, names: Sequence[str]) -> list[float]:
    numbers = []
    for name in names:
        text = element_text(parent, name)
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            found = f"this is {text.strip()!r:.40}" if text.strip() else "it is missing"
            raise AnnotationError(f"it must be a finite number, {found}", field=f"{parent.tag}.{name}")
        numbers.append(number)
    return numbers


def _rotated_box(
    numbers: Sequence[float], source: LabelledObject | None, rendered: RenderedBox | None, frame: StoredFrame
) -> RotatedBox:
    shown = _turned(numbers, frame)
    if not isinstance(source, RotatedBox) or rendered is None:
        x, y, w, h, angle = shown
        return RotatedBox("", x, y, w, h, reduce_angle(angle).item())
    before = [float(text) for text in rendered.numbers]
    same_angle = abs(numbers[4] - before[4]) <= _ANGLE_TOLERANCE
    return restored_rotated_box(shown, source, _turned(before, frame), same_angle=same_angle)


def _turned(numbers: Sequence[float], frame: StoredFrame) -> tuple[float, ...]:
    x, y, w, h, angle = numbers
    return (*frame.to_turned(x, y), w, h, frame.angle_to_turned(angle))


def _bounding_box(
    numbers: Sequence[float], source: LabelledObject | None, rendered: RenderedBox | None, frame: StoredFrame
) -> BoundingBox:
    shown = _turned_edges(numbers, frame)
    if rendered is None:
        return BoundingBox("", *shown)
    return restored_bounding_box(shown, source, _turned_edges([*map(float, rendered.numbers)], frame))


def _turned_edges(numbers: Sequence[float], frame: StoredFrame) -> tuple[float, float, float, float]:
    one, other = frame.to_turned(numbers[0], numbers[1]), frame.to_turned(numbers[2], numbers[3])
    (left, right), (top, bottom) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return left, top, right, bottom


def _restored_extra(
    element: etree._Element,
    source: LabelledObject | None,
    rendered: RenderedBox | None,
) -> Mapping[str, Any]:
    """The original's extra keys, and over them what the file says otherwise."""
    shown = {
        "pose": element_text(element, "pose").strip() or _DEFAULT_POSE,
        "truncated": _flag(element, "truncated"),
        "difficult": _flag(element, "difficult"),
    }
    before = {"pose": _DEFAULT_POSE, "truncated": 0, "difficult": 0}
    if rendered is not None:
        before = {
            "pose": _as_read_back(rendered.pose).strip(),
            "truncated": rendered.truncated,
            "difficult": rendered.difficult,
        }
    changed: dict[str, Any] = {key: value for key, value in shown.items() if value != before[key]}
    unknown = unknown_elements(element, _OBJECT_ELEMENTS)
    if unknown:
        changed[EXTRA_NAME] = unknown
    if source is None:
        return changed
    return {**source.extra, **changed} if changed else source.extra


def _flag(element: etree._Element, name: str) -> int:
    return int(element_text(element, name).strip().lower() in {"1", "true", "yes"})


def _touches_edge(element: etree._Element, size: tuple[int | None, int | None]) -> bool:
    """Whether roLabelImg takes a box for truncated."""
    bndbox = element.find("bndbox")
    if bndbox is None or element.find("robndbox") is not None:
        return False
    left, top, right, bottom = map(int, _numbers(bndbox, _BNDBOX_ELEMENTS))
    height, width = size
    return bottom == height or top == _FIRST_PIXEL or right == width or left == _FIRST_PIXEL


def _saved_edges(low: float, high: float) -> tuple[float, float]:
    """Two opposite edges as roLabelImg saves them; one box that lies left of the first pixel is then inside out."""
    if low > high and low != _FIRST_PIXEL:
        low, high = high, low
    return max(low, _FIRST_PIXEL), high


def _from_first_pixel(edges: Sequence[int]) -> tuple[int, ...]:
    """Edges as labelImg and roLabelImg save them, so that what they move is no difference."""
    left, top, right, bottom = edges
    return max(left, _FIRST_PIXEL), max(top, _FIRST_PIXEL), right, bottom


def _restore_first_pixel(shown: etree._Element, rendered: etree._Element) -> None:
    for name in ("xmin", "ymin") if shown.tag == "bndbox" else ():
        number = shown.find(name)
        before = element_text(rendered, name)
        if number is not None and float(element_text(shown, name)) == _FIRST_PIXEL and float(before) < _FIRST_PIXEL:
            number.text = before


def _take_over(element: etree._Element, rendered: etree._Element, name: str) -> None:
    child = element.find(name)
    if child is None:
        child = etree.SubElement(element, name)
    child.text = element_text(rendered, name)
