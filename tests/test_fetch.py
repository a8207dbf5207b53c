"""Fetching extents: once for all readers, verified, within a time limit, with pauses for a store that is away."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from imgsyncfs.cache import CacheReader, prepare_cache
from imgsyncfs.errors import BlobChanged, BlobMissing, StoreUnreachable
from imgsyncfs.extents import EXTENT_BYTES, WHOLE_BLOB_BYTES, extent_range
from imgsyncfs.fetch import ExtentFetcher, ExtentRequest, Fetcher
from imgsyncfs.workers import Answer, WorkerPool

SIZE_LIMIT = 1 << 30


class HandPool:
    """A pool whose answers the test gives by hand: the fault injected is a store's slowness."""

    def __init__(self) -> None:
        self.jobs: list[tuple[dict[str, Any], Future[Answer]]] = []
        self.arrived = threading.Semaphore(0)

    def submit(self, arguments: dict[str, Any]) -> Future[Answer]:
        """Keep a job for the test."""
        future: Future[Answer] = Future()
        self.jobs.append((arguments, future))
        self.arrived.release()
        return future


@pytest.fixture
def cache(tmp_path: Path) -> CacheReader:
    """An empty cache."""
    prepare_cache(tmp_path / "extents", size_limit=SIZE_LIMIT)
    return CacheReader(tmp_path / "extents")


