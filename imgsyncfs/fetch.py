"""Bring extents from a store into the cache.

The daemon's side (`Fetcher`) asks worker processes and waits; a worker's side (`ExtentFetcher`) does the request,
verifies what came, and puts it into the cache.

- Single-flight: any number of readers of one extent cause one request.
- A reader waits at most the time limit. The request goes on meanwhile, so that the next reader profits.
- A store that is away is asked again after a pause that doubles; readers in between are refused at once, and not each
  after a time limit of its own.

Threads: `Fetcher._lock` guards the table of requests under way and the pauses; it is held for dictionary operations
only.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from imgsyncfs.cache import CacheReader, CacheWriter, OpenExtent
from imgsyncfs.config import store_credentials
from imgsyncfs.errors import BlobChanged, StoreUnreachable
from imgsyncfs.extents import EXTENT_BYTES
from imgsyncfs.store import Store, open_store
from imgsyncfs.workers import Answer, WorkerPool

logger = logging.getLogger(__name__)

FETCH_THREADS = 16
"""Requests that one worker has under way. A store that answers in 20 ms then gives 800 answers a second a worker."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


Member = tuple[int, int, str]
"""A file that lies whole in an extent: offset in the blob, length, md5 (empty if unknown)."""


@dataclass(frozen=True)
class ExtentRequest:
    """One extent, and what is known of its content.

    Attributes:
        store: the store's URL.
        blob: the blob's name in it.
        start: position of the extent in the blob, in bytes.
        length: bytes; None for as much as there is, up to `EXTENT_BYTES`.
        version: what tells this content from another that had the same blob name; part of the cache key.
        etag: the store must still show this, or the blob has changed; empty where a digest says it better.
        members: files that lie whole in this extent; verified when it comes.
    """

    store: str
    blob: str
    start: int
    length: int | None
    version: str = ""
    etag: str = ""
    members: tuple[Member, ...] = ()

    @property
    def key(self) -> str:
        """The name of this extent in the cache."""
        return f"{self.store}|{self.blob}|{self.version}|{self.start}"


def cut_short(store: str, blob: str) -> BlobChanged:
    """Say that a blob ends before the catalog says it does."""
    return BlobChanged(f"Blob {blob} in {store} is shorter than the catalog says; publish or index it again.")


def verify_members(request: ExtentRequest, content: bytes) -> None:
    """Compare an extent's content with what the catalog says of it.

    Raises:
        BlobChanged: a file in it is cut short, or its md5 is another.
    """
    for offset, length, md5 in request.members:
        begin = offset - request.start
        part = memoryview(content)[begin : begin + length]
        if len(part) < length:
            raise cut_short(request.store, request.blob)
        if md5 and hashlib.md5(part, usedforsecurity=False).hexdigest() != md5:
            raise BlobChanged(
                f"Blob {request.blob} in {request.store} has other content than the catalog says (md5 differs at "
                f"byte {offset}); publish or index it again."
            )


class ExtentFetcher:
    """The worker's side: one request at a store, verified, into the cache.

    Args:
        settings: ``cache_folder``, ``size_limit`` (bytes), ``timeout`` (seconds) and ``stores``, the config file's
            section of that name.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._cache = CacheWriter(Path(settings["cache_folder"]), size_limit=settings["size_limit"])
        self._timeout = float(settings["timeout"])
        self._credentials: Mapping[str, Mapping[str, str]] = settings["stores"]
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()

    def handle(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Bring one extent into the cache.

        Args:
            arguments: ``request``, the fields of `ExtentRequest`; ``inline``: send the content back as well.

        Returns:
            ``stored``: whether the cache has it now, and the content if it has not, or if it was asked for.

        Raises:
            StoreError: the store's, or `BlobChanged`.
        """
        fields = arguments["request"]
        request = ExtentRequest(**{**fields, "members": tuple(tuple(member) for member in fields["members"])})
        content = self._cache.get(request.key)
        stored, requests = content is not None, 0
        if content is None:
            length = EXTENT_BYTES if request.length is None else request.length
            content = self._store(request.store).read(request.blob, request.start, length, etag=request.etag)
            requests = 1
            if request.length is not None and len(content) != request.length:
                raise cut_short(request.store, request.blob)
            verify_members(request, content)
            stored = self._cache.put(request.key, content)
        inline = arguments["inline"] or not stored
        answer = {"stored": stored, "requests": requests, "bytes": len(content) if requests else 0}
        return answer, content if inline else b""

    def _store(self, url: str) -> Store:
        with self._lock:
            if url not in self._stores:
                credentials = store_credentials(url, self._credentials)
                self._stores[url] = open_store(url, credentials=credentials, timeout=self._timeout)
            return self._stores[url]


