"""What opens an Azure store: keys, shared access signatures, Entra ID; and that none of it is shown."""

from __future__ import annotations

import datetime as dt
import logging
import os
import ssl
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from support.azure_stores import CONTENT, TIMEOUT, USES, ended_in_time, proxy_before, store_at
from support.certificates import private_authority
from support.http_proxy import Fault, HttpProxy
from support.scripted_server import Handler, ScriptedServer, scripted_server
from support.services import Container
from support.store_reads import read_whole

from imgsyncfs.errors import BlobMissing, ConfigurationError, StoreRefused, StoreUnreachable
from imgsyncfs.stores.azure.store import AzureStore
from imgsyncfs.stores.contract import RangeRead, Store
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store


@pytest.fixture
def proxy(container: Container) -> Iterator[HttpProxy]:
    with proxy_before(container) as proxy:
        yield proxy


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_wrong_key_is_refused_and_not_shown(container: Container, use: Callable[[Store], object]) -> None:
    azurite = container.azurite
    store = open_store(
        container.url, credentials=StoreCredentials(account_key="c2VjcmV0c2VjcmV0", endpoint=azurite.endpoint)
    )

    with pytest.raises(
        StoreRefused, match=r"refused the credentials \(HTTP 403 .*\); check AZURE_STORAGE_KEY"
    ) as error:
        use(store)
    assert "c2VjcmV0" not in "".join(traceback.format_exception(error.value))


def sas_for(container: Container, permission: ContainerSasPermissions, *, hours: float = 1) -> str:
    token: str = generate_container_sas(
        container.azurite.account,
        container.name,
        account_key=container.azurite.key,
        permission=permission,
        expiry=dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours),
    )
    return token


def store_with_sas(container: Container, token: str) -> Store:
    return open_store(
        container.url,
        credentials=StoreCredentials(sas_token=token, endpoint=container.azurite.endpoint),
        timeout=TIMEOUT,
    )


@pytest.mark.parametrize("question_mark", ["", "?"])
def test_a_sas_opens_a_container(container: Container, question_mark: str) -> None:
    everything = ContainerSasPermissions(read=True, write=True, create=True, list=True)
    store = store_with_sas(container, question_mark + sas_for(container, everything))

    store.check()
    store.write("x", CONTENT)
    assert store.read("x", 10, 10) == CONTENT[10:20]
    assert [info.blob for info in store.list()] == ["x"]


def test_a_connection_string_may_hold_a_sas(container: Container) -> None:
    token = sas_for(container, ContainerSasPermissions(read=True, list=True))
    text = f"BlobEndpoint={container.azurite.endpoint};SharedAccessSignature={token}"
    store = open_store(container.url, credentials=StoreCredentials(connection_string=text))

    with pytest.raises(BlobMissing):
        read_whole(store, "x")


def test_a_sas_that_may_only_read_passes_check_and_create(container: Container, proxy: HttpProxy) -> None:
    assert proxy  # it brings blob x
    store = store_with_sas(container, sas_for(container, ContainerSasPermissions(read=True)))

    store.check()
    store.create()
    assert read_whole(store, "x") == CONTENT
    with pytest.raises(StoreRefused, match=r"check AZURE_STORAGE_SAS_TOKEN: the SAS may have ended, or may not allow"):
        list(store.list())


