"""Which extents there are: diskcache's SQLite table, with eviction of our own.

diskcache gives the table, its counts, the settings of SQLite, a connection for each thread, and transactions. Its own
way of storing takes one transaction an item and writes the content within it; its eviction runs ten items at a time,
soft, and knows nothing of what is being read. So rows are written here, many in one transaction, and
`ExtentTable.evict` frees what is asked for. What the table looks like is why diskcache is held below version 6.

Transactions are short: content lies in its files before they begin, and files are removed after they end. Those of one
process queue at a lock, because SQLite makes who waits sleep.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diskcache

from imgsyncfs.cache.files import FreedFile, file_and_offset, part_names, room_on_disk
from imgsyncfs.cache_limits import CacheLimits
from imgsyncfs.errors import CacheError

INLINE_BYTES = 32 * 1024
"""Smaller extents lie in the database itself: to open a file for each, and a disk block, would cost more."""

BUSY_SECONDS = 10.0
"""How long to wait for another process that is writing to the cache's database."""

KEYS_AT_ONCE = 500
"""Older SQLite takes 999 parameters in a statement."""

DATABASE_NAME = "cache.db"

FIND = "SELECT tag, filename, value FROM Cache WHERE key = ? AND raw = 1"
"""What the key's entry is; see `Entry`. The content of a pickle does not match the tag: nothing is ever unpickled."""

_INSERT = (
    "INSERT INTO Cache(key, raw, store_time, access_time, tag, size, mode, filename, value)"
    " VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(key, raw) DO NOTHING"
)
_UPDATE = (
    "UPDATE Cache SET store_time = ?, access_time = ?, tag = ?, size = ?, mode = ?, filename = ?, value = ?"
    " WHERE key = ? AND raw = 1"
)

_INDEX = "CREATE INDEX IF NOT EXISTS Cache_filename ON Cache(filename) WHERE filename IS NOT NULL"

_PARTS = "SELECT rowid, key, size, access_time FROM Cache WHERE filename >= ? AND filename < ?"

_OLDEST = "SELECT rowid, key, filename, size, length(value), access_time FROM Cache ORDER BY access_time"

_PORTION = "SELECT rowid, key, tag, filename, {} FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"
_PORTION_ROWS = 256


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
            raise CacheError(PICKLE_FOUND)
        return super().fetch(mode, filename, value, read)


PICKLE_FOUND = "The cache holds a pickle, which imgsyncfs never writes; clear it with: imgsyncfs cache clear"


class Entry(NamedTuple):
    """An extent as the table has it.

    Attributes:
        key: its name.
        tag: length and digest; see `imgsyncfs.cache.files.content_tag`.
        filename: of the file that holds it, within the cache's folder, or of a part of one
            (`imgsyncfs.cache.files.part_name`); None if `content` does.
        content: what it holds, if there is no file.
    """

    key: str
    tag: str
    filename: str | None
    content: bytes | None


