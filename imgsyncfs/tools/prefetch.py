"""Prefetch: bring datasets into the cache before anybody reads them, so that reading needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.files import FileTable
from imgsyncfs.catalog.subscriptions import find_datasets
from imgsyncfs.errors import CacheError
from imgsyncfs.fetching.contents import locate
from imgsyncfs.fetching.extent import Extent
from imgsyncfs.fetching.extent_order import ExtentOrder
from imgsyncfs.library.library import Library
from imgsyncfs.workers.progress import Progress


@dataclass(frozen=True)
class PrefetchSummary:
    """The result of a prefetch.

    Attributes:
        datasets: number of datasets.
        fetched_bytes: bytes that came from stores.
        requests: number of requests to stores.
    """

    datasets: int
    fetched_bytes: int
    requests: int


def prefetch(
    library: Library, dataset_ids: Sequence[str], *, annotations_only: bool = False, progress: Progress
) -> PrefetchSummary:
    """Bring datasets into the library's cache. Extents in the cache are not fetched again.

    Args:
        library: an open one.
        dataset_ids: which datasets.
        annotations_only: leave the images: enough for `ls -l`, `grep` and labelling tools' lists.
        progress: in bytes.

    Returns:
        What was done.

    Raises:
        ConfigurationError: a dataset is unknown.
        CatalogError: a listing cannot be read.
        StoreNotAllowed: a dataset lies in a store that may not be read.
        StoreError: something cannot be had.
        CacheError: the datasets are larger than the cache, or there is no space on the disk.
    """
    rows = find_datasets(library.rows.values(), dataset_ids)
    for row in rows:
        library.check_store(row.store)
    chosen = [
        (listing, files)
        for listing in (library.mirror.listing(row.dataset_id) for row in rows)
        for files in ([listing.annotations] if annotations_only else [listing.images, listing.annotations])
    ]
    sizes = [sum(map(order.byte_count, order)) for order in (ExtentOrder(files) for _, files in chosen)]
    if sum(sizes) > library.settings.cache_size:
        raise CacheError(
            f"{', '.join(dataset_ids)}: up to {sum(sizes):,} bytes, and the cache keeps "
            f"{library.settings.cache_size:,}; name fewer datasets, or raise --cache-size."
        )
    before = library.fetcher.counts()
    for (listing, files), size in zip(chosen, sizes, strict=True):
        kind = "annotations" if files is listing.annotations else "images"
        progress.phase(f"{listing.dataset_id}: {kind}", size, "bytes")
        for extent, kept in library.fetcher.fetch_all(_extents(listing, files)):
            if not kept:
                raise CacheError(
                    f"{listing.dataset_id} finds no more room in the cache {library.settings.cache_dir}; make room on "
                    "the disk, or choose another with --cache-dir."
                )
            progress.advance(extent.most_bytes)
    after = library.fetcher.counts()
    return PrefetchSummary(len(rows), after.bytes - before.bytes, after.requests - before.requests)


def _extents(listing: Listing, files: FileTable) -> Iterator[Extent]:
    for index, offset in ExtentOrder(files):
        yield locate(listing, files.record(index), offset)
