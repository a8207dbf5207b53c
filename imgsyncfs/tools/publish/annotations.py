"""The annotation of an image in a folder that is published: read in the light of the one that the catalog has.

A file that says the same as the catalog's annotation is the catalog's, to the byte: only its spelling differs. What a
tool's file cannot show, and what a tool drops when it saves, is taken over from the catalog's annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from imgsyncfs.annotations.house_format import Annotation, dump_annotation, parse_annotation
from imgsyncfs.errors import AnnotationError, PublishError, printable
from imgsyncfs.formats.registry import READABLE, Change, FormatDescription, ImageInfo, Reading
from imgsyncfs.formats.remarks import unseen_labels
from imgsyncfs.tools.convert.conversion import completed, image_path, is_as_rendered, read_edited, with_image_path
from imgsyncfs.tools.layouts.contract import AnnotationEntry, AnnotationFile, AnnotationSource
from imgsyncfs.tools.layouts.reading import format_of, read_entries
from imgsyncfs.tools.layouts.reading import read_file as read_file_of
from imgsyncfs.tools.pairing import LeftOut, annotation_suffix
from imgsyncfs.tools.publish.catalogued import CataloguedAnnotations, md5_of

ReadFile: TypeAlias = Callable[[Path], bytes]
_Before: TypeAlias = tuple[Annotation, bytes]


@dataclass(frozen=True, slots=True)
class FoundAnnotation:
    """What is published of an image's annotation files.

    Attributes:
        name: of the file or entry that counts.
        annotation: what they say.
        content: its house JSON.
        changes: what is not of the kind that it was, and labels that no trainer sees.
        warnings: what else there is to say, each a sentence with the file's name.
    """

    name: str
    annotation: Annotation
    content: bytes
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()


def find_annotation(
    folder: Path,
    sources: Sequence[AnnotationSource],
    image: ImageInfo,
    catalogued: CataloguedAnnotations,
    *,
    read_file: ReadFile,
) -> FoundAnnotation | None:
    """Read the annotation of an image, of any format or out of documents.

    Args:
        folder: what the sources are in.
        sources: of the image's annotation, at least one; of files, the first one counts.
        image: the image that it belongs to.
        catalogued: the catalog's annotations.
        read_file: reads a file whole, or raises `PublishError`.

    Returns:
        What is published. The same files and the same catalog give the same bytes. None if nothing is known of whether
        anybody has looked at the image.

    Raises:
        PublishError: a file cannot be read.
        AnnotationError: it does not parse, or is of no known format; or documents contradict each other.
        StoreError: the catalog's annotation has to be read, and the store cannot be.
    """
    source = sources[0]
    if isinstance(source, AnnotationFile):
        return _find_in_file(folder / source.file.path, source, image, catalogued, read_file)
    entries = [each for each in sources if isinstance(each, AnnotationEntry)]
    before, warnings = _catalogued(source.name, image, catalogued)
    found = read_entries(entries, before[0] if before else None, image)
    if found is None:
        return None
    counted, reading = found
    return _found(counted.name, reading, image, before, warnings)


def _find_in_file(
    path: Path, source: AnnotationFile, image: ImageInfo, catalogued: CataloguedAnnotations, read_file: ReadFile
) -> FoundAnnotation:
    content = read_file(path)
    row = catalogued.row(image.name)
    known = format_of(source, content)
    before: _Before | None = None
    warnings: tuple[str, ...] = ()
    # A house annotation that is the catalog's to the byte needs no comparison, and no request.
    if row is not None and (known is not None or row.md5 != md5_of(content)):
        before, warnings = _catalogued(source.name, image, catalogued)
    if known is not None:
        reading = read_file_of(source, known, content, before[0] if before else None, image)
        return _found(source.name, reading, image, before, warnings)
    annotation = parse_annotation(content)
    if before is not None and _beside(before[0]) == _beside(annotation):
        content = before[1]
    return FoundAnnotation(source.name, annotation, content, unseen_labels(annotation.labels), warnings)


def _catalogued(
    name: str, image: ImageInfo, catalogued: CataloguedAnnotations
) -> tuple[_Before | None, tuple[str, ...]]:
    """The catalog's annotation of an image, if it has one; and what there is to say if that cannot be read."""
    try:
        return catalogued.read(image.name), ()
    except AnnotationError as error:
        return None, (f"{printable(name)} cannot be compared with the annotation in the catalog: {error}",)


def _found(
    name: str, reading: Reading, image: ImageInfo, before: _Before | None, warnings: tuple[str, ...]
) -> FoundAnnotation:
    """What is published of an annotation that was read from a tool's file or document."""
    annotation = reading.annotation
    changes = (*reading.changes, *unseen_labels(annotation.labels))
    if before is not None and _beside(before[0]) == _beside(annotation):
        return FoundAnnotation(name, before[0], before[1], changes, warnings)
    annotation = completed(annotation, image)
    if before is not None and _beside(before[0]) == _beside(annotation):
        return FoundAnnotation(name, annotation, before[1], changes, warnings)
    return FoundAnnotation(name, annotation, dump_annotation(annotation), changes, warnings)


def _beside(annotation: Annotation) -> Annotation:
    """An annotation without where its image lay while somebody labelled it: a published one lies beside."""
    return with_image_path(annotation, "") if image_path(annotation) else annotation


def differing_siblings(
    folder: Path,
    others: Sequence[AnnotationFile],
    chosen: AnnotationFile,
    annotation: Annotation,
    image: ImageInfo,
    *,
    read_file: ReadFile,
) -> tuple[LeftOut, ...]:
    """Find the annotations beside the published one that say something else than it does.

    One that says the same within its format's own rounding, and one that was rendered and left alone since, says
    nothing new.

    Args:
        folder: what they are in.
        others: the other annotation files of the image.
        chosen: the file that is published.
        annotation: what it says.
        image: the image that they belong to.
        read_file: reads a file whole, or raises `PublishError`.
    """
    left_out = []
    for other in others:
        suffix = annotation_suffix(other.file.name)
        known = next(known for known in READABLE.values() if known.suffix == suffix)
        try:
            says_more = _says_more(known, read_file(folder / other.file.path), annotation, image)
        except (PublishError, AnnotationError) as error:
            reason = f"{printable(chosen.name)} is published, and this cannot be compared with it: {error}"
            left_out.append(LeftOut(printable(other.name), reason))
            continue
        if says_more:
            reason = (
                f"{printable(chosen.name)} is published and says something else; remove the one of the two that is out "
                f"of date, or bring both together with: imgsyncfs convert {folder / chosen.file.directory} "
                "--to imagesynchronizer"
            )
            left_out.append(LeftOut(printable(other.name), reason))
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
