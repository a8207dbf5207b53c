"""Convert folders to formats that are about a dataset as a whole: YOLO's numbered classes, COCO, CVAT, Hugging Face.

All annotations are read first, then the files are written: labels, then what lists the classes or all images, then what
is not shown (``LOSSES.txt``). Classes stand in the order of `imgsyncfs.annotations.classes.class_order`.

Where YOLO's labels go follows from how ultralytics finds them: beside an image, unless a directory above it is called
``images``; then in the same place below ``labels``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import MappingProxyType

from imgsyncfs.annotations.classes import class_names, class_order
from imgsyncfs.annotations.house_format import Annotation
from imgsyncfs.errors import AnnotationError, ConvertError, FormatError, PublishError, printable
from imgsyncfs.formats.contract import Change, FormatDescription, ImageInfo, Loss
from imgsyncfs.formats.dataset_documents.coco import CocoDocument
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.dataset_documents.cvat import CvatDocument
from imgsyncfs.formats.dataset_documents.hugging_face import HuggingFaceDocument
from imgsyncfs.formats.dataset_documents.yolo import undivided_data_yaml
from imgsyncfs.formats.losses_file import LOSSES_NAME, losses_text
from imgsyncfs.formats.registry import CONVERTIBLE, HOUSE, NUMBERED_FORMATS, get_format
from imgsyncfs.pictures.images import HEADER_BYTES, IMAGE_EXTENSIONS, ImageFacts, read_image_header
from imgsyncfs.settings.values import did_you_mean
from imgsyncfs.tools.convert.kept_entries import KeptEntries
from imgsyncfs.tools.convert.own_files import OwnFiles
from imgsyncfs.tools.convert.reconciliation import AnnotationPaths, FileUnusable, find_image, reconcile
from imgsyncfs.tools.tally import described
from imgsyncfs.workers.progress import Progress


@dataclass(frozen=True)
class _DocumentKind:
    """A document about all images.

    Attributes:
        file_name: the one that its readers look for.
        make: makes its writer.
        names_places: whether images are named by where they are seen from the document; else by their own names.
    """

    file_name: str
    make: Callable[[], DatasetDocument]
    names_places: bool = True


_DOCUMENTS: Mapping[str, _DocumentKind] = MappingProxyType(
    {
        "coco": _DocumentKind("_annotations.coco.json", CocoDocument),
        # An image of a task is known by its name.
        "cvat": _DocumentKind("annotations.xml", CvatDocument, names_places=False),
        "hf": _DocumentKind("metadata.jsonl", HuggingFaceDocument),
    }
)

LAYOUT_FORMATS = (*NUMBERED_FORMATS, *_DOCUMENTS)
"""Names of the formats that are converted to here."""

DOCUMENT_NAMES = frozenset(kind.file_name for kind in _DOCUMENTS.values())
"""Names of files that are about all images of a folder, and no image's annotation."""

