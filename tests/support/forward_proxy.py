"""A forward proxy, as companies have them: it takes requests for any server, and tunnels with CONNECT."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from support.scripted_server import RecordingHandler, RecordingServer, serving

SECONDS = 20.0


class _Handler(RecordingHandler):
    server: ForwardProxy

    def answer(self) -> None:
        if self.server.refuses:
            self.send(b"", self.server.refuses)
        elif self.command == "CONNECT":
            self.tunnel()
        else:
            self.pass_on()

    def tunnel(self) -> None:
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

    def pass_on(self) -> None:
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


class ForwardProxy(RecordingServer):
    """A forward proxy on a loopback port; of what goes through a tunnel, `requests` has nothing.

    Attributes:
        refuses: the HTTP status that it refuses everything with; 0 means that it serves.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.refuses = 0

    @property
    def url(self) -> str:
        return f"http://somebody:secret%40@127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    with serving(ForwardProxy()) as proxy:
        yield proxy
