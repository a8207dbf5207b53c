"""The memory that blobs are received into: buffers that are kept between uses, and ranges that come part by part.

Fresh memory costs a page fault a page: 4 MiB received into fresh `bytes` take 7.4 ms of CPU, into a kept buffer that
begins at a page 0.7 ms. A part of 4 MiB that is written to a file at once is still in the processor's cache, so a range
of 16 MiB passes through a buffer of 4 MiB, in a third of the time.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imgsyncfs.blob_layout import WHOLE_BLOB_BYTES

BUFFER_BYTES = WHOLE_BLOB_BYTES
"""Enough for the largest extent, and for small blobs that come together. What is never touched takes no memory."""

MOST_KEPT = 4


class KeptBuffers:
    """Lends buffers, and keeps `MOST_KEPT` of `BUFFER_BYTES` for the next borrowers.

    Threads: any number may use it; the table is a deque, whose ends may be used without a lock.
    """

    def __init__(self) -> None:
        self._kept: deque[mmap.mmap] = deque(maxlen=MOST_KEPT)

    @contextmanager
    def borrow(self, byte_count: int) -> Iterator[memoryview]:
        """Lend a buffer for the duration of a block; nothing may look at it afterwards.

        Args:
            byte_count: its length; a longer one than `BUFFER_BYTES` is not kept.
        """
        buffer = None
        if byte_count <= BUFFER_BYTES:
            try:
                buffer = self._kept.pop()
            except IndexError:
                buffer = mmap.mmap(-1, BUFFER_BYTES)
        yield memoryview(buffer or mmap.mmap(-1, byte_count))[:byte_count]
        # Only after a good end: after an error another thread may be writing into it still.
        if buffer is not None:
            self._kept.append(buffer)


class RangeInParts:
    """A range of a blob on its way. If it breaks off, the next request asks for the missing part.

    Args:
        buffer: where each part is received, one byte an item, at least one; used again when `take` returns.
        offset: where the range begins in the blob, in bytes; at least 0.
        length: of the range, in bytes.
        take: called with the number of bytes of the buffer that hold the next part: all, but for the last part. No
            `OSError` may leave it: that would be taken for the network's.
        answered: called when the store begins to answer, which says how far the store is.
    """

    def __init__(
        self,
        buffer: memoryview,
        offset: int,
        length: int,
        *,
        take: Callable[[int], None] = lambda _count: None,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._buffer = buffer
        self._offset = offset
        self._length = length
        self._take = take
        self._answered = answered
        self._buffer_bytes = len(buffer)
        self._filled = self._handed_over = 0

    @property
    def received(self) -> int:
        """How many bytes of the range have come."""
        return self._handed_over + self._filled

    @property
    def offset(self) -> int:
        """Where in the blob the missing part begins."""
        return self._offset + self.received

    @property
    def left(self) -> int:
        """How many bytes are missing."""
        return self._length - self.received

    @property
    def free(self) -> memoryview:
        """The rest of the buffer, where the next bytes belong; not empty."""
        return self._buffer[self._filled :]

    def begin(self) -> None:
        """Note that the store begins to answer."""
        self._answered()

    def put(self, content: bytes) -> None:
        """Take the next bytes of the range, at most `left`."""
        end = self._filled + len(content)
        # Nearly always: libcurl brings 16 KiB at a time.
        if end < self._buffer_bytes:
            self._buffer[self._filled : end] = content
            self._filled = end
            return
        left = memoryview(content)
        while left:
            count = min(len(left), self._buffer_bytes - self._filled)
            self._buffer[self._filled : self._filled + count] = left[:count]
            self.advance(count)
            left = left[count:]

    def advance(self, count: int) -> None:
        """Note that the next bytes of the range lie in `free`."""
        self._filled += count
        if self._filled == self._buffer_bytes:
            self._hand_over()

    def restart(self) -> None:
        """Receive the range from its beginning again; only before the first part was taken."""
        self._filled = self._handed_over = 0

    def end(self) -> None:
        """Hand over the last part: the blob ends here, or the range."""
        if self._filled:
            self._hand_over()

    def _hand_over(self) -> None:
        count, self._filled = self._filled, 0
        self._handed_over += count
        self._take(count)
