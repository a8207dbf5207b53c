"""Bring extents from a store into the cache: the daemon's side, which asks worker processes and waits.

- Single-flight: any number of readers of one extent cause one request.
- A reader waits at most the time limit. The request goes on meanwhile, so that the next reader profits.
- A store that is away is asked again after a pause that doubles; readers in between are refused at once, and not each
  after a time limit of its own.
- What is fetched ahead of readers leaves them room (`imgsyncfs.fetching.queue`), and whatever a reader waits for goes
  out
  at once.
- Extents that follow each other go out as one request, if all but one are fetched ahead. Each is there for its readers
  when it has come, and not when all have.

Threads: `Fetcher._lock` guards the table of requests under way, the queue, and the counts; it is held for dictionary
operations only. The lock of `imgsyncfs.fetching.store_health` may be taken within it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, field, replace

from imgsyncfs.cache import CacheReader, OpenExtent
from imgsyncfs.errors import BlobChanged, StoreUnreachable, WorkerLost
from imgsyncfs.fetching.flights import Arrival, Flight, Wanted, adjoining
from imgsyncfs.fetching.outcomes import read_outcomes
from imgsyncfs.fetching.queue import MOST_BACKGROUND, MOST_IN_REQUEST, FetchQueue
from imgsyncfs.fetching.requests import ExtentRequest
from imgsyncfs.fetching.store_health import StorePauses
from imgsyncfs.workers.pool import Answer, WorkerPool


@dataclass(frozen=True)
class FetchCounts:
    """What has been asked of stores since the mount began, and how many readers are waiting now.

    Attributes:
        requests: how often a store was asked.
        bytes: what came.
        failures: jobs that failed.
        uncached: extents that the cache had no room for.
        unverified: extents that there was nothing to compare with: no digest in the catalog, and none from the store.
        waiting: readers.
    """

    requests: int = 0
    bytes: int = 0
    failures: int = 0
    uncached: int = 0
    unverified: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class _Job:
    """Extents that were sent for together.

    Attributes:
        wanted: which, as their numbers go.
        inline: their contents were asked for.
        background: no reader waited for one of them.
        landed: numbers of those that are here. One thread at a time has to do with a job: its worker's listener.
    """

    wanted: Sequence[Wanted]
    inline: bool
    background: bool
    landed: set[int] = field(default_factory=set)


class Fetcher:
    """Extents from the cache, or from a store through worker processes.

    Args:
        cache: the cache's reading side.
        pool: workers that run `imgsyncfs.fetching.worker.ExtentFetcher`.
        timeout: seconds that a reader waits at most.
        own_store: gives the URL of the catalog's own store, as each job says it.
    """

    def __init__(self, cache: CacheReader, pool: WorkerPool, *, timeout: float, own_store: Callable[[], str]) -> None:
        self._cache = cache
        self._pool = pool
        self._timeout = timeout
        self._own_store = own_store
        self._pauses = StorePauses()
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Arrival]] = {}
        self._waited_for: Counter[str] = Counter()
        self._queue = FetchQueue()
        self._counts = FetchCounts()

    def opened(self, key: str) -> OpenExtent | None:
        """The extent if it is open already; the short way."""
        return self._cache.opened(key)

    def cached(self, key: str) -> OpenExtent | None:
        """The extent if the cache has it."""
        return self._cache.find(key)

    def extent(self, wanted: Wanted) -> OpenExtent:
        """The extent, from wherever it is nearest.

        Raises:
            StoreError: it could not be had within the time limit, and why.
        """
        return self.cached(wanted.request.key) or self.wait(self.start(wanted))

    def start(self, wanted: Wanted, *, ahead: Sequence[Wanted] = ()) -> Flight:
        """Have an extent fetched that a reader waits for; does not wait.

        Args:
            wanted: which one.
            ahead: what somebody will want soon, see `begin`; one of them may come in the same request.

        Raises:
            StoreUnreachable: the store did not answer last, and is being left alone.
        """
        return self._start(wanted, time.monotonic() + self._timeout, ahead=ahead, inline=False)

    def wait(self, flight: Flight) -> OpenExtent:
        """Wait for an extent.

        Raises:
            StoreError: it could not be had within the time limit, and why.
            WorkerLost: the workers that were to bring it died; whoever asks again may get it.
        """
        key = flight.wanted.request.key
        stored, content = self._await(flight)
        if stored:
            extent = self._cache.find(key)
            if extent is not None:
                return extent
            # Evicted again, or damaged on the way: this time the content itself is asked for.
            _, content = self._await(self._start(flight.wanted, flight.deadline, ahead=(), inline=True))
        extent = OpenExtent(content=content, length=len(content))
        self._cache.keep(key, extent)
        return extent

    def begin(self, ahead: Sequence[Wanted]) -> None:
        """Have extents fetched that somebody will want soon; does not wait, and does not fail.

        Those that the cache has are left out here: a worker would read and verify them to say so, 2 ms for 4 MiB.
        """
        missing = [wanted for wanted in ahead if not self._cache.holds(wanted.request.key)]
        with self._lock:
            for wanted in missing:
                if wanted.request.key not in self._under_way:
                    self._queue.put(wanted)
        self._dispatch()

    def fetch_all(self, wanted: Iterable[Wanted]) -> Iterator[tuple[ExtentRequest, bool]]:
        """Fetch many extents, `MOST_BACKGROUND` at a time.

        Args:
            wanted: which; those that the cache has are not fetched again.

        Yields:
            Each one that is done, in any order, and whether the cache has it now: not so if there was no room.

        Raises:
            StoreError: one could not be had, and why.
        """
        flights: dict[Future[Arrival], ExtentRequest] = {}
        try:
            for each in wanted:
                if self._cache.holds(each.request.key):
                    yield each.request, True
                    continue
                flights[self.start(each).arrival] = each.request
                if len(flights) >= MOST_BACKGROUND:
                    yield from self._landed(flights)
            while flights:
                yield from self._landed(flights)
        finally:
            for request in flights.values():
                self._leave(request.key)

    def _landed(self, flights: dict[Future[Arrival], ExtentRequest]) -> Iterator[tuple[ExtentRequest, bool]]:
        """Wait for the first of some flights; those that are done leave the table."""
        done, _ = wait_for_futures(flights, timeout=self._timeout, return_when=FIRST_COMPLETED)
        if not done:
            raise self._too_late(next(iter(flights.values())))
        for arrival in done:
            stored, _ = arrival.result()
            request = flights.pop(arrival)
            self._leave(request.key)
            yield request, stored

    def note_used(self) -> None:
        """Have the cache note which extents were used; so far that is noted whenever one is fetched."""
        used = self._cache.take_used()
        if used:
            self._pool.submit({"used": used})

    def counts(self) -> FetchCounts:
        """What has been asked so far."""
        with self._lock:
            return replace(self._counts, waiting=self._waited_for.total())

    def pauses(self) -> dict[str, str]:
        """The stores that are away, and why."""
        return self._pauses.reasons()

    def _start(self, wanted: Wanted, deadline: float, *, ahead: Sequence[Wanted], inline: bool) -> Flight:
        key = wanted.request.key
        beside: list[Wanted] = []
        with self._lock:
            self._queue.remove(key)
            arrival = self._under_way.get(_flight_name(key, inline))
            first = arrival is None
            if arrival is None:
                self._pauses.admit(wanted.request.store)
                arrival = self._under_way[_flight_name(key, inline)] = Future()
                others = [each for each in ahead if each.request.key not in self._under_way]
                beside = adjoining(wanted, others, most=MOST_IN_REQUEST - 1)
            self._waited_for[key] += 1
        # The cache is asked without the lock; what it has meanwhile costs a request that is a little longer.
        beside = [each for each in beside if not self._cache.holds(each.request.key)]
        if first:
            self._submit([wanted, *self._leave_along(beside)], inline=inline)
        others = [each for each in ahead if each not in beside]
        if others:
            self.begin(others)
        return Flight(wanted, arrival, deadline)

    def _leave_along(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Those of some extents that nobody else has sent for meanwhile: they are under way now."""
        leaving = []
        with self._lock:
            for each in wanted:
                key = each.request.key
                self._queue.remove(key)
                if key not in self._under_way:
                    self._under_way[key] = Future()
                    leaving.append(each)
        return leaving

    def _submit(self, wanted: Sequence[Wanted], *, inline: bool = False, background: bool = False) -> None:
        """Send for extents with one job."""
        job = _Job(sorted(wanted, key=lambda each: (each.request.blob, each.request.start)), inline, background)
        with self._lock:
            spared = list(self._waited_for)
        requests = [each.request._replace(members=each.members()).to_fields() for each in job.wanted]
        answer = self._pool.submit(
            {
                "requests": requests,
                "inline": inline,
                "used": self._cache.take_used(),
                "spared": spared,
                "own_store": self._own_store(),
            },
            lambda part: self._take_over(job, part),
        )
        answer.add_done_callback(lambda done: self._finish(job, done))

    def _await(self, flight: Flight) -> Arrival:
        try:
            return flight.arrival.result(max(0.0, flight.deadline - time.monotonic()))
        except FutureTimeoutError:
            raise self._too_late(flight.wanted.request) from None
        finally:
            self._leave(flight.wanted.request.key)

    def _leave(self, key: str) -> None:
        """One reader less waits for an extent."""
        with self._lock:
            self._waited_for[key] -= 1
            if self._waited_for[key] <= 0:
                del self._waited_for[key]

    def _too_late(self, request: ExtentRequest) -> StoreUnreachable:
        reason = f"{request.store} did not answer within {self._timeout:g} s"
        self._pauses.begin(request.store, reason)
        return StoreUnreachable(f"{reason} for blob {request.blob}; check the network, or raise --timeout.")

    def _dispatch(self) -> None:
        """Let what waits for its turn go out, as far as there is room."""
        with self._lock:
            jobs = self._queue.take(self._under_way, is_away=self._pauses.is_away)
            self._under_way.update((each.request.key, Future()) for job in jobs for each in job)
        for job in jobs:
            self._submit(job, background=True)

    def _take_over(self, job: _Job, answer: Answer) -> None:
        """Take over what a worker says of extents of a job. Runs on the worker's listening thread."""
        for number, stored, content in read_outcomes(*answer):
            if number in job.landed:
                # The worker that told of it first has died since.
                continue
            job.landed.add(number)
            key = job.wanted[number].request.key
            if stored:
                self._cache.trust(key)
            else:
                # The one who will want it may come later.
                self._cache.keep(key, OpenExtent(content=content, length=len(content)))
                with self._lock:
                    self._counts = replace(self._counts, uncached=self._counts.uncached + 1)
            self._land(key, (stored, content), inline=job.inline)

    def _finish(self, job: _Job, done: Future[Answer]) -> None:
        """Take over the end of a job. Runs on the worker's listening thread."""
        error = done.exception()
        store = job.wanted[0].request.store
        if isinstance(error, StoreUnreachable):
            self._pauses.begin(store, str(error))
        elif not isinstance(error, WorkerLost):
            # A worker that died says nothing about the store.
            self._pauses.end(store)
        if job.background:
            with self._lock:
                self._queue.note_end()
        if error is not None:
            self._fail(job, error)
        else:
            result, _ = done.result()
            with self._lock:
                for store, near in result["near"].items():
                    self._queue.note_near(store, near=near)
                counts = self._counts
                self._counts = replace(
                    counts,
                    requests=counts.requests + result["requests"],
                    bytes=counts.bytes + result["bytes"],
                    unverified=counts.unverified + result["unverified"],
                )
            self._take_over(job, done.result())
        self._dispatch()

    def _fail(self, job: _Job, error: BaseException) -> None:
        """End what a job did not bring. What a reader waits for was perhaps not at fault: it goes out alone."""
        left = [each for number, each in enumerate(job.wanted) if number not in job.landed]
        if isinstance(error, BlobChanged):
            # A worker may have found a whole file to be wrong, and removed it from the cache.
            self._cache.let_go(key for each in job.wanted for key in each.request.keys_of_whole())
        with self._lock:
            self._counts = replace(self._counts, failures=self._counts.failures + 1)
            awaited = [each for each in left if len(job.wanted) > 1 and each.request.key in self._waited_for]
        for each in left:
            if each not in awaited:
                self._land(each.request.key, error, inline=job.inline)
        for each in awaited:
            self._submit([each], inline=job.inline)

    def _land(self, key: str, outcome: Arrival | BaseException, *, inline: bool) -> None:
        """Tell those who wait for an extent."""
        with self._lock:
            arrival = self._under_way.pop(_flight_name(key, inline), None)
        if arrival is None:
            return
        if isinstance(outcome, BaseException):
            arrival.set_exception(outcome)
        else:
            arrival.set_result(outcome)


def _flight_name(key: str, inline: bool) -> str:
    return f"{key}|inline" if inline else key
