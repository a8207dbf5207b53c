"""The face of `imgsyncfs.catalog.connection` over pyodbc: SQL Server, PostgreSQL, and whatever else ODBC reaches.

A database driver waits in C for a server that has gone; no signal and no option of every driver ends that. So every
call of the driver runs in one thread of the connection's own (`TimeLimitedThread`), and is given up when the time limit
is over. The driver's errors are turned into our own in that thread, so that no message with a connection string in it
hangs on to what is raised.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import math
import os
import pwd
import queue
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from imgsyncfs.catalog.drivers import connection_string, leaves_certificates_unchecked, packaged_sql_server_driver
from imgsyncfs.catalog.faults import driver_fault
from imgsyncfs.catalog.isolation import READ_COMMITTED, READ_SNAPSHOTS, find_isolation
from imgsyncfs.catalog.schema import POSTGRESQL, find_dialect
from imgsyncfs.catalog.server_address import check_listening
from imgsyncfs.catalog.url import OdbcUrl, ServerUrl
from imgsyncfs.errors import CatalogError, CatalogUnreachable, ConfigurationError, ImgsyncfsError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_Job = tuple[Callable[[], Any], "Future[Any]"]


class TimeLimitExceeded(Exception):
    """A call did not come back in time; its thread is lost, and so is whatever it was working on."""


class TimeLimitedThread:
    """One thread that runs calls one after the other while the caller waits, but not for ever.

    Used by one thread at a time. After a `TimeLimitExceeded` every further call raises it at once.

    Args:
        name: of the thread.
        seconds: the longest that a call may take.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._seconds = seconds
        self._lost = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon thread, and none of an executor's: those are waited for when the interpreter ends.
        threading.Thread(target=_run, args=(self._jobs,), name=name, daemon=True).start()
        self._end = weakref.finalize(self, self._jobs.put, None)

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the thread; returns what it returns.

        Raises:
            TimeLimitExceeded: it did not come back in time, or an earlier one did not.
            BaseException: whatever it raises.
        """
        return self.outcome(self.begin(function))

    def begin(self, function: Callable[[], Result]) -> Future[Result]:
        """Have a function run in the thread, after those before it; see `outcome`.

        Raises:
            TimeLimitExceeded: an earlier one did not come back in time.
        """
        if self._lost:
            raise TimeLimitExceeded
        future: Future[Result] = Future()
        self._jobs.put((function, future))
        return future

    def outcome(self, future: Future[Result]) -> Result:
        """Wait for what `begin` began; as `call`."""
        try:
            return future.result(self._seconds)
        except FutureTimeoutError:
            if future.done():
                raise
            self._lost = True
            raise TimeLimitExceeded from None

    def end(self) -> None:
        """End the thread when all calls have come back."""
        self._end()

    def last(self, function: Callable[[], object]) -> None:
        """Run a function when all before it have come back, wait for it if they have, and end the thread."""
        future: Future[object] = Future()
        self._jobs.put((function, future))
        self.end()
        if not self._lost:
            self._lost = True
            wait([future], self._seconds)


def _run(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        function, future = job
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001  # handed to the caller, whatever it is
            # The caller may have given up: then this line is all that is left of it.
            logger.debug("A call of the driver failed: %s", type(error).__name__)
            future.set_exception(error)
        # Or the last call's cursor would live until the next call comes.
        del job, function, future


ROWS_AT_ONCE = 2000

_DRIVER_LOGS = Path("/tmp")  # noqa: S108  # where psqlODBC puts them

_ACCESS_TOKEN = 1256
"""SQL_COPT_SS_ACCESS_TOKEN, of Microsoft's driver."""

TOKEN_SECONDS = 300.0
"""So long before its access token ends a connection is opened anew."""

SERVER_SHARE = 0.8
"""Part of the time limit that the server is given to answer: what it gives up itself, it also stops working at."""


