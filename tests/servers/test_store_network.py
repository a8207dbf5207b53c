"""The way to an Azure store: proxies, certificates, redirects."""

from __future__ import annotations

import base64
import os
import ssl
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.azure_stores import CONTENT, TIMEOUT, ended_in_time, store_at
from support.certificates import private_authority
from support.forward_proxy import ForwardProxy, forward_proxy
from support.http_proxy import reserve_port
from support.scripted_server import Handler, ScriptedServer, scripted_server
from support.services import Container

from imgsyncfs.errors import StoreError, StoreUnreachable
from imgsyncfs.stores.contract import RangeRead, Store
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store

USES: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("x", 0, 100),
    "describe": lambda store: store.describe("x"),
}


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with forward_proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return private_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def https_server(authority: tuple[Path, Path]) -> Iterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    with scripted_server(lambda handler: handler.send_blob(b"content"), context=context) as server:
        yield server


def https_store(server: ScriptedServer, *, host: str = "127.0.0.1", timeout: float = 20) -> Store:
    endpoint = f"https://{host}:{server.server_port}"
    credentials = StoreCredentials(account_key="a2V5", endpoint=endpoint)
    return open_store("azure://account/container", credentials=credentials, timeout=timeout)


def store_by_key(container: Container) -> Store:
    credentials = StoreCredentials(connection_string=container.azurite.connection_string)
    return open_store(container.url, credentials=credentials)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy(
    container: Container, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    store = store_by_key(container)
    store.write("ü/日本 #%2F?.jpg", CONTENT)
    proxy.requests.clear()

    assert store.read("ü/日本 #%2F?.jpg", 10, 100) == CONTENT[10:110]
    assert store.describe("ü/日本 #%2F?.jpg").byte_count == len(CONTENT)

    path = f"{container.azurite.endpoint}/{container.name}/%C3%BC/%E6%97%A5%E6%9C%AC%20%23%252F%3F.jpg"
    assert [(method, url.partition("?")[0]) for method, url, _ in proxy.requests] == [("GET", path), ("HEAD", path)]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("value", ["127.0.0.1", "*", "example.org, 127.0.0.0/8"])
def test_the_environment_names_hosts_that_need_no_proxy(
    container: Container, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv(variable, value)
    store = store_by_key(container)
    store.write("x", CONTENT)

    assert store.read("x", 10, 100) == CONTENT[10:110]
    assert proxy.requests == []


def test_reads_over_https_go_through_a_tunnel_that_sees_no_credentials(
    https_server: ScriptedServer, authority: tuple[Path, Path], proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(authority[0]))
    store = https_store(https_server)
    buffer = memoryview(bytearray(20))

    assert store.read("x", 0, 100) == b"content"
    assert store.describe("x").etag == "1"
    assert store.read_all_into([RangeRead("x", buffer[:10]), RangeRead("y", buffer[10:], 3)]) == [7, 4]
    assert bytes(buffer) == b"content\0\0\0tent\0\0\0\0\0\0"

    tunnel = ("CONNECT", f"127.0.0.1:{https_server.server_port}")
    password = f"Basic {base64.b64encode(b'somebody:secret@').decode()}"
    assert {(method, target) for method, target, _ in proxy.requests} == {tunnel}
    assert {headers["Proxy-Authorization"] for _, _, headers in proxy.requests} == {password}
    assert all("Authorization" not in headers and "x-ms-version" not in headers for _, _, headers in proxy.requests)
    assert all("Proxy-Authorization" not in headers for _, _, headers in https_server.requests)


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_is_named(
    https_server: ScriptedServer, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    proxy.refuses = status

    store = https_store(https_server, timeout=TIMEOUT)
    with (
        ended_in_time(),
        pytest.raises(
            StoreUnreachable, match=f"the proxy refused with HTTP {status}; check .* proxy settings"
        ) as error,
    ):
        store.check()
    assert "secret" not in "".join(traceback.format_exception(error.value))
    assert https_server.requests == []


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_proxy_that_is_down_leaves_the_store_unreachable_within_the_time_limit(
    https_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, use: Callable[[Store], object]
) -> None:
    with reserve_port(0) as reserved:
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:secret@127.0.0.1:{reserved.getsockname()[1]}")
        store = https_store(https_server, timeout=TIMEOUT)
        with ended_in_time(), pytest.raises(StoreUnreachable, match="check .* proxy settings") as error:
            use(store)
    assert "secret" not in "".join(traceback.format_exception(error.value))
    assert https_server.requests == []


def test_a_proxy_that_nobody_knows_is_named(https_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.invalid:3128")
    store = https_store(https_server, timeout=TIMEOUT)

    with pytest.raises(StoreUnreachable, match="the proxy's host name is unknown"):
        store.check()


def test_a_host_that_nobody_knows_is_named() -> None:
    credentials = StoreCredentials(account_key="a2V5", endpoint="http://account.example.invalid")
    store = open_store("azure://account/container", credentials=credentials, timeout=TIMEOUT)

    with pytest.raises(StoreUnreachable, match="its host name is unknown"):
        store.check()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_certificate_of_an_unknown_authority_is_not_trusted_and_not_tried_again(
    https_server: ScriptedServer, use: Callable[[Store], object]
) -> None:
    store = https_store(https_server)

    with ended_in_time(1), pytest.raises(StoreUnreachable, match=r"certificate is not trusted .*REQUESTS_CA_BUNDLE"):
        use(store)
    assert https_server.requests == []


def test_what_is_wrong_with_a_certificate_is_said(
    https_server: ScriptedServer, authority: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnreachable, match=r"not trusted \(its issuer is unknown;"):
        https_store(https_server).check()
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(authority[0]))
    with pytest.raises(StoreUnreachable, match=r"not trusted \(it is for another host;"):
        https_store(https_server, host="localhost").check()
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(tmp_path / "none.pem"))
    with pytest.raises(StoreUnreachable, match=r"not trusted \(the file of trusted certificates cannot be read;"):
        https_store(https_server).check()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_names_the_authorities_to_trust(
    https_server: ScriptedServer,
    authority: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Store], object],
    variable: str,
) -> None:
    monkeypatch.setenv(variable, os.fspath(authority[0]))

    use(https_store(https_server))

    assert len(https_server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with scripted_server(lambda handler: handler.send_blob(CONTENT)) as other:

        def answer(handler: Handler) -> None:
            handler.send(b"", status, Location=f"{other.endpoint}{handler.path}")

        with scripted_server(answer) as server, pytest.raises(StoreError, match=f"HTTP {status}"):
            store_at(server).read("x", 0, 100)
    assert other.requests == []
