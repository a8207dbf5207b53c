"""Publish a folder of images and annotations as a dataset: look, check, upload what is new, then change the catalog.

An interrupted publish leaves the catalog as it was, and blobs that the next one finds again. Nothing in the folder is
changed. A file that is what the catalog says it is keeps its place in the store.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.errors import PublishError
from imgsyncfs.tools.publish.folder_scan import FoundPair, scan_folder
from imgsyncfs.tools.publish.pair_check import (
    CheckedAnnotation,
    CheckedImage,
    PairFindings,
    check_pair,
    findings_from_json,
    journal_key,
    read_annotation,
    read_file,
)
from imgsyncfs.tools.publish.publication import (
    DatasetOptions,
    Published,
    PublishSummary,
    changed_at,
    check_new_name,
    known_digests,
    read_published,
    record,
)
from imgsyncfs.tools.publish.upload import Placement, Uploader, UploadFile, present_blobs
from imgsyncfs.workers.progress import Progress, SilentProgress
from imgsyncfs.workers.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import Store
    from imgsyncfs.tools.publish.findings import Journal

CHECK_THREADS = min(8, os.cpu_count() or 1)
"""One for each core: decoding an image releases the interpreter lock."""

_SILENT = SilentProgress()
_NO_OPTIONS = DatasetOptions()
_NANOSECONDS = 1_000_000_000

Row = TypeVar("Row", ImageRow, AnnotationRow)


def publish(
    folder: Path,
    *,
    catalog: Catalog,
    store: Store,
    dataset_id: str,
    options: DatasetOptions = _NO_OPTIONS,
    loose: bool = False,
    journal: Journal | None = None,
    progress: Progress = _SILENT,
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
        journal: keeps the findings about files for the next run.
        progress: of the work.

    Returns:
        The result, with every file that was left out and why.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
        PublishError: there is nothing to publish, a file changed meanwhile, or the dataset lies in another store.
        CatalogError: what the catalog says.
        StoreError: what the store says.
    """
    check_new_name(catalog, dataset_id)
    published = read_published(catalog, dataset_id, options.label_version)
    if published.dataset is not None and published.dataset.store != store.url:
        raise PublishError(
            f"The dataset {dataset_id} lies in {published.dataset.store} and cannot be published to {store.url}; "
            "publish it to its own store, or under another id."
        )
    pairs, left_out = scan_folder(folder)
    checked = list(_check_all(folder, pairs, dataset_id=dataset_id, journal=journal, progress=progress))
    usable = [(pair, findings) for pair, findings in checked if findings.image is not None]
    images, annotations, sent = _bring(folder, usable, published, store=store, loose=loose, progress=progress)
    return record(
        catalog,
        published,
        options,
        store_url=store.url,
        images=images,
        annotations=annotations,
        extent_digests=known_digests(findings for _, findings in usable),
        classes_seen=(
            name for _, found in usable if found.annotation is not None for name in found.annotation.facts.classes
        ),
        uploaded_bytes=sent,
        left_out=[*left_out, *(entry for _, findings in checked for entry in findings.left_out)],
        warnings=[warning for _, findings in usable for warning in findings.warnings],
        progress=progress,
    )


def _check_all(
    folder: Path, pairs: Sequence[FoundPair], *, dataset_id: str, journal: Journal | None, progress: Progress
) -> Iterator[tuple[FoundPair, PairFindings]]:
    """Check every pair that the journal does not know, in several threads."""
    progress.phase("Checking", len(pairs), "images")

    def check(pair: FoundPair) -> PairFindings:
        key = journal_key(pair, dataset_id=dataset_id)
        known = journal.get(key) if journal is not None else None
        if known is not None:
            return findings_from_json(known)
        findings = check_pair(folder, pair, dataset_id=dataset_id)
        # What cannot be used is looked at again each time: a network disk may have been the cause.
        if journal is not None and findings.image is not None:
            journal.put(key, asdict(findings))
        return findings

    for pair, findings in zip(pairs, map_in_order(check, pairs, threads=CHECK_THREADS), strict=True):
        progress.advance(1)
        yield pair, findings


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
        _annotation(folder, pair, findings.image, findings.annotation, published)
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
    row = ImageRow(
        name=pair.names.stem,
        ext=pair.names.ext,
        height=image.facts.height,
        width=image.facts.width,
        depth=image.facts.depth,
        byte_count=image.byte_count,
        md5=image.md5,
        blob="",
        blob_offset=0,
        position=position,
        etag="",
        modified_at=pair.image.modified_ns // _NANOSECONDS,
    )
    return _Candidate(row, published.images.get(row.name), row.ext, partial(read_file, folder / pair.image.name))


def _annotation(
    folder: Path, pair: FoundPair, image: CheckedImage, annotation: CheckedAnnotation, published: Published
) -> _Candidate[AnnotationRow]:
    file = next(file for file in pair.annotations if file.name == annotation.name)
    row = AnnotationRow(
        name=pair.names.stem,
        label_checked=annotation.facts.label_checked,
        object_count=annotation.facts.object_count,
        byte_count=annotation.facts.byte_count,
        md5=annotation.facts.md5,
        blob="",
        blob_offset=0,
        etag="",
        modified_at=file.modified_ns // _NANOSECONDS,
    )
    read = partial(read_annotation, folder / file.name, annotation.format_name, image.facts, pair.names.ext)
    return _Candidate(row, published.annotations.get(row.name), "json", read)
