"""The side of the cache that is read from, by responders, the coordinator and the Python API.

It reads diskcache's table with one statement over one connection of its own: diskcache keeps a connection for each
thread in a thread-local, which FUSE callbacks lose each time (0.37 ms to connect again instead of 0.02).

Threads: `CacheReader._lock` guards the table of open extents, the uses and the counters, `CacheReader._database_lock`
the connection; they are never held together, nor while a file is opened. `getattr` for an image needs neither.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from cachetools import LRUCache

from imgsyncfs.cache.extent import VERIFIED_BYTES, Entry, OpenExtent
from imgsyncfs.cache.files import ExtentFiles, RefusedFile
from imgsyncfs.cache.table import (
    BUSY_SECONDS,
    COUNTED,
    DATABASE_NAME,
    FIND,
    FIND_ANY,
    as_text,
    check_database,
    counted_bytes,
    entry_of,
    file_bytes,
    key_range,
    log_bytes,
)
from imgsyncfs.cache.verified import VerifiedExtents
from imgsyncfs.errors import CacheError
from imgsyncfs.stores.buffers import KeptBuffers

logger = logging.getLogger(__name__)

OPEN_WEIGHT = 128 << 20
"""Open extents are kept up to a total weight. One on disk weighs as much as 256 KiB held in memory, so that at most 512
descriptors are open: half of the usual limit of 1,024."""

MOST_USED = 4096
"""Uses remembered until a worker notes them; beyond, the oldest are forgotten."""

REMOVED_SECONDS = 1.0
"""How often open extents are searched for removed files: 512 of them take 0.5 ms."""

_HITS, _MISSES, _DAMAGED = range(3)


@dataclass(frozen=True)
class CacheCounts:
    """Counts of the reading side since the mount began."""

    hits: int
    misses: int
    damaged: int


class CacheReader:
    """Finds extents, and keeps the recently read ones open.

    Args:
        folder: made by `prepare_cache`.
        open_weight: of the extents that are kept open, at most.
        most_used: uses that are remembered.
        verified: extents that were verified lately, which need not be read to be trusted.
        counts: where hits, misses and damaged entries are counted, three unsigned numbers of 8 bytes; None for memory
            of its own.

    Raises:
        CacheError: the database cannot be opened, or is somebody else's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        open_weight: int = OPEN_WEIGHT,
        most_used: int = MOST_USED,
        verified: VerifiedExtents | None = None,
        counts: memoryview | None = None,
    ) -> None:
        self._folder = folder
        self._files = ExtentFiles(folder)
        check_database(folder)
        try:
            self._connection = sqlite3.connect(
                f"{(folder / DATABASE_NAME).absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=BUSY_SECONDS,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise CacheError(f"The cache in {folder} cannot be read ({error}); clear it or choose another.") from error
        self._connection.text_factory = as_text
        self._buffers = KeptBuffers()
        self._database_lock = threading.Lock()
        self._lock = threading.Lock()
        self._open: LRUCache[str, OpenExtent] = LRUCache(open_weight, attrgetter("weight"))
        # By the time of the last use, the oldest first.
        self._used: OrderedDict[str, None] = OrderedDict()
        self._most_used = most_used
        self.verified = verified or VerifiedExtents()
        self._counts = memoryview(bytearray(24)).cast("Q") if counts is None else counts
        self._looked_through = time.monotonic()

    def opened(self, key: str) -> OpenExtent | None:
        """The extent kept under a key if it is open already."""
        with self._lock:
            extent = self._open.get(key)
            if extent is not None:
                self._counts[_HITS] += 1
                self._use(key)
        return extent

    def holds(self, key: str) -> bool:
        """Whether an extent is kept under a key; it is not looked at."""
        return self._ask(key) is not None

    def holds_any(self, prefix: str) -> bool:
        """Whether an extent is kept under a key that begins so; none is looked at."""
        try:
            with self._database_lock:
                found = self._connection.execute(FIND_ANY, key_range(prefix)).fetchone()
        except sqlite3.Error as error:
            logger.warning("The cache could not be read: %s", error)
            return False
        return found is not None

    def find(self, key: str) -> OpenExtent | None:
        """The extent kept under a key, verified, or None when there is none that can be trusted."""
        extent = self.opened(key)
        if extent is not None:
            return extent
        extent = self._open_entry(key)
        with self._lock:
            if extent is None:
                self._counts[_MISSES] += 1
            else:
                self._counts[_HITS] += 1
                self._use(key)
                self._open[key] = extent
        return extent

    def keep(self, key: str, extent: OpenExtent) -> None:
        """Keep an extent open for the reads that follow."""
        with self._lock:
            self._open[key] = extent

    def note_uses(self, keys: Iterable[str]) -> None:
        """Note that extents were used, by another process that reads from the cache."""
        with self._lock:
            for key in keys:
                self._use(key)

    def take_used(self) -> list[str]:
        """Keys of the extents used since the last call, each once, the oldest use first: the newest `MOST_USED`.

        To be handed to `CacheWriter.put_all` or `CacheWriter.note_used`.
        """
        with self._lock:
            used, self._used = self._used, OrderedDict()
        now = time.monotonic()
        if now > self._looked_through + REMOVED_SECONDS:
            self._looked_through = now
            self.close_removed()
        return list(used)

    def close_removed(self) -> None:
        """Close extents whose files were removed, so that the disk gets their blocks back."""
        with self._lock:
            extents = list(self._open.items())
        removed = [(key, extent) for key, extent in extents if extent.removed()]
        with self._lock:
            for key, extent in removed:
                if self._open.get(key) is extent:
                    del self._open[key]

    def drop(self, keys: Iterable[str]) -> None:
        """Close extents that turned out to be wrong."""
        with self._lock:
            for key in keys:
                self._open.pop(key, None)

    def counts(self) -> CacheCounts:
        """Hits, misses and damaged entries so far."""
        with self._lock:
            return CacheCounts(*self._counts.tolist())

    def volume(self) -> int:
        """Bytes that the cache takes up on disk, its database included; that alone if it is damaged."""
        try:
            with self._database_lock:
                rows = self._connection.execute(COUNTED).fetchall()
        except sqlite3.Error as error:
            logger.warning("The cache could not be read: %s", error)
            rows = []
        return counted_bytes(rows) + file_bytes(self._folder / DATABASE_NAME) + log_bytes(self._folder)

    def close(self) -> None:
        """Close all extents that are not being read, and the database."""
        with self._lock:
            self._open.clear()
        self._files.close()
        with self._database_lock:
            self._connection.close()

    def _use(self, key: str) -> None:
        """Remember a use. Needs the lock."""
        used = self._used
        used[key] = None
        used.move_to_end(key)
        if len(used) > self._most_used:
            used.popitem(last=False)

    def _ask(self, key: str) -> Entry | None:
        """The entry of a key; None if there is none that can be read."""
        try:
            with self._database_lock:
                found = self._connection.execute(FIND, (key,)).fetchone()
        except sqlite3.Error as error:
            logger.warning("The cache could not be read: %s", error)
            return None
        return None if found is None else entry_of(key, found)

    def _open_entry(self, key: str) -> OpenExtent | None:
        entry = self._ask(key)
        if entry is None:
            return None
        # What lies in the database is verified each time: it is short.
        trusted = entry.filename is not None and self.verified.has(key)
        reason = ""
        try:
            extent = self._files.open(entry)
            # None: evicted between the look-up and now, or removed by hand; either way a miss.
            # A length of 0 may be that of a damaged tag.
            if extent is None or (trusted and extent.length):
                return extent
            # A short one is verified sooner than waited for.
            if extent.length > VERIFIED_BYTES:
                if self.verified.wait_for(key):
                    return extent
                self.verified.claim(key)
            if extent.matches(entry.tag, self._buffers):
                # Other processes that read it now need not do the same.
                self.verified.note(key)
                return extent
        except RefusedFile as error:
            reason = f" ({error})"
        except OSError as error:
            logger.warning("A cached extent cannot be read and is fetched again: %s (%s)", key, error)
            return None
        logger.warning("A cached extent is damaged and is fetched again: %s%s", key, reason)
        with self._lock:
            self._counts[_DAMAGED] += 1
        return None
