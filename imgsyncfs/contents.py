"""Bytes of a file in a dataset: from a place in a blob to the extents that hold it.

Knows how files lie in blobs (`imgsyncfs.extents`) and nothing of how extents come (`imgsyncfs.fetch`).
"""

from __future__ import annotations

from dataclasses import dataclass

from imgsyncfs.cache import OpenExtent
from imgsyncfs.catalog.listing import FileRecord, Listing
from imgsyncfs.extents import EXTENT_BYTES, WHOLE_BLOB_BYTES, extent_range, is_pack
from imgsyncfs.fetch import ExtentRequest, Fetcher, Member, cut_short


@dataclass(frozen=True)
class ContentReader:
    """Reads files of listings through the cache.

    Attributes:
        fetcher: brings extents.
    """

    fetcher: Fetcher

    def read(self, listing: Listing, record: FileRecord, offset: int, size: int) -> bytes:
        """Read a part of a file.

        Args:
            listing: the listing that the record is from.
            record: where the file lies.
            offset: position in the file, in bytes.
            size: how many bytes.

        Returns:
            That many bytes, fewer only where the file ends.

        Raises:
            StoreError: the bytes cannot be had, or are not what the catalog says.
        """
        end = min(offset + size, record.byte_count)
        parts = []
        while offset < end:
            start, extent = self._extent(listing, record, record.offset + offset)
            part = extent.read(record.offset + offset - start, end - offset)
            if not part:
                raise cut_short(listing.store, record.blob)
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_whole(self, listing: Listing, record: FileRecord) -> bytes:
        """Read all of a file; see `read`."""
        return self.read(listing, record, 0, record.byte_count)

    def _extent(self, listing: Listing, record: FileRecord, position: int) -> tuple[int, OpenExtent]:
        """The extent that holds a byte of a blob, and where in the blob it starts."""
        if is_pack(record.blob):
            start, length = extent_range(position, None)
            request = ExtentRequest(listing.store, record.blob, start, length)

            def members() -> tuple[Member, ...]:
                return tuple(listing.members(record.blob, start, start + EXTENT_BYTES))

            return start, self.fetcher.extent(request, members=members)
        start, length = extent_range(position, record.byte_count)
        whole = record.byte_count <= WHOLE_BLOB_BYTES
        # A digest outlives a move to another container and an etag does not: where the digest can be checked, it
        # decides.
        etag = "" if whole and record.md5 else record.etag
        request = ExtentRequest(listing.store, record.blob, start, length, record.md5 or record.etag, etag)
        member: tuple[Member, ...] = ((0, record.byte_count, record.md5),) if whole else ()
        return start, self.fetcher.extent(request, members=lambda: member)
