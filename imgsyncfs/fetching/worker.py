"""A worker's side of fetching: extents read from a store, verified, into the cache.

Extents that follow each other come in one request; each is kept, and its outcome sent, as soon as it has come.

A store is opened only if the catalog may name it (`imgsyncfs.stores.allowed`). Each job says which store is the
catalog's own: it is not known when workers start, and may change.

Threads: `ExtentFetcher._lock` guards the table of stores; it is held while one is opened, which sends no request.
`_renew_lock` is held while credentials are read again, by jobs that a store has refused; it is taken first. A job
may read several blobs that only the store can check on threads that take no jobs, so that no job waits for another.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import operator
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imgsyncfs.cache import CacheWriter
from imgsyncfs.errors import BlobMissing, ConfigurationError, StoreError, StoreRefused, StoreUnreachable
from imgsyncfs.fetching.extent import Extent, verify_extent
from imgsyncfs.fetching.job import Job, OutcomeSender
from imgsyncfs.fetching.whole_checks import WholeChecks
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.stores.allowed import allowed_stores, open_allowed_store
from imgsyncfs.stores.buffers import BUFFER_BYTES, KeptBuffers, RangeInParts
from imgsyncfs.stores.contract import RangeRead, Store
from imgsyncfs.stores.credentials import ENVIRONMENT
from imgsyncfs.workers.environment import log_in_with
from imgsyncfs.workers.frames import Send
from imgsyncfs.workers.trial import say_begun

LATENCY_FADES = 1.005
"""The shortest latency is multiplied by this with each longer one: fivefold in 320 answers."""

logger = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
"""How long a command may take that gives a secret again, and how often it is asked for at most."""

MOST_SIDE_BY_SIDE = 48
"""Requests for content that only the store has a digest of, beyond those of `imgsyncfs.library.processes.FETCH_THREADS`
jobs; at 20 ms, a worker then gets 2,400/s."""

Keep = Callable[[Sequence[Extent], Sequence[memoryview], Sequence[bool]], None]
"""Keeps the contents of some extents, each compared with something or not, and sends their outcomes."""


class ExtentFetcher:
    """Brings extents into the cache; what `imgsyncfs.workers.process` runs.

    Args:
        settings: ``cache_folder``, ``size_limit`` and ``keep_free`` (bytes), ``timeout`` (seconds), ``stores``, the
            config file's section of that name, ``allowed_stores``, URLs beside the catalog's own store, and
            ``offline``, whether no store is to be asked; and ``config`` and ``profile``, from where credentials are
            read again when a store refuses those that it was given. Empty for none.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        log_in_with(settings.get("log_in", {}))
        self._cache = CacheWriter(
            Path(settings["cache_folder"]), size_limit=settings["size_limit"], keep_free=settings["keep_free"]
        )
        self._timeout = float(settings["timeout"])
        self._whole_checks = WholeChecks(self._cache, timeout=self._timeout)
        self._credentials: Mapping[str, Mapping[str, str]] = settings["stores"]
        self._allowed = tuple(settings["allowed_stores"])
        self._is_offline: bool = settings.get("offline", False)
        self._config, self._profile = settings.get("config", ""), settings.get("profile", "")
        self._renew_lock = threading.Lock()
        self._renewed_at = -math.inf
        self._stores: dict[tuple[str, str], Store] = {}
        self._lock = threading.Lock()
        self._latencies: dict[str, float] = {}
        self._buffers = KeptBuffers()
        self._side_by_side = ThreadPoolExecutor(MOST_SIDE_BY_SIDE, thread_name_prefix="read")

    def handle(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:
        """Do one job.

        Args:
            arguments: one of

                - ``job``, the fields of a `imgsyncfs.fetching.job.Job`: extents to bring into the cache;
                - ``used``, the keys of extents that were used since the last job, the oldest use first;
                - ``open``, the URLs of stores that will be asked soon, with ``own_store``, that of the catalog's own;
                - ``mark``, the name of a mark to look at in the store ``in``, likewise;
                - ``check``, the URL of a store that must be there and let us read, likewise;
                - ``remove_orphans``: search the cache for files without an entry;
                - nothing.

            send: sends outcomes of extents ahead of others of the job.

        Returns:
            For a mark its ``etag``, empty if there is none. For a job the outcomes that were not sent ahead, as
            `imgsyncfs.fetching.job.OutcomeSender` puts them, with ``requests`` and ``bytes``: what was asked of stores;
            ``unverified``: the number of extents that could not be compared with anything; and ``latencies``: that of
            each store that was asked, in seconds.

        Raises:
            StoreNotAllowed: a store is neither the catalog's own nor allowed.
            StoreError: the store's, or `BlobChanged`; extents without an outcome are not in the cache then.
        """
        try:
            return self._answer(arguments, send)
        except StoreRefused:
            # A signature may have ended, and another one be there.
            if not self._renew_credentials():
                raise
        return self._answer(arguments, send)

    def _answer(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:
        """See `handle`."""
        if "job" in arguments:
            return self._fetch(Job.from_fields(arguments["job"]), send)
        self._cache.note_used(arguments.get("used", ()))
        for url in arguments.get("open", ()):
            # The first read from a URL that makes no sense reports it.
            with contextlib.suppress(ConfigurationError, StoreError):
                self._store(url, arguments["own_store"])
        if "remove_orphans" in arguments:
            self._cache.remove_orphans()
        if "mark" in arguments:
            try:
                info = self._store(arguments["in"], arguments["own_store"]).describe(arguments["mark"])
            except BlobMissing:
                return {"etag": ""}, b""
            return {"etag": info.etag}, b""
        if "check" in arguments:
            store = self._store(arguments["check"], arguments["own_store"])
            if not store.is_cheap_to_read:
                say_begun(send)
            store.check()
        return {}, b""

    def _fetch(self, job: Job, send: Send) -> tuple[dict[str, Any], bytes]:
        outcomes = OutcomeSender(job, send)
        pinned = {*job.pinned, *(extent.key for extent in job.extents)}
        used = job.used
        fetched_bytes = unverified = 0
        missing: list[Extent] = []
        for extent in job.extents:
            content = self._cache.get(extent.key)
            if content is None:
                missing.append(extent)
            else:
                outcomes.add([extent], [content], [True])

        def keep(fetched: Sequence[Extent], contents: Sequence[memoryview], verified: Sequence[bool]) -> None:
            nonlocal fetched_bytes, unverified, used
            fetched_bytes += sum(map(len, contents))
            unverified += verified.count(False)
            keys = [extent.key for extent in fetched]
            kept = self._cache.put_all(dict(zip(keys, contents, strict=True)), used=used, pinned=pinned)
            used = ()
            for extent in fetched:
                self._whole_checks.check(extent)
            outcomes.add(fetched, contents, [key in kept for key in keys])

        checkable = [extent for extent in missing if extent.can_be_checked]
        others = [extent for extent in missing if not extent.can_be_checked]
        groups = _adjoining(checkable)
        if 1 < len(groups) == len(checkable) and _sum_of_bytes(checkable) <= BUFFER_BYTES:
            self._read_together(checkable, keep, job.own_store)
        else:
            for group in groups:
                self._read_in_parts(group, keep, job.own_store)
        for portion in _portions(others):
            self._read_checked_by_store(portion, keep, job.own_store)
        self._cache.note_used(used)
        stores = {extent.store for extent in missing}
        message, contents = outcomes.last()
        counts = {
            "requests": len(groups) + len(others),
            "bytes": fetched_bytes,
            "unverified": unverified,
            "latencies": {url: self._latencies[url] for url in stores if url in self._latencies},
        }
        return {**message, **counts}, contents

    def _read_in_parts(self, group: Sequence[Extent], keep: Keep, own_store: str) -> None:
        """One request for extents that follow each other; each is kept when it has come."""
        first = group[0]
        left = iter(group)

        def take(byte_count: int) -> None:
            extent = next(left)
            content = buffer[:byte_count]
            keep([extent], [content], [verify_extent(extent, content)])

        with self._buffers.borrow(first.most_bytes) as buffer:
            began = time.monotonic()
            parts = RangeInParts(
                buffer,
                first.start,
                _sum_of_bytes(group),
                take=take,
                answered=lambda: self._note_latency(first.store, time.monotonic() - began),
            )
            self._store(first.store, own_store).read_parts(first.blob, parts, etag=first.etag)
            # The blob has ended before these.
            for extent in left:
                keep([extent], [buffer[:0]], [verify_extent(extent, buffer[:0])])

    def _read_together(self, extents: Sequence[Extent], keep: Keep, own_store: str) -> None:
        """A request for each of some extents; they are kept when all have come."""
        with self._buffers.borrow(_sum_of_bytes(extents)) as buffer:
            reads = [
                RangeRead(extent.blob, part, extent.start, extent.etag)
                for extent, part in zip(extents, _cut(buffer, extents), strict=True)
            ]
            counts = self._read_all([extent.store for extent in extents], reads, own_store)
            contents = [read.buffer[:count] for read, count in zip(reads, counts, strict=True)]
            keep(extents, contents, [*map(verify_extent, extents, contents)])

    def _read_checked_by_store(self, extents: Sequence[Extent], keep: Keep, own_store: str) -> None:
        """A request for each of some extents of which the catalog has no digest: the store may vouch for them."""
        with self._buffers.borrow(_sum_of_bytes(extents)) as buffer:
            stores = [self._store(extent.store, own_store) for extent in extents]
            read = self._side_by_side.map(self._read_vouched_for, stores, extents, _cut(buffer, extents))
            contents, verified = zip(*read, strict=True)
            keep(extents, contents, verified)

    def _read_vouched_for(self, store: Store, extent: Extent, buffer: memoryview) -> tuple[memoryview, bool]:
        """An extent's content, and whether it was compared with something, or will be when all of its file is here."""
        digest = self._whole_checks.digest(extent, store)
        began = time.monotonic()
        byte_count, compared = store.read_checked(extent.blob, buffer, extent.start, etag=extent.etag)
        self._note_latency(extent.store, time.monotonic() - began)
        content = buffer[:byte_count]
        verified = verify_extent(extent, content, digest=digest)
        return content, verified or compared or extent.whole is not None

    def _read_all(self, urls: Sequence[str], reads: Sequence[RangeRead], own_store: str) -> Iterator[int]:
        """The number of bytes that each range has; a store is asked for all of its own at once."""
        for url, same in itertools.groupby(zip(urls, reads, strict=True), operator.itemgetter(0)):
            began = time.monotonic()
            latencies: list[float] = []

            def answered(began: float = began, latencies: list[float] = latencies) -> None:
                latencies.append(time.monotonic() - began)

            yield from self._store(url, own_store).read_all_into([read for _, read in same], answered=answered)
            if latencies:
                # The first answer alone: the others have waited for each other.
                self._note_latency(url, latencies[0])

    def _note_latency(self, store: str, seconds: float) -> None:
        """Note the latency of an answer.

        The shortest of the last few hundred counts: a server that we keep busy ourselves takes long too, a far one
        always. Threads that meet here do no harm.
        """
        self._latencies[store] = min(seconds, LATENCY_FADES * self._latencies.get(store, math.inf))

    def _renew_credentials(self) -> bool:
        """Read the credentials of stores from the config file once more; says whether they are others than before."""
        if not self._config:
            return False
        with self._renew_lock:
            now = time.monotonic()
            if now - self._renewed_at < RENEW_SECONDS:
                return False
            self._renewed_at = now
            try:
                configuration = load_configuration(Path(self._config), profile=self._profile or None)
                sections = configuration.stores_anew(RENEW_SECONDS)
            except ConfigurationError as error:
                logger.warning("The credentials of stores cannot be read again: %s", error)
                return False
            if ENVIRONMENT in self._credentials:
                sections[ENVIRONMENT] = dict(self._credentials[ENVIRONMENT])
            if sections == self._credentials:
                return False
            with self._lock:
                self._credentials = sections
                # Others may be reading from these: they are closed when nobody has them any more.
                self._stores = {}
        logger.info("Stores are opened with other credentials, which the config file has now.")
        return True

    def _store(self, url: str, own_store: str) -> Store:
        if self._is_offline:
            raise StoreUnreachable(
                f"{url} is not asked, as this mount was made to be offline: what is cached is read. Mount without the "
                "option to read the rest."
            )
        with self._lock:
            store = self._stores.get((url, own_store))
            if store is None:
                allowed = allowed_stores(own_store, self._allowed)
                store = open_allowed_store(url, allowed=allowed, sections=self._credentials, timeout=self._timeout)
                self._stores[url, own_store] = store
            return store


def _sum_of_bytes(extents: Sequence[Extent]) -> int:
    return sum(extent.most_bytes for extent in extents)


def _cut(buffer: memoryview, extents: Sequence[Extent]) -> Iterator[memoryview]:
    """The part of a buffer for each extent."""
    start = 0
    for extent in extents:
        yield buffer[start : start + extent.most_bytes]
        start += extent.most_bytes


def _portions(extents: Sequence[Extent]) -> Iterator[Sequence[Extent]]:
    """Cut extents into portions that fit into a buffer."""
    start = 0
    for stop in range(1, len(extents) + 1):
        if stop == len(extents) or _sum_of_bytes(extents[start : stop + 1]) > BUFFER_BYTES:
            yield extents[start:stop]
            start = stop


def _adjoining(extents: Sequence[Extent]) -> list[list[Extent]]:
    """Gather the extents that follow each other in a blob."""
    groups: list[list[Extent]] = []
    for extent in extents:
        if groups and groups[-1][-1].is_followed_by(extent):
            groups[-1].append(extent)
        else:
            groups.append([extent])
    return groups
