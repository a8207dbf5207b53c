"""Fetching extents: once for all readers, verified, within a time limit, with pauses for a store that is away."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from imgsyncfs.cache import CacheReader, prepare_cache
from imgsyncfs.errors import BlobChanged, BlobMissing, StoreUnreachable
from imgsyncfs.extent_fetcher import ExtentFetcher
from imgsyncfs.extent_request import ExtentRequest
from imgsyncfs.extents import EXTENT_BYTES, WHOLE_BLOB_BYTES, extent_range
from imgsyncfs.fetch import MOST_BACKGROUND, MOST_BACKGROUND_NEAR, Fetcher
from imgsyncfs.flights import Wanted
from imgsyncfs.pack_seal import make_seal
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
    prepare_cache(tmp_path / "extents")
    return CacheReader(tmp_path / "extents")


@pytest.fixture
def worker(tmp_path: Path, cache: CacheReader) -> ExtentFetcher:
    """A worker's side, without the process around it, over a local store with one blob."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").write_bytes(b"0123456789")
    return ExtentFetcher(
        {
            "cache_folder": str(tmp_path / "extents"),
            "size_limit": SIZE_LIMIT,
            "keep_free": 0,
            "timeout": 5.0,
            "stores": {},
        }
    )


def request(tmp_path: Path, blob: str = "blob", **fields: Any) -> ExtentRequest:
    return ExtentRequest(f"file://{tmp_path}/store", blob, 0, 10, **fields)


def ask(worker: ExtentFetcher, asked: ExtentRequest, *, inline: bool = False) -> Answer:
    return worker.handle({"requests": [asked.to_fields()], "inline": inline, "used": [], "spared": []})


def hand_fetcher(cache: CacheReader, *, timeout: float = 20.0) -> tuple[Fetcher, HandPool]:
    pool = HandPool()
    return Fetcher(cache, cast("WorkerPool", pool), timeout=timeout), pool


def test_a_worker_brings_an_extent_into_the_cache(worker: ExtentFetcher, cache: CacheReader, tmp_path: Path) -> None:
    result, content = ask(worker, request(tmp_path))
    assert (result["stored"], result["lengths"], content) == ([True], [0], b"")
    assert (result["requests"], result["bytes"]) == (1, 10)
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
        extents = [readers.submit(fetcher.extent, Wanted(request(tmp_path))) for _ in range(8)]
        while fetcher.counts().waiting < 8:
            assert not any(extent.done() for extent in extents)
        pool.jobs[0][1].set_result(answer_of(b"0123456789"))
        assert [extent.result(10).read(0, 10) for extent in extents] == [b"0123456789"] * 8
    assert len(pool.jobs) == 1


