"""Publish a folder of images and annotations as a dataset: look, check, upload what is new, then change the catalog.

An interrupted publish leaves the catalog as it was, and blobs that the next one finds again. Nothing in the folder is
changed. A file that is what the catalog says it is keeps its place in the store.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from imgsyncfs.blob_layout import WHOLE_BLOB_BYTES, cut_into_extents, extent_digests
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.errors import AnnotationError, PublishError, printable
from imgsyncfs.formats.registry import ImageInfo
from imgsyncfs.pictures.images import ImageFacts, check_image, size_warnings
from imgsyncfs.tools.pairing import ORIGINALS_FOLDER, LeftOut, PairedNames, pair_names
from imgsyncfs.tools.publish.annotations import differing_siblings, find_annotation
from imgsyncfs.tools.publish.catalogued import CataloguedAnnotations
from imgsyncfs.tools.publish.findings import (
    CHECK_VERSION,
    LARGE_CHECK_VERSION,
    CheckedAnnotation,
    CheckedImage,
    PairFindings,
    check_all,
    describe_annotation,
    unusable,
)
from imgsyncfs.tools.publish.journal import Journal, file_fingerprint
from imgsyncfs.tools.publish.publication import (
    DatasetOptions,
    Published,
    PublishSummary,
    annotation_row,
    changed_at,
    image_row,
    read_published,
    record,
    refuse_changes,
)
from imgsyncfs.tools.publish.upload import Placement, Uploader, UploadFile, present_blobs
from imgsyncfs.workers.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import Store

CHECK_THREADS = min(8, os.cpu_count() or 1)
"""One for each core: decoding an image releases the interpreter lock."""

_NANOSECONDS = 1_000_000_000

Row = TypeVar("Row", ImageRow, AnnotationRow)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as the folder shows it.

    Attributes:
        name: its plain name.
        byte_count: its length.
        modified_ns: when its content was last written, Unix nanoseconds.
        fingerprint: changes with the file's content, however its times were set.
    """

    name: str
    byte_count: int
    modified_ns: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class FoundPair:
    """An image and the annotations beside it, as the folder shows them.

    Attributes:
        names: which files belong together.
        image: the image.
        annotations: in the order in which they are believed.
    """

    names: PairedNames
    image: FoundFile
    annotations: tuple[FoundFile, ...]


