"""Convert one annotation from any format to any other: bytes in, bytes out, no files.

The house format counts as one of them here, under the name of the system that it comes from.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import Any

import orjson
from lxml import etree

from imgsyncfs.annotations.house_format import Annotation, dump_annotation, is_annotation, parse_annotation
from imgsyncfs.errors import AnnotationError, FormatError
from imgsyncfs.formats.originals import CARRIED_NAME
from imgsyncfs.formats.registry import FORMATS, HOUSE, READABLE, ImageInfo, Rendered, get_format

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def target_name(name: str) -> str:
    """Find what can be converted to by its name.

    Args:
        name: imagesynchronizer, labelme or rolabelimg; or one of the older names of the latter two, labelme_json,
            rolabelimg_xml, rolabelme_xml; in any case.

    Returns:
        `HOUSE`, or a key of `imgsyncfs.formats.registry.FORMATS`.

    Raises:
        FormatError: there is none of this name; the message lists those there are, near ones first.
    """
    wanted = name.strip().lower()
    if wanted == HOUSE:
        return HOUSE
    try:
        return get_format(wanted).name
    except FormatError:
        known = [*FORMATS, HOUSE]
        near = difflib.get_close_matches(wanted, known, n=len(known))
        listed = ", ".join([*near, *(other for other in known if other not in near)])
        raise FormatError(f"There is no annotation format {name!r} to convert to; use one of {listed}.") from None


def recognize(content: bytes) -> str:
    """Tell which format a file is of.

    Args:
        content: the whole file.

    Returns:
        `HOUSE`, or a key of `imgsyncfs.formats.registry.FORMATS`. The file may still be damaged.

    Raises:
        AnnotationError: it is of none of them; says what is missing where.
    """
    if is_annotation(content):
        return HOUSE
    for name, known in READABLE.items():
        if known.recognizes(content):
            return name
    start = content.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if start.startswith(b"<"):
        raise AnnotationError("it is missing, so this is no file of roLabelImg's", field="annotation")
    try:
        document = orjson.loads(start)
    except orjson.JSONDecodeError as error:
        raise AnnotationError(f"it is neither XML nor valid JSON ({error}); write it again") from None
    if isinstance(document, dict) and isinstance(document.get("shapes"), list):
        raise AnnotationError("it is missing, so this is no file of labelme's", field="imagePath")
    raise AnnotationError(
        "it is missing, so this is no house annotation; nor is it a file of labelme's, which has shapes",
        field="anno_version",
    )


def parse_as(name: str, content: bytes) -> Annotation:
    """Read an annotation of a known format.

    Args:
        name: what `recognize` gave.
        content: the whole file.

    Returns:
        The annotation.

    Raises:
        AnnotationError: it does not parse; says where.
    """
    return parse_annotation(content) if name == HOUSE else FORMATS[name].parse(content)


def render_as(name: str, annotation: Annotation, image: ImageInfo) -> Rendered:
    """Write an annotation in a format.

    Args:
        name: `HOUSE`, or a key of `imgsyncfs.formats.registry.FORMATS`.
        annotation: what is written.
        image: the image that it belongs to.

    Returns:
        The file, and what it does not show.

    Raises:
        AnnotationError: it holds what cannot be written at all.
    """
    return Rendered(dump_annotation(annotation)) if name == HOUSE else FORMATS[name].render(annotation, image)


def completed(annotation: Annotation, image: ImageInfo) -> Annotation:
    """Fill in what the house format says about the image and the annotation's file did not."""
    return replace(
        annotation,
        height=image.height if annotation.height is None else annotation.height,
        width=image.width if annotation.width is None else annotation.width,
        depth=image.depth if annotation.depth is None else annotation.depth,
        ext=image.ext if annotation.ext is None else annotation.ext,
    )


def convert_annotation(content: bytes, *, to: str, image: ImageInfo | None = None) -> Rendered:
    """Convert an annotation.

    Args:
        content: a house annotation, a file of labelme's, or one of roLabelImg's.
        to: imagesynchronizer, labelme or rolabelimg; the older names of `target_name` as well.
        image: the image that it belongs to. Its sizes are taken where the annotation says none. None: the image is
            the one that a file of labelme's or roLabelImg's names.

    Returns:
        The file, and what it does not show. A house annotation that is converted to the house format is the same
        bytes.

    Raises:
        AnnotationError: the content is of no known format, does not parse, or holds what cannot be written at all.
        FormatError: there is no such format to convert to; or nobody says which image it is.
    """
    target = target_name(to)
    source = recognize(content)
    annotation = parse_as(source, content)
    if source == target == HOUSE:
        return Rendered(content)
    if image is None:
        image = named_image(source, content)
    if image is None:
        raise FormatError("A house annotation does not name its image; pass image=ImageInfo(…).")
    annotation = annotation if source == HOUSE else completed(annotation, image)
    return render_as(target, annotation, with_missing_sizes(annotation, image))


def with_missing_sizes(annotation: Annotation, image: ImageInfo) -> ImageInfo:
    """Keep of an image's sizes only those that the annotation does not say: what it says is what was labelled."""
    return replace(
        image,
        height=None if annotation.height else image.height,
        width=None if annotation.width else image.width,
        depth=None if annotation.depth else image.depth,
    )


def named_image(name: str, content: bytes) -> ImageInfo | None:
    """Give the image that a file says it belongs to.

    Args:
        name: what `recognize` gave.
        content: a file that parses.

    Returns:
        The image, with the sizes that the file shows; None for a house annotation, which names none.
    """
    if name == HOUSE:
        return None
    if name == "labelme":
        document = orjson.loads(content.removeprefix(_BYTE_ORDER_MARK))
        path = PureWindowsPath(str(document.get("imagePath") or ""))
        sides = [document.get("imageHeight"), document.get("imageWidth"), _carried_depth(document)]
        sizes = [side if type(side) is int else None for side in sides]
        return ImageInfo("", path.stem, path.suffix.removeprefix("."), *sizes)
    if name != "rolabelimg":
        return None
    root = read_xml(content)
    path = PureWindowsPath((root.findtext("path") or root.findtext("filename") or "").strip())
    sizes = [_whole_number(root.findtext(f"size/{side}")) for side in ("height", "width", "depth")]
    return ImageInfo(root.findtext("folder") or "", path.stem, path.suffix.removeprefix("."), *sizes)


def is_as_rendered(name: str, content: bytes) -> bool:
    """Tell a file that was rendered and then left alone from one that a tool or a person wrote.

    Args:
        name: a key of `imgsyncfs.formats.registry.FORMATS`.
        content: a file of that format that parses.

    Returns:
        Whether rendering what it says gives the same bytes.
    """
    image = named_image(name, content)
    return image is not None and FORMATS[name].render(FORMATS[name].parse(content), image).content == content


def read_xml(content: bytes) -> Any:
    """Read XML that `RolabelimgFormat.parse` takes; entities and the network are off."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False)
    return etree.fromstring(content.lstrip(), parser)


def _carried_depth(document: dict[str, Any]) -> Any:
    """The depth that a file of labelme's was rendered with, which labelme has no place for."""
    carried = document.get(CARRIED_NAME)
    sizes = carried.get("image") if isinstance(carried, dict) else None
    return sizes.get("depth") if isinstance(sizes, dict) else None


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None
