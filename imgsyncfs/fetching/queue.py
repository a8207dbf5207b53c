"""What is to be fetched ahead of readers and waits for its turn: in what company it leaves, and how much at once.

Readers are to have room: whatever one waits for goes out at once and never comes here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container

from imgsyncfs.fetching.flights import Wanted, adjoin, is_small
from imgsyncfs.stores.kept_buffers import BUFFER_BYTES

MOST_BACKGROUND = 24
"""Jobs under way that no reader waits for; two workers then have eight threads left for readers."""

MOST_BACKGROUND_NEAR = 6
"""As many where the store answers within `imgsyncfs.fetching.worker.NEAR_SECONDS`: many only queue up in the server,
and each takes memory to receive into (24 were slower than 4). With 4 jobs the processors were idle for an eighth of a
pass over small blobs, and a reader got 642-651/s; with 6 it got 608-715."""

MOST_LARGE_NEAR = 2
"""As many of those, of more than small blobs: one a worker. The server sends them all at once, so that with more the
first extent of each comes later. One reader of 4 MiB extents in order waited 0.75 s of 1.5 in all with 4, and 0.5 s of
1.3 with 2; with one, two workers had nothing to share."""

MOST_IN_REQUEST = 4
"""Extents asked for in one request. Azurite gives 16 MiB in the time of 8 in pieces (ranges of up to 4 MiB it reads and
digests twice), and far stores are asked less often."""

MOST_SMALL_IN_JOB = 16
"""Small blobs that a worker asks a near store for together: Azurite takes 1.9 ms of CPU for a GET by itself, and 0.95
for one of eight. With 16 in each of 6 jobs a reader got 712-760/s, with 8 630-723."""

MOST_PUT_OFF = 1024
"""Extents that wait for their turn to be fetched ahead; beyond, the oldest are dropped."""


class FetchQueue:
    """Extents that wait for their turn. Not locked: `imgsyncfs.fetching.fetcher.Fetcher` holds its lock meanwhile."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Wanted] = OrderedDict()
        self._jobs = 0
        self._near: dict[str, bool] = {}

    def put(self, wanted: Wanted) -> None:
        """Put an extent at the end."""
        self._waiting[wanted.request.key] = wanted
        if len(self._waiting) > MOST_PUT_OFF:
            self._waiting.popitem(last=False)

    def remove(self, key: str) -> None:
        """Take an extent out, if it is there: it goes another way."""
        self._waiting.pop(key, None)

    def take(self, under_way: Container[str], *, is_away: Callable[[str], bool]) -> list[list[Wanted]]:
        """Take out what may leave now.

        Args:
            under_way: keys of extents that have left already, which are forgotten here.
            is_away: whether a store is being left alone; what it has is forgotten as well.

        Returns:
            The extents of each job.
        """
        jobs: list[list[Wanted]] = []
        while self._waiting:
            key, wanted = next(iter(self._waiting.items()))
            if key not in under_way and not is_away(wanted.request.store):
                if jobs and _go_together(jobs[-1], wanted):
                    jobs[-1].append(wanted)
                elif self._jobs < self._most_jobs(wanted):
                    self._jobs += 1
                    jobs.append([wanted])
                else:
                    break
            del self._waiting[key]
        return jobs

    def note_end(self) -> None:
        """Note that a job has ended."""
        self._jobs -= 1

    def note_near(self, store: str, *, near: bool) -> None:
        """Note whether a store answers soon."""
        self._near[store] = near

    def _most_jobs(self, wanted: Wanted) -> int:
        if not self._near.get(wanted.request.store):
            return MOST_BACKGROUND
        return MOST_BACKGROUND_NEAR if is_small(wanted) else MOST_LARGE_NEAR


def _go_together(job: list[Wanted], wanted: Wanted) -> bool:
    """Whether one more extent may join a job: the next of the same blob, or a small blob among others."""
    if adjoin(job[-1], wanted):
        return len(job) < MOST_IN_REQUEST
    if len(job) == MOST_SMALL_IN_JOB or not (is_small(job[0]) and is_small(wanted)):
        return False
    # A worker asks for them together only if it has room for all; otherwise they would come one after the other.
    return sum(each.request.length or 0 for each in (*job, wanted)) <= BUFFER_BYTES
