"""The process behind a mount, the coordinator: puts its parts together, and ends with the mount.

`imgsyncfs.mount.process` starts it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

import imgsyncfs
from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.catalog.dataset_table import to_csv, to_json
from imgsyncfs.fetching.store_checks import check_stores
from imgsyncfs.formats.registry import get_format
from imgsyncfs.library.control_files import ControlFiles, readme
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import Owner
from imgsyncfs.library.processes import LibraryWorkers
from imgsyncfs.library.views.gallery import catalog_gallery
from imgsyncfs.mount.board import Board
from imgsyncfs.mount.channel import Channel
from imgsyncfs.mount.coordinator import Coordinator
from imgsyncfs.mount.local_mounts import source_name
from imgsyncfs.mount.namespace import Namespace
from imgsyncfs.mount.options import FOR_KERNEL, limits_of
from imgsyncfs.mount.refresh import Refresher
from imgsyncfs.mount.responders import Responders
from imgsyncfs.mount.status import Reported, status_file
from imgsyncfs.settings.limits import disk_space
from imgsyncfs.settings.mount import MountSettings

logger = logging.getLogger(__name__)

MOST_WARNINGS = 10
"""Warnings of one kind on the terminal; ``errors.log`` has all."""

SUBTYPE = "imgsyncfs"

FINISH_SECONDS = 5.0
"""How long reads may go on when the mount is told to end."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_VERBOSE = signal.SIGUSR1
"""Has the mount's log say more, and when it comes again, less."""

_NOTED_BY_THREAD = 0
"""Written where signals write their numbers."""

_NOTES_BYTES = 1024


def run(
    settings: MountSettings,
    workers: LibraryWorkers,
    *,
    ready: Callable[[Sequence[str]], None],
    ending: Callable[[], None],
) -> None:
    """Mount, see to it that the kernel is answered until the mount ends, and leave nothing behind. On the main thread.

    Args:
        settings: what to mount, where and how.
        workers: the library's processes, and the template, started ahead.
        ready: called when the mount can be used, with warnings: a catalog or a store that cannot be reached,
            or a store that may not be read.
        ending: called when the mount begins to end.

    Raises:
        ImgsyncfsError: it cannot be mounted, and why.
    """
    with ExitStack() as stack:
        end = _End(stack)
        daemon = _Daemon(settings, workers, stack, ended=end.note)
        warnings = daemon.check()
        if end.is_noted(0.0):
            return
        daemon.mount()
        ready(warnings)
        try:
            daemon.begin()
            end.is_noted(None)
            ending()
        except BaseException:
            logger.exception("The mount at %s fails from now on.", settings.mountpoint)
            leave_dead()


def leave_dead() -> NoReturn:
    """End this process and leave the mount there, which then fails for everyone (ENOTCONN).

    Without it, those who read would find an empty directory in its place, and take it for a catalog without datasets.
    """
    logging.shutdown()
    os._exit(1)


