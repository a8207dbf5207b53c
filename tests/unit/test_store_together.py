"""Reads from Azure that are under way side by side."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable

import pytest
from support.azure_stores import ended_in_time, store_at
from support.scripted_server import Handler, ScriptedServer, scripted_server

from imgsyncfs.errors import BlobMissing, StoreUnreachable
from imgsyncfs.stores.contract import RangeRead, Store
from imgsyncfs.stores.http_client import MOST_CONNECTIONS

BLOBS = {f"blob{number}": random.Random(number).randbytes(50_000 + number) for number in range(6)}


def blob_in(path: str) -> str:
    return path.partition("?")[0].rpartition("/")[2]


def send_asked(handler: Handler) -> None:
    handler.send_blob(BLOBS[blob_in(handler.path)])


def reads_of_all() -> list[RangeRead]:
    return [RangeRead(blob, memoryview(bytearray(len(content)))) for blob, content in BLOBS.items()]


def check_all(store: Store) -> None:
    """Read all blobs together, and see that each is right."""
    reads = reads_of_all()
    assert store.read_all_into(reads) == [len(content) for content in BLOBS.values()]
    assert [bytes(read.buffer) for read in reads] == list(BLOBS.values())


def read_all(server: ScriptedServer, *, timeout: float = 5) -> None:
    with contextlib.closing(store_at(server, timeout=timeout)) as store:
        check_all(store)


def blobs_asked(server: ScriptedServer) -> list[str]:
    return [blob_in(path) for _, path, _ in server.requests]


def test_all_are_under_way_side_by_side_over_connections_that_are_kept() -> None:
    together = threading.Barrier(len(BLOBS))

    def answer(handler: Handler) -> None:
        together.wait(10)
        send_asked(handler)

    with scripted_server(answer) as server, contextlib.closing(store_at(server, timeout=20)) as store:
        for _ in range(3):
            check_all(store)
        assert server.connections == len(BLOBS)


def test_more_than_there_are_connections_come_all_the_same() -> None:
    with scripted_server(send_asked) as server, contextlib.closing(store_at(server, timeout=20)) as store:
        reads = [read for _ in range(8) for read in reads_of_all()]
        store.read_all_into(reads)
        assert [bytes(read.buffer) for read in reads] == list(BLOBS.values()) * 8
        assert server.connections <= MOST_CONNECTIONS


def test_the_first_answer_says_how_far_the_store_is() -> None:
    answered = threading.Event()

    def answer(handler: Handler) -> None:
        if "blob0" not in handler.path:
            assert answered.wait(10)
        send_asked(handler)

    with scripted_server(answer) as server, contextlib.closing(store_at(server, timeout=20)) as store:
        store.read_all_into(reads_of_all(), answered=answered.set)


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
        assert sorted(blobs_asked(server)) == list(BLOBS)


def test_what_is_wrong_with_one_is_said_and_does_not_cost_the_connections() -> None:
    def answer(handler: Handler) -> None:
        if "missing" in handler.path:
            handler.send_response_only(404)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.send_header("x-ms-error-code", "BlobNotFound")
            handler.end_headers()
            handler.wfile.write(b"3\r\nabc\r\n0\r\n\r\n")
        else:
            send_asked(handler)

    first, *rest = reads_of_all()
    missing = RangeRead("missing", memoryview(bytearray(10)))
    with scripted_server(answer) as server, contextlib.closing(store_at(server, timeout=5)) as store:
        for _ in range(2):
            with pytest.raises(BlobMissing, match="Blob missing is missing"):
                store.read_all_into([first, missing, *rest])
        assert server.connections <= len(rest) + 2
    assert bytes(missing.buffer) == bytes(10)


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
            body = BLOBS[f"blob{cut}"]
            handler.wfile.write(
                b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n"
                % (len(body), len(body) - 1, len(body))
                + body[:20_000]
            )
            handler.close_connection = True
        else:
            send_asked(handler)

    with scripted_server(answer) as server:
        read_all(server)
        ranges = [headers["x-ms-range"] for _, path, headers in server.requests if blob_in(path) == f"blob{cut}"]
    assert ranges[1:] == [f"bytes=20000-{50_000 + cut - 1}"]


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