def read_together(store: Store) -> bytes:
    halves = [memoryview(bytearray(len(CONTENT) // 2)) for _ in range(2)]
    store.read_all_into([RangeRead("x", half, place * len(half)) for place, half in enumerate(halves)])
    return b"".join(halves)


READS: dict[str, Callable[[Store], bytes]] = {
    "read": lambda store: store.read("x", 0, len(CONTENT)),
    "read together": read_together,
}


def store_that_signs(container: Container, proxy: HttpProxy, clock: Callable[[], float]) -> Store:
    """The container through the proxy, opened by key; what is signed goes by a clock."""
    connection_string = container.azurite.connection_string_through(proxy.port)
    credentials = StoreCredentials(connection_string=connection_string)
    return AzureStore(container.url, credentials=credentials, timeout=3, clock=clock)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_signature_ends_while_the_computer_sleeps(
    container: Container, proxy: HttpProxy, read: Callable[[Store], bytes]
) -> None:
    asleep = [7200.0]
    store = store_that_signs(container, proxy, lambda: time.time() - asleep[0])
    with pytest.raises(StoreRefused):
        read(store)
    asleep[0] = 0.0
    proxy.forget()
    assert read(store) == CONTENT
    assert len(proxy.requests) == (2 if read is READS["read together"] else 1)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_signature_that_ends_earlier_than_the_clock_says_is_made_anew(
    container: Container, proxy: HttpProxy, read: Callable[[Store], bytes]
) -> None:
    behind = [3700.0]
    store = store_that_signs(container, proxy, lambda: time.time() - behind[0])
    with pytest.raises(StoreRefused):
        read(store)
    # By this clock the signature has 48 minutes left, by the server's it has ended.
    behind[0] = 3000.0
    assert read(store) == CONTENT


@pytest.mark.parametrize(("passed", "requests"), [(0.0, 1), (120.0, 2)])
def test_a_signature_that_is_refused_is_made_anew_once(
    container: Container, proxy: HttpProxy, passed: float, requests: int
) -> None:
    behind = [9000.0]
    store = store_that_signs(container, proxy, lambda: time.time() - behind[0])
    with pytest.raises(StoreRefused):
        store.read("x", 0, 10)
    behind[0] -= passed
    proxy.forget()
    with pytest.raises(StoreRefused, match="check AZURE_STORAGE_CONNECTION_STRING, and this computer's clock"):
        store.read("x", 0, 10)
    assert len(proxy.requests) == requests


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("failure", ["refused", "away", "busy"])
def test_a_sas_is_shown_nowhere(
    container: Container,
    proxy: HttpProxy,
    caplog: pytest.LogCaptureFixture,
    use: Callable[[Store], object],
    failure: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = sas_for(container, ContainerSasPermissions(), hours=-1)
    signature = token.partition("sig=")[2].partition("&")[0]
    endpoint = container.azurite.endpoint.replace(str(container.azurite.port), str(proxy.port))
    # Who is refused must have been answered; the others are not worth waiting for.
    timeout = 10 * TIMEOUT if failure == "refused" else TIMEOUT / 3
    store = open_store(container.url, credentials=StoreCredentials(sas_token=token, endpoint=endpoint), timeout=timeout)
    if failure == "away":
        proxy.stop()
    elif failure == "busy":
        proxy.set_fault(Fault(status=503))

    with pytest.raises(StoreRefused if failure == "refused" else StoreUnreachable) as error:
        use(store)
    logging.getLogger("test").error("failed", exc_info=error.value)

    assert len(signature) > 40
    assert signature not in caplog.text
    assert signature not in repr(store)
    # What the SDK's client sends is logged, and this is what was taken out of it; reads are not logged at all.
    short_way = (USES["check"], USES["create"], USES["read"], USES["read parts"])
    assert failure == "away" or use in short_way or "sig=…" in caplog.text


def test_passwords_of_other_programs_do_not_replace_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password another\n")
    monkeypatch.setenv("NETRC", os.fspath(tmp_path / "netrc"))
    with scripted_server(lambda handler: handler.send_blob(b"content")) as server:
        store = store_at(server)
        store.read("x", 0, 100)
        store.describe("x")

    (_, path, of_read), (_, _, of_describe) = server.requests
    assert "&sig=" in path
    assert "Authorization" not in of_read
    assert of_describe["Authorization"].startswith("SharedKey account:")


@pytest.fixture
def https_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    authority, certificate = private_authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted_server(lambda handler: handler.send_blob(b"content"), context=context) as server:
        yield server


def entra_store(server: ScriptedServer) -> Store:
    return open_store(
        "azure://account/container",
        credentials=StoreCredentials(endpoint=server.endpoint.replace("http:", "https:")),
        timeout=20,
    )


class EntraCredential:
    """Stands where `azure.identity.DefaultAzureCredential` would log in at Microsoft's servers."""

    error: Exception | None = None

    def __init__(self, **_options: object) -> None:
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, tenant_id: str = "home", **_options: object) -> Any:
        if self.error:
            raise self.error
        self.scopes.extend(scopes)
        return types.SimpleNamespace(token=f"token-of-{tenant_id}", expires_on=int(time.time()) + 3600)


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> type[EntraCredential]:
    class Credential(EntraCredential):
        pass

    module = types.ModuleType("azure.identity")
    module.DefaultAzureCredential = Credential  # type: ignore[attr-defined]  # a stand-in for the real package
    monkeypatch.setitem(__import__("sys").modules, "azure.identity", module)
    return Credential


def test_entra_id_opens_a_store_without_a_key(
    https_server: ScriptedServer,
    entra: type[EntraCredential],
) -> None:
    store = entra_store(https_server)

    assert store.read("x", 0, 100) == b"content"
    assert store.read_all_into([RangeRead("x", memoryview(bytearray(100))) for _ in range(2)]) == [7, 7]
    assert store.describe("x").etag == "1"
    assert {headers["Authorization"] for _, _, headers in https_server.requests} == {"Bearer token-of-home"}


def test_entra_id_is_asked_at_the_tenant_that_the_account_belongs_to(
    https_server: ScriptedServer,
    entra: type[EntraCredential],
) -> None:
    def answer(handler: Handler) -> None:
        if handler.headers["Authorization"] == "Bearer token-of-other":
            handler.send_blob(b"content")
        else:
            authority = "authorization_uri=https://login.microsoftonline.com/other/oauth2/authorize"
            handler.send(b"", 401, WWW_Authenticate=f"Bearer {authority} resource_id=https://storage.azure.com")

    https_server.answer = answer
    store = entra_store(https_server)

    assert store.read("x", 0, 100) == b"content"
    assert store.describe("x").etag == "1"


def test_a_log_in_that_fails_is_refused_at_once(https_server: ScriptedServer, entra: type[EntraCredential]) -> None:
    entra.error = ClientAuthenticationError("the token is ABC")
    store = entra_store(https_server)

    for use in (lambda: store.read("x", 0, 10), lambda: store.describe("x")):
        with ended_in_time(1), pytest.raises(StoreRefused, match="Entra ID failed; run `az login`") as error:
            use()
        assert "ABC" not in "".join(traceback.format_exception(error.value))


def test_entra_id_needs_https(entra: type[EntraCredential]) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        open_store("azure://account/container", credentials=StoreCredentials(endpoint="http://127.0.0.1"))
