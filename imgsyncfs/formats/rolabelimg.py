"""Annotations as roLabelImg's XML, beside an image as ``x.xml``.

Source: ``libs/pascal_voc_io.py`` of roLabelImg. Its reader wants ``filename`` (without extension), ``type``, and
whole numbers in ``bndbox``; its writer puts all ``bndbox`` objects before all ``robndbox`` ones, writes no
declaration, and says ``verified="yes"`` or ``"no"``.

A bounding box is a ``bndbox`` in whole pixels, a rotated box a ``robndbox`` with four decimals, its angle in [0, pi)
with six. Everything else, and all exact numbers, are embedded in elements of their own
(`imgsyncfs.formats.originals`). roLabelImg drops these when it saves: then its file is all there is.

Reading is more tolerant than roLabelImg: ``type`` may be missing, numbers may be of any kind, angles of any size,
``filename`` wrong. VOC's ``pose``, ``truncated`` and ``difficult`` live in the object's extra keys of these names,
unknown elements in ``rolabelimg``. Entities and the network are off, and a file with a document type is refused.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import PureWindowsPath
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import orjson
from lxml import etree

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.geometry import reduce_angle
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, LabelledObject, Polygon, RotatedBox, within
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Rendered
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    UNNAMED,
    ImageSize,
    Outline,
    PlacedObject,
    Remainder,
    RestoredObject,
    count_losses,
    embedded_object,
    embedded_remainder,
    match_outlines,
    placed_objects,
    read_embedded_object,
    read_remainder,
    reassemble,
    restored_bounding_box,
    restored_object,
    restored_rotated_box,
    shown_size,
)

_EXTRA_NAME = "rolabelimg"

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

_LONGEST_TEXT = 1 << 22
"""libxml2 refuses a text of more than 10 MB: what is embedded is cut into elements of this many characters."""

_IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff"})
_FILE_ELEMENTS = frozenset({"folder", "filename", "path", "size", "object", EMBEDDED_NAME})
_DEFAULT_ELEMENTS = {"source": {"database": "Unknown"}, "segmented": "0"}


class _RenderedBox(NamedTuple):
    """What a file shows of an object: `kind` is ``bndbox`` or ``robndbox``, `numbers` the texts of its elements."""

    kind: str
    name: str
    pose: str
    truncated: int
    difficult: int
    numbers: tuple[str, ...]


class RolabelimgFormat(Format):
    """roLabelImg's XML."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`."""
        placed = placed_objects(annotation)
        boxes = _render_boxes([each.item for each in placed])
        elements: dict[str, list[str]] = {"bndbox": [], "robndbox": []}
        hidden: list[PlacedObject] = []
        for each, box in zip(placed, boxes, strict=True):
            if box is None:
                hidden.append(each)
            else:
                embedded = encode_ascii_json(embedded_object(each)).decode("ascii")
                elements[box.kind].append(_box_to_xml(box, embedded))
        size = shown_size(annotation, image)
        remainder = _remainder_elements(embedded_remainder(annotation, hidden, size))
        text = "".join([_header(annotation, image, size), *elements["bndbox"], *elements["robndbox"], *remainder])
        reasons = [_reason_hidden(each.item) for each in hidden]
        losses = count_losses(annotation.labels, reasons, "roLabelImg", shows_classifications=False)
        return Rendered(f"{text}</annotation>\n".encode(), losses)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back; see `Format.parse`. ``verified="yes"`` says that somebody has looked at it."""
        root = _root(content)
        remainder = _read_remainder(root)
        elements = root.findall("object")
        originals = [
            within(_read_embedded_object, element, f"object[{index}]") for index, element in enumerate(elements)
        ]
        boxes = iter(_render_boxes([original.item for original in originals if original is not None]))
        rendered = [next(boxes) if original is not None else None for original in originals]
        objects = [
            within(lambda parts: _read_box(*parts), parts, f"object[{index}]")
            for index, parts in enumerate(zip(elements, originals, rendered, strict=True))
        ]
        verified = root.get("verified") == "yes"
        checked = 1 if verified else label_checked
        annotation = reassemble(remainder, objects, size=_size(root), label_checked=checked)
        if remainder is not None and verified != (remainder.annotation.label_checked == 1):
            annotation = replace(annotation, label_checked=int(verified))
        return _with_file_elements(annotation, remainder, root)

    def recognizes(self, content: bytes) -> bool:
        """Recognize roLabelImg's and VOC's XML: markup with an ``annotation`` element."""
        return content.removeprefix(BOM_UTF8).lstrip().startswith(b"<") and b"<annotation" in content

    def image_reference(self, content: bytes) -> ImageReference:
        """Read what a file says of its image: roLabelImg goes by the file's own name and only mentions others."""
        root = _root(content)
        named = [_element_text(root, name).strip() for name in ("filename", "path")]
        path = PureWindowsPath(_element_text(root, "path").strip() or named[0])
        sizes = [_digits(root.findtext(f"size/{side}")) for side in ("height", "width", "depth")]
        image = ImageInfo(_element_text(root, "folder"), path.stem, path.suffix.removeprefix("."), *sizes)
        return ImageReference(image, mentioned_paths=tuple(filter(None, named)))

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
        """Put back what roLabelImg dropped; see `Format.reattached`."""
        root = _root(content)
        objects = root.findall("object")
        bare = [element for element in objects if element.find(EMBEDDED_NAME) is None]
        if root.find(EMBEDDED_NAME) is not None and not bare:
            return content
        rendered = _root(self.render(original, image).content)
        if root.find(EMBEDDED_NAME) is None:
            root.extend(rendered.findall(EMBEDDED_NAME))
        elif _remainder_text(root) != _remainder_text(rendered):
            return content  # it was rendered from another annotation
        taken = [_place(element) for element in objects if element.find(EMBEDDED_NAME) is not None]
        free = [element for element in rendered.findall("object") if _place(element) not in taken]
        for index, origin in match_outlines([*map(_box_outline, bare)], [*map(_box_outline, free)]).items():
            _replace_box(bare[index], free[origin])
        return etree.tostring(root)


