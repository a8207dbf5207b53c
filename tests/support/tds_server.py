"""A small SQL Server of the tests' own: real drivers log in and run T-SQL, which SQLite executes.

It shows what drivers make of what a server says; what SQL Server itself makes of a statement only it can show. So every
statement must parse as T-SQL (sqlglot), and then goes to SQLite with the few words changed that the two say otherwise.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sqlite3
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlglot

from support import tds_messages as tds

Fault = tuple[int, str]
"""Number and words of an error."""

Fails = Callable[[str], "Fault | str | None"]
"""What happens to a statement: an error, ``close`` for a connection that ends, None for nothing of the kind."""

_PREPARE_AND_RUN, _RUN, _UNPREPARE, _PREPARE, _SQL = 13, 12, 15, 11, 10
_IGNORED = re.compile(r"\s*(SET |USE |IF @@TRANCOUNT|COMMIT|ROLLBACK)", re.IGNORECASE)
_TYPES = "sp_datatype_info_100"
_TYPE_LENGTHS = {-9: ("nvarchar", 4000), 12: ("varchar", 8000), -3: ("varbinary", 8000), 93: ("datetime2", 27)}
_NUMBERS = {"no such table": 208, "no such column": 207, "is locked": 1222, "syntax error": 102}
_READ_COMMITTED_SNAPSHOT = "is_read_committed_snapshot_on"


@dataclass
class TdsServer:
    """A server on the loopback address.

    Attributes:
        file: SQLite's, which holds the only database.
        tls: for connections that ask for encryption; None refuses it.
        password: of all users.
        settings: of the database in ``sys.databases``: column to value.
        logins: all that came.
        statements: all that came.
        fails: is asked about each statement; with ``"LOGIN"`` about each login.
    """

    file: Path
    tls: ssl.SSLContext | None = None
    password: str = "Secret;1"
    settings: dict[str, int] = field(
        default_factory=lambda: {
            "compatibility_level": 160,
            _READ_COMMITTED_SNAPSHOT: 1,
            "snapshot_isolation_state": 0,
        }
    )
    logins: list[tds.Login] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    fails: Fails = lambda _: None

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sessions: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The catalog, without encryption if there is no certificate."""
        return self.url_with(freetds=False)

    def url_with(self, *, freetds: bool) -> str:
        """The catalog, reached through FreeTDS or Microsoft's driver; see `url`."""
        url = f"mssql://reader@127.0.0.1:{self.port}/datasets"
        if freetds:
            return f"{url}?driver=FreeTDS" + ("" if self.tls else "&Encryption=off")
        return url + ("" if self.tls else "?Encrypt=no")

    def close(self) -> None:
        """End it, with all sessions."""
        self._listening.close()
        self.end_sessions()

    @property
    def session_count(self) -> int:
        """Connections that are open."""
        return len(self._sessions)

    def end_sessions(self) -> None:
        """Cut all connections, as a server does that goes to sleep."""
        for each in list(self._sessions):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sessions.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                _Session(self, connection).serve()
        finally:
            self._sessions.discard(connection)
            connection.close()


