"""A worker's side of fetching: extents verified, kept, and told of as they come."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from imgsyncfs.blob_layout import EXTENT_BYTES, make_seal
from imgsyncfs.cache import CacheReader, prepare_cache
from imgsyncfs.errors import BlobChanged, BlobMissing, StoreNotAllowed, StoreRefused
from imgsyncfs.fetching.extent import Extent, Member
from imgsyncfs.fetching.job import Job, Outcome, read_outcomes
from imgsyncfs.fetching.queue import LOW_LATENCY_SECONDS
from imgsyncfs.fetching.worker import ExtentFetcher
from imgsyncfs.stores.contract import RangeRead
from imgsyncfs.stores.local import LocalStore

SIZE_LIMIT = 1 << 30


@pytest.fixture
def cache(tmp_path: Path) -> CacheReader:
    """An empty cache."""
    prepare_cache(tmp_path / "extents")
    return CacheReader(tmp_path / "extents")


def worker_on(tmp_path: Path, *, size_limit: int = SIZE_LIMIT) -> ExtentFetcher:
    """A worker's side, without the process around it, over a local store with one blob."""
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store" / "blob").write_bytes(b"0123456789")
    return ExtentFetcher(
        {
            "cache_folder": str(tmp_path / "extents"),
            "size_limit": size_limit,
            "keep_free": 0,
            "timeout": 5.0,
            "stores": {},
            "allowed_stores": [f"file://{tmp_path}/allowed"],
        }
    )


@pytest.fixture
def worker(tmp_path: Path, cache: CacheReader) -> ExtentFetcher:  # it makes the folder
    """A worker with room."""
    return worker_on(tmp_path)


def extent_of(tmp_path: Path, blob: str = "blob", *, members: tuple[Member, ...] = (), version: str = "") -> Extent:
    return Extent(f"file://{tmp_path}/store", blob, 0, 10, version, members=lambda: members)


def job_for(extents: Sequence[Extent], *, inline: bool = False, own_store: str = "") -> dict[str, Any]:
    return {"job": Job(extents, own_store or extents[0].store, inline=inline).to_fields()}


def nobody(_part: dict[str, Any], _payload: bytes) -> None:
    pass


def ask(worker: ExtentFetcher, extent: Extent, *, inline: bool = False) -> tuple[dict[str, Any], bytes]:
    return worker.handle(job_for([extent], inline=inline), nobody)


def pack_of(tmp_path: Path, *contents: bytes) -> list[Extent]:
    """Publish a pack; its extents, in order."""
    (tmp_path / "store" / "a.pack").write_bytes(b"".join(contents))
    store = f"file://{tmp_path}/store"
    return [Extent(store, "a.pack", number * EXTENT_BYTES, None) for number in range(len(contents))]


def test_a_worker_brings_an_extent_into_the_cache(worker: ExtentFetcher, cache: CacheReader, tmp_path: Path) -> None:
    result, content = ask(worker, extent_of(tmp_path))
    assert (result["stored"], result["lengths"], content) == ([True], [0], b"")
    assert (result["requests"], result["bytes"]) == (1, 10)
    extent = cache.find(extent_of(tmp_path).key)
    assert extent is not None
    assert extent.read(2, 3) == b"234"


def test_a_worker_asks_the_store_only_for_what_the_cache_has_not(worker: ExtentFetcher, tmp_path: Path) -> None:
    ask(worker, extent_of(tmp_path))
    (tmp_path / "store" / "blob").unlink()
    result, content = ask(worker, extent_of(tmp_path), inline=True)
    assert (result["requests"], content) == (0, b"0123456789")