@dataclass
class _Pause:
    seconds: float
    until: float
    reason: str
    probing: bool = False


@dataclass(frozen=True)
class FetchCounts:
    """What has been asked of stores since the mount began, and how many readers are waiting now."""

    requests: int = 0
    bytes: int = 0
    failures: int = 0
    uncached: int = 0
    waiting: int = 0


class Fetcher:
    """The daemon's side: extents from the cache, or from a store through worker processes.

    Args:
        cache: the cache's reading side.
        pool: workers that run `ExtentFetcher`.
        timeout: seconds that a reader waits at most.
    """

    def __init__(self, cache: CacheReader, pool: WorkerPool, *, timeout: float) -> None:
        self._cache = cache
        self._pool = pool
        self._timeout = timeout
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Answer]] = {}
        self._pauses: dict[str, _Pause] = {}
        self._counts = FetchCounts()
        self._waiting = 0

    def extent(self, request: ExtentRequest, *, members: Callable[[], tuple[Member, ...]] = tuple) -> OpenExtent:
        """The extent, from wherever it is nearest.

        Args:
            request: which one; its `members` are filled in here.
            members: what the catalog says lies in it; called only when the extent has to be fetched.

        Raises:
            StoreError: it could not be had within the time limit, and why.
        """
        extent = self._cache.find(request.key)
        if extent is not None:
            return extent
        request = replace(request, members=members())
        deadline = time.monotonic() + self._timeout
        result, content = self._ask(request, deadline, inline=False)
        if result["stored"]:
            extent = self._cache.find(request.key)
            if extent is not None:
                return extent
            # Evicted again, or damaged on the way: this time the content itself is asked for.
            result, content = self._ask(request, deadline, inline=True)
        extent = OpenExtent(content=content, length=len(content))
        self._cache.keep(request.key, extent)
        return extent

    def counts(self) -> FetchCounts:
        """What has been asked so far."""
        with self._lock:
            return replace(self._counts, waiting=self._waiting)

    def pauses(self) -> dict[str, str]:
        """The stores that are away, and why."""
        with self._lock:
            return {store: pause.reason for store, pause in self._pauses.items()}

    def _ask(self, request: ExtentRequest, deadline: float, *, inline: bool) -> Answer:
        flight = f"{request.key}|inline" if inline else request.key
        with self._lock:
            future = self._under_way.get(flight)
            first = future is None
            if future is None:
                self._refuse_while_paused(request.store)
                future = self._under_way[flight] = Future()
            self._waiting += 1
        if first:
            answer = self._pool.submit({"request": asdict(request), "inline": inline})
            answer.add_done_callback(lambda done: self._finish(flight, request.store, future, done))
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            reason = f"{request.store} did not answer within {self._timeout:g} s"
            self._pause(request.store, reason)
            raise StoreUnreachable(
                f"{reason} for blob {request.blob}; check the network, or raise --timeout."
            ) from None
        finally:
            with self._lock:
                self._waiting -= 1

    def _finish(self, flight: str, store: str, future: Future[Answer], done: Future[Answer]) -> None:
        """Take over a worker's answer. Runs on the worker's listening thread."""
        error = done.exception()
        with self._lock:
            self._under_way.pop(flight, None)
            if not isinstance(error, StoreUnreachable):
                self._pauses.pop(store, None)
            counts = self._counts
            if error is None:
                result = done.result()[0]
                self._counts = replace(
                    counts,
                    requests=counts.requests + result["requests"],
                    bytes=counts.bytes + result["bytes"],
                    uncached=counts.uncached + (not result["stored"]),
                )
            else:
                self._counts = replace(counts, failures=counts.failures + 1)
        if error is None:
            future.set_result(done.result())
            return
        if isinstance(error, StoreUnreachable):
            self._pause(store, str(error))
        future.set_exception(error)

    def _refuse_while_paused(self, store: str) -> None:
        """Raise while a store is given time; then one reader gets through to see how it is. Needs the lock."""
        pause = self._pauses.get(store)
        if pause is None:
            return
        if pause.probing or time.monotonic() < pause.until:
            raise StoreUnreachable(f"{pause.reason} (it is asked again every {pause.seconds:g} s)")
        pause.probing = True

    def _pause(self, store: str, reason: str) -> None:
        with self._lock:
            before = self._pauses.get(store)
            if before is None:
                seconds = FIRST_PAUSE_SECONDS
            elif before.probing:
                seconds = min(2 * before.seconds, LONGEST_PAUSE_SECONDS)
            else:
                # Many requests fail together; that is one failure.
                return
            self._pauses[store] = _Pause(seconds, time.monotonic() + seconds, reason)
