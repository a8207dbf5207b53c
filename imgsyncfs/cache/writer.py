"""The side of the cache that adds and evicts extents; lives in worker processes.

The limit holds after every `CacheWriter.put_all`, and meanwhile but for the portion that each writer is about to add.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import diskcache

from imgsyncfs.blob_layout import EXTENT_BYTES, MEBIBYTE
from imgsyncfs.cache.extent import Entry, content_tag
from imgsyncfs.cache.files import ExtentFiles, RefusedFile, disk_bytes, new_name, part_name
from imgsyncfs.cache.table import BUSY_SECONDS, INLINE_BYTES, ExtentTable
from imgsyncfs.cache.upkeep import is_without_room, remove_orphans
from imgsyncfs.settings.limits import CacheLimits, disk_space

logger = logging.getLogger(__name__)

PORTION_BYTES = EXTENT_BYTES
"""What is added in one transaction: each writer may be over the limit by as much for a moment."""

SHARED_BYTES = 1 * MEBIBYTE
"""Extents that are kept together share files of up to this size, or of a sixteenth of the cache: they are evicted
together as well."""

LOG_BYTES = 256 << 10
"""Kept below the limit, or a sixteenth of it: a transaction adds to the database's log after the volume was counted."""

USED_AT_ONCE = 512
"""Uses noted in one transaction: it then takes some milliseconds."""

_FAULTS = (OSError, sqlite3.Error, diskcache.Timeout)

Contents = Mapping[str, bytes | memoryview]
"""The content of each key."""


