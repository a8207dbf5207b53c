"""A TCP proxy in front of a server, which knows nothing of what passes: it can refuse, hang, cut and slow.

It runs on an event loop in a thread of its own; tests call it from theirs. The port is the proxy's from its
construction to ``close``, also while connections are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

from support.http_proxy import reserve_port

CALL_SECONDS = 20.0
CHUNK_BYTES = 65536

Result = TypeVar("Result")


@dataclass(frozen=True)
class TcpFault:
    """What the proxy does to connections, to those that there are as well.

    Attributes:
        refuses: connections are refused, and those that there are end.
        hangs: nothing passes, either way; new connections are taken.
        cut_after: a connection ends after so many bytes from the server.
        bytes_per_second: what the server sends passes no faster.
    """

    refuses: bool = False
    hangs: bool = False
    cut_after: int | None = None
    bytes_per_second: int | None = None


@final
class TcpProxy:
    """A proxy in front of the server on a loopback port.

    Attributes:
        port: the proxy's own.
        disturbed: how many connections and pieces a fault concerned.
        byte_count: how much has passed, both ways.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._reserved = reserve_port(0)
        self.port: int = self._reserved.getsockname()[1]
        self.disturbed = 0
        self.byte_count = 0
        self._fault = TcpFault()
        self._passes = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._call(self._set(self._fault))

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reserved.close()

    @contextlib.contextmanager
    def fault(self, fault: TcpFault) -> Iterator[None]:
        """Set a fault for the length of a ``with`` block."""
        self._call(self._set(fault))
        try:
            yield
        finally:
            self._call(self._set(TcpFault()))

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _set(self, fault: TcpFault) -> None:
        self._fault = fault
        (self._passes.clear if fault.hangs else self._passes.set)()
        self.disturbed += len(self._connections) if fault != TcpFault() else 0
        if fault.refuses:
            for writer in self._connections:
                writer.transport.abort()
        if fault.refuses and self._listener is not None:
            self._listener.close()
            self._listener = None
            # Bound, but nobody listens: the port is kept.
            self._reserved = reserve_port(self.port)
        elif not fault.refuses and self._listener is None:
            self._listener = await asyncio.start_server(self._serve, sock=self._reserved)

    async def _end(self) -> None:
        await self._set(TcpFault(refuses=True))
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.disturbed += self._fault != TcpFault()
        ends = [writer]
        self._connections.add(writer)
        try:
            with contextlib.suppress(OSError):
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
                ends.append(to_server)
                await asyncio.gather(self._pass(reader, to_server), self._pass(from_server, writer, is_answer=True))
        finally:
            self._connections.discard(writer)
            for end in ends:
                end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        """Pass on what comes until it ends; then the whole connection does, with an OSError."""
        passed = 0
        while piece := await reader.read(CHUNK_BYTES):
            await self._passes.wait()
            fault = self._fault
            self.disturbed += fault != TcpFault()
            if is_answer and fault.bytes_per_second is not None:
                await asyncio.sleep(len(piece) / fault.bytes_per_second)
            if is_answer and fault.cut_after is not None:
                piece = piece[: max(0, fault.cut_after - passed)]
            writer.write(piece)
            await writer.drain()
            passed += len(piece)
            self.byte_count += len(piece)
            if is_answer and fault.cut_after is not None and passed >= fault.cut_after:
                break
        raise ConnectionError("one end has ended")
