"""What responders and the coordinator share beside their messages: a board in shared memory.

Each responder has a `Slot` of the board. It receives requests straight into that slot, so that the request in its hands
is known there from the moment at which the kernel gave it away, however the responder ends.
"""

from __future__ import annotations

import mmap
import os
import struct

from imgsyncfs.cache import VERIFIED_BYTES, VerifiedExtents
from imgsyncfs.library.kept_renderings import SHARED_BYTES
from imgsyncfs.mount.protocol import REQUEST_BYTES

_UNIQUE = struct.Struct("<Q")
_UNIQUE_OFFSET = 8

_FLAG_BYTES = 4096

BOARD_BYTES = _FLAG_BYTES + VERIFIED_BYTES + SHARED_BYTES
"""The first part of the board: what the coordinator tells all responders, and what they tell each other."""

COUNTS_BYTES = 64
SLOT_BYTES = COUNTS_BYTES + REQUEST_BYTES

COUNTED = ("answered", "handled", "renders", "hits", "misses", "damaged")
_NOTED = 3
"""The first of them are noted by the responder now and then, the others counted there by its cache."""


def memory_file(content: bytes | memoryview) -> int:
    """Put bytes into memory that a descriptor leads to, so that they can be sent to another process."""
    descriptor = os.memfd_create("imgsyncfs", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def shared_memory(byte_count: int) -> int:
    """Memory, all 0, for several processes; takes up what is written to."""
    descriptor = os.memfd_create("imgsyncfs", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, byte_count)
    return descriptor


class Slot:
    """What one responder writes to the board, and the coordinator reads.

    Args:
        board: all of it.
        number: of the responder, from 0.
    """

    def __init__(self, board: memoryview, number: int) -> None:
        start = BOARD_BYTES + number * SLOT_BYTES
        self._counts = board[start : start + COUNTS_BYTES].cast("Q")
        self.cache_counts = self._counts[_NOTED : len(COUNTED)]
        """Where the responder's `imgsyncfs.cache.CacheReader` counts."""
        self.request = board[start + COUNTS_BYTES : start + SLOT_BYTES]
        """Where requests are received."""

    def put_down(self) -> None:
        """Note that the request is no longer in the responder's hands."""
        _UNIQUE.pack_into(self.request, _UNIQUE_OFFSET, 0)

    def in_hand(self) -> int:
        """The number (``unique``) of the request in the responder's hands, 0 if there is none."""
        unique: int = _UNIQUE.unpack_from(self.request, _UNIQUE_OFFSET)[0]
        return unique

    def note(self, answered: int, handled: int, renders: int) -> None:
        """Write what the responder counts itself."""
        counts = self._counts
        counts[0], counts[1], counts[2] = answered, handled, renders

    def counts(self) -> dict[str, int]:
        """The counts by their names."""
        return dict(zip(COUNTED, self._counts.tolist(), strict=False))

    def clear(self) -> None:
        """Make it ready for another responder."""
        self.put_down()
        for place in range(len(COUNTED)):
            self._counts[place] = 0


class Board:
    """Memory that coordinator and responders share.

    Args:
        descriptor: of the memory; None makes it. Taken over.
        responders: how many slots there are.
    """

    def __init__(self, responders: int, descriptor: int | None = None) -> None:
        size = BOARD_BYTES + responders * SLOT_BYTES
        self.descriptor = shared_memory(size) if descriptor is None else descriptor
        self._map = mmap.mmap(self.descriptor, size)
        view = memoryview(self._map)
        renderings = _FLAG_BYTES + VERIFIED_BYTES
        self.verified = VerifiedExtents(view[_FLAG_BYTES:renderings])
        """The extents that were verified lately."""
        self.renderings = view[renderings:BOARD_BYTES]
        """For `imgsyncfs.library.kept_renderings.SharedRenderings`."""
        self.slots = [Slot(view, number) for number in range(responders)]

    @property
    def reads_ahead(self) -> bool:
        """Whether extents were fetched ahead of readers, so that the coordinator wants to know what is reached."""
        return bool(self._map[0])

    @reads_ahead.setter
    def reads_ahead(self, value: bool) -> None:
        self._map[0] = value
