"""Which extents have been verified lately: by the worker that wrote them, or by another process that opened them.

When such an extent is opened, its length is checked and its digest is not: that would read all of it, 1 ms of CPU for
4 MiB, out of the same memory that was written or read a moment ago, in each process that reads it. Processes that read
a dataset together come to its extents at the same moment: one of them says that it verifies, and the others wait.
"""

from __future__ import annotations

import time

import xxhash

PLACES = 4096
"""Extents that are remembered at a time, fewer where two fall on one place; a power of two."""

_NUMBERS = 3
"""A place holds the digest of a key, until when it counts as verified, and until when others wait for it."""

VERIFIED_BYTES = 8 * _NUMBERS * PLACES

LASTING_SECONDS = 10

CLAIM_SECONDS = 0.02
"""How long others wait for whoever verifies: longer than 4 MiB in memory take, too short for a reader to notice."""

WAIT_SECONDS = 50e-6


class VerifiedExtents:
    """The extents that were verified in the last seconds.

    Several processes may share the memory without a lock: one that reads half of what another writes trusts nothing.

    Args:
        memory: `VERIFIED_BYTES` of it, all 0 at first; None for memory of its own.
        claim_seconds: how long others wait for this one.
    """

    def __init__(self, memory: memoryview | None = None, claim_seconds: float = CLAIM_SECONDS) -> None:
        self._claim_nanoseconds = int(claim_seconds * 1e9)
        self._places = (memoryview(bytearray(VERIFIED_BYTES)) if memory is None else memory).cast("Q")

    def note(self, key: str) -> None:
        """Note that the extent of a key was verified."""
        place, digest = self._place(key)
        if self._places[place] != digest:
            self._places[place + 1] = 0
            self._places[place] = digest
        self._places[place + 1] = int(time.monotonic()) + LASTING_SECONDS
        # After that: who waits looks at this first.
        self._places[place + 2] = 0

    def has(self, key: str) -> bool:
        """Whether the extent of a key was verified in the last seconds."""
        place, digest = self._place(key)
        return self._places[place] == digest and self._places[place + 1] > time.monotonic()

    def claim(self, key: str) -> None:
        """Say that this process verifies the extent of a key now. It need not say that it has failed."""
        place, digest = self._place(key)
        self._places[place + 1] = 0
        self._places[place] = digest
        self._places[place + 2] = time.monotonic_ns() + self._claim_nanoseconds

    def wait_for(self, key: str) -> bool:
        """Wait while another process verifies the extent of a key; returns whether it was verified."""
        place, digest = self._place(key)
        while self._places[place] == digest and self._places[place + 2] > time.monotonic_ns():
            time.sleep(WAIT_SECONDS)
        return self.has(key)

    def _place(self, key: str) -> tuple[int, int]:
        digest = xxhash.xxh3_64_intdigest(key.encode())
        return _NUMBERS * (digest % PLACES), digest
