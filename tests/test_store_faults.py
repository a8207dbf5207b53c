"""What the Azure store does when the network, the server or the credentials fail."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import http.server
import ipaddress
import logging
import os
import random
import ssl
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobClient, ContainerSasPermissions, generate_container_sas
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from http_proxy import Fault, HttpProxy
from services import Container

from imgsyncfs.errors import (
    BlobChanged,
    BlobMissing,
    ConfigurationError,
    StoreError,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from imgsyncfs.extents import EXTENT_BYTES, MEBIBYTE, WHOLE_BLOB_BYTES
from imgsyncfs.store import Store, StoreCredentials, open_store

CONTENT = random.Random(1).randbytes(100_000)

TIMEOUT = 0.6
SLACK = 0.5
"""How much later than the time limit a call may end here: what a busy machine needs to come back."""

USES: dict[str, Callable[[Store], object]] = {
    "check": lambda store: store.check(),
    "create": lambda store: store.create(),
    "read": lambda store: store.read("x"),
    "describe": lambda store: store.describe("x"),
    "write": lambda store: store.write("y", CONTENT),
    "write large": lambda store: store.write("z", bytes(5 * MEBIBYTE)),
    "list": lambda store: list(store.list()),
}

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives each request to the server's `answer`."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def handle(self) -> None:
        self.server.connections += 1
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.server.answer(self)

    do_HEAD = do_PUT = do_GET  # noqa: N815  # the names that http.server looks for

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def send_blob(self, content: bytes) -> None:
        """Answer as the Blob service does, whichever the method."""
        is_read = self.command == "GET"
        self.send(
            content if is_read else b"",
            206 if is_read else 200,
            ETag='"1"',
            Last_Modified="Thu, 01 Jan 1970 00:00:01 GMT",
            x_ms_blob_type="BlockBlob",
            Content_Range=f"bytes 0-{len(content) - 1}/{len(content)}",
        )

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


class ScriptedServer(http.server.ThreadingHTTPServer):
    """An HTTP server that answers as the test says, for what Azurite never does."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def scripted_server(answer: Answer, *, context: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    with ScriptedServer(answer) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy(container: Container) -> Iterator[HttpProxy]:
    """A proxy before Azurite; blob ``x`` holds `CONTENT`."""
    with container.azurite.client() as client:
        client.get_blob_client(container.name, "x").upload_blob(CONTENT)
    with HttpProxy(container.azurite.port) as proxy:
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


def test_opening_a_store_asks_the_network_nothing(proxy: HttpProxy, store: Store) -> None:
    assert store.url
    assert proxy.requests == []


