"""A thin interface over sqlite3 and pyodbc: statements, streamed rows, transactions.

A connection belongs to the thread that opened it. Outside a transaction each statement is one of its own. A driver's
error is raised as one of imgsyncfs's, by `imgsyncfs.catalog.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from imgsyncfs.catalog.schema import Dialect
from imgsyncfs.catalog.url import CatalogUrl, SqliteUrl


class Connection(Protocol):
    """An open connection to a database."""

    dialect: Dialect
    where: str
    """Names the catalog in messages."""
    timeout: float
    """For one answer of the database, or another connection's lock, in seconds."""

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement that gives no rows."""

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query and give its rows, fetched in portions.

        No other statement may run until they are all fetched, or the iterator is closed.
        """

    def portions(
        self, sql: str, parameters: Sequence[object] = (), *, most: int | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """Like `rows`, in portions that are not empty, with values as raw as the driver gives them.

        A portion has `most` rows at most; where that is not said, as many as it is best for rows of some hundred bytes.

        A text may come as `str` or in UTF-8 as `bytes`; one that is not valid UTF-8 may be among the latter.
        """

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction for a ``with`` block: all of it happens, or, if it raises, nothing."""

    def described(self) -> str:
        """The kind of database, and what it is reached through, for people."""

    def is_stale(self) -> bool:
        """Whether to open it anew: another database is at its place, or what it has logged in with ends soon."""

    @property
    def has_session(self) -> bool:
        """Whether a session with a server is open; never for a file."""

    def rest(self) -> None:
        """End the session with a server, which the next question opens anew; a file stays open."""

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""


def connect(
    url: CatalogUrl,
    *,
    password: str | None,
    timeout: float,
    create: bool,
    patience: float = 0.0,
    waiting: Callable[[float], None] = lambda _: None,
) -> Connection:
    """Connect to a catalog's database; see `imgsyncfs.catalog.catalog.open_catalog`."""
    # Late: a mount's start waits for the first connection, which needs one of them.
    if isinstance(url, SqliteUrl):
        from imgsyncfs.catalog.sqlite_connection import SqliteConnection

        return SqliteConnection(url, timeout=timeout, create=create)
    from imgsyncfs.catalog.lasting_connection import LastingConnection
    from imgsyncfs.catalog.odbc_connection import OdbcConnection

    def open_session() -> Connection:
        return OdbcConnection(url, password=password, timeout=timeout, create=create)

    return LastingConnection(open_session, patience=patience, waiting=waiting)
