"""The coordinator's side of files that take long to render: a process is forked for each, and killed if it goes on.

Any number of requests for one file have it rendered once. One that could not be is not tried again for a while.

Threads: `RenderingFlights._lock` guards the tables; it is held for dictionary operations only. A few threads of its own
read annotations, which may wait for the store, and wait for processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import orjson
from cachetools import LRUCache, TTLCache

from imgsyncfs.errors import AnnotationError, CacheError, ImgsyncfsError, WorkerLost
from imgsyncfs.formats.registry import Loss
from imgsyncfs.library.library import Library
from imgsyncfs.library.rendered_alone import (
    MOST_UNCACHED_BYTES,
    RUN,
    RenderingLimits,
    RenderingPlace,
    alone_arguments,
    losses_in,
)
from imgsyncfs.mount.board import memory_file, shared_memory
from imgsyncfs.mount.pictures import MadePicture
from imgsyncfs.workers.frames import read_frame
from imgsyncfs.workers.pool import restore_error

AT_ONCE = 2
"""Processes: each may take as much memory as the limits say."""

END_SECONDS = 5.0
"""Beside the time limit: a process that is killed ends at once, if the machine is not overloaded."""

REFUSED_SECONDS = 300.0
"""How long a file that could not be rendered is not tried again: each attempt may take a minute of a core."""

MOST_REFUSED = 1024


class RenderingFlights:
    """Has files rendered.

    Args:
        library: the catalog's datasets.
        report_loss: told what a view does not show.
        limits: of each rendering.
    """

    def __init__(
        self,
        library: Library,
        report_loss: Callable[[RenderingPlace, Loss], None],
        *,
        limits: RenderingLimits = RenderingLimits(),  # noqa: B008  # a frozen value
    ) -> None:
        self._library = library
        self._report_loss = report_loss
        self._limits = limits
        self._made = 0
        self._lock = threading.Lock()
        self._flights: dict[str, Future[MadePicture]] = {}
        self._refused: TTLCache[str, ImgsyncfsError] = TTLCache(MOST_REFUSED, REFUSED_SECONDS)
        self._uncached: LRUCache[str, bytes] = LRUCache(MOST_UNCACHED_BYTES, getsizeof=len)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rendering")
        # Each process ends when nobody has the second of these any more: when the mount ends, however it does.
        self._asking, self._alive = os.pipe()

    def start(self, place: RenderingPlace) -> Future[MadePicture]:
        """Have a file rendered; does not wait."""
        key = place.key
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = self._threads.submit(self._make, place, key)
        flight.add_done_callback(lambda _: self._land(key))
        return flight

    def status(self) -> dict[str, int]:
        """How many were made, how many are under way, and how many are refused for now."""
        with self._lock:
            return {"made": self._made, "under_way": len(self._flights), "refused": len(self._refused)}

    def close(self) -> None:
        """End the threads and the processes; what they do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        # The other end stays open: a thread may be about to hand it on.
        os.close(self._alive)

    def _land(self, key: str) -> None:
        with self._lock:
            self._flights.pop(key, None)

    def _make(self, place: RenderingPlace, key: str) -> MadePicture:
        if self._library.cache.holds(key):
            return MadePicture(key, b"")
        with self._lock:
            refused, content = self._refused.get(key), self._uncached.get(key)
        if refused is not None:
            raise refused
        if content is None:
            try:
                content = self._rendered(place)
            except (AnnotationError, CacheError) as error:
                with self._lock:
                    self._refused[key] = error
                raise
            if content:
                with self._lock:
                    self._uncached[key] = content
        return MadePicture(key, content)

    def _rendered(self, place: RenderingPlace) -> bytes:
        """Have a process render a file; returns the content if the cache has no room for it."""
        source = self._library.contents.read_whole(place.listing, place.listing.annotations, place.image)
        limits = self._limits
        arguments = alone_arguments(place, self._library.settings, limits, reports_losses=bool(place.view))
        with ExitStack() as stack:
            files = [memory_file(source), memory_file(orjson.dumps(place.classes)), shared_memory(0)]
            for each in files:
                stack.callback(os.close, each)
            process = self._library.template.fork(RUN, arguments, (*files, self._asking))
            if not process.process_id:
                raise WorkerLost(
                    f"The process that was to render {place.name} did not come up; look again in a moment."
                )
            if not process.wait(limits.seconds):
                process.kill()
                process.wait(END_SECONDS)
                raise _beyond(place, limits)
            with os.fdopen(os.dup(files[-1]), "rb") as answer:
                answer.seek(0)
                frame = read_frame(answer)
        header, content = frame if frame is not None else (dict[str, Any](is_beyond=True), b"")
        if "is_beyond" in header:
            # Or the process has ended without a word: the system has killed it.
            raise _beyond(place, limits)
        if "error" in header:
            error = restore_error(header["error"])
            if isinstance(error, AnnotationError):
                raise AnnotationError(f"{place.name}: {error}; mend the annotation and publish it again")
            raise error
        with self._lock:
            self._made += 1
        for loss in losses_in(header):
            self._report_loss(place, loss)
        if not header["is_kept"] and header["length"] > MOST_UNCACHED_BYTES:
            raise CacheError(
                f"{place.name} as {place.target.shown_title} is {header['length'] / 1e6:,.0f} MB long, for which the "
                "cache has no room; let it have more.",
                option="cache_size",
            )
        return content


def _beyond(place: RenderingPlace, limits: RenderingLimits) -> AnnotationError:
    within = f"within {limits.seconds:g} s and {limits.byte_count / 1e9:.1f} GB of memory"
    return AnnotationError(
        f"{place.name} cannot be rendered as {place.target.shown_title} {within}: it has too many objects, or "
        "too large masks; divide it, or convert the dataset with: imgsyncfs convert"
    )