def _header(annotation: Annotation, image: ImageInfo, size: ImageSize) -> str:
    return (
        f'<annotation verified="{"yes" if annotation.label_checked == 1 else "no"}">\n'
        f"  <folder>{_escape_xml(image.dataset)}</folder>\n"
        f"  <filename>{_escape_xml(image.name)}</filename>\n"
        f"  <path>{_escape_xml(image.file_name)}</path>\n"
        "  <source>\n    <database>Unknown</database>\n  </source>\n"
        "  <size>\n"
        f"    <width>{size.width or 0}</width>\n"
        f"    <height>{size.height or 0}</height>\n"
        f"    <depth>{size.depth or 0}</depth>\n"
        "  </size>\n"
        "  <segmented>0</segmented>\n"
    )


def _remainder_elements(remainder: dict[str, Any]) -> Iterator[str]:
    text = encode_ascii_json(remainder).decode("ascii")
    for start in range(0, len(text), _LONGEST_TEXT):
        yield f"  <{EMBEDDED_NAME}>{_escape_xml(text[start : start + _LONGEST_TEXT])}</{EMBEDDED_NAME}>\n"


def _reason_hidden(item: LabelledObject) -> tuple[str, str]:
    return ("polygons" if isinstance(item, Polygon) else "masks"), "roLabelImg shows boxes only"


