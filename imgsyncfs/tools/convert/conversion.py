"""Convert one annotation from any format to any other: bytes in, bytes out, no files.

The house format counts as one of the formats here, under the name of the system that it comes from.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from imgsyncfs.errors import AnnotationError, FormatError
from imgsyncfs.formats.labelme_only import with_own_keys
from imgsyncfs.formats.registry import (
    CONVERTIBLE,
    HOUSE,
    Change,
    FormatDescription,
    ImageInfo,
    Reading,
    Rendered,
    get_format,
    recognize_format,
)
from imgsyncfs.formats.remarks import LABELME_LABEL
from imgsyncfs.formats.shape_dialect import PATH_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgsyncfs.annotations.house_format import Annotation, LabelledObject


def recognize(content: bytes, *, file_name: str = "") -> str:
    """Tell which format a file is of.

    Args:
        content: the whole file.
        file_name: its name, if it says anything: that of a rendered file names a format, which is asked first.

    Returns:
        A key of `imgsyncfs.formats.registry.CONVERTIBLE`. The file may still be damaged.

    Raises:
        AnnotationError: the format is unknown; says what is missing where.
    """
    known = recognize_format(content, file_name=file_name)
    if known is not None:
        return known.name
    start = content.removeprefix(BOM_UTF8).lstrip()
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


def read_edited(known: FormatDescription, content: bytes, before: Annotation | None, image: ImageInfo) -> Reading:
    """Read an annotation that was perhaps rendered from one that is known, and edited with a tool since.

    What a tool drops when it saves, and what its format cannot show, is taken over from the known one.

    Args:
        known: the format of the file.
        content: the file.
        before: the annotation that the file was probably rendered from; None if there is none.
        image: the image that both belong to.

    Returns:
        The annotation, and what there is to say about it beyond the edits.

    Raises:
        AnnotationError: the file does not parse.
    """
    alone = known.read(content, image=image)
    if before is None:
        return alone
    attached = known.reattached(content, before, image)
    if attached == content:
        return alone
    together = known.read(attached, image=image)
    changes = list(together.changes)
    if together.annotation.object_count > alone.annotation.object_count:
        reason = f"files for {known.shown_title} do not show them; they stay as they were"
        changes += [Change(loss.what, loss.count, reason, True) for loss in known.render(before, image).losses]
    lost = _without_their_keys(before, together.annotation)
    if lost:
        reason = "they lie elsewhere and have another size, so that the other keys of the old ones are gone"
        changes.append(Change("objects drawn anew", lost, reason))
    return Reading(together.annotation, tuple(changes))


def _without_their_keys(before: Annotation, after: Annotation) -> int:
    """How many objects took the places of others that had further keys, as far as their numbers tell."""
    if before == after:
        return 0
    old, new = Counter(_keyed(before)), Counter(_keyed(after))
    return min((old - new)[True], (new - old)[False])


def _keyed(annotation: Annotation) -> Iterator[bool]:
    """For each object, whether it has further keys."""
    for label in annotation.labels:
        objects: tuple[LabelledObject, ...] = getattr(label, "objects", ())
        yield from (bool(item.extra) for item in objects)


def completed(annotation: Annotation, image: ImageInfo) -> Annotation:
    """Fill in the image's sizes and extension where an annotation from another format has none.

    Where its file named an image in another place, the annotation then says where that is, or nothing if it is beside.
    """
    if image_path(annotation):
        annotation = with_image_path(annotation, image.path)
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
        content: a house annotation, or a file of a format that can be read back.
        to: a format's name, or one of its aliases.
        image: the image that it belongs to. Its sizes are taken where the annotation says none. None: the image is
            the one that the file names.

    Returns:
        The file, and what it does not show. A house annotation that is converted to the house format is the same
        bytes.

    Raises:
        AnnotationError: the content is of no known format, does not parse, or holds what cannot be written at all.
        FormatError: there is no such format to convert to; or nobody says which image it is.
    """
    target = get_format(to, among=CONVERTIBLE, purpose="to convert to")
    source = CONVERTIBLE[recognize(content)]
    annotation = source.parse(content)
    if source.name == target.name == HOUSE:
        return Rendered(content)
    image = image or source.image_reference(content).image
    if image is None:
        raise FormatError("A house annotation does not name its image; pass image=ImageInfo(…).")
    if source.name != HOUSE:
        annotation = completed(annotation, image)
    return target.render(annotation, with_missing_sizes(annotation, image))


def image_path(annotation: Annotation) -> str:
    """Where an annotation says that its image lies, from its own folder on; empty if it says nothing."""
    own = annotation.extra.get(LABELME_LABEL)
    path = own.get(PATH_KEY) if isinstance(own, dict) else None
    return path if isinstance(path, str) else ""


def with_image_path(annotation: Annotation, path: str) -> Annotation:
    """Let an annotation keep where its image lies, for files of labelme's: that opens the image which they name.

    Args:
        annotation: the annotation.
        path: from its own folder on; empty if the image lies beside it.
    """
    return with_own_keys(annotation, {PATH_KEY: path or None})


def with_missing_sizes(annotation: Annotation, image: ImageInfo) -> ImageInfo:
    """Drop the sizes of an image that the annotation states: labels were made for the annotation's sizes."""
    return replace(
        image,
        height=None if annotation.height else image.height,
        width=None if annotation.width else image.width,
        depth=None if annotation.depth else image.depth,
    )


def is_as_rendered(name: str, content: bytes) -> bool:
    """Tell a file that was rendered and then left alone from one that a tool or a person wrote.

    Args:
        name: a key of `imgsyncfs.formats.registry.CONVERTIBLE`.
        content: a file of that format that parses.

    Returns:
        Whether rendering what the file says gives the same bytes; False for a file that names no image.
    """
    known = CONVERTIBLE[name]
    image = known.image_reference(content).image
    return image is not None and known.render(known.parse(content), image).content == content
