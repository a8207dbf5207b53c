"""Keep a mount up to date with its catalog: ask every so often, and take over what changed.

Threads: one thread of its own, which alone changes the table of dataset directories; callbacks read the table, which is
replaced whole.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.dataset_directory import DatasetDirectory, DatasetSources
from imgsyncfs.errors import CatalogError
from imgsyncfs.mirror import CatalogMirror
from imgsyncfs.naming import file_name_fault
from imgsyncfs.turnover import Turnover

logger = logging.getLogger(__name__)

LATE_SECONDS = 1.0
"""Callbacks that began before a new revision was taken over have ended by then."""


class DatasetDirectories:
    """The dataset directories of a mount, and the thread that keeps them up to date.

    Args:
        mirror: what is known of the catalog.
        sources: what each directory needs.
        turnover: brings changed files to the kernel.
        interval: seconds between two questions to the catalog.
        report: told what goes wrong.
        changed: called after each change of the table.
    """

    def __init__(
        self,
        mirror: CatalogMirror,
        sources: DatasetSources,
        turnover: Turnover,
        *,
        interval: float,
        report: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._mirror = mirror
        self._sources = sources
        self._turnover = turnover
        self._interval = interval
        self._report = report
        self._changed = changed
        self._entries: Mapping[bytes, DatasetDirectory] = MappingProxyType({})
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)
        self._take_over()

    @property
    def entries(self) -> Mapping[bytes, DatasetDirectory]:
        """Directory name to directory."""
        return self._entries

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def soon(self) -> None:
        """Ask now and not when the interval is over."""
        self._wake.set()

    def close(self) -> None:
        """End the thread; a question under way is not waited for."""
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
            except CatalogError as error:
                self._report(f"The catalog could not be asked for changes: {error}")
            except Exception:
                logger.exception("The refresh failed; the mount goes on with what it knows.")

    def _refresh(self) -> None:
        if self._mirror.refresh():
            self._take_over()
            self._changed()
        turned = [
            (name, directory)
            for name, directory in self._entries.items()
            if directory.loaded_revision is not None and directory.loaded_revision < directory.row.revision
        ]
        for name, directory in turned:
            self._turn(name, directory)
        if turned and not self._ending.wait(LATE_SECONDS):
            for name, directory in turned:
                for file_name in directory.late_names():
                    self._turnover.add(name + b"/" + file_name, lambda: None)

    def _turn(self, name: bytes, directory: DatasetDirectory) -> None:
        listing = self._mirror.listing(directory.row.dataset_id)
        for file_name in directory.turn_to(listing):

            def release(directory: DatasetDirectory = directory, file_name: bytes = file_name) -> None:
                directory.release(file_name)

            self._turnover.add(name + b"/" + file_name, release)

    def _take_over(self) -> None:
        """Make the table of directories anew, keeping those that are still there."""
        entries: dict[bytes, DatasetDirectory] = {}
        for row in self._mirror.table.rows.values():
            fault = _directory_fault(row)
            if fault:
                self._report(f"The dataset {row.dataset_id!r} is hidden: {fault}; correct its id in the catalog.")
                continue
            name = row.dataset_id.encode()
            known = self._entries.get(name)
            if known is None:
                known = DatasetDirectory(row, self._sources)
            else:
                known.row = row
            entries[name] = known
        self._entries = MappingProxyType(entries)


def _directory_fault(row: DatasetRow) -> str | None:
    fault = file_name_fault(row.dataset_id)
    if fault is None and row.dataset_id.startswith("."):
        fault = "names that begin with a dot are imgsyncfs's own"
    return fault
