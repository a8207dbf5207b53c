"""An HTTP proxy in front of Azurite: it counts the requests, and can delay, refuse, hold, cut or falsify the answers.

It takes HTTP/1.1 with kept connections, streams bodies both ways, and serves each connection in a thread of its own.
Azurite's signatures cover the path and not the port, so a connection string whose endpoint names the proxy's port
works (``Azurite.connection_string_through``). The port is the proxy's from its construction to ``close``: while it is
not started, connections are refused.

``_changed`` (a condition with its lock) guards the record of requests, the fault, and the open connections.
``start``, ``stop`` and ``close`` are for one thread, the test's.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, final

CHUNK_BYTES = 256 * 1024
UPSTREAM_SECONDS = 60.0
HOLD_SECONDS = 120.0
# RFC 9110, 7.6.1: these speak of one connection and are not passed on.
CONNECTION_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})


@dataclass(frozen=True)
class Request:
    """One request as it arrived; ``path`` includes the query."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Fault:
    """What the proxy does to requests.

    Attributes:
        delay: seconds to wait before the request is passed on.
        hold: never answer; the connection ends when another fault is set or the proxy stops.
        status: answer with this HTTP status, without asking the server.
        headers: of such an answer.
        content: of such an answer.
        is_endless: such an answer has no length, and its content is sent again and again until the client leaves.
        cut_after: end the connection after so many bytes of the answer's content.
        bytes_per_second: send the answer's content no faster.
        flip_at: change one bit of the byte at this place of the answer's content.
        is_blanked: send as many zeros in place of the answer's content.
        length_off: what the answer says of its content's length is off by so many bytes.
        range_off: ask the server for a range that begins so many bytes later.
        methods: the methods it concerns; all if empty.
        count: how many requests it concerns, the following ones are left alone; None is all.
    """

    delay: float = 0.0
    hold: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    is_endless: bool = False
    cut_after: int | None = None
    bytes_per_second: int | None = None
    flip_at: int | None = None
    is_blanked: bool = False
    length_off: int = 0
    range_off: int = 0
    methods: frozenset[str] = frozenset()
    count: int | None = None


@final
class HttpProxy:
    """A proxy in front of the HTTP server on a loopback port.

    Attributes:
        port: the proxy's own.
        requests: all requests that arrived, in order, since the start or the last ``forget``.
        disturbed: how many requests a fault concerned.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._fault = Fault()
        self._fault_number = 0
        self._fault_left: int | None = None
        self.disturbed = 0
        self._open: set[socket.socket] = set()
        self._running = False
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        # Bound, but nobody listens: the port is kept, and who connects is refused.
        self._reserved: socket.socket | None = reserve_port(0)
        self.port: int = self._reserved.getsockname()[1]

    def __enter__(self) -> HttpProxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begins to answer."""
        if self._server is not None:
            return
        listener, self._reserved = self._reserved or reserve_port(self.port), None
        self._running = True
        self._server = _Server(self, listener)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="http-proxy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection and refuses new ones, until ``start``."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.socket.close()
        self._reserved = reserve_port(self.port)
        with self._changed:
            self._running = False
            self._changed.notify_all()
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        server.server_close()  # waits for the connections' threads

    def close(self) -> None:
        """Stops, and gives the port back."""
        self.stop()
        if self._reserved is not None:
            self._reserved.close()

    @property
    def requests(self) -> list[Request]:
        """A copy of the record of requests."""
        with self._changed:
            return list(self._requests)

    def count(self, method: str = "", containing: str = "") -> int:
        """How many requests have this method (any if empty) and this text in path or query."""
        return sum(method in ("", request.method) and containing in request.path for request in self.requests)

    def forget(self) -> None:
        """Empties the record of requests."""
        with self._changed:
            self._requests.clear()

    def wait_for_requests(self, count: int, *, seconds: float = 30.0) -> None:
        """Waits until so many requests have arrived; raises TimeoutError if they don't in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._requests) >= count, seconds):
                raise TimeoutError(f"{len(self._requests)} requests arrived in {seconds} s, not {count}")

    def set_fault(self, fault: Fault) -> None:
        """Does this to the requests that arrive from now on, and ends the waiting of those that the old one holds."""
        with self._changed:
            self._fault = fault
            self._fault_left = fault.count
            self._fault_number += 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Sets a fault for the length of a ``with`` block."""
        self.set_fault(fault)
        try:
            yield
        finally:
            self.set_fault(Fault())

    def admit(self, request: Request) -> Fault | None:
        """Records a request, waits out its delay or the time that it is held, and returns what else to do to it.

        Returns:
            None if the connection shall end without an answer.
        """
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            fault, number = self._fault, self._fault_number
            if (fault.methods and request.method not in fault.methods) or self._fault_left == 0:
                return Fault()
            if self._fault_left is not None:
                self._fault_left -= 1
            self.disturbed += fault != Fault()
            if fault.hold or fault.delay:
                seconds = HOLD_SECONDS if fault.hold else fault.delay
                self._changed.wait_for(lambda: self._fault_number != number or not self._running, seconds)
            return fault if self._running and not fault.hold else None

    def waits(self, seconds: float) -> bool:
        """Waits so long; says whether the proxy was stopped meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)

    def opened(self, connection: socket.socket) -> None:
        """Lets ``stop`` end the connection."""
        with self._changed:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """The connection has ended."""
        with self._changed:
            self._open.discard(connection)


def reserve_port(port: int) -> socket.socket:
    """A socket that is bound to a loopback port (0: any free one) and does not listen."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", port))
    return reserved


