"""Azure stores whose requests a test can watch and disturb, and what can be done with any store."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.contract import Store
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store
from support.http_proxy import HttpProxy
from support.scripted_server import ScriptedServer
from support.services import Container

CONTENT = random.Random(1).randbytes(100_000)

TIMEOUT = 0.6
SLACK = 0.5
"""How much later than the time limit a call may end here: what a busy machine needs to come back."""

USES: dict[str, Callable[[Store], object]] = {
    "check": lambda store: store.check(),
    "create": lambda store: store.create(),
    "read": lambda store: store.read("x", 0, len(CONTENT)),
    "read parts": lambda store: store.read_parts(
        "x",
        RangeInParts(memoryview(bytearray(30_000)), 0, len(CONTENT)),
    ),
    "describe": lambda store: store.describe("x"),
    "write": lambda store: store.write("y", CONTENT),
    "write large": lambda store: store.write("z", bytes(5 * MEBIBYTE)),
    "list": lambda store: list(store.list()),
}


@contextlib.contextmanager
def proxy_before(container: Container) -> Iterator[HttpProxy]:
    """A proxy before Azurite, in whose container blob ``x`` holds `CONTENT`."""
    with container.azurite.client() as client:
        client.get_blob_client(container.name, "x").upload_blob(CONTENT)
    with HttpProxy(container.azurite.port) as proxy:
        yield proxy


def store_through(proxy: HttpProxy, container: Container, *, timeout: float) -> Store:
    connection_string = container.azurite.connection_string_through(proxy.port)
    return open_store(container.url, credentials=StoreCredentials(connection_string=connection_string), timeout=timeout)


def store_at(server: ScriptedServer, *, timeout: float = TIMEOUT) -> Store:
    return open_store(
        "azure://account/container",
        credentials=StoreCredentials(account_key="a2V5", endpoint=server.endpoint),
        timeout=timeout,
    )


@contextlib.contextmanager
def ended_in_time(timeout: float = TIMEOUT) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < timeout + SLACK
