"""Extents on disk: what has been fetched once is read from here.

Two sides share one folder. Worker processes write through diskcache (`CacheWriter`), which keeps the size limit. The
daemon reads (`CacheReader`) with one statement on diskcache's own table, over one connection of its own: diskcache
keeps a connection per thread in a thread-local, which FUSE callbacks lose each time (0.37 ms to connect again instead
of 0.02), and which threads that come and go would leak. The layout of that table is why diskcache is held below
version 6.

Nothing is trusted unverified: an entry's tag holds length and digest, checked when the daemon opens it the first time.
An entry that does not match counts as missing; the worker that is then asked for it removes it and fetches it again.

Threads: `CacheReader._lock` guards the table of open extents and the counters, `CacheReader._database_lock` the
connection; never both at once, and neither is needed to answer `getattr` for an image.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache
import xxhash
from cachetools import LRUCache

from imgsyncfs.errors import CacheError

logger = logging.getLogger(__name__)

INLINE_BYTES = 32 * 1024
"""Smaller extents lie in the database itself: a file each would cost an open and a disk block."""

BUSY_SECONDS = 10.0
"""How long to wait for another process that is writing to the cache's database."""

OPEN_WEIGHT = 128 << 20
DESCRIPTOR_WEIGHT = 256 << 10
"""Open extents are kept up to a total weight. One on disk weighs as much as 256 KiB held in memory, so that at most 512
descriptors are open: half of the usual limit of 1,024."""

_FIND = "SELECT mode, filename, value, tag FROM Cache WHERE key = ? AND raw = 1"


class PlainDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types
    """Keeps bytes only. diskcache would pickle anything else, and a pickle runs code when it is read."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Keep a value; see `diskcache.Disk.store`.

        Raises:
            TypeError: the value is not bytes.
        """
        if not isinstance(value, bytes):
            raise TypeError(f"The cache keeps bytes, not {type(value).__name__}.")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Bring back a value; see `diskcache.Disk.fetch`.

        Raises:
            CacheError: the entry is a pickle.
        """
        if mode == diskcache.core.MODE_PICKLE:
            raise CacheError("The cache holds a pickle, which imgsyncfs never writes; clear the cache.")
        return super().fetch(mode, filename, value, read)


def content_tag(content: bytes) -> str:
    """Length and digest of an extent, as kept beside it. The digest finds damage; it keeps no one out."""
    return f"{len(content)}-{xxhash.xxh3_128_hexdigest(content)}"


def prepare_cache(folder: Path, *, size_limit: int) -> None:
    """Make the cache folder, or throw away one whose database is damaged.

    Args:
        folder: becomes mode 0700.
        size_limit: in bytes; soft, because diskcache culls when it writes.

    Raises:
        CacheError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        try:
            _open_diskcache(folder, size_limit).close()
        except sqlite3.DatabaseError as error:
            logger.warning("The cache in %s is damaged (%s) and is made anew.", folder, error)
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            _open_diskcache(folder, size_limit).close()
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise CacheError(
            f"The cache folder {folder} cannot be used ({error}); choose another with --cache-dir."
        ) from error


def _open_diskcache(folder: Path, size_limit: int) -> Any:
    return diskcache.Cache(
        str(folder),
        timeout=BUSY_SECONDS,
        disk=PlainDisk,
        disk_min_file_size=INLINE_BYTES,
        size_limit=size_limit,
        eviction_policy="least-recently-stored",
    )


class CacheWriter:
    """The side of the cache that adds and removes extents; lives in worker processes.

    Args:
        folder: made by `prepare_cache`.
        size_limit: in bytes.
    """

    def __init__(self, folder: Path, *, size_limit: int) -> None:
        self._cache = _open_diskcache(folder, size_limit)

    def get(self, key: str) -> bytes | None:
        """An extent's content if it is there and undamaged; a damaged one is removed."""
        try:
            content, tag = self._cache.get(key, tag=True)
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            logger.warning("The cache could not be read: %s", error)
            return None
        if content is None:
            return None
        if content_tag(content) != tag:
            self._cache.delete(key, retry=True)
            return None
        return bytes(content)

    def put(self, key: str, content: bytes) -> bool:
        """Keep an extent.

        Returns:
            False when there is no room on the disk, or the database is busy: the content is then used uncached.
        """
        try:
            return bool(self._cache.set(key, content, tag=content_tag(content)))
        except (OSError, sqlite3.Error, diskcache.Timeout) as error:
            logger.warning("An extent could not be kept in the cache: %s", error)
            return False

    def close(self) -> None:
        """Close the database."""
        self._cache.close()