class _End:
    """Whether a mount is to end: a signal says so, or another thread.

    A socket and not an Event: a signal that comes in the moment before the main thread begins to wait for an Event does
    not wake it. Python writes to this socket before anything else, whichever thread the signal comes to.

    Args:
        stack: at its end, signals do again what they did before.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._noted, self._note = (stack.enter_context(each) for each in socket.socketpair())
        self._note.setblocking(False)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._note.fileno(), warn_on_full_buffer=False))
        self._is_noted = False
        for number in (*_ENDING, _VERBOSE):
            # What has no handler of Python's own is not written.
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))

    def note(self) -> None:
        """Have the mount end."""
        # Full: it was noted often enough. Closed: it has ended.
        with suppress(OSError):
            self._note.send(bytes((_NOTED_BY_THREAD,)))

    def is_noted(self, seconds: float | None) -> bool:
        """Whether it is to end; waits for that as long, with None until it is."""
        while not self._is_noted and select.select((self._noted,), (), (), seconds)[0]:
            numbers = self._noted.recv(_NOTES_BYTES)
            self._is_noted = any(number in numbers for number in (_NOTED_BY_THREAD, *_ENDING))
            if numbers.count(_VERBOSE) % 2:
                _toggle_verbosity()
        return self._is_noted


def _toggle_verbosity() -> None:
    """Have the log say what each request waited for, or no longer."""
    package = logging.getLogger(imgsyncfs.__name__)
    is_verbose = package.level == logging.DEBUG
    package.setLevel(logging.NOTSET if is_verbose else logging.DEBUG)
    logger.info("The log says %s from now on.", "less" if is_verbose else "more")


def _first(warnings: Sequence[str]) -> list[str]:
    """As many warnings as fit on a terminal."""
    shown = list(warnings[:MOST_WARNINGS])
    if len(warnings) > len(shown):
        shown.append(f"There is more of this, {len(warnings)} in all; see .imgsyncfs/errors.log in the mount.")
    return shown


class _Daemon:
    """A library, and the parts that make it a mount. The stack closes them in order."""

    def __init__(
        self,
        settings: MountSettings,
        workers: LibraryWorkers,
        stack: ExitStack,
        *,
        ended: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.since = time.time()
        self.stack = stack
        self._kernel_has_ended = threading.Event()
        board = Board(settings.responders)
        self.library = stack.enter_context(Library(settings.library, workers=workers, verified=board.verified))
        self.control = ControlFiles(
            {
                b"datasets.csv": lambda: to_csv(self.library.rows.values()),
                b"datasets.json": lambda: to_json(self.library.rows.values()),
                b"index.html": lambda: catalog_gallery(self.library.datasets.values()),
            },
            readme=readme(self.library.sources.siblings if not settings.view else ()),
            status=lambda: status_file(self.reported()),
            errors=self.library.errors.content,
        )
        self.namespace = Namespace(self.library, self.control, view=settings.view)
        interval = threading.TIMEOUT_MAX if settings.library.offline else settings.refresh
        self.refresher = Refresher(self.namespace.refresh, self.library.errors, interval=interval)
        owner = Owner(*settings.owner, settings.umask)
        self.coordinator = Coordinator(
            self.library,
            self.namespace,
            self.control,
            owner=owner,
            stale=self.refresher.soon,
            refresh=self.refresher.now,
        )
        siblings = settings.library.siblings
        workers.template.import_ahead([get_format(name).place.partition(":")[0] for name in siblings])
        self.responders = Responders(
            board,
            workers.template,
            {
                "cache_dir": settings.library.cache_dir,
                "siblings": list(siblings),
                "owner": [*owner],
                "list_hidden": settings.list_hidden,
            },
            take=self.coordinator.take,
            state=self.namespace.state,
            tick=self.coordinator.tick,
            ended=lambda: self._end_with_kernel(ended),
            failed=leave_dead,
        )

    def mount(self) -> None:
        """Mount, and have the kernel answered.

        Raises:
            MountError: it cannot be mounted, and why.
        """
        settings = self.settings
        channel = Channel(Path(settings.mountpoint), self.options(), limits_of(settings.options))
        # The mount ends first, then reads that have begun, then those who answer.
        self.stack.callback(self.coordinator.close)
        self.stack.callback(self.responders.close)
        self.stack.callback(self._finish)
        self.stack.callback(channel.close)
        self.stack.callback(self.responders.expect_end)
        self.stack.callback(self.refresher.close)
        # Open until the process ends: a late answer must not go to whatever has the number by then.
        device = os.dup(channel.device)
        self.namespace.begin(self.responders, device)
        self.coordinator.begin(self.responders, device)
        self.library.mirror.when_late(self.refresher.soon)
        self.responders.start(device)

    def check(self) -> list[str]:
        """Check that the stores can be read; returns what cannot be shown or read: the catalog, a row of it, a store.

        Raises:
            ConfigurationError: no store can be read: credentials make no sense, or a package is not installed.
            StoreError: no store can be read: one is missing, or refuses us, and the cache has nothing of it.
        """
        trouble = self.library.mirror.trouble
        library = self.library
        if library.settings.offline:
            return [trouble] if trouble else []
        unreadable = check_stores(
            library.fetch_pool,
            library.stores,
            timeout=self.settings.library.timeout,
            own_store=library.own_store,
            is_cached=lambda url: library.cache.holds_any(f"{url}|"),
        )
        for url, warning in unreadable.items():
            library.errors.report(str(warning))
            library.fetcher.note_away(url, warning)
        return [
            *filter(None, (trouble, library.cache_remark)),
            *_first(library.faults),
            *_first(library.refusals),
            *_first([str(warning) for warning in unreadable.values()]),
        ]

    def begin(self) -> None:
        """Start what a mount that can be used does besides."""
        self.refresher.start()
        self.library.start_other_workers()
        self.library.import_ahead()
        self.coordinator.documents.tidy()

    def _end_with_kernel(self, ended: Callable[[], None]) -> None:
        self._kernel_has_ended.set()
        ended()

    def _finish(self) -> None:
        """Let reads finish, unless the kernel has ended them all."""
        if not self._kernel_has_ended.is_set():
            self.coordinator.finish(FINISH_SECONDS)

    def options(self) -> dict[str, str | bool]:
        """The options for libfuse and the kernel."""
        own: dict[str, str | bool] = {
            "ro": True,
            "default_permissions": True,
            "fsname": source_name(self.settings.library.catalog),
            "subtype": SUBTYPE,
        }
        return {**own, **{name: value for name, value in self.settings.options.items() if name not in FOR_KERNEL}}

    def reported(self) -> Reported:
        """What ``status.json`` is made from."""
        return Reported(
            self.settings,
            self.since,
            self.library,
            self.namespace,
            self.coordinator,
            self.responders,
            self._cache_trouble(),
        )

    def _cache_trouble(self) -> str:
        """Why the cache does not keep what it should; empty if it does."""
        settings = self.settings.library
        if self.settings.is_cache_temporary:
            return "its disk had no room when the mount was made, so it is in memory; make room, and mount again"
        trouble = []
        free = disk_space(Path(settings.cache_dir)).free
        if free < settings.keep_free + EXTENT_BYTES:
            trouble.append(
                f"its disk has {free / 1e6:,.1f} MB free, of which {settings.keep_free / 1e6:,.1f} MB are kept free: "
                "what is read may not be kept; make room"
            )
        unsaved = self.library.mirror.unsaved()
        if unsaved:
            trouble.append(f"{unsaved} listings could not be saved, and are in memory")
        return "; ".join(trouble)
