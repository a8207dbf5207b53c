"""Reads that are sent to Azure together, over one connection."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable

import pytest
from support.azure_stores import ended_in_time, store_at
from support.scripted_server import Handler, ScriptedServer, scripted_server

from imgsyncfs.errors import BlobMissing, StoreUnreachable
from imgsyncfs.stores.contract import RangeRead

BLOBS = {f"blob{number}": random.Random(number).randbytes(50_000 + number) for number in range(6)}


def blob_in(path: str) -> str:
    return path.partition("?")[0].rpartition("/")[2]


def send_asked(handler: Handler) -> None:
    handler.send_blob(BLOBS[blob_in(handler.path)])


def reads_of_all() -> list[RangeRead]:
    return [RangeRead(blob, memoryview(bytearray(len(content)))) for blob, content in BLOBS.items()]


def read_all(server: ScriptedServer, *, timeout: float = 5) -> None:
    """Read all blobs together, and see that each is right."""
    reads = reads_of_all()
    with contextlib.closing(store_at(server, timeout=timeout)) as store:
        assert store.read_all_into(reads) == [len(content) for content in BLOBS.values()]
    assert [bytes(read.room) for read in reads] == list(BLOBS.values())


def blobs_asked(server: ScriptedServer) -> list[str]:
    return [blob_in(path) for _, path, _ in server.requests]


def test_all_are_sent_before_the_first_is_answered() -> None:
    waiting: list[int] = []

    def answer(handler: Handler) -> None:
        # What the handler has not read yet has come before it answers its first request.
        if not waiting:
            waiting.append(len(handler.rfile.peek()))  # type: ignore[attr-defined]  # it is buffered
        send_asked(handler)

    with scripted_server(answer) as server:
        read_all(server)
        assert server.connections == 1
        assert blobs_asked(server) == list(BLOBS)
    assert waiting[0] > 500


def _closes(handler: Handler) -> None:
    handler.close_connection = True
    send_asked(handler)


def _says_that_it_closes(handler: Handler) -> None:
    body = BLOBS[blob_in(handler.path)]
    handler.send(body, 206, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}", Connection="close")
    handler.close_connection = True


@pytest.mark.parametrize("answer", [_closes, _says_that_it_closes])
def test_a_server_that_takes_one_request_a_connection_gives_all_the_same(answer: Callable[[Handler], None]) -> None:
    with scripted_server(answer) as server:
        read_all(server)
        assert blobs_asked(server) == list(BLOBS)


def test_a_server_that_does_not_answer_all_is_not_sent_several_again() -> None:
    waiting: list[int] = []

    def answer(handler: Handler) -> None:
        handler.connection.settimeout(0.05)
        with contextlib.suppress(OSError):
            waiting.append(len(handler.rfile.peek()))  # type: ignore[attr-defined]  # it is buffered
        handler.connection.settimeout(None)
        _closes(handler)

    with scripted_server(answer) as server, contextlib.closing(store_at(server, timeout=5)) as store:
        store.read_all_into(reads_of_all())
        waiting.clear()
        store.read_all_into(reads_of_all())

    assert sum(waiting) == 0


def test_a_blob_that_is_missing_does_not_keep_the_others_from_being_sent_together() -> None:
    waiting: list[int] = []

    def answer(handler: Handler) -> None:
        if "missing" in handler.path:
            handler.send_response_only(404)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.send_header("x-ms-error-code", "BlobNotFound")
            handler.end_headers()
            handler.wfile.write(b"3\r\nabc\r\n0\r\n\r\n")
            return
        if "blob0" in handler.path:
            waiting.append(len(handler.rfile.peek()))  # type: ignore[attr-defined]  # it is buffered
        send_asked(handler)

    first, *rest = reads_of_all()
    missing = RangeRead("missing", memoryview(bytearray(10)))
    with scripted_server(answer) as server, contextlib.closing(store_at(server, timeout=5)) as store:
        for _ in range(2):
            with pytest.raises(BlobMissing, match="Blob missing is missing"):
                store.read_all_into([first, missing, *rest])
    assert min(waiting) > 500


@pytest.mark.parametrize("fails", range(len(BLOBS)))
def test_one_that_fails_for_a_moment_is_asked_for_again(fails: int) -> None:
    failed = threading.Event()

    def answer(handler: Handler) -> None:
        if f"blob{fails}" in handler.path and not failed.is_set():
            failed.set()
            handler.send(b"<Error/>", 503, x_ms_error_code="ServerBusy")
        else:
            send_asked(handler)

    with scripted_server(answer) as server:
        read_all(server)
        assert len(server.requests) == len(BLOBS) + 1


@pytest.mark.parametrize("cut", range(len(BLOBS)))
def test_a_connection_that_breaks_off_costs_nothing_but_time(cut: int) -> None:
    broken = threading.Event()

    def answer(handler: Handler) -> None:
        if f"blob{cut}" in handler.path and not broken.is_set():
            broken.set()
            handler.wfile.write(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 50000\r\n\r\n" + bytes(20_000))
            handler.close_connection = True
        else:
            send_asked(handler)

    with scripted_server(answer) as server:
        read_all(server)


def test_a_server_that_falls_silent_is_given_up_in_time() -> None:
    ended = threading.Event()

    def answer(handler: Handler) -> None:
        if "blob2" in handler.path:
            ended.wait(30)
        send_asked(handler)

    with scripted_server(answer) as server, contextlib.closing(store_at(server)) as store:
        with ended_in_time(), pytest.raises(StoreUnreachable):
            store.read_all_into(reads_of_all())
        ended.set()
