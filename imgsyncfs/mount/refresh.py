"""Keep a mount up to date with its catalog: ask at an interval, and take over the changes.

Threads: one thread of its own, which alone changes the table of dataset directories; callbacks read the table, which is
replaced whole.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from imgsyncfs.errors import CatalogError, ConfigurationError
from imgsyncfs.library.dataset_directory import DatasetDirectory
from imgsyncfs.library.library import Library
from imgsyncfs.mount.turnover import Turnover

logger = logging.getLogger(__name__)

LATE_SECONDS = 1.0
"""Callbacks that began before a new revision was taken over have ended by then."""


class Refresher:
    """The thread that keeps a library's datasets up to date.

    Args:
        library: the datasets; changed by this thread alone.
        turnover: brings changed files to the kernel.
        interval: seconds between two questions to the catalog.
        changed: called after each change of the table of datasets.
    """

    def __init__(self, library: Library, turnover: Turnover, *, interval: float, changed: Callable[[], None]) -> None:
        self._library = library
        self._turnover = turnover
        self._interval = interval
        self._changed = changed
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def soon(self) -> None:
        """Ask now, without waiting for the interval to end."""
        self._wake.set()

    def close(self) -> None:
        """End the thread; a request in flight is not waited for."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()
            if self._ending.is_set():
                return
            try:
                self._refresh()
            except (CatalogError, ConfigurationError) as error:
                self._library.errors.report(f"The catalog could not be asked for changes: {error}")
            except Exception:
                logger.exception("The refresh failed; the mount goes on with what it knows.")

    def _refresh(self) -> None:
        self._library.cache.close_removed()
        self._library.fetcher.note_used()
        if self._library.mirror.refresh():
            self._library.take_over()
            self._changed()
        catalog_id = self._library.mirror.table.catalog_id
        # Not those of a lower revision alone: a catalog that was restored from a backup goes back to one.
        turned = [
            (name, directory)
            for name, directory in self._library.datasets.items()
            if directory.loaded_key not in {None, directory.row.listing_key(catalog_id)}
        ]
        for name, directory in turned:
            self._turn(name, directory)
        if turned and not self._ending.wait(LATE_SECONDS):
            for name, directory in turned:
                for file_name in directory.late_names():
                    self._turnover.add(name + b"/" + file_name, lambda: None)

    def _turn(self, name: bytes, directory: DatasetDirectory) -> None:
        listing = self._library.mirror.listing(directory.row.dataset_id)
        for file_name in directory.turn_to(listing):

            def release(directory: DatasetDirectory = directory, file_name: bytes = file_name) -> None:
                directory.release(file_name)

            self._turnover.add(name + b"/" + file_name, release)