def _root(content: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(content.removeprefix(BOM_UTF8).lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        # What is in another encoding and says so in its first line was read.
        fault = encoding_fault(content)
        raise AnnotationError(fault or f"it is not valid XML ({error}); save it again with roLabelImg") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise AnnotationError("it has a document type, which may hide entities; remove the DOCTYPE")
    if root.tag != "annotation":
        raise AnnotationError(f"it must be an annotation, this is {str(root.tag)!r:.60}")
    return root


def _read_embedded_object(element: etree._Element) -> PlacedObject | None:
    embedded = element.find(EMBEDDED_NAME)
    if embedded is None:
        return None
    return within(lambda text: read_embedded_object(_json(text)), embedded.text, EMBEDDED_NAME)


def _read_remainder(root: etree._Element) -> Remainder | None:
    if root.find(EMBEDDED_NAME) is None:
        return None
    return within(lambda text: read_remainder(_json(text)), _remainder_text(root), EMBEDDED_NAME)


def _remainder_text(root: etree._Element) -> str:
    return "".join(element.text or "" for element in root.findall(EMBEDDED_NAME))


def _place(element: etree._Element) -> list[int]:
    place: list[int] = _json(element.findtext(EMBEDDED_NAME))["at"]
    return place


def _json(text: str | None) -> Any:
    try:
        return orjson.loads(text or "")
    except orjson.JSONDecodeError as error:
        raise AnnotationError(f"it is not valid JSON ({error}); remove the element to read what is shown") from error


def _size(root: etree._Element) -> ImageSize:
    parent = root.find("size")
    if parent is None:
        return ImageSize()
    return ImageSize(height=_pixels(parent, "height"), width=_pixels(parent, "width"), depth=_pixels(parent, "depth"))


def _pixels(parent: etree._Element, name: str) -> int | None:
    text = _element_text(parent, name).strip()
    if not text or text == "None":
        return None
    try:
        number = float(text)
        if number >= 0 and number == int(number):
            return int(number) or None
    except (ValueError, OverflowError):
        pass
    raise AnnotationError(f"it must be a whole number, this is {text!r:.40}", field=f"size.{name}")


def _digits(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _with_file_elements(annotation: Annotation, remainder: Remainder | None, root: etree._Element) -> Annotation:
    """Add what the file says of itself: unknown elements and, if it has no remainder, the image's extension."""
    unknown = _unknown_elements(root, _FILE_ELEMENTS)
    unknown = {name: content for name, content in unknown.items() if content != _DEFAULT_ELEMENTS.get(name)}
    if unknown:
        annotation = replace(annotation, extra={**annotation.extra, _EXTRA_NAME: unknown})
    return annotation if remainder is not None else replace(annotation, ext=_extension(root))


def _extension(root: etree._Element) -> str | None:
    for name in ("path", "filename"):
        extension = PureWindowsPath(_element_text(root, name).strip()).suffix.removeprefix(".")
        if extension.lower() in _IMAGE_EXTENSIONS:
            return extension
    return None


def _escape_xml(text: str) -> str:
    """Escape a text for XML; characters that XML cannot hold become U+FFFD."""
    text = escape(text)
    # All printable characters are possible; looking for the others cost a quarter of a file's time.
    return text if text.isprintable() else _as_read_back(text).replace("\r", "&#13;")


def _render_boxes(objects: Sequence[LabelledObject]) -> list[_RenderedBox | None]:
    """Return what is shown of these objects; None for polygons and masks, which cannot be shown."""
    rotated = [item.a for item in objects if isinstance(item, RotatedBox)]
    angles = iter(reduce_angle(rotated).tolist() if rotated else ())
    return [_rendered_box(item, next(angles) if isinstance(item, RotatedBox) else 0.0) for item in objects]


def _box_to_xml(shown: _RenderedBox, embedded: str) -> str:
    """Write an ``object`` element for the inside of ``annotation``; `embedded` is JSON that the tool ignores."""
    lines = zip(_BOX_ELEMENTS[shown.kind], shown.numbers, strict=True)
    numbers = "".join([f"      <{name}>{number}</{name}>\n" for name, number in lines])
    return (
        "  <object>\n"
        f"    <type>{shown.kind}</type>\n"
        f"    <name>{_escape_xml(shown.name)}</name>\n"
        f"    <pose>{_escape_xml(shown.pose)}</pose>\n"
        f"    <truncated>{shown.truncated}</truncated>\n"
        f"    <difficult>{shown.difficult}</difficult>\n"
        f"    <{shown.kind}>\n{numbers}    </{shown.kind}>\n"
        f"    <{EMBEDDED_NAME}>{_escape_xml(embedded)}</{EMBEDDED_NAME}>\n"
        "  </object>\n"
    )


def _read_box(
    element: etree._Element,
    original: PlacedObject | None,
    rendered: _RenderedBox | None,
) -> RestoredObject:
    """Read one ``object`` element, given what is embedded in it and how that was rendered.

    The child ``bndbox`` or ``robndbox`` decides what it is: ``type`` is missing in labelImg2's files. Each value is the
    original's where it is shown as rendered, else the shown one.
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
    class_name = _element_text(element, "name").strip()
    if source is not None and rendered is not None and class_name == _as_read_back(rendered.name).strip():
        class_name = source.class_name
    return restored_object(original, item, class_name=class_name, extra=_restored_extra(element, source, rendered))


def _box_outline(element: etree._Element) -> Outline:
    """Return what an ``object`` element that parses shows."""
    name = _element_text(element, "name").strip()
    for kind, parts in _BOX_ELEMENTS.items():
        box = element.find(kind)
        if box is not None:
            *lengths, last = _numbers(box, parts)
            return Outline(kind, name, (*lengths, last * _PIXELS_PER_RADIAN if kind == "robndbox" else last))
    return Outline("", name, ())


def _replace_box(element: etree._Element, rendered: etree._Element) -> None:
    """Give an ``object`` element the box of a rendered one, and what is embedded in that."""
    for kind in _BOX_ELEMENTS:
        shown, exact = element.find(kind), rendered.find(kind)
        if shown is not None and exact is not None:
            element.replace(shown, exact)
    element.extend(rendered.findall(EMBEDDED_NAME))


def _element_text(parent: etree._Element, name: str) -> str:
    """Return the text of a child element, empty if there is none."""
    return parent.findtext(name) or ""


def _unknown_elements(parent: etree._Element, known: Collection[str] = ()) -> dict[str, Any]:
    """Return child elements as JSON, without `known` ones: texts, objects of their children, lists of repeated ones."""
    contents: dict[str, list[Any]] = {}
    for child in parent:
        if isinstance(child.tag, str) and child.tag not in known:  # comments have no name
            contents.setdefault(child.tag, []).append(_unknown_elements(child) or child.text or "")
    return {name: values[0] if len(values) == 1 else values for name, values in contents.items()}


def _rendered_box(item: LabelledObject, angle: float) -> _RenderedBox | None:
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
        return _RenderedBox(kind, name, _DEFAULT_POSE, 0, 0, numbers)
    pose = item.extra.get("pose")
    return _RenderedBox(
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
        text = _element_text(parent, name)
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            found = f"this is {text.strip()!r:.40}" if text.strip() else "it is missing"
            raise AnnotationError(f"it must be a finite number, {found}", field=f"{parent.tag}.{name}")
        numbers.append(number)
    return numbers


def _rotated_box(numbers: Sequence[float], source: LabelledObject | None, rendered: _RenderedBox | None) -> RotatedBox:
    x, y, w, h, angle = numbers
    if not isinstance(source, RotatedBox) or rendered is None:
        return RotatedBox("", x, y, w, h, reduce_angle(angle).item())
    before = [float(text) for text in rendered.numbers]
    return restored_rotated_box(numbers, source, before, same_angle=abs(angle - before[4]) <= _ANGLE_TOLERANCE)


def _bounding_box(
    numbers: Sequence[float], source: LabelledObject | None, rendered: _RenderedBox | None
) -> BoundingBox:
    left, right = sorted((numbers[0], numbers[2]))
    top, bottom = sorted((numbers[1], numbers[3]))
    if rendered is None:
        return BoundingBox("", left, top, right, bottom)
    return restored_bounding_box((left, top, right, bottom), source, [*map(float, rendered.numbers)])


def _restored_extra(
    element: etree._Element,
    source: LabelledObject | None,
    rendered: _RenderedBox | None,
) -> Mapping[str, Any]:
    """The original's extra keys, and over them what the file says otherwise."""
    shown = {
        "pose": _element_text(element, "pose").strip() or _DEFAULT_POSE,
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
    unknown = _unknown_elements(element, _OBJECT_ELEMENTS)
    if unknown:
        changed[_EXTRA_NAME] = unknown
    if source is None:
        return changed
    return {**source.extra, **changed} if changed else source.extra


def _flag(element: etree._Element, name: str) -> int:
    return int(_element_text(element, name).strip().lower() in {"1", "true", "yes"})
