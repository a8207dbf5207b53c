"""What the Azure store does when the network or the server fails."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.azure_stores import CONTENT, TIMEOUT, USES, ended_in_time, proxy_before, store_at, store_through
from support.certificates import private_authority
from support.http_proxy import Fault, HttpProxy
from support.scripted_server import Handler, scripted_server
from support.services import Container
from support.store_reads import read_whole

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.errors import StoreUnreachable
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.contract import Store


@pytest.fixture
def proxy(container: Container) -> Iterator[HttpProxy]:
    with proxy_before(container) as proxy:
        yield proxy


@pytest.fixture
def store(container: Container, proxy: HttpProxy) -> Iterator[Store]:
    """The container through the proxy, for what must fail in time."""
    with contextlib.closing(store_through(proxy, container, timeout=TIMEOUT)) as opened:
        yield opened


@pytest.fixture
def patient_store(container: Container, proxy: HttpProxy) -> Iterator[Store]:
    """The container through the proxy, for what must work in the end, on a busy machine too."""
    with contextlib.closing(store_through(proxy, container, timeout=3)) as opened:
        yield opened


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_server_that_never_answers_is_unreachable_within_the_time_limit(
    store: Store, proxy: HttpProxy, use: Callable[[Store], object]
) -> None:
    with (
        proxy.fault(Fault(hold=True)),
        ended_in_time(),
        pytest.raises(StoreUnreachable, match=r"did not answer within 0\.6 s; check the network"),
    ):
        use(store)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_server_that_is_down_is_unreachable_within_the_time_limit(
    store: Store, proxy: HttpProxy, use: Callable[[Store], object]
) -> None:
    proxy.stop()

    with ended_in_time(), pytest.raises(StoreUnreachable, match=r"cannot be reached: (Connection refused|it did not)"):
        use(store)


def test_a_check_of_a_server_that_is_busy_answers_at_once(container: Container, proxy: HttpProxy) -> None:
    store = store_through(proxy, container, timeout=60)

    with (
        proxy.fault(Fault(status=503)),
        ended_in_time(1),
        pytest.raises(StoreUnreachable, match="cannot be reached: it answered HTTP 503; check the network"),
    ):
        store.check()
    assert len(proxy.requests) == 2


def test_a_check_of_a_server_that_breaks_off_answers_at_once(container: Container, proxy: HttpProxy) -> None:
    store = store_through(proxy, container, timeout=60)

    with (
        proxy.fault(Fault(cut_after=10)),
        ended_in_time(1),
        pytest.raises(StoreUnreachable, match="cannot be reached: the connection broke off; check the network"),
    ):
        store.check()


def test_a_check_of_a_server_that_is_down_answers_at_once(container: Container, proxy: HttpProxy) -> None:
    proxy.stop()
    store = store_through(proxy, container, timeout=60)

    with (
        ended_in_time(1),
        pytest.raises(StoreUnreachable, match="cannot be reached: Connection refused; check the network"),
    ):
        store.check()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_server_that_is_always_busy_is_unreachable_within_the_time_limit(
    store: Store, proxy: HttpProxy, use: Callable[[Store], object]
) -> None:
    with (
        proxy.fault(Fault(status=503)),
        ended_in_time(),
        pytest.raises(StoreUnreachable, match=r"HTTP 503|did not answer"),
    ):
        use(store)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_server_that_is_busy_once_is_asked_again(
    patient_store: Store, proxy: HttpProxy, use: Callable[[Store], object]
) -> None:
    with proxy.fault(Fault(status=503, count=1)):
        use(patient_store)


@pytest.mark.parametrize("use", ["read", "describe", "write large"])
def test_a_server_that_is_silent_once_is_asked_again(patient_store: Store, proxy: HttpProxy, use: str) -> None:
    with proxy.fault(Fault(hold=True, count=1)):
        USES[use](patient_store)


def test_a_server_that_comes_back_is_used_again(patient_store: Store, proxy: HttpProxy) -> None:
    proxy.stop()
    with ThreadPoolExecutor(1) as threads:
        content = threads.submit(read_whole, patient_store, "x")
        proxy.start()
        assert content.result() == CONTENT


def test_the_rest_of_an_answer_that_breaks_off_is_asked_for(patient_store: Store, proxy: HttpProxy) -> None:
    with proxy.fault(Fault(cut_after=30_000, count=2)):
        assert patient_store.read("x", 0, len(CONTENT)) == CONTENT

    ranges = [request.headers["x-ms-range"] for request in proxy.requests]
    assert ranges == [f"bytes={start}-{len(CONTENT) - 1}" for start in (0, 30_000, 60_000)]


@pytest.mark.parametrize(("cut_after", "second"), [(0, 0), (1, 1), (50_000, 50_000), (50_001, 50_001)])
def test_a_range_that_breaks_off_goes_on_where_it_was(
    patient_store: Store, proxy: HttpProxy, cut_after: int, second: int
) -> None:
    buffer = memoryview(bytearray(30_000))
    parts: list[bytes] = []
    whole = RangeInParts(buffer, 0, len(CONTENT), take=lambda count: parts.append(bytes(buffer[:count])))

    with proxy.fault(Fault(cut_after=cut_after, count=1)):
        patient_store.read_parts("x", whole)

    assert (whole.received, b"".join(parts)) == (len(CONTENT), CONTENT)
    assert all(len(part) == len(buffer) for part in parts[:-1])
    ranges = [request.headers["x-ms-range"] for request in proxy.requests]
    assert ranges == [f"bytes={start}-{len(CONTENT) - 1}" for start in (0, second)]


def test_a_range_that_breaks_off_is_asked_for_whole_where_its_digest_is_wanted(
    patient_store: Store, proxy: HttpProxy
) -> None:
    buffer = memoryview(bytearray(len(CONTENT)))

    with proxy.fault(Fault(cut_after=50_000, count=1)):
        assert patient_store.read_checked("x", buffer) == (len(CONTENT), True)

    assert buffer == CONTENT
    assert [request.headers["x-ms-range"] for request in proxy.requests] == [f"bytes=0-{len(CONTENT) - 1}"] * 2


@pytest.mark.parametrize("cut_after", [0, 1])
def test_an_answer_that_always_breaks_off_is_never_taken_for_the_blob(
    store: Store, proxy: HttpProxy, cut_after: int
) -> None:
    with (
        proxy.fault(Fault(cut_after=cut_after)),
        ended_in_time(),
        pytest.raises(StoreUnreachable, match=r"the connection broke off|did not answer"),
    ):
        store.read("x", 0, len(CONTENT))


def test_a_listing_that_breaks_off_is_asked_for_again(patient_store: Store, proxy: HttpProxy) -> None:
    with proxy.fault(Fault(cut_after=100, count=1)):
        assert [info.blob for info in patient_store.list()] == ["x"]


@pytest.mark.parametrize("use", ["read", "list", "write"])
def test_an_answer_that_trickles_and_stops_ends_within_the_time_limit(use: str) -> None:
    ended = threading.Event()
    timeout = 2.4

    def answer(handler: Handler) -> None:
        handler.send_response_only(206 if use == "read" else 400)
        handler.send_header("x-ms-version", "2021-12-02")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        begun = time.monotonic()
        while time.monotonic() - begun < timeout - 0.2 and not ended.wait(0.05):
            handler.wfile.write(b"x")
        ended.wait(30)

    with scripted_server(answer) as server:
        store = store_at(server, timeout=timeout)
        with ended_in_time(timeout), pytest.raises(StoreUnreachable, match="did not answer within"):
            USES[use](store)
        ended.set()


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("use", USES)
def test_an_answer_whose_head_trickles_without_end_ends_within_the_time_limit(
    use: str, is_secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    authority, certificate = private_authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):
            while not ended.wait(0.05):
                handler.wfile.write(b"X-More: x\r\n")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with scripted_server(answer, context=context if is_secure else None) as server:
        store = store_at(server)
        with ended_in_time(), pytest.raises(StoreUnreachable, match="did not answer within"):
            USES[use](store)
        ended.set()


def test_a_server_that_takes_nothing_in_ends_a_write_within_the_time_limit() -> None:
    ended = threading.Event()

    def answer(_handler: Handler) -> None:
        ended.wait(30)

    with scripted_server(answer) as server:
        store = store_at(server)
        with ended_in_time(), pytest.raises(StoreUnreachable):
            store.write("x", bytes(4 * MEBIBYTE))
        ended.set()


@pytest.mark.parametrize("use", ["read", "describe"])
def test_connections_that_a_firewall_forgot_cost_one_wait_together(use: str) -> None:
    together = threading.Barrier(8)
    known: set[Handler] = set()
    forgotten: set[Handler] = set()
    alone = threading.Event()
    ended = threading.Event()

    def answer(handler: Handler) -> None:
        if handler in forgotten:
            ended.wait(30)
            return
        known.add(handler)
        if not alone.is_set():
            together.wait(10)
        handler.send_blob(b"content")

    with scripted_server(answer) as server, ThreadPoolExecutor(8) as threads:
        store = store_at(server, timeout=1.5)
        list(threads.map(lambda _: USES[use](store), range(8)))
        forgotten |= known
        alone.set()
        with ended_in_time(0.6):
            USES[use](store)
        alone.clear()
        with ended_in_time(0):
            list(threads.map(lambda _: USES[use](store), range(8)))
        ended.set()