def test_an_extent_that_could_not_be_cached_is_read_all_the_same(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    with ThreadPoolExecutor(1) as reader:
        extent = reader.submit(fetcher.extent, Wanted(request(tmp_path)))
        assert pool.arrived.acquire(timeout=10)
        # It was stored, says the worker, but it is gone again: its content is asked for.
        pool.jobs[0][1].set_result(({"stored": [True], "lengths": [0], "requests": 1, "bytes": 10, "near": False}, b""))
        assert pool.arrived.acquire(timeout=10)
        assert pool.jobs[1][0]["inline"]
        pool.jobs[1][1].set_result(answer_of(b"0123456789"))
        assert extent.result(10).read(0, 10) == b"0123456789"
    assert fetcher.counts().uncached == 1


def test_a_reader_waits_no_longer_than_the_time_limit(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, _ = hand_fetcher(cache, timeout=0.2)
    with pytest.raises(StoreUnreachable, match=r"within 0\.2 s"):
        fetcher.extent(Wanted(request(tmp_path)))


def test_while_a_store_is_away_readers_are_refused_at_once_and_it_is_asked_again_later(
    cache: CacheReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("imgsyncfs.fetch.time.monotonic", lambda: now[0])
    fetcher, pool = hand_fetcher(cache)

    def read(blob: str) -> Future[Any]:
        with ThreadPoolExecutor(1) as reader:
            future = reader.submit(fetcher.extent, Wanted(request(tmp_path, blob=blob)))
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
        fetcher.extent(Wanted(request(tmp_path)))
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


def piece(tmp_path: Path, number: int) -> Wanted:
    """An extent of a pack."""
    return Wanted(ExtentRequest(f"file://{tmp_path}/store", "a.pack", number * EXTENT_BYTES, None))


def answer_of(*contents: bytes, near: bool = False) -> Answer:
    """What a worker says that could cache nothing; `near`: the store answers soon."""
    lengths = [len(content) for content in contents]
    result = {"stored": [False] * len(contents), "lengths": lengths, "requests": 1, "bytes": sum(lengths), "near": near}
    return result, b"".join(contents)


def starts(job: dict[str, Any]) -> list[int]:
    """Which extents of the pack a job is for."""
    return [fields["start"] // EXTENT_BYTES for fields in job["requests"]]


def test_an_extent_fetched_ahead_comes_in_the_same_request_as_the_one_beside_it(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)

    flight = fetcher.start(piece(tmp_path, 3), ahead=[piece(tmp_path, 2)])
    pool.jobs[0][1].set_result(answer_of(b"two", b"three"))

    assert [starts(job) for job, _ in pool.jobs] == [[2, 3]]
    assert fetcher.wait(flight).read(0, 9) == b"three"
    assert fetcher.extent(piece(tmp_path, 2)).read(0, 9) == b"two"


def test_a_miss_takes_along_one_extent_beside_it_and_the_others_go_out_by_themselves(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)

    fetcher.start(piece(tmp_path, 3), ahead=[piece(tmp_path, number) for number in (0, 1, 2, 4)])

    awaited, *others = [starts(job) for job, _ in pool.jobs]
    assert awaited == [2, 3]
    assert others == [[0, 1], [4]]


def test_extents_that_follow_each_other_go_out_four_by_four(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)

    fetcher.begin([piece(tmp_path, number) for number in (1, 2, 3, 4, 5, 6, 9)])

    assert [starts(job) for job, _ in pool.jobs] == [[1, 2, 3, 4], [5, 6], [9]]


def test_small_blobs_fetched_ahead_go_out_eight_by_eight(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)

    fetcher.begin([Wanted(request(tmp_path, blob=str(number))) for number in range(10)])

    assert [[fields["blob"] for fields in job["requests"]] for job, _ in pool.jobs] == [
        ["0", "1", "2", "3", "4", "5", "6", "7"],
        ["8", "9"],
    ]


def test_what_the_cache_has_is_not_sent_for_to_be_ahead_of_a_reader(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    ask(worker, request(tmp_path))
    fetcher, pool = hand_fetcher(cache)

    fetcher.begin([Wanted(request(tmp_path)), Wanted(request(tmp_path, blob="other"))])

    assert [fields["blob"] for job, _ in pool.jobs for fields in job["requests"]] == ["other"]


def test_a_store_that_answers_soon_is_sent_few_jobs_ahead_of_readers(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.start(piece(tmp_path, 1))
    pool.jobs[0][1].set_result(answer_of(b"one", near=True))

    fetcher.begin([piece(tmp_path, number) for number in range(3, 103, 2)])

    assert len(pool.jobs) == 1 + MOST_BACKGROUND_NEAR
    pool.jobs[1][1].set_result(answer_of(b"three", near=False))
    assert len(pool.jobs) == 2 + MOST_BACKGROUND


def test_a_worker_tells_whether_the_store_answers_soon(
    worker: ExtentFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgsyncfs.extent_fetcher.NEAR_SECONDS", 3600.0)
    near, _ = ask(worker, request(tmp_path))
    monkeypatch.setattr("imgsyncfs.extent_fetcher.NEAR_SECONDS", -1.0)
    far, _ = ask(worker, request(tmp_path, version="2"))
    assert (near["near"], far["near"]) == (True, False)


def test_a_worker_asks_for_each_small_blob_and_keeps_them_together(
    worker: ExtentFetcher, cache: CacheReader, tmp_path: Path
) -> None:
    (tmp_path / "store" / "other").write_bytes(b"abcdefghij")
    both = [request(tmp_path), request(tmp_path, blob="other")]
    job = {"requests": [each.to_fields() for each in both], "inline": False, "used": [], "spared": []}

    result, _ = worker.handle(job)

    assert (result["stored"], result["requests"], result["bytes"]) == ([True, True], 2, 20)
    assert all(cache.holds(each.key) for each in both)


def test_what_is_wrong_beside_it_keeps_nobody_from_an_extent(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)

    flight = fetcher.start(piece(tmp_path, 3), ahead=[piece(tmp_path, 4)])
    pool.jobs[0][1].set_exception(BlobChanged("The one beside it differs."))
    pool.jobs[1][1].set_result(answer_of(b"three"))

    assert [starts(job) for job, _ in pool.jobs] == [[3, 4], [3]]
    assert fetcher.wait(flight).read(0, 9) == b"three"


def test_a_reader_does_not_wait_behind_what_is_fetched_ahead(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.begin([piece(tmp_path, number) for number in range(0, 400, 2)])
    sent = len(pool.jobs)

    fetcher.start(piece(tmp_path, 398))

    assert sent == MOST_BACKGROUND
    assert starts(pool.jobs[sent][0]) == [398]


def test_what_was_fetched_ahead_in_vain_is_asked_for_again_by_the_one_who_wants_it(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.begin([piece(tmp_path, 1)])
    pool.jobs[0][1].set_exception(BlobMissing("gone"))

    fetcher.start(piece(tmp_path, 1))

    assert [starts(job) for job, _ in pool.jobs] == [[1], [1]]


def test_a_reader_who_comes_while_an_extent_is_fetched_ahead_causes_no_second_request(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.begin([piece(tmp_path, 1)])

    flight = fetcher.start(piece(tmp_path, 1))
    pool.jobs[0][1].set_result(answer_of(b"one"))

    assert len(pool.jobs) == 1
    assert fetcher.wait(flight).read(0, 9) == b"one"


def test_nothing_is_fetched_ahead_from_a_store_that_is_away(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.start(piece(tmp_path, 1))
    pool.jobs[0][1].set_exception(StoreUnreachable("away"))

    fetcher.begin([piece(tmp_path, 5)])

    assert len(pool.jobs) == 1


def test_extents_that_come_together_are_each_verified_and_kept(worker: ExtentFetcher, tmp_path: Path) -> None:
    first, second = b"a" * EXTENT_BYTES, b"b" * 100
    (tmp_path / "store" / "a.pack").write_bytes(first + second)
    members = [((0, len(first), hashlib.md5(first).hexdigest()),), ((EXTENT_BYTES, 100, "0" * 32),)]
    pair = [replace(piece(tmp_path, number).request, members=members[number]) for number in range(2)]
    job = {"requests": [each.to_fields() for each in pair], "inline": False, "used": [], "spared": []}

    with pytest.raises(BlobChanged, match=f"byte {EXTENT_BYTES}"):
        worker.handle(job)

    job["requests"] = [pair[0].to_fields(), replace(pair[1], members=()).to_fields()]
    result, _ = worker.handle(job)
    assert (result["stored"], result["requests"]) == ([True, True], 1)


def sealed_pack(tmp_path: Path, content: bytes) -> ExtentRequest:
    """Publish one file in a pack; the request for its extent says another md5 than the file has."""
    blob = "d/images-0123456789abcdef.pack"
    (tmp_path / "store" / "d").mkdir()
    (tmp_path / "store" / blob).write_bytes(content + make_seal(blob, 0, content))
    return ExtentRequest(f"file://{tmp_path}/store", blob, 0, None, members=((0, len(content), "0" * 32),))


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
    asked = replace(sealed_pack(tmp_path, b"content"), members=((0, 500, ""),))
    with pytest.raises(BlobChanged, match="shorter"):
        ask(worker, asked)