class CacheWriter:
    """Adds extents, and evicts what was used least recently to keep within limits. Any number of threads may use it.

    Args:
        folder: made by `prepare_cache`.
        size_limit: most bytes that the cache takes up on disk, database included.
        keep_free: bytes of the disk to leave free, whoever takes up the others.
        busy_timeout: seconds to wait for another process that is writing to the database.
        free_bytes: gives how many bytes of the disk are free.

    Raises:
        CacheError: the database is somebody else's.
        sqlite3.Error: the database cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size_limit: int,
        keep_free: int = 0,
        busy_timeout: float = BUSY_SECONDS,
        free_bytes: Callable[[Path], int] = lambda folder: disk_space(folder).free,
    ) -> None:
        self._folder = folder
        self._free_bytes = free_bytes
        self._limits = CacheLimits(size_limit, keep_free)
        self._busy_timeout = busy_timeout
        self._open_lock = threading.Lock()
        self._opened: ExtentTable | None = None
        try:
            self._opened = ExtentTable(folder, limits=self._limits, busy_timeout=busy_timeout)
        except (OSError, sqlite3.Error) as error:
            # To open it writes to it. Nothing is kept until there is room.
            if not is_without_room(error):
                raise
            logger.warning("The cache's disk is full, and nothing is kept until it has room: %s", error)
        self._shared_bytes = min(SHARED_BYTES, size_limit // 16)
        self._log_bytes = min(LOG_BYTES, size_limit // 16)
        self._files = ExtentFiles(folder)

    @property
    def _table(self) -> ExtentTable:
        """The table; opened when there is room for that.

        Raises:
            sqlite3.Error: there is none.
        """
        with self._open_lock:
            if self._opened is None:
                self._opened = ExtentTable(self._folder, limits=self._limits, busy_timeout=self._busy_timeout)
            return self._opened

    def get(self, key: str) -> bytes | None:
        """An extent's content if it is there and undamaged; a damaged one is removed."""
        try:
            entry = self._table.find(key)
            if entry is None:
                return None
            content = self._read(entry)
            if content is not None:
                return content
            with self._table.writing():
                removed, freed = self._table.remove([entry])
            if removed:
                logger.warning("A cached extent is damaged and is removed: %s", key)
            self._files.remove(freed)
        except _FAULTS as error:
            logger.warning("The cache could not be read: %s", error)
        return None

    def holds_all(self, keys: Sequence[str]) -> bool:
        """Whether all of some extents are there; they are not looked at."""
        try:
            return self._table.count_keys(keys) == len(keys)
        except _FAULTS as error:
            logger.warning("The cache could not be read: %s", error)
            return False

    def remove(self, keys: Sequence[str]) -> None:
        """Remove extents; some may be gone already."""
        try:
            with self._table.writing():
                entries = filter(None, map(self._table.find, keys))
                _, freed = self._table.remove(entries)
            self._files.remove(freed)
        except _FAULTS as error:
            logger.warning("Extents could not be removed from the cache: %s", error)

    def put(self, key: str, content: bytes) -> bool:
        """Keep one extent; says whether it is kept. See `put_all`."""
        return bool(self.put_all({key: content}))

    def put_all(self, contents: Contents, *, used: Sequence[str] = (), pinned: Collection[str] = ()) -> set[str]:
        """Keep extents, and evict what was used least recently until the limits hold.

        Args:
            contents: of the extents, by key; up to 4 MiB of them are added in one transaction.
            used: keys of extents that were used since the last call, the oldest use first; noted before anything is
                evicted.
            pinned: keys of extents not to be evicted, beside the new ones: those that are being read.

        Returns:
            The keys that are kept. One is not when there is no room on the disk, or the database is busy: its content
            is then used uncached.

        Raises:
            TypeError: a content is not bytes.
        """
        for content in contents.values():
            if not isinstance(content, bytes | memoryview):
                raise TypeError(f"The cache keeps bytes, not {type(content).__name__}.")
        self.note_used(used[:-USED_AT_ONCE])
        used = used[-USED_AT_ONCE:]
        pinned = {*pinned, *contents}
        kept: set[str] = set()
        for portion in _portions(contents):
            if self._put_portion(portion, used, pinned):
                kept.update(portion)
            used = ()
        return kept

    def keep_within(self, prefix: str, byte_count: int) -> None:
        """Evict what was used least recently, of the entries with keys of a prefix, until they keep within a limit."""
        try:
            excess = self._table.volume_of(prefix) - byte_count
            if excess <= 0:
                return
            with self._table.writing():
                freed = self._table.evict(excess, prefix=prefix)
            self._files.remove(freed)
        except _FAULTS as error:
            logger.warning("The cache could not keep %s within its limit: %s", prefix, error)

    def note_used(self, keys: Sequence[str]) -> None:
        """Mark extents as used just now, so that others are evicted before them.

        Args:
            keys: the oldest use first.
        """
        for start in range(0, len(keys), USED_AT_ONCE):
            try:
                with self._table.writing():
                    self._table.note_used(keys[start : start + USED_AT_ONCE])
            except _FAULTS as error:
                logger.warning("The cache could not note what was used: %s", error)

    def remove_orphans(self) -> None:
        """Remove the files that writers have left which were killed."""
        try:
            count = remove_orphans(self._files, self._table)
        except _FAULTS as error:
            logger.warning("The cache could not be searched for files without an entry: %s", error)
            return
        if count:
            logger.info("The cache had %d files without an entry, which are removed.", count)

    def close(self) -> None:
        """Close the database."""
        self._files.close()
        if self._opened is not None:
            self._opened.close()

    def _read(self, entry: Entry) -> bytes | None:
        """What an entry holds; None if it is damaged or gone."""
        try:
            extent = self._files.open(entry)
        except RefusedFile as error:
            logger.warning("A cached extent cannot be opened: %s (%s)", entry.key, error)
            return None
        content = b"" if extent is None else extent.read(0, extent.length)
        return content if content_tag(content) == entry.tag else None

    def _put_portion(self, contents: Contents, used: Sequence[str], pinned: Collection[str]) -> bool:
        files: list[str] = []
        try:
            if not self._make_room(sum(disk_bytes(len(content)) for content in contents.values()), pinned):
                return False
            names: dict[str, str] = {}
            for keys in self._planned(contents):
                files.append(new_name())
                self._files.write(files[-1], [contents[key] for key in keys])
                names |= _names_within(files[-1], {key: len(contents[key]) for key in keys})
            with self._table.writing():
                self._table.note_used(used)
                replaced = [
                    self._table.add(_entry(key, content, names.get(key)), length=len(content))
                    for key, content in contents.items()
                ]
                freed = [*filter(None, replaced), *self._keep_limit(pinned)]
        except _FAULTS as error:
            logger.warning("Extents could not be kept in the cache: %s", error)
            self._files.remove(files)
            return False
        try:
            self._files.remove(freed)
        except OSError as error:
            logger.warning("Evicted files could not be removed from the cache, and take up room: %s", error)
        return True

    def _planned(self, contents: Contents) -> list[list[str]]:
        """The keys that share each file to be written; what lies in the database is in none."""
        files: list[list[str]] = []
        left = 0
        for key, content in contents.items():
            if len(content) < INLINE_BYTES:
                continue
            byte_count = disk_bytes(len(content))
            if not files or byte_count > left:
                files.append([])
                left = self._shared_bytes
            files[-1].append(key)
            left -= byte_count
        return files

    def _make_room(self, byte_count: int, pinned: Collection[str]) -> bool:
        """Evict until the disk can take more bytes; returns whether it can now."""
        if byte_count > self._limits.size_limit:
            return False
        missing = self._missing(byte_count)
        if missing <= 0:
            return True
        with self._table.writing():
            freed = self._table.evict(missing, pinned=pinned)
        self._files.remove(freed)
        return self._missing(byte_count) <= 0

    def _missing(self, byte_count: int) -> int:
        """How many bytes the disk lacks to take in more and keep free what must be kept."""
        return self._limits.keep_free + byte_count - self._free_bytes(self._folder)

    def _keep_limit(self, pinned: Collection[str]) -> list[str]:
        """Evict down to the limit, within a transaction; returns the files to remove after it."""
        excess = self._table.volume() + self._log_bytes - self._limits.size_limit
        return self._table.evict(excess, pinned=pinned) if excess > 0 else []


def _portions(contents: Contents) -> Iterator[Contents]:
    """Cut contents into portions of up to `PORTION_BYTES`, or of one."""
    portion: dict[str, bytes | memoryview] = {}
    byte_count = 0
    for key, content in contents.items():
        if portion and byte_count + len(content) > PORTION_BYTES:
            yield portion
            portion, byte_count = {}, 0
        portion[key] = content
        byte_count += len(content)
    if portion:
        yield portion


def _names_within(file: str, lengths: Mapping[str, int]) -> dict[str, str]:
    """What the table calls the place of each key's content in a file that holds them one after the other."""
    if len(lengths) == 1:
        return dict.fromkeys(lengths, file)
    names = {}
    offset = 0
    for key, length in lengths.items():
        names[key] = part_name(file, offset)
        offset += disk_bytes(length)
    return names


def _entry(key: str, content: bytes | memoryview, name: str | None) -> Entry:
    return Entry(key, content_tag(content), name, bytes(content) if name is None else None)
