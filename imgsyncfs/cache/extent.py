"""An extent that can be read."""

from __future__ import annotations

import os

FIRST_READ_BYTES = 256 << 10
"""Extents of up to this length are verified in one piece, which then answers the first read."""

DESCRIPTOR_WEIGHT = FIRST_READ_BYTES
"""The weight of an extent on disk among open ones: what it may hold in memory until its first read."""


class OpenExtent:
    """An extent that can be read: a descriptor, or bytes in memory. Verified; closed when nobody refers to it.

    Eviction may remove the file meanwhile: the descriptor keeps its content until the last reader is done.

    Args:
        descriptor: of the file that holds it, taken over; None if there is none.
        content: the bytes. Kept if there is no file; else dropped with the first read, which then needs no copy.
        length: of the content in bytes.
        start: where in the file it begins, in bytes.
    """

    __slots__ = ("_content", "_descriptor", "_start", "length")

    def __init__(self, *, descriptor: int | None = None, content: bytes = b"", length: int, start: int = 0) -> None:
        self._descriptor = descriptor
        self._start = start
        self._content = content
        self.length = length

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` within the extent."""
        content = self._content
        if self._descriptor is None:
            return content[offset : offset + size]
        if content:
            self._content = b""
            return content[offset : offset + size]
        # Asked for more than there is, Python makes room for all of it first: five times the cost of 100 kB.
        return os.pread(self._descriptor, max(0, min(size, self.length - offset)), self._start + offset)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with bytes from `offset`; returns how many there were."""
        if self._descriptor is None or self._content:
            content = self.read(offset, len(buffer))
            buffer[: len(content)] = content
            return len(content)
        length = max(0, min(len(buffer), self.length - offset))
        return os.preadv(self._descriptor, [buffer[:length]], self._start + offset)

    @property
    def weight(self) -> int:
        """Its weight among the open extents, in bytes."""
        return self.length + 1024 if self._descriptor is None else DESCRIPTOR_WEIGHT

    def removed(self) -> bool:
        """Whether the file has been removed; the disk gets its blocks back when this is closed."""
        return self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
