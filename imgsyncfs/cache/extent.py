"""An extent in the cache: what the table says of it, how damage to its content is found, and how it is read."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import xxhash

from imgsyncfs.stores.buffers import KeptBuffers

DESCRIPTOR_WEIGHT = 256 << 10
"""The weight of an extent on disk among open ones, in bytes of those in memory."""

_TAG = re.compile(r"(0|[1-9][0-9]{0,14})-[0-9a-f]{32}")
"""Up to 15 digits: no file is longer, and no number is larger than what system calls take."""

VERIFIED_BYTES = 256 << 10
"""Extents are verified through a buffer of this size, which fits the processor's second cache."""


class Entry(NamedTuple):
    """An extent as the table has it; in a damaged one, values may be of any type.

    Attributes:
        key: its name, a text.
        tag: length and digest, a text; see `content_tag`.
        filename: of the file that holds it, within the cache's folder, or of a part of one
            (`imgsyncfs.cache.files.part_name`); None if `content` does.
        content: what it holds as bytes, if there is no file.
        size: what it takes up of the disk beside the database, a number; 0 if it was not asked for.
        row: its number in the table; 0 if it is not there yet.
    """

    key: object
    tag: object
    filename: object
    content: object
    size: object = 0
    row: int = 0


def content_tag(content: bytes | memoryview) -> str:
    """Length and digest of an extent, as kept beside it. The digest finds damage; it keeps no one out."""
    return f"{len(content)}-{xxhash.xxh3_128_hexdigest(content)}"


def tagged_length(tag: object) -> int:
    """The length that a tag gives; 0 for what is no tag."""
    match = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    return int(match[1]) if match else 0


class OpenExtent:
    """An extent that can be read: a descriptor, or bytes in memory. Closed when nobody refers to it.

    Eviction may remove the file meanwhile: the descriptor keeps its content until the last reader is done.

    Args:
        descriptor: of the file that holds it, taken over; None if there is none.
        content: the bytes, if there is no file.
        length: of the content in bytes.
        start: where in the file it begins, in bytes.
    """

    __slots__ = ("_content", "_descriptor", "_start", "length")

    def __init__(self, *, descriptor: int | None = None, content: bytes = b"", length: int, start: int = 0) -> None:
        self._descriptor = descriptor
        self._start = start
        self._content = content
        self.length = length

    def matches(self, tag: object, buffers: KeptBuffers) -> bool:
        """Whether the content is what a tag says.

        Args:
            tag: from the table.
            buffers: to read it into.

        Raises:
            OSError: the file cannot be read.
        """
        digest = xxhash.xxh3_128()
        done = 0
        with buffers.borrow(VERIFIED_BYTES) as buffer:
            while count := self.read_into(done, buffer):
                digest.update(buffer[:count])
                done += count
        return f"{done}-{digest.hexdigest()}" == tag

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` within the extent."""
        if self._descriptor is None:
            return self._content[offset : offset + size]
        # Asked for more than there is, Python makes room for all of it first: five times the cost of 100 kB.
        return os.pread(self._descriptor, max(0, min(size, self.length - offset)), self._start + offset)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with bytes from `offset`; returns how many there were."""
        if self._descriptor is None:
            content = self.read(offset, len(buffer))
            buffer[: len(content)] = content
            return len(content)
        length = max(0, min(len(buffer), self.length - offset))
        return os.preadv(self._descriptor, [buffer[:length]], self._start + offset)

    @property
    def is_in_file(self) -> bool:
        """Whether its bytes are in a file, and not in memory."""
        return self._descriptor is not None

    def splice(self, offset: int, size: int, pipe: int) -> int:
        """Put bytes from `offset` into a pipe; returns how many. Only if it `is_in_file`."""
        if self._descriptor is None:
            return 0
        return os.splice(self._descriptor, pipe, size, offset_src=self._start + offset)

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