class OpenExtent:
    """An extent that can be read: a descriptor, or bytes in memory. Verified; closed when nobody refers to it.

    Eviction may remove the file meanwhile: the descriptor keeps its content until the last reader is done.
    """

    __slots__ = ("_content", "_descriptor", "length")

    def __init__(self, *, descriptor: int | None = None, content: bytes = b"", length: int) -> None:
        self._descriptor = descriptor
        self._content = content
        self.length = length

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` within the extent."""
        if self._descriptor is None:
            return self._content[offset : offset + size]
        return os.pread(self._descriptor, size, offset)

    @property
    def weight(self) -> int:
        """What it counts against `OPEN_WEIGHT`."""
        return self.length + 1024 if self._descriptor is None else DESCRIPTOR_WEIGHT

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


@dataclass(frozen=True)
class CacheCounts:
    """What the reading side has seen since the mount began."""

    hits: int
    misses: int
    damaged: int


class CacheReader:
    """The side of the cache that the daemon reads from.

    Args:
        folder: made by `prepare_cache`.

    Raises:
        CacheError: the database cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._connection = sqlite3.connect(
                f"file:{(folder / 'cache.db').absolute()}?mode=ro".replace("#", "%23"),
                uri=True,
                timeout=BUSY_SECONDS,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise CacheError(f"The cache in {folder} cannot be read ({error}); clear it or choose another.") from error
        self._database_lock = threading.Lock()
        self._lock = threading.Lock()
        self._open: LRUCache[str, OpenExtent] = LRUCache(OPEN_WEIGHT, getsizeof=lambda extent: extent.weight)
        self._hits = self._misses = self._damaged = 0

    def find(self, key: str) -> OpenExtent | None:
        """The extent kept under a key, verified, or None when there is none that can be trusted."""
        with self._lock:
            extent = self._open.get(key)
            if extent is not None:
                self._hits += 1
                return extent
        extent = self._open_entry(key)
        if extent is None:
            with self._lock:
                self._misses += 1
            return None
        self.keep(key, extent)
        with self._lock:
            self._hits += 1
        return extent

    def keep(self, key: str, extent: OpenExtent) -> None:
        """Hold an extent open for the reads that follow."""
        with self._lock:
            if extent.weight <= OPEN_WEIGHT:
                self._open[key] = extent

    def counts(self) -> CacheCounts:
        """Hits, misses and damaged entries so far."""
        with self._lock:
            return CacheCounts(self._hits, self._misses, self._damaged)

    def volume(self) -> int:
        """Bytes the cache holds on disk, near enough (what diskcache counts, and its database)."""
        with self._database_lock:
            rows = self._connection.execute("SELECT value FROM Settings WHERE key = 'size'").fetchall()
        database = self._folder / "cache.db"
        return int(rows[0][0]) + database.stat().st_size if rows else 0

    def close(self) -> None:
        """Close everything that is not being read."""
        with self._lock:
            self._open.clear()
        with self._database_lock:
            self._connection.close()

    def _open_entry(self, key: str) -> OpenExtent | None:
        with self._database_lock:
            row = self._connection.execute(_FIND, (key,)).fetchone()
        if row is None:
            return None
        mode, filename, value, tag = row
        if mode == diskcache.core.MODE_PICKLE:
            self._count_damaged(key)
            return None
        if filename is None:
            content = bytes(value)
            if content_tag(content) != tag:
                self._count_damaged(key)
                return None
            return OpenExtent(content=content, length=len(content))
        return self._open_file(key, self._folder / filename, tag)

    def _open_file(self, key: str, path: Path, tag: str) -> OpenExtent | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Evicted between the look-up and now, or removed by hand: either way a miss.
            return None
        length = os.fstat(descriptor).st_size
        extent = OpenExtent(descriptor=descriptor, length=length)
        if tag.partition("-")[0] != str(length) or content_tag(extent.read(0, length)) != tag:
            self._count_damaged(key)
            return None
        return extent

    def _count_damaged(self, key: str) -> None:
        logger.warning("A cached extent is damaged and is fetched again: %s", key)
        with self._lock:
            self._damaged += 1
