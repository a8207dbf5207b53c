"""A forward proxy, as companies have them: it takes requests for any server, and tunnels with CONNECT."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import select
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

SECONDS = 20.0


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ForwardProxy

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def do_CONNECT(self) -> None:
        if self.is_refused():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), SECONDS) as upstream:
            self.send_response_only(200, "Connection established")
            self.send_header("X-Proxy", "between")
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for ready in select.select(list(ends), [], [], SECONDS)[0]:
                    content = ready.recv(65536)
                    if not content:
                        self.close_connection = True
                        return
                    ends[ready].sendall(content)

    def do_GET(self) -> None:
        if self.is_refused():
            return
        url = urlsplit(self.path)
        with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=SECONDS)) as upstream:
            headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
            sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            upstream.request(self.command, f"{url.path}?{url.query}", sent, headers)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() != "transfer-encoding":
                    self.send_header(name, value)
            if answer.chunked:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_HEAD = do_PUT = do_GET  # noqa: N815  # the names that http.server looks for

    def is_refused(self) -> bool:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        if self.server.refuses:
            self.send_response_only(self.server.refuses)
            self.send_header("Content-Length", "0")
            self.end_headers()
        return bool(self.server.refuses)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


class ForwardProxy(http.server.ThreadingHTTPServer):
    """A forward proxy on a loopback port.

    Attributes:
        requests: method, target and headers of each request to the proxy itself, which sees nothing of a tunnel.
        refuses: the HTTP status that it refuses everything with; 0 means that it serves.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.refuses = 0

    @property
    def url(self) -> str:
        return f"http://somebody:secret%40@127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
