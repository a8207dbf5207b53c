"""Kept connections to one server: of our own, or by way of a proxy over urllib3.

urllib3 costs 0.7 ms of CPU more for each GET of 100 kB, thrice as much as everything else together, so it serves only
where a proxy stands between here and the server.

Threads: any number may use these; ``Connections._kept`` is a deque, whose ends may be used without a lock, and a
connection belongs to the thread that took it until it is put back.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import ssl
import time
from collections import deque
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3

from imgsyncfs.stores.http.connection import PIECE_BYTES, Answer, HttpConnection, Reception
from imgsyncfs.stores.kept_buffers import KeptBuffers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

MOST_KEPT = 32
"""As many threads may use one store without new handshakes."""

SINGLE_SECONDS = 600.0
"""How long a server that did not answer all of several requests is spared them."""


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
        secure = parts.scheme == "https"
        self._address = (parts.hostname or "", parts.port or (443 if secure else 80))
        self._host = parts.netloc.rpartition("@")[2]
        self._stall = stall
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._context: ssl.SSLContext | None = None
        if secure:
            folder = Path(authorities).is_dir()
            self._context = ssl.create_default_context(
                cafile=None if folder else authorities, capath=authorities if folder else None
            )
        self._kept: deque[HttpConnection] = deque()
        self._buffers = KeptBuffers()
        self._single_until = -math.inf

    def exchange(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        deadline: float,
        room: memoryview | None = None,
        reception: Reception | None = None,
    ) -> Answer:
        """Send a GET, and read the answer.

        Args:
            url: on this server.
            headers: of the request.
            deadline: until when, a time of `time.monotonic`.
            room: where to receive the body; if it is longer, or of unknown length, it comes as `bytes` all the same.
            reception: takes the body if it accepts it, and the answer holds none then.

        Raises:
            OSError: the connection failed, the server did not answer or not in time (`TimeoutError`), what came is no
                HTTP, or not all of it came.
        """

        def left() -> float:
            return patience(deadline, self._stall)

        connection = self._take(left())
        try:
            connection.send([(self._path(url), headers)], left)
            answer = connection.receive(room, left, reception=reception)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return answer

    def exchange_all(
        self, requests: Sequence[tuple[str, Mapping[str, str]]], rooms: Sequence[memoryview], *, deadline: float
    ) -> list[Answer]:
        """Send several GETs at once over one connection, and read the answers ("pipelining", RFC 9112, section 9.3.2).

        Args:
            requests: URLs on this server, with headers.
            rooms: where to receive the bodies, as for `exchange`.
            deadline: as for `exchange`.

        Returns:
            The answers to the first requests, to all if nothing went wrong; the others should be sent singly, which
            also shows what is wrong.
        """
        answers: list[Answer] = []
        if time.monotonic() < self._single_until:
            return answers

        def left() -> float:
            return patience(deadline, self._stall)

        connection: HttpConnection | None = None
        try:
            connection = self._take(left())
            connection.send([(self._path(url), headers) for url, headers in requests], left)
            while connection.reusable and len(answers) < len(requests):
                answers.append(connection.receive(rooms[len(answers)], left))
        except OSError as error:
            logger.debug("%d of %d requests sent at once were answered: %s", len(answers), len(requests), error)
            if isinstance(error, TimeoutError):
                self.clear()
        finally:
            if connection is not None and len(answers) < len(requests):
                connection.close()
        # After an error the connection may not be good for more, which says nothing about the server.
        if answers and answers[-1].status < HTTPStatus.MULTIPLE_CHOICES and len(answers) < len(requests):
            self._single_until = time.monotonic() + SINGLE_SECONDS
        if connection is not None:
            self._keep(connection)
        return answers

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        while self._kept:
            try:
                self._kept.pop().close()
            except IndexError:
                # Another thread took the last one.
                return

    def _path(self, url: str) -> str:
        return url.removeprefix(self._origin) or "/"

    def _take(self, timeout: float) -> HttpConnection:
        """A connection that is ready, preferably the one used last."""
        while self._kept:
            try:
                kept = self._kept.pop()
            except IndexError:
                break
            if kept.is_quiet():
                return kept
            kept.close()
        connected = socket.create_connection(self._address, timeout)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connected = self._context.wrap_socket(connected, server_hostname=self._address[0])
        except BaseException:
            connected.close()
            raise
        return HttpConnection(connected, self._host, self._buffers)

    def _keep(self, connection: HttpConnection) -> None:
        if connection.reusable and len(self._kept) < MOST_KEPT:
            self._kept.append(connection)
        else:
            connection.close()
        # The one used least recently: what the server has closed since would stay a descriptor for nothing.
        with contextlib.suppress(IndexError):
            oldest = self._kept.popleft()
            if oldest.is_quiet():
                self._kept.appendleft(oldest)
            else:
                oldest.close()


class ProxiedConnections:
    """Connections by way of a proxy, over urllib3; see `imgsyncfs.stores.http.pool.Connections`.

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
        url: str,
        headers: Mapping[str, str],
        *,
        deadline: float,
        room: memoryview | None = None,  # noqa: ARG002  # a body that urllib3 has received lies in memory already
        reception: Reception | None = None,  # noqa: ARG002  # likewise
    ) -> Answer:
        """Send a GET, and read the answer.

        Raises:
            TimeoutError: the deadline has passed.
            urllib3.exceptions.HTTPError: no answer, or not all of it.
        """
        seconds = patience(deadline, self._stall)
        response = self._connections.urlopen(
            "GET",
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
