"""The index of the cache: diskcache's SQLite table is ours.

diskcache gives the table, its counts, the settings of SQLite, a connection for each thread, and transactions. Rows are
written here, many in one transaction, where diskcache would take a transaction for each and write the content within
it. Eviction is our own as well (`ExtentTable.evict`): diskcache does not know which extents are being read. Since the
columns are used directly, diskcache is held below version 6.

Transactions are short: a content is in its file before one begins, and files are removed after it has ended. The
transactions of one process queue at a lock, since SQLite polls for its own.

A damaged table may hold anything, and SQLite takes values of any type in any column. So each value is checked before it
is used: a name that is none of the cache's (`imgsyncfs.cache.files.file_and_offset`) leads to no file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import diskcache

from imgsyncfs.cache.extent import Entry
from imgsyncfs.cache.files import disk_bytes, file_and_offset, part_names
from imgsyncfs.errors import CacheError
from imgsyncfs.settings.limits import CacheLimits
from imgsyncfs.settings.private_folders import own_file_fault

logger = logging.getLogger(__name__)

INLINE_BYTES = 32 * 1024
"""Smaller extents lie in the database itself: to open a file for each, and a disk block, would cost more."""

BUSY_SECONDS = 10.0
"""The timeout for another process that is writing to the cache's database."""

LOCKED_SECONDS = 3.0
"""The timeout for opening a database that another process keeps locked; diskcache would try again for minutes."""

KEYS_AT_ONCE = 500
"""Older SQLite takes 999 parameters in a statement."""

DATABASE_NAME = "cache.db"

DATABASE_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""What follows that name in those of SQLite's files."""

FIND = "SELECT rowid, tag, filename, value FROM Cache WHERE key = ? AND raw = 1"
"""What the key's entry is; see `Entry`. The content of a pickle does not match the tag: nothing is ever unpickled."""

FIND_ANY = "SELECT 1 FROM Cache WHERE key >= ? AND key < ? AND raw = 1 LIMIT 1"
"""Whether there is an entry with a key of a prefix; see `key_range`."""

COUNTED = "SELECT value FROM Settings WHERE key = 'size'"
"""What the files take up, as triggers keep count of it; see `counted_bytes`."""

_INSERT = (
    "INSERT INTO Cache(key, raw, store_time, access_time, tag, size, mode, filename, value)"
    " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(key, raw) DO NOTHING"
)
_UPDATE = (
    "UPDATE Cache SET store_time = ?, access_time = ?, tag = ?, size = ?, mode = ?, filename = ?, value = ?"
    " WHERE key = ? AND raw = 1"
)

PINNED_TIME = 1e12
"""When pinned entries were used last, as the table has it: later than anything else, and nothing evicts them."""

_PINNED = (
    "CREATE TABLE IF NOT EXISTS Pins(pin TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS Pinned(key TEXT, pin TEXT, PRIMARY KEY(key, pin)) WITHOUT ROWID",
)
"""What is pinned, whether it is in the cache or not; see `imgsyncfs.cache.pins`."""

USE = f"UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1 AND access_time < {PINNED_TIME}"  # noqa: S608  # a constant
"""Notes when an entry was used; of one that is pinned, nothing."""

_INDEX = "CREATE INDEX IF NOT EXISTS Cache_filename ON Cache(filename) WHERE filename IS NOT NULL"

_PARTS = "SELECT rowid, key, size, access_time FROM Cache WHERE filename >= ? AND filename < ?"

_FILENAMES = "SELECT filename FROM Cache WHERE filename >= ? AND filename < ?"

_OLDEST = "SELECT rowid, key, filename, size, length(value), access_time FROM Cache ORDER BY access_time"
_OLDEST_OF = (
    "SELECT rowid, key, filename, size, length(value), access_time FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"
    " ORDER BY access_time"
)
_VOLUME_OF = "SELECT size, length(value) FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"

_PORTION = (
    "SELECT rowid, CASE raw WHEN 1 THEN key END, tag, filename, {}, size FROM Cache"
    " WHERE rowid > ? ORDER BY rowid LIMIT ?"
)
_PORTION_ROWS = 256

_ROW = "SELECT CASE raw WHEN 1 THEN key END, tag, filename, size FROM Cache WHERE rowid = ?"

_TAGS = "SELECT CASE raw WHEN 1 THEN key END, tag FROM Cache"
"""A key that is not raw is a pickle, which nobody here puts and nobody finds."""


_SETTINGS = frozenset({*diskcache.DEFAULT_SETTINGS, *diskcache.core.METADATA, *CacheLimits._fields})
"""diskcache makes an attribute of each setting in the table, whatever its name is."""

_MOST_BYTES = 1 << 50
"""Larger sizes than this are none; and with those below it, no sum exceeds what SQLite counts with."""