def publish(
    folder: Path,
    *,
    catalog: Catalog,
    store: Store,
    dataset_id: str,
    options: DatasetOptions | None = None,
    loose: bool = False,
    strict: bool = False,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> PublishSummary:
    """Publish a folder as a dataset, new or for another time.

    The dataset then holds what the folder holds, and nothing else.

    Args:
        folder: holds images (jpg, jpeg, png, bmp, webp, tif, tiff) and beside them house, labelme or roLabelImg
            annotations; its sub-folders are not searched.
        catalog: where the dataset is written.
        store: where the files go: the one that `imgsyncfs.tools.publish.publication.dataset_store` names.
        dataset_id: by the grammar, unless the catalog has it already.
        options: what is said about the dataset; what is not said stays as the catalog has it.
        loose: upload every file as a blob of its own instead of small ones in packs.
        strict: publish nothing if something is no longer of the kind that it was, or a label is one that no trainer
            sees.
        journal: keeps the findings about files for the next run.
        progress: of the work.

    Returns:
        The result, with every file that was left out and why.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
        PublishError: there is nothing to publish, a file changed meanwhile, the dataset lies in another store, or
            `strict` forbids it.
        CatalogError: what the catalog says.
        StoreError: what the store says.
    """
    options, progress = options or DatasetOptions(), progress or SilentProgress()
    published = read_published(catalog, dataset_id, options.label_version)
    if published.dataset is not None and published.dataset.store != store.url:
        raise PublishError(
            f"The dataset {dataset_id} lies in {published.dataset.store} and cannot be published to {store.url}; "
            "publish it to its own store, or under another id."
        )
    catalogued = CataloguedAnnotations(store, published.compared)
    pairs, left_out = _scan_folder(folder)
    progress.phase("Checking", len(pairs), "images")
    checked = list(
        check_all(
            pairs,
            lambda pair: _check_pair(folder, pair, catalogued, dataset_id=dataset_id),
            key=lambda pair: _journal_key(pair, dataset_id=dataset_id),
            still_holds=lambda pair, findings: _still_holds(pair, findings, catalogued),
            journal=journal,
            progress=progress,
            threads=CHECK_THREADS,
        )
    )
    if strict:
        refuse_changes(dataset_id, checked)
    usable = [(pair, findings) for pair, findings in zip(pairs, checked, strict=True) if findings.image is not None]
    images, annotations, sent = _bring(
        folder, usable, published, catalogued, store=store, loose=loose, progress=progress
    )
    return record(
        catalog,
        published,
        options,
        store_url=store.url,
        images=images,
        annotations=annotations,
        findings=checked,
        uploaded_bytes=sent,
        left_out=left_out,
        progress=progress,
    )


def _scan_folder(folder: Path) -> tuple[list[FoundPair], list[LeftOut]]:
    """List a folder's images with their annotations, by stem, in the order of their characters; and what is left out.

    Raises:
        PublishError: there is no such folder, or it cannot be listed.
    """
    files: dict[str, FoundFile] = {}
    left_out = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == ORIGINALS_FOLDER:
                    # What `convert` keeps there is in the files of labelme's that are published.
                    continue
                found = _look_at(folder, entry)
                if isinstance(found, LeftOut):
                    left_out.append(found)
                else:
                    files[entry.name] = found
    except OSError as error:
        raise PublishError(
            f"The folder {folder} cannot be listed ({error.strerror}); check its path and rights."
        ) from error
    pairs, others = pair_names(files)
    found_pairs = [
        FoundPair(names, files[names.image], tuple(files[name] for name in names.annotations)) for names in pairs
    ]
    return found_pairs, sorted(left_out + others, key=lambda entry: entry.path)


def _look_at(folder: Path, entry: os.DirEntry[str]) -> FoundFile | LeftOut:
    try:
        if entry.is_dir():
            return LeftOut(
                printable(entry.name) + "/", "sub-folders are not searched; publish it under an id of its own"
            )
        status = entry.stat()
        if not entry.is_file():
            return LeftOut(printable(entry.name), "it is no ordinary file")
    except OSError as error:
        return LeftOut(
            printable(entry.name), f"it cannot be looked at ({error.strerror}); check the link and its rights"
        )
    # The time of the last change of any kind is in it as well: copying with the times kept hides from the other one.
    fingerprint = f"{file_fingerprint(folder / entry.name, status)}-{status.st_ctime_ns:x}"
    return FoundFile(entry.name, status.st_size, status.st_mtime_ns, fingerprint)


def _still_holds(pair: FoundPair, findings: PairFindings, catalogued: CataloguedAnnotations) -> bool:
    """Whether findings about a pair hold in the light of what the catalog has of it now."""
    if findings.annotation is None:
        return True
    row = catalogued.row(pair.names.stem)
    is_published = row is not None and row.md5 == findings.annotation.facts.md5
    return is_published or findings.compared == catalogued.content_name(pair.names.stem)


def _journal_key(pair: FoundPair, *, dataset_id: str) -> str:
    files = (pair.image, *pair.annotations)
    # A house annotation may be twice as long as the file that it is converted from; hardly eight times.
    is_large = max(file.byte_count for file in files) > WHOLE_BLOB_BYTES // 8
    version = LARGE_CHECK_VERSION if is_large else CHECK_VERSION
    return " ".join((f"pair-{version}", dataset_id, *(file.fingerprint for file in files)))


def _check_pair(folder: Path, pair: FoundPair, catalogued: CataloguedAnnotations, *, dataset_id: str) -> PairFindings:
    """Read an image and its annotations and judge them.

    An image is left out if it cannot be decoded, or if its annotation cannot be read: an image that silently lost its
    labels would be worse than one that is missing.
    """
    names = (pair.image.name, *pair.names.annotations)
    try:
        content = _read_file(folder / pair.image.name)
        facts = check_image(content)
    except PublishError as error:
        return unusable(names, {pair.image.name: str(error)})
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    image = CheckedImage(len(content), digest, facts, extent_digests(cut_into_extents(content), len(content)))
    if not pair.annotations:
        return PairFindings(image)
    name = pair.annotations[0].name
    info = _image_info(pair, facts, dataset_id)
    try:
        found = find_annotation(folder / name, info, catalogued, read_file=_read_file)
    except (PublishError, AnnotationError) as error:
        reasons = {name: str(error), pair.image.name: f"its annotation {printable(name)} cannot be used: {error}"}
        return unusable(names, reasons)
    others = [folder / other.name for other in pair.annotations[1:]]
    return PairFindings(
        image,
        CheckedAnnotation(name, found.format_name, describe_annotation(found.annotation, found.content)),
        left_out=differing_siblings(others, folder / name, found.annotation, info, read_file=_read_file),
        warnings=(*found.warnings, *size_warnings(found.annotation, facts, printable(name))),
        changes=found.changes,
        compared=catalogued.content_name(pair.names.stem),
    )


def _image_info(pair: FoundPair, facts: ImageFacts, dataset_id: str) -> ImageInfo:
    return ImageInfo(
        dataset_id,
        pair.names.stem,
        pair.names.ext,
        facts.height,
        facts.width,
        facts.depth,
        orientation=facts.orientation,
    )


@dataclass(frozen=True, slots=True)
class _Candidate(Generic[Row]):
    """A file of the dataset on its way into the store.

    Attributes:
        row: its row, but for where it lies.
        known: the row that the catalog has of the file of this name, or None.
        ext: extension without the dot.
        read: gives the content.
    """

    row: Row
    known: Row | None
    ext: str
    read: Callable[[], bytes]

    def is_new(self) -> bool:
        """Whether the content differs from the one that the catalog knows."""
        return self.known is None or (self.known.md5, self.known.byte_count) != (self.row.md5, self.row.byte_count)


def _bring(
    folder: Path,
    usable: Sequence[tuple[FoundPair, PairFindings]],
    published: Published,
    catalogued: CataloguedAnnotations,
    *,
    store: Store,
    loose: bool,
    progress: Progress,
) -> tuple[list[ImageRow], list[AnnotationRow], int]:
    """Upload what is new; returns the rows of all files, and how many bytes were sent."""
    images = [
        _image(folder, pair, findings.image, position, published)
        for position, (pair, findings) in enumerate(usable)
        if findings.image is not None
    ]
    annotations = [
        _annotation(folder, pair, findings.image, findings.annotation, published, catalogued)
        for pair, findings in usable
        if findings.image is not None and findings.annotation is not None
    ]
    new_bytes = sum(image.row.byte_count for image in images if image.is_new())
    new_bytes += sum(annotation.row.byte_count for annotation in annotations if annotation.is_new())
    present: dict[str, int] = {}
    if new_bytes:
        progress.phase("Uploading", new_bytes, "bytes")
        present = present_blobs(store, published.dataset_id)
    uploader = Uploader(store, published.dataset_id, present, loose=loose, progress=progress)
    image_rows, image_bytes = _upload_new(uploader, images, kind="images")
    annotation_rows, annotation_bytes = _upload_new(uploader, annotations, kind="annotations")
    return image_rows, annotation_rows, image_bytes + annotation_bytes


def _upload_new(uploader: Uploader, candidates: Sequence[_Candidate[Row]], *, kind: str) -> tuple[list[Row], int]:
    """Upload the files that are new; returns the rows of all files, and how many bytes were sent."""
    new = [candidate for candidate in candidates if candidate.is_new()]
    placements, sent = uploader.upload(
        [UploadFile(new.row.name, new.ext, new.row.byte_count, new.row.md5, new.read) for new in new], kind=kind
    )
    fresh = iter(placements)
    return [_placed(candidate, fresh) for candidate in candidates], sent


def _placed(candidate: _Candidate[Row], fresh: Iterator[Placement]) -> Row:
    """Return a file's row with its place: the one that the catalog knows, or the next of the fresh ones."""
    row, known = candidate.row, candidate.known
    if known is not None and not candidate.is_new():
        return replace(
            row, blob=known.blob, blob_offset=known.blob_offset, etag=known.etag, modified_at=known.modified_at
        )
    placement = next(fresh)
    modified_at = changed_at(row.modified_at, known)
    return replace(row, blob=placement.blob, blob_offset=placement.offset, modified_at=modified_at)


def _image(
    folder: Path, pair: FoundPair, image: CheckedImage, position: int, published: Published
) -> _Candidate[ImageRow]:
    row = image_row(pair.names, image, position=position, modified_at=pair.image.modified_ns // _NANOSECONDS)
    return _Candidate(row, published.images.get(row.name), row.ext, partial(_read_file, folder / pair.image.name))


def _annotation(
    folder: Path,
    pair: FoundPair,
    image: CheckedImage,
    annotation: CheckedAnnotation,
    published: Published,
    catalogued: CataloguedAnnotations,
) -> _Candidate[AnnotationRow]:
    file = next(file for file in pair.annotations if file.name == annotation.name)
    row = annotation_row(pair.names, annotation.facts, modified_at=file.modified_ns // _NANOSECONDS)
    info = _image_info(pair, image.facts, published.dataset_id)

    def read() -> bytes:
        return find_annotation(folder / file.name, info, catalogued, read_file=_read_file).content

    return _Candidate(row, published.annotations.get(row.name), "json", read)


def _read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        PublishError: it cannot be read; the message is the reason alone, to be read after the file's name.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(f"it cannot be read ({error.strerror}); check its rights and the disk") from error
