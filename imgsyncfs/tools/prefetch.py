"""Prefetch: bring datasets into the cache before anybody reads them, so that reading needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.files import FileTable
from imgsyncfs.errors import CacheError
from imgsyncfs.fetching.contents import locate
from imgsyncfs.fetching.extent import Extent
from imgsyncfs.fetching.extent_order import ExtentOrder, Place
from imgsyncfs.library.library import Library
from imgsyncfs.workers.progress import Progress

MOST_NAMED = 3
"""Datasets that a message names; more are counted."""


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


@dataclass(frozen=True)
class _Wanted:
    """Files of one kind that are to be in the cache.

    Attributes:
        listing: of their dataset.
        files: its images, or its annotations.
        order: of their extents.
        missing: for each extent in that order, 1 if it is to be fetched. An extent's place would take a hundred bytes,
            and a dataset has millions.
    """

    listing: Listing
    files: FileTable
    order: ExtentOrder
    missing: bytearray = field(default_factory=bytearray)

    def extent(self, place: Place) -> Extent:
        """The extent at a place."""
        index, offset = place
        return locate(self.listing, self.files, index, offset)


def prefetch(
    library: Library, dataset_ids: Sequence[str], *, annotations_only: bool = False, progress: Progress
) -> PrefetchSummary:
    """Bring datasets into the library's cache. Extents in the cache are not fetched again.

    Args:
        library: an open one.
        dataset_ids: which datasets.
        annotations_only: leave the images: enough for `ls -l`, `grep` and labelling tools' lists.
        progress: in bytes of the extents that are not in the cache yet.

    Returns:
        What was done.

    Raises:
        ConfigurationError: a dataset is unknown.
        CatalogError: a listing cannot be read.
        StoreNotAllowed: a dataset lies in a store that may not be read.
        StoreError: something cannot be had.
        CacheError: the datasets are larger than the cache, or there is no space on the disk.
    """
    rows = library.find(dataset_ids)
    listings = [library.mirror.listing(row.dataset_id) for row in rows]
    for listing in listings:
        for store in listing.stores:
            library.check_store(store)
    chosen = [
        _Wanted(listing, files, ExtentOrder(files))
        for listing in listings
        for files in ([listing.annotations] if annotations_only else [listing.images, listing.annotations])
    ]
    total, missing = _look_in_cache(library, chosen)
    # What is just coming takes room as well before something else is let go of.
    if total + EXTENT_BYTES > library.settings.cache_size:
        raise CacheError(
            f"{_named(dataset_ids)}: {total:,} bytes and {EXTENT_BYTES:,} for what is just coming, and the cache "
            f"keeps {library.settings.cache_size:,}; name fewer datasets, or enlarge the cache.",
            option="cache_size",
        )
    before = library.fetcher.counts()
    if missing:
        progress.phase(f"Fetching {len(rows):,} dataset{'' if len(rows) == 1 else 's'}", missing, "bytes")
    for wanted in chosen:
        _fetch(library, wanted, progress)
    after = library.fetcher.counts()
    return PrefetchSummary(len(rows), after.bytes - before.bytes, after.requests - before.requests)


def _named(dataset_ids: Sequence[str]) -> str:
    return ", ".join(dataset_ids) if len(dataset_ids) <= MOST_NAMED else f"{len(dataset_ids):,} datasets"


def _look_in_cache(library: Library, chosen: Sequence[_Wanted]) -> tuple[int, int]:
    """Note which extents are missing; returns the bytes of all, and of these."""
    total = missing = 0
    for wanted in chosen:
        for place in wanted.order:
            byte_count = wanted.order.known_bytes(place)
            is_missing = not library.cache.holds(wanted.extent(place).key)
            wanted.missing.append(is_missing)
            total += byte_count
            missing += is_missing * byte_count
    return total, missing


def _fetch(library: Library, wanted: _Wanted, progress: Progress) -> None:
    """Fetch what is missing.

    Raises:
        StoreError: something cannot be had.
        CacheError: there is no space on the disk.
    """
    in_flight: dict[str, int] = {}

    def extents() -> Iterator[Extent]:
        for place, is_missing in zip(wanted.order, wanted.missing, strict=True):
            if is_missing:
                extent = wanted.extent(place)
                in_flight[extent.key] = wanted.order.known_bytes(place)
                yield extent

    for extent, kept in library.fetcher.fetch_all(extents()):
        if not kept:
            raise CacheError(
                f"{wanted.listing.dataset_id} finds no more room in the cache {library.settings.cache_dir}; make room "
                "on the disk, or choose another cache folder.",
                option="cache_dir",
            )
        # Rows may name one blob twice; it comes once.
        progress.advance(in_flight.pop(extent.key, 0))
