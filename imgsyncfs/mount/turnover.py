"""Bring changed files to the kernel without a reader seeing two revisions.

The kernel opens files without asking (a zero-message open), so the daemon cannot tell who has which revision open,
and the kernel keeps pages and sizes of a changed file. What it will tell is whether a file is open at all: a write
lease is granted only if nobody else has it open or mapped, and while it is held, whoever opens the file waits. So,
for each changed file: open it through the mount, take the lease, serve the new revision, drop the old pages, have the
kernel ask for the new size, give the lease back. A file that is open is tried again a moment later; until then
everyone sees its old revision.

A lease that the system cannot give at all (not Linux, no CAP_LEASE over somebody else's file) means that the file is
turned over without it; `fcntl(2)`, F_SETLEASE.

Threads: one thread of its own. `_lock` guards the queue. The thread must end before the mount does, or it would open
files of a mount that is going away.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 10.0

_AT_EMPTY_PATH = 0x1000
_AT_STATX_FORCE_SYNC = 0x2000
_STATX_BASIC_STATS = 0x7FF
_STATX_BYTES = 256


@dataclass
class _Change:
    path: bytes
    release: Callable[[], None]
    due: float = 0.0
    pause: float = RETRY_SECONDS


class Turnover:
    """Turns changed files over, one after the other.

    Args:
        mountpoint: of the mount that serves them.
    """

    def __init__(self, mountpoint: Path) -> None:
        self._root = os.fsencode(mountpoint)
        self._lock = threading.Lock()
        self._queue: list[_Change] = []
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._thread = threading.Thread(target=self._run, name="turnover", daemon=True)

    def start(self) -> None:
        """Begin; the mount must answer by now."""
        self._thread.start()

    def add(self, path: bytes, release: Callable[[], None]) -> None:
        """Turn a file over when nobody has it open.

        Args:
            path: within the mount, without a slash in front.
            release: makes the mount serve the new revision; called once.
        """
        with self._lock:
            self._queue.append(_Change(path, release))
        self._wake.set()

    def waiting(self) -> int:
        """How many files wait for their readers to finish."""
        with self._lock:
            return len(self._queue)

    def close(self) -> None:
        """End the thread; files not turned over yet stay as they are."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                pause = self._turn_due()
            except Exception:
                logger.exception("A changed file could not be turned over.")
                pause = LONGEST_RETRY_SECONDS
            self._wake.wait(pause)
            self._wake.clear()

    def _turn_due(self) -> float | None:
        """Turn over what is due; say in how many seconds there is more to do, None for never."""
        now = time.monotonic()
        with self._lock:
            due = [change for change in self._queue if change.due <= now]
        done = set()
        for change in due:
            if self._ending.is_set():
                return None
            if self._turn(change):
                done.add(id(change))
            else:
                change.due = time.monotonic() + change.pause
                change.pause = min(2 * change.pause, LONGEST_RETRY_SECONDS)
        with self._lock:
            self._queue = [change for change in self._queue if id(change) not in done]
            return max(0.0, min(change.due for change in self._queue) - time.monotonic()) if self._queue else None

    def _turn(self, change: _Change) -> bool:
        try:
            descriptor = os.open(self._root + b"/" + change.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            # Gone from the namespace, or the mount is ending: there is nothing that the kernel could mix up.
            logger.debug("%r is turned over unopened: %s", change.path, error)
            change.release()
            return True
        try:
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return False
                logger.debug("No lease on %r: %s", change.path, error)
            change.release()
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            self._refresh_attributes(descriptor)
        finally:
            # Closing gives the lease back.
            os.close(descriptor)
        return True

    def _refresh_attributes(self, descriptor: int) -> None:
        """Have the kernel ask the daemon for size and times, though what it knows has not timed out."""
        answer = ctypes.create_string_buffer(_STATX_BYTES)
        flags = _AT_EMPTY_PATH | _AT_STATX_FORCE_SYNC
        if self._libc.statx(descriptor, b"", flags, _STATX_BASIC_STATS, answer) != 0:
            logger.debug("statx: %s", os.strerror(ctypes.get_errno()))
