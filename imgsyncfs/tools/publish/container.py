"""Catalogue images that lie in a store already, in place: nothing is copied, nothing in the store is changed.

Every annotation is read whole, of every image only the beginning. The journal keeps the findings about blobs under
names, lengths and etags, so that an interrupted index goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from imgsyncfs.annotations.house_format import parse_annotation
from imgsyncfs.blob_layout import EXTENT_BYTES, WHOLE_BLOB_BYTES, cut_into_extents, extent_digest, extent_digests
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.errors import AnnotationError, BlobChanged, BlobMissing, PublishError, printable
from imgsyncfs.formats.registry import HOUSE_SUFFIX, recognize_format
from imgsyncfs.formats.remarks import unseen_labels
from imgsyncfs.pictures.images import HEADER_BYTES, read_image_header, size_warnings
from imgsyncfs.tools.convert.own_files import WrittenFiles, written_files
from imgsyncfs.tools.fingerprints import blob_fingerprint
from imgsyncfs.tools.pairing import LeftOut, PairedNames, annotation_suffix, pair_names
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
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.publish.pictures import Marked, refuse_pictures
from imgsyncfs.tools.publish.publication import (
    DatasetOptions,
    PublishSummary,
    annotation_row,
    changed_at,
    check_first,
    image_row,
    read_published,
    record,
)
from imgsyncfs.workers.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import BlobInfo, Store

INDEX_THREADS = 16
"""The check of a blob mostly waits for the server."""

_NOT_CONVERTED = "indexing copies nothing and so converts nothing; download the folder and publish it"


def index(
    store: Store,
    *,
    catalog: Catalog,
    dataset_id: str,
    options: DatasetOptions | None = None,
    drawn: bool = False,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> PublishSummary:
    """Catalogue the blobs at a store's URL as a dataset, new or for another time.

    Args:
        store: its URL's folder or prefix is the dataset's; what lies in folders below is left out.
        catalog: where the dataset is written.
        dataset_id: as for `imgsyncfs.tools.publish.folder.publish`, like all that follow.
        options: what is said about the dataset.
        drawn: as for `publish`.
        journal: keeps the findings about blobs.
        progress: of the work.

    Returns:
        The result, with every blob that was left out and why.

    Raises:
        NamingError: a new dataset id that breaks the grammar.
        PublishError: there is no image that can be used, or pictures are refused as by `publish`.
        CatalogError: what the catalog says.
        StoreError: what the store says.
    """
    options, progress = options or DatasetOptions(), progress or SilentProgress()
    check_first(catalog, dataset_id, options, store_url=store.url)
    published = read_published(catalog, dataset_id, options.label_version)
    blobs, left_out = _listed(store, progress)
    written = _written_files(store, blobs)
    pairs, others = pair_names(name for name in blobs if name not in written.own)
    progress.phase("Looking at", len(pairs), "images")
    checked = list(
        check_all(
            pairs,
            lambda pair: _look_at_pair(store, pair, blobs),
            key=lambda pair: _journal_key(store, pair, blobs),
            journal=journal,
            progress=progress,
            threads=INDEX_THREADS,
        )
    )
    refuse_pictures(
        published,
        [Marked(pair.image, pair.stem, findings.image) for pair, findings in zip(pairs, checked, strict=True)],
        drawn=drawn,
    )
    images: list[ImageRow] = []
    annotations: list[AnnotationRow] = []
    for pair, findings in zip(pairs, checked, strict=True):
        if findings.image is None:
            continue
        info = blobs[pair.image]
        time = _modified_at(info, findings.image.md5, published.images.get(pair.stem))
        row = image_row(
            pair.stem, pair.ext, findings.image, position=len(images), modified_at=time, blob=info.blob, etag=info.etag
        )
        images.append(row)
        if findings.annotation is not None:
            info, facts = blobs[findings.annotation.name], findings.annotation.facts
            time = _modified_at(info, facts.md5, published.annotations.get(pair.stem))
            annotations.append(annotation_row(pair.stem, facts, modified_at=time, blob=info.blob, etag=info.etag))
    before = store.url if published.dataset is None else published.dataset.store
    return record(
        catalog,
        published,
        options,
        store_url=store.url,
        images=images,
        annotations=annotations,
        findings=checked,
        uploaded_bytes=0,
        left_out=[*left_out, *others],
        warnings=[] if before == store.url else [f"the dataset's files were in {before} before"],
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


def _written_files(store: Store, blobs: Mapping[str, BlobInfo]) -> WrittenFiles:
    """What conversions left in a folder before it became a container."""
    return written_files(blobs, lambda name: store.read(name, 0, blobs[name].byte_count, etag=blobs[name].etag))


def _journal_key(store: Store, pair: PairedNames, blobs: Mapping[str, BlobInfo]) -> str:
    files = [blobs[name] for name in (pair.image, *pair.annotations)]
    version = LARGE_CHECK_VERSION if max(file.byte_count for file in files) > WHOLE_BLOB_BYTES else CHECK_VERSION
    return " ".join((f"blobs-{version}", *(blob_fingerprint(store.url, file) for file in files)))


def _look_at_pair(store: Store, pair: PairedNames, blobs: Mapping[str, BlobInfo]) -> PairFindings:
    """Read the beginning of an image and all of its annotation."""
    names = (pair.image, *pair.annotations)
    try:
        image = _look_at_image(store, blobs[pair.image])
    except (PublishError, BlobMissing, BlobChanged) as error:
        return unusable(names, {pair.image: str(error)})
    left_out = [
        LeftOut(printable(name), _NOT_CONVERTED) for name in pair.annotations if annotation_suffix(name) != HOUSE_SUFFIX
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
        CheckedAnnotation(name, describe_annotation(annotation, content)),
        left_out=tuple(left_out),
        warnings=size_warnings(annotation, image.facts, printable(name)),
        changes=unseen_labels(annotation.labels),
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


def _modified_at(info: BlobInfo, md5: str, known: ImageRow | AnnotationRow | None) -> int:
    """Return when a blob's content changed: the catalog's time as long as the content is the same."""
    if (
        known is not None
        and (md5, info.byte_count) == (known.md5, known.byte_count)
        and (md5 or info.etag == known.etag)
    ):
        return known.modified_at
    return changed_at(info.modified_at, known)
