"""What sync wrote: for each file in a target folder, how it was left, so that a file that somebody changed is known.

An SQLite database in the target folder. It is written before a file gets its final name, and keeps what it said of the
file before until then: however sync ends, the file that is there is one that the record has an entry for. A record
that is lost costs a reading of the files, no more.

One process at a time: the database stays locked for as long as the record is open, and the lock ends with the process.
Not for several threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.errors import SyncError
from imgsyncfs.formats.contract import Loss

logger = logging.getLogger(__name__)

RECORD_FOLDER = ".imgsyncfs-sync"
RECORD_FILE = "record-1.db"
"""The number is the layout's; another layout has another number and begins anew."""

_PAGE = 1000

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS datasets (dataset_id TEXT PRIMARY KEY, catalog TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS files (
        dataset_id TEXT, name TEXT, byte_count INTEGER, mtime_ns INTEGER, md5 TEXT, version TEXT, written INTEGER,
        PRIMARY KEY (dataset_id, name, mtime_ns, md5, version)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS directories (dataset_id TEXT, path TEXT, PRIMARY KEY (dataset_id, path)) WITHOUT ROWID",
)

_LOSSES = "ALTER TABLE files ADD COLUMN losses TEXT NOT NULL DEFAULT ''"
"""Records that were begun before views were copied have no such column."""


class Entry(NamedTuple):
    """How sync left a file.

    Attributes:
        byte_count: its length.
        mtime_ns: its time of modification, nanoseconds.
        md5: digest of its content.
        version: `imgsyncfs.tools.sync.source.SourceFile.version` of what it is a copy of.
        written: sync wrote it; False if it was there already.
        losses: what it does not show (`encode_losses`).
    """

    byte_count: int
    mtime_ns: int
    md5: str
    version: str
    written: bool
    losses: str = ""


class SyncRecord:
    """The record of one target folder. A context manager.

    Args:
        target: the folder; it is there.

    Raises:
        SyncError: another sync is at work there, or the folder cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        path = target / RECORD_FOLDER / RECORD_FILE
        try:
            path.parent.mkdir(exist_ok=True)
            for part in (path.parent, path):
                refuse_link(part)
        except OSError as error:
            raise SyncError(f"{target} cannot be written ({error.strerror}); choose another folder.") from error
        with self._faults():
            try:
                self._connection = _open(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                logger.warning("The record %s is damaged (%s) and is begun anew.", path, error)
                for suffix in ("", "-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                self._connection = _open(path)

    def entries(self, dataset_id: str, path: str) -> list[Entry]:
        """How sync may have left a file; mostly there is one entry, and none if sync does not know it.

        Args:
            dataset_id: the dataset.
            path: of the file within the dataset's folder, with slashes.
        """
        rows = self._execute(
            "SELECT byte_count, mtime_ns, md5, version, written, losses FROM files WHERE dataset_id = ? AND name = ?",
            (dataset_id, path),
        )
        return [
            Entry(byte_count, mtime_ns, md5, version, bool(written), losses)
            for byte_count, mtime_ns, md5, version, written, losses in rows
        ]

    def add(self, dataset_id: str, path: str, entry: Entry) -> None:
        """Note how a file is about to be left; what was noted before stays. Outlives the process from here on."""
        self._execute(
            "INSERT OR REPLACE INTO files (dataset_id, name, byte_count, mtime_ns, md5, version, written, losses) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (dataset_id, path, *entry),
        )

    def keep_only(self, dataset_id: str, path: str, entry: Entry) -> None:
        """Forget what was noted of a file before this entry."""
        self._execute(
            "DELETE FROM files WHERE dataset_id = ? AND name = ? AND NOT (mtime_ns = ? AND md5 = ? AND version = ?)",
            (dataset_id, path, entry.mtime_ns, entry.md5, entry.version),
        )

    def forget(self, dataset_id: str, path: str | bytes) -> None:
        """Forget a file."""
        self._execute("DELETE FROM files WHERE dataset_id = ? AND name = ?", (dataset_id, path))

    def paths(self, dataset_id: str) -> Iterator[str]:
        """The files of a dataset that the record knows, by path; it may be changed meanwhile.

        What can be no file's path, in a damaged record, is forgotten.
        """
        directories = {"", *self.directories(dataset_id)}
        query = "SELECT DISTINCT name FROM files WHERE dataset_id = ? AND name > ? ORDER BY name LIMIT ?"
        last: Any = ""
        while rows := self._execute(query, (dataset_id, last, _PAGE)):
            for (last,) in rows:
                fault = _path_fault(last, directories) if isinstance(last, str) else "it is no text"
                if fault is None:
                    yield last
                else:
                    self._leave_out(last, fault)
                    self.forget(dataset_id, last)

    def put_directory(self, dataset_id: str, path: str) -> None:
        """Note that sync is about to use a directory in a dataset's folder."""
        self._execute("INSERT OR REPLACE INTO directories VALUES (?, ?)", (dataset_id, path))

    def forget_directory(self, dataset_id: str, path: str) -> None:
        """Forget a directory."""
        self._execute("DELETE FROM directories WHERE dataset_id = ? AND path = ?", (dataset_id, path))

    def directories(self, dataset_id: str) -> list[str]:
        """The directories that sync used in a dataset's folder, each after the one that it is in."""
        rows = self._execute("SELECT path FROM directories WHERE dataset_id = ? ORDER BY path", (dataset_id,))
        return [path for (path,) in rows if isinstance(path, str) and not any(map(file_name_fault, path.split("/")))]

    def put_dataset(self, dataset_id: str, catalog: str) -> None:
        """Note which catalog a dataset is from."""
        self._execute("INSERT OR REPLACE INTO datasets VALUES (?, ?)", (dataset_id, catalog))

    def forget_dataset(self, dataset_id: str) -> None:
        """Forget a dataset; its files are forgotten already."""
        self._execute("DELETE FROM directories WHERE dataset_id = ?", (dataset_id,))
        self._execute("DELETE FROM datasets WHERE dataset_id = ?", (dataset_id,))

    def datasets(self, catalog: str) -> list[str]:
        """The datasets that came from a catalog, but for what can be no folder's name, in a damaged record."""
        rows = self._execute("SELECT dataset_id FROM datasets WHERE catalog = ? ORDER BY dataset_id", (catalog,))
        return [dataset_id for (dataset_id,) in rows if self._is_folder_name(dataset_id)]

    def close(self) -> None:
        """Close the database."""
        with self._faults():
            self._connection.close()

    def __enter__(self) -> SyncRecord:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _execute(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        with self._faults():
            return self._connection.execute(sql, parameters).fetchall()

    def _is_folder_name(self, dataset_id: object) -> bool:
        if not isinstance(dataset_id, str):
            fault: str | None = "it is no text"
        elif dataset_id.startswith("."):
            fault = "no dataset has a name that begins with a dot"
        else:
            fault = file_name_fault(dataset_id)
        if fault is not None:
            self._leave_out(dataset_id, fault)
        return fault is None

    def _leave_out(self, name: object, fault: str) -> None:
        logger.warning("The record in %s has the name %r, which is left out: %s", self._target, name, fault)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Put the database's errors into words."""
        try:
            yield
        except sqlite3.Error as error:
            # The module tells errors apart by number from Python 3.11 on only.
            text = str(error)
            if "locked" in text:
                raise SyncError(f"Another sync is at work in {self._target}; wait until it has ended.") from error
            if "is full" in text:
                raise disk_full(self._target) from error
            raise SyncError(
                f"The record in {self._target / RECORD_FOLDER} cannot be used ({error}); remove that folder, and the "
                "next sync reads the files instead."
            ) from error


def encode_losses(losses: Iterable[Loss]) -> str:
    """What a file does not show, for its entry."""
    kinds = [(loss.what, loss.count, loss.reason) for loss in losses]
    # Words out of annotations may be no valid UTF-8.
    return json.dumps(kinds) if kinds else ""


def decode_losses(encoded: str) -> list[Loss]:
    """What `encode_losses` encoded; nothing of what is damaged."""
    try:
        return [Loss(str(what), int(count), str(reason)) for what, count, reason in json.loads(encoded or "[]")]
    except (TypeError, ValueError):
        return []


def refuse_link(path: Path) -> None:
    """See that what lies at a path, if anything does, lies there: through a link sync would write elsewhere.

    Raises:
        SyncError: it is a link.
    """
    if path.is_symlink():
        raise SyncError(
            f"{path} is a link, through which sync would change what lies elsewhere; remove it, or choose another "
            "folder."
        )


def disk_full(path: Path) -> SyncError:
    """Say that the disk has become full."""
    return SyncError(f"There is no room left for {path}; make room and sync again, it goes on from here.")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # Exclusive: the lock is kept between transactions, and no memory shared with others is needed, which network
        # disks do not have.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # An entry that a power cut takes costs a reading of its file; bringing each one to the disk would cost more.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN EXCLUSIVE")
        for statement in _SCHEMA:
            connection.execute(statement)
        if all(name != "losses" for _, name, *_ in connection.execute("PRAGMA table_info(files)")):
            connection.execute(_LOSSES)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _path_fault(path: str, directories: Container[str]) -> str | None:
    directory, _, name = path.rpartition("/")
    if directory not in directories:
        return "it leads to a directory that sync does not know"
    return file_name_fault(name)