@pytest.fixture
def worker(tmp_path: Path, cache: CacheReader) -> ExtentFetcher:
    """A worker's side, without the process around it, over a local store with one blob."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").write_bytes(b"0123456789")
    return ExtentFetcher(
        {"cache_folder": str(tmp_path / "extents"), "size_limit": SIZE_LIMIT, "timeout": 5.0, "stores": {}}
    )


def request(tmp_path: Path, blob: str = "blob", **fields: Any) -> ExtentRequest:
    return ExtentRequest(f"file://{tmp_path}/store", blob, 0, 10, **fields)


def ask(worker: ExtentFetcher, asked: ExtentRequest, *, inline: bool = False) -> Answer:
    return worker.handle({"request": asdict(asked), "inline": inline})


def hand_fetcher(cache: CacheReader, *, timeout: float = 20.0) -> tuple[Fetcher, HandPool]:
    pool = HandPool()
    return Fetcher(cache, cast("WorkerPool", pool), timeout=timeout), pool


def test_a_worker_brings_an_extent_into_the_cache(worker: ExtentFetcher, cache: CacheReader, tmp_path: Path) -> None:
    result, content = ask(worker, request(tmp_path))
    assert (result, content) == ({"stored": True, "requests": 1, "bytes": 10}, b"")
    extent = cache.find(request(tmp_path).key)
    assert extent is not None
    assert extent.read(2, 3) == b"234"


def test_a_worker_asks_the_store_only_for_what_the_cache_has_not(worker: ExtentFetcher, tmp_path: Path) -> None:
    ask(worker, request(tmp_path))
    (tmp_path / "store" / "blob").unlink()
    result, content = ask(worker, request(tmp_path), inline=True)
    assert (result["requests"], content) == (0, b"0123456789")


def test_content_that_the_catalog_describes_otherwise_is_refused_and_not_kept(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    right = hashlib.md5(b"0123456789").hexdigest()
    ask(worker, request(tmp_path, members=((0, 10, right),)))
    wrong = request(tmp_path, version="2", members=((0, 5, right),))
    with pytest.raises(BlobChanged, match="md5"):
        ask(worker, wrong)
    assert cache.find(wrong.key) is None


def test_a_blob_that_is_shorter_or_gone_is_told_apart(worker: ExtentFetcher, tmp_path: Path) -> None:
    with pytest.raises(BlobChanged, match="shorter"):
        ask(worker, ExtentRequest(f"file://{tmp_path}/store", "blob", 0, 11))
    with pytest.raises(BlobMissing):
        ask(worker, request(tmp_path, blob="other"))


def test_readers_of_one_extent_cause_one_request(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    with ThreadPoolExecutor(8) as readers:
        extents = [readers.submit(fetcher.extent, request(tmp_path)) for _ in range(8)]
        while fetcher.counts().waiting < 8:
            assert not any(extent.done() for extent in extents)
        pool.jobs[0][1].set_result(({"stored": False, "requests": 1, "bytes": 10}, b"0123456789"))
        assert [extent.result(10).read(0, 10) for extent in extents] == [b"0123456789"] * 8
    assert len(pool.jobs) == 1


def test_an_extent_that_could_not_be_cached_is_read_all_the_same(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    with ThreadPoolExecutor(1) as reader:
        extent = reader.submit(fetcher.extent, request(tmp_path))
        assert pool.arrived.acquire(timeout=10)
        # It was stored, says the worker, but it is gone again: its content is asked for.
        pool.jobs[0][1].set_result(({"stored": True, "requests": 1, "bytes": 10}, b""))
        assert pool.arrived.acquire(timeout=10)
        assert pool.jobs[1][0]["inline"]
        pool.jobs[1][1].set_result(({"stored": False, "requests": 1, "bytes": 10}, b"0123456789"))
        assert extent.result(10).read(0, 10) == b"0123456789"
    assert fetcher.counts().uncached == 1


def test_a_reader_waits_no_longer_than_the_time_limit(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, _ = hand_fetcher(cache, timeout=0.2)
    with pytest.raises(StoreUnreachable, match=r"within 0\.2 s"):
        fetcher.extent(request(tmp_path))


def test_while_a_store_is_away_readers_are_refused_at_once_and_it_is_asked_again_later(
    cache: CacheReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("imgsyncfs.fetch.time.monotonic", lambda: now[0])
    fetcher, pool = hand_fetcher(cache)

    def read(blob: str) -> Future[Any]:
        with ThreadPoolExecutor(1) as reader:
            future = reader.submit(fetcher.extent, request(tmp_path, blob=blob))
            while not future.done() and not pool.arrived.acquire(timeout=0.01):
                pass
            if not future.done():
                pool.jobs[-1][1].set_exception(StoreUnreachable("the network is away"))
        return future

    assert isinstance(read("one").exception(10), StoreUnreachable)
    assert isinstance(read("two").exception(10), StoreUnreachable)
    assert len(pool.jobs) == 1
    now[0] += 1.5
    read("three")
    assert len(pool.jobs) == 2
    # The pause has doubled.
    now[0] += 1.5
    read("four")
    assert len(pool.jobs) == 2
    now[0] += 1.0
    read("five")
    assert len(pool.jobs) == 3


def test_an_answer_of_the_store_ends_the_pause_even_if_it_is_a_refusal(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache, timeout=0.1)
    with pytest.raises(StoreUnreachable):
        fetcher.extent(request(tmp_path))
    assert fetcher.pauses()
    pool.jobs[0][1].set_exception(BlobMissing("gone"))
    assert not fetcher.pauses()


@pytest.mark.parametrize(
    ("offset", "blob_bytes", "expected"),
    [
        (5, 10, (0, 10)),
        (WHOLE_BLOB_BYTES - 1, WHOLE_BLOB_BYTES, (0, WHOLE_BLOB_BYTES)),
        (0, WHOLE_BLOB_BYTES + 1, (0, EXTENT_BYTES)),
        (WHOLE_BLOB_BYTES, WHOLE_BLOB_BYTES + 1, (WHOLE_BLOB_BYTES, 1)),
        (EXTENT_BYTES + 7, None, (EXTENT_BYTES, None)),
    ],
)
def test_an_extent_is_a_whole_small_blob_or_an_aligned_piece(
    offset: int, blob_bytes: int | None, expected: tuple[int, int | None]
) -> None:
    assert extent_range(offset, blob_bytes) == expected