_IMAGES, _LABELS = "images", "labels"
_LABEL_SUFFIX = ".txt"
_CLASSES_NAME, _YAML_NAME = "classes.txt", "data.yaml"


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        path: the file.
        images: how many images' annotations were converted with it.
        losses: what it does not show; None if it was there already.
        changes: what is no longer of the kind that it was.
        fault: why it could not be converted; empty if it could.
        note: what else there is to say.
    """

    path: Path
    images: int = 0
    losses: tuple[Loss, ...] | None = ()
    changes: tuple[Change, ...] = ()
    fault: str = ""
    note: str = ""


@dataclass(frozen=True)
class Places:
    """Where the files of one conversion go.

    Attributes:
        folder: has the images.
        top: gets what is about all images.
        labels: gets YOLO's labels.
    """

    folder: Path
    top: Path
    labels: Path


def places_for(target: str, folder: Path, output: Path | None) -> Places:
    """Say where the files go.

    Args:
        target: one of `LAYOUT_FORMATS`.
        folder: has the images.
        output: a folder for all files; None for where the format's readers look.
    """
    if output is not None:
        return Places(folder, output, output)
    if target in NUMBERED_FORMATS and folder.resolve().name == _IMAGES:
        above = folder.resolve().parent
        return Places(folder, above, above / _LABELS)
    return Places(folder, folder, folder)


def convert_to_layout(
    target: str,
    places: Places,
    stems: Iterable[str],
    *,
    classes: Sequence[str],
    strict: bool,
    progress: Progress,
) -> Iterator[Outcome]:
    """Convert a folder.

    Args:
        target: one of `LAYOUT_FORMATS`.
        places: where the files go; the folders are there.
        stems: of the annotations in the folder.
        classes: the first ones, in their order; others follow by name.
        strict: leave out annotations in which something is no longer of the kind that it was.
        progress: is notified of the progress.

    Returns:
        What became of the files.

    Raises:
        ConvertError: the record of what was written cannot be used.
        OSError: a folder cannot be read or written.
    """
    dataset = places.folder.resolve().name
    with KeptEntries() as entries, OwnFiles(places.top) as own:
        count = entries.add_stems(stems)
        if not count:
            yield Outcome(places.folder, fault="no annotations are in it; sub-folders are not searched, name them")
            return
        count = entries.add_stems(_image_stems(places.folder))
        progress.phase(f"Reading {printable(dataset)}", count, "images")
        found: set[str] = set()
        for stem in entries.stems():
            yield from _read(target, places, stem, entries, found, strict=strict)
            progress.advance(1)
        order = class_order(classes, found)
        losses = LossTally()
        progress.phase(f"Converting {printable(dataset)}", count, "images")
        if target in NUMBERED_FORMATS:
            yield from _write_labels(NUMBERED_FORMATS[target], places, entries, own, order, losses, progress)
            yield from _write_lists(places, own, order)
        else:
            yield from _write_document(_DOCUMENTS[target], places, entries, own, order, losses, progress)
        yield from _write_losses(target, places, own, dataset, losses)


def _image_stems(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as found:
        for entry in found:
            stem, dot, ext = entry.name.rpartition(".")
            if dot and stem and not stem.startswith(".") and ext.lower() in IMAGE_EXTENSIONS and entry.is_file():
                yield stem


def _read(
    target: str, places: Places, stem: str, entries: KeptEntries, classes: set[str], *, strict: bool
) -> Iterator[Outcome]:
    """Keep what there is about an image."""
    paths = AnnotationPaths(places.folder, stem)
    try:
        found = reconcile(paths, dataset=places.folder.resolve().name, target=HOUSE)
    except FileUnusable as error:
        yield Outcome(error.path, fault=error.reason)
        return
    except AnnotationError as error:
        yield Outcome(paths.json, fault=str(error))
        return
    annotation = None if found is None else found.annotation
    if found is not None and found.changes:
        harmful = [change for change in found.changes if not change.is_harmless]
        if strict and harmful:
            yield Outcome(found.source, fault=f"{described(harmful)}; a strict conversion takes no such labels")
            return
        yield Outcome(paths.json, changes=found.changes)
    path = find_image(paths, annotation.ext if annotation is not None else None)
    if path is None and found is None:
        return
    known = ImageInfo(places.folder.resolve().name, stem, "") if found is None else found.image
    image = _described(places, known, annotation, path)
    if target in _DOCUMENTS and not _DOCUMENTS[target].names_places:
        image = replace(image, path="")
    if annotation is not None:
        classes.update(class_names(annotation))
    entries.put(image, annotation)


def _described(places: Places, image: ImageInfo, annotation: Annotation | None, path: Path | None) -> ImageInfo:
    """An image as its file says it is, where that is beside; labels were made for the sizes that an annotation says."""
    if path is None:
        return replace(image, path=_seen_from(places.top, places.folder / image.path)) if image.path else image
    image = replace(image, ext=path.suffix.removeprefix("."), path=_seen_from(places.top, path))
    facts = _facts(path)
    if facts is None:
        return image
    image = replace(image, orientation=facts.orientation)
    if annotation is not None and annotation.height and annotation.width:
        return image
    return replace(image, height=facts.height, width=facts.width, depth=facts.depth or None)


def _seen_from(top: Path, image: Path) -> str:
    place = PurePath(os.path.relpath(image.resolve(), top.resolve())).as_posix()
    return "" if place == image.name else place


def _facts(path: Path) -> ImageFacts | None:
    """What an image says of itself; None if it says nothing, or cannot be read."""
    with suppress(OSError, PublishError), path.open("rb") as stream:
        content = stream.read(HEADER_BYTES)
        # Some files, TIFFs mostly, have their header at the end.
        return read_image_header(content) or read_image_header(content + stream.read())
    return None


def _write_labels(
    known: FormatDescription,
    places: Places,
    entries: KeptEntries,
    own: OwnFiles,
    classes: tuple[str, ...],
    losses: LossTally,
    progress: Progress,
) -> Iterator[Outcome]:
    places.labels.mkdir(exist_ok=True)
    for entry in entries:
        progress.advance(1)
        path = places.labels / f"{entry.image.name}{_LABEL_SUFFIX}"
        try:
            if entry.annotation is None or entry.is_unseen:
                own.remove(path)
                continue
            rendered = known.render(entry.annotation, replace(entry.image, classes=classes))
            for loss in rendered.losses:
                losses.add(loss.what, loss.reason, loss.count)
            is_new = own.write_short(path, rendered.content)
        except FileUnusable as error:
            yield Outcome(error.path, fault=error.reason)
        except AnnotationError as error:
            yield Outcome(path, fault=str(error))
        else:
            yield Outcome(path, 1, rendered.losses if is_new else None)


def _write_lists(places: Places, own: OwnFiles, classes: tuple[str, ...]) -> Iterator[Outcome]:
    """Write what names the classes."""
    images = PurePath(os.path.relpath(places.folder.resolve(), places.top.resolve())).as_posix()
    names = "".join([f"{' '.join(name.split())}\n" for name in classes]).encode(errors="replace")
    for path, content in (
        (places.labels / _CLASSES_NAME, names),
        (places.top / _YAML_NAME, undivided_data_yaml(images, classes)),
    ):
        yield from _write_other(own, path, content)
    looked_for = _looked_for(places.folder.resolve())
    if places.labels.resolve() != looked_for:
        yield Outcome(places.labels, note=f"ultralytics looks for the labels of these images in {looked_for}")


def _looked_for(folder: Path) -> Path:
    """Where ultralytics looks for the labels of a folder's images."""
    before, images, after = f"{folder}/".rpartition(f"/{_IMAGES}/")
    return Path(f"{before}/{_LABELS}/{after}") if images else folder


