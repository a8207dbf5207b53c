"""A worker's side of fetching: one request at a store, verified, into the cache.

Extents that follow each other come in one request, and each is kept and told of as soon as it is here.

A store is opened only if the catalog may name it (`imgsyncfs.stores.allowed`). Each job says which store is the
catalog's own, since that is not known when workers start, may change, and must be known to those that replace others.

Threads: `ExtentFetcher._lock` guards the table of stores; it is held while one is opened, which asks nobody. A job that
asks for several small blobs may do so on threads that take no jobs, so that none waits for the other.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.cache import CacheWriter
from imgsyncfs.errors import ConfigurationError, StoreError
from imgsyncfs.fetching.outcomes import ExtentOutcomes
from imgsyncfs.fetching.requests import ExtentRequest, verify_extent
from imgsyncfs.fetching.whole_checks import WholeChecks
from imgsyncfs.stores.allowed import allowed_stores, open_allowed_store
from imgsyncfs.stores.contract import RangeRead, Store
from imgsyncfs.stores.kept_buffers import BUFFER_BYTES, KeptBuffers
from imgsyncfs.stores.ranges import RangeInParts
from imgsyncfs.workers.frames import Tell

NEAR_SECONDS = 0.015
"""A store that answers faster is sent the requests of a job together, over one connection: that saves a third of the
processor's time here and there. From a farther one they come side by side, so that no one waits for all in a row."""

LATENCY_FADES = 1.005
"""What is remembered of the shortest answer grows so much with each one after it: fivefold in 320 answers."""

MOST_SIDE_BY_SIDE = 48
"""Requests beyond those of `imgsyncfs.library.processes.FETCH_THREADS` jobs; at 20 ms, a worker then gets 2,400/s."""


Numbered = tuple[int, ExtentRequest]
"""A request, and its number in the job."""

Keep = Callable[[Sequence[Numbered], Sequence[memoryview], Sequence[bool]], None]
"""Keeps the contents that were fetched for some requests, each compared with something or not, and tells of them."""


