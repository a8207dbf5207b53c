"""What the Azure store asks the server for, how often, and what it makes of odd answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from azure.storage.blob import BlobClient
from support.azure_stores import CONTENT, TIMEOUT, USES, proxy_before, store_at, store_through
from support.http_proxy import Fault, HttpProxy
from support.scripted_server import Handler, scripted_server
from support.services import Container
from support.store_reads import read_whole

from imgsyncfs.blob_layout import EXTENT_BYTES, MEBIBYTE, WHOLE_BLOB_BYTES
from imgsyncfs.errors import BlobChanged, BlobMissing, StoreError, StoreMissing, StoreRefused
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.contract import RangeRead, Store


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


def test_opening_a_store_asks_the_network_nothing(proxy: HttpProxy, store: Store) -> None:
    assert store.url
    assert proxy.requests == []


@pytest.mark.parametrize("byte_count", [1, 100_000, EXTENT_BYTES, WHOLE_BLOB_BYTES])
def test_a_read_is_one_request(container: Container, proxy: HttpProxy, patient_store: Store, byte_count: int) -> None:
    content = random.Random(2).randbytes(byte_count)
    with container.azurite.client() as client:
        client.get_blob_client(container.name, "blob").upload_blob(content)

    assert patient_store.read("blob", 0, byte_count) == content
    assert patient_store.read("blob", byte_count // 2, WHOLE_BLOB_BYTES) == content[byte_count // 2 :]

    buffer = memoryview(bytearray(byte_count + 1))
    assert patient_store.read_into("blob", buffer) == byte_count
    assert buffer[:-1] == content

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

    missing = Fault(status=404, headers={"x-ms-error-code": "BlobNotFound"}, methods=frozenset({"HEAD"}), count=1)
    with (
        proxy.fault(missing),
        pytest.raises(BlobChanged, match="another one has that name"),
    ):
        patient_store.write("large", second, md5=hashlib.md5(second, usedforsecurity=False).hexdigest())

    assert read_whole(patient_store, "large") == first


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

    assert read_whole(patient_store, "large") == first


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


def test_an_answer_with_another_range_is_not_taken() -> None:
    def whole_blob(handler: Handler) -> None:
        handler.send(CONTENT)

    def other_range(handler: Handler) -> None:
        handler.send(CONTENT[:10], 206, Content_Range=f"bytes 0-9/{len(CONTENT)}")

    for answer in (whole_blob, other_range):
        with scripted_server(answer) as server, pytest.raises(StoreError, match="another range"):
            store_at(server).read("x", 10, 10)
        with scripted_server(answer) as server, pytest.raises(StoreError, match="another range"):
            store_at(server).read_parts("x", RangeInParts(memoryview(bytearray(5)), 10, 10))


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (409, "BlobArchived", StoreError, "Blob x in .* lies in the archive tier .*az storage blob set-tier"),
        (409, "BlobBeingRehydrated", StoreError, "Blob x in .* look again in some hours"),
        (409, "BlobUsesCustomerSpecifiedEncryption", StoreError, "Blob x in .* a key that requests have to bring"),
        (403, "AccountIsDisabled", StoreRefused, "have its owner enable it"),
        (403, "AuthorizationFailure", StoreRefused, "refused the credentials .* network rules"),
        (403, "AuthorizationSourceIPMismatch", StoreRefused, "other addresses"),
        (403, "KeyBasedAuthenticationNotPermitted", StoreRefused, "Entra ID"),
        (403, "KeyVaultEncryptionKeyNotFound", StoreRefused, "vault"),
        (403, "KeyVaultAccessTokenCannotBeAcquired", StoreRefused, "vault"),
        (409, "PublicAccessNotPermitted", StoreRefused, "without credentials"),
        (403, "AuthenticationFailed", StoreRefused, "refused the credentials"),
    ],
)
def test_an_error_code_says_more_than_its_status(status: int, code: str, kind: type[StoreError], said: str) -> None:
    with (
        scripted_server(lambda handler: handler.send(b"", status, x_ms_error_code=code)) as server,
        pytest.raises(StoreError, match=said) as caught,
    ):
        store_at(server).read("x", 0, 10)
    assert type(caught.value) is kind
    assert code in str(caught.value)


def test_an_answer_that_nobody_foresaw_is_given_with_its_code() -> None:
    with (
        scripted_server(lambda handler: handler.send(b"", 400, x_ms_error_code="NewCode")) as server,
        pytest.raises(StoreError, match="HTTP 400 NewCode"),
    ):
        store_at(server).read("x", 0, 10)


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


@pytest.mark.parametrize("etag", ['1"\r\nx-other: "', "1\n", "1\0", "ü"])
def test_an_etag_that_can_be_no_header_is_another_one(etag: str) -> None:
    with scripted_server(lambda handler: handler.send_blob(CONTENT)) as server:
        store = store_at(server)
        with pytest.raises(BlobChanged, match="etag"):
            store.read("x", 0, 10, etag=etag)
        with pytest.raises(BlobChanged, match="etag"):
            store.read_all_into([RangeRead("x", memoryview(bytearray(10)), etag=etag) for _ in range(2)])
    assert server.requests == []


@pytest.mark.parametrize("body_bytes", [10, 10_000_000])
def test_the_body_of_an_error_goes_nowhere(body_bytes: int) -> None:
    buffer = memoryview(bytearray(100))
    with scripted_server(
        lambda handler: handler.send(b"x" * body_bytes, 404, x_ms_error_code="BlobNotFound")
    ) as server:
        store = store_at(server, timeout=5)
        for _ in range(2):
            with pytest.raises(BlobMissing):
                store.read_into("x", buffer)
    assert bytes(buffer) == bytes(100)
    assert server.connections == (1 if body_bytes == 10 else 2)


def in_chunks(*chunks: bytes, said: int) -> bytes:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{said - 1}/99\r\nx-ms-version: 2021-12-02\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@pytest.mark.parametrize(
    "raw",
    [
        in_chunks(b"01234", b"56789", said=10),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Range: bytes 5-6/7\r\n\r\n"
        + in_chunks(b"0123456789", said=10),
        in_chunks(b"0123456789", said=10)[:-5],
        b"HTTP/1.0 206 Partial\ncontent-RANGE:bytes 0-9/99\nVia: HTTP/1.1 proxy\n\n0123456789",
    ],
    ids=["chunks", "interim answers", "without the last chunk", "until the connection ends"],
)
def test_an_answer_may_come_in_any_form_of_http(raw: bytes) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(raw)
        handler.close_connection = True

    with scripted_server(answer) as server:
        assert store_at(server).read("x", 0, 20) == b"0123456789"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/99\r\n",
        b"HTTP/1.1 206 Partial\r\nETag: 1\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/99\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/99\r\nContent-Length: ten\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\n" + b"A: b\r\n" * 200_000 + b"\r\n",
        in_chunks(b"012345678", said=10),
        in_chunks(b"0123456789", said=10)[:-9],
    ],
    ids=[
        "nothing",
        "no HTTP",
        "head cut",
        "head cut early",
        "no body",
        "no number",
        "endless head",
        "too short",
        "chunk cut",
    ],
)
def test_an_answer_that_is_broken_is_asked_for_again_and_never_taken(raw: bytes) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(raw)
        handler.close_connection = True

    buffer = memoryview(bytearray(20))
    with scripted_server(answer) as server:
        # A server that has sent nine bytes of ten is asked for the last one.
        with pytest.raises(StoreError, match=r"broke off|did not answer|reset|another range"):
            store_at(server).read_into("x", buffer[:10])
        assert len(server.requests) > 1
    assert bytes(buffer[10:]) == bytes(10)


@pytest.mark.parametrize("chunks", [[b"01234567890"], [b"0123456789", b"0"]])
def test_an_answer_that_is_longer_than_it_says_is_not_taken(chunks: list[bytes]) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(in_chunks(*chunks, said=10))

    with scripted_server(answer) as server:
        store = store_at(server)
        with pytest.raises(StoreError, match="another range"):
            store.read("x", 0, 10)
        with pytest.raises(StoreError, match="another range"):
            store.read_all_into([RangeRead("x", memoryview(bytearray(10))) for _ in range(2)])


def test_a_process_with_many_open_files_reads_all_the_same() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with contextlib.ExitStack() as stack, scripted_server(lambda handler: handler.send_blob(CONTENT)) as server:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.callback(os.close, os.dup(0))
        assert store_at(server).read("x", 0, len(CONTENT)) == CONTENT