def _write_document(
    kind: _DocumentKind,
    places: Places,
    entries: KeptEntries,
    own: OwnFiles,
    classes: tuple[str, ...],
    losses: LossTally,
    progress: Progress,
) -> Iterator[Outcome]:
    path = places.top / kind.file_name
    counted = _Counted(entries, progress)
    try:
        is_new = own.write(path, kind.make().chunks(counted, classes, losses))
    except FileUnusable as error:
        yield Outcome(error.path, fault=error.reason)
    except AnnotationError as error:
        yield Outcome(path, fault=str(error))
    else:
        yield Outcome(path, counted.annotations, losses.losses if is_new else None)


class _Counted:
    """Entries, counted as they are read."""

    def __init__(self, entries: KeptEntries, progress: Progress) -> None:
        self._entries, self._progress = entries, progress
        self.annotations = 0

    def __iter__(self) -> Iterator[DocumentEntry]:
        for entry in self._entries:
            self.annotations += entry.annotation is not None
            yield entry
            self._progress.advance(1)


def _write_losses(target: str, places: Places, own: OwnFiles, dataset: str, losses: LossTally) -> Iterator[Outcome]:
    path = places.top / LOSSES_NAME
    text = losses_text(target, dataset, losses.losses)
    if text:
        yield from _write_other(own, path, text)
        return
    try:
        own.remove(path)
    except FileUnusable as error:
        yield Outcome(path, fault=error.reason)


def _write_other(own: OwnFiles, path: Path, content: bytes) -> Iterator[Outcome]:
    try:
        own.write_short(path, content)
    except FileUnusable as error:
        yield Outcome(path, fault=error.reason)


def target_name(to: str, classes: Sequence[str]) -> str:
    """The name of a format to convert to, of those here and of those with a file for each image.

    Args:
        to: a format's name, or one of its aliases; in any case.
        classes: the first ones, if somebody gives their order.

    Raises:
        FormatError: there is none; the message lists those there are, similar names first.
        ConvertError: it has no numbers for classes.
    """
    wanted = to.strip().lower()
    if wanted in LAYOUT_FORMATS:
        return wanted
    try:
        name = get_format(to, among=CONVERTIBLE).name
    except FormatError:
        hint = did_you_mean(wanted, [*CONVERTIBLE, *LAYOUT_FORMATS])
        raise FormatError(f"There is no annotation format {to!r} to convert to; {hint}") from None
    if classes:
        raise ConvertError(
            f"Files of {name} name their classes and do not number them; leave out the order of classes, or convert "
            f"to one of {', '.join(LAYOUT_FORMATS)}.",
            option="classes",
        )
    return name
