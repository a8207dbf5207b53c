"""Annotations as roLabelImg's XML, beside an image as ``x.xml``.

Source: ``libs/pascal_voc_io.py`` of roLabelImg. Its reader wants ``filename`` (without extension), ``type``, and
whole numbers in ``bndbox``; its writer puts all ``bndbox`` objects before all ``robndbox`` ones, writes no
declaration, and says ``verified="yes"`` or ``"no"``. Bounding boxes and rotated boxes are shown; everything else, and
everything exact, travels along in elements of their own (`imgsyncfs.formats.originals`). roLabelImg drops these when
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
    ClassificationLabel,
    Label,
    LabelledObject,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    within,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import Format, ImageInfo, ImageReference, Rendered
from imgsyncfs.formats.originals import (
    CARRIED_NAME,
    Frame,
    ImageSize,
    PlacedObject,
    carried_frame,
    carried_object,
    count_losses,
    placed_objects,
    read_carried_object,
    read_frame,
    reassemble,
    shown_size,
)
from imgsyncfs.formats.reattachment import matched
from imgsyncfs.formats.rolabelimg_boxes import (
    EXTRA_NAME,
    box_element,
    box_outline,
    element_text,
    escaped,
    replace_box,
    restore_box,
    shown_boxes,
    unknown_elements,
)

_LONGEST_TEXT = 1 << 22
"""libxml2 refuses a text of more than 10 MB: what is carried is cut into elements of this many characters."""

_IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff"})
_FILE_ELEMENTS = frozenset({"folder", "filename", "path", "size", "object", CARRIED_NAME})
_DEFAULT_ELEMENTS = {"source": {"database": "Unknown"}, "segmented": "0"}


class RolabelimgFormat(Format):
    """roLabelImg's XML."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`."""
        placed = placed_objects(annotation)
        boxes = shown_boxes([each.item for each in placed])
        elements: dict[str, list[str]] = {"bndbox": [], "robndbox": []}
        hidden: list[PlacedObject] = []
        for each, box in zip(placed, boxes, strict=True):
            if box is None:
                hidden.append(each)
            else:
                carried = encode_ascii_json(carried_object(each)).decode("ascii")
                elements[box.kind].append(box_element(box, carried))
        size = shown_size(annotation, image)
        frame = carried_frame(annotation, {(each.label, each.position) for each in hidden}, size)
        text = "".join([_header(annotation, image, size), *elements["bndbox"], *elements["robndbox"], *_carried(frame)])
        losses = count_losses([*map(_label_loss, annotation.labels), *(_object_loss(each.item) for each in hidden)])
        return Rendered(f"{text}</annotation>\n".encode(), losses)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back; see `Format.parse`. ``verified="yes"`` says that somebody has looked at it."""
        root = _root(content)
        frame = _read_frame(root)
        elements = root.findall("object")
        originals = [within(_read_original, element, f"object[{index}]") for index, element in enumerate(elements)]
        boxes = iter(shown_boxes([original.item for original in originals if original is not None]))
        rendered = [next(boxes) if original is not None else None for original in originals]
        objects = [
            within(lambda parts: restore_box(*parts), parts, f"object[{index}]")
            for index, parts in enumerate(zip(elements, originals, rendered, strict=True))
        ]
        verified = root.get("verified") == "yes"
        checked = 1 if verified else label_checked
        annotation = reassemble(frame, objects, size=_size(root), label_checked=checked)
        if frame is not None and verified != (frame.annotation.label_checked == 1):
            annotation = replace(annotation, label_checked=int(verified))
        return _with_file_elements(annotation, frame, root)

    def recognizes(self, content: bytes) -> bool:
        """Tell roLabelImg's and VOC's XML from other files: markup with an ``annotation`` element."""
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
        bare = [element for element in objects if element.find(CARRIED_NAME) is None]
        if root.find(CARRIED_NAME) is not None and not bare:
            return content
        rendered = _root(self.render(original, image).content)
        if root.find(CARRIED_NAME) is None:
            root.extend(rendered.findall(CARRIED_NAME))
        elif _frame_text(root) != _frame_text(rendered):
            return content  # it was rendered from another annotation
        taken = [_place(element) for element in objects if element.find(CARRIED_NAME) is not None]
        free = [element for element in rendered.findall("object") if _place(element) not in taken]
        for index, origin in matched([*map(box_outline, bare)], [*map(box_outline, free)]).items():
            replace_box(bare[index], free[origin])
        return etree.tostring(root)


def _header(annotation: Annotation, image: ImageInfo, size: ImageSize) -> str:
    return (
        f'<annotation verified="{"yes" if annotation.label_checked == 1 else "no"}">\n'
        f"  <folder>{escaped(image.dataset)}</folder>\n"
        f"  <filename>{escaped(image.name)}</filename>\n"
        f"  <path>{escaped(image.file_name)}</path>\n"
        "  <source>\n    <database>Unknown</database>\n  </source>\n"
        "  <size>\n"
        f"    <width>{size.width or 0}</width>\n"
        f"    <height>{size.height or 0}</height>\n"
        f"    <depth>{size.depth or 0}</depth>\n"
        "  </size>\n"
        "  <segmented>0</segmented>\n"
    )


def _carried(frame: dict[str, Any]) -> Iterator[str]:
    text = encode_ascii_json(frame).decode("ascii")
    for start in range(0, len(text), _LONGEST_TEXT):
        yield f"  <{CARRIED_NAME}>{escaped(text[start : start + _LONGEST_TEXT])}</{CARRIED_NAME}>\n"


def _label_loss(label: Label) -> tuple[str, str] | None:
    if isinstance(label, ObjectLabel):
        return None
    if isinstance(label, ClassificationLabel):
        return "classifications", "roLabelImg has no place for words about an image"
    if isinstance(label, RegressionLabel):
        return "regression values", "roLabelImg has no place for numbers about an image"
    return "labels of unknown types", "nothing is known of how to show them"


def _object_loss(item: LabelledObject) -> tuple[str, str]:
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


def _read_original(element: etree._Element) -> PlacedObject | None:
    carried = element.find(CARRIED_NAME)
    return (
        within(lambda text: read_carried_object(_json(text)), carried.text, CARRIED_NAME)
        if carried is not None
        else None
    )


def _read_frame(root: etree._Element) -> Frame | None:
    if root.find(CARRIED_NAME) is None:
        return None
    return within(lambda text: read_frame(_json(text)), _frame_text(root), CARRIED_NAME)


def _frame_text(root: etree._Element) -> str:
    return "".join(element.text or "" for element in root.findall(CARRIED_NAME))


def _place(element: etree._Element) -> list[int]:
    place: list[int] = _json(element.findtext(CARRIED_NAME))["at"]
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


def _with_file_elements(annotation: Annotation, frame: Frame | None, root: etree._Element) -> Annotation:
    """Add what the file says of itself: unknown elements and, if it carries no frame, the image's extension."""
    unknown = unknown_elements(root, _FILE_ELEMENTS)
    unknown = {name: content for name, content in unknown.items() if content != _DEFAULT_ELEMENTS.get(name)}
    if unknown:
        annotation = replace(annotation, extra={**annotation.extra, EXTRA_NAME: unknown})
    return annotation if frame is not None else replace(annotation, ext=_extension(root))


def _extension(root: etree._Element) -> str | None:
    for name in ("path", "filename"):
        extension = PureWindowsPath(element_text(root, name).strip()).suffix.removeprefix(".")
        if extension.lower() in _IMAGE_EXTENSIONS:
            return extension
    return None
