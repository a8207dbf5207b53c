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
from imgsyncfs.tools.layouts.contract import AnnotationEntry, AnnotationFile, FolderContents, FoundImage
from imgsyncfs.tools.layouts.registry import read_folder
from imgsyncfs.tools.pairing import LeftOut
from imgsyncfs.tools.publish.annotations import differing_siblings, find_annotation
from imgsyncfs.tools.publish.catalogued import CataloguedAnnotations
from imgsyncfs.tools.publish.findings import (
    CHECK_VERSION,
    LARGE_CHECK_VERSION,
    AnnotationFacts,
    CheckedAnnotation,
    CheckedImage,
    PairFindings,
    check_all,
    describe_annotation,
    unusable,
)
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.publish.pictures import Marked, refuse_pictures
from imgsyncfs.tools.publish.publication import (
    DatasetOptions,
    Published,
    PublishSummary,
    annotation_row,
    changed_at,
    check_first,
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

_IN_CATALOG = "the annotation in the catalog"
"""The name of an annotation that comes from nowhere else."""

Row = TypeVar("Row", ImageRow, AnnotationRow)


def publish(
    folder: Path,
    *,
    catalog: Catalog,
    store: Store,
    dataset_id: str,
    options: DatasetOptions | None = None,
    layout: str | None = None,
    loose: bool = False,
    strict: bool = False,
    drawn: bool = False,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> PublishSummary:
    """Publish a folder as a dataset, new or for another time.

    The dataset then holds what the folder holds, and nothing else.

    Args:
        folder: holds images (jpg, jpeg, png, bmp, webp, tif, tiff) and their annotations, in the layout of a tool.
        catalog: where the dataset is written.
        store: where the files go: the one that `imgsyncfs.tools.publish.publication.dataset_store` names.
        dataset_id: by the grammar, unless the catalog has it already.
        options: what is said about the dataset; what is not said stays as the catalog has it.
        layout: how images and annotations are arranged, a key of `imgsyncfs.tools.layouts.registry.LAYOUTS`; None to
            recognize it. Annotations beside the images come first, and then sub-folders are not searched.
        loose: upload every file as a blob of its own instead of small ones in packs.
        strict: publish nothing if something is no longer of the kind that it was, or a label is one that no trainer
            sees.
        drawn: take pictures with annotations drawn in, as the view ``preview`` has them, of another dataset's images.
        journal: keeps the findings about files for the next run.
        progress: of the work.

    Returns:
        The result, with every file that was left out and why.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
        LayoutError: the folder is not in this layout, may be in several, or contradicts itself.
        PublishError: there is nothing to publish, a file changed meanwhile, the dataset lies in another store, images
            in a tool's layout are of another size than the dataset's, pictures that views made of the dataset's images
            would take their places, or `strict` or `drawn` forbids it.
        CatalogError: what the catalog says.
        StoreError: what the store says.
    """
    options, progress = options or DatasetOptions(), progress or SilentProgress()
    check_first(catalog, dataset_id, options, store_url=store.url)
    store.check_writable(dataset_id)
    published = read_published(catalog, dataset_id, options.label_version)
    if published.dataset is not None and published.dataset.store != store.url:
        raise PublishError(
            f"The dataset {dataset_id} lies in {published.dataset.store} and cannot be published to {store.url}; "
            "publish it to its own store, or under another id."
        )
    catalogued = CataloguedAnnotations(store, published.compared)
    contents = _read_folder(folder, layout)
    found = contents.images
    progress.phase("Checking", len(found), "images")
    checked = list(
        check_all(
            found,
            lambda image: _check_image(folder, image, catalogued, dataset_id=dataset_id),
            key=lambda image: _journal_key(image, dataset_id=dataset_id),
            still_holds=lambda image, findings: _still_holds(image, findings, catalogued),
            journal=journal,
            progress=progress,
            threads=CHECK_THREADS,
        )
    )
    refuse_pictures(
        published,
        [Marked(image.file.path, image.stem, findings.image) for image, findings in zip(found, checked, strict=True)],
        drawn=drawn,
    )
    _refuse_resized(found, checked, published)
    checked = [_with_unseen(image, findings, published) for image, findings in zip(found, checked, strict=True)]
    if strict:
        refuse_changes(dataset_id, checked)
    usable = [(image, findings) for image, findings in zip(found, checked, strict=True) if findings.image is not None]
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
        left_out=contents.left_out,
        warnings=contents.notes,
        progress=progress,
    )


def _read_folder(folder: Path, layout: str | None) -> FolderContents:
    """List a folder's images with the sources of their annotations, by stem, in the order of their characters.

    Raises:
        LayoutError: as of `publish`.
        PublishError: there is no such folder, or it cannot be listed.
    """
    try:
        return read_folder(folder, layout=layout)
    except OSError as error:
        raise PublishError(
            f"The folder {folder} cannot be listed ({error.strerror}); check its path and rights."
        ) from error


def _still_holds(image: FoundImage, findings: PairFindings, catalogued: CataloguedAnnotations) -> bool:
    """Whether findings about an image hold in the light of what the catalog has of it now."""
    if not image.sources:
        return True
    row = catalogued.row(image.stem)
    is_published = row is not None and findings.annotation is not None and row.md5 == findings.annotation.facts.md5
    return is_published or findings.compared == catalogued.content_name(image.stem)


def _journal_key(image: FoundImage, *, dataset_id: str) -> str:
    files = (image.file, *(source.file for source in image.sources if isinstance(source, AnnotationFile)))
    # A house annotation may be twice as long as the file that it is converted from; hardly eight times.
    is_large = max(file.byte_count for file in files) > WHOLE_BLOB_BYTES // 8
    version = LARGE_CHECK_VERSION if is_large else CHECK_VERSION
    prints = [image.file.fingerprint, *(source.fingerprint for source in image.sources)]
    return " ".join((f"pair-{version}", dataset_id, *prints))


def _check_image(
    folder: Path, found: FoundImage, catalogued: CataloguedAnnotations, *, dataset_id: str
) -> PairFindings:
    """Read an image and its annotation and judge them.

    An image is left out if it cannot be decoded, or if its annotation cannot be read: an image that silently lost its
    labels would be worse than one that is missing.
    """
    path = found.file.path
    names = (path, *(source.name for source in found.sources))
    try:
        content = _read_file(folder / path)
        facts = check_image(content)
    except PublishError as error:
        return unusable(names, {path: str(error)})
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    image = CheckedImage(len(content), digest, facts, extent_digests(cut_into_extents(content), len(content)))
    if not found.sources:
        return PairFindings(image)
    first, *others = found.sources
    info = _image_info(found, facts, dataset_id)
    compared = catalogued.content_name(found.stem)
    try:
        annotated = find_annotation(folder, found.sources, info, catalogued, read_file=_read_file)
    except (PublishError, AnnotationError) as error:
        reasons = {first.name: str(error), path: f"its annotation {printable(first.name)} cannot be used: {error}"}
        return unusable(names, reasons)
    if annotated is None:
        return PairFindings(image, compared=compared)
    left_out: tuple[LeftOut, ...] = ()
    if isinstance(first, AnnotationFile):
        files = [other for other in others if isinstance(other, AnnotationFile)]
        left_out = differing_siblings(folder, files, first, annotated.annotation, info, read_file=_read_file)
    return PairFindings(
        image,
        CheckedAnnotation(annotated.name, describe_annotation(annotated.annotation, annotated.content)),
        left_out=left_out,
        warnings=(*annotated.warnings, *size_warnings(annotated.annotation, facts, printable(annotated.name))),
        changes=annotated.changes,
        compared=compared,
    )


def _refuse_resized(found: Sequence[FoundImage], checked: Sequence[PairFindings], published: Published) -> None:
    """Refuse images of another size than the dataset's, with labels that are read beside the catalog's annotations.

    Raises:
        PublishError: there are such: what their layout does not show would stay where it is in the larger picture.
    """
    for image, findings in zip(found, checked, strict=True):
        row = published.images.get(image.stem)
        is_beside = any(isinstance(each, AnnotationEntry) or each.format is not None for each in image.sources)
        if row is None or findings.image is None or not is_beside or image.stem not in published.compared:
            continue
        facts = findings.image.facts
        if (facts.height, facts.width) != (row.height, row.width):
            raise PublishError(
                f"Nothing was published as {published.dataset_id}, because {printable(image.file.path)} has "
                f"{facts.width} x {facts.height} pixels, and the dataset's image {row.width} x {row.height}: labels of "
                "both cannot be brought together; publish the folder under an id of its own."
            )


def _with_unseen(image: FoundImage, findings: PairFindings, published: Published) -> PairFindings:
    """Keep the catalog's annotation of an image that nobody has looked at: no tool's layout shows such a one."""
    row = published.annotations.get(image.stem)
    is_unseen = row is not None and not row.label_checked and not row.object_count
    if row is None or not is_unseen or findings.image is None or findings.annotation is not None:
        return findings
    extents = published.extent_digests.get(row.md5, "")
    facts = AnnotationFacts(row.byte_count, row.md5, row.label_checked, row.object_count, (), extents)
    return replace(findings, annotation=CheckedAnnotation(_IN_CATALOG, facts))


def _image_info(found: FoundImage, facts: ImageFacts, dataset_id: str) -> ImageInfo:
    return ImageInfo(
        dataset_id,
        found.stem,
        found.ext,
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
    usable: Sequence[tuple[FoundImage, PairFindings]],
    published: Published,
    catalogued: CataloguedAnnotations,
    *,
    store: Store,
    loose: bool,
    progress: Progress,
) -> tuple[list[ImageRow], list[AnnotationRow], int]:
    """Upload what is new; returns the rows of all files, and how many bytes were sent."""
    images = [
        _image(folder, found, findings.image, position, published)
        for position, (found, findings) in enumerate(usable)
        if findings.image is not None
    ]
    annotations = [
        _annotation(folder, found, findings.image, findings.annotation, published, catalogued)
        for found, findings in usable
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
    folder: Path, found: FoundImage, image: CheckedImage, position: int, published: Published
) -> _Candidate[ImageRow]:
    modified_at = found.file.modified_ns // _NANOSECONDS
    row = image_row(found.stem, found.ext, image, position=position, modified_at=modified_at)
    return _Candidate(row, published.images.get(row.name), row.ext, partial(_read_file, folder / found.file.path))


def _annotation(
    folder: Path,
    found: FoundImage,
    image: CheckedImage,
    annotation: CheckedAnnotation,
    published: Published,
    catalogued: CataloguedAnnotations,
) -> _Candidate[AnnotationRow]:
    file = next((source.file for source in found.sources if source.name == annotation.name), found.file)
    row = annotation_row(found.stem, annotation.facts, modified_at=file.modified_ns // _NANOSECONDS)
    info = _image_info(found, image.facts, published.dataset_id)

    def read() -> bytes:
        annotated = find_annotation(folder, found.sources, info, catalogued, read_file=_read_file)
        return annotated.content if annotated is not None else b""

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