_ADD_UP = (
    "UPDATE Settings SET value = (SELECT coalesce(sum(size), 0) FROM Cache WHERE typeof(size) = 'integer'"
    " AND size BETWEEN 0 AND ?) WHERE key = 'size'"
)


class PlainDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types
    """Keeps bytes only, and only in the database.

    diskcache would pickle anything else, and a pickle runs code when it is read. It would also open, and remove,
    whatever path a row names.
    """

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
            CacheError: the entry is a pickle, or leads to a file.
        """
        if mode == diskcache.core.MODE_PICKLE:
            raise CacheError(PICKLE_FOUND)
        if filename is not None:
            raise CacheError("The cache's database leads to a file, which imgsyncfs never has it do; clear the cache.")
        return super().fetch(mode, filename, value, read)

    def remove(self, file_path: Any) -> None:
        """Leave alone what a row calls its file; see `diskcache.Disk.remove`."""
        logger.warning("A row of the database leads to a file that is none of its own and is left alone: %r", file_path)


PICKLE_FOUND = "The cache holds a pickle, which imgsyncfs never writes; clear it with: imgsyncfs cache clear"


def entry_of(key: str, found: tuple[int, object, object, object]) -> Entry:
    """The entry of a key, as `FIND` gives it."""
    row, tag, filename, content = found
    return Entry(key, tag, filename, content, row=row)


class ExtentTable(diskcache.Cache):  # type: ignore[misc]  # diskcache ships no types
    """The table of one cache folder. Any number of threads and processes may use it.

    Args:
        folder: holds the database, which is made if it is not there; the folder is there.
        limits: how much the cache may take up, kept for those who look at it later; None leaves them as they are.
        busy_timeout: seconds to wait for another process that is writing.

    Raises:
        CacheError: the database is somebody else's, or no file.
        OSError: it cannot be made.
        sqlite3.Error: the database cannot be opened, or is damaged.
        diskcache.Timeout: it is busy.
    """

    def __init__(self, folder: Path, *, limits: CacheLimits | None = None, busy_timeout: float = BUSY_SECONDS) -> None:
        self._busy_timeout = busy_timeout
        self._write_lock = threading.Lock()
        check_database(folder)
        _make_database(folder)
        _check_unlocked(folder)
        try:
            super().__init__(
                str(folder),
                timeout=busy_timeout,
                disk=PlainDisk,
                disk_min_file_size=INLINE_BYTES,
                # This gives the index by access time; evicting is done here, and not by diskcache.
                eviction_policy="least-recently-used",
                cull_limit=0,
                **({} if limits is None else limits._asdict()),
            )
            settings = {name for (name,) in self._sql("SELECT key FROM Settings")}
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            # What diskcache makes of settings that are of other types than its own.
            raise sqlite3.DatabaseError(f"its settings make no sense: {error}") from error
        if not settings <= _SETTINGS:
            raise sqlite3.DatabaseError("it has settings that nobody knows")
        for statement in (_INDEX, *_PINNED):
            self._sql(statement)

    @property
    def _con(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._con
        connection.text_factory = as_text
        return connection

    @property
    def limits(self) -> CacheLimits:
        """The limits of the writer that was started last."""
        return CacheLimits(number_of_bytes(self.size_limit), number_of_bytes(getattr(self, "keep_free", 0)))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: what is done within it is done as a whole, or not at all.

        Raises:
            diskcache.Timeout: others did not let us write in time.
        """
        if not self._write_lock.acquire(timeout=self._busy_timeout):
            raise diskcache.Timeout
        try:
            with self.transact():
                yield
        except sqlite3.Error:
            # diskcache rolls back what fails within a transaction, but not one that fails at its end.
            if self._con.in_transaction:
                self._sql("ROLLBACK")
            raise
        finally:
            self._write_lock.release()

    def find(self, key: str) -> Entry | None:
        """The entry of a key; None if there is none."""
        found = self._sql(FIND, (key,)).fetchone()
        return None if found is None else entry_of(key, found)

    def count_keys(self, keys: Sequence[str]) -> int:
        """How many of some keys have an entry."""
        found = 0
        for start in range(0, len(keys), KEYS_AT_ONCE):
            portion = keys[start : start + KEYS_AT_ONCE]
            marks = ", ".join("?" * len(portion))
            statement = f"SELECT COUNT(*) FROM Cache WHERE raw = 1 AND key IN ({marks})"  # noqa: S608  # marks alone
            found += self._sql(statement, portion).fetchone()[0]
        return found

    def add(self, entry: Entry, *, length: int) -> str | None:
        """Take in an entry, in place of one that has its key. Within a transaction.

        Args:
            entry: the entry.
            length: of its content in bytes.

        Returns:
            The file of the entry that had the key, for the time after the transaction; None if there was none, or other
            entries lead to it.
        """
        now = time.time()
        sql = self._sql
        inline = entry.filename is None
        mode = diskcache.core.MODE_RAW if inline else diskcache.core.MODE_BINARY
        # The database counts as a whole (`volume`), so what lies in it has no size of its own.
        size = 0 if inline else disk_bytes(length)
        used = PINNED_TIME if self.is_pinned(entry.key) else now
        columns = (now, used, entry.tag, size, mode, entry.filename, entry.content)
        if sql(_INSERT, (entry.key, *columns)).rowcount:
            return None
        [(replaced, byte_count)] = sql("SELECT filename, size FROM Cache WHERE key = ? AND raw = 1", (entry.key,))
        sql(_UPDATE, (*columns, entry.key))
        return None if replaced is None else self._freed(replaced, entry.key, byte_count)

    def remove(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
        """Take out entries. Within a transaction.

        Returns:
            Those that were still there, and files for the time after the transaction. The file of one that was not
            there may be another's by now.
        """
        removed: list[Entry] = []
        freed: list[str | None] = []
        for entry in entries:
            row = self._sql(_ROW, (entry.row,)).fetchone()
            if row is None or row[:3] != (entry.key, entry.tag, entry.filename):
                continue
            self._sql("DELETE FROM Cache WHERE rowid = ?", (entry.row,))
            removed.append(entry)
            if entry.filename is not None:
                freed.append(self._freed(entry.filename, entry.key, row[3]))
        return removed, list(filter(None, freed))

    def note_used(self, keys: Sequence[str]) -> None:
        """Mark entries as used just now, in this order. Within a transaction."""
        now = time.time()
        # Microseconds apart: they keep their order, and all come before what is stored after.
        times = ((now - 1e-6 * back, key) for back, key in zip(range(len(keys), 0, -1), keys, strict=True))
        self._con.executemany(USE, times)

    def is_pinned(self, key: object) -> bool:
        """Whether an entry of this key is not to be evicted."""
        return self._sql("SELECT 1 FROM Pinned WHERE key = ? LIMIT 1", (key,)).fetchone() is not None

    def evict(self, byte_count: int, *, pinned: Collection[str] = (), prefix: str = "") -> list[str]:
        """Take out what was used least recently, and nothing that is pinned. Within a transaction.

        Entries that share a file go together, at the time of the one that was used last.

        Args:
            byte_count: how many bytes of the disk to free; fewer are freed if there are no more.
            pinned: keys of entries to leave alone.
            prefix: of the keys of the entries that may go; empty for all.

        Returns:
            Names of files to remove after the transaction.
        """
        files: list[str] = []
        rows: set[int] = set()
        freed = 0
        oldest = self._sql(_OLDEST_OF, key_range(prefix)) if prefix else self._sql(_OLDEST)
        for row, key, filename, size, inline, used in oldest:
            if freed >= byte_count or (used == PINNED_TIME and self.is_pinned(key)):
                break
            if row in rows or key in pinned:
                continue
            place = None if filename is None else file_and_offset(filename)
            going = [(row, number_of_bytes(size) + (inline or 0))]
            if place is not None and place[1] is not None:
                parts = self._sql(_PARTS, part_names(place[0])).fetchall()
                if any(other in pinned or _is_later(other_used, used) for _, other, _, other_used in parts):
                    continue
                going = [(part, number_of_bytes(part_size)) for part, _, part_size, _ in parts]
            rows.update(part for part, _ in going)
            freed += sum(part_size for _, part_size in going)
            if place is not None:
                files.append(place[0])
            elif filename is not None:
                _log_refused(filename, key)
        oldest.close()
        self._con.executemany("DELETE FROM Cache WHERE rowid = ?", ((row,) for row in rows))
        return files

    def entries(self, *, contents: bool) -> Iterator[Entry]:
        """All entries, in the order in which they came; those that come or go meanwhile may be among them or not.

        No transaction is held from one to the next.

        Args:
            contents: read those that lie in the database as well.
        """
        portion = _PORTION.format("value" if contents else "NULL")
        last = -1
        while rows := self._sql(portion, (last, _PORTION_ROWS)).fetchall():
            for row, key, tag, filename, content, size in rows:
                yield Entry(key, tag, filename, content, size, row)
            last = rows[-1][0]

    def tags(self) -> Iterator[tuple[object, object]]:
        """Key and tag of all entries, without their contents."""
        yield from self._sql(_TAGS).fetchall()

    def entry_count(self) -> int:
        """How many entries there are."""
        [(count,)] = self._sql("SELECT count(*) FROM Cache").fetchall()
        return int(count)

    def filenames(self, folder: str) -> set[str]:
        """The files that entries lead to, of those whose names begin with a letter."""
        names = self._sql(_FILENAMES, (folder, chr(ord(folder) + 1))).fetchall()
        return {place[0] for (name,) in names if (place := file_and_offset(name))}

    def add_up(self) -> None:
        """Count anew what the files take up, which is kept as a sum that a damaged size spoils."""
        with self.writing():
            self._sql(_ADD_UP, (_MOST_BYTES,))

    def check(self) -> None:
        """See whether the database is whole.

        Raises:
            sqlite3.DatabaseError: it is damaged.
        """
        faults = [fault for (fault,) in self._sql("PRAGMA quick_check(1)").fetchall()]
        if faults != ["ok"]:
            raise sqlite3.DatabaseError(faults[0])

    def shorten_log(self) -> None:
        """Write what the log holds into the database and empty it, unless somebody is reading just now."""
        self._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _freed(self, filename: object, key: object, size: object) -> str | None:
        """The file of an entry that was taken out.

        None if other entries lead to it, one of which takes over its size, or if it is none of the cache's.
        """
        place = file_and_offset(filename)
        if place is None:
            _log_refused(filename, key)
            return None
        file, offset = place
        part = None if offset is None else self._sql(_PARTS, part_names(file)).fetchone()
        if part is None:
            return file
        self._sql("UPDATE Cache SET size = size + ? WHERE rowid = ?", (number_of_bytes(size), part[0]))
        return None

    def volume_of(self, prefix: str) -> int:
        """Bytes that the entries with keys of a prefix take up, in files and in the database."""
        rows = self._sql(_VOLUME_OF, key_range(prefix)).fetchall()
        return sum(number_of_bytes(size) + number_of_bytes(inline) for size, inline in rows)

    def volume(self) -> int:
        """Bytes on disk: what the files take up and the database, as they are after the transaction under way."""
        sql = self._sql
        [(pages,)] = sql("PRAGMA page_count").fetchall()
        [(unused,)] = sql("PRAGMA freelist_count").fetchall()
        database: int = (pages - unused) * self._page_size
        return counted_bytes(sql(COUNTED).fetchall()) + database + log_bytes(Path(self.directory))


def check_database(folder: Path) -> None:
    """See that a cache's database is a file, and the user's: SQLite opens it by its path, and follows links.

    Args:
        folder: the cache's.

    Raises:
        CacheError: it is not; or SQLite would not get the path as it is.
    """
    if os.path.expandvars(folder) != str(folder):
        raise CacheError(
            f"The cache folder {folder} has a variable in its name; choose another one.", option="cache_dir"
        )
    for suffix in DATABASE_SUFFIXES:
        path = folder / f"{DATABASE_NAME}{suffix}"
        try:
            fault = own_file_fault(path, path.lstat())
        except FileNotFoundError:
            continue
        except OSError as error:
            fault = str(error)
        if fault:
            raise CacheError(
                f"The cache in {folder} cannot be used: {fault}; remove it, or choose another cache folder.",
                option="cache_dir",
            )


def _make_database(folder: Path) -> None:
    """Make an empty file that nobody else may read; SQLite gives its logs the same rights."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(folder / DATABASE_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def _check_unlocked(folder: Path) -> None:
    with contextlib.closing(
        sqlite3.connect(folder / DATABASE_NAME, timeout=LOCKED_SECONDS, isolation_level=None)
    ) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise diskcache.Timeout("another process keeps its database locked") from error


def as_text(content: bytes) -> str | bytes:
    """A text as it comes out of a table; one that is no text, in a damaged table, stays bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def number_of_bytes(value: object) -> int:
    """A number of bytes as it comes out of a table; 0 for what can be none."""
    return value if isinstance(value, int) and 0 <= value < _MOST_BYTES else 0


def counted_bytes(rows: Sequence[tuple[object, ...]]) -> int:
    """What the files take up, as `COUNTED` gives it."""
    return sum(number_of_bytes(size) for (size,) in rows)


def key_range(prefix: str) -> tuple[str, str]:
    """The first key of a prefix, and the first one beyond."""
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _is_later(one: object, other: object) -> bool:
    """Whether an entry was used later than another; what is no time is before all others."""
    return isinstance(one, float | int) and (not isinstance(other, float | int) or one > other)


def _log_refused(filename: object, key: object) -> None:
    logger.warning("A cached extent leads to no file of the cache, %r, and is forgotten: %s", filename, key)


def log_bytes(folder: Path) -> int:
    """Bytes of the database's log of writes, and of the log's index."""
    return file_bytes(folder / f"{DATABASE_NAME}-wal") + file_bytes(folder / f"{DATABASE_NAME}-shm")


def file_bytes(path: Path) -> int:
    """How long a file is; 0 if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
