"""What the Azure store does when servers throttle, and when something else answers in the store's place."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator

import pytest
from support.azure_stores import CONTENT, TIMEOUT, USES, ended_in_time, proxy_before, store_at, store_through
from support.http_proxy import Fault, HttpProxy
from support.scripted_server import Handler, scripted_server
from support.services import Container

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.errors import StoreError, StoreUnreachable
from imgsyncfs.stores.contract import Store

PORTAL = b"<html><body>Please log in to the guest network.</body></html>"

MOST_MEMORY_BYTES = 256 * MEBIBYTE
"""What one call may need in addition; an endless answer fills as much in a second."""


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
    with contextlib.closing(store_through(proxy, container, timeout=5)) as opened:
        yield opened


@pytest.mark.parametrize(("use", "status"), [*((use, 429) for use in USES), ("read", 503), ("list", 503)])
def test_a_server_that_throttles_is_asked_again_when_it_says(
    patient_store: Store, proxy: HttpProxy, use: str, status: int
) -> None:
    began = time.monotonic()
    with proxy.fault(Fault(status=status, headers={"Retry-After": "1"}, count=1)):
        USES[use](patient_store)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("later", ["3600", "Thu, 01 Jan 2099 00:00:00 GMT", "soon", "-1", "nan"])
def test_a_server_that_throttles_for_longer_than_the_time_limit_is_unreachable_within_it(
    store: Store, proxy: HttpProxy, later: str
) -> None:
    with (
        proxy.fault(Fault(status=429, headers={"Retry-After": later})),
        ended_in_time(),
        pytest.raises(StoreUnreachable, match=r"HTTP 429|did not answer"),
    ):
        store.read("x", 0, len(CONTENT))


def test_a_server_that_throttles_for_too_long_is_not_waited_for(container: Container, proxy: HttpProxy) -> None:
    store = store_through(proxy, container, timeout=60)
    with (
        proxy.fault(Fault(status=429, headers={"Retry-After": "3600"})),
        ended_in_time(1),
        pytest.raises(StoreUnreachable, match=r"it is asked too often \(HTTP 429\); try again later"),
    ):
        store.read("x", 0, len(CONTENT))


@pytest.mark.parametrize("status", [200, 206, 404, 500])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_answer_without_end_is_cut_off_within_the_time_limit(
    store: Store, proxy: HttpProxy, use: Callable[[Store], object], status: int
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fault = Fault(status=status, headers={"x-ms-version": "2021-12-02"}, content=bytes(MEBIBYTE), is_endless=True)
    with proxy.fault(fault), ended_in_time(), contextlib.suppress(Exception):
        use(store)
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert used < MOST_MEMORY_BYTES


PORTALS = {
    "page": Fault(status=200, headers={"Content-Type": "text/html"}, content=PORTAL),
    "other page": Fault(status=203, content=PORTAL),
    "nothing": Fault(status=204),
    "made": Fault(status=201, content=PORTAL),
    "part": Fault(status=206, content=PORTAL),
    "redirect": Fault(status=302, headers={"Location": "http://127.0.0.1:9/login"}, content=PORTAL),
    "other redirect": Fault(status=307, headers={"Location": "http://127.0.0.1:9/login"}, content=PORTAL),
    "log in": Fault(status=511, content=PORTAL),
    "not found": Fault(status=404, content=PORTAL),
    "blocked": Fault(status=403, content=PORTAL),
    "a proxy's log-in": Fault(status=407, content=PORTAL),
    "page that is no web page": Fault(status=200, headers={"Content-Type": "application/xml"}, content=b"<a/>"),
}


@pytest.mark.parametrize("fault", PORTALS.values(), ids=PORTALS)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_answer_of_a_portal_is_not_taken_for_the_stores(
    store: Store, proxy: HttpProxy, use: Callable[[Store], object], fault: Fault
) -> None:
    with proxy.fault(fault), ended_in_time(), pytest.raises(StoreUnreachable, match=r"cannot be reached: .*log in"):
        use(store)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_portal_is_followed_nowhere(use: Callable[[Store], object]) -> None:
    with scripted_server(lambda handler: handler.send(PORTAL)) as other:

        def answer(handler: Handler) -> None:
            handler.send(PORTAL, 302, Location=f"{other.endpoint}/login")

        # It even looks like the store's own.
        with scripted_server(answer) as server, pytest.raises(StoreError, match="HTTP 302"):
            use(store_at(server))
    assert other.requests == []
