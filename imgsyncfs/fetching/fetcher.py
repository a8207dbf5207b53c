"""Bring extents from a store into the cache: the coordinator's side, which sends jobs to workers and waits.

- Single-flight: any number of readers of one extent cause one request.
- A reader waits at most the timeout. The request goes on meanwhile, so that the next reader profits.
- A store that cannot be reached is asked again with backoff (`imgsyncfs.fetching.store_backoff`); readers in between
  are refused at once.
- An extent that a reader waits for is sent for at once; those ahead of readers wait in a queue
  (`imgsyncfs.fetching.queue`).
- Extents that follow each other go out as one request, if all but one are ahead of readers. Each is there for its
  readers when it has come, and not when all have.

Threads: `Fetcher._lock` guards the table of extents in flight, the queue, the counts, and which stores are being looked
at; it is held for dictionary
operations only. The lock of `imgsyncfs.fetching.store_backoff` may be taken within it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, replace

from imgsyncfs.cache import CacheReader, OpenExtent
from imgsyncfs.errors import (
    BlobChanged,
    ConfigurationError,
    StoreError,
    StoreMissing,
    StoreNotAllowed,
    StoreRefused,
    StoreUnreachable,
    WorkerLost,
)
from imgsyncfs.fetching.extent import Extent
from imgsyncfs.fetching.job import Job, Outcome, read_outcomes
from imgsyncfs.fetching.queue import MOST_BACKGROUND, MOST_IN_REQUEST, FetchQueue
from imgsyncfs.fetching.store_backoff import StoreBackoff
from imgsyncfs.workers.pool import Answer, WorkerPool

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchCounts:
    """What has been asked of stores since the mount began, and how many readers are waiting now.

    Attributes:
        requests: how often a store was asked.
        bytes: what came.
        failures: jobs that failed.
        uncached: extents that the cache had no room for.
        unverified: extents that could not be compared with anything: no digest in the catalog, and none from the store.
        waiting: readers.
    """

    requests: int = 0
    bytes: int = 0
    failures: int = 0
    uncached: int = 0
    unverified: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class InFlight:
    """An extent in flight, and how long a reader waits for it.

    Attributes:
        extent: which one.
        outcome: what will become of it.
        deadline: until when to wait, in seconds of the fetcher's clock.
    """

    extent: Extent
    outcome: Future[Outcome]
    deadline: float


class Fetcher:
    """Extents from the cache, or from a store through worker processes.

    Args:
        cache: the cache's reading side.
        pool: workers that run `imgsyncfs.fetching.worker.ExtentFetcher`.
        timeout: seconds that a reader waits at most.
        own_store: gives the URL of the catalog's own store, which goes with each job.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        cache: CacheReader,
        pool: WorkerPool,
        *,
        timeout: float,
        own_store: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._pool = pool
        self._timeout = timeout
        self._own_store = own_store
        self._clock = clock
        self._backoff = StoreBackoff(clock)
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[Outcome]] = {}
        self._readers: Counter[str] = Counter()
        self._looked_at: set[str] = set()
        self._queue = FetchQueue()
        self._counts = FetchCounts()

    def opened(self, key: str) -> OpenExtent | None:
        """The extent if it is open already; the short way."""
        return self._cache.opened(key)

    def cached(self, key: str) -> OpenExtent | None:
        """The extent if the cache has it."""
        return self._cache.find(key)

    def fetch(self, extent: Extent) -> OpenExtent:
        """The extent, from the cache or from its store.

        Raises:
            StoreError: it could not be had within the timeout, and why.
        """
        return self.cached(extent.key) or self.wait(self.start(extent))

    def start(self, extent: Extent, *, ahead: Sequence[Extent] = (), inline: bool = False) -> InFlight:
        """Have an extent fetched that a reader waits for; does not wait. `wait` or `leave` must follow.

        Args:
            extent: which one.
            ahead: extents that will be wanted soon, see `begin`; some may come in the same request.
            inline: the content itself is needed, since the cache did not keep it.

        Raises:
            StoreUnreachable: the store did not answer last, and is not asked yet.
        """
        return self._start(extent, self._clock() + self._timeout, ahead=ahead, inline=inline)

    def wait(self, flight: InFlight) -> OpenExtent:
        """Wait for an extent.

        Raises:
            StoreError: it could not be had within the timeout, and why.
            WorkerLost: the workers that were to bring it died; the next request may bring it.
        """
        key = flight.extent.key
        stored, content = self._await(flight)
        if stored:
            opened = self._cache.find(key)
            if opened is not None:
                return opened
            # Evicted again, or damaged on the way: this time the content itself is asked for.
            _, content = self._await(self._start(flight.extent, flight.deadline, ahead=(), inline=True))
        opened = OpenExtent(content=content, length=len(content))
        self._cache.keep(key, opened)
        return opened

    def leave(self, flight: InFlight) -> None:
        """One reader less waits for an extent."""
        self._leave(flight.extent.key)

    def too_late(self, extent: Extent) -> StoreUnreachable:
        """What a reader is told whose timeout is over; the store is asked again with backoff."""
        reason = f"{extent.store} did not answer within {self._timeout:g} s"
        self._backoff.begin(extent.store, reason)
        return StoreUnreachable(
            f"{reason} for blob {extent.blob}; check the network, or raise the timeout.", option="timeout"
        )

    def begin(self, ahead: Sequence[Extent]) -> None:
        """Have extents fetched that will be wanted soon; does not wait, and does not fail.

        Extents in the cache are left out here: a worker would read and verify them, 2 ms for 4 MiB.
        """
        missing = [extent for extent in ahead if not self._cache.holds(extent.key)]
        with self._lock:
            for extent in missing:
                if extent.key not in self._in_flight:
                    self._queue.put(extent)
        self._dispatch()

    def fetch_all(self, extents: Iterable[Extent]) -> Iterator[tuple[Extent, bool]]:
        """Fetch many extents, `MOST_BACKGROUND` at a time.

        Args:
            extents: which; one that the cache has is not fetched again.

        Yields:
            Each one that is done, in any order, and whether the cache has it now: not if there was no room.

        Raises:
            StoreError: one could not be had, and why.
        """
        flights: dict[Future[Outcome], Extent] = {}
        try:
            for extent in extents:
                if self._cache.holds(extent.key):
                    yield extent, True
                    continue
                flights[self.start(extent).outcome] = extent
                if len(flights) >= MOST_BACKGROUND:
                    yield from self._first_done(flights)
            while flights:
                yield from self._first_done(flights)
        finally:
            for extent in flights.values():
                self._leave(extent.key)

    def _first_done(self, flights: dict[Future[Outcome], Extent]) -> Iterator[tuple[Extent, bool]]:
        """Wait for the first of some extents; those that are done leave the table."""
        done, _ = wait_for_futures(flights, timeout=self._timeout, return_when=FIRST_COMPLETED)
        if not done:
            raise self.too_late(next(iter(flights.values())))
        for outcome in done:
            stored, _ = outcome.result()
            extent = flights.pop(outcome)
            self._leave(extent.key)
            yield extent, stored

    def note_away(self, store: str, error: StoreError) -> None:
        """Note that a store cannot be read, and why."""
        if isinstance(error, StoreUnreachable):
            self._backoff.begin(store, str(error))
        else:
            self._backoff.refuse(store, str(error))

    def look_again(self) -> None:
        """See whether the stores that are away are back; does not wait. Readers would else find out after a pause."""
        for store in self.away():
            with self._lock:
                if store in self._looked_at:
                    continue
                self._looked_at.add(store)
            answer = self._pool.submit({"check": store, "own_store": self._own_store()})
            answer.add_done_callback(lambda done, store=store: self._seen(store, done))  # type: ignore[misc]  # mypy cannot infer a lambda's default

    def _seen(self, store: str, done: Future[Answer]) -> None:
        """Take what a look at a store has shown. Runs on the worker's listening thread."""
        with self._lock:
            self._looked_at.discard(store)
        error = done.exception()
        if error is None:
            self._backoff.end(store)
        elif isinstance(error, StoreRefused | StoreMissing):
            self._backoff.refuse(store, str(error))

    def mark_etag(self, name: str) -> str:
        """Look at a mark in the catalog's own store; gives its etag, ``""`` if there is none, or nobody may look."""
        own_store = self._own_store()
        try:
            answer = self._pool.submit({"mark": name, "in": own_store, "own_store": own_store})
            etag: str = answer.result(self._timeout)[0]["etag"]
        except (StoreError, ConfigurationError, WorkerLost, FutureTimeoutError) as error:
            logger.info("The mark of changes cannot be looked at; the database is asked instead: %s", error)
            return ""
        return etag

    def note_used(self) -> None:
        """Have the cache note which extents were used; else that is noted with the next fetch."""
        used = self._cache.take_used()
        if used:
            self._pool.submit({"used": used})

    def counts(self) -> FetchCounts:
        """What has been asked so far."""
        with self._lock:
            return replace(self._counts, waiting=self._readers.total())

    def away(self) -> dict[str, str]:
        """The stores that cannot be reached, refuse us or are missing, and why."""
        return self._backoff.reasons()

    def _start(self, extent: Extent, deadline: float, *, ahead: Sequence[Extent], inline: bool) -> InFlight:
        key = extent.key
        beside: list[Extent] = []
        with self._lock:
            self._queue.remove(key)
            outcome = self._in_flight.get(_flight_name(key, inline))
            first = outcome is None
            # Whoever comes after one that waited in vain does not wait for the same request anew.
            self._backoff.admit(extent.store)
            if outcome is None:
                outcome = self._in_flight[_flight_name(key, inline)] = Future()
                others = [each for each in ahead if each.key not in self._in_flight]
                beside = _adjoining(extent, others, most=MOST_IN_REQUEST - 1)
            self._readers[key] += 1
        # The cache is asked without the lock; what it has meanwhile costs a request that is a little longer.
        beside = [each for each in beside if not self._cache.holds(each.key)]
        if first:
            self._submit([extent, *self._take_off(beside)], inline=inline)
        others = [each for each in ahead if each not in beside]
        if others:
            self.begin(others)
        return InFlight(extent, outcome, deadline)

    def _take_off(self, extents: Sequence[Extent]) -> list[Extent]:
        """Put extents in flight; returns those that were not in flight yet."""
        new = []
        with self._lock:
            for extent in extents:
                self._queue.remove(extent.key)
                if extent.key not in self._in_flight:
                    self._in_flight[extent.key] = Future()
                    new.append(extent)
        return new

    def _submit(self, extents: Sequence[Extent], *, inline: bool = False, background: bool = False) -> None:
        """Send for extents with one job."""
        with self._lock:
            pinned = list(self._readers)
        job = Job(
            sorted(extents, key=lambda extent: (extent.blob, extent.start)),
            self._own_store(),
            inline=inline,
            background=background,
            used=self._cache.take_used(),
            pinned=pinned,
        )
        answer = self._pool.submit({"job": job.to_fields()}, lambda part: self._receive(job, part))
        answer.add_done_callback(lambda done: self._finish(job, done))

    def _await(self, flight: InFlight) -> Outcome:
        try:
            return flight.outcome.result(max(0.0, flight.deadline - self._clock()))
        except FutureTimeoutError:
            raise self.too_late(flight.extent) from None
        finally:
            self._leave(flight.extent.key)

    def _leave(self, key: str) -> None:
        """One reader less waits for an extent."""
        with self._lock:
            self._readers[key] -= 1
            if self._readers[key] <= 0:
                del self._readers[key]

    def _dispatch(self) -> None:
        """Send jobs for the extents in the queue, as far as its limits allow."""
        with self._lock:
            jobs = self._queue.take(self._in_flight, is_unreachable=self._backoff.is_unreachable)
            self._in_flight.update((extent.key, Future()) for extents in jobs for extent in extents)
        for extents in jobs:
            self._submit(extents, background=True)

    def _receive(self, job: Job, answer: Answer) -> None:
        """Take the outcomes of extents of a job. Runs on the worker's listening thread."""
        for number, outcome in read_outcomes(*answer):
            if number in job.arrived:
                # The worker that sent it first has died since.
                continue
            job.arrived.add(number)
            key = job.extents[number].key
            if outcome.stored:
                self._cache.verified.note(key)
            else:
                # Kept for a reader that comes later.
                self._cache.keep(key, OpenExtent(content=outcome.content, length=len(outcome.content)))
                with self._lock:
                    self._counts = replace(self._counts, uncached=self._counts.uncached + 1)
            self._resolve(key, outcome, inline=job.inline)

    def _finish(self, job: Job, done: Future[Answer]) -> None:
        """Take the end of a job. Runs on the worker's listening thread."""
        error = done.exception()
        store = job.extents[0].store
        if isinstance(error, StoreUnreachable | StoreRefused | StoreMissing) and not isinstance(error, StoreNotAllowed):
            self.note_away(store, error)
        elif isinstance(error, WorkerLost):
            # A worker that died says nothing about the store.
            self._backoff.release(store)
        else:
            self._backoff.end(store)
        if job.background:
            with self._lock:
                self._queue.note_end()
        if error is not None:
            self._fail(job, error)
        else:
            result, _ = done.result()
            with self._lock:
                for url, seconds in result["latencies"].items():
                    self._queue.note_latency(url, seconds)
                counts = self._counts
                self._counts = replace(
                    counts,
                    requests=counts.requests + result["requests"],
                    bytes=counts.bytes + result["bytes"],
                    unverified=counts.unverified + result["unverified"],
                )
            self._receive(job, done.result())
        self._dispatch()

    def _fail(self, job: Job, error: BaseException) -> None:
        """End the extents that a job did not bring. One that a reader waits for is asked for again, alone.

        The error may have been another extent's.
        """
        left = [extent for number, extent in enumerate(job.extents) if number not in job.arrived]
        if isinstance(error, BlobChanged):
            # A worker may have found a whole file to be wrong, and removed it from the cache.
            self._cache.drop(key for extent in job.extents for key in extent.keys_of_whole())
        with self._lock:
            self._counts = replace(self._counts, failures=self._counts.failures + 1)
            awaited = [extent for extent in left if len(job.extents) > 1 and extent.key in self._readers]
        for extent in left:
            if extent not in awaited:
                self._resolve(extent.key, error, inline=job.inline)
        for extent in awaited:
            self._submit([extent], inline=job.inline)

    def _resolve(self, key: str, outcome: Outcome | BaseException, *, inline: bool) -> None:
        """Give an outcome to the readers that wait for an extent."""
        with self._lock:
            future = self._in_flight.pop(_flight_name(key, inline), None)
        if future is None:
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _flight_name(key: str, inline: bool) -> str:
    return f"{key}|inline" if inline else key


def _adjoining(extent: Extent, others: Sequence[Extent], *, most: int) -> list[Extent]:
    """Up to `most` extents that make one piece with another, in the order in which they join it."""
    piece = [extent]
    left = list(others)
    while len(piece) <= most:
        joins = next((each for each in left if any(one.adjoins(each) for one in piece)), None)
        if joins is None:
            break
        left.remove(joins)
        piece.append(joins)
    return piece[1:]
