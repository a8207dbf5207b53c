"""What the HTTP client sends, and what it keeps, whatever a store makes of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.scripted_server import Handler, ScriptedServer, scripted_server

from imgsyncfs.stores.http_client import Body, Get, HttpClient


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with contextlib.closing(HttpClient(proxy="", authorities="/dev/null", stall_timeout=5, most_kept=2)) as client:
        yield client


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server(lambda handler: handler.send(b"content", Other="a: B")) as server:
        yield server


def get(server: ScriptedServer, path: str, taken: list[bytes], **headers: str) -> Get:
    def accept(status: int, received: Mapping[str, str]) -> Body | None:
        assert (status, received["OTHER"], "absent" in received) == (200, "a: B", False)
        assert [*received] == ["content-length", "x-ms-version", "other"]
        return Body(7, taken.append)

    return Get(server.endpoint + path, headers, accept)


def test_paths_are_sent_as_they_are(client: HttpClient, server: ScriptedServer) -> None:
    for path in ("/a/../b", "/a/./b", "/a//b", "/%2E%2E/%61?x=%2F&y=/../", "/a?"):
        assert client.get(get(server, path, []), deadline=time.monotonic() + 5).is_taken

    assert [path for _, path, _ in server.requests] == ["/a/../b", "/a/./b", "/a//b", "/%2E%2E/%61?x=%2F&y=/../", "/a?"]
    assert server.connections == 1


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\0b", "ü"])
def test_a_header_cannot_become_two(client: HttpClient, server: ScriptedServer, value: str) -> None:
    for request in (get(server, "/", [], Etag=value), get(server, f"/{value}", [])):
        with pytest.raises(ValueError, match="control character"):
            client.get(request, deadline=time.monotonic() + 5)
    assert server.requests == []


def test_what_goes_wrong_while_a_body_is_taken_reaches_the_caller(client: HttpClient, server: ScriptedServer) -> None:
    def fail(content: bytes) -> None:
        raise KeyError(content)

    request = Get(f"{server.endpoint}/", {}, lambda _status, _headers: Body(7, fail))
    with pytest.raises(KeyError, match="content"):
        client.get(request, deadline=time.monotonic() + 5)
    with pytest.raises(KeyError, match="content"):
        client.get_all([request, request], deadline=time.monotonic() + 5)
    taken: list[bytes] = []
    assert client.get(get(server, "/", taken), deadline=time.monotonic() + 5).is_taken
    assert taken == [b"content"]


def test_a_deadline_that_has_passed_ends_a_call_at_once(client: HttpClient, server: ScriptedServer) -> None:
    with pytest.raises(TimeoutError):
        client.get(get(server, "/", []), deadline=time.monotonic() - 1)
    assert client.get_all([get(server, "/", [])], deadline=time.monotonic() - 1) == [None]


def test_connections_that_nobody_uses_are_closed_after_their_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def answer(handler: Handler) -> None:
        if handler.path == "/both":
            both.wait()
        handler.send(b"content", Other="a: B")

    with (
        scripted_server(answer) as server,
        contextlib.closing(
            HttpClient(proxy="", authorities="/dev/null", stall_timeout=5, most_kept=2, idle_seconds=0.2)
        ) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        deadline = time.monotonic() + 10
        requests = [get(server, "/both", [])] * 2
        assert all(threads.map(lambda request: client.get(request, deadline=deadline).is_taken, requests))
        assert (server.connections, server.ended) == (2, 0)
        while not server.ended:
            assert client.get(get(server, "/one", []), deadline=deadline).is_taken
        assert server.connections == 2