class OdbcConnection:
    """A connection through ODBC; see `imgsyncfs.catalog.catalog.open_catalog` for arguments and errors."""

    def __init__(self, url: ServerUrl | OdbcUrl, *, password: str | None, timeout: float, create: bool) -> None:
        self.where = url.identity
        self.timeout = timeout
        self._pyodbc = _load_pyodbc()
        text = connection_string(
            url,
            password,
            timeout=timeout * SERVER_SHARE,
            create=create,
            installed=self._pyodbc.drivers(),
            packaged=packaged_sql_server_driver(),
        )
        if leaves_certificates_unchecked(text):
            _warn_of_certificates(self.where)
        self._secrets = [password] if password else []
        self._ends_at = math.inf
        self._thread = TimeLimitedThread("catalog", timeout)
        self._cursor_numbers = itertools.count(1)
        self._cursors = 0
        seconds = max(1, int(timeout * SERVER_SHARE))

        def connected() -> Any:
            if isinstance(url, ServerUrl):
                check_listening(url, seconds)
            before = self._token_attribute(url)
            return self._pyodbc.connect(text, autocommit=True, timeout=seconds, attrs_before=before)

        try:
            self._connection: Any = self._call(connected)
        except BaseException:
            self._thread.end()
            _remove_driver_logs()
            raise
        try:
            self.dialect = find_dialect(self._call(lambda: self._connection.getinfo(self._pyodbc.SQL_DBMS_NAME)))
            for statement in self.dialect.session(max(1, int(timeout * SERVER_SHARE * 1000))):
                self.execute(statement)
            self._isolation = find_isolation(self)
            if self._isolation.reads_snapshots:
                self.execute(READ_SNAPSHOTS)
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement that gives no rows."""

        def run() -> None:
            # Closed here, not when it is collected: an open cursor keeps its transaction open.
            cursor = self._connection.cursor()
            try:
                cursor.execute(sql, *parameters)
            finally:
                cursor.close()

        self._call(run)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query and give its rows, fetched in portions."""
        for portion in self.portions(sql, parameters):
            yield from map(tuple, portion)

    def portions(
        self, sql: str, parameters: Sequence[object] = (), *, most: int | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """Run a query and give its rows in portions, as the driver makes them.

        From PostgreSQL a portion of so many at most is fetched while its caller works on the one before.
        """
        if most is not None and self.dialect == POSTGRESQL:
            yield from self._fetched_ahead(sql, parameters, most)
            return
        most = most or ROWS_AT_ONCE
        cursor = self._call(self._connection.cursor)
        try:
            self._call(lambda: cursor.execute(sql, *parameters))
            while portion := self._call(lambda: cursor.fetchmany(most)):
                yield portion
        finally:
            self._call(cursor.close)

    def _fetched_ahead(self, sql: str, parameters: Sequence[object], most: int) -> Iterator[Sequence[Sequence[Any]]]:
        """By a cursor of the database's, which makes rows as they are fetched (PostgreSQL's DECLARE and FETCH).

        The driver's own cursors fetch 2,000 rows at a time, however large each is.
        """
        name = f"portions_{next(self._cursor_numbers)}"

        def declare() -> Any:
            cursor = self._connection.cursor()
            cursor.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", *parameters)
            return cursor

        def fetch() -> list[Sequence[Any]]:
            rows: list[Sequence[Any]] = cursor.execute(f"FETCH {most} FROM {name}").fetchall()
            return rows

        with self._reading():
            cursor = self._call(declare)
            try:
                upcoming = self._begin(fetch)
                while portion := self._outcome(upcoming):
                    upcoming = self._begin(fetch)
                    yield portion
                self._call(lambda: cursor.execute(f"CLOSE {name}"))
            finally:
                self._call(cursor.close)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """The transaction that a cursor needs: one that there is, or one that ends with the last of the cursors."""
        if not self._cursors and not self._call(lambda: self._connection.autocommit):
            yield
            return
        if not self._cursors:
            self._set_autocommit(on=False)
        self._cursors += 1
        try:
            yield
            if self._cursors == 1:
                self._call(self._connection.commit)
                self._set_autocommit(on=True)
        except BaseException as error:
            if self._cursors == 1:
                self._undo(error)
            raise
        finally:
            self._cursors -= 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what happens in a ``with`` block happen as a whole, or not at all."""
        if self._isolation.reads_snapshots:
            # What is written is compared with what is there now.
            self.execute(READ_COMMITTED)
        self._set_autocommit(on=False)
        try:
            yield
            self._call(self._connection.commit)
        except BaseException as error:
            self._undo(error)
            raise
        self._set_autocommit(on=True)
        if self._isolation.reads_snapshots:
            self.execute(READ_SNAPSHOTS)

    def described(self) -> str:
        """The kind of database and the driver."""
        wanted = (self._pyodbc.SQL_DBMS_NAME, self._pyodbc.SQL_DRIVER_NAME, self._pyodbc.SQL_DRIVER_VER)
        server, driver, version = self._call(lambda: [str(self._connection.getinfo(number)) for number in wanted])
        return f"{server} through {driver} {version}"

    def is_stale(self) -> bool:
        """Whether the access token that it was opened with ends soon.

        A server ends the connections to a database that it drops by itself.
        """
        return time.time() > self._ends_at - TOKEN_SECONDS

    @property
    def has_session(self) -> bool:
        """Always."""
        return True

    def rest(self) -> None:
        """Nothing; `imgsyncfs.catalog.lasting_connection` ends sessions."""

    def close(self) -> None:
        """Close the connection; a transaction that is open is undone."""
        self._thread.last(self._connection.close)
        _remove_driver_logs()

    def _token_attribute(self, url: ServerUrl | OdbcUrl) -> dict[int, bytes]:
        """What the driver is given to log in with Entra ID, if the URL says so."""
        if not isinstance(url, ServerUrl) or not url.uses_entra:
            return {}
        from imgsyncfs.stores.azure.entra import database_token

        token = database_token(self.where, timeout=self.timeout)
        self._ends_at = token.ends_at
        self._secrets.append(token.text)
        encoded = token.text.encode("utf-16-le")
        return {_ACCESS_TOKEN: struct.pack("<I", len(encoded)) + encoded}

    def _undo(self, error: BaseException) -> None:
        """Roll back; a connection that is gone has done so itself."""
        try:
            self._call(self._connection.rollback)
            self._set_autocommit(on=True)
            if self._isolation.reads_snapshots:
                self.execute(READ_SNAPSHOTS)
        except CatalogError as second:
            if not isinstance(error, CatalogError):
                raise second from error

    def _set_autocommit(self, *, on: bool) -> None:
        def run() -> None:
            self._connection.autocommit = on

        self._call(run)

    def _call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the connection's thread.

        Raises:
            ImgsyncfsError: it failed; or it did not come back in time, and the connection is lost.
        """
        return self._outcome(self._begin(function))

    def _begin(self, function: Callable[[], Result]) -> Future[Result | ImgsyncfsError]:
        """Have a function run in the connection's thread, after those before it; see `_outcome`."""
        try:
            return self._thread.begin(lambda: self._attempt(function))
        except TimeLimitExceeded:
            raise self._too_late() from None

    def _outcome(self, begun: Future[Result | ImgsyncfsError]) -> Result:
        """Wait for what was begun; as `_call`."""
        try:
            outcome = self._thread.outcome(begun)
        except TimeLimitExceeded:
            raise self._too_late() from None
        if isinstance(outcome, ImgsyncfsError):
            raise outcome
        return outcome

    def _too_late(self) -> CatalogUnreachable:
        return CatalogUnreachable(
            f"The catalog {self.where} did not answer within {self.timeout:g} s; check the network and the "
            "server, or allow more time."
        )

    def _attempt(self, function: Callable[[], Result]) -> Result | ImgsyncfsError:
        """What a function returns, or its failure as an error that knows nothing of the driver's."""
        try:
            return function()
        except self._pyodbc.Error as error:
            state, text = (str(error.args[0]), str(error.args[-1])) if error.args else ("", type(error).__name__)
            return driver_fault(self.where, text, state=state, secrets=self._secrets)
        except (UnicodeError, OverflowError) as error:
            return CatalogError(f"The catalog {self.where} cannot hold a value: {error}; correct the value.")


@cache
def _warn_of_certificates(where: str) -> None:
    """Say it once for each catalog."""
    logger.warning(
        "FreeTDS does not check the certificate of %s: whoever is between may read what is sent, the password too. Use "
        "Microsoft's driver: pip install 'imgsyncfs[mssql]'",
        where,
    )


def _remove_driver_logs() -> None:
    """Remove the file that psqlODBC makes for each process that closes a connection, whatever it is told.

    It has one line, the address of something in memory, and is for everyone to read.
    """
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        for path in _DRIVER_LOGS.glob(f"psqlodbc_*{user}{os.getpid()}.log"):
            if path.lstat().st_uid == os.geteuid():
                path.unlink(missing_ok=True)
    except (OSError, KeyError) as error:
        logger.debug("The driver's log could not be removed: %s", error)


def _load_pyodbc() -> Any:
    # Late: it needs libodbc, which need not be there for catalogs in SQLite, and takes 15 ms.
    try:
        pyodbc: Any = importlib.import_module("pyodbc")
    except ImportError as error:
        raise ConfigurationError(f"ODBC cannot be used: {error}; install it with: apt install unixodbc") from error
    # A pooled connection would come back with another user's settings, and never be closed.
    pyodbc.pooling = False
    return pyodbc
