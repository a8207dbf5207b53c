"""What every store promises, tried on a local folder, a container of Azurite, and a part of one."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from azure.storage.blob import BlobBlock
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.services import Azurite, Container
from support.store_reads import read_whole

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.errors import BlobChanged, BlobMissing, StoreError, StoreMissing
from imgsyncfs.stores.azure.store import AzureStore
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.contract import BlobInfo, RangeRead, Store
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store

CONTENT = random.Random(1).randbytes(10_000)
ODD_NAMES = [
    "a b.jpg",
    "ü/日本.jpg",
    "100%25.jpg",
    "a%2Fb",
    "x#y?z&w=v;u",
    "plus+plus",
    "tilde~",
    "quote'\"",
    "new\nline",
]
HOSTILE_NAMES = ["", "..", "../x", "a/../../x", "a/..", "./a", "nul\0", "surrogate\ud800", "x" * 1025]


def credentials(azurite: Azurite) -> StoreCredentials:
    return StoreCredentials(connection_string=azurite.connection_string)


@pytest.fixture(params=["local", "azure", "azure prefix"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "local":
        opened = open_store((request.getfixturevalue("tmp_path") / "store folder").as_uri())
    else:
        container: Container = request.getfixturevalue("container")
        prefix = "/some/prefix of ours" if request.param == "azure prefix" else ""
        opened = open_store(container.url + prefix, credentials=credentials(container.azurite))
    opened.create()
    yield opened
    opened.close()


@pytest.fixture(params=["local", "azure"])
def missing_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store whose folder or container is not there."""
    if request.param == "local":
        opened = open_store((request.getfixturevalue("tmp_path") / "none" / "such").as_uri())
    else:
        azurite: Azurite = request.getfixturevalue("azurite")
        opened = open_store(f"azure://{azurite.account}/none-{uuid.uuid4().hex}", credentials=credentials(azurite))
    yield opened
    opened.close()


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_what_was_written_is_read_back(store: Store) -> None:
    store.write("dataset/image.jpg", CONTENT)

    assert read_whole(store, "dataset/image.jpg") == CONTENT


