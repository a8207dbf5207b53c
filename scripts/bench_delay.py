"""A TCP proxy that makes a server on this machine as far away as one in a data centre: ``bench_delay.py PORT SECONDS``.

What each connection's client sends is held back for that long and then passed on in order; what the server sends
passes at once. Neither the number of connections nor their rate is limited: what a client sends while something is
held back does not wait for that. The proxy listens on a port of its own choice on the loopback address, prints it, and
ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import cast


class Upstream(asyncio.Protocol):
    """The connection to the server: passes on at once what comes from there."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        """Something came from the server."""
        self._client.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """The server has closed."""
        self._client.close()


class Client(asyncio.Protocol):
    """A client's connection: passes on later what comes from there.

    Args:
        port: of the server.
        delay: seconds.
    """

    def __init__(self, port: int, delay: float) -> None:
        self._port = port
        self._delay = delay
        self._held: deque[bytes] = deque()
        self._server: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come: the server is connected meanwhile."""
        self._client = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            server, _ = await self._loop.create_connection(lambda: Upstream(self._client), "127.0.0.1", self._port)
        except OSError:
            self._client.close()
            return
        self._server = server

    def data_received(self, data: bytes) -> None:
        """Something came from the client: it is held back. Timers of one length end in the order of their start."""
        self._held.append(data)
        self._loop.call_later(self._delay, self._pass_on)

    def _pass_on(self) -> None:
        if self._server is None and not self._client.is_closing():
            # The server takes longer to connect than the delay lasts.
            self._loop.call_later(self._delay, self._pass_on)
            return
        if self._server is not None and not self._server.is_closing():
            # Whichever timer this is, the oldest of what is held back is due.
            self._server.write(self._held.popleft())

    def connection_lost(self, _error: Exception | None) -> None:
        """The client has closed."""
        if self._server is not None:
            self._server.close()


async def serve(port: int, delay: float) -> None:
    """Passes on until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    server = await loop.create_server(lambda: Client(port, delay), "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
