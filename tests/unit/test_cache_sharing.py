"""Small extents that are kept together share a file."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cache_writers import content_of, files_of_entries
from support.examples import examples

from imgsyncfs.cache import CacheReader, CacheWriter, prepare_cache
from imgsyncfs.cache.files import disk_bytes
from imgsyncfs.cache.table import INLINE_BYTES, ExtentTable
from imgsyncfs.cache.upkeep import clear_cache, verify_cache
from imgsyncfs.workers.progress import SilentProgress

KEYS = [f"key-{number}" for number in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare_cache(tmp_path / "extents")
    return tmp_path / "extents"


@pytest.fixture
def writer(folder: Path) -> Iterator[CacheWriter]:
    with contextlib.closing(CacheWriter(folder, size_limit=1 << 30)) as writer:
        yield writer


def put(writer: CacheWriter, keys: list[str], *, length: int = 100_000) -> None:
    assert writer.put_all({key: content_of(key, length=length) for key in keys}) == {*keys}


def files_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.val"))


def check_whole(folder: Path) -> None:
    """Every entry is sound, every file is led to, and the room that the table counts is that of the files."""
    check = verify_cache(folder, progress=SilentProgress())
    assert (check.damaged, check.orphans) == (0, 0)
    files = set(files_in(folder))
    assert files_of_entries(folder) == files
    with contextlib.closing(ExtentTable(folder)) as table:
        [(size,)] = table._sql("SELECT value FROM Settings WHERE key = 'size'").fetchall()
    assert sum(disk_bytes(path.stat().st_size) for path in files) == size


def test_eight_images_take_one_file(folder: Path, writer: CacheWriter) -> None:
    put(writer, KEYS)

    assert len(files_in(folder)) == 1
    reader = CacheReader(folder)
    for key in random.Random(1).sample(KEYS, 8):
        extent = reader.find(key)
        assert extent is not None
        assert extent.length == 100_000
        assert extent.read(0, 1 << 20) == content_of(key) == writer.get(key)
        assert extent.read(99_990, 100) == content_of(key)[-10:]
    check_whole(folder)


def test_a_part_that_a_worker_has_just_written_is_opened_without_reading_it(folder: Path, writer: CacheWriter) -> None:
    put(writer, KEYS, length=300_000)
    reader = CacheReader(folder)
    for key in KEYS:
        reader.verified.note(key)
        extent = reader.find(key)
        assert extent is not None
        assert extent.read(0, 1 << 20) == content_of(key, length=300_000)


@pytest.mark.parametrize(("length", "files"), [(INLINE_BYTES - 1, 0), (INLINE_BYTES, 1), (600_000, 8), (2 << 20, 8)])
def test_a_file_is_shared_up_to_a_mebibyte(folder: Path, writer: CacheWriter, length: int, files: int) -> None:
    put(writer, KEYS, length=length)

    assert len(files_in(folder)) == files
    assert [writer.get(key) for key in KEYS] == [content_of(key, length=length) for key in KEYS]
    check_whole(folder)


def test_in_a_small_cache_no_file_is_shared(folder: Path) -> None:
    with contextlib.closing(CacheWriter(folder, size_limit=3_000_000)) as writer:
        put(writer, KEYS)
        assert len(files_in(folder)) == 8


def test_a_damaged_part_costs_the_others_nothing(folder: Path, writer: CacheWriter) -> None:
    put(writer, KEYS)
    [path] = files_in(folder)
    with path.open("r+b") as file:
        file.seek(disk_bytes(100_000) * 3 + 500)
        file.write(b"damage")

    reader = CacheReader(folder)
    found = [reader.find(key) is not None for key in KEYS]
    assert found == [number != 3 for number in range(8)]
    assert writer.get(KEYS[3]) is None
    assert [writer.get(key) is not None for key in KEYS] == found
    check_whole(folder)

    put(writer, [KEYS[3]])
    assert writer.get(KEYS[3]) == content_of(KEYS[3])
    check_whole(folder)


def test_a_file_that_ends_early_is_a_miss_for_what_it_lacks(folder: Path, writer: CacheWriter) -> None:
    put(writer, KEYS)
    [path] = files_in(folder)
    with path.open("r+b") as file:
        file.truncate(disk_bytes(100_000) * 5 + 10)

    for trusted in (True, False):
        reader = CacheReader(folder)
        for key in KEYS:
            if trusted:
                reader.verified.note(key)
        assert [reader.find(key) is not None for key in KEYS] == [True] * 5 + [False] * 3


def test_a_shared_file_goes_with_the_last_that_lies_in_it(folder: Path, writer: CacheWriter) -> None:
    put(writer, KEYS)

    for count, key in enumerate(KEYS, 1):
        assert clear_cache(folder, chosen=key.__eq__, progress=SilentProgress()) == (1, 100_000)
        assert len(files_in(folder)) == (count < len(KEYS))
        check_whole(folder)


def test_what_shares_a_file_is_evicted_together_when_the_last_of_it_falls_due(folder: Path) -> None:
    with contextlib.closing(CacheWriter(folder, size_limit=20_000_000)) as writer:
        put(writer, ["a0", "a1", "a2"])
        put(writer, ["b0", "b1", "b2"])
        writer.note_used(["a1"])
        number = 0
        while writer.get("b0") is not None:
            put(writer, [f"filler-{number}"])
            number += 1
        assert [writer.get(f"b{part}") for part in range(3)] == [None] * 3
        assert all(writer.get(f"a{part}") is not None for part in range(3))

        pinned = ["a2"]
        for _ in range(300):
            number += 1
            writer.put_all({f"filler-{number}": content_of("filler")}, pinned=pinned)
        assert all(writer.get(f"a{part}") is not None for part in range(3))
        check_whole(folder)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "clear", "damage"]), st.lists(st.integers(0, 12), min_size=1, max_size=6)),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=examples(25))
def test_whatever_comes_and_goes_the_table_and_the_files_agree(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    prepare_cache(folder)
    there: set[str] = set()
    with contextlib.closing(CacheWriter(folder, size_limit=1 << 30)) as writer:
        for action, numbers in steps:
            keys = {str(number) for number in numbers}
            if action == "put":
                put(writer, [str(number) for number in numbers], length=40_000)
                there |= keys
            elif action == "clear":
                clear_cache(folder, chosen=keys.__contains__, progress=SilentProgress())
                there -= keys
            elif there:
                with contextlib.closing(ExtentTable(folder)) as table:
                    key = min(there)
                    assert table.find(key) is not None
                    with table.writing():
                        table._sql("UPDATE Cache SET tag = '40000-0' WHERE key = ?", (key,))
                assert writer.get(key) is None
                there.remove(key)
            for number in range(13):
                expected = content_of(str(number), length=40_000) if str(number) in there else None
                assert writer.get(str(number)) == expected
        check_whole(folder)
