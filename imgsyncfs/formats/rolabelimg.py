"""Annotations as roLabelImg's XML, beside an image as ``x.xml``.

Source: ``libs/pascal_voc_io.py`` of roLabelImg. Its reader wants ``filename`` (without extension), ``type``, and
whole numbers in ``bndbox``; its writer puts all ``bndbox`` objects before all ``robndbox`` ones, writes no
declaration, and says ``verified="yes"`` or ``"no"``.

A bounding box is a ``bndbox`` in whole pixels, a rotated box a ``robndbox`` with four decimals, its angle in [0, pi)
with six. Everything else, and all exact numbers, are embedded in elements of their own
(`imgsyncfs.formats.originals`). roLabelImg drops these when it saves: `Format.reattached` puts them back.

roLabelImg shows a photo as it is stored, without the rotation that EXIF asks for: its file has the coordinates and the
size of that (`imgsyncfs.formats.stored_frame`). labelImg turns photos; a file from elsewhere is of the one or the other
by its size, and where that does not tell, by the element ``type``, which only roLabelImg writes.

Reading is more tolerant than roLabelImg: ``type`` may be missing, numbers may be of any kind, angles of any size,
``filename`` wrong. VOC's ``pose``, ``truncated`` and ``difficult`` live in the object's extra keys of these names,
unknown elements in ``rolabelimg``. Entities and the network are off, and a file with a document type is refused.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import Any

import orjson
from lxml import etree

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import Annotation, LabelledObject, Polygon, within
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Reading, Rendered
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    ImageSize,
    PlacedObject,
    Remainder,
    embedded_object,
    embedded_remainder,
    match_moved,
    match_outlines,
    placed_objects,
    read_embedded_object,
    read_remainder,
    reassemble,
    shown_size,
)
from imgsyncfs.formats.remarks import count_losses
from imgsyncfs.formats.rolabelimg_boxes import (
    EXTRA_NAME,
    box_outline,
    box_to_xml,
    element_text,
    escape_xml,
    read_box,
    reattach_box,
    render_boxes,
    restore_rotated_boxes,
    unknown_elements,
)
from imgsyncfs.formats.stored_frame import StoredFrame, stored_size

_LONGEST_TEXT = 1 << 22
"""libxml2 refuses a text of more than 10 MB: what is embedded is cut into elements of this many characters."""

_IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff"})
_FILE_ELEMENTS = frozenset({"folder", "filename", "path", "size", "object", EMBEDDED_NAME})
_DEFAULT_ELEMENTS = {"source": {"database": "Unknown"}, "segmented": "0"}


class RolabelimgFormat(Format):
    """roLabelImg's XML."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`."""
        placed = placed_objects(annotation)
        size = shown_size(annotation, image)
        frame = _frame(image.orientation, size)
        boxes = render_boxes([each.item for each in placed], frame)
        elements: dict[str, list[str]] = {"bndbox": [], "robndbox": []}
        hidden: list[PlacedObject] = []
        for each, box in zip(placed, boxes, strict=True):
            if box is None:
                hidden.append(each)
            else:
                embedded = encode_ascii_json(embedded_object(each)).decode("ascii")
                elements[box.kind].append(box_to_xml(box, embedded))
        remainder = remainder_to_xml(embedded_remainder(annotation, hidden, size, orientation=frame.orientation))
        header = header_to_xml(annotation, image, _stored(frame.orientation, size), file_name=image.name)
        text = "".join([header, *elements["bndbox"], *elements["robndbox"], *remainder])
        reasons = [reason_hidden(each.item, "roLabelImg") for each in hidden]
        losses = count_losses(annotation.labels, reasons, "roLabelImg", shows_classifications=False)
        return Rendered(f"{text}</annotation>\n".encode(), losses)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back; see `Format.parse`. ``verified="yes"`` says that somebody has looked at it."""
        return self.read(content, label_checked=label_checked).annotation

    def read(self, content: bytes, *, label_checked: int = 1, image: ImageInfo | None = None) -> Reading:
        """Read an annotation back; see `Format.read`."""
        root = _root(content)
        remainder = _read_remainder(root)
        if remainder is not None:
            orientation = remainder.orientation
        else:
            orientation = image.orientation if image is not None and _shows_stored_pixels(root, image) else 1
        size = _stored(orientation, _size(root))
        frame = _frame(orientation, size)
        elements = root.findall("object")
        originals = [
            within(_read_embedded_object, element, f"object[{index}]") for index, element in enumerate(elements)
        ]
        boxes = iter(render_boxes([original.item for original in originals if original is not None], frame))
        rendered = [next(boxes) if original is not None else None for original in originals]
        objects = [
            within(lambda parts: read_box(*parts, frame), parts, f"object[{index}]")
            for index, parts in enumerate(zip(elements, originals, rendered, strict=True))
        ]
        verified = root.get("verified") == "yes"
        if verified or (remainder is None and "verified" in root.attrib):
            label_checked = int(verified)
        annotation = reassemble(remainder, objects, size=size, label_checked=label_checked)
        if remainder is not None and verified != (remainder.annotation.label_checked == 1):
            annotation = replace(annotation, label_checked=int(verified))
        return Reading(_with_file_elements(annotation, remainder, root))

    def recognizes(self, content: bytes) -> bool:
        """Recognize roLabelImg's and VOC's XML: markup with an ``annotation`` element."""
        return content.removeprefix(BOM_UTF8).lstrip().startswith(b"<") and b"<annotation" in content

    def image_reference(self, content: bytes) -> ImageReference:
        """Read what a file says of its image: roLabelImg goes by the file's own name and only mentions others."""
        root = _root(content)
        named = [element_text(root, name).strip() for name in ("filename", "path")]
        path = PureWindowsPath(element_text(root, "path").strip() or named[0])
        height, width, depth = (_digits(root.findtext(f"size/{side}")) for side in ("height", "width", "depth"))
        remainder = _read_remainder(root)
        orientation = 1 if remainder is None else remainder.orientation
        height, width = stored_size(orientation, height, width)
        image = ImageInfo(
            element_text(root, "folder"),
            path.stem,
            path.suffix.removeprefix("."),
            height,
            width,
            depth,
            orientation=orientation,
        )
        return ImageReference(image, mentioned_paths=tuple(filter(None, named)))

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
        """Put back what roLabelImg dropped; see `Format.reattached`."""
        root = _root(content)
        objects = root.findall("object")
        bare = [element for element in objects if element.find(EMBEDDED_NAME) is None]
        if root.find(EMBEDDED_NAME) is not None and not bare:
            return content
        shown = shown_size(original, image)
        if not _shows_stored_pixels(root, replace(image, height=shown.height, width=shown.width)):
            image = replace(image, orientation=1)
        rendered = _root(self.render(original, image).content)
        if root.find(EMBEDDED_NAME) is None:
            root.extend(rendered.findall(EMBEDDED_NAME))
            _take_over_depth(root, rendered)
        elif _remainder_text(root) != _remainder_text(rendered):
            return content  # it was rendered from another annotation
        taken = [_place(element) for element in objects if element.find(EMBEDDED_NAME) is not None]
        free = [element for element in rendered.findall("object") if _place(element) not in taken]
        restore_rotated_boxes(bare, free)
        found, before = [*map(box_outline, bare)], [*map(box_outline, free)]
        size = _size(root)
        unmoved = match_outlines(found, before)
        for index, origin in unmoved.items():
            reattach_box(bare[index], free[origin], is_moved=False, size=(size.height, size.width))
        moved = [index for index in range(len(bare)) if index not in unmoved]
        left = sorted(set(range(len(free))).difference(unmoved.values()))
        matches = match_moved([found[index] for index in moved], [before[origin] for origin in left])
        for index, origin in matches.items():
            reattach_box(bare[moved[index]], free[left[origin]], is_moved=True, size=(size.height, size.width))
        return etree.tostring(root)


