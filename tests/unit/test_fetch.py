"""Fetching extents: once for all readers, verified, within a time limit, with pauses for a store that is away."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from imgsyncfs.blob_layout import EXTENT_BYTES, LOOSE_FILE_BYTES, WHOLE_BLOB_BYTES, extent_range
from imgsyncfs.cache import CacheReader, CacheWriter, prepare_cache
from imgsyncfs.errors import (
    BlobChanged,
    BlobMissing,
    StoreError,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
    WorkerLost,
)
from imgsyncfs.fetching.extent import Extent
from imgsyncfs.fetching.fetcher import Fetcher
from imgsyncfs.fetching.queue import (
    LOW_LATENCY_SECONDS,
    MOST_BACKGROUND,
    MOST_BACKGROUND_NEAR,
    MOST_LARGE_NEAR,
    MOST_SMALL_IN_JOB,
)
from imgsyncfs.stores.buffers import BUFFER_BYTES
from imgsyncfs.workers.pool import Answer, OnPart, WorkerPool

SIZE_LIMIT = 1 << 30
NEAR, FAR = LOW_LATENCY_SECONDS / 2, LOW_LATENCY_SECONDS * 2


class HandPool:
    """A pool whose answers the test gives by hand: the fault injected is a store's slowness."""

    def __init__(self) -> None:
        self.jobs: list[tuple[dict[str, Any], Future[Answer]]] = []
        self.checks: list[tuple[str, Future[Answer]]] = []
        self.take_parts: list[OnPart] = []
        self.arrived = threading.Semaphore(0)

    def submit(self, arguments: dict[str, Any], on_part: OnPart = lambda _: None) -> Future[Answer]:
        """Keep a job for the test."""
        future: Future[Answer] = Future()
        if "check" in arguments:
            self.checks.append((arguments["check"], future))
            return future
        self.take_parts.append(on_part)
        self.jobs.append((arguments["job"], future))
        self.arrived.release()
        return future


@pytest.fixture
def cache(tmp_path: Path) -> CacheReader:
    """An empty cache."""
    prepare_cache(tmp_path / "extents")
    return CacheReader(tmp_path / "extents")


def request(tmp_path: Path, blob: str = "blob", **fields: Any) -> Extent:
    return Extent(f"file://{tmp_path}/store", blob, 0, 10, **fields)


def hand_fetcher(
    cache: CacheReader, *, timeout: float = 20.0, clock: Callable[[], float] = time.monotonic
) -> tuple[Fetcher, HandPool]:
    pool = HandPool()
    return Fetcher(cache, cast("WorkerPool", pool), timeout=timeout, own_store=str, clock=clock), pool


