"""The extents that are to be fetched ahead of readers and wait: which go together, and how many jobs at once.

An extent that a reader waits for never comes here.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Container

from imgsyncfs.fetching.extent import Extent
from imgsyncfs.stores.buffers import BUFFER_BYTES

LOW_LATENCY_SECONDS = 0.015
"""The longest latency of a store that counts as near."""

MOST_BACKGROUND = 24
"""Jobs in flight that no reader waits for; two workers then have eight threads left for readers."""

MOST_BACKGROUND_NEAR = 6
"""The same for a near store: more of them only queue up in the server, and each takes a buffer."""

MOST_LARGE_NEAR = 2
"""The same for jobs of a near store with larger extents than small blobs, one for each worker: the server sends all of
them at once, so that with more jobs the first extent of each comes later."""

MOST_IN_REQUEST = 4
"""Extents asked for in one request: 16 MiB in one piece come in half the time of eight pieces, and far stores are asked
less often."""

MOST_SMALL_IN_JOB = 16
"""Small blobs in one job: a worker asks for all of them at once."""

MOST_QUEUED = 1024
"""Extents that wait; beyond, the oldest are dropped."""


class FetchQueue:
    """Extents that wait. Not locked: `imgsyncfs.fetching.fetcher.Fetcher` holds its lock for each call."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Extent] = OrderedDict()
        self._jobs = 0
        self._latencies: dict[str, float] = {}

    def put(self, extent: Extent) -> None:
        """Put an extent at the end."""
        self._waiting[extent.key] = extent
        if len(self._waiting) > MOST_QUEUED:
            self._waiting.popitem(last=False)

    def remove(self, key: str) -> None:
        """Take an extent out, if it is there: a reader has come for it."""
        self._waiting.pop(key, None)

    def take(self, in_flight: Container[str], *, is_unreachable: Callable[[str], bool]) -> list[list[Extent]]:
        """Take out what may be sent for now.

        Args:
            in_flight: keys of extents in flight, which are dropped here.
            is_unreachable: whether a store cannot be reached; its extents are dropped as well.

        Returns:
            The extents of each job.
        """
        jobs: list[list[Extent]] = []
        while self._waiting:
            key, extent = next(iter(self._waiting.items()))
            if key not in in_flight and not is_unreachable(extent.store):
                if jobs and _go_together(jobs[-1], extent):
                    jobs[-1].append(extent)
                elif self._jobs < self._most_jobs(extent):
                    self._jobs += 1
                    jobs.append([extent])
                else:
                    break
            del self._waiting[key]
        return jobs

    def note_end(self) -> None:
        """Note that a job has ended."""
        self._jobs -= 1

    def note_latency(self, store: str, seconds: float) -> None:
        """Note the latency of a store."""
        self._latencies[store] = seconds

    def _most_jobs(self, extent: Extent) -> int:
        if self._latencies.get(extent.store, math.inf) > LOW_LATENCY_SECONDS:
            return MOST_BACKGROUND
        return MOST_BACKGROUND_NEAR if extent.is_small_blob else MOST_LARGE_NEAR


def _go_together(job: list[Extent], extent: Extent) -> bool:
    """Whether one more extent may join a job: the next of the same blob, or a small blob among others."""
    if job[-1].adjoins(extent):
        return len(job) < MOST_IN_REQUEST
    if len(job) == MOST_SMALL_IN_JOB or not (job[0].is_small_blob and extent.is_small_blob):
        return False
    # A worker asks for all at once only if they fit into its buffer; otherwise they would come one after the other.
    return sum(each.most_bytes for each in (*job, extent)) <= BUFFER_BYTES