def test_a_file_is_written_as_well_as_bytes_are(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "source"
    file.write_bytes(CONTENT)

    written = store.write("x", file, md5=md5_of(CONTENT))

    assert read_whole(store, "x") == CONTENT
    assert written.byte_count == len(CONTENT)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(offset=len(CONTENT), length=1)
@example(offset=len(CONTENT) + 1, length=1)
@example(offset=len(CONTENT) - 1, length=2)
@given(offset=st.integers(0, len(CONTENT) + 5), length=st.integers(0, len(CONTENT) + 5))
def test_any_range_is_the_slice_of_the_content(store: Store, offset: int, length: int) -> None:
    store.write("x", CONTENT)

    if length != 0 and offset >= len(CONTENT):
        with pytest.raises(BlobChanged):
            store.read("x", offset, length)
        with pytest.raises(BlobChanged):
            store.read_into("x", memoryview(bytearray(length)), offset)
    else:
        assert store.read("x", offset, length) == CONTENT[offset : offset + length]
        buffer = memoryview(bytearray(length))
        assert buffer[: store.read_into("x", buffer, offset)] == CONTENT[offset : offset + len(buffer)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(offset=0, length=len(CONTENT), buffer=len(CONTENT))
@example(offset=0, length=len(CONTENT) + 1, buffer=len(CONTENT))
@example(offset=len(CONTENT), length=1, buffer=1)
@given(offset=st.integers(0, len(CONTENT) + 5), length=st.integers(0, len(CONTENT) + 5), buffer=st.integers(1, 300))
def test_the_parts_of_any_range_are_slices_of_the_content(store: Store, offset: int, length: int, buffer: int) -> None:
    store.write("x", CONTENT)

    if length and offset >= len(CONTENT):
        with pytest.raises(BlobChanged):
            parts_of(store, "x", offset, length, buffer)
    else:
        expected = CONTENT[offset : offset + length]
        assert parts_of(store, "x", offset, length, buffer) == [
            expected[start : start + buffer] for start in range(0, len(expected), buffer)
        ]


def parts_of(store: Store, blob: str, offset: int, length: int, buffer_bytes: int, *, etag: str = "") -> list[bytes]:
    """Read a range part by part; the number of bytes and of answers is checked."""
    buffer = memoryview(bytearray(buffer_bytes))
    parts: list[bytes] = []
    answers: list[int] = []
    whole = RangeInParts(
        buffer,
        offset,
        length,
        take=lambda byte_count: parts.append(bytes(buffer[:byte_count])),
        answered=lambda: answers.append(len(parts)),
    )
    store.read_parts(blob, whole, etag=etag)
    assert whole.received == sum(map(len, parts))
    assert answers == [0] if parts else len(answers) <= 1
    return parts


def test_a_blob_that_is_read_part_by_part_must_be_there_and_the_right_one(store: Store) -> None:
    store.write("x", CONTENT)
    store.write("empty", b"")

    assert parts_of(store, "empty", 0, 10, 5) == []
    assert b"".join(parts_of(store, "x", 0, 10, 5, etag=store.describe("x").etag)) == CONTENT[:10]
    with pytest.raises(BlobMissing, match="Blob y is missing"):
        parts_of(store, "y", 0, 10, 5)
    with pytest.raises(BlobChanged, match="etag"):
        parts_of(store, "x", 0, 10, 5, etag="0x1")
    with pytest.raises(ValueError, match="range"):
        parts_of(store, "x", 0, -1, 5)


def test_ranges_that_are_read_together_are_the_slices_of_their_blobs(store: Store) -> None:
    store.write("x", CONTENT)
    store.write("y", CONTENT[::-1])
    store.write("empty", b"")
    buffer = memoryview(bytearray(100))
    reads = [
        RangeRead("x", buffer[:10], 10, store.describe("x").etag),
        RangeRead("y", buffer[10:60], len(CONTENT) - 5),
        RangeRead("x", buffer[60:60], 20),
        RangeRead("empty", buffer[60:70]),
        RangeRead("y", buffer[70:]),
    ]

    assert store.read_all_into(reads) == [10, 5, 0, 0, 30]
    assert buffer[:10] == CONTENT[10:20]
    assert buffer[10:15] == CONTENT[4::-1]
    assert buffer[70:] == CONTENT[:-31:-1]


def test_what_is_wrong_with_one_of_several_ranges_is_said(store: Store) -> None:
    store.write("x", CONTENT)
    good = RangeRead("x", memoryview(bytearray(10)))

    with pytest.raises(BlobMissing, match="Blob y is missing"):
        store.read_all_into([good, RangeRead("y", memoryview(bytearray(10))), good])
    with pytest.raises(BlobChanged):
        store.read_all_into([good, RangeRead("x", memoryview(bytearray(10)), len(CONTENT)), good])
    with pytest.raises(BlobChanged, match="etag"):
        store.read_all_into([good, RangeRead("x", memoryview(bytearray(10)), etag="0x1"), good])


def test_a_range_that_starts_before_the_blob_is_a_mistake_of_the_caller(store: Store) -> None:
    with pytest.raises(ValueError, match="range"):
        store.read("x", -1, 1)
    with pytest.raises(ValueError, match="range"):
        store.read("x", 0, -1)


def test_an_empty_blob_is_read_from_its_beginning(store: Store) -> None:
    written = store.write("empty", b"")

    assert written.byte_count == 0
    assert read_whole(store, "empty") == store.read("empty", 0, 10) == b""
    with pytest.raises(BlobChanged):
        store.read("empty", 1, 10)


def test_a_blob_that_is_not_there_is_missing(store: Store) -> None:
    store.write("folder/x", CONTENT)

    for blob in ("y", "folder", "folder/y", "folder/x/y"):
        with pytest.raises(BlobMissing, match=rf"Blob {blob} is missing in .*; .*publish"):
            read_whole(store, blob)
        with pytest.raises(BlobMissing):
            store.read_into(blob, memoryview(bytearray(5000)))
        with pytest.raises(BlobMissing):
            store.describe(blob)


def test_reading_with_the_right_etag_works_and_with_another_does_not(store: Store) -> None:
    store.write("x", CONTENT)
    etag = store.describe("x").etag

    assert store.read("x", 10, 10, etag=etag) == CONTENT[10:20]
    with pytest.raises(BlobChanged, match="etag"):
        store.read("x", 10, 10, etag=etag[:-1] + ("0" if etag[-1] != "0" else "1"))
    with pytest.raises(BlobChanged, match="etag"):
        store.read_into("x", memoryview(bytearray(10)), etag=etag[:-1] + ("0" if etag[-1] != "0" else "1"))


def test_write_describe_and_list_tell_the_same_about_a_blob(store: Store) -> None:
    before = int(time.time())
    written = store.write("folder/x", CONTENT)
    described = store.describe("folder/x")

    assert described == next(iter(store.list()))
    assert dataclasses.replace(described, md5=written.md5) == written
    assert written.md5 == md5_of(CONTENT)
    assert described.md5 in ("", written.md5)
    assert described.byte_count == len(CONTENT)
    assert before - 2 <= described.modified_at <= time.time() + 2


def test_writing_the_same_again_keeps_the_blob(store: Store) -> None:
    store.write("x", CONTENT)
    first = store.describe("x")

    again = store.write("x", CONTENT, md5=md5_of(CONTENT))

    assert dataclasses.replace(again, md5=first.md5) == first == store.describe("x")


@pytest.mark.parametrize("other", [b"", CONTENT[:-1], CONTENT + b"x", b"x" * (5 * MEBIBYTE)])
def test_a_blob_is_never_replaced_by_one_of_another_length(store: Store, other: bytes) -> None:
    store.write("x", CONTENT)

    with pytest.raises(BlobChanged, match="another one has that name"):
        store.write("x", other)

    assert read_whole(store, "x") == CONTENT


def test_a_blob_is_never_taken_for_one_of_the_same_length_with_another_digest(store: Store) -> None:
    store.write("x", CONTENT)
    other = CONTENT[::-1]

    with pytest.raises(BlobChanged):
        store.write("x", other, md5=md5_of(other))

    assert read_whole(store, "x") == CONTENT


@pytest.mark.parametrize("size", [10, 9 * MEBIBYTE])
def test_content_that_is_not_what_its_digest_says_is_not_written(store: Store, size: int) -> None:
    with pytest.raises(BlobChanged, match="md5"):
        store.write("folder/x", b"x" * size, md5=md5_of(b"y" * size))

    assert list(store.list()) == []


def test_a_source_file_that_cannot_be_read_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"File .*/nowhere cannot be read: No such file"):
        store.write("x", tmp_path / "nowhere")

    assert list(store.list()) == []


@pytest.mark.parametrize("change", [-1, 1])
def test_a_source_file_whose_length_changes_meanwhile_is_not_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    file = tmp_path / "source"
    file.write_bytes(b"x" * (5 * MEBIBYTE + change))
    real_size = 5 * MEBIBYTE

    class Status:
        st_size = real_size

    monkeypatch.setattr(os, "fstat", lambda _descriptor: Status)

    with pytest.raises(BlobChanged, match="not what it was"):
        store.write("x", file)

    monkeypatch.undo()
    assert list(store.list()) == []


def test_a_large_file_takes_little_memory(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "large"
    content = random.Random(2).randbytes(24 * MEBIBYTE + 17)
    file.write_bytes(content)
    store.write("warm up", b"x")
    tracemalloc.start()
    try:
        written = store.write("large", file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 16 * MEBIBYTE
    assert written.md5 == md5_of(content)
    assert store.read("large", 0, len(content)) == content
    assert dataclasses.replace(store.describe("large"), md5=written.md5) == written


def test_writers_of_one_blob_at_once_agree_on_it(store: Store) -> None:
    contents = [bytes([number]) * (5 * MEBIBYTE) for number in range(4)]
    at_once = threading.Barrier(len(contents))

    def write(content: bytes) -> BlobInfo | BlobChanged:
        at_once.wait(30)
        try:
            return store.write("x", content, md5=md5_of(content))
        except BlobChanged as error:
            return error

    with ThreadPoolExecutor(len(contents)) as threads:
        results = list(threads.map(write, contents))

    winners = [content for content, result in zip(contents, results, strict=True) if isinstance(result, BlobInfo)]
    assert [read_whole(store, "x")] == winners
    assert [info.blob for info in store.list()] == ["x"]


def test_writers_of_the_same_content_at_once_all_succeed(store: Store) -> None:
    content = b"x" * (5 * MEBIBYTE)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: store.write("x", content, md5=md5_of(content)), range(4)))

    assert {info.byte_count for info in results} == {len(content)}
    assert read_whole(store, "x") == content


def test_many_threads_may_use_one_store(store: Store) -> None:
    def there_and_back(number: int) -> bool:
        content = CONTENT[number:]
        store.write(f"folder {number % 3}/{number}", content)
        return read_whole(store, f"folder {number % 3}/{number}") == content

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(there_and_back, range(64)))
    assert len(list(store.list())) == 64


