"""A connection to a server that is there whenever it is needed, and not in between.

Servers, firewalls and load balancers end sessions that nobody uses; a serverless database sleeps only while no session
is open, and then takes up to a minute to wake. So a session that was ended is opened anew, one that nobody needs for a
while can be ended (`LastingConnection.rest`), and a server that says it will be ready soon is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, TypeVar

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.errors import CatalogNotReady, CatalogSessionEnded

Result = TypeVar("Result")

LONGEST_PAUSE_SECONDS = 5.0
"""Between two questions whether a server is ready."""


class LastingConnection:
    """Sessions one after the other, with the face of one connection; see `imgsyncfs.catalog.connection.Connection`.

    Args:
        open_session: opens one.
        patience: how long to ask a server again that says that it will be ready soon, in seconds.
        waiting: is told for how many seconds that was done so far.
    """

    def __init__(
        self,
        open_session: Callable[[], Connection],
        *,
        patience: float = 0.0,
        waiting: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._open_session = open_session
        self._patience = patience
        self._waiting = waiting
        self._session: Connection | None = None
        self._is_in_transaction = False
        session = self._opened()
        self.dialect = session.dialect
        self.where = session.where
        self.timeout = session.timeout

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement that gives no rows."""
        self._attempt(lambda session: session.execute(sql, parameters))

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query and give its rows, fetched in portions."""
        return self._begun(lambda session: session.rows(sql, parameters))

    def portions(
        self, sql: str, parameters: Sequence[object] = (), *, most: int | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """Run a query and give its rows in portions, as the driver makes them."""
        return self._begun(lambda session: session.portions(sql, parameters, most=most))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens in a ``with`` block happen as a whole, or not at all, in one session."""
        # A session that was ended meanwhile is opened anew before anything is written.
        self._attempt(lambda session: list(session.rows("SELECT 1")))
        with self._opened().transaction():
            self._is_in_transaction = True
            try:
                yield
            finally:
                self._is_in_transaction = False

    def described(self) -> str:
        """The kind of database and the driver."""
        return self._attempt(lambda session: session.described())

    def is_stale(self) -> bool:
        """Whether what the session has logged in with ends soon."""
        return self._session is not None and self._session.is_stale()

    @property
    def has_session(self) -> bool:
        """Whether a session is open."""
        return self._session is not None

    def rest(self) -> None:
        """End the session; the next question opens another one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def close(self) -> None:
        """End the session for good."""
        self.rest()

    def _begun(self, ask: Callable[[Connection], Iterator[Result]]) -> Iterator[Result]:
        """Give what a query gives; a session is opened anew only before there was anything."""

        def begin(session: Connection) -> tuple[list[Result], Iterator[Result]]:
            results = ask(session)
            return list(islice(results, 1)), results

        first, others = self._attempt(begin)
        # A generator's own end closes the cursor.
        with closing(others):  # type: ignore[type-var]  # each connection's iterators are generators
            yield from first
            yield from others

    def _attempt(self, function: Callable[[Connection], Result]) -> Result:
        """Call a function with the session; once more, with another, if this one turns out to have been ended."""
        was_open = self._session is not None
        try:
            return function(self._opened())
        except CatalogSessionEnded:
            if not was_open or self._is_in_transaction:
                raise
        self.rest()
        return function(self._opened())

    def _opened(self) -> Connection:
        if self._session is None:
            self._session = self._patiently_opened()
        return self._session

    def _patiently_opened(self) -> Connection:
        began = time.monotonic()
        pause = 1.0
        while True:
            try:
                return self._open_session()
            except CatalogNotReady:
                waited = time.monotonic() - began
                if waited + pause > self._patience:
                    raise
            self._waiting(waited)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
