"""A worker's side of fetching: one request at a store, verified, into the cache.

Threads: `ExtentFetcher._lock` guards the table of stores. A job that asks for several small blobs may do so on threads
that take no jobs, so that none waits for the other.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from imgsyncfs.cache import CacheWriter
from imgsyncfs.cache.grouped_puts import GroupedPuts
from imgsyncfs.config import store_credentials
from imgsyncfs.extent_request import ExtentRequest, cut_short, verify_members
from imgsyncfs.extents import EXTENT_BYTES
from imgsyncfs.kept_buffers import KeptBuffers
from imgsyncfs.store import RangeRead, Store, open_store

NEAR_SECONDS = 0.015
"""A store that answers faster is sent the requests of a job together, over one connection: that saves a third of the
processor's time here and there. From a farther one they come side by side, so that no one waits for all in a row."""

PACE_FADES = 1.005
"""What is remembered of the shortest answer grows so much with each one after it: fivefold in 320 answers."""

MOST_SIDE_BY_SIDE = 48
"""Requests beyond those of `imgsyncfs.library_workers.FETCH_THREADS` jobs; at 20 ms, a worker then gets 2,400/s."""


class ExtentFetcher:
    """Brings extents into the cache; what `imgsyncfs.worker` runs.

    Args:
        settings: ``cache_folder``, ``size_limit`` and ``keep_free`` (bytes), ``timeout`` (seconds) and ``stores``, the
            config file's section of that name.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._cache = CacheWriter(
            Path(settings["cache_folder"]), size_limit=settings["size_limit"], keep_free=settings["keep_free"]
        )
        self._puts = GroupedPuts(self._cache)
        self._timeout = float(settings["timeout"])
        self._credentials: Mapping[str, Mapping[str, str]] = settings["stores"]
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()
        self._pace = math.inf
        self._buffers = KeptBuffers()
        self._side_by_side = ThreadPoolExecutor(MOST_SIDE_BY_SIDE, thread_name_prefix="read")

    def handle(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Do one job.

        Args:
            arguments: ``used``, the keys of extents that were used since the last job, the oldest use first; and one of

                - ``requests``, the fields of `ExtentRequest` of extents to bring into the cache (those that follow each
                  other in a blob come in one request), with ``inline``: send the content back as well, and ``spared``:
                  the keys of extents not to be evicted for it;
                - ``open``, the URLs of stores that will be asked soon;
                - ``check``, the URL of a store that must be there and let us read;
                - nothing.

        Returns:
            For requests ``stored``: for each extent whether the cache has it now; ``lengths`` of those contents that
            follow, 0 where there is none: that of an extent which is not stored, or all if they were asked for;
            ``requests`` and ``bytes``: what was asked of the store; and ``near``: whether it answers soon.

        Raises:
            StoreError: the store's, or `BlobChanged`; nothing of the job is in the cache then.
        """
        if "requests" in arguments:
            requests = [ExtentRequest.from_fields(fields) for fields in arguments["requests"]]
            return self._fetch(requests, arguments["used"], arguments["spared"], inline=arguments["inline"])
        self._cache.note_used(arguments.get("used", ()))
        for url in arguments.get("open", ()):
            self._store(url)
        if "check" in arguments:
            self._store(arguments["check"]).check()
        return {}, b""

    def _fetch(
        self, requests: Sequence[ExtentRequest], used: Sequence[str], spared: Sequence[str], *, inline: bool
    ) -> tuple[dict[str, Any], bytes]:
        cached = [self._cache.get(request.key) for request in requests]
        missing = [request for request, content in zip(requests, cached, strict=True) if content is None]
        groups = _adjoining(missing)
        with self._buffers.room(sum(map(_most_bytes, missing))) as room:
            fetched = self._read_all(groups, room)
            items = [(request.key, content) for request, content in zip(missing, fetched, strict=True)]
            kept = iter(self._puts.put_all(items, used=used, spared=spared) if items else [])
            fresh = iter(fetched)
            contents = [next(fresh) if content is None else content for content in cached]
            stored = [next(kept) if content is None else True for content in cached]
            sent = [content if inline or not kept else b"" for content, kept in zip(contents, stored, strict=True)]
            answer = {
                "stored": stored,
                "lengths": [len(content) for content in sent],
                "requests": len(groups),
                "bytes": sum(map(len, fetched)),
                "near": self._pace <= NEAR_SECONDS,
            }
            return answer, b"".join(sent)

    def _read_all(self, groups: Sequence[Sequence[ExtentRequest]], room: memoryview) -> list[memoryview]:
        """One request for each group, verified."""
        reads = []
        for group in groups:
            byte_count = sum(map(_most_bytes, group))
            reads.append((group[0].store, RangeRead(group[0].blob, room[:byte_count], group[0].start, group[0].etag)))
            room = room[byte_count:]
        counts: Iterable[int]
        if len(reads) > 1 and self._pace > NEAR_SECONDS:
            counts = self._side_by_side.map(lambda read: self._read(read[0], [read[1]])[0], reads)
        else:
            by_store = itertools.groupby(reads, operator.itemgetter(0))
            counts = itertools.chain.from_iterable(
                self._read(store, [read for _, read in same]) for store, same in by_store
            )
        contents = []
        for group, (_, read), count in zip(groups, reads, counts, strict=True):
            contents += _divided(group, read.room[:count])
        return contents

    def _read(self, store: str, reads: Sequence[RangeRead]) -> list[int]:
        """Ranges of one store, asked for at once; how many bytes each has."""
        began = time.monotonic()
        counts = self._store(store).read_all_into(reads)
        taken = (time.monotonic() - began) / len(reads)
        # The shortest of the last few hundred: a server that we keep busy ourselves takes long too, a far one always.
        # Threads meeting here do no harm.
        self._pace = min(taken, PACE_FADES * self._pace)
        return counts

    def _store(self, url: str) -> Store:
        with self._lock:
            if url not in self._stores:
                credentials = store_credentials(url, self._credentials)
                self._stores[url] = open_store(url, credentials=credentials, timeout=self._timeout)
            return self._stores[url]


def _divided(requests: Sequence[ExtentRequest], content: memoryview) -> list[memoryview]:
    """The extents in what was read of a blob, verified."""
    contents = []
    for request in requests:
        begin = request.start - requests[0].start
        part = content[begin : begin + _most_bytes(request)]
        if request.length is not None and len(part) != request.length:
            raise cut_short(request.store, request.blob)
        verify_members(request, part)
        contents.append(part)
    return contents


def _most_bytes(request: ExtentRequest) -> int:
    return EXTENT_BYTES if request.length is None else request.length


def _adjoining(requests: Sequence[ExtentRequest]) -> list[list[ExtentRequest]]:
    """Gather the requests that follow each other in a blob."""
    groups: list[list[ExtentRequest]] = []
    for request in requests:
        if groups and groups[-1][-1].is_followed_by(request):
            groups[-1].append(request)
        else:
            groups.append([request])
    return groups
