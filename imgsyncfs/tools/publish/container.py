"""Catalogue images that lie in a store already, in place: nothing is copied, nothing in the store is changed.

Every annotation is read whole, of every image only the beginning. The journal keeps the findings about blobs under
names, lengths and etags, so that an interrupted index goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from imgsyncfs.annotations.house_format import parse_annotation
from imgsyncfs.blob_layout import EXTENT_BYTES, WHOLE_BLOB_BYTES, cut_into_extents, extent_digest, extent_digests
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.errors import AnnotationError, BlobChanged, BlobMissing, PublishError
from imgsyncfs.formats.registry import HOUSE_SUFFIX, recognize_format
from imgsyncfs.tools.annotation_facts import describe_annotation, size_warnings
from imgsyncfs.tools.images import HEADER_BYTES, read_image_header
from imgsyncfs.tools.pairing import LeftOut, PairedNames, pair_names, printable
from imgsyncfs.tools.publish.findings import blob_fingerprint
from imgsyncfs.tools.publish.pair_check import (
    CHECK_VERSION,
    HOUSE,
    LARGE_CHECK_VERSION,
    CheckedAnnotation,
    CheckedImage,
    PairFindings,
    findings_from_json,
    unusable,
)
from imgsyncfs.tools.publish.publication import (
    DatasetOptions,
    PublishSummary,
    changed_at,
    check_new_name,
    known_digests,
    read_published,
    record,
)
from imgsyncfs.workers.progress import Progress, SilentProgress
from imgsyncfs.workers.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import BlobInfo, Store
    from imgsyncfs.tools.publish.findings import Journal

INDEX_THREADS = 16
"""The check of a blob mostly waits for the server."""

_SILENT = SilentProgress()
_NO_OPTIONS = DatasetOptions()
_NOT_CONVERTED = "indexing copies nothing and so converts nothing; download the folder and publish it"


def index(
    store: Store,
    *,
    catalog: Catalog,
    dataset_id: str,
    options: DatasetOptions = _NO_OPTIONS,
    journal: Journal | None = None,
    progress: Progress = _SILENT,
) -> PublishSummary:
    """Catalogue the blobs at a store's URL as a dataset, new or for another time.

    Args:
        store: its URL's folder or prefix is the dataset's; what lies in folders below is left out.
        catalog: where the dataset is written.
        dataset_id: by the grammar, unless the catalog has it already.
        options: what is said about the dataset; what is not said stays as the catalog has it.
        journal: keeps the findings about blobs for the next run.
        progress: of the work.

    Returns:
        The result, with every blob that was left out and why.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
        PublishError: there is no image that can be used.
        CatalogError: what the catalog says.
        StoreError: what the store says.
    """
    check_new_name(catalog, dataset_id)
    published = read_published(catalog, dataset_id, options.label_version)
    blobs, left_out = _listed(store, progress)
    pairs, others = pair_names(blobs)
    checked = list(zip(pairs, _look_at_all(store, pairs, blobs, journal=journal, progress=progress), strict=True))
    images: list[ImageRow] = []
    annotations: list[AnnotationRow] = []
    for pair, findings in checked:
        if findings.image is None:
            continue
        images.append(_image_row(pair, findings.image, blobs, len(images), published.images.get(pair.stem)))
        if findings.annotation is not None:
            known = published.annotations.get(pair.stem)
            annotations.append(_annotation_row(pair, findings.annotation, blobs, known))
    moved = published.dataset is not None and published.dataset.store != store.url
    warnings = [f"the dataset's files were in {published.dataset.store} before"] if published.dataset and moved else []
    found = [findings for _, findings in checked]
    return record(
        catalog,
        published,
        options,
        store_url=store.url,
        images=images,
        annotations=annotations,
        extent_digests=known_digests(found),
        classes_seen=(name for one in found if one.annotation is not None for name in one.annotation.facts.classes),
        uploaded_bytes=0,
        left_out=[*left_out, *others, *(entry for one in found for entry in one.left_out)],
        warnings=[*warnings, *(warning for one in found for warning in one.warnings)],
        progress=progress,
    )


def _listed(store: Store, progress: Progress) -> tuple[dict[str, BlobInfo], list[LeftOut]]:
    """List a store; returns the blobs at its own level by name, and what lies below."""
    progress.phase("Listing", None, "blobs")
    blobs = {}
    below: Counter[str] = Counter()
    for info in store.list():
        folder, slash, _ = info.blob.partition("/")
        if slash:
            below[folder] += 1
        else:
            blobs[info.blob] = info
        progress.advance(1)
    return blobs, [
        LeftOut(
            printable(folder) + "/", f"the {count} blobs below it are not searched; index it under an id of its own"
        )
        for folder, count in below.items()
    ]


def _look_at_all(
    store: Store,
    pairs: list[PairedNames],
    blobs: Mapping[str, BlobInfo],
    *,
    journal: Journal | None,
    progress: Progress,
) -> Iterator[PairFindings]:
    """Look at every pair that the journal does not know, in several threads."""
    progress.phase("Looking at", len(pairs), "images")

    def look(pair: PairedNames) -> PairFindings:
        prints = [blob_fingerprint(store.url, blobs[name]) for name in (pair.image, *pair.annotations)]
        is_large = max(blobs[name].byte_count for name in (pair.image, *pair.annotations)) > WHOLE_BLOB_BYTES
        key = " ".join((f"blobs-{LARGE_CHECK_VERSION if is_large else CHECK_VERSION}", *prints))
        known = journal.get(key) if journal is not None else None
        if known is not None:
            return findings_from_json(known)
        findings = _look_at_pair(store, pair, blobs)
        if journal is not None and findings.image is not None:
            journal.put(key, asdict(findings))
        return findings

    for findings in map_in_order(look, pairs, threads=INDEX_THREADS):
        progress.advance(1)
        yield findings


def _look_at_pair(store: Store, pair: PairedNames, blobs: Mapping[str, BlobInfo]) -> PairFindings:
    """Read the beginning of an image and all of its annotation."""
    names = (pair.image, *pair.annotations)
    try:
        image = _look_at_image(store, blobs[pair.image])
    except (PublishError, BlobMissing, BlobChanged) as error:
        return unusable(names, {pair.image: str(error)})
    left_out = [
        LeftOut(printable(name), _NOT_CONVERTED) for name in pair.annotations if name != f"{pair.stem}{HOUSE_SUFFIX}"
    ]
    if len(left_out) == len(pair.annotations):
        return PairFindings(image, left_out=tuple(left_out))
    name = pair.annotations[0]
    try:
        content = store.read(name, 0, blobs[name].byte_count, etag=blobs[name].etag)
        _check_digest(store, blobs[name], content)
        known = recognize_format(content)
        if known is not None and not known.can_publish_in_place:
            return PairFindings(image, left_out=(LeftOut(printable(name), _NOT_CONVERTED), *left_out))
        annotation = parse_annotation(content)
    except (AnnotationError, BlobMissing, BlobChanged) as error:
        return unusable(
            names, {name: str(error), pair.image: f"its annotation {printable(name)} cannot be used: {error}"}
        )
    return PairFindings(
        image,
        CheckedAnnotation(name, HOUSE, describe_annotation(annotation, content)),
        left_out=tuple(left_out),
        warnings=size_warnings(annotation, image.facts, printable(name)),
    )


def _look_at_image(store: Store, info: BlobInfo) -> CheckedImage:
    """Find an image's size and digest.

    A store in the cloud is not asked for a whole image only to compute its digest: where it knows none, the etag guards
    the content. A local store never knows one, and is cheap to read.

    Raises:
        PublishError: it is no image; the message is the reason alone.
    """
    content = store.read(info.blob, 0, HEADER_BYTES, etag=info.etag)
    facts = read_image_header(content)
    if facts is None and len(content) < info.byte_count:
        content = store.read(info.blob, 0, info.byte_count, etag=info.etag)
        facts = read_image_header(content)
    if facts is None:
        raise PublishError("it is no image of a known format, or is damaged")
    if len(content) == info.byte_count:
        _check_digest(store, info, content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return CheckedImage(info.byte_count, md5, facts, extent_digests(cut_into_extents(content), info.byte_count))
    if store.is_cheap_to_read:
        md5, extents = _digests(store, info)
        return CheckedImage(info.byte_count, md5, facts, extents)
    return CheckedImage(info.byte_count, info.md5, facts)


def _check_digest(store: Store, info: BlobInfo, content: bytes) -> None:
    """Compare a blob that was read whole with the digest that its store knows.

    Raises:
        BlobChanged: it is another one.
    """
    if info.md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != info.md5:
        raise BlobChanged(
            f"Blob {info.blob} in {store.url} does not have the MD5 that its store gives for it; index it again, and "
            "upload it again if that does not help."
        )


def _digests(store: Store, info: BlobInfo) -> tuple[str, str]:
    """Read a blob extent by extent; returns its MD5, and `extent_digests` of it."""
    whole = hashlib.md5(usedforsecurity=False)

    def extents() -> Iterator[bytes]:
        for offset in range(0, info.byte_count, EXTENT_BYTES):
            content = store.read(info.blob, offset, EXTENT_BYTES, etag=info.etag)
            whole.update(content)
            yield content

    digests = [extent_digest(content) for content in extents()]
    return whole.hexdigest(), b"".join(digests).hex() if info.byte_count > WHOLE_BLOB_BYTES else ""


def _image_row(
    pair: PairedNames, image: CheckedImage, blobs: Mapping[str, BlobInfo], position: int, known: ImageRow | None
) -> ImageRow:
    info = blobs[pair.image]
    return ImageRow(
        name=pair.stem,
        ext=pair.ext,
        height=image.facts.height,
        width=image.facts.width,
        depth=image.facts.depth,
        byte_count=image.byte_count,
        md5=image.md5,
        blob=info.blob,
        blob_offset=0,
        position=position,
        etag=info.etag,
        modified_at=_modified_at(info, image.md5, known),
    )


def _annotation_row(
    pair: PairedNames, annotation: CheckedAnnotation, blobs: Mapping[str, BlobInfo], known: AnnotationRow | None
) -> AnnotationRow:
    info = blobs[annotation.name]
    return AnnotationRow(
        name=pair.stem,
        label_checked=annotation.facts.label_checked,
        object_count=annotation.facts.object_count,
        byte_count=annotation.facts.byte_count,
        md5=annotation.facts.md5,
        blob=info.blob,
        blob_offset=0,
        etag=info.etag,
        modified_at=_modified_at(info, annotation.facts.md5, known),
    )


def _modified_at(info: BlobInfo, md5: str, known: ImageRow | AnnotationRow | None) -> int:
    """Return when a blob's content changed: the catalog's time as long as the content is the same."""
    if (
        known is not None
        and (md5, info.byte_count) == (known.md5, known.byte_count)
        and (md5 or info.etag == known.etag)
    ):
        return known.modified_at
    return changed_at(info.modified_at, known)
