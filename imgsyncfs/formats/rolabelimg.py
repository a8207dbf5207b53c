"""Annotations as roLabelImg's XML, beside an image as ``x.xml``.

Source: ``libs/pascal_voc_io.py`` of roLabelImg. Its reader wants ``filename`` (without extension), ``type``, and
whole numbers in ``bndbox``; its writer puts all ``bndbox`` objects before all ``robndbox`` ones, writes no
declaration, and says ``verified="yes"`` or ``"no"``. Bounding boxes and rotated boxes are shown; everything else, and
all exact numbers, are embedded in elements of their own (`imgsyncfs.formats.originals`). roLabelImg drops these when
it saves: then its file is all there is.

Reading is more tolerant than roLabelImg: ``type`` may be missing, numbers may be of any kind, angles of any size,
``filename`` wrong. Unknown elements live in the extra key ``rolabelimg``. Entities and the network are off, and a
file with a document type is refused.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import Any

import orjson
from lxml import etree

from imgsyncfs.annotations.house_format import (
    Annotation,
    LabelledObject,
    Polygon,
    within,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Rendered
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    ImageSize,
    PlacedObject,
    Remainder,
    count_losses,
    embedded_object,
    embedded_remainder,
    match_outlines,
    placed_objects,
    read_embedded_object,
    read_remainder,
    reassemble,
    shown_size,
)
from imgsyncfs.formats.rolabelimg_boxes import (
    EXTRA_NAME,
    box_outline,
    box_to_xml,
    element_text,
    escape_xml,
    read_box,
    render_boxes,
    replace_box,
    unknown_elements,
)

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
        boxes = render_boxes([each.item for each in placed])
        elements: dict[str, list[str]] = {"bndbox": [], "robndbox": []}
        hidden: list[PlacedObject] = []
        for each, box in zip(placed, boxes, strict=True):
            if box is None:
                hidden.append(each)
            else:
                embedded = encode_ascii_json(embedded_object(each)).decode("ascii")
                elements[box.kind].append(box_to_xml(box, embedded))
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
        boxes = iter(render_boxes([original.item for original in originals if original is not None]))
        rendered = [next(boxes) if original is not None else None for original in originals]
        objects = [
            within(lambda parts: read_box(*parts), parts, f"object[{index}]")
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
        named = [element_text(root, name).strip() for name in ("filename", "path")]
        path = PureWindowsPath(element_text(root, "path").strip() or named[0])
        sizes = [_digits(root.findtext(f"size/{side}")) for side in ("height", "width", "depth")]
        image = ImageInfo(element_text(root, "folder"), path.stem, path.suffix.removeprefix("."), *sizes)
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
        for index, origin in match_outlines([*map(box_outline, bare)], [*map(box_outline, free)]).items():
            replace_box(bare[index], free[origin])
        return etree.tostring(root)


def _header(annotation: Annotation, image: ImageInfo, size: ImageSize) -> str:
    return (
        f'<annotation verified="{"yes" if annotation.label_checked == 1 else "no"}">\n'
        f"  <folder>{escape_xml(image.dataset)}</folder>\n"
        f"  <filename>{escape_xml(image.name)}</filename>\n"
        f"  <path>{escape_xml(image.file_name)}</path>\n"
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
        yield f"  <{EMBEDDED_NAME}>{escape_xml(text[start : start + _LONGEST_TEXT])}</{EMBEDDED_NAME}>\n"


def _reason_hidden(item: LabelledObject) -> tuple[str, str]:
    return ("polygons" if isinstance(item, Polygon) else "masks"), "roLabelImg shows boxes only"


def _root(content: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(content.removeprefix(BOM_UTF8).lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise AnnotationError(f"it is not valid XML ({error}); save it again with roLabelImg") from error
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
