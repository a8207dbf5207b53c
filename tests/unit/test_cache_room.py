"""The cache keeps to its room: limits hold, what was used least recently goes first, and what is read stays."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cache_writers import BATCH, CONTENT_BYTES, bytes_on_disk, content_of, files_of_entries, start_writer

from imgsyncfs.cache import CacheReader, CacheWriter, prepare_cache
from imgsyncfs.cache.extent import DESCRIPTOR_WEIGHT
from imgsyncfs.cache.files import ExtentFiles, disk_bytes, new_name
from imgsyncfs.cache.upkeep import IN_FLIGHT_SECONDS, verify_cache
from imgsyncfs.errors import CacheError
from imgsyncfs.workers.progress import SilentProgress

MEGABYTE = 1 << 20
LIMIT = 16 * MEGABYTE
"""Room for 105 to 155 extents: the database's log may take up 4 MiB."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache folder."""
    prepare_cache(tmp_path / "extents")
    return tmp_path / "extents"


@pytest.fixture
def writer(folder: Path) -> CacheWriter:
    """A worker's side of it, with a limit."""
    return CacheWriter(folder, size_limit=LIMIT)


def fill(writer: CacheWriter, *, count: int = 200, name: str = "filler") -> None:
    """Put more extents than there is room for."""
    for number in range(count):
        assert writer.put(f"{name}-{number}", content_of(f"{name}-{number}"))


def content_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.val"))


def let_time_pass(folder: Path) -> None:
    """Make all files older than one that a writer has in hand."""
    for path in content_files(folder):
        os.utime(path, (path.stat().st_mtime - IN_FLIGHT_SECONDS,) * 2)


def test_the_limit_holds_while_eight_processes_write_at_once(folder: Path) -> None:
    writers = [start_writer(folder, size_limit=LIMIT, name=f"writer-{number}", batches=12) for number in range(8)]
    most = 0
    while any(process.poll() is None for process in writers):
        most = max(most, bytes_on_disk(folder))
    assert [process.returncode for process in writers] == [0] * 8
    assert all(process.stdout is not None and process.stdout.read().split() == ["4"] * 12 for process in writers)
    assert LIMIT // 2 < most <= LIMIT + 8 * BATCH * disk_bytes(CONTENT_BYTES)
    prepare_cache(folder)
    assert bytes_on_disk(folder) <= LIMIT
    check = verify_cache(folder, progress=SilentProgress())
    assert (check.damaged, check.orphans) == (0, 0)
    assert check.entries > 20
    assert files_of_entries(folder) == set(content_files(folder))


def test_small_extents_in_the_database_count_too(folder: Path, writer: CacheWriter) -> None:
    for number in range(1500):
        writer.put(f"small-{number}", content_of(f"small-{number}", length=10_000))
    assert bytes_on_disk(folder) <= LIMIT
    assert writer.get("small-0") is None
    assert writer.get("small-1499") is not None


def test_what_was_used_least_recently_goes_first(folder: Path, writer: CacheWriter) -> None:
    fill(writer, count=60, name="old")
    cache = CacheReader(folder)
    for number in (3, 1, 2):
        assert cache.find(f"old-{number}") is not None
    used = cache.take_used()
    assert used == ["old-3", "old-1", "old-2"]
    assert writer.put_all({"next": content_of("next")}, used=used)
    kept = list(range(60))
    gone = []
    for number in range(200):
        fill(writer, count=1, name=f"new-{number}")
        gone += [old for old in kept if writer.get(f"old-{old}") is None]
        kept = [old for old in kept if old not in gone]
    assert gone == [0, *range(4, 60), 3, 1, 2]


def test_a_use_that_is_noted_without_a_put_counts_as_well(writer: CacheWriter) -> None:
    fill(writer, count=80, name="old")
    writer.note_used(["old-0"])
    fill(writer, count=80, name="new")
    assert writer.get("old-0") is not None
    assert writer.get("old-1") is None


def test_uses_are_taken_once_and_the_oldest_are_forgotten(folder: Path, writer: CacheWriter) -> None:
    fill(writer, count=3, name="key")
    cache = CacheReader(folder, most_used=2)
    for number in (0, 1, 2, 1):
        cache.find(f"key-{number}")
    assert cache.take_used() == ["key-2", "key-1"]
    assert cache.take_used() == []


def test_what_is_pinned_stays_and_so_does_what_was_just_put(writer: CacheWriter) -> None:
    fill(writer, count=5, name="read")
    pinned = {f"read-{number}" for number in range(5)}
    for number in range(40):
        batch = {key: content_of(key) for key in (f"batch-{number}-{index}" for index in range(4))}
        assert writer.put_all(batch, pinned=pinned) == {*batch}
        assert all(writer.get(key) is not None for key in [*batch, *pinned])


def test_an_extent_larger_than_the_limit_is_not_kept(folder: Path) -> None:
    writer = CacheWriter(folder, size_limit=CONTENT_BYTES)
    assert not writer.put("key", bytes(2 * CONTENT_BYTES))
    assert content_files(folder) == []


def test_what_is_open_stays_readable_though_it_was_evicted(folder: Path, writer: CacheWriter) -> None:
    keys = [f"open-{number}" for number in range(10)]
    for key in keys:
        writer.put(key, content_of(key))
    cache = CacheReader(folder)
    extents = {key: cache.find(key) for key in keys}
    fill(writer)
    assert all(writer.get(key) is None for key in keys)
    for key, extent in extents.items():
        assert extent is not None
        assert extent.read(0, CONTENT_BYTES) == content_of(key)
        assert extent.read(1, CONTENT_BYTES) == content_of(key)[1:]


