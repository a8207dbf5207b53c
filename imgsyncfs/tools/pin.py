"""Pin: bring datasets into the cache whole, and keep them there until they are let go of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from imgsyncfs.cache.pins import Pin, keep_pin, pins, remove_pin
from imgsyncfs.cache.upkeep import extents_folder
from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import CacheError, ConfigurationError
from imgsyncfs.fetching.contents import locate
from imgsyncfs.fetching.extent_order import ExtentOrder
from imgsyncfs.library.library import Library
from imgsyncfs.settings.values import did_you_mean
from imgsyncfs.tools.prefetch import PrefetchSummary, prefetch
from imgsyncfs.workers.progress import Progress

MOST_PINNED = 3 / 4
"""The part of the cache that may be pinned: whatever else is read needs room as well."""


def pin(library: Library, dataset_ids: Sequence[str], *, progress: Progress) -> PrefetchSummary:
    """Pin datasets in the library's cache, as they are now, and fetch what is not there yet.

    A dataset that is pinned already is pinned as it is now. What cannot be fetched stays pinned: it is kept when it
    comes.

    Args:
        library: an open one.
        dataset_ids: which datasets.
        progress: in bytes of the extents that are not in the cache yet.

    Raises:
        ConfigurationError: a dataset is unknown.
        CatalogError: a listing cannot be read.
        StoreNotAllowed: a dataset lies in a store that may not be read.
        StoreError: something cannot be had.
        CacheError: the cache has no room for that.
    """
    folder = extents_folder(Path(library.settings.cache_dir))
    rows = library.find(dataset_ids)
    listings = [library.mirror.listing(row.dataset_id) for row in rows]
    made = [_pin_of(library, row, listing) for row, listing in zip(rows, listings, strict=True)]
    names = {each.name for each in made}
    others = sum(each.bytes for each, _, _ in pins(folder) if each.name not in names)
    wanted = sum(each.bytes for each in made)
    room = int(library.settings.cache_size * MOST_PINNED)
    if wanted + others > room:
        raise CacheError(
            f"{', '.join(dataset_ids)}: {wanted:,} bytes to pin beside {others:,} that are, and three quarters of the "
            f"cache are {room:,}; enlarge the cache, or let go of something with: imgsyncfs unpin",
            option="cache_size",
        )
    for listing, each in zip(listings, made, strict=True):
        keep_pin(folder, each, (key for key, _ in _extents(listing)))
    return prefetch(library, dataset_ids, progress=progress)


def unpin(cache_dir: Path, catalog: str, dataset_ids: Sequence[str]) -> list[str]:
    """Let go of pinned datasets: they stay in the cache until others need the room.

    Args:
        cache_dir: the folder of the disk cache.
        catalog: URL of the catalog that they are of.
        dataset_ids: which ones; none for all of the catalog.

    Returns:
        The datasets that were pinned.

    Raises:
        ConfigurationError: one of them is not pinned.
        CacheError: the cache cannot be written.
    """
    folder = extents_folder(cache_dir)
    identity = catalog_identity(catalog)
    known = {each.dataset_id: each.name for each, _, _ in pins(folder) if each.catalog == identity}
    for dataset_id in dataset_ids:
        if dataset_id not in known:
            hint = did_you_mean(dataset_id, known, otherwise="list what is with: imgsyncfs pin --list")
            raise ConfigurationError(f"The dataset {dataset_id!r} is not pinned; {hint}")
    chosen = list(dataset_ids or known)
    for dataset_id in chosen:
        remove_pin(folder, known[dataset_id])
    return chosen


def _pin_of(library: Library, row: DatasetRow, listing: Listing) -> Pin:
    identity = catalog_identity(library.settings.catalog)
    lengths = dict(_extents(listing))
    return Pin(
        f"{identity}|{row.dataset_id}", row.dataset_id, identity, row.revision, len(lengths), sum(lengths.values())
    )


def _extents(listing: Listing) -> Iterator[tuple[str, int]]:
    """Key and bytes of each extent of a dataset; rows may name one blob twice."""
    for files in (listing.images, listing.annotations):
        order = ExtentOrder(files)
        for place in order:
            index, offset = place
            yield locate(listing, files, index, offset).key, order.known_bytes(place)