class ExtentFetcher:
    """Brings extents into the cache; what `imgsyncfs.workers.process` runs.

    Args:
        settings: ``cache_folder``, ``size_limit`` and ``keep_free`` (bytes), ``timeout`` (seconds), ``stores``, the
            config file's section of that name, and ``allowed_stores``, URLs beside the catalog's own store.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._cache = CacheWriter(
            Path(settings["cache_folder"]), size_limit=settings["size_limit"], keep_free=settings["keep_free"]
        )
        self._timeout = float(settings["timeout"])
        self._whole_checks = WholeChecks(self._cache, timeout=self._timeout)
        self._credentials: Mapping[str, Mapping[str, str]] = settings["stores"]
        self._allowed = tuple(settings["allowed_stores"])
        self._stores: dict[tuple[str, str], Store] = {}
        self._lock = threading.Lock()
        self._latencies: dict[str, float] = {}
        self._buffers = KeptBuffers()
        self._side_by_side = ThreadPoolExecutor(MOST_SIDE_BY_SIDE, thread_name_prefix="read")

    def handle(self, arguments: dict[str, Any], tell: Tell) -> tuple[dict[str, Any], bytes]:
        """Do one job.

        Args:
            arguments: ``used``, the keys of extents that were used since the last job, the oldest use first;
                ``own_store``, the URL of the catalog's own store; and one of

                - ``requests``, the fields of `ExtentRequest` of extents to bring into the cache (those that follow each
                  other in a blob come in one request), with ``inline``: send the content back as well, and ``spared``:
                  the keys of extents not to be evicted for it;
                - ``open``, the URLs of stores that will be asked soon;
                - ``check``, the URL of a store that must be there and let us read;
                - ``remove_orphans``: search the cache for files without an entry;
                - nothing.

            tell: sends the outcomes of extents ahead of others of the job.

        Returns:
            For requests the outcomes of those that nothing was told of, as `imgsyncfs.fetching.outcomes.ExtentOutcomes`
            puts them, with ``requests`` and ``bytes``: what was asked of the store; ``unverified``: how many of them
            there was nothing to compare with; and ``near``: each store that was asked, and whether it answers soon.

        Raises:
            StoreNotAllowed: it is neither the catalog's own store nor allowed.
            StoreError: the store's, or `BlobChanged`; what was not told of is not in the cache then.
        """
        if "requests" in arguments:
            return self._fetch(arguments, tell)
        self._cache.note_used(arguments.get("used", ()))
        for url in arguments.get("open", ()):
            # Whoever reads from one that makes no sense is told then.
            with contextlib.suppress(ConfigurationError, StoreError):
                self._store(url, arguments["own_store"])
        if "remove_orphans" in arguments:
            self._cache.remove_orphans()
        if "check" in arguments:
            self._store(arguments["check"], arguments["own_store"]).check()
        return {}, b""

    def _fetch(self, arguments: dict[str, Any], tell: Tell) -> tuple[dict[str, Any], bytes]:
        requests = [ExtentRequest.from_fields(fields) for fields in arguments["requests"]]
        outcomes = ExtentOutcomes(len(requests), tell, inline=arguments["inline"])
        spared = {*arguments["spared"], *(request.key for request in requests)}
        used = list(arguments["used"])
        own_store: str = arguments["own_store"]
        fetched_bytes = unverified = 0
        missing: list[Numbered] = []
        for numbered in enumerate(requests):
            content = self._cache.get(numbered[1].key)
            if content is None:
                missing.append(numbered)
            else:
                outcomes.add([numbered[0]], [content], [True])

        def keep(fetched: Sequence[Numbered], contents: Sequence[memoryview], verified: Sequence[bool]) -> None:
            nonlocal fetched_bytes, unverified
            fetched_bytes += sum(map(len, contents))
            unverified += verified.count(False)
            keys = [request.key for _, request in fetched]
            kept = self._cache.put_all(dict(zip(keys, contents, strict=True)), used=used, pinned=spared)
            stored = [key in kept for key in keys]
            used.clear()
            for _, request in fetched:
                self._whole_checks.check(request)
            outcomes.add([number for number, _ in fetched], contents, stored)

        checkable = [numbered for numbered in missing if numbered[1].can_be_checked]
        others = [numbered for numbered in missing if not numbered[1].can_be_checked]
        groups = _adjoining(checkable)
        if 1 < len(groups) == len(checkable) and _sum_of_bytes(checkable) <= BUFFER_BYTES:
            self._read_together(checkable, keep, own_store)
        else:
            for group in groups:
                self._read_in_parts(group, keep, own_store)
        for portion in _portions(others):
            self._read_checked_by_store(portion, keep, own_store)
        words, contents = outcomes.rest()
        counts = {
            "requests": len(groups) + len(others),
            "bytes": fetched_bytes,
            "unverified": unverified,
            "near": {store: self._is_near(store) for store in {request.store for _, request in missing}},
        }
        return {**words, **counts}, contents

    def _read_in_parts(self, group: Sequence[Numbered], keep: Keep, own_store: str) -> None:
        """One request for extents that follow each other; each is kept when it has come."""
        first = group[0][1]
        left = iter(group)

        def take(byte_count: int) -> None:
            numbered = next(left)
            content = room[:byte_count]
            keep([numbered], [content], [verify_extent(numbered[1], content)])

        with self._buffers.room(_most_bytes(first)) as room:
            byte_count = sum(_most_bytes(request) for _, request in group)
            began = time.monotonic()
            parts = RangeInParts(
                room,
                first.start,
                byte_count,
                take=take,
                answered=lambda: self._note_latency(first.store, time.monotonic() - began),
            )
            self._store(first.store, own_store).read_parts(first.blob, parts, etag=first.etag)
            # The blob has ended before these.
            for numbered in left:
                keep([numbered], [room[:0]], [verify_extent(numbered[1], room[:0])])

    def _read_together(self, missing: Sequence[Numbered], keep: Keep, own_store: str) -> None:
        """A request for each of some extents; they are kept when all have come."""
        with self._buffers.room(_sum_of_bytes(missing)) as room:
            reads = []
            left = room
            for _, request in missing:
                reads.append(RangeRead(request.blob, left[: _most_bytes(request)], request.start, request.etag))
                left = left[_most_bytes(request) :]
            urls = [request.store for _, request in missing]
            counts = self._read_all(urls, reads, own_store)
            contents, verified = [], []
            for (_, request), read, byte_count in zip(missing, reads, counts, strict=True):
                contents.append(read.room[:byte_count])
                verified.append(verify_extent(request, contents[-1]))
            keep(missing, contents, verified)

    def _read_checked_by_store(self, missing: Sequence[Numbered], keep: Keep, own_store: str) -> None:
        """A request for each of some extents of which the catalog has no digest: the store may vouch for them."""
        with self._buffers.room(_sum_of_bytes(missing)) as room:
            rooms = []
            left = room
            for _, request in missing:
                rooms.append(left[: _most_bytes(request)])
                left = left[_most_bytes(request) :]

            contents, verified = [], []
            stores = [self._store(request.store, own_store) for _, request in missing]
            requests = [request for _, request in missing]
            outcomes = self._side_by_side.map(self._read_vouched_for, stores, requests, rooms)
            for content, was_verified in outcomes:
                contents.append(content)
                verified.append(was_verified)
            keep(missing, contents, verified)

    def _read_vouched_for(self, store: Store, request: ExtentRequest, room: memoryview) -> tuple[memoryview, bool]:
        """An extent's content, and whether it was compared with something, or will be when all of its file is here."""
        digest = self._whole_checks.digest(request, store)
        began = time.monotonic()
        byte_count, compared = store.read_checked(request.blob, room, request.start, etag=request.etag)
        self._note_latency(request.store, time.monotonic() - began)
        content = room[:byte_count]
        verified = verify_extent(request, content, digest=digest)
        return content, verified or compared or request.whole is not None

    def _read_all(self, urls: Sequence[str], reads: Sequence[RangeRead], own_store: str) -> Iterable[int]:
        """How many bytes each range has: a near store is asked for all of its own at once, a far one side by side."""
        asked: list[tuple[str, list[RangeRead]]] = []
        for url, same in itertools.groupby(zip(urls, reads, strict=True), operator.itemgetter(0)):
            together = [read for _, read in same]
            asked += [(url, together)] if self._is_near(url) else [(url, [read]) for read in together]

        def read(url: str, together: Sequence[RangeRead]) -> list[int]:
            began = time.monotonic()
            counts = self._store(url, own_store).read_all_into(together)
            self._note_latency(url, (time.monotonic() - began) / len(together))
            return counts

        if len(asked) == 1:
            return read(*asked[0])
        return itertools.chain.from_iterable(self._side_by_side.map(read, *zip(*asked, strict=True)))

    def _note_latency(self, store: str, seconds: float) -> None:
        """Note how long an answer took.

        The shortest of the last few hundred counts: a server that we keep busy ourselves takes long too, a far one
        always. Threads meeting here do no harm.
        """
        self._latencies[store] = min(seconds, LATENCY_FADES * self._latencies.get(store, math.inf))

    def _is_near(self, store: str) -> bool:
        return self._latencies.get(store, math.inf) <= NEAR_SECONDS

    def _store(self, url: str, own_store: str) -> Store:
        with self._lock:
            store = self._stores.get((url, own_store))
            if store is None:
                allowed = allowed_stores(own_store, self._allowed)
                store = open_allowed_store(url, allowed=allowed, sections=self._credentials, timeout=self._timeout)
                self._stores[url, own_store] = store
            return store


def _most_bytes(request: ExtentRequest) -> int:
    return EXTENT_BYTES if request.length is None else request.length


def _sum_of_bytes(missing: Sequence[Numbered]) -> int:
    return sum(_most_bytes(request) for _, request in missing)


def _portions(missing: Sequence[Numbered]) -> Iterator[Sequence[Numbered]]:
    """Cut requests into portions that fit into a buffer."""
    start = 0
    for stop in range(1, len(missing) + 1):
        if stop == len(missing) or _sum_of_bytes(missing[start : stop + 1]) > BUFFER_BYTES:
            yield missing[start:stop]
            start = stop


def _adjoining(missing: Sequence[Numbered]) -> list[list[Numbered]]:
    """Gather the requests that follow each other in a blob."""
    groups: list[list[Numbered]] = []
    for number, request in missing:
        if groups and groups[-1][-1][1].is_followed_by(request):
            groups[-1].append((number, request))
        else:
            groups.append([(number, request)])
    return groups