@pytest.mark.parametrize("byte_count", [1, 100_000, EXTENT_BYTES, WHOLE_BLOB_BYTES])
def test_a_read_is_one_request(container: Container, proxy: HttpProxy, patient_store: Store, byte_count: int) -> None:
    content = random.Random(2).randbytes(byte_count)
    with container.azurite.client() as client:
        client.get_blob_client(container.name, "blob").upload_blob(content)

    assert patient_store.read("blob") == content
    assert patient_store.read("blob", 0, byte_count) == content
    assert patient_store.read("blob", byte_count // 2, WHOLE_BLOB_BYTES) == content[byte_count // 2 :]

    assert [request.method for request in proxy.requests] == ["GET"] * 3


def test_reading_an_empty_blob_is_one_request(patient_store: Store, proxy: HttpProxy) -> None:
    patient_store.write("empty", b"")
    proxy.forget()

    assert patient_store.read("empty", 0, EXTENT_BYTES) == b""
    assert len(proxy.requests) == 1


def test_a_large_write_that_is_there_already_is_not_sent_again(patient_store: Store, proxy: HttpProxy) -> None:
    content = bytes(5 * MEBIBYTE)
    patient_store.write("large", content)
    proxy.forget()

    patient_store.write("large", content)

    assert [request.method for request in proxy.requests] == ["HEAD"]


def test_a_large_blob_that_comes_meanwhile_is_not_replaced(patient_store: Store, proxy: HttpProxy) -> None:
    first, second = b"1" * (5 * MEBIBYTE), b"2" * (5 * MEBIBYTE)
    patient_store.write("large", first)

    with (
        proxy.fault(Fault(status=404, methods=frozenset({"HEAD"}), count=1)),
        pytest.raises(BlobChanged, match="another one has that name"),
    ):
        patient_store.write("large", second, md5=hashlib.md5(second, usedforsecurity=False).hexdigest())

    assert patient_store.read("large") == first


def test_blocks_of_two_writers_never_mix(patient_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = b"1" * (5 * MEBIBYTE), b"2" * (5 * MEBIBYTE)
    real_commit = BlobClient.commit_block_list
    first_commit: list[Callable[[], object]] = []

    def commit(client: BlobClient, *arguments: Any, **options: Any) -> Any:
        """Let the second writer send its blocks before the first one commits, and commit after it."""
        if first_commit:
            first_commit.pop()()
            return real_commit(client, *arguments, **options)
        answers: list[Any] = []
        first_commit.append(lambda: answers.append(real_commit(client, *arguments, **options)))
        with pytest.raises(BlobChanged):
            patient_store.write("large", second, md5=hashlib.md5(second, usedforsecurity=False).hexdigest())
        return answers[0]

    monkeypatch.setattr(BlobClient, "commit_block_list", commit)
    patient_store.write("large", first)

    assert patient_store.read("large") == first


def test_blocks_that_another_writer_made_void_are_no_error() -> None:
    content = bytes(5 * MEBIBYTE)
    seen: list[str] = []

    def answer(handler: Handler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        seen.append(handler.command)
        if handler.command == "HEAD" and seen.count("HEAD") == 1:
            handler.send(b"", 404, x_ms_error_code="BlobNotFound")
        elif handler.command == "HEAD":
            handler.send_response_only(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.send_header("ETag", '"1"')
            handler.send_header("Last-Modified", "Thu, 01 Jan 1970 00:00:01 GMT")
            handler.send_header("x-ms-blob-type", "BlockBlob")
            handler.end_headers()
        elif "comp=blocklist" in handler.path:
            handler.send(b"", 400, x_ms_error_code="InvalidBlockList")
        else:
            handler.send(b"", 201)

    with scripted_server(answer) as server:
        assert store_at(server, timeout=20).write("x", content).etag == "1"


@pytest.mark.parametrize("use", ["read", "describe"])
def test_32_threads_need_32_connections_and_keep_them(use: str) -> None:
    together = threading.Barrier(32)

    def answer(handler: Handler) -> None:
        together.wait(10)
        handler.send_blob(b"content")

    with scripted_server(answer) as server:
        store = store_at(server, timeout=20)
        with ThreadPoolExecutor(32) as threads:
            for _ in range(3):
                list(threads.map(lambda _: USES[use](store), range(32)))
        assert server.connections == 32
        store.close()


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
        content = threads.submit(patient_store.read, "x")
        proxy.start()
        assert content.result() == CONTENT


def test_an_answer_that_breaks_off_is_asked_for_again(patient_store: Store, proxy: HttpProxy) -> None:
    with proxy.fault(Fault(cut_after=50_000, count=2)):
        assert patient_store.read("x") == CONTENT

    assert proxy.count("GET") == 3


@pytest.mark.parametrize("cut_after", [0, 1, 99_999])
def test_an_answer_that_always_breaks_off_is_never_taken_for_the_blob(
    store: Store, proxy: HttpProxy, cut_after: int
) -> None:
    with (
        proxy.fault(Fault(cut_after=cut_after)),
        ended_in_time(),
        pytest.raises(StoreUnreachable, match=r"the connection broke off|did not answer"),
    ):
        store.read("x")


def test_a_listing_that_breaks_off_is_asked_for_again(patient_store: Store, proxy: HttpProxy) -> None:
    with proxy.fault(Fault(cut_after=100, count=1)):
        assert [info.blob for info in patient_store.list()] == ["x"]


def test_an_answer_that_trickles_and_stops_ends_within_the_time_limit() -> None:
    ended = threading.Event()
    timeout = 2.4

    def answer(handler: Handler) -> None:
        handler.send_response_only(206)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        begun = time.monotonic()
        while time.monotonic() - begun < timeout - 0.2 and not ended.wait(0.05):
            handler.wfile.write(b"x")
        ended.wait(30)

    with scripted_server(answer) as server:
        store = store_at(server, timeout=timeout)
        with ended_in_time(timeout), pytest.raises(StoreUnreachable, match="did not answer within"):
            store.read("x")
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


def test_an_answer_with_another_range_is_not_taken() -> None:
    def whole_blob(handler: Handler) -> None:
        handler.send(CONTENT)

    def other_range(handler: Handler) -> None:
        handler.send(CONTENT[:10], 206, Content_Range=f"bytes 0-9/{len(CONTENT)}")

    for answer in (whole_blob, other_range):
        with scripted_server(answer) as server, pytest.raises(StoreError, match="another range"):
            store_at(server).read("x", 10, 10)


def test_a_page_of_a_proxy_is_not_taken_for_a_blob() -> None:
    with (
        scripted_server(lambda handler: handler.send(b"<html>Please log in</html>")) as server,
        pytest.raises(StoreError, match="check the proxy"),
    ):
        store_at(server).read("x")


def test_an_archived_blob_is_named() -> None:
    with (
        scripted_server(lambda handler: handler.send(b"", 409, x_ms_error_code="BlobArchived")) as server,
        pytest.raises(StoreError, match=r"Blob x in azure://account/container lies in the archive tier; move it"),
    ):
        store_at(server).read("x")


def test_an_answer_that_nobody_foresaw_is_given_with_its_code() -> None:
    with (
        scripted_server(lambda handler: handler.send(b"", 400, x_ms_error_code="NewCode")) as server,
        pytest.raises(StoreError, match="HTTP 400 NewCode"),
    ):
        store_at(server).read("x")


def test_a_container_that_is_being_deleted_is_missing() -> None:
    def answer(handler: Handler) -> None:
        if handler.command == "GET":
            handler.send(b"", 404, x_ms_error_code="ContainerNotFound")
        else:
            handler.send(b"", 409, x_ms_error_code="ContainerBeingDeleted")

    with scripted_server(answer) as server, pytest.raises(StoreMissing, match="ContainerBeingDeleted"):
        store_at(server).create()


def test_a_container_that_another_makes_at_the_same_time_is_made() -> None:
    def answer(handler: Handler) -> None:
        if handler.command == "GET":
            handler.send(b"", 404, x_ms_error_code="ContainerNotFound")
        else:
            handler.send(b"", 409, x_ms_error_code="ContainerAlreadyExists")

    with scripted_server(answer) as server:
        store_at(server).create()


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
        store.read("x")


def test_a_sas_that_may_only_read_passes_check_and_create(container: Container, proxy: HttpProxy) -> None:
    assert proxy  # it brings blob x
    store = store_with_sas(container, sas_for(container, ContainerSasPermissions(read=True)))

    store.check()
    store.create()
    assert store.read("x") == CONTENT
    with pytest.raises(StoreRefused, match=r"check AZURE_STORAGE_SAS_TOKEN: the SAS may have ended, or may not allow"):
        list(store.list())


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
    store = open_store(
        container.url, credentials=StoreCredentials(sas_token=token, endpoint=endpoint), timeout=TIMEOUT / 3
    )
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
    # Requests were logged, and what was taken out of them is this.
    assert failure == "away" or "sig=…" in caplog.text


def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_server(lambda handler: handler.send_blob(b"content")) as server:
        monkeypatch.setenv("http_proxy", server.endpoint)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        store = open_store(
            "azure://account/container",
            credentials=StoreCredentials(account_key="a2V5", endpoint="http://account.example.invalid"),
            timeout=TIMEOUT,
        )
        assert store.read("x") == b"content"
        assert store.describe("x").etag == "1"

    assert [path for _, path, _ in server.requests] == ["http://account.example.invalid/container/x"] * 2


def test_passwords_of_other_programs_do_not_replace_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password another\n")
    monkeypatch.setenv("NETRC", os.fspath(tmp_path / "netrc"))
    with scripted_server(lambda handler: handler.send_blob(b"content")) as server:
        store = store_at(server)
        store.read("x")
        store.describe("x")

    assert [headers["Authorization"].split(":")[0] for _, _, headers in server.requests] == ["SharedKey account"] * 2


def test_a_host_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    store = open_store(
        "azure://account/container",
        credentials=StoreCredentials(account_key="a2V5", endpoint="http://account.example.invalid"),
        timeout=TIMEOUT,
    )

    with pytest.raises(StoreUnreachable, match="its host name is unknown"):
        store.check()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that no one else has signed, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.fixture
def https_server(certificate: Path) -> Iterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted_server(lambda handler: handler.send_blob(b"content"), context=context) as server:
        yield server


def https_store(server: ScriptedServer, *, key: str | None = "a2V5") -> Store:
    return open_store(
        "azure://account/container",
        credentials=StoreCredentials(account_key=key, endpoint=server.endpoint.replace("http:", "https:")),
        timeout=20,
    )


def test_a_certificate_that_nobody_signed_is_not_trusted_and_not_tried_again(https_server: ScriptedServer) -> None:
    store = https_store(https_server)

    for use in (store.read, store.describe):
        with (
            ended_in_time(1),
            pytest.raises(StoreUnreachable, match=r"certificate is not trusted .*REQUESTS_CA_BUNDLE"),
        ):
            use("x")
    assert https_server.requests == []


def test_the_environment_names_the_certificates_to_trust(
    https_server: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(certificate))
    store = https_store(https_server)

    assert store.read("x") == b"content"
    assert store.describe("x").etag == "1"


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
    certificate: Path,
    entra: type[EntraCredential],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(certificate))
    store = https_store(https_server, key=None)

    assert store.read("x") == b"content"
    assert store.describe("x").etag == "1"
    assert {headers["Authorization"] for _, _, headers in https_server.requests} == {"Bearer token-of-home"}


def test_entra_id_is_asked_at_the_tenant_that_the_account_belongs_to(
    https_server: ScriptedServer,
    certificate: Path,
    entra: type[EntraCredential],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(handler: Handler) -> None:
        if handler.headers["Authorization"] == "Bearer token-of-other":
            handler.send_blob(b"content")
        else:
            authority = "authorization_uri=https://login.microsoftonline.com/other/oauth2/authorize"
            handler.send(b"", 401, WWW_Authenticate=f"Bearer {authority} resource_id=https://storage.azure.com")

    https_server.answer = answer
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.fspath(certificate))
    store = https_store(https_server, key=None)

    assert store.read("x") == b"content"
    assert store.describe("x").etag == "1"


def test_a_log_in_that_fails_is_refused_at_once(https_server: ScriptedServer, entra: type[EntraCredential]) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    entra.error = ClientAuthenticationError("the token is ABC")
    store = https_store(https_server, key=None)

    for use in (store.read, store.describe):
        with ended_in_time(1), pytest.raises(StoreRefused, match="Entra ID failed; run `az login`") as error:
            use("x")
        assert "ABC" not in "".join(traceback.format_exception(error.value))


def test_entra_id_needs_https(entra: type[EntraCredential]) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        open_store("azure://account/container", credentials=StoreCredentials(endpoint="http://127.0.0.1"))
