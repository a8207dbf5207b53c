"""Content from a cached file to the kernel, without a copy in this process.

An answer is gathered in a pipe, its header first, and goes to the kernel's device from there (splice(2)). The pages of
the cached file are so copied once, to where the reader's will be. That a file is shorter than it should be is known
before anything is sent; nothing is mapped, so nobody who cuts a cached file short can end the process.

An answer may be put together from several pieces, with bytes that lie in no file between them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
from collections.abc import Sequence

from imgsyncfs.fetching.contents import Piece
from imgsyncfs.mount.protocol import OUT_HEADER

logger = logging.getLogger(__name__)

LEAST_BYTES = 16 << 10
"""From this length on it is quicker than to copy: it takes two system calls more, and less work for each page."""

_PIPE_BYTES = (2 << 20, 1 << 20)
"""The sizes to ask the kernel for: the largest answer needs the first, which not everyone gets."""

_PAGES_BESIDE = 2
"""Places of the pipe that a part takes beside its length: what begins within a page ends within another one."""


class AnswerPipe:
    """Sends parts of extents, and bytes between them, as answers. Belongs to one thread.

    Args:
        device: descriptor of the kernel's device.
    """

    def __init__(self, device: int) -> None:
        self._device = device
        self._out, self._in = -1, -1
        self._pages = 0
        self._renew()

    def send(self, unique: int, parts: Sequence[bytes | Piece]) -> bool:
        """Answer a read.

        Args:
            unique: of the request.
            parts: the content, in its order. Pieces shorter than `LEAST_BYTES` are copied to what is beside them.

        Returns:
            Whether it was answered; if not, it is to be answered in another way: the content is in memory, too short
            to be worth it, longer than the pipe, or shorter than it should be.

        Raises:
            OSError: the content cannot be read, or the mount has ended.
        """
        length = sum([len(part) if isinstance(part, bytes) else part.length for part in parts])
        if length // mmap.PAGESIZE + _PAGES_BESIDE * (1 + len(parts)) > self._pages or not _is_worth_it(parts):
            return False
        try:
            is_whole = self._fill(OUT_HEADER.pack(OUT_HEADER.size + length, 0, unique), parts)
            if is_whole:
                self._empty(OUT_HEADER.size + length)
        except OSError:
            self._renew()
            raise
        if not is_whole:
            self._renew()
        return is_whole

    def _fill(self, header: bytes, parts: Sequence[bytes | Piece]) -> bool:
        """Put an answer into the pipe; returns whether all of it is there."""
        copied = [header]
        for part in parts:
            if isinstance(part, bytes):
                copied.append(part)
                continue
            extent, position, length = part
            if length < LEAST_BYTES:
                copied.append(extent.read(position, length))
                if len(copied[-1]) < length:
                    return False
                continue
            if copied:
                os.write(self._in, b"".join(copied))
                copied.clear()
            if extent.splice(position, length, self._in) < length:
                return False
        if copied:
            os.write(self._in, b"".join(copied))
        return True

    def _empty(self, length: int) -> None:
        try:
            os.splice(self._out, self._device, length)
        except FileNotFoundError:
            logger.debug("Nobody waits for an answer any more.")
            self._renew()

    def _renew(self) -> None:
        """Begin with an empty pipe."""
        for descriptor in (self._out, self._in):
            if descriptor >= 0:
                os.close(descriptor)
        # It must never be waited for: nobody else would empty it.
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for size in _PIPE_BYTES:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, size)
                break
        self._pages = fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ) // mmap.PAGESIZE


def _is_worth_it(parts: Sequence[bytes | Piece]) -> bool:
    """Whether pieces are long enough, and all that are come from files."""
    long = [part.extent.is_in_file for part in parts if not isinstance(part, bytes) and part.length >= LEAST_BYTES]
    return bool(long) and all(long)