def test_list_gives_every_blob_once(store: Store) -> None:
    if isinstance(store, AzureStore):
        store.list_page_blobs = 3
    names = [f"{folder}{number}" for folder in ("", "a/", "a/b/", "c/d/e/") for number in range(4)]
    for name in names:
        store.write(name, name.encode())

    listed = list(store.list())

    assert sorted(info.blob for info in listed) == sorted(names)
    assert all(info.byte_count == len(info.blob) for info in listed)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("a", ["a/b/x", "a/x", "ab/x", "a.jpg"]),
        ("a/", ["a/b/x", "a/x"]),
        ("a/b", ["a/b/x"]),
        ("a/x", ["a/x"]),
        ("a/x/", []),
        ("b", []),
        ("z/y/", []),
    ],
)
def test_list_takes_any_beginning_of_a_name(store: Store, prefix: str, expected: list[str]) -> None:
    for name in ("a/b/x", "a/x", "ab/x", "a.jpg", "c/a/x"):
        store.write(name, b"x")

    assert sorted(info.blob for info in store.list(prefix)) == sorted(expected)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back_as_they_went(store: Store, name: str) -> None:
    store.write(name, CONTENT)

    assert store.read(name, 5, 5) == CONTENT[5:10]
    assert store.describe(name).blob == name
    assert [info.blob for info in store.list()] == [name]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_could_lead_elsewhere_is_refused(store: Store, name: str) -> None:
    for use in (lambda blob: read_whole(store, blob), store.describe, lambda blob: store.write(blob, b"x")):
        with pytest.raises(StoreError, match=r"cannot be used in .*: it "):
            use(name)


