"""Which extents have been verified lately: by the worker that wrote them, or by another process that opened them.

When such an extent is opened, its length is checked and its digest is not: that would read all of it, 1 ms of CPU for
4 MiB, out of the same memory that was written or read a moment ago, in each process that reads it.
"""

from __future__ import annotations

import time

import xxhash

PLACES = 4096
"""Extents that are remembered at a time, fewer where two fall on one place; a power of two."""

VERIFIED_BYTES = 16 * PLACES

LASTING_SECONDS = 10


class VerifiedExtents:
    """The extents that were verified in the last seconds.

    Several processes may share the memory without a lock: one that reads half of what another writes trusts nothing.

    Args:
        memory: `VERIFIED_BYTES` of it, all 0 at first; None for memory of its own.
    """

    def __init__(self, memory: memoryview | None = None) -> None:
        self._places = (memoryview(bytearray(VERIFIED_BYTES)) if memory is None else memory).cast("Q")

    def note(self, key: str) -> None:
        """Note that the extent of a key was verified."""
        digest = xxhash.xxh3_64_intdigest(key.encode())
        place = 2 * (digest % PLACES)
        self._places[place + 1] = 0
        self._places[place] = digest
        self._places[place + 1] = int(time.monotonic()) + LASTING_SECONDS

    def has(self, key: str) -> bool:
        """Whether the extent of a key was verified in the last seconds."""
        digest = xxhash.xxh3_64_intdigest(key.encode())
        place = 2 * (digest % PLACES)
        return self._places[place] == digest and self._places[place + 1] > time.monotonic()
