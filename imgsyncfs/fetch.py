"""Bring extents from a store into the cache: the daemon's side, which asks worker processes and waits.

- Single-flight: any number of readers of one extent cause one request.
- A reader waits at most the time limit. The request goes on meanwhile, so that the next reader profits.
- A store that is away is asked again after a pause that doubles; readers in between are refused at once, and not each
  after a time limit of its own.
- What is fetched ahead of readers leaves them room: at most `MOST_BACKGROUND` jobs at a time (`MOST_BACKGROUND_NEAR` at
  a near store), and whatever a reader waits for goes out at once.
- Two extents that follow each other go out as one request, if one of them at least is fetched ahead.

Threads: `Fetcher._lock` guards the tables of requests under way and put off, and the counts; it is held for dictionary
operations only. The lock of `imgsyncfs.store_pauses` may be taken within it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, replace

from imgsyncfs.cache import CacheReader, OpenExtent
from imgsyncfs.errors import StoreUnreachable
from imgsyncfs.extent_request import ExtentRequest
from imgsyncfs.flights import Arrival, Flight, Wanted, adjoin, adjoining, cut, is_small
from imgsyncfs.store_pauses import StorePauses
from imgsyncfs.workers import Answer, WorkerPool

MOST_BACKGROUND = 24
"""Jobs under way that no reader waits for; two workers then have eight threads left for readers."""

MOST_BACKGROUND_NEAR = 4
"""As many where the store answers within `imgsyncfs.extent_fetcher.NEAR_SECONDS`: more only queue up in the server, and
each takes memory to receive into. Azurite gave small blobs at 674-776/s so and at 615-634/s otherwise, and a worker
touched a tenth of it."""

MOST_IN_REQUEST = 4
"""Extents asked for in one request. Azurite gives 16 MiB in the time of 8 in pieces (ranges of up to 4 MiB it reads and
digests twice), and far stores are asked less often."""

MOST_IN_AWAITED_REQUEST = 2
"""As many where a reader waits for one of them, since all of a request comes before it has any: at 100 Mbit/s,
0.7 s and not 1.3. The others go out beside it; one reader in order is a few per cent faster so."""

MOST_SMALL_IN_JOB = 8
"""Small blobs that a worker asks a near store for together: at 8 both have half the work that they have one by one, and
16 are no better."""

MOST_PUT_OFF = 1024
"""Extents that wait for their turn to be fetched ahead; beyond, the oldest are dropped."""


@dataclass(frozen=True)
class FetchCounts:
    """What has been asked of stores since the mount began, and how many readers are waiting now."""

    requests: int = 0
    bytes: int = 0
    failures: int = 0
    uncached: int = 0
    waiting: int = 0


class Fetcher:
    """Extents from the cache, or from a store through worker processes.

    Args:
        cache: the cache's reading side.
        pool: workers that run `imgsyncfs.extent_fetcher.ExtentFetcher`.
        timeout: seconds that a reader waits at most.
    """

    def __init__(self, cache: CacheReader, pool: WorkerPool, *, timeout: float) -> None:
        self._cache = cache
        self._pool = pool
        self._timeout = timeout
        self._pauses = StorePauses()
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Arrival]] = {}
        self._waited_for: Counter[str] = Counter()
        self._put_off: OrderedDict[str, Wanted] = OrderedDict()
        self._background = 0
        self._near: dict[str, bool] = {}
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
                key = wanted.request.key
                if key not in self._under_way:
                    self._put_off[key] = wanted
                    if len(self._put_off) > MOST_PUT_OFF:
                        self._put_off.popitem(last=False)
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
            self._put_off.pop(key, None)
            arrival = self._under_way.get(_flight_name(key, inline))
            first = arrival is None
            if arrival is None:
                self._pauses.admit(wanted.request.store)
                arrival = self._under_way[_flight_name(key, inline)] = Future()
                others = [each for each in ahead if each.request.key not in self._under_way]
                beside = adjoining(wanted, others, most=MOST_IN_AWAITED_REQUEST - 1)
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
                self._put_off.pop(key, None)
                if key not in self._under_way:
                    self._under_way[key] = Future()
                    leaving.append(each)
        return leaving

    def _submit(self, wanted: Sequence[Wanted], *, inline: bool = False, background: bool = False) -> None:
        """Send for extents with one job."""
        flight = sorted(wanted, key=lambda each: (each.request.blob, each.request.start))
        with self._lock:
            spared = list(self._waited_for)
        requests = [replace(each.request, members=each.members()).to_fields() for each in flight]
        job = self._pool.submit(
            {"requests": requests, "inline": inline, "used": self._cache.take_used(), "spared": spared}
        )
        job.add_done_callback(lambda done: self._finish(flight, done, inline=inline, background=background))

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
        """Let what was put off go out, as far as there is room."""
        flights: list[list[Wanted]] = []
        with self._lock:
            while self._put_off:
                key, wanted = next(iter(self._put_off.items()))
                if key not in self._under_way and not self._pauses.is_away(wanted.request.store):
                    if flights and _go_together(flights[-1], wanted):
                        flights[-1].append(wanted)
                    elif self._background < self._most_background(wanted.request.store):
                        self._background += 1
                        flights.append([wanted])
                    else:
                        break
                    self._under_way[key] = Future()
                del self._put_off[key]
        for flight in flights:
            self._submit(flight, background=True)

    def _most_background(self, store: str) -> int:
        return MOST_BACKGROUND_NEAR if self._near.get(store) else MOST_BACKGROUND

    def _finish(self, flight: Sequence[Wanted], job: Future[Answer], *, inline: bool, background: bool) -> None:
        """Take over a worker's answer. Runs on the worker's listening thread."""
        error = job.exception()
        store = flight[0].request.store
        if isinstance(error, StoreUnreachable):
            self._pauses.begin(store, str(error))
        else:
            self._pauses.end(store)
        with self._lock:
            self._background -= background
        if error is not None:
            self._fail(flight, error, inline=inline)
        else:
            result, content = job.result()
            parts = cut(content, result["lengths"])
            with self._lock:
                if result["requests"]:
                    self._near[store] = result["near"]
                counts = self._counts
                self._counts = replace(
                    counts,
                    requests=counts.requests + result["requests"],
                    bytes=counts.bytes + result["bytes"],
                    uncached=counts.uncached + result["stored"].count(False),
                )
            for each, stored, part in zip(flight, result["stored"], parts, strict=True):
                if stored:
                    self._cache.trust(each.request.key)
                else:
                    # The one who will want it may come later.
                    self._cache.keep(each.request.key, OpenExtent(content=part, length=len(part)))
                arrival = self._land(each.request.key, inline=inline)
                arrival.set_result((stored, part))
        self._dispatch()

    def _fail(self, flight: Sequence[Wanted], error: BaseException, *, inline: bool) -> None:
        """End a flight that brought nothing. What a reader waits for was perhaps not at fault: it goes out alone."""
        with self._lock:
            self._counts = replace(self._counts, failures=self._counts.failures + 1)
            awaited = [each for each in flight if len(flight) > 1 and each.request.key in self._waited_for]
        for each in flight:
            if each not in awaited:
                self._land(each.request.key, inline=inline).set_exception(error)
        for each in awaited:
            self._submit([each], inline=inline)

    def _land(self, key: str, *, inline: bool) -> Future[Arrival]:
        with self._lock:
            return self._under_way.pop(_flight_name(key, inline))


def _go_together(flight: Sequence[Wanted], wanted: Wanted) -> bool:
    """Whether one more extent may join a job: the next of the same blob, or a small blob among others."""
    if adjoin(flight[-1], wanted):
        return len(flight) < MOST_IN_REQUEST
    return len(flight) < MOST_SMALL_IN_JOB and is_small(flight[0]) and is_small(wanted)


def _flight_name(key: str, inline: bool) -> str:
    return f"{key}|inline" if inline else key
