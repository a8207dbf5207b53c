"""The order in which the extents of a dataset's files follow each other: a reader in order needs the next one.

Files are ordered by blob and offset. For loose blobs that is the order of their names, and so of a directory; for packs
it is the order in which they were published, mostly the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgsyncfs.blob_layout import EXTENT_BYTES, SEAL_BYTES, WHOLE_BLOB_BYTES, extent_range, is_pack

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing.files import FileTable

Place = tuple[int, int]
"""A place in a listing's files: index of the file in the listing, position in the file in bytes. An extent's place is
its first file, and where in the file it begins; in a pack that is at 0, since files do not cross extents there."""


class ExtentOrder:
    """The extents of a listing's images, or of its annotations. Immutable; any number of threads may use it.

    Args:
        files: the images or the annotations.
    """

    def __init__(self, files: FileTable) -> None:
        names = files.texts["blob"]
        self._packed = tuple(is_pack(names[number].decode()) for number in range(len(names)))
        self._blobs = files.columns["blob"].data
        self._offsets = files.columns["blob_offset"].data
        self._byte_counts = files.columns["byte_count"].data
        order = files.columns["order"].data
        # Without an order of their own all are there, or none is: then no blob is named.
        self._order: memoryview | range = order if len(order) else range(len(self._blobs) if len(names) else 0)
        self.total_bytes = int(files.columns["byte_count"].sum())
        """Of all files together."""

    def is_packed(self, place: Place) -> bool:
        """Whether an extent is a pack's."""
        return self._packed[self._blobs[place[0]]]

    def place(self, index: int, offset: int) -> Place:
        """The place of the extent that holds a byte of a file.

        Args:
            index: of the file in the listing; it is there.
            offset: position in the file, in bytes.
        """
        position = self._offsets[index] + offset
        if self._packed[self._blobs[index]]:
            start, _ = extent_range(position, None)
            return self._order[self._rank(self._blobs[index], start)], 0
        return index, extent_range(position, self._byte_counts[index])[0]

    def following(self, place: Place) -> Place | None:
        """The extent after one, None after the last."""
        index, offset = place
        if self.is_packed(place):
            rank = self._rank(self._blobs[index], self._start(index) + EXTENT_BYTES)
        else:
            byte_count = self._byte_counts[index]
            if byte_count > WHOLE_BLOB_BYTES and offset + EXTENT_BYTES < byte_count:
                return index, offset + EXTENT_BYTES
            rank = self._rank(self._blobs[index], self._offsets[index], index) + 1
        return self.place(self._order[rank], 0) if rank < len(self._order) else None

    def __iter__(self) -> Iterator[Place]:
        """All extents, in order."""
        place = self.place(self._order[0], 0) if len(self._order) else None
        while place is not None:
            yield place
            place = self.following(place)

    def beside(self, place: Place, count: int) -> list[Place]:
        """The other extents of a group in a pack, which begins at a multiple of `count` extents' length.

        Extents in which no file begins are left out; there are none beside a loose blob.
        """
        if not self.is_packed(place):
            return []
        blob, start = self._blobs[place[0]], self._start(place[0])
        first = start - start % (count * EXTENT_BYTES)
        starts = range(first, first + count * EXTENT_BYTES, EXTENT_BYTES)
        places = [self._first_file(blob, each) for each in starts if each != start]
        return [(index, 0) for index in places if index is not None]

    def byte_count(self, place: Place) -> int:
        """Length of an extent in bytes, at most."""
        if self.is_packed(place):
            return EXTENT_BYTES
        byte_count: int = self._byte_counts[place[0]]
        return byte_count if byte_count <= WHOLE_BLOB_BYTES else EXTENT_BYTES

    def known_bytes(self, place: Place) -> int:
        """Length of an extent in bytes, as far as the listing tells.

        The last extent of a pack ends behind the last file in it. Where that one is no longer in the dataset, the
        extent is longer than this.
        """
        index, offset = place
        if not self.is_packed(place):
            byte_count: int = self._byte_counts[index]
            return byte_count if byte_count <= WHOLE_BLOB_BYTES else min(EXTENT_BYTES, byte_count - offset)
        blob, start = self._blobs[index], self._start(index)
        rank = self._rank(blob, start + EXTENT_BYTES)
        if rank < len(self._order) and self._blobs[self._order[rank]] == blob:
            return EXTENT_BYTES
        last = self._order[rank - 1]
        return min(EXTENT_BYTES, self._offsets[last] + self._byte_counts[last] + SEAL_BYTES - start)

    def _start(self, index: int) -> int:
        """Where the extent of a packed file begins in its pack."""
        return extent_range(self._offsets[index], None)[0]

    def _first_file(self, blob: int, start: int) -> int | None:
        """The first file that begins in an extent of a pack."""
        rank = self._rank(blob, start)
        index = self._order[rank] if rank < len(self._order) else None
        return index if index is not None and (self._blobs[index], self._start(index)) == (blob, start) else None

    def _rank(self, blob: int, offset: int, index: int = -1) -> int:
        """The position in the order of a file, or of the first one at or beyond an offset in a blob."""
        if isinstance(self._order, range) and index >= 0:
            return index
        return bisect_left(
            self._order, (blob, offset, index), key=lambda each: (self._blobs[each], self._offsets[each], each)
        )
