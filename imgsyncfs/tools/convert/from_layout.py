"""Convert folders in tools' own layouts to house annotations: beside the images, or into another folder.

Where annotations are files beside their images, so are the house annotations; one that is there already is what the
tool's file was probably made from, and keeps what that does not show. Of directories and documents, they go into
another folder, all into one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePath

from imgsyncfs.annotations.house_format import Annotation, dump_annotation, is_annotation, parse_annotation
from imgsyncfs.errors import AnnotationError, ConvertError
from imgsyncfs.formats.registry import HOUSE_SUFFIX, Change, ImageInfo, Reading
from imgsyncfs.formats.remarks import unseen_labels
from imgsyncfs.pictures.images import HEADER_BYTES, described_image
from imgsyncfs.tools.convert.conversion import completed
from imgsyncfs.tools.convert.writing import replace_file
from imgsyncfs.tools.layouts.contract import AnnotationEntry, AnnotationFile, FolderContents, FoundImage
from imgsyncfs.tools.layouts.reading import format_of, read_entries, read_file
from imgsyncfs.tools.layouts.registry import read_folder
from imgsyncfs.tools.pairing import ORIGINALS_FOLDER, annotation_suffix
from imgsyncfs.tools.tally import described

_FEW_ANNOTATIONS = 8
"""A folder with more annotation files than this holds them beside images, and no documents: it is not looked at more
closely, since it may be very large."""

_OTHER = "it was edited, or comes from elsewhere; remove it, or choose another folder for the new files"


@dataclass(frozen=True)
class Outcome:
    """What became of the annotation of one image.

    Attributes:
        path: what was read: an annotation file, or the image that a document names.
        is_new: whether a house annotation was written; otherwise one that says the same was there.
        changes: what is no longer of the kind that it was, and labels that no trainer sees.
        fault: why nothing was written; empty if there is no reason.
    """

    path: Path
    is_new: bool = False
    changes: tuple[Change, ...] = ()
    fault: str = ""


def tool_layout(folder: Path, *, layout: str | None = None) -> FolderContents | None:
    """Read a folder that is in a tool's own layout.

    Args:
        folder: its path.
        layout: its layout, if somebody names it.

    Returns:
        What it holds; None for annotations side by side, which are converted without looking for images.

    Raises:
        LayoutError: as of `imgsyncfs.tools.layouts.registry.read_folder`.
        OSError: it cannot be listed or read.
    """
    if layout is None:
        with os.scandir(folder) as entries:
            names = islice((entry.name for entry in entries if annotation_suffix(entry.name)), _FEW_ANNOTATIONS + 1)
            if len([*names]) > _FEW_ANNOTATIONS or (folder / ORIGINALS_FOLDER).is_dir():
                return None
    contents = read_folder(folder, layout=layout)
    is_flat = contents.layout.is_beside and all(not image.file.directory for image in contents.images)
    return None if layout is None and is_flat else contents


def check_output(folder: Path, contents: FolderContents, output: Path | None) -> None:
    """Refuse to convert in place what has no place for house annotations.

    Raises:
        ConvertError: another folder is needed for them.
    """
    if output is None and not _is_beside(contents):
        raise ConvertError(
            f"{folder} is in the layout of {contents.layout.title}, which has no place for house annotations; choose "
            "another folder for them.",
            option="output",
        )


def convert_contents(
    folder: Path, contents: FolderContents, output: Path | None, *, dataset: str, strict: bool
) -> Iterator[Outcome]:
    """Write the house annotation of each image that has one.

    Args:
        folder: what the images are in.
        contents: of it.
        output: where the house annotations go; None for beside the images.
        dataset: what the folder is called.
        strict: write none with labels that change their kind, or that no trainer sees.

    Returns:
        What became of each.

    Raises:
        OSError: a folder cannot be written, or files cannot be read.
    """
    for found in contents.images:
        if not found.sources:
            continue
        beside = output if output is not None else folder / found.file.directory
        target = beside / f"{found.stem}{HOUSE_SUFFIX}"
        first = found.sources[0]
        path = folder / (first.file.path if isinstance(first, AnnotationFile) else found.file.path)
        try:
            image = _image(folder, found, target.parent, dataset)
            # In another folder, what is there is no original: it may be anybody's.
            before = _house_annotation(target) if output is None else None
            reading = _read(folder, found, before, image)
            if reading is None:
                continue
            changes = (*reading.changes, *unseen_labels(reading.annotation.labels))
            if strict and (harmful := [change for change in changes if not change.is_harmless]):
                yield Outcome(path, fault=f"{described(harmful)}; a strict conversion takes no such labels")
                continue
            is_new = _write(target, reading.annotation, before, image)
        except AnnotationError as error:
            yield Outcome(path, fault=str(error))
        else:
            yield Outcome(path, is_new, changes)


def _read(folder: Path, found: FoundImage, before: Annotation | None, image: ImageInfo) -> Reading | None:
    """What the sources of an image's annotation say; None if nobody knows whether it was looked at."""
    first = found.sources[0]
    if isinstance(first, AnnotationEntry):
        entries = [source for source in found.sources if isinstance(source, AnnotationEntry)]
        counted = read_entries(entries, before, image)
        return None if counted is None else counted[1]
    content = (folder / first.file.path).read_bytes()
    known = format_of(first, content)
    return Reading(parse_annotation(content)) if known is None else read_file(first, known, content, before, image)


def _write(target: Path, annotation: Annotation, before: Annotation | None, image: ImageInfo) -> bool:
    """Write a house annotation, unless one that says the same is there; returns whether it was written."""
    if before is not None and annotation == before:
        return False
    annotation = completed(annotation, image)
    there = before if before is not None else _house_annotation(target)
    if there == annotation:
        return False
    if there is not None and before is None:
        raise AnnotationError(f"{target.name}: {_OTHER}")
    replace_file(target, dump_annotation(annotation))
    return True


def _house_annotation(path: Path) -> Annotation | None:
    """The house annotation of a path; None if nothing is there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if not is_annotation(content):
        raise AnnotationError(f"{path.name} is in its place and is no house annotation; {_OTHER}")
    return parse_annotation(content)


def _image(folder: Path, found: FoundImage, beside: Path, dataset: str) -> ImageInfo:
    """An image, with its sizes as far as its file says them, and where it is seen from its annotation."""
    path = folder / found.file.path
    with path.open("rb") as stream:
        content = stream.read(HEADER_BYTES)
        # Some files, TIFFs mostly, have their header at the end.
        image = described_image(found.stem, content) or described_image(found.stem, content + stream.read())
    image = image or ImageInfo("", found.stem, "")
    place = PurePath(os.path.relpath(path.resolve(), beside.resolve())).as_posix()
    return replace(image, dataset=dataset, ext=found.ext, path="" if place == path.name else place)


def _is_beside(contents: FolderContents) -> bool:
    return all(
        isinstance(source, AnnotationFile) and source.file.directory == image.file.directory
        for image in contents.images
        for source in image.sources
    )
