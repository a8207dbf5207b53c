"""Puts of many threads: all are kept, in few transactions, and none waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from imgsyncfs.cache import CacheReader, CacheWriter, prepare_cache
from imgsyncfs.cache.grouped_puts import GroupedPuts

THREADS = 16


class SlowCache:
    """A cache whose first transaction takes until the test says so: the fault injected is a busy disk."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.error = error
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.transactions: list[list[str]] = []

    def put_all(
        self, items: Sequence[tuple[str, bytes]], *, used: Sequence[str], spared: Collection[str]
    ) -> list[bool]:
        """Keep what is put, as `CacheWriter.put_all`."""
        assert not used
        assert not spared
        self.transactions.append([key for key, _ in items])
        self.begun.set()
        assert self.go_on.wait(10)
        if self.error:
            raise self.error
        return [True] * len(items)


def put(puts: GroupedPuts, key: str) -> bool:
    (kept,) = puts.put_all([(key, key.encode())], used=(), spared=())
    return kept


def test_what_comes_while_the_cache_is_busy_goes_into_one_transaction() -> None:
    cache = SlowCache()
    puts = GroupedPuts(cast("CacheWriter", cache))
    with ThreadPoolExecutor(THREADS) as threads:
        first = threads.submit(put, puts, "first")
        assert cache.begun.wait(10)
        others = [threads.submit(put, puts, str(number)) for number in range(THREADS - 1)]
        while puts.waiting < THREADS - 1:
            threading.Event().wait(0.001)
        cache.go_on.set()

        assert first.result(10)
        assert all(other.result(10) for other in others)

    assert [len(keys) for keys in cache.transactions] == [1, THREADS - 1]


def test_an_error_reaches_everyone_who_waits() -> None:
    cache = SlowCache(error=TypeError("not bytes"))
    puts = GroupedPuts(cast("CacheWriter", cache))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(put, puts, "first")
        assert cache.begun.wait(10)
        second = threads.submit(put, puts, "second")
        while not puts.waiting:
            threading.Event().wait(0.001)
        cache.go_on.set()

        for answer in (first, second):
            with pytest.raises(TypeError, match="not bytes"):
                answer.result(10)

    cache.error = None
    assert put(puts, "later")


def test_all_that_many_threads_put_is_there_afterwards(tmp_path: Path) -> None:
    prepare_cache(tmp_path)
    puts = GroupedPuts(CacheWriter(tmp_path, size_limit=1 << 30))
    keys = [str(number) for number in range(400)]

    with ThreadPoolExecutor(THREADS) as threads:
        kept = list(threads.map(lambda key: puts.put_all([(key, key.encode() * 20_000)], used=(), spared=()), keys))

    cache = CacheReader(tmp_path)
    assert kept == [[True]] * len(keys)
    for key in keys:
        extent = cache.find(key)
        assert extent is not None
        assert extent.read(0, extent.length) == key.encode() * 20_000
