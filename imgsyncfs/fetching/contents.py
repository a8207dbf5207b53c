"""Bytes of a file in a dataset: from a place in a blob to the extents that hold it.

`ContentReader` knows how files lie in blobs (`imgsyncfs.blob_layout`), and nothing of how extents come: an
`ExtentSource` gives them, here the fetcher (`imgsyncfs.fetching.fetcher`), in a responder the cache alone.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from imgsyncfs.blob_layout import EXTENT_BYTES, WHOLE_BLOB_BYTES, extent_range, is_pack
from imgsyncfs.cache import OpenExtent
from imgsyncfs.fetching.extent import Extent, Member, cut_short, extent_key
from imgsyncfs.fetching.extent_order import Place
from imgsyncfs.fetching.fetcher import Fetcher, InFlight
from imgsyncfs.fetching.readahead import Readahead

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import FileRecord, Listing
    from imgsyncfs.catalog.listing.files import FileTable


class Piece(NamedTuple):
    """A part of an extent.

    Attributes:
        extent: which one.
        position: in it, in bytes.
        length: in bytes.
    """

    extent: OpenExtent
    position: int
    length: int


class ExtentSource(ABC):
    """Gives extents to whoever reads files."""

    @abstractmethod
    def opened(self, key: str) -> OpenExtent | None:
        """The extent if it is open already; the short way."""

    @abstractmethod
    def kept(self, key: str) -> OpenExtent | None:
        """What the cache has under a key, also if it is not open yet; None if there is nothing."""

    @abstractmethod
    def bring(self, extent: Extent, listing: Listing, files: FileTable, index: int, offset: int) -> OpenExtent:
        """An extent that is not open.

        Args:
            extent: which one.
            listing: whose file is read.
            files: its images, or its annotations.
            index: of the file among them.
            offset: of the byte in the file that is needed.

        Raises:
            StoreError: it cannot be had.
        """


@dataclass(frozen=True)
class FetchedExtents(ExtentSource):
    """Extents from the cache, or from their stores; whoever asks waits.

    Attributes:
        fetcher: brings extents.
        readahead: says which ones will be needed next.
    """

    fetcher: Fetcher
    readahead: Readahead

    def opened(self, key: str) -> OpenExtent | None:
        """The extent if it is open already."""
        return self.fetcher.opened(key)

    def kept(self, key: str) -> OpenExtent | None:
        """What the cache has under a key."""
        return self.fetcher.cached(key)

    def bring(self, extent: Extent, listing: Listing, files: FileTable, index: int, offset: int) -> OpenExtent:
        """The extent; a miss or a hit on disk starts or goes on with readahead."""
        opened = self.fetcher.cached(extent.key)
        if opened is not None:
            self.reached(listing, files, index, offset)
            return opened
        return self.fetcher.wait(self.start(extent, listing, files, index, offset))

    def reached(self, listing: Listing, files: FileTable, index: int, offset: int) -> None:
        """Note that a reader came to an extent that the cache had."""
        ahead = self.readahead.reached(files, index, offset)
        if ahead:
            self.fetcher.begin(_located(listing, files, ahead))

    def start(
        self, extent: Extent, listing: Listing, files: FileTable, index: int, offset: int, *, inline: bool = False
    ) -> InFlight:
        """Have an extent fetched that a reader waits for, and what comes after it; does not wait."""
        ahead = self.readahead.missed(files, index, offset, bulk=files is listing.annotations)
        return self.fetcher.start(extent, ahead=_located(listing, files, ahead), inline=inline)


@dataclass(frozen=True)
class ContentReader:
    """Reads files of listings.

    Attributes:
        extents: gives extents.
        check_store: raises StoreNotAllowed for the URL of a store that may not be read. It is asked before the cache
            is: another catalog, which shares the cache, may have been allowed to read there.
    """

    extents: ExtentSource
    check_store: Callable[[str], object]

    def read(self, listing: Listing, files: FileTable, index: int, offset: int, size: int) -> bytes:
        """Read a part of a file.

        Args:
            listing: whose file it is.
            files: its images, or its annotations.
            index: of the file among them; it is there.
            offset: position in the file, in bytes.
            size: how many bytes.

        Returns:
            That many bytes, fewer only where the file ends.

        Raises:
            StoreError: the bytes cannot be had, or are not what the catalog says.
        """
        parts = []
        for extent, position, length in self.pieces(listing, files, index, offset, size):
            parts.append(extent.read(position, length))
            if len(parts[-1]) < length:
                raise cut_short(listing.store_of(index), files.record(index).blob)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, listing: Listing, files: FileTable, index: int, offset: int, buffer: memoryview) -> int:
        """Read as much of a file as a buffer takes, straight into it; see `read`.

        Returns:
            How many bytes it got: fewer than it takes only where the file ends.
        """
        count = 0
        for extent, position, length in self.pieces(listing, files, index, offset, len(buffer)):
            if extent.read_into(position, buffer[count : count + length]) < length:
                raise cut_short(listing.store_of(index), files.record(index).blob)
            count += length
        return count

    def read_whole(self, listing: Listing, files: FileTable, index: int) -> bytes:
        """Read all of a file; see `read`."""
        return self.read(listing, files, index, 0, files.size_and_time(index)[0])

    def piece(self, listing: Listing, files: FileTable, index: int, offset: int, size: int) -> Piece | None:
        """Where a part of a file lies, if that is in one extent; see `read`."""
        size = min(size, files.size_and_time(index)[0] - offset)
        first = next(iter(self.pieces(listing, files, index, offset, size)), None)
        return first if first is not None and first.length == size else None

    def pieces(self, listing: Listing, files: FileTable, index: int, offset: int, size: int) -> Iterable[Piece]:
        """Where a part of a file lies, an extent's part after the other; see `read`."""
        store = listing.store_of(index)
        self.check_store(store)
        packed = files.place_in_pack(index)
        if packed is not None:
            # The short way for a read within one open extent, as nearly all reads of packs are.
            pack, begin, byte_count = packed
            start, _ = extent_range(begin + offset, None)
            position, length = begin + offset - start, min(size, byte_count - offset)
            opened = self.extents.opened(extent_key(store, pack, start))
            if opened is not None and length > 0 and position + length <= opened.length:
                return (Piece(opened, position, length),)
        return self._pieces(store, listing, files, index, offset, size)

    def _pieces(
        self, store: str, listing: Listing, files: FileTable, index: int, offset: int, size: int
    ) -> Iterator[Piece]:
        record = files.record(index)
        end = min(offset + size, record.byte_count)
        while offset < end:
            extent = locate(listing, files, index, offset)
            opened = self.extents.opened(extent.key) or self.extents.bring(extent, listing, files, index, offset)
            position = record.offset + offset - extent.start
            length = min(end - offset, opened.length - position)
            if length <= 0:
                raise cut_short(store, record.blob)
            yield Piece(opened, position, length)
            offset += length