def test_a_blob_outside_the_prefix_is_not_seen(container: Container) -> None:
    whole = open_store(container.url, credentials=credentials(container.azurite))
    part = open_store(container.url + "/part/", credentials=credentials(container.azurite))
    whole.write("x", b"outside")
    whole.write("partial", b"outside")
    part.write("x", b"inside")

    assert read_whole(part, "x") == read_whole(whole, "part/x") == b"inside"
    assert [info.blob for info in part.list()] == ["x"]
    assert sorted(info.blob for info in whole.list()) == ["part/x", "partial", "x"]


def test_markers_of_folders_are_no_blobs(container: Container) -> None:
    with container.azurite.client() as client:
        client.get_blob_client(container.name, "folder/").upload_blob(b"")
        client.get_blob_client(container.name, "made").upload_blob(b"", metadata={"hdi_isfolder": "true"})
        client.get_blob_client(container.name, "made/x").upload_blob(b"content")
        client.get_blob_client(container.name, "empty").upload_blob(b"")
    store = open_store(container.url, credentials=credentials(container.azurite))

    assert sorted(info.blob for info in store.list()) == ["empty", "made/x"]


def test_blobs_that_others_put_there_are_described_with_and_without_digest(container: Container) -> None:
    with container.azurite.client() as client:
        client.get_blob_client(container.name, "with").upload_blob(CONTENT)
        # Blocks make a blob without Content-MD5.
        without = client.get_blob_client(container.name, "without")
        without.stage_block("MQ==", CONTENT)
        without.commit_block_list([BlobBlock(block_id="MQ==")])
    store = open_store(container.url, credentials=credentials(container.azurite))

    assert {info.blob: info.md5 for info in store.list()} == {"with": md5_of(CONTENT), "without": ""}
    assert store.describe("without").md5 == ""
    assert read_whole(store, "without", etag=store.describe("without").etag) == CONTENT


def test_the_digest_is_kept_with_a_large_blob_too(container: Container) -> None:
    store = open_store(container.url, credentials=credentials(container.azurite))
    content = b"x" * (9 * MEBIBYTE)

    store.write("large", content)

    assert store.describe("large").md5 == md5_of(content)


def test_an_account_key_opens_a_container(container: Container) -> None:
    azurite = container.azurite
    store = open_store(
        container.url, credentials=StoreCredentials(account_key=azurite.key, endpoint=azurite.endpoint + "/")
    )

    store.write("x", CONTENT)

    assert read_whole(store, "x") == CONTENT


def test_a_store_that_is_not_there_is_missing(missing_store: Store) -> None:
    uses: list[Callable[[], object]] = [
        missing_store.check,
        lambda: read_whole(missing_store, "x"),
        lambda: missing_store.describe("x"),
        lambda: missing_store.write("folder/x", b"x"),
        lambda: missing_store.write("folder/x", b"x" * (5 * MEBIBYTE)),
        lambda: list(missing_store.list()),
        lambda: list(missing_store.list("x/y")),
    ]
    for use in uses:
        with pytest.raises(StoreMissing, match=r"Store \S+ is not there .*; check"):
            use()


def test_create_makes_a_store_once(missing_store: Store) -> None:
    missing_store.create()
    missing_store.write("x", CONTENT)
    missing_store.create()

    missing_store.check()
    assert read_whole(missing_store, "x") == CONTENT
