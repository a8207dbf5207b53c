"""HTTP servers that note each request: one that answers as a test says, for what Azurite never does, and their base."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Answer = Callable[["Handler"], None]

_ABOUT_BLOB = {"ETag": '"1"', "Last_Modified": "Thu, 01 Jan 1970 00:00:01 GMT", "x_ms_blob_type": "BlockBlob"}


class RecordingHandler(http.server.BaseHTTPRequestHandler):
    """Notes each request, and leaves the rest to `answer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RecordingServer

    def handle(self) -> None:
        self.server.connections += 1
        with contextlib.suppress(OSError):
            super().handle()
        self.server.ended += 1

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.answer()

    do_HEAD = do_PUT = do_CONNECT = do_GET  # noqa: N815  # the names that http.server looks for

    def answer(self) -> None:
        raise NotImplementedError

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


class RecordingServer(http.server.ThreadingHTTPServer):
    """A server on a loopback port.

    Attributes:
        protocol: http, or https with a certificate.
        requests: method, target and headers of each request.
        connections: how many there were.
        ended: how many of them have ended.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[RecordingHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.protocol = "http"
        self.connections = self.ended = 0

    @property
    def endpoint(self) -> str:
        return f"{self.protocol}://127.0.0.1:{self.server_port}"


_Server = TypeVar("_Server", bound=RecordingServer)


@contextlib.contextmanager
def serving(server: _Server) -> Iterator[_Server]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Handler(RecordingHandler):
    """Gives each request to the server's `answer`."""

    server: ScriptedServer

    def answer(self) -> None:
        self.server.answer(self)

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        """Answer with a header that the Blob service puts into each answer."""
        super().send(content, status, x_ms_version="2021-12-02", **headers)

    def send_blob(self, content: bytes) -> None:
        """Answer as the Blob service does: a GET with the range asked for."""
        if self.command != "GET":
            self.send(b"", 200, **_ABOUT_BLOB)
            return
        first, last = map(int, self.headers["x-ms-range"].removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        content_range = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self.send(part, 206, Content_Range=content_range, **_ABOUT_BLOB)


class ScriptedServer(RecordingServer):
    """A server that answers as the test says."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(Handler)
        self.answer = answer


@contextlib.contextmanager
def scripted_server(answer: Answer, *, context: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    server = ScriptedServer(answer)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.protocol = "https"
    with serving(server):
        yield server