def _located(listing: Listing, files: FileTable, places: Iterable[Place]) -> list[Extent]:
    return [locate(listing, files, index, offset) for index, offset in places]


def locate(listing: Listing, files: FileTable, index: int, offset: int) -> Extent:
    """Say which extent holds a byte of a file.

    Args:
        listing: whose file it is.
        files: its images, or its annotations.
        index: of the file among them.
        offset: position in the file, in bytes.
    """
    record, store = files.record(index), listing.store_of(index)
    position = record.offset + offset
    if is_pack(record.blob):
        start, length = extent_range(position, None)
        return Extent(store, record.blob, start, length, members=_members(listing, record.blob, start))
    start, length = extent_range(position, record.byte_count)
    if record.byte_count > WHOLE_BLOB_BYTES:
        return _locate_in_large(listing, store, record, start, length)
    # A digest outlives a move to another container and an etag does not: where there is one, it decides.
    etag = "" if record.md5 else record.etag
    member: tuple[Member, ...] = ((0, record.byte_count, record.md5),)
    return Extent(store, record.blob, start, length, _version(listing, record), etag, lambda: member)


def _locate_in_large(listing: Listing, store: str, record: FileRecord, start: int, length: int | None) -> Extent:
    digest = listing.extent_digest(record.md5, start) if record.md5 else ""
    if digest:
        # An extent that came before its digest was known is not taken for one that was checked.
        return Extent(store, record.blob, start, length, digest, digest=digest)
    whole = (record.byte_count, record.md5) if record.md5 else None
    return Extent(store, record.blob, start, length, _version(listing, record), record.etag, whole=whole)


def _version(listing: Listing, record: FileRecord) -> str:
    # Without a mark of its content, the catalog's word that a blob is never overwritten is all there is.
    return record.md5 or record.etag or listing.catalog_id


def _members(listing: Listing, blob: str, start: int) -> Callable[[], tuple[Member, ...]]:
    return lambda: tuple(listing.members(blob, start, start + EXTENT_BYTES))


def extents_of(listing: Listing, files: FileTable, indices: Iterable[int]) -> list[Extent]:
    """Say which extents some files lie in, each once.

    Args:
        listing: whose files they are.
        files: its images, or its annotations.
        indices: of the files among them; they are there.
    """
    extents: dict[str, Extent] = {}
    for index in indices:
        record = files.record(index)
        offset = 0
        while offset < record.byte_count:
            extent = locate(listing, files, index, offset)
            extents[extent.key] = extent
            offset = extent.start + extent.most_bytes - record.offset
    return list(extents.values())


_END = 1 << 62
"""Beyond the end of any blob."""


def store_and_folder(key: str) -> tuple[str, str]:
    """The store that an extent is from, and the first folder in its blob's name; see `Extent.key`.

    What was published lies in a folder that bears the dataset's id. The folder is empty for a blob that is in none.
    """
    store, _, rest = key.partition("|")
    return store, rest.rsplit("|", 2)[0].rpartition("/")[0].partition("/")[0]


def belongs_to(listing: Listing) -> Callable[[str], bool]:
    """Say which extents belong to a dataset.

    Args:
        listing: the dataset's. A blob belongs to it if it holds one of its files, or lies in the folder that bears its
            id, where its earlier revisions lie too; a pack belongs to the dataset that it was published for. What
            holds files of a selection belongs to that.

    Returns:
        Says of a cache key whether its extent is one of them.
    """
    stores = tuple(f"{store}|" for store in listing.stores)
    folder = f"{listing.dataset_id}/"

    @functools.lru_cache(maxsize=1024)
    def holds(blob: str) -> bool:
        return blob.startswith(folder) or bool(listing.members(blob, 0, _END))

    return lambda key: key.startswith(stores) and holds(key.partition("|")[2].rsplit("|", 2)[0])
