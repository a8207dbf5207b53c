"""The disk cache: what was put is found, and only if it is what was put."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from imgsyncfs.cache import INLINE_BYTES, CacheReader, CacheWriter, prepare_cache
from imgsyncfs.errors import CacheError

SIZE_LIMIT = 1 << 30
LARGE = bytes(range(256)) * (INLINE_BYTES // 128)
SMALL = b"an annotation"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache folder."""
    prepare_cache(tmp_path / "extents")
    return tmp_path / "extents"


@pytest.fixture
def writer(folder: Path) -> CacheWriter:
    """A worker's side of it."""
    return CacheWriter(folder, size_limit=SIZE_LIMIT)


@pytest.mark.parametrize("content", [LARGE, SMALL, b""])
def test_what_was_put_is_found_and_read_in_parts(folder: Path, writer: CacheWriter, content: bytes) -> None:
    assert writer.put("key", content)
    extent = CacheReader(folder).find("key")
    assert extent is not None
    assert extent.length == len(content)
    assert extent.read(0, len(content) + 10) == content
    assert extent.read(3, 5) == content[3:8]
    assert writer.get("key") == content


def test_what_was_not_put_is_a_miss(folder: Path) -> None:
    reader = CacheReader(folder)
    assert reader.find("key") is None
    assert reader.counts().misses == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_a_miss_and_the_worker_removes_it(folder: Path, writer: CacheWriter, damage: str) -> None:
    writer.put("key", LARGE)
    [path] = folder.rglob("*.val")
    if damage == "flip":
        path.write_bytes(LARGE[:-1] + b"\x00")
    elif damage == "cut":
        os.truncate(path, 100)
    else:
        path.unlink()
    reader = CacheReader(folder)
    assert reader.find("key") is None
    assert reader.counts().damaged == (0 if damage == "remove" else 1)
    assert writer.get("key") is None
    assert writer.put("key", LARGE)
    assert CacheReader(folder).find("key") is not None


def test_a_damaged_entry_in_the_database_is_a_miss(folder: Path, writer: CacheWriter) -> None:
    writer.put("key", SMALL)
    with sqlite3.connect(folder / "cache.db") as connection:
        connection.execute("UPDATE Cache SET value = ?", (b"an annotatiom",))
    connection.close()
    reader = CacheReader(folder)
    assert reader.find("key") is None
    assert reader.counts().damaged == 1


def test_an_open_extent_is_read_to_its_end_though_it_was_evicted(folder: Path, writer: CacheWriter) -> None:
    writer.put("key", LARGE)
    extent = CacheReader(folder).find("key")
    for path in folder.rglob("*.val"):
        path.unlink()
    assert extent is not None
    assert extent.read(0, len(LARGE)) == LARGE


def open_extents(folder: Path) -> int:
    """How many descriptors of this process are of the cache's files."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(link.readlink()))
    return sum(target.startswith(f"{folder}/") and target.endswith(".val") for target in targets)


def test_descriptors_are_closed_when_nobody_needs_them(folder: Path, writer: CacheWriter) -> None:
    reader = CacheReader(folder)
    writer.put("key", LARGE)
    assert reader.find("key") is not None
    assert open_extents(folder) == 1
    reader.close()
    assert open_extents(folder) == 0


def test_a_pickle_is_neither_written_nor_read(folder: Path, writer: CacheWriter) -> None:
    with pytest.raises(TypeError):
        writer.put("key", {"not": "bytes"})  # type: ignore[arg-type]  # what must be refused
    writer.put("key", SMALL)
    with sqlite3.connect(folder / "cache.db") as connection:
        connection.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps("run me"),))
    connection.close()
    assert CacheReader(folder).find("key") is None
    assert writer.get("key") is None


def test_the_folder_is_for_its_owner_alone(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_whose_database_is_damaged_is_made_anew(folder: Path) -> None:
    for path in folder.glob("cache.db*"):
        path.unlink()
    (folder / "cache.db").write_bytes(b"not a database " * 1000)
    prepare_cache(folder)
    assert CacheWriter(folder, size_limit=SIZE_LIMIT).put("key", SMALL)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match="choose another folder"):
        prepare_cache(tmp_path / "file" / "cache")


def test_an_extent_that_was_just_written_is_opened_without_reading_all_of_it(folder: Path) -> None:
    content = bytes(range(256)) * 4096
    CacheWriter(folder, size_limit=SIZE_LIMIT).put("key", content)
    cache = CacheReader(folder)
    (path,) = (each for each in folder.rglob("*") if each.is_file() and each.stat().st_size == len(content))
    path.write_bytes(b"x" + content[1:])

    cache.verified.note("key")

    extent = cache.find("key")
    assert extent is not None
    assert extent.read(0, 3) == b"x\x01\x02"
    assert CacheReader(folder).find("key") is None


def test_an_extent_of_another_length_is_not_trusted(folder: Path) -> None:
    content = bytes(range(256)) * 4096
    CacheWriter(folder, size_limit=SIZE_LIMIT).put("key", content)
    cache = CacheReader(folder)
    (path,) = (each for each in folder.rglob("*") if each.is_file() and each.stat().st_size == len(content))
    path.write_bytes(content[:-1])

    cache.verified.note("key")

    assert cache.find("key") is None


def test_an_extent_in_the_database_is_verified_although_it_was_just_written(folder: Path) -> None:
    CacheWriter(folder, size_limit=SIZE_LIMIT).put("key", SMALL)
    cache = CacheReader(folder)
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET value = ?", (bytes(len(SMALL)),))

    cache.verified.note("key")

    assert cache.find("key") is None
    assert cache.counts().damaged == 1
