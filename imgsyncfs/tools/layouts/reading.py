"""Read an image's annotation from where it comes from, in the light of the one that is known of the image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from imgsyncfs.annotations.classes import class_names
from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import Annotation, ObjectLabel
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.registry import (
    HOUSE,
    HOUSE_SUFFIX,
    NUMBERED_FORMATS,
    FormatDescription,
    ImageInfo,
    Reading,
    recognize_format,
)
from imgsyncfs.tools.convert.conversion import read_edited
from imgsyncfs.tools.layouts.contract import AnnotationEntry, AnnotationFile
from imgsyncfs.tools.layouts.yolo import is_boxes_alone
from imgsyncfs.tools.pairing import annotation_suffix


def format_of(source: AnnotationFile, content: bytes) -> FormatDescription | None:
    """The format of an annotation file; None for a house annotation.

    Args:
        source: the file.
        content: what is in it.

    Raises:
        AnnotationError: it is of no known format.
    """
    if source.format is not None:
        if source.format.name in NUMBERED_FORMATS and is_boxes_alone(content):
            return NUMBERED_FORMATS["yolo"]
        return None if source.format.name == HOUSE else source.format
    known = recognize_format(content, file_name=source.file.name)
    if known is not None and known.name != HOUSE:
        return known
    if known is not None and annotation_suffix(source.file.name) == HOUSE_SUFFIX:
        return None
    fault = encoding_fault(content)
    raise AnnotationError(
        fault or "it is neither a house annotation (it has no anno_version) nor of a format that is known"
    )


def read_file(
    source: AnnotationFile, known: FormatDescription, content: bytes, before: Annotation | None, image: ImageInfo
) -> Reading:
    """Read an annotation file of a tool's.

    Args:
        source: the file.
        known: its format.
        content: what is in it.
        before: the annotation that is known of the image; None if there is none.
        image: the image.

    Returns:
        The annotation with the edits, what the file does not show included.

    Raises:
        AnnotationError: it does not parse.
    """
    image = replace(image, classes=source.classes)
    if before is not None and known.name in NUMBERED_FORMATS:
        # Of a class that has no number here, nobody can tell by the numbers whether it was renamed or not shown.
        missing = sorted(class_names(before).difference(source.classes))
        renamed = replace(image, classes=(*source.classes, *missing))
        if missing:
            known.read(content, image=image)
            if _rows(content) & _rows(_of_classes(known, before, missing, renamed)):
                image = renamed
    return read_edited(known, content, before, image)


def _of_classes(known: FormatDescription, annotation: Annotation, names: Collection[str], image: ImageInfo) -> bytes:
    """A file with those objects of an annotation that are of some classes."""
    labels = [
        replace(label, objects=tuple([item for item in label.objects if item.class_name in names]))
        for label in annotation.labels
        if isinstance(label, ObjectLabel)
    ]
    return known.render(replace(annotation, labels=tuple(labels)), image).content


def _rows(content: bytes) -> set[bytes]:
    """The rows of a file without the numbers of their classes."""
    return {b" ".join(row.split()[1:]) for row in content.splitlines() if row.strip()}


def read_entries(
    entries: Sequence[AnnotationEntry], before: Annotation | None, image: ImageInfo
) -> tuple[AnnotationEntry, Reading] | None:
    """Read what documents say of an image.

    Args:
        entries: of one document or of several that are about the image.
        before: the annotation that is known of the image; None if there is none.
        image: the image.

    Returns:
        The entry that counts, and the annotation with its edits, what the document does not show included. Of several,
        the one counts that was edited. None if nothing is known of whether anybody has looked at the image.

    Raises:
        AnnotationError: an annotation holds what cannot be written at all; or several entries say different things.
    """
    # Late: files have no need of it.
    from imgsyncfs.formats.dataset_documents.beside import read_beside

    if before is None:
        readings = [(entry, entry.reading.reading) for entry in entries if not _says_nothing(entry)]
        chosen = readings[:1]
    else:
        readings = [(entry, read_beside(entry.document, entry.reading, before, image)) for entry in entries]
        chosen = [each for each in readings if each[1].annotation != before] or readings[:1]
    if not chosen:
        return None
    for entry, reading in readings if before is None else chosen:
        if reading.annotation.labels != chosen[0][1].annotation.labels:
            raise AnnotationError(
                f"{entry.file.path} says something else of it than {chosen[0][0].file.path}; correct or remove one of "
                "the two"
            )
    return chosen[0]


def _says_nothing(entry: AnnotationEntry) -> bool:
    """Whether an entry is of an image that perhaps nobody has looked at."""
    annotation = entry.reading.reading.annotation
    return not annotation.object_count and (entry.document.lists_unseen or annotation.label_checked != 1)