def test_descriptors_of_evicted_extents_are_closed(folder: Path, writer: CacheWriter) -> None:
    writer.put("gone", content_of("gone"))
    cache = CacheReader(folder, open_weight=2 * DESCRIPTOR_WEIGHT)
    assert cache.find("gone") is not None
    fill(writer)
    cache.find("filler-199")
    cache.close_removed()
    assert cache.opened("gone") is None
    assert cache.opened("filler-199") is not None
    # Its weight counts no more: as many can be open as before.
    assert cache.find("filler-198") is not None
    assert cache.opened("filler-199") is not None


def test_a_database_that_cannot_be_read_counts_as_a_miss(folder: Path, writer: CacheWriter) -> None:
    writer.put("key", content_of("key"))
    cache = CacheReader(folder)
    with sqlite3.connect(folder / "cache.db", isolation_level=None) as other:
        other.execute("DROP TABLE Cache")
    other.close()
    assert cache.find("key") is None
    assert not writer.put("other", content_of("other"))


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in content_files(folder))


def test_the_disk_is_kept_free_by_evicting(folder: Path) -> None:
    writer = CacheWriter(
        folder,
        size_limit=LIMIT,
        keep_free=10 * CONTENT_BYTES,
        free_bytes=lambda folder: 40 * CONTENT_BYTES - used_bytes(folder),
    )
    fill(writer, count=60)
    assert used_bytes(folder) <= 30 * CONTENT_BYTES
    assert writer.get("filler-59") is not None
    assert writer.get("filler-0") is None


def test_on_a_disk_that_others_have_filled_nothing_is_kept(folder: Path) -> None:
    free = [LIMIT]
    writer = CacheWriter(folder, size_limit=LIMIT, keep_free=MEGABYTE, free_bytes=lambda _: free[0])
    fill(writer, count=5)
    free[0] = MEGABYTE // 2
    assert not writer.put("key", content_of("key"))
    assert content_files(folder) == []


def test_while_another_process_holds_the_database_content_is_used_uncached(folder: Path) -> None:
    writer = CacheWriter(folder, size_limit=LIMIT, busy_timeout=0.1)
    with sqlite3.connect(folder / "cache.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert writer.put_all({"key": content_of("key")}, used=["key"]) == set()
        other.execute("ROLLBACK")
    other.close()
    assert content_files(folder) == []
    assert writer.put("key", content_of("key"))


@pytest.mark.parametrize("batches", [1, 30, 60])
def test_a_writer_killed_at_any_moment_leaves_a_cache_to_go_on_with(folder: Path, batches: int) -> None:
    process = start_writer(folder, size_limit=LIMIT, name="killed")
    assert process.stdout is not None
    for _ in range(batches):
        process.stdout.readline()
    process.kill()
    process.wait()
    let_time_pass(folder)
    CacheWriter(folder, size_limit=LIMIT).remove_orphans()
    check = verify_cache(folder, progress=SilentProgress())
    assert check.entries >= min(batches, 10) * BATCH
    assert (check.damaged, check.orphans) == (0, 0)
    assert bytes_on_disk(folder) <= LIMIT
    assert CacheWriter(folder, size_limit=LIMIT).put("key", content_of("key"))
    assert CacheReader(folder).find("key") is not None


@pytest.mark.parametrize("die", ["before-entry", "after-eviction"])
def test_files_that_a_killed_writer_left_without_an_entry_are_removed(folder: Path, die: str) -> None:
    process = start_writer(folder, size_limit=LIMIT // 4, name="killed", die=die)
    assert process.wait() == -signal.SIGKILL
    assert files_of_entries(folder) < set(content_files(folder))
    let_time_pass(folder)
    CacheWriter(folder, size_limit=LIMIT).remove_orphans()
    assert files_of_entries(folder) == set(content_files(folder))


def test_a_file_that_a_writer_is_about_to_add_is_left_alone(folder: Path, writer: CacheWriter) -> None:
    fill(writer, count=5)
    with contextlib.closing(ExtentFiles(folder)) as files:
        files.write(new_name(), [b"on its way"])
    before = set(content_files(folder))
    assert before > files_of_entries(folder)
    writer.remove_orphans()
    assert verify_cache(folder, progress=SilentProgress()).orphans == 0
    assert set(content_files(folder)) == before
    let_time_pass(folder)
    assert verify_cache(folder, progress=SilentProgress()).orphans == 1
    assert set(content_files(folder)) == files_of_entries(folder)


def test_putting_an_extent_again_replaces_it(folder: Path, writer: CacheWriter) -> None:
    for content in (content_of("a"), content_of("b"), b"small", content_of("c")):
        assert writer.put("key", content)
        extent = CacheReader(folder).find("key")
        assert extent is not None
        assert extent.read(0, CONTENT_BYTES) == content
    check = verify_cache(folder, progress=SilentProgress())
    assert (check.entries, check.damaged, check.orphans) == (1, 0, 0)


@pytest.mark.parametrize("use", [prepare_cache, lambda folder: verify_cache(folder, progress=SilentProgress())])
def test_a_locked_cache_is_named_within_seconds_and_not_thrown_away(
    folder: Path, use: Callable[[Path], object]
) -> None:
    with contextlib.closing(CacheWriter(folder, size_limit=LIMIT)) as writer:
        writer.put("key", content_of("key"))
    began = time.monotonic()
    with contextlib.closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheError, match="locked|busy"):
            use(folder)
    assert time.monotonic() < began + 10
    with contextlib.closing(CacheReader(folder)) as reader:
        assert reader.find("key") is not None
