"""What answers of servers look like, and what a connection makes of them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsyncfs.stores.http.connection import Answer, HttpConnection
from imgsyncfs.stores.kept_buffers import KeptBuffers


def patience() -> float:
    return 5.0


@contextlib.contextmanager
def connection_to(pieces: Sequence[bytes]) -> Iterator[HttpConnection]:
    """A connection to a server that sends these pieces, one after the other, and then closes."""
    here, there = socket.socketpair()

    def serve() -> None:
        with there, contextlib.suppress(OSError):
            for piece in pieces:
                there.sendall(piece)

    server = threading.Thread(target=serve)
    server.start()
    connection = HttpConnection(here, "host", KeptBuffers())
    try:
        yield connection
    finally:
        connection.close()
        server.join()


def receive(content: bytes, room: memoryview | None = None) -> tuple[Answer, bool]:
    """The answer, and whether the connection takes another request."""
    with connection_to([content]) as connection:
        return connection.receive(room, patience), connection.reusable


def answer_with(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 206 Partial Content", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@given(
    bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    room=st.booleans(),
)
@settings(deadline=None)
def test_answers_are_the_same_however_they_are_cut_on_the_way(bodies: list[bytes], cuts: list[int], room: bool) -> None:
    content = b"".join(answer_with(body, f"ETag: {number}") for number, body in enumerate(bodies))
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]

    with connection_to([content[begin:end] for begin, end in itertools.pairwise(places)]) as connection:
        for number, body in enumerate(bodies):
            answer = connection.receive(memoryview(bytearray(300)) if room else None, patience)
            assert (answer.status, answer.reason) == (206, "Partial Content")
            assert answer.headers["etag"] == answer.headers["ETag"] == str(number)
            assert answer.content == body
            assert connection.reusable


class Parts:
    """Takes bodies with status 206 part by part."""

    def __init__(self, room_bytes: int) -> None:
        self._room = memoryview(bytearray(room_bytes))
        self._filled = 0
        self.received = b""
        self.is_complete = False

    @property
    def room(self) -> memoryview:
        return self._room[self._filled :]

    def accepts(self, status: int, headers: Mapping[str, str], byte_count: int) -> bool:
        return status == 206 and byte_count == int(headers["content-length"])

    def advance(self, count: int) -> None:
        self.received += self.room[:count]
        self._filled = (self._filled + count) % len(self._room)


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 500), max_size=12), room=st.integers(1, 310))
@settings(deadline=None)
def test_a_body_comes_part_by_part_however_it_is_cut_on_the_way(body: bytes, cuts: list[int], room: int) -> None:
    content = answer_with(body) + answer_with(b"next")
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    parts = Parts(room)

    with connection_to([content[begin:end] for begin, end in itertools.pairwise(places)]) as connection:
        assert connection.receive(None, patience, reception=parts).content == b""
        assert (parts.received, parts.is_complete) == (body, True)
        assert connection.receive(None, patience).content == b"next"


def test_a_body_that_is_not_wanted_part_by_part_comes_whole() -> None:
    parts = Parts(10)

    with connection_to([b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc"]) as connection:
        assert connection.receive(None, patience, reception=parts).content == b"abc"

    assert (parts.received, parts.is_complete) == (b"", False)


def test_what_came_of_a_body_that_breaks_off_has_been_taken() -> None:
    parts = Parts(10)

    with connection_to([answer_with(bytes(100))[:-40]]) as connection, pytest.raises(ConnectionError, match="early"):
        connection.receive(None, patience, reception=parts)

    assert (len(parts.received), parts.is_complete) == (60, False)


def test_a_body_goes_into_the_memory_it_was_asked_for() -> None:
    body = bytes(range(256)) * 1000
    room = memoryview(bytearray(len(body) + 1))

    answer, _ = receive(answer_with(body), room)

    assert isinstance(answer.content, memoryview)
    assert answer.content.obj is room.obj
    assert room[:-1] == body


@pytest.mark.parametrize("byte_count", [10, 100_000, 20_000_000])
def test_a_body_that_is_longer_than_its_room_comes_all_the_same(byte_count: int) -> None:
    body = bytes(byte_count)

    assert receive(answer_with(body), memoryview(bytearray(9)))[0].content == body
    assert receive(answer_with(body))[0].content == body


def test_a_body_in_chunks_is_put_together() -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer, reusable = receive(head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")

    assert (answer.status, answer.content) == (404, b"abcde")
    assert reusable


@pytest.mark.parametrize("following", [answer_with(b"other", "ETag: other"), b"no HTTP"])
def test_a_body_in_chunks_is_not_mixed_with_what_follows(following: bytes) -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer, reusable = receive(head + b"3\r\nabc\r\n0\r\n\r\n" + following)

    assert (answer.status, answer.reason, answer.content) == (404, "Not Found", b"abc")
    assert "etag" not in answer.headers
    assert not reusable


def test_a_body_without_a_length_ends_where_the_connection_does() -> None:
    answer, reusable = receive(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000))

    assert answer.content == bytes(100_000)
    assert not reusable


def test_answers_that_have_no_body_are_not_waited_for() -> None:
    content = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n" + answer_with(b"next")

    with connection_to([content]) as connection:
        assert connection.receive(None, patience).content == b""
        assert connection.receive(None, patience).content == b"next"


def test_an_interim_answer_is_passed_over() -> None:
    answer, _ = receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + answer_with(b"body"))

    assert (answer.status, answer.content) == (206, b"body")


@pytest.mark.parametrize(
    "content",
    [answer_with(b"body", "Connection: close"), answer_with(b"", "Connection: close"), b"HTTP/1.0 204 No\r\n\r\n"],
)
def test_a_connection_that_the_server_will_close_is_not_used_again(content: bytes) -> None:
    assert not receive(content)[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
        answer_with(b"body")[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    ],
    ids=["nothing", "head cut", "body cut", "chunk cut", "no number", "two lengths", "no HTTP", "endless head"],
)
def test_an_answer_that_is_broken_is_an_error(content: bytes) -> None:
    with pytest.raises(ConnectionError):
        receive(content)


def test_a_server_that_says_nothing_is_waited_for_as_long_as_patience_lasts() -> None:
    here, there = socket.socketpair()
    with there:
        connection = HttpConnection(here, "host", KeptBuffers())
        with pytest.raises(TimeoutError):
            connection.receive(None, lambda: 0.05)
        connection.close()


def test_what_a_server_says_unasked_is_seen() -> None:
    here, there = socket.socketpair()
    connection = HttpConnection(here, "host", KeptBuffers())
    assert connection.is_quiet()

    there.close()

    assert not connection.is_quiet()
    connection.close()


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\0b"])
def test_a_header_cannot_become_two(value: str) -> None:
    with connection_to([]) as connection:
        with pytest.raises(ValueError, match="control character"):
            connection.send([("/x", {"If-Match": value})], patience)
        with pytest.raises(ValueError, match="control character"):
            connection.send([(f"/{value}", {})], patience)
