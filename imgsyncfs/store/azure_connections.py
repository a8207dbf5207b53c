"""Kept connections to one server: over the standard library's HTTP client, or by way of a proxy over urllib3.

urllib3 costs 0.5 ms of CPU more for each GET of 100 kB, as much as everything else together, so it serves only where a
proxy stands between here and the server.

Threads: any number may use these; ``Connections._kept`` is a deque, whose ends may be used without a lock, and a
connection belongs to the thread that took it until it is put back.
"""

from __future__ import annotations

import http.client
import select
import ssl
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import urllib3

from imgsyncfs.kept_buffers import BUFFER_BYTES, KeptBuffers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_KEPT = 32
"""As many threads may use one store without new handshakes."""

PIECE_BYTES = 1 << 20
"""How much of a body is taken at once, at most; the deadline is looked at in between."""


@dataclass(frozen=True)
class Answer:
    """What a server answered, its body read whole.

    Attributes:
        status: of HTTP.
        reason: the words beside it.
        headers: a mapping that does not mind upper and lower case.
        content: the body; a part of the memory that it was to be received into if it went there.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes | memoryview


def patience(deadline: float, stall: float) -> float:
    """How long to wait for a connection's next sign of life, in seconds.

    Args:
        deadline: of the whole call, a time of `time.monotonic`.
        stall: how long a connection may be silent, in seconds.

    Raises:
        TimeoutError: the deadline has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return min(left, stall)


class Connections:
    """Connections to one server that are kept open between requests.

    Args:
        url: of the server; what follows the host is ignored.
        authorities: file or folder with the certificates to trust.
        stall: how long a connection may be silent, in seconds.
    """

    def __init__(self, url: str, authorities: str, *, stall: float) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._stall = parts.hostname or "", parts.port, stall
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            folder = Path(authorities).is_dir()
            self._context = ssl.create_default_context(
                cafile=None if folder else authorities, capath=authorities if folder else None
            )
        self._kept: deque[http.client.HTTPConnection] = deque()
        self._buffers = KeptBuffers()

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], *, deadline: float, room: memoryview | None = None
    ) -> Answer:
        """Send a request without a body, and read the answer.

        Args:
            method: of HTTP.
            url: on this server.
            headers: of the request.
            deadline: until when, a time of `time.monotonic`.
            room: where to receive the body; if it is longer, or of unknown length, it comes as `bytes` all the same.

        Raises:
            TimeoutError: the server did not answer, or not in time.
            OSError: the connection failed.
            http.client.HTTPException: what came is no HTTP, or not all of it came.
        """
        connection = self._take(patience(deadline, self._stall))
        try:
            connection.request(method, url.removeprefix(self._origin) or "/", headers=dict(headers))
            response = connection.getresponse()
            content = self._read(connection, response, deadline, room)
            # read1 does not see that nothing is left; the connection takes no other request before this.
            response.close()
        except BaseException:
            connection.close()
            raise
        if response.will_close or len(self._kept) >= MOST_KEPT:
            connection.close()
        else:
            self._kept.append(connection)
        return Answer(response.status, response.reason, cast("Mapping[str, str]", response.headers), content)

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        while self._kept:
            try:
                self._kept.pop().close()
            except IndexError:
                # Another thread took the last one.
                return

    def _take(self, timeout: float) -> http.client.HTTPConnection:
        """A connection that is ready, preferably the one used last."""
        while self._kept:
            try:
                kept = self._kept.pop()
            except IndexError:
                break
            if kept.sock is not None and not _has_word(kept):
                kept.sock.settimeout(timeout)
                return kept
            kept.close()
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        connection.connect()
        return connection

    def _read(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        deadline: float,
        room: memoryview | None,
    ) -> bytes | memoryview:
        def stay_patient() -> None:
            # None once the server has said that it will close: the response alone holds the socket then.
            if connection.sock is not None:
                connection.sock.settimeout(patience(deadline, self._stall))

        length = response.length
        if length is not None and room is not None and length <= len(room):
            _receive(response, room[:length], stay_patient)
            return room[:length]
        if length is not None and length <= BUFFER_BYTES:
            with self._buffers.room(length) as buffer:
                _receive(response, buffer, stay_patient)
                return buffer.tobytes()
        pieces: list[bytes] = []
        while True:
            stay_patient()
            piece = response.read1(PIECE_BYTES)
            if not piece:
                break
            pieces.append(piece)
        content = b"".join(pieces)
        if response.length:
            raise http.client.IncompleteRead(content, response.length)
        return content


class ProxiedConnections:
    """Connections by way of a proxy, over urllib3; see `imgsyncfs.store.azure_connections.Connections`.

    Args:
        proxy: URL of the proxy.
        authorities: file or folder with the certificates to trust.
        stall: how long a connection may be silent, in seconds.
    """

    def __init__(self, proxy: str, authorities: str, *, stall: float) -> None:
        options: dict[str, Any] = {
            "maxsize": MOST_KEPT,
            "cert_reqs": "CERT_REQUIRED",
            "ca_cert_dir" if Path(authorities).is_dir() else "ca_certs": authorities,
        }
        self._connections = urllib3.ProxyManager(proxy, **options)
        self._stall = stall

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        deadline: float,
        room: memoryview | None = None,  # noqa: ARG002  # a body that urllib3 has received lies in memory already
    ) -> Answer:
        """Send a request without a body, and read the answer.

        Raises:
            TimeoutError: the deadline has passed.
            urllib3.exceptions.HTTPError: no answer, or not all of it.
        """
        seconds = patience(deadline, self._stall)
        response = self._connections.urlopen(
            method,
            url,
            headers=dict(headers),
            timeout=urllib3.Timeout(connect=seconds, read=seconds),
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
        )
        try:
            content = self._read(response, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return Answer(response.status, response.reason or "", response.headers, content)

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        self._connections.clear()

    def _read(self, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        pieces: list[bytes] = []
        while True:
            connection_socket = getattr(response.connection, "sock", None)
            if connection_socket is not None:
                connection_socket.settimeout(patience(deadline, self._stall))
            piece = response.read1(PIECE_BYTES)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


def _receive(response: http.client.HTTPResponse, room: memoryview, stay_patient: Callable[[], None]) -> None:
    """Fill memory with a body that is as long."""
    received = 0
    while received < len(room):
        stay_patient()
        # Past http.client, whose readinto waits until all is there.
        count = response.fp.readinto1(room[received:])
        if not count:
            raise http.client.IncompleteRead(room[:received].tobytes(), len(room) - received)
        received += count


def _has_word(connection: http.client.HTTPConnection) -> bool:
    """Whether there is something to read though nothing was asked: the end, if the server has closed it."""
    waiting = select.poll()
    waiting.register(connection.sock, select.POLLIN)
    return bool(waiting.poll(0))
