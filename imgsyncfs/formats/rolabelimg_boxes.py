"""Single objects as the boxes of roLabelImg's XML, and back.

A bounding box is a ``bndbox`` in whole pixels, a rotated box a ``robndbox`` with four decimals, its angle in [0, pi)
with six. There is nothing else: polygons and masks are not shown. Source: ``libs/pascal_voc_io.py`` of roLabelImg,
which is what opens the files.

VOC's ``pose``, ``truncated`` and ``difficult`` live in the object's extra keys of these names, unknown elements in
``rolabelimg``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from lxml import etree

from imgsyncfs.annotations.geometry import reduce_angle
from imgsyncfs.annotations.house_format import (
    BoundingBox,
    LabelledObject,
    RotatedBox,
)
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

EXTRA_NAME = "rolabelimg"

_ROBNDBOX_ELEMENTS = ("cx", "cy", "w", "h", "angle")
_BNDBOX_ELEMENTS = ("xmin", "ymin", "xmax", "ymax")
_BOX_ELEMENTS = {"robndbox": _ROBNDBOX_ELEMENTS, "bndbox": _BNDBOX_ELEMENTS}
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


def escape_xml(text: str) -> str:
    """Escape a text for XML; characters that XML cannot hold become U+FFFD."""
    text = escape(text)
    # All printable characters are possible; looking for the others cost a quarter of a file's time.
    return text if text.isprintable() else _as_read_back(text).replace("\r", "&#13;")


def render_boxes(objects: Sequence[LabelledObject]) -> list[RenderedBox | None]:
    """Return what is shown of these objects; None for polygons and masks, which cannot be shown."""
    rotated = [item.a for item in objects if isinstance(item, RotatedBox)]
    angles = iter(reduce_angle(rotated).tolist() if rotated else ())
    return [_rendered_box(item, next(angles) if isinstance(item, RotatedBox) else 0.0) for item in objects]


def box_to_xml(shown: RenderedBox, embedded: str) -> str:
    """Write an ``object`` element.

    Args:
        shown: what it shows.
        embedded: JSON that the tool ignores.

    Returns:
        Lines of XML, indented by two spaces a level, for the inside of ``annotation``.
    """
    lines = zip(_BOX_ELEMENTS[shown.kind], shown.numbers, strict=True)
    numbers = "".join([f"      <{name}>{number}</{name}>\n" for name, number in lines])
    return (
        "  <object>\n"
        f"    <type>{shown.kind}</type>\n"
        f"    <name>{escape_xml(shown.name)}</name>\n"
        f"    <pose>{escape_xml(shown.pose)}</pose>\n"
        f"    <truncated>{shown.truncated}</truncated>\n"
        f"    <difficult>{shown.difficult}</difficult>\n"
        f"    <{shown.kind}>\n{numbers}    </{shown.kind}>\n"
        f"    <{EMBEDDED_NAME}>{escape_xml(embedded)}</{EMBEDDED_NAME}>\n"
        "  </object>\n"
    )


def read_box(
    element: etree._Element,
    original: PlacedObject | None,
    rendered: RenderedBox | None,
) -> RestoredObject:
    """Read one ``object`` element.

    The child ``bndbox`` or ``robndbox`` decides what it is: ``type`` is missing in labelImg2's files.

    Args:
        element: the element.
        original: the embedded original.
        rendered: what is shown of the original.

    Returns:
        The object: each value as the original has it where it is shown as rendered, else as shown.

    Raises:
        AnnotationError: it has neither box, or a number in it is missing or none.
    """
    robndbox, bndbox = element.find("robndbox"), element.find("bndbox")
    source = original.item if original is not None else None
    item: RotatedBox | BoundingBox
    if robndbox is not None:
        item = _rotated_box(_numbers(robndbox, _ROBNDBOX_ELEMENTS), source, rendered)
    elif bndbox is not None:
        item = _bounding_box(_numbers(bndbox, _BNDBOX_ELEMENTS), source, rendered)
    else:
        raise AnnotationError("it has neither a bndbox nor a robndbox; draw it again")
    class_name = element_text(element, "name").strip()
    if source is not None and rendered is not None and class_name == _as_read_back(rendered.name).strip():
        class_name = source.class_name
    return restored_object(original, item, class_name=class_name, extra=_restored_extra(element, source, rendered))


def box_outline(element: etree._Element) -> Outline:
    """Return what an ``object`` element that parses shows."""
    name = element_text(element, "name").strip()
    for kind, parts in _BOX_ELEMENTS.items():
        box = element.find(kind)
        if box is not None:
            *lengths, last = _numbers(box, parts)
            return Outline(kind, name, (*lengths, last * _PIXELS_PER_RADIAN if kind == "robndbox" else last))
    return Outline("", name, ())


def replace_box(element: etree._Element, rendered: etree._Element) -> None:
    """Give an ``object`` element the box of a rendered one, and what is embedded in that."""
    for kind in _BOX_ELEMENTS:
        shown, exact = element.find(kind), rendered.find(kind)
        if shown is not None and exact is not None:
            element.replace(shown, exact)
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


def _rendered_box(item: LabelledObject, angle: float) -> RenderedBox | None:
    if isinstance(item, RotatedBox):
        kind = "robndbox"
        numbers: tuple[str, ...] = (f"{item.x:.4f}", f"{item.y:.4f}", f"{item.w:.4f}", f"{item.h:.4f}", f"{angle:.6f}")
    elif isinstance(item, BoundingBox):
        kind = "bndbox"
        left, top = round(min(item.x1, item.x2)), round(min(item.y1, item.y2))
        right, bottom = round(max(item.x1, item.x2)), round(max(item.y1, item.y2))
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


def _rotated_box(numbers: Sequence[float], source: LabelledObject | None, rendered: RenderedBox | None) -> RotatedBox:
    x, y, w, h, angle = numbers
    if not isinstance(source, RotatedBox) or rendered is None:
        return RotatedBox("", x, y, w, h, reduce_angle(angle).item())
    before = [float(text) for text in rendered.numbers]
    return restored_rotated_box(numbers, source, before, same_angle=abs(angle - before[4]) <= _ANGLE_TOLERANCE)


def _bounding_box(numbers: Sequence[float], source: LabelledObject | None, rendered: RenderedBox | None) -> BoundingBox:
    left, right = sorted((numbers[0], numbers[2]))
    top, bottom = sorted((numbers[1], numbers[3]))
    if rendered is None:
        return BoundingBox("", left, top, right, bottom)
    return restored_bounding_box((left, top, right, bottom), source, [*map(float, rendered.numbers)])


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
