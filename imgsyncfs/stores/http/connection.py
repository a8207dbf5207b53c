"""One connection to an HTTP server: GETs, sent singly or several at once, and their answers in the same order.

The heads of answers are parsed by httptools, which is llhttp, the parser of Node.js: with it a GET of 100 kB takes
0.15 ms of CPU here, with the standard library's client 0.3. Bodies go from the socket to where they belong.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from httptools import HttpParserError, HttpResponseParser

from imgsyncfs.stores.kept_buffers import BUFFER_BYTES, KeptBuffers

PIECE_BYTES = 1 << 20
"""How much of a body is taken at once, at most, where its length is not known or large."""

_HEAD_BYTES = 64 << 10
_HEAD_END = b"\r\n\r\n"
_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_CONTROL = re.compile(r"[\0-\x1f\x7f]")


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


class Reception(Protocol):
    """Takes a body that it knows what to do with, as it comes; see `imgsyncfs.stores.ranges.RangeInParts`."""

    is_complete: bool

    @property
    def room(self) -> memoryview:
        """Where the next bytes belong; not empty."""

    def accepts(self, status: int, headers: Mapping[str, str], byte_count: int) -> bool:
        """Whether it takes the body of this answer."""

    def advance(self, count: int) -> None:
        """Say that so many bytes more lie in the room."""


class HttpConnection:
    """A connection, for one thread at a time; after an error it can only be closed.

    Args:
        connected: the socket, ready to take a request.
        host: what the ``Host`` header says.
        buffers: where to receive bodies of up to `imgsyncfs.stores.kept_buffers.BUFFER_BYTES`.

    Attributes:
        reusable: False once the server has said that it will close, or has answered in a way that hides where the
            answer ends.
    """

    def __init__(self, connected: socket.socket, host: str, buffers: KeptBuffers) -> None:
        self._socket = connected
        self._host = host
        self._buffers = buffers
        self._received = memoryview(bytearray(_HEAD_BYTES))
        # What of it was received and not used yet.
        self._begin = self._end = 0
        self.reusable = True

    def is_quiet(self) -> bool:
        """Whether nothing came though nothing was asked; if the server has closed the connection, its end has come."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return self._begin == self._end and not waiting.poll(0)

    def send(self, requests: Sequence[tuple[str, Mapping[str, str]]], patience: Callable[[], float]) -> None:
        """Send GETs, each a path with its headers.

        Args:
            requests: what is sent, in this order.
            patience: how long to wait for the connection now, in seconds.

        Raises:
            ValueError: a path or header holds a control character.
            OSError: the connection failed, or did not take them in time (`TimeoutError`).
        """
        content = b"".join(self._encoded(path, headers) for path, headers in requests)
        self._socket.settimeout(patience())
        self._socket.sendall(content)

    def receive(
        self, room: memoryview | None, patience: Callable[[], float], *, reception: Reception | None = None
    ) -> Answer:
        """Receive the answer to the oldest request that has none yet.

        Args:
            room: where to receive the body; if it is longer, or of unknown length, it comes as `bytes` all the same.
            patience: as for `send`.
            reception: takes the body if it accepts it, and the answer holds none then.

        Raises:
            OSError: the connection failed, nothing came in time (`TimeoutError`), what came is no HTTP, or not all of
                it came.
        """
        head = self._receive_head(patience)
        while head.is_interim:
            head = self._receive_head(patience)
        self.reusable = head.keeps_open
        length = head.length
        content: bytes | memoryview
        if head.is_chunked:
            content = self._receive_chunks(head, patience)
            # The parser does not say where the body ended in what it was given.
            self.reusable = head.keeps_open and not head.is_followed
        elif length is None:
            self.reusable = False
            content = self._receive_pieces(None, patience)
        elif reception is not None and reception.accepts(head.status, head.headers, length):
            self._hand_on(length, reception, patience)
            content = b""
        elif room is not None and length <= len(room):
            content = room[:length]
            self._fill(content, patience)
        elif length <= BUFFER_BYTES:
            with self._buffers.room(length) as buffer:
                self._fill(buffer, patience)
                content = buffer.tobytes()
        else:
            content = self._receive_pieces(length, patience)
        return Answer(head.status, head.reason, head.headers, content)

    def close(self) -> None:
        """Let go of it; doing so twice does no harm."""
        self.reusable = False
        self._socket.close()

    def _encoded(self, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if _CONTROL.search("".join(lines)):
            raise ValueError("A request holds a control character.")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _receive_head(self, patience: Callable[[], float]) -> _Head:
        received: bytearray = self._received.obj  # type: ignore[assignment]  # what __init__ made it of
        searched = self._begin
        while (at := received.find(_HEAD_END, searched, self._end)) < 0:
            if self._begin:
                # To the front, so that there is room for all of it.
                left = self._received[self._begin : self._end].tobytes()
                self._received[: len(left)] = left
                self._begin, self._end = 0, len(left)
            if self._end == _HEAD_BYTES:
                raise ConnectionError("an answer's head does not end")
            searched = max(0, self._end - len(_HEAD_END) + 1)
            self._end += self._receive_some(self._received[self._end :], patience)
        end = at + len(_HEAD_END)
        head = _Head()
        head.parse(self._received[self._begin : end])
        self._begin = end
        return head

    def _receive_chunks(self, head: _Head, patience: Callable[[], float]) -> bytes:
        while not head.is_complete:
            if self._begin == self._end:
                self._begin, self._end = 0, self._receive_some(self._received, patience)
            head.parse(self._received[self._begin : self._end])
            self._begin = self._end
        return b"".join(head.body)

    def _receive_pieces(self, length: int | None, patience: Callable[[], float]) -> bytes:
        """A body piece by piece; of unknown length, it ends where the connection does."""
        content = bytearray(self._received[self._begin : self._end][:length])
        self._begin += len(content)
        while length is None or len(content) < length:
            self._socket.settimeout(patience())
            piece = self._socket.recv(PIECE_BYTES if length is None else min(PIECE_BYTES, length - len(content)))
            if not piece and length is not None:
                raise ConnectionError("the connection ended early")
            if not piece:
                break
            content += piece
        return bytes(content)

    def _fill(self, room: memoryview, patience: Callable[[], float]) -> None:
        count = min(len(room), self._end - self._begin)
        room[:count] = self._received[self._begin : self._begin + count]
        self._begin += count
        while count < len(room):
            count += self._receive_some(room[count:], patience)

    def _hand_on(self, length: int, reception: Reception, patience: Callable[[], float]) -> None:
        while length:
            room = reception.room[:length]
            count = min(len(room), self._end - self._begin)
            if count:
                room[:count] = self._received[self._begin : self._begin + count]
                self._begin += count
            else:
                count = self._receive_some(room, patience)
            reception.advance(count)
            length -= count
        reception.is_complete = True

    def _receive_some(self, room: memoryview, patience: Callable[[], float]) -> int:
        self._socket.settimeout(patience())
        count = self._socket.recv_into(room)
        if not count:
            raise ConnectionError("the connection ended early")
        return count


class _Headers(Mapping[str, str]):
    """An answer's headers; most of the twenty nobody asks for, so each is decoded when it is."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower().encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._values)

    def __len__(self) -> int:
        return len(self._values)


class _Head:
    """What httptools finds in an answer; the names that begin with ``on`` are its protocol's.

    Of what follows a body in chunks, it may be given some: `is_followed` says so, and nothing else is made of it.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.status = 0
        self.reason = ""
        self._values: dict[bytes, bytes] = {}
        self.keeps_open = False
        self.body: list[bytes] = []
        self.is_complete = False
        self.is_followed = False

    @property
    def headers(self) -> _Headers:
        return _Headers(self._values)

    @property
    def is_interim(self) -> bool:
        return self.status < HTTPStatus.OK

    @property
    def is_chunked(self) -> bool:
        return b"transfer-encoding" in self._values and self.status not in _BODILESS

    @property
    def length(self) -> int | None:
        """The body's length in bytes; None if only its end will tell."""
        if self.status in _BODILESS:
            return 0
        length = self._values.get(b"content-length")
        return None if length is None else int(length)

    def parse(self, received: memoryview) -> None:
        """Go on with what came.

        Raises:
            ConnectionError: it is no HTTP.
        """
        try:
            self._parser.feed_data(received)
        except HttpParserError as error:
            if not self.is_complete:
                raise ConnectionError("an answer is no HTTP") from error
            self.is_followed = True

    def on_message_begin(self) -> None:
        self.is_followed = self.is_complete

    def on_status(self, status: bytes) -> None:
        if not self.is_complete:
            self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_complete:
            self._values[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        # Later, what it knows of this answer may be gone.
        self.keeps_open = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self.is_complete:
            self.body.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = True
