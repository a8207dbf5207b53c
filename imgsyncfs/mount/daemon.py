"""The process behind a mount: mounts, and answers the kernel until the mount ends.

`imgsyncfs.mount.process` starts it.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import orjson

from imgsyncfs import __version__
from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.dataset_table import to_csv, to_json
from imgsyncfs.errors import MountError
from imgsyncfs.fetching.store_checks import check_stores
from imgsyncfs.library.info_directory import ControlDirectory
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import Directory, RootDirectory
from imgsyncfs.library.processes import LibraryWorkers
from imgsyncfs.library.selections import ChoiceDirectory, Kept, by_columns, by_subscriptions
from imgsyncfs.mount.operations import SUBTYPE, Operations, serve
from imgsyncfs.mount.refresh import Refresher
from imgsyncfs.mount.turnover import Turnover
from imgsyncfs.settings.mount import MountSettings

logger = logging.getLogger(__name__)

NEGATIVE_SECONDS = 1.0
"""The kernel's timeout for names that are not there. Short: a new dataset is found as soon as it is listed."""

MAX_BACKGROUND = 64
"""In-flight requests of the kernel's readahead; its default of 12 starves parallel readers of a far store."""

MOST_WARNINGS = 10
"""Warnings of one kind on the terminal; ``errors.log`` has all."""

SWITCH_SECONDS = 0.0002
"""How long a callback waits for the interpreter lock of a busy thread; Python's default is 5 ms."""


def run(settings: MountSettings, workers: LibraryWorkers, *, ready: Callable[[Sequence[str]], None]) -> None:
    """Mount, answer until the mount ends, and leave nothing behind. Runs on the main thread.

    Args:
        settings: what to mount, where and how.
        workers: the library's processes, started ahead.
        ready: called when the mount can be used, with warnings: a catalog or a store that cannot be reached,
            or a store that may not be read.

    Raises:
        ImgsyncfsError: it cannot be mounted, and why.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    # Someone who opens a file under one of the turnover's leases has the kernel send this; it ends a process by
    # default.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    with ExitStack() as stack:
        daemon = _Daemon(settings, workers, stack)
        warnings = daemon.check()
        operations = Operations(
            daemon.root(),
            capacity=daemon.capacity,
            report=lambda message, cause: daemon.library.errors.report(message, cause=cause),
            stale=daemon.refresher.soon,
            ready=lambda: daemon.begin(lambda: ready(warnings)),
            owner=settings.owner,
        )
        try:
            serve(operations, Path(settings.mountpoint), options=daemon.options())
        except RuntimeError as error:
            raise MountError(f"{settings.mountpoint} could not be mounted; libfuse's own words stand above.") from error


def _first(warnings: Sequence[str]) -> list[str]:
    """As many warnings as fit on a terminal."""
    shown = list(warnings[:MOST_WARNINGS])
    if len(warnings) > len(shown):
        shown.append(f"There is more of this, {len(warnings)} in all; see .imgsyncfs/errors.log in the mount.")
    return shown


class _Daemon:
    """A library, and the parts that make it a mount. The stack closes them in order."""

    def __init__(self, settings: MountSettings, workers: LibraryWorkers, stack: ExitStack) -> None:
        self.settings = settings
        self.since = time.time()
        self.library = stack.enter_context(Library(settings.library, workers=workers))
        self.turnover = Turnover(Path(settings.mountpoint))
        self.refresher = Refresher(
            self.library, self.turnover, interval=settings.refresh, changed=self._replace_control_files
        )
        self.control = ControlDirectory(
            datasets_csv=lambda: partial(to_csv, self.library.rows.values()),
            datasets_json=lambda: partial(to_json, self.library.rows.values()),
            status=self.status,
            errors=self.library.errors.content,
        )
        stack.callback(self.turnover.close)
        stack.callback(self.refresher.close)

    def root(self) -> RootDirectory:
        """The directory at the mount point."""
        hidden: dict[bytes, Directory] = {ControlDirectory.NAME: self.control}
        for name, make in ((b".by", by_columns), (b".subscriptions", by_subscriptions)):
            hidden[name] = ChoiceDirectory(Kept(make, lambda: self.library.mirror.table), self._newest)
        return RootDirectory(hidden, lambda: self.library.datasets, self._newest)

    def check(self) -> list[str]:
        """Check that the stores can be read; returns what cannot be shown or read: the catalog, a row of it, a store.

        Raises:
            ConfigurationError: no store can be read: credentials make no sense, or a package is not installed.
            StoreError: no store can be read: one is missing, or refuses us.
        """
        trouble = self.library.mirror.trouble
        library = self.library
        unreadable = check_stores(
            library.fetch_pool, library.stores, timeout=self.settings.library.timeout, own_store=library.own_store
        )
        for warning in unreadable:
            library.errors.report(warning)
        return [
            *([trouble] if trouble else []),
            *_first(library.faults),
            *_first(library.refusals),
            *_first(unreadable),
        ]

    def begin(self, ready: Callable[[], None]) -> None:
        """Start the threads that use the mount: the kernel has accepted it."""
        self.turnover.start()
        self.refresher.start()
        ready()
        self.library.start_other_workers()
        self.library.import_ahead()

    def options(self) -> dict[str, str | bool]:
        """All options for libfuse and the kernel."""
        refresh = f"{self.settings.refresh:g}"
        return {
            "ro": True,
            "default_permissions": True,
            # Commas and the like would end the option.
            "fsname": re.sub(r"[^\w./:@=-]", "_", catalog_identity(self.settings.library.catalog), flags=re.ASCII),
            "subtype": SUBTYPE,
            "attr_timeout": refresh,
            "entry_timeout": refresh,
            "negative_timeout": f"{min(self.settings.refresh, NEGATIVE_SECONDS):g}",
            "max_background": str(MAX_BACKGROUND),
            **self.settings.options,
        }

    def capacity(self) -> tuple[int, int]:
        """(bytes, files) for `df`: the bytes are those of the cache."""
        rows = self.library.rows.values()
        return self.library.cache.volume(), sum(row.size for row in rows)

    def status(self) -> bytes:
        """The content of ``status.json``."""
        library = self.library
        table = library.mirror.table
        status = {
            "version": __version__,
            "process_id": os.getpid(),
            "mountpoint": self.settings.mountpoint,
            "mounted_at": int(self.since),
            "catalog": {
                "url": catalog_identity(self.settings.library.catalog),
                "datasets": len(table.shown),
                "images": sum(row.size for row in table.shown.values()),
                "read_at": int(table.read_at),
                "trouble": library.mirror.trouble,
            },
            "listings_loaded": sum(directory.loaded_key is not None for directory in library.datasets.values()),
            "files_held": self.turnover.waiting(),
            "cache": {
                "folder": library.settings.cache_dir,
                "size_limit": library.settings.cache_size,
                "keep_free": library.settings.keep_free,
                "bytes": library.cache.volume(),
                **asdict(library.cache.counts()),
            },
            "store": {**asdict(library.fetcher.counts()), "away": library.fetcher.unreachable()},
            "workers": {
                "process_ids": library.catalog_pool.process_ids() + library.fetch_pool.process_ids(),
                "replaced": library.catalog_pool.replaced() + library.fetch_pool.replaced(),
            },
            "threads": threading.active_count(),
            "errors": library.errors.count(),
        }
        return orjson.dumps(status, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def _newest(self) -> int:
        return self.library.mirror.table.updated_at or int(self.since)

    def _replace_control_files(self) -> None:
        for path, replace in self.control.replacements():
            self.turnover.add(path, replace)
