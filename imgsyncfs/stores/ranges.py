"""A range of a blob that is received part by part into one buffer, so that 16 MiB pass through a buffer of 4 MiB.

A part that is written to a file at once is still in the processor's cache: 320 MiB from a connection into files take
0.2 s of CPU in parts of 4 MiB, and 0.65 s in parts of 16 MiB.
"""

from __future__ import annotations

from collections.abc import Callable


def _ignore(*_arguments: object) -> None:
    """Nothing is to be done."""


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
        take: Callable[[int], None] = _ignore,
        answered: Callable[[], None] = _ignore,
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