def test_readers_of_one_extent_cause_one_request(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    with ThreadPoolExecutor(8) as readers:
        extents = [readers.submit(fetcher.fetch, request(tmp_path)) for _ in range(8)]
        while fetcher.counts().waiting < 8:
            assert not any(extent.done() for extent in extents)
        pool.jobs[0][1].set_result(answer_of(b"0123456789"))
        assert [extent.result(10).read(0, 10) for extent in extents] == [b"0123456789"] * 8
    assert len(pool.jobs) == 1


def test_an_extent_that_could_not_be_cached_is_read_all_the_same(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    with ThreadPoolExecutor(1) as reader:
        extent = reader.submit(fetcher.fetch, request(tmp_path))
        assert pool.arrived.acquire(timeout=10)
        # It was stored, says the worker, but it is gone again: its content is asked for.
        pool.jobs[0][1].set_result((stored(0), b""))
        assert pool.arrived.acquire(timeout=10)
        assert pool.jobs[1][0]["inline"]
        pool.jobs[1][1].set_result(answer_of(b"0123456789"))
        assert extent.result(10).read(0, 10) == b"0123456789"
    assert fetcher.counts().uncached == 1


def test_a_reader_waits_no_longer_than_the_time_limit(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, _ = hand_fetcher(cache, timeout=0.2)
    with pytest.raises(StoreUnreachable, match=r"within 0\.2 s"):
        fetcher.fetch(request(tmp_path))


def test_while_a_store_is_away_readers_are_refused_at_once_and_it_is_asked_again_later(
    cache: CacheReader, tmp_path: Path
) -> None:
    now = [1000.0]
    fetcher, pool = hand_fetcher(cache, clock=lambda: now[0])

    def read(blob: str) -> Future[Any]:
        with ThreadPoolExecutor(1) as reader:
            future = reader.submit(fetcher.fetch, request(tmp_path, blob=blob))
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


def test_a_worker_that_dies_says_nothing_about_the_store(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    with ThreadPoolExecutor(1) as reader:
        first = reader.submit(fetcher.fetch, request(tmp_path))
        assert pool.arrived.acquire(timeout=10)
        pool.jobs[0][1].set_exception(WorkerLost("3 worker processes died"))
        assert isinstance(first.exception(10), WorkerLost)
        assert fetcher.away() == {}
        # The next reader asks at once.
        reader.submit(fetcher.fetch, request(tmp_path))
        assert pool.arrived.acquire(timeout=10)
        pool.jobs[1][1].set_exception(WorkerLost("3 worker processes died"))


def test_nobody_waits_anew_for_what_another_one_has_waited_for_in_vain(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache, timeout=0.2)
    with pytest.raises(StoreUnreachable):
        fetcher.fetch(request(tmp_path))
    with pytest.raises(StoreUnreachable, match="asked again"):
        fetcher.start(request(tmp_path))
    # It goes on meanwhile, and whoever comes when it is there has it.
    pool.jobs[0][1].set_result(answer_of(b"0123456789"))
    flight = fetcher.start(request(tmp_path))
    pool.jobs[1][1].set_result(answer_of(b"0123456789"))
    assert fetcher.wait(flight).read(0, 10) == b"0123456789"


@pytest.mark.parametrize("error", [StoreUnreachable("away"), StoreRefused("HTTP 403"), StoreMissing("HTTP 404")])
def test_a_store_that_is_away_is_named_until_somebody_has_read_from_it(
    cache: CacheReader, tmp_path: Path, error: StoreError
) -> None:
    now = [1000.0]
    fetcher, pool = hand_fetcher(cache, clock=lambda: now[0])
    fetcher.note_away(request(tmp_path).store, error)
    assert fetcher.away() == {request(tmp_path).store: str(error)}
    now[0] += 2
    flight = fetcher.start(request(tmp_path))
    pool.jobs[0][1].set_result(answer_of(b"0123456789"))
    fetcher.wait(flight)
    assert fetcher.away() == {}


def test_a_look_at_a_store_that_is_back_ends_its_pause(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    store = request(tmp_path).store
    fetcher.note_away(store, StoreUnreachable("away"))
    fetcher.look_again()
    fetcher.look_again()
    assert [url for url, _ in pool.checks] == [store]
    pool.checks[0][1].set_exception(StoreUnreachable("still away"))
    with pytest.raises(StoreUnreachable):
        fetcher.start(request(tmp_path))
    fetcher.look_again()
    pool.checks[1][1].set_result(({}, b""))
    assert fetcher.away() == {}
    fetcher.leave(fetcher.start(request(tmp_path)))
    fetcher.look_again()
    assert len(pool.checks) == 2


def test_a_probe_whose_worker_dies_is_followed_by_another_one(cache: CacheReader, tmp_path: Path) -> None:
    now = [1000.0]
    fetcher, pool = hand_fetcher(cache, clock=lambda: now[0])
    fetcher.note_away(request(tmp_path).store, StoreUnreachable("away"))
    now[0] += 2
    for number in range(2):
        fetcher.leave(fetcher.start(request(tmp_path)))
        pool.jobs[number][1].set_exception(WorkerLost("3 worker processes died"))
    assert len(pool.jobs) == 2


def test_an_answer_of_the_store_ends_the_pause_even_if_it_is_a_refusal(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache, timeout=0.1)
    with pytest.raises(StoreUnreachable):
        fetcher.fetch(request(tmp_path))
    assert fetcher.away()
    pool.jobs[0][1].set_exception(BlobMissing("gone"))
    assert not fetcher.away()


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


def piece(tmp_path: Path, number: int) -> Extent:
    """An extent of a pack."""
    return Extent(f"file://{tmp_path}/store", "a.pack", number * EXTENT_BYTES, None)


def answer_of(*contents: bytes, latencies: Mapping[str, float] | None = None) -> Answer:
    """What a worker answers that could cache nothing; `latencies`: of each store that it asked, in seconds."""
    lengths = [len(content) for content in contents]
    outcomes = {"extents": list(range(len(contents))), "stored": [False] * len(contents), "lengths": lengths}
    return {**outcomes, "requests": 1, "bytes": sum(lengths), "unverified": 0, "latencies": latencies or {}}, b"".join(
        contents
    )


def stored(*numbers: int) -> dict[str, Any]:
    """What a worker says that has kept these extents of a job."""
    count = len(numbers)
    outcomes = {"extents": list(numbers), "stored": [True] * count, "lengths": [0] * count}
    return {**outcomes, "requests": 1, "bytes": 0, "unverified": 0, "latencies": {}}


def starts(job: dict[str, Any]) -> list[int]:
    """Which extents of the pack a job is for."""
    return [fields["start"] // EXTENT_BYTES for fields in job["extents"]]


def test_an_extent_fetched_ahead_comes_in_the_same_request_as_the_one_beside_it(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)

    flight = fetcher.start(piece(tmp_path, 3), ahead=[piece(tmp_path, 2)])
    pool.jobs[0][1].set_result(answer_of(b"two", b"three"))

    assert [starts(job) for job, _ in pool.jobs] == [[2, 3]]
    assert fetcher.wait(flight).read(0, 9) == b"three"
    assert fetcher.fetch(piece(tmp_path, 2)).read(0, 9) == b"two"


def test_a_miss_takes_along_extents_beside_it_and_the_others_go_out_by_themselves(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)

    fetcher.start(piece(tmp_path, 3), ahead=[piece(tmp_path, number) for number in (0, 1, 2, 4, 9)])

    awaited, *others = [starts(job) for job, _ in pool.jobs]
    assert awaited == [0, 1, 2, 3]
    assert others == [[4], [9]]


def test_extents_that_follow_each_other_go_out_four_by_four(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)

    fetcher.begin([piece(tmp_path, number) for number in (1, 2, 3, 4, 5, 6, 9)])

    assert [starts(job) for job, _ in pool.jobs] == [[1, 2, 3, 4], [5, 6], [9]]


def test_small_blobs_fetched_ahead_go_out_together_up_to_a_limit(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    blobs = [f"{number:02}" for number in range(MOST_SMALL_IN_JOB + 2)]

    fetcher.begin([request(tmp_path, blob=blob) for blob in blobs])

    assert [[fields["blob"] for fields in job["extents"]] for job, _ in pool.jobs] == [
        blobs[:MOST_SMALL_IN_JOB],
        blobs[MOST_SMALL_IN_JOB:],
    ]


def test_small_blobs_go_out_together_only_as_far_as_a_worker_has_room_for_them(
    cache: CacheReader, tmp_path: Path
) -> None:
    fetcher, pool = hand_fetcher(cache)
    lengths = [LOOSE_FILE_BYTES - 1] * 5 + [1000] * 5 + [LOOSE_FILE_BYTES - 1] * 10

    fetcher.begin(
        [request(tmp_path, blob=f"{number:02}")._replace(length=length) for number, length in enumerate(lengths)]
    )

    jobs = [[fields["length"] for fields in job["extents"]] for job, _ in pool.jobs]
    assert list(itertools.chain.from_iterable(jobs)) == lengths
    assert all(sum(job) <= BUFFER_BYTES for job in jobs)
    assert len(jobs) == 2


def test_what_the_cache_has_is_not_sent_for_to_be_ahead_of_a_reader(cache: CacheReader, tmp_path: Path) -> None:
    with closing(CacheWriter(tmp_path / "extents", size_limit=SIZE_LIMIT)) as writer:
        writer.put(request(tmp_path).key, b"0123456789")
    fetcher, pool = hand_fetcher(cache)

    fetcher.begin([request(tmp_path), request(tmp_path, blob="other")])

    assert [fields["blob"] for job, _ in pool.jobs for fields in job["extents"]] == ["other"]


def test_a_store_that_answers_soon_is_sent_few_jobs_ahead_of_readers(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.start(piece(tmp_path, 1))
    pool.jobs[0][1].set_result(answer_of(b"one", latencies={f"file://{tmp_path}/store": NEAR}))

    fetcher.begin([piece(tmp_path, number) for number in range(3, 103, 2)])
    assert len(pool.jobs) == 1 + MOST_LARGE_NEAR
    fetcher.begin([request(tmp_path, blob=str(number)) for number in range(100)])
    assert len(pool.jobs) == 1 + MOST_LARGE_NEAR

    pool.jobs[1][1].set_result(answer_of(b"three", latencies={f"file://{tmp_path}/store": FAR}))
    assert len(pool.jobs) == 2 + MOST_BACKGROUND


def test_a_store_that_is_far_is_sent_many_jobs_though_another_one_is_near(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.start(piece(tmp_path, 1))
    pool.jobs[0][1].set_result(answer_of(b"one", latencies={f"file://{tmp_path}/store": NEAR, "azure://a/far": FAR}))

    far = [Extent("azure://a/far", "a.pack", number * EXTENT_BYTES, None) for number in range(3, 103, 2)]
    fetcher.begin(far)

    assert len(pool.jobs) == 1 + MOST_BACKGROUND


def test_small_blobs_of_a_store_that_answers_soon_go_out_in_more_jobs(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    fetcher.start(piece(tmp_path, 1))
    pool.jobs[0][1].set_result(answer_of(b"one", latencies={f"file://{tmp_path}/store": NEAR}))

    fetcher.begin([request(tmp_path, blob=str(number)) for number in range(100)])

    assert len(pool.jobs) == 1 + MOST_BACKGROUND_NEAR > 1 + MOST_LARGE_NEAR


def test_a_reader_has_its_extent_before_the_others_of_its_request_have_come(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    first = fetcher.start(piece(tmp_path, 0), ahead=[piece(tmp_path, 1)])
    second = fetcher.start(piece(tmp_path, 1))

    pool.take_parts[0](answer_of(b"zero"))

    assert fetcher.wait(first).read(0, 9) == b"zero"
    assert not second.outcome.done()
    pool.jobs[0][1].set_result(({**answer_of(b"one")[0], "extents": [1]}, b"one"))
    assert fetcher.wait(second).read(0, 9) == b"one"
    assert [starts(job) for job, _ in pool.jobs] == [[0, 1]]


def test_what_came_before_an_error_is_not_asked_for_again(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    first = fetcher.start(piece(tmp_path, 0), ahead=[piece(tmp_path, 1)])
    second = fetcher.start(piece(tmp_path, 1))

    pool.take_parts[0](answer_of(b"zero"))
    pool.jobs[0][1].set_exception(BlobMissing("gone"))

    assert fetcher.wait(first).read(0, 9) == b"zero"
    assert [starts(job) for job, _ in pool.jobs] == [[0, 1], [1]]
    pool.jobs[1][1].set_exception(BlobMissing("gone"))
    with pytest.raises(BlobMissing):
        fetcher.wait(second)


def test_what_is_told_again_after_a_worker_died_changes_nothing(cache: CacheReader, tmp_path: Path) -> None:
    fetcher, pool = hand_fetcher(cache)
    flight = fetcher.start(piece(tmp_path, 0), ahead=[piece(tmp_path, 1)])

    pool.take_parts[0](answer_of(b"zero"))
    pool.take_parts[0](answer_of(b"ZERO"))
    pool.jobs[0][1].set_result(({**answer_of(b"one")[0], "extents": [1]}, b"one"))

    assert fetcher.wait(flight).read(0, 9) == b"zero"
    assert fetcher.fetch(piece(tmp_path, 1)).read(0, 9) == b"one"
    assert fetcher.counts().uncached == 2


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