class ExtentTable(diskcache.Cache):  # type: ignore[misc]  # diskcache ships no types
    """The table of one cache folder. Any number of threads and processes may use it.

    Args:
        folder: holds the database; made if it is not there.
        limits: how much the cache may take up, told to those who look at it later; None leaves them as they are.

    Raises:
        sqlite3.Error: the database cannot be opened.
        diskcache.Timeout: it is busy.
    """

    def __init__(self, folder: Path, *, limits: CacheLimits | None = None) -> None:
        self._write_lock = threading.Lock()
        super().__init__(
            str(folder),
            timeout=BUSY_SECONDS,
            disk=PlainDisk,
            disk_min_file_size=INLINE_BYTES,
            # This gives the index by access time; evicting is done here, and not by diskcache.
            eviction_policy="least-recently-used",
            cull_limit=0,
            **({} if limits is None else limits._asdict()),
        )
        self._sql(_INDEX)

    @property
    def limits(self) -> CacheLimits:
        """What the last one who was told limits was told."""
        return CacheLimits(self.size_limit, getattr(self, "keep_free", 0))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: what is done within it is done as a whole, or not at all.

        Raises:
            diskcache.Timeout: others did not let us write in time.
        """
        if not self._write_lock.acquire(timeout=BUSY_SECONDS):
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
        row = self._sql(FIND, (key,)).fetchone()
        return None if row is None else Entry(key, *row)

    def count_keys(self, keys: Sequence[str]) -> int:
        """How many of some keys have an entry."""
        found = 0
        for start in range(0, len(keys), KEYS_AT_ONCE):
            portion = keys[start : start + KEYS_AT_ONCE]
            marks = ", ".join("?" * len(portion))
            statement = f"SELECT COUNT(*) FROM Cache WHERE raw = 1 AND key IN ({marks})"  # noqa: S608  # marks alone
            found += self._sql(statement, portion).fetchone()[0]
        return found

    def add(self, entry: Entry, *, length: int) -> FreedFile | None:
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
        size = 0 if inline else room_on_disk(length)
        columns = (now, now, entry.tag, size, mode, entry.filename, entry.content)
        if sql(_INSERT, (entry.key, *columns)).rowcount:
            return None
        [(replaced, byte_count)] = sql("SELECT filename, size FROM Cache WHERE key = ? AND raw = 1", (entry.key,))
        sql(_UPDATE, (*columns, entry.key))
        return None if replaced is None else self._freed(replaced, entry.key, byte_count)

    def leads_to(self, key: str) -> str | None:
        """The file that a key's entry leads to; None if there is no entry, or it has no file."""
        row = self._sql("SELECT filename FROM Cache WHERE key = ? AND raw = 1", (key,)).fetchone()
        return file_and_offset(row[0])[0] if row and row[0] is not None else None

    def remove(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[FreedFile]]:
        """Take out entries. Within a transaction.

        Returns:
            Those that were still there, and files for the time after the transaction. The file of one that was not
            there may be another's by now.
        """
        removed: list[Entry] = []
        freed: list[FreedFile | None] = []
        for entry in entries:
            row = self._sql(
                "SELECT rowid, size FROM Cache WHERE key = ? AND raw = 1 AND tag IS ? AND filename IS ?",
                (entry.key, entry.tag, entry.filename),
            ).fetchone()
            if row is None:
                continue
            self._sql("DELETE FROM Cache WHERE rowid = ?", (row[0],))
            removed.append(entry)
            if entry.filename is not None:
                freed.append(self._freed(entry.filename, entry.key, row[1]))
        return removed, list(filter(None, freed))

    def note_used(self, keys: Sequence[str]) -> None:
        """Say that entries were used just now, in this order. Within a transaction."""
        now = time.time()
        # Microseconds apart: they keep their order, and all come before what is stored after.
        times = ((now - 1e-6 * back, key) for back, key in zip(range(len(keys), 0, -1), keys, strict=True))
        self._con.executemany("UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1", times)

    def evict(self, byte_count: int, *, spared: Collection[str]) -> list[FreedFile]:
        """Take out what was used least recently. Within a transaction.

        Entries that share a file go together, at the time of the one that was used last: only then is room made.

        Args:
            byte_count: how much room to make; less is made if there is no more.
            spared: keys of entries to leave alone.

        Returns:
            Files, for the time after the transaction.
        """
        files: list[FreedFile] = []
        rows: set[int] = set()
        freed = 0
        oldest = self._sql(
            "SELECT rowid, key, filename, size, length(value), access_time FROM Cache ORDER BY access_time"
        )
        for row, key, filename, size, inline, used in oldest:
            if freed >= byte_count:
                break
            if row in rows or key in spared:
                continue
            file, offset = (None, None) if filename is None else file_and_offset(filename)
            going = [(row, size + (inline or 0))]
            if file is not None and offset is not None:
                parts = self._sql(_PARTS, part_names(file)).fetchall()
                if any(other in spared or other_used > used for _, other, _, other_used in parts):
                    continue
                going = [(part, part_size) for part, _, part_size, _ in parts]
            rows.update(part for part, _ in going)
            room = sum(part_size for _, part_size in going)
            freed += room
            if file is not None:
                files.append(FreedFile(file, key, room))
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
            for row in rows:
                yield Entry(*row[1:])
            last = rows[-1][0]

    def tags(self) -> Iterator[tuple[str, str]]:
        """Key and tag of all entries, without their contents."""
        yield from self._sql("SELECT key, tag FROM Cache").fetchall()

    def filenames(self) -> set[str]:
        """The files that entries lead to."""
        names = self._sql("SELECT filename FROM Cache WHERE filename IS NOT NULL").fetchall()
        return {file_and_offset(name)[0] for (name,) in names}

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

    def _freed(self, filename: str, key: str, byte_count: int) -> FreedFile | None:
        """The file of an entry that was taken out; None if others lead to it: its room is counted as one of theirs."""
        file, offset = file_and_offset(filename)
        part = None if offset is None else self._sql(_PARTS, part_names(file)).fetchone()
        if part is None:
            return FreedFile(file, key, byte_count)
        self._sql("UPDATE Cache SET size = size + ? WHERE rowid = ?", (byte_count, part[0]))
        return None

    def volume(self) -> int:
        """Bytes on disk: what the files take up and the database, as they are after the transaction under way."""
        sql = self._sql
        [(files,)] = sql("SELECT value FROM Settings WHERE key = 'size'").fetchall()
        [(pages,)] = sql("PRAGMA page_count").fetchall()
        [(unused,)] = sql("PRAGMA freelist_count").fetchall()
        database: int = (pages - unused) * self._page_size
        return int(files) + database + log_bytes(Path(self.directory))


def log_bytes(folder: Path) -> int:
    """How long the database's log of writes is."""
    return file_bytes(folder / f"{DATABASE_NAME}-wal")


def file_bytes(path: Path) -> int:
    """How long a file is; 0 if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