class _Session:
    """One connection."""

    def __init__(self, server: TdsServer, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._prepared: dict[int, str] = {}
        self._implicit = False
        self._database = sqlite3.connect(server.file, isolation_level=None, check_same_thread=False, timeout=20)

    def serve(self) -> None:
        """Answer until the client goes."""
        with contextlib.closing(self._database):
            if not self._log_in():
                return
            while True:
                kind, content = self._receive()
                if kind == tds.BATCH:
                    self._send(self._batch(tds.batch_text(content)))
                elif kind == tds.RPC:
                    self._send(self._call(tds.read_call(content)))
                elif kind == tds.TRANSACTION:
                    self._send(self._transaction(content))
                elif kind == tds.ATTENTION:
                    self._send(tds.done(attention=True))

    def _log_in(self) -> bool:
        kind, content = self._receive()
        options = tds.prelogin_options(content)
        tls = self._server.tls
        asks = options.get(tds.ENCRYPTION_OPTION, b"\x02")[0] in {1, 3}
        answer = {0: bytes((16, 0, 16, 0, 0, 0)), 1: bytes((tds.ENCRYPTED if tls and asks else tds.NOT_SUPPORTED,))}
        federated = tds.FEDERATED_OPTION in options
        if federated:
            answer[tds.FEDERATED_OPTION] = b"\x01"
        self._send(tds.prelogin(answer))
        if tls and asks:
            self._shake_hands(tls)
        kind, content = self._receive()
        assert kind == tds.LOGIN
        login = tds.read_login(content)
        self._server.logins.append(login)
        fault = self._server.fails("LOGIN")
        if fault is None and not login.token and login.password != self._server.password:
            fault = (18456, f"Login failed for user '{login.user}'.")
        if fault == "close":
            return False
        if fault is not None:
            self._send(_failed(fault))
            return False
        self._send(tds.login_answer(login.database, federated=bool(login.token)))
        return True

    def _shake_hands(self, context: ssl.SSLContext) -> None:
        """TLS within PRELOGIN messages; afterwards messages are within TLS."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                if waiting := self._outgoing.read():
                    self._socket.sendall(tds.packets(tds.PRELOGIN, waiting))
                _, content = self._receive()
                self._incoming.write(content)
            else:
                break
        if waiting := self._outgoing.read():
            self._socket.sendall(tds.packets(tds.PRELOGIN, waiting))
        self._tls = tls

    def _receive(self) -> tuple[int, bytes]:
        content = b""
        while True:
            kind, is_last, length = tds.packet_length(self._read(8))
            content += self._read(length)
            if is_last:
                return kind, content

    def _read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self._read_some(count - len(content))
            if not part:
                raise EOFError
            content += part
        return content

    def _read_some(self, most: int) -> bytes:
        while self._tls is not None:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                received = self._socket.recv(1 << 16)
                if not received:
                    raise EOFError from None
                self._incoming.write(received)
        return self._socket.recv(most)

    def _send(self, content: bytes) -> None:
        message = tds.packets(tds.ANSWER, content)
        if self._tls is not None:
            self._tls.write(message)
            message = self._outgoing.read()
        self._socket.sendall(message)

    def _transaction(self, content: bytes) -> bytes:
        (headers,) = (int.from_bytes(content[:4], "little"),)
        request = int.from_bytes(content[headers : headers + 2], "little")
        command, change = {5: ("BEGIN", 8), 7: ("COMMIT", 9), 8: ("ROLLBACK", 10)}[request]
        if (fault := self._fault(command)) is not None:
            return fault
        if self._database.in_transaction != (request == 5):
            self._database.execute(command)
        answer = tds.transaction_change(change)
        if request != 5 and content[headers + 2 :][1:2] == b"\x01":
            self._database.execute("BEGIN")
            answer += tds.transaction_change(8)
        return answer + tds.done()

    def _call(self, call: tds.Call) -> bytes:
        procedure, values = call.procedure, call.values
        if procedure == _UNPREPARE or procedure == "sp_unprepare":
            self._prepared.pop(values[0], None)
            return tds.done(token=tds.DONE_PROCEDURE)
        before = b""
        if procedure in (_PREPARE_AND_RUN, _PREPARE, "sp_prepexec", "sp_prepare"):
            handle = len(self._prepared) + 1
            self._prepared[handle] = values[2]
            before = tds.handle_answer(handle)
            if procedure in (_PREPARE, "sp_prepare"):
                return before + tds.done(token=tds.DONE_PROCEDURE)
            statement, parameters = values[2], values[3:]
        elif procedure in (_RUN, "sp_execute"):
            statement, parameters = self._prepared[values[0]], values[1:]
        elif procedure in (_SQL, "sp_executesql"):
            statement, parameters = values[0], values[2:]
        elif str(procedure).endswith(_TYPES):
            return _type_row(values[0], tds.DONE_IN_PROCEDURE) + tds.done(token=tds.DONE_PROCEDURE)
        else:
            return tds.error(2812, f"Could not find stored procedure '{procedure}'.") + tds.done(
                failed=True, token=tds.DONE_PROCEDURE
            )
        answer = self._run(statement, parameters, end=tds.DONE_IN_PROCEDURE)
        failed = answer[:1] == b"\xaa"
        return (
            answer
            + (b"" if failed else b"\x79" + bytes(4) + before)
            + tds.done(failed=failed, token=tds.DONE_PROCEDURE)
        )

    def _batch(self, text: str) -> bytes:
        if "implicit_transactions on" in text.lower():
            self._implicit = True
        elif "implicit_transactions off" in text.lower():
            self._implicit = False
        if text.startswith(_TYPES):
            return _type_row(int(text.removeprefix(_TYPES).partition(",")[0]), tds.DONE)
        return self._run(text, (), end=tds.DONE)

    def _fault(self, statement: str) -> bytes | None:
        fault = self._server.fails(statement)
        if fault == "close":
            raise EOFError
        if fault is None:
            return None
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")
        return _failed(fault)

    def _run(self, statement: str, parameters: Sequence[Any], *, end: int) -> bytes:
        if _IGNORED.match(statement):
            if statement.startswith("SET TRANSACTION"):
                self._server.statements.append(statement)
            self._set(statement.strip().upper())
            return tds.done(token=end)
        self._server.statements.append(statement)
        if (fault := self._fault(statement)) is not None:
            return fault
        try:
            if self._implicit and not self._database.in_transaction:
                self._database.execute("BEGIN")
            return self._result(statement, parameters, end)
        except sqlglot.errors.ParseError as error:
            return tds.error(102, f"Incorrect syntax: {error}") + tds.done(failed=True, token=end)
        except sqlite3.IntegrityError as error:
            return tds.error(2627, str(error)) + tds.done(failed=True, token=end)
        except sqlite3.Error as error:
            number = next((number for words, number in _NUMBERS.items() if words in str(error)), 50000)
            return tds.error(number, str(error)) + tds.done(failed=True, token=end)

    def _set(self, statement: str) -> None:
        """What a session is told about itself, and the drivers' own ends of transactions."""
        if limit := re.match(r"SET LOCK_TIMEOUT (\d+)", statement):
            self._database.execute(f"PRAGMA busy_timeout = {limit[1]}")
        if statement.startswith(("IF @@TRANCOUNT > 0", "COMMIT", "ROLLBACK")) and self._database.in_transaction:
            self._database.execute("COMMIT" if "COMMIT" in statement else "ROLLBACK")

    def _checksums(self, statement: str, end: int) -> bytes:
        """What SQLite has no functions for."""
        found = []
        for table in re.findall(r" FROM (\w+) AS t", statement):
            rows = self._database.execute(f"SELECT * FROM {table}").fetchall()
            found.append([table, len(rows), _checksum(rows), 0, 0])
        return tds.rows(["name", "n", "checksum", "r", "u"], found) + tds.done(len(found), token=end)

    def _result(self, statement: str, parameters: Sequence[Any], end: int) -> bytes:
        # It does not know how tables say how they are ordered.
        sqlglot.parse_one(re.sub(r" NONCLUSTERED|, INDEX \w+ CLUSTERED \([^)]*\)", "", statement), read="tsql")
        if "BINARY_CHECKSUM" in statement:
            return self._checksums(statement, end)
        if "sys.databases" in statement:
            names = [name for name in self._server.settings if name in statement]
            return tds.rows(names, [[self._server.settings[name] for name in names]]) + tds.done(1, token=end)
        named = {f"P{number + 1}": value for number, value in enumerate(parameters)}
        cursor = self._database.execute(to_sqlite(statement), named)
        if cursor.description is None:
            return tds.done(max(cursor.rowcount, 0), token=end)
        found = cursor.fetchall()
        return tds.rows([name for name, *_ in cursor.description], found) + tds.done(len(found), token=end)


def _checksum(rows: Sequence[Sequence[Any]]) -> int:
    return zlib.crc32(repr(sorted(rows, key=repr)).encode())


def _failed(fault: Fault | str) -> bytes:
    number, words = fault if isinstance(fault, tuple) else (50000, fault)
    return tds.error(number, words) + tds.done(failed=True)


def _type_row(number: int, end: int) -> bytes:
    """What is known of a type of ODBC."""
    name, longest = _TYPE_LENGTHS.get(number, ("sql_variant", 8000))
    return tds.rows(["TYPE_NAME", "DATA_TYPE", "PRECISION"], [[name, number, longest]]) + tds.done(1, token=end)


def to_sqlite(statement: str) -> str:
    """A statement of ours in T-SQL, in SQLite's words."""
    statement = re.sub(r"@P(\d+)", r":P\1", statement)
    statement = re.sub(r" COLLATE \w+", "", statement)
    statement = re.sub(r", INDEX \w+ CLUSTERED \([^)]*\)", "", statement)
    statement = statement.replace("PRIMARY KEY NONCLUSTERED", "PRIMARY KEY").replace("NVARCHAR(MAX)", "TEXT")
    statement = re.sub(r"\bN'", "'", statement)
    many = re.fullmatch(
        r"(?s)(INSERT INTO .*) SELECT .* FROM OPENJSON\(CAST\((:\w+) AS TEXT\)\) WITH \((.*)\)", statement
    )
    if many:
        columns = ", ".join(f"json_extract(value, '{path}')" for path in re.findall(r"'(\$\[\d+\])'", many[3]))
        return f"{many[1]} SELECT {columns} FROM json_each({many[2]})"
    return statement


@contextlib.contextmanager
def tds_server(file: Path, **options: Any) -> Iterator[TdsServer]:
    """A server for the length of a ``with`` block."""
    server = TdsServer(file, **options)
    try:
        yield server
    finally:
        server.close()
