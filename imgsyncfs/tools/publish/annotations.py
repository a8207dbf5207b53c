"""The annotation of an image in a folder that is published: read in the light of the one that the catalog has.

A file that says the same as the catalog's annotation is the catalog's, to the byte: only its spelling differs. What a
tool's file cannot show, and what a tool drops when it saves, is taken over from the catalog's annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import Annotation, dump_annotation, parse_annotation
from imgsyncfs.errors import AnnotationError, PublishError, printable
from imgsyncfs.formats.registry import HOUSE as HOUSE_FORMAT
from imgsyncfs.formats.registry import (
    HOUSE_SUFFIX,
    READABLE,
    Change,
    FormatDescription,
    ImageInfo,
    Reading,
    recognize_format,
)
from imgsyncfs.formats.remarks import unseen_labels
from imgsyncfs.tools.convert.conversion import completed, image_path, is_as_rendered, read_edited, with_image_path
from imgsyncfs.tools.pairing import LeftOut, annotation_suffix
from imgsyncfs.tools.publish.catalogued import CataloguedAnnotations, md5_of
from imgsyncfs.tools.publish.findings import HOUSE

ReadFile = Callable[[Path], bytes]


@dataclass(frozen=True, slots=True)
class FoundAnnotation:
    """What is published of an image's annotation files.

    Attributes:
        annotation: what they say.
        content: its house JSON.
        format_name: `HOUSE`, or the name of the format that it is converted from.
        changes: what is not of the kind that it was, and labels that no trainer sees.
        warnings: what else there is to say, each a sentence with the file's name.
    """

    annotation: Annotation
    content: bytes
    format_name: str
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


def find_annotation(
    path: Path, image: ImageInfo, catalogued: CataloguedAnnotations, *, read_file: ReadFile
) -> FoundAnnotation:
    """Read an annotation file of any format.

    Args:
        path: the file.
        image: the image that it belongs to.
        catalogued: the catalog's annotations.
        read_file: reads a file whole, or raises `PublishError`.

    Returns:
        What is published. The same files and the same catalog give the same bytes.

    Raises:
        PublishError: the file cannot be read.
        AnnotationError: it does not parse, or is of no known format.
        StoreError: the catalog's annotation has to be read, and the store cannot be.
    """
    content = read_file(path)
    row = catalogued.row(image.name)
    known = _recognized(path, content)
    before = None
    warnings: tuple[str, ...] = ()
    # A house annotation that is the catalog's to the byte needs no comparison, and no request.
    if row is not None and (known is not None or row.md5 != md5_of(content)):
        try:
            before = catalogued.read(image.name)
        except AnnotationError as error:
            warnings = (f"{printable(path.name)} cannot be compared with the annotation in the catalog: {error}",)
    if known is None:
        found = Reading(parse_annotation(content))
    else:
        read = read_edited(known, content, before[0] if before else None, image)
        found = replace(read, annotation=completed(read.annotation, image))
        content = dump_annotation(found.annotation)
    if before is not None and _beside(before[0]) == _beside(found.annotation):
        content = before[1]
    changes = (*found.changes, *unseen_labels(found.annotation.labels))
    return FoundAnnotation(found.annotation, content, HOUSE if known is None else known.name, changes, warnings)


def _beside(annotation: Annotation) -> Annotation:
    """An annotation without where its image lay while somebody labelled it: a published one lies beside."""
    return with_image_path(annotation, "") if image_path(annotation) else annotation


def differing_siblings(
    paths: Sequence[Path], chosen: Path, annotation: Annotation, image: ImageInfo, *, read_file: ReadFile
) -> tuple[LeftOut, ...]:
    """Find the annotations beside the published one that say something else than it does.

    One that says the same within its format's own rounding, and one that was rendered and left alone since, says
    nothing new.

    Args:
        paths: the other annotation files of the image.
        chosen: the file that is published.
        annotation: what it says.
        image: the image that they belong to.
        read_file: reads a file whole, or raises `PublishError`.
    """
    left_out = []
    for path in paths:
        suffix = annotation_suffix(path.name)
        known = next(known for known in READABLE.values() if known.suffix == suffix)
        try:
            says_more = _says_more(known, read_file(path), annotation, image)
        except (PublishError, AnnotationError) as error:
            reason = f"{printable(chosen.name)} is published, and this cannot be compared with it: {error}"
            left_out.append(LeftOut(printable(path.name), reason))
            continue
        if says_more:
            reason = (
                f"{printable(chosen.name)} is published and says something else; remove the one of the two that is out "
                f"of date, or bring both together with: imgsyncfs convert {chosen.parent} --to imagesynchronizer"
            )
            left_out.append(LeftOut(printable(path.name), reason))
    return tuple(left_out)


def _says_more(known: FormatDescription, content: bytes, annotation: Annotation, image: ImageInfo) -> bool:
    if known.render(annotation, image).content == content:
        return False
    said = completed(read_edited(known, content, annotation, image).annotation, image)
    # Whoever edits in a tool that has no mark for "checked" has looked: such a file takes back nothing.
    checked = max(said.label_checked, annotation.label_checked)
    if replace(said, label_checked=checked) == completed(annotation, image):
        return False
    return not is_as_rendered(known.name, content)


def _recognized(path: Path, content: bytes) -> FormatDescription | None:
    """The format of a file; None for a house annotation."""
    known = recognize_format(content, file_name=path.name)
    if known is not None and known.name != HOUSE_FORMAT:
        return known
    if known is not None and annotation_suffix(path.name) == HOUSE_SUFFIX:
        return None
    fault = encoding_fault(content)
    raise AnnotationError(
        fault or "it is neither a house annotation (it has no anno_version) nor of a format that is known"
    )
