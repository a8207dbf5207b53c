"""The order in which the extents of a dataset's files follow each other: what a reader in order needs next.

Files are taken by blob and offset. For loose blobs that is the order of their names, and so the order of a directory;
for packs it is the order in which they were published, mostly the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from imgsyncfs.blob_layout import EXTENT_BYTES, WHOLE_BLOB_BYTES, extent_range, is_pack

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing.files import FileTable

PACKED = -1


class ExtentPlace(NamedTuple):
    """An extent of a listing's files.

    Attributes:
        blob: number of the blob, or of the template of its name, in the listing.
        file: index of the file in the listing if the blob is a loose one, else `PACKED`.
        start: position of the extent in the blob, in bytes.
    """

    blob: int
    file: int
    start: int


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
        self._order: memoryview | range = order if len(order) else range(len(self._blobs))
        self.total_bytes = int(files.columns["byte_count"].sum())
        """Of all files together."""

    def place(self, index: int, offset: int) -> ExtentPlace:
        """The extent that holds a byte of a file.

        Args:
            index: of the file in the listing; it is there.
            offset: position in the file, in bytes.
        """
        blob = self._blobs[index]
        position = self._offsets[index] + offset
        if self._packed[blob]:
            return ExtentPlace(blob, PACKED, extent_range(position, None)[0])
        return ExtentPlace(blob, index, extent_range(position, self._byte_counts[index])[0])

    def following(self, place: ExtentPlace) -> ExtentPlace | None:
        """The extent after one, None after the last."""
        blob, index, start = place
        if index == PACKED:
            rank = self._rank(blob, start + EXTENT_BYTES, PACKED)
        else:
            byte_count = self._byte_counts[index]
            if byte_count > WHOLE_BLOB_BYTES and start + EXTENT_BYTES < byte_count:
                return ExtentPlace(blob, index, start + EXTENT_BYTES)
            rank = self._rank(blob, self._offsets[index], index) + 1
        return self.place(self._order[rank], 0) if rank < len(self._order) else None

    def __iter__(self) -> Iterator[ExtentPlace]:
        """All extents, in order."""
        place = self.place(self._order[0], 0) if len(self._order) else None
        while place is not None:
            yield place
            place = self.following(place)

    def beside(self, place: ExtentPlace, count: int) -> list[ExtentPlace]:
        """The others of the extents of a pack that begin at a multiple of `count` times an extent's length.

        Those in which no file begins are left out; there are none for a loose blob.
        """
        if place.file != PACKED:
            return []
        first = place.start - place.start % (count * EXTENT_BYTES)
        starts = range(first, first + count * EXTENT_BYTES, EXTENT_BYTES)
        return [each for start in starts if (each := place._replace(start=start)) != place and self._is_there(each)]

    def first_file(self, place: ExtentPlace) -> int:
        """Index of the first file in an extent."""
        return place.file if place.file != PACKED else self._order[self._rank(place.blob, place.start, PACKED)]

    def byte_count(self, place: ExtentPlace) -> int:
        """Length of an extent in bytes, at most."""
        if place.file == PACKED:
            return EXTENT_BYTES
        byte_count: int = self._byte_counts[place.file]
        return byte_count if byte_count <= WHOLE_BLOB_BYTES else EXTENT_BYTES

    def _is_there(self, place: ExtentPlace) -> bool:
        """Whether a file begins in an extent of a pack."""
        rank = self._rank(place.blob, place.start, PACKED)
        return rank < len(self._order) and self.place(self._order[rank], 0) == place

    def _rank(self, blob: int, offset: int, index: int) -> int:
        """Where a file stands in the order, or would."""
        if isinstance(self._order, range) and index != PACKED:
            return index
        return bisect_left(
            self._order, (blob, offset, index), key=lambda each: (self._blobs[each], self._offsets[each], each)
        )