def test_content_that_the_catalog_describes_otherwise_is_refused_and_not_kept(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    right = hashlib.md5(b"0123456789").hexdigest()
    ask(worker, extent_of(tmp_path, members=((0, 10, right),)))
    wrong = extent_of(tmp_path, version="2", members=((0, 5, right),))
    with pytest.raises(BlobChanged, match="md5"):
        ask(worker, wrong)
    assert cache.find(wrong.key) is None


def test_a_blob_that_is_shorter_or_gone_is_told_apart(worker: ExtentFetcher, tmp_path: Path) -> None:
    with pytest.raises(BlobChanged, match="shorter"):
        ask(worker, Extent(f"file://{tmp_path}/store", "blob", 0, 11))
    with pytest.raises(BlobMissing):
        ask(worker, extent_of(tmp_path, blob="other"))


def test_a_worker_says_how_soon_each_store_has_answered(worker: ExtentFetcher, tmp_path: Path) -> None:
    fill_store(tmp_path / "allowed")
    first = extent_of(tmp_path)
    second = first._replace(store=f"file://{tmp_path}/allowed")
    result, _ = worker.handle(job_for([first, second]), nobody)
    assert {*result["latencies"]} == {first.store, second.store}
    assert all(0 < seconds < 5 for seconds in result["latencies"].values())


class BusyStore(LocalStore):
    """A store that answers at once the first time, and later after others' requests."""

    is_busy = False

    def read_all_into(self, reads: Sequence[RangeRead], *, answered: Callable[[], None] = lambda: None) -> list[int]:
        if self.is_busy:
            threading.Event().wait(1.5 * LOW_LATENCY_SECONDS)
        self.is_busy = True
        return super().read_all_into(reads, answered=answered)


def test_a_near_store_that_many_jobs_keep_busy_is_not_taken_for_a_far_one(
    worker: ExtentFetcher, tmp_path: Path
) -> None:
    store = f"file://{tmp_path}/store"
    worker._stores[store, store] = BusyStore(store)
    for number in range(60):
        job = job_for([checkable(tmp_path, version=f"{number} {index}") for index in range(16)])
        latencies = worker.handle(job, nobody)[0]["latencies"]
    assert latencies[store] < LOW_LATENCY_SECONDS


def checkable(tmp_path: Path, *, version: str) -> Extent:
    md5 = hashlib.md5(b"0123456789").hexdigest()
    return extent_of(tmp_path, members=((0, 10, md5),), version=version)


def test_a_worker_asks_for_each_small_blob_and_keeps_them_together(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    (tmp_path / "store" / "other").write_bytes(b"abcdefghij")
    both = [extent_of(tmp_path), extent_of(tmp_path, blob="other")]

    result, _ = worker.handle(job_for(both), nobody)

    assert (result["stored"], result["requests"], result["bytes"]) == ([True, True], 2, 20)
    assert all(cache.holds(each.key) for each in both)


def test_each_extent_of_a_request_is_kept_and_told_of_before_the_next_one_comes(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    requests = pack_of(tmp_path, b"a" * EXTENT_BYTES, b"b" * EXTENT_BYTES, b"c" * 100)
    told: list[tuple[list[tuple[int, Outcome]], list[bool]]] = []

    def tell(words: dict[str, Any], payload: bytes) -> None:
        told.append((list(read_outcomes(words, payload)), [cache.holds(each.key) for each in requests]))

    result, payload = worker.handle(job_for(requests), tell)

    assert told == [
        ([(0, Outcome(True, b""))], [True, False, False]),
        ([(1, Outcome(True, b""))], [True, True, False]),
    ]
    assert list(read_outcomes(result, payload)) == [(2, Outcome(True, b""))]
    assert (result["requests"], result["bytes"]) == (1, 2 * EXTENT_BYTES + 100)
    assert [cache.find(each.key).read(0, 1) for each in requests] == [b"a", b"b", b"c"]  # type: ignore[union-attr]  # held


def test_extents_that_came_before_a_wrong_one_are_kept(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    first, second = pack_of(tmp_path, b"a" * EXTENT_BYTES, b"b" * 100)
    told: list[int] = []

    def tell(words: dict[str, Any], _payload: bytes) -> None:
        told.extend(words["extents"])

    with pytest.raises(BlobChanged, match=f"byte {EXTENT_BYTES}"):
        worker.handle(job_for([first, second._replace(members=lambda: ((EXTENT_BYTES, 100, "0" * 32),))]), tell)

    assert told == [0]
    assert (cache.holds(first.key), cache.holds(second.key)) == (True, False)


def test_contents_are_told_along_when_they_are_asked_for_or_have_no_room(tmp_path: Path, cache: CacheReader) -> None:
    tiny = worker_on(tmp_path, size_limit=1000)
    contents = [b"a" * EXTENT_BYTES, b"b" * EXTENT_BYTES, b"c" * 100]
    told: list[tuple[int, Outcome]] = []

    def tell(words: dict[str, Any], payload: bytes) -> None:
        told.extend(read_outcomes(words, payload))

    requests = pack_of(tmp_path, *contents)
    result, payload = tiny.handle(job_for(requests, inline=True), tell)

    told.extend(read_outcomes(result, payload))
    assert [(number, outcome.content) for number, outcome in told] == list(enumerate(contents))
    assert not told[0][1].stored
    assert not any(cache.holds(each.key) for each in requests[:2])


def test_extents_beyond_the_end_of_a_pack_are_empty(worker: ExtentFetcher, tmp_path: Path) -> None:
    requests = pack_of(tmp_path, b"a" * EXTENT_BYTES, b"")

    result, payload = worker.handle(job_for(requests, inline=True), nobody)

    assert list(read_outcomes(result, payload)) == [(1, Outcome(True, b""))]


def sealed_pack(tmp_path: Path, content: bytes) -> Extent:
    """Publish one file in a pack; its extent has another MD5 of it."""
    blob = "d/images-0123456789abcdef.pack"
    (tmp_path / "store" / "d").mkdir()
    (tmp_path / "store" / blob).write_bytes(content + make_seal(blob, 0, content))
    return Extent(f"file://{tmp_path}/store", blob, 0, None, members=lambda: ((0, len(content), "0" * 32),))


def test_an_extent_with_its_seal_is_taken_without_computing_md5(worker: ExtentFetcher, tmp_path: Path) -> None:
    result, _ = ask(worker, sealed_pack(tmp_path, b"content"))
    assert result["stored"] == [True]


def test_an_extent_whose_seal_is_broken_is_checked_by_md5(worker: ExtentFetcher, tmp_path: Path) -> None:
    asked = sealed_pack(tmp_path, b"content")
    path = tmp_path / "store" / asked.blob
    path.write_bytes(b"C" + path.read_bytes()[1:])
    with pytest.raises(BlobChanged, match="md5"):
        ask(worker, asked)


def test_a_sealed_extent_that_is_shorter_than_its_files_is_refused(worker: ExtentFetcher, tmp_path: Path) -> None:
    asked = sealed_pack(tmp_path, b"content")._replace(members=lambda: ((0, 500, ""),))
    with pytest.raises(BlobChanged, match="shorter"):
        ask(worker, asked)


def fill_store(folder: Path) -> str:
    """A local store with the blob that `request` asks for; its URL."""
    folder.mkdir()
    (folder / "blob").write_bytes(b"0123456789")
    return folder.as_uri()


@pytest.mark.parametrize("blobs", [1, 3])
def test_a_store_that_the_catalog_may_not_name_is_not_read(worker: ExtentFetcher, tmp_path: Path, blobs: int) -> None:
    other = fill_store(tmp_path / "other")
    asked = [extent_of(tmp_path, blob="blob", version=str(number)) for number in range(blobs)]
    job = job_for([each._replace(store=other) for each in asked], own_store=f"file://{tmp_path}/store")
    with pytest.raises(StoreNotAllowed, match=rf"{other} is neither .* add --allow-store {other}, or"):
        worker.handle(job, nobody)
    with pytest.raises(StoreNotAllowed):
        worker.handle({"check": other, "own_store": f"file://{tmp_path}/store"}, nobody)


def test_the_catalogs_own_store_and_those_that_are_allowed_are_read(worker: ExtentFetcher, tmp_path: Path) -> None:
    allowed = fill_store(tmp_path / "allowed")
    for store in (f"file://{tmp_path}/store", allowed):
        job = job_for([extent_of(tmp_path)._replace(store=store)], own_store=f"file://{tmp_path}/store")
        assert worker.handle(job, nobody)[0]["stored"] == [True]


def test_a_store_that_was_the_catalogs_own_is_not_read_any_more(worker: ExtentFetcher, tmp_path: Path) -> None:
    asked = extent_of(tmp_path)
    assert worker.handle(job_for([asked]), nobody)[0]["bytes"] == 10
    with pytest.raises(StoreNotAllowed):
        worker.handle(job_for([asked._replace(version="other")], own_store="file:///elsewhere"), nobody)


def test_a_link_in_the_own_store_is_no_way_to_a_store_elsewhere(worker: ExtentFetcher, tmp_path: Path) -> None:
    fill_store(tmp_path / "other")
    (tmp_path / "store/link").symlink_to(tmp_path / "other")
    asked = extent_of(tmp_path)._replace(store=f"file://{tmp_path}/store/link")
    with pytest.raises(StoreRefused, match="leads out"):
        worker.handle(job_for([asked], own_store=f"file://{tmp_path}/store"), nobody)


def test_keys_of_the_environment_are_not_sent_to_a_store_that_is_not_allowed(
    worker: ExtentFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        monkeypatch.setenv("IMGSYNCFS_AZURE_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sig=SECRET")
        asked = extent_of(tmp_path)._replace(store="azure://somebody/container")
        with pytest.raises(StoreNotAllowed):
            worker.handle(job_for([asked], own_store="azure://account/container"), nobody)
        with pytest.raises(BlockingIOError):
            listener.accept()
