"""The coordinator's side of pictures: what they are made of is read here, and workers make them.

Any number of requests for one picture have it made once. Whoever goes through a directory asks for one picture after
the other: then those that follow are made ahead.

Threads: `PictureFlights._lock` guards the tables; it is held for dictionary operations only, and may be taken again by
its holder, since what is made at once lands at once. `_start_lock` is held while the workers are started. What pictures
are made of is read by threads of their own, as many as there are workers and as many again: these wait for the store.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from dataclasses import asdict
from typing import NamedTuple

from imgsyncfs.errors import NotInCatalog, PreviewError
from imgsyncfs.library.library import Library
from imgsyncfs.library.pictures import MAKER, picture_key, read_parts
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.mount.board import memory_file
from imgsyncfs.mount.namespace import Namespace
from imgsyncfs.workers.pool import WorkerPool

MAKERS = min(8, max(2, len(os.sched_getaffinity(0))))
"""Processes: one for each core, since decoding and encoding keep it busy."""

MAKING_SECONDS = 60.0
"""Until when a picture must have been made: the largest that Pillow decodes take some seconds."""

AHEAD = MAKERS
"""Pictures that are made ahead of whoever goes through a directory."""

IN_ORDER = 4
"""So many images may be left out between two of one who goes through a directory: a split has every tenth."""


class MadePicture(NamedTuple):
    """A picture that was made.

    Attributes:
        key: its name in the cache.
        content: empty if the cache has it.
    """

    key: str
    content: bytes


class PictureFlights:
    """Has pictures made.

    Args:
        library: the catalog's datasets.
        namespace: says which dataset and view a number stands for.
    """

    def __init__(self, library: Library, namespace: Namespace) -> None:
        self._library = library
        self._namespace = namespace
        self._lock = threading.RLock()
        self._start_lock = threading.Lock()
        self._flights: dict[tuple[int, int], Future[MadePicture]] = {}
        self._last: dict[int, int] = {}
        self._threads = ThreadPoolExecutor(2 * MAKERS, thread_name_prefix="picture")
        self._makers: WorkerPool | None = None

    def start(self, number: int, index: int) -> Future[MadePicture]:
        """Have a picture made, and those that will be asked for next; does not wait.

        Args:
            number: of the dataset in the view.
            index: of the image in its listing.
        """
        with self._lock:
            last = self._last.get(number)
            self._last[number] = index
            flight = self._begin(number, index)
            if last is not None and 0 < index - last <= IN_ORDER and len(self._flights) < 2 * MAKERS:
                for following in range(index + 1, index + 1 + AHEAD):
                    self._begin(number, following)
        return flight

    def close(self) -> None:
        """End the threads and the workers; what they do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._makers is not None:
            self._makers.close()

    def _begin(self, number: int, index: int) -> Future[MadePicture]:
        """Needs the lock."""
        key = (number, index)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = self._threads.submit(self._make, number, index)
            flight.add_done_callback(lambda _: self._land(key))
        return flight

    def _started(self) -> WorkerPool:
        with self._start_lock:
            if self._makers is None:
                settings = asdict(self._library.settings)
                self._makers = WorkerPool(MAKER, settings, count=MAKERS, threads=1, template=self._library.template)
            return self._makers

    def _land(self, key: tuple[int, int]) -> None:
        with self._lock:
            self._flights.pop(key, None)

    def _make(self, number: int, index: int) -> MadePicture:
        shown = self._namespace.place_of(number)
        if shown is None:
            raise NotInCatalog("The dataset is no longer in the catalog.")
        where, listing = shown
        kind = find_view(where.view).picture
        if kind is None or index >= len(listing):
            raise NotInCatalog("There is no such picture.")
        key = picture_key(kind, listing, index)
        if self._library.cache.holds(key):
            return MadePicture(key, b"")
        parts = read_parts(kind, self._library.contents, listing, index)
        with ExitStack() as stack:

            def handed(content: bytes | None) -> str:
                if content is None:
                    return ""
                descriptor = memory_file(content)
                stack.callback(os.close, descriptor)
                return f"/proc/{os.getpid()}/fd/{descriptor}"

            job = {
                "view": where.view,
                "name": parts.name,
                "image": handed(parts.image),
                "annotation": handed(parts.annotation),
                "choice": asdict(parts.choice),
                "key": key,
            }
            makers = self._started()
            answer = makers.submit(job)
            try:
                _, content = answer.result(MAKING_SECONDS)
            except FutureTimeoutError:
                # It may have hours to go, and the others would wait for it.
                makers.give_up(answer)
                raise PreviewError(
                    f"{parts.name} could not be drawn within {MAKING_SECONDS:g} s: the image is too large, or has "
                    "too many objects."
                ) from None
        return MadePicture(key, content)
