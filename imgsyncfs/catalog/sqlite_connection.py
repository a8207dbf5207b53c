"""The face of `imgsyncfs.catalog.connection` over Python's own sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imgsyncfs.catalog.faults import driver_fault
from imgsyncfs.catalog.schema import SQLITE
from imgsyncfs.catalog.url import SqliteUrl
from imgsyncfs.errors import CatalogError, CatalogMissing, NotACatalog

ROWS_AT_ONCE = 1000
"""Few enough to stay in the processor's cache until they are columns."""


class SqliteConnection:
    """A connection to an SQLite file.

    See `imgsyncfs.catalog.catalog.open_catalog` for arguments and errors. The file's journal stays as it is: a
    write-ahead log would not work on network disks, where catalogs may lie.
    """

    dialect = SQLITE

    def __init__(self, url: SqliteUrl, *, timeout: float, create: bool) -> None:
        self.where = str(url.path)
        self.timeout = timeout
        self._path = url.path
        _check_file(url.path, create=create)
        mode = "rwc" if create else "rw"  # SQLite reads a file that may not be written in mode rw, too
        with self._faults():
            self._connection = sqlite3.connect(
                f"file:{quote(str(url.path))}?mode={mode}", uri=True, timeout=timeout, isolation_level=None
            )
        self._connection.text_factory = _decode
        self._file = _file_identity(url.path)

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement that gives no rows."""
        with self._faults():
            self._connection.execute(sql, parameters).close()

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query and give its rows, fetched in portions."""
        for portion in self._fetch(sql, parameters, ROWS_AT_ONCE):
            yield from portion

    def portions(
        self, sql: str, parameters: Sequence[object] = (), *, most: int | None = None
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Run a query and give its rows in portions, texts as `bytes`."""
        # That takes 0.6 of the time that decoding each text does.
        self._connection.text_factory = bytes
        try:
            yield from self._fetch(sql, parameters, most or ROWS_AT_ONCE)
        finally:
            self._connection.text_factory = _decode

    def _fetch(self, sql: str, parameters: Sequence[object], most: int) -> Iterator[list[tuple[Any, ...]]]:
        with self._faults():
            cursor = self._connection.execute(sql, parameters)
        with closing(cursor):
            while True:
                with self._faults():
                    portion = cursor.fetchmany(most)
                if not portion:
                    return
                yield portion

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens in a ``with`` block happen as a whole, or not at all."""
        # IMMEDIATE: a transaction that began by reading could not wait for another one's lock.
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # SQLite itself has undone it after some errors (disk full).
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def described(self) -> str:
        """The version of SQLite."""
        return f"SQLite {sqlite3.sqlite_version}"

    def is_stale(self) -> bool:
        """Whether the file was removed, or another one was put in its place: this connection still has the old one."""
        return _file_identity(self._path) != self._file

    @property
    def has_session(self) -> bool:
        """Never: this is a file."""
        return False

    def rest(self) -> None:
        """Nothing: a file that is open keeps nobody awake."""

    def close(self) -> None:
        """Close the connection; a transaction that is open is undone."""
        with self._faults():
            self._connection.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise driver_fault(self.where, str(error)) from error
        except (UnicodeError, OverflowError) as error:
            raise CatalogError(f"The catalog {self.where} cannot hold a value: {error}; correct the value.") from error


def _decode(text: bytes) -> str:
    # A text that is no UTF-8 would make the whole query fail; so it is one odd row.
    return text.decode(errors="surrogateescape")


def _file_identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_file(path: Path, *, create: bool) -> None:
    """Say what SQLite does not: it has one message for whatever is wrong with a path."""
    if path.is_dir():
        raise NotACatalog(f"The catalog {path} is a directory; give the path of the SQLite file in it.")
    if create and not path.parent.is_dir():
        raise CatalogMissing(f"The catalog {path} cannot be made: there is no directory {path.parent}; make it first.")
    if not create and not path.exists():
        raise CatalogMissing(f"There is no catalog {path}; correct the path, or make one with: imgsyncfs init")