def moved(header: str, count: int) -> str:
    """A range in bytes, moved on by so many."""
    return re.sub("[0-9]+", lambda number: str(int(number[0]) + count), header)


class _Server(ThreadingHTTPServer):
    """Accepts the connections."""

    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128

    def __init__(self, proxy: HttpProxy, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.proxy = proxy
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.proxy.opened(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.proxy.closed(request)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """Passes the requests of one connection on, one after the other, each in a new connection to the server."""

    protocol_version = "HTTP/1.1"
    # Headers and content are sent apart; without this the content waits for the client's acknowledgement, 40 ms.
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the client left, or stop() ended the connection

    def forward(self) -> None:
        fault = self.server.proxy.admit(Request(self.command, self.path, dict(self.headers.items())))
        if fault is None:
            self.close_connection = True
        elif fault.status is not None or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what the request carries is not read
            self.refuse(fault)
        else:
            try:
                self.pass_on(fault)
            except (OSError, http.client.HTTPException):
                self.close_connection = True  # the server is away, or left midway: the client shall see the same

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - the names that http.server looks for

    def refuse(self, fault: Fault) -> None:
        self.send_response(fault.status or 411)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        if not fault.is_endless:
            self.send_header("Content-Length", str(len(fault.content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(fault.content)
        # The client's leaving ends it: a ConnectionError.
        while fault.is_endless:
            self.wfile.write(fault.content)

    def pass_on(self, fault: Fault) -> None:
        address = ("127.0.0.1", self.server.proxy.server_port)
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=UPSTREAM_SECONDS)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in CONNECTION_HEADERS:
                    is_moved = fault.range_off and name.lower() == "x-ms-range"
                    upstream.putheader(name, moved(value, fault.range_off) if is_moved else value)
            upstream.endheaders()
            left = int(self.headers.get("Content-Length", "0"))
            while left:
                chunk = self.rfile.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise ConnectionResetError("the client left midway")
                upstream.send(chunk)
                left -= len(chunk)
            self.answer(upstream.getresponse(), fault)

    def answer(self, response: http.client.HTTPResponse, fault: Fault) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if fault.length_off and name.lower() == "content-length":
                self.send_header(name, str(max(0, int(value) + fault.length_off)))
            elif name.lower() not in CONNECTION_HEADERS:
                self.send_header(name, value)
        # A response without a length that has content ends with the server's connection, or comes in chunks.
        in_chunks = response.length is None
        if in_chunks:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # What is longer or shorter than said leaves the connection in disorder.
        self.close_connection = self.close_connection or bool(fault.length_off)
        for chunk in self.content(response, fault):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if in_chunks else chunk)
        if in_chunks and not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def content(self, response: http.client.HTTPResponse, fault: Fault) -> Iterator[bytes]:
        """The content to send, piece by piece; one that ends early closes the connection."""
        sent = 0
        piece_bytes = CHUNK_BYTES if fault.bytes_per_second is None else max(1, fault.bytes_per_second // 10)
        while chunk := response.read(piece_bytes):
            if fault.bytes_per_second is not None and self.server.proxy.waits(len(chunk) / fault.bytes_per_second):
                self.close_connection = True
                return
            if fault.is_blanked:
                chunk = bytes(len(chunk))
            if fault.flip_at is not None and sent <= fault.flip_at < sent + len(chunk):
                place = fault.flip_at - sent
                chunk = chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]
            if fault.cut_after is not None and sent + len(chunk) > fault.cut_after:
                self.close_connection = True
                yield chunk[: fault.cut_after - sent]
                return
            yield chunk
            sent += len(chunk)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing: the record of requests is what tests read."""