def _frame(orientation: int, size: ImageSize) -> StoredFrame:
    """The stored pixels of a picture whose size as it is shown is known; else those of one that is not turned."""
    if size.height is None or size.width is None:
        return StoredFrame()
    return StoredFrame(orientation, size.height, size.width)


def _stored(orientation: int, size: ImageSize) -> ImageSize:
    """The size of the stored picture, given that of the turned one; and the other way round."""
    height, width = stored_size(orientation, size.height, size.width)
    return replace(size, height=height, width=width)


def _shows_stored_pixels(root: etree._Element, image: ImageInfo) -> bool:
    """Whether a file is in the pixels of the picture as it is stored."""
    size = _size(root)
    found, turned = (size.height, size.width), (image.height, image.width)
    stored = stored_size(image.orientation, *turned)
    if stored != turned and found in (stored, turned):
        return found == stored
    return root.find("object/type") is not None


def _take_over_depth(root: etree._Element, rendered: etree._Element) -> None:
    """RoLabelImg knows of one or three channels only, and writes one of these."""
    shown, before = root.find("size/depth"), rendered.findtext("size/depth")
    if shown is not None and before:
        shown.text = before


def header_to_xml(annotation: Annotation, image: ImageInfo, size: ImageSize, *, file_name: str) -> str:
    """Write the beginning of a file, up to its objects.

    Args:
        annotation: what is rendered.
        image: the image that it belongs to.
        size: the size that is shown.
        file_name: what the file calls the image; roLabelImg wants it without an extension.
    """
    return (
        f'<annotation verified="{"yes" if annotation.label_checked == 1 else "no"}">\n'
        f"  <folder>{escape_xml(image.dataset)}</folder>\n"
        f"  <filename>{escape_xml(file_name)}</filename>\n"
        f"  <path>{escape_xml(image.file_name)}</path>\n"
        "  <source>\n    <database>Unknown</database>\n  </source>\n"
        "  <size>\n"
        f"    <width>{size.width or 0}</width>\n"
        f"    <height>{size.height or 0}</height>\n"
        f"    <depth>{size.depth or 0}</depth>\n"
        "  </size>\n"
        "  <segmented>0</segmented>\n"
    )


def remainder_to_xml(remainder: dict[str, Any]) -> Iterator[str]:
    """Write what is embedded in a file, as elements for the end of it."""
    text = encode_ascii_json(remainder).decode("ascii")
    for start in range(0, len(text), _LONGEST_TEXT):
        yield f"  <{EMBEDDED_NAME}>{escape_xml(text[start : start + _LONGEST_TEXT])}</{EMBEDDED_NAME}>\n"


def reason_hidden(item: LabelledObject, tool: str) -> tuple[str, str]:
    """Return (what, reason) of an object that a tool for boxes cannot show."""
    return ("polygons" if isinstance(item, Polygon) else "masks"), f"{tool} shows boxes only"


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
    text = element_text(parent, name).strip()
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
    unknown = unknown_elements(root, _FILE_ELEMENTS)
    unknown = {name: content for name, content in unknown.items() if content != _DEFAULT_ELEMENTS.get(name)}
    if unknown:
        annotation = replace(annotation, extra={**annotation.extra, EXTRA_NAME: unknown})
    return annotation if remainder is not None else replace(annotation, ext=_extension(root))


def _extension(root: etree._Element) -> str | None:
    for name in ("path", "filename"):
        extension = PureWindowsPath(element_text(root, name).strip()).suffix.removeprefix(".")
        if extension.lower() in _IMAGE_EXTENSIONS:
            return extension
    return None
