"""A TCP proxy that makes a server on this machine as far away as one in a data centre: ``bench_delay.py PORT SECONDS``.

What each connection's client sends is held back for that long and then passed on in order; what the server sends
passes at once. Neither the number of connections nor their rate is limited: what a client sends while something is
held back does not wait for that. The proxy listens on a port of its own choice on the loopback address and prints it.
Each line on standard input is another delay, for what is sent from then on: it is printed when it holds. The proxy ends
when standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from typing import cast

ORDERS_BYTES = 4096

CONNECTING_SECONDS = 0.01
"""So often it is seen whether the server is connected, should that take longer than the delay."""


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


class Delay:
    """How long the proxy holds back what is sent.

    Attributes:
        seconds: may be changed at any time.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Client(asyncio.Protocol):
    """A client's connection: passes on later what comes from there.

    Args:
        port: of the server.
        delay: of the proxy.
    """

    def __init__(self, port: int, delay: Delay) -> None:
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
        self._loop.call_later(self._delay.seconds, self._pass_on)

    def _pass_on(self) -> None:
        if self._server is None and not self._client.is_closing():
            # The server takes longer to connect than the delay lasts.
            self._loop.call_later(CONNECTING_SECONDS, self._pass_on)
            return
        if self._server is not None and not self._server.is_closing():
            # Whichever timer this is, the oldest of what is held back is due.
            self._server.write(self._held.popleft())

    def connection_lost(self, _error: Exception | None) -> None:
        """The client has closed."""
        if self._server is not None:
            self._server.close()


async def serve(port: int, delay: Delay) -> None:
    """Passes on until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def take_order() -> None:
        orders = os.read(sys.stdin.fileno(), ORDERS_BYTES).split()
        if not orders:
            ended.set()
            return
        delay.seconds = float(orders[-1])
        print(delay.seconds, flush=True)

    loop.add_reader(sys.stdin, take_order)
    server = await loop.create_server(lambda: Client(port, delay), "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Delay(float(sys.argv[2]))))
