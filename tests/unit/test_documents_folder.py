"""Documents in the cache folder: found as they were written, or not at all, within their room."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.cache.documents import (
    ABANDONED_SECONDS,
    SHARE,
    DocumentsFolder,
    NewDocument,
    clear_documents,
    documents_volume,
    verify_documents,
    write_document,
)
from imgsyncfs.errors import CacheError
from imgsyncfs.settings.limits import CacheLimits
from imgsyncfs.workers.progress import SilentProgress

MEBIBYTE = 1 << 20
RECORD = {"dataset": "a", "losses": [["masks", 3, "no place for them"]]}


@pytest.fixture
def documents(tmp_path: Path) -> DocumentsFolder:
    return DocumentsFolder(tmp_path, CacheLimits(SHARE * MEBIBYTE))


def written(documents: DocumentsFolder, content: bytes, record: dict[str, object] | None = None) -> NewDocument:
    new = documents.new()
    with io.FileIO(os.dup(new.descriptor), "wb") as target:
        write_document(target, [content], lambda: RECORD if record is None else record)
    return new


def put(documents: DocumentsFolder, name: str, content: bytes, *, used_at: int) -> None:
    documents.keep(written(documents, content), name)
    os.utime(path_of(documents, name), (used_at, used_at))


def path_of(documents: DocumentsFolder, name: str) -> Path:
    return documents.folder / f"{name}.document"


def names(documents: DocumentsFolder) -> set[str]:
    return {path.name.partition(".document")[0] for path in documents.folder.iterdir()}


def test_a_document_is_found_as_it_was_written_with_what_is_known_of_it(documents: DocumentsFolder) -> None:
    documents.keep(written(documents, b"content"), "x")
    found = documents.find("x")
    assert found is not None
    assert (found.content(), found.length, found.record) == (b"content", 7, RECORD)
    assert documents.find("y") is None


def test_an_empty_document_is_kept_too(documents: DocumentsFolder) -> None:
    documents.keep(written(documents, b"", {}), "x")
    found = documents.find("x")
    assert found is not None
    assert (found.content(), found.record) == (b"", {})


@given(place=st.integers(min_value=0), bit=st.integers(0, 7), content=st.binary(max_size=200))
def test_a_document_with_any_flipped_bit_is_not_used_and_is_removed(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, content: bytes
) -> None:
    documents = DocumentsFolder(tmp_path_factory.mktemp("cache"), CacheLimits(SHARE * MEBIBYTE))
    documents.keep(written(documents, content), "x")
    path = path_of(documents, "x")
    flipped = bytearray(path.read_bytes())
    flipped[place % len(flipped)] ^= 1 << bit
    path.write_bytes(flipped)
    assert documents.find("x") is None
    assert not path.exists()


@given(length=st.integers(min_value=0), content=st.binary(max_size=200))
def test_a_document_that_was_cut_off_anywhere_is_not_used(
    tmp_path_factory: pytest.TempPathFactory, length: int, content: bytes
) -> None:
    documents = DocumentsFolder(tmp_path_factory.mktemp("cache"), CacheLimits(SHARE * MEBIBYTE))
    documents.keep(written(documents, content), "x")
    path = path_of(documents, "x")
    os.truncate(path, length % path.stat().st_size)
    assert documents.find("x") is None


def test_a_link_in_place_of_a_document_is_not_followed(documents: DocumentsFolder, tmp_path: Path) -> None:
    documents.keep(written(documents, b"content"), "x")
    path_of(documents, "x").rename(tmp_path / "elsewhere")
    path_of(documents, "x").symlink_to(tmp_path / "elsewhere")
    assert documents.find("x") is None
    assert (tmp_path / "elsewhere").exists()


def test_a_file_that_nobody_keeps_leaves_nothing(documents: DocumentsFolder) -> None:
    written(documents, b"content")
    assert names(documents) == set()


def test_two_who_write_the_same_document_both_get_it(documents: DocumentsFolder) -> None:
    one, other = written(documents, b"content"), written(documents, b"content")
    assert documents.keep(one, "x").content() == documents.keep(other, "x").content() == b"content"
    assert names(documents) == {"x"}


def test_a_damaged_document_is_replaced(documents: DocumentsFolder) -> None:
    documents.keep(written(documents, b"content"), "x")
    path_of(documents, "x").write_bytes(b"")
    assert documents.keep(written(documents, b"content"), "x").content() == b"content"


def test_a_disk_that_makes_no_file_without_a_name_keeps_documents_too(documents: DocumentsFolder) -> None:
    new = written(documents, b"content")
    path = documents.folder / ".unfinished-1"
    with path.open("wb") as named:
        named.write(os.pread(new.descriptor, 1000, 0))
    documents.keep(NewDocument(os.open(path, os.O_RDWR), path), "x")
    found = documents.find("x")
    assert found is not None
    assert found.content() == b"content"
    assert names(documents) == {"x"}


def test_what_was_used_least_recently_makes_room(documents: DocumentsFolder) -> None:
    for number, name in enumerate("abc"):
        put(documents, name, bytes(MEBIBYTE // 4), used_at=1000 + number)
    assert documents.find("a") is not None
    documents.keep(written(documents, bytes(MEBIBYTE // 3)), "d")
    assert names(documents) == {"a", "c", "d"}


def test_a_document_that_was_removed_says_so(documents: DocumentsFolder) -> None:
    kept = documents.keep(written(documents, b"content"), "x")
    assert not kept.is_removed()
    path_of(documents, "x").unlink()
    assert kept.is_removed()


def test_a_document_beyond_all_room_is_refused_and_removes_no_other(documents: DocumentsFolder) -> None:
    put(documents, "a", b"content", used_at=1000)
    with pytest.raises(CacheError, match="make the cache larger"):
        documents.keep(written(documents, bytes(MEBIBYTE)), "x")
    assert names(documents) == {"a"}


def test_documents_make_room_for_what_the_disk_is_to_keep_free(tmp_path: Path) -> None:
    full = DocumentsFolder(tmp_path, CacheLimits(SHARE * MEBIBYTE, 1 << 60))
    put(full, "a", b"content", used_at=1000)
    full.make_room(0)
    assert names(full) == set()


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(documents: DocumentsFolder) -> None:
    put(documents, "a", b"content", used_at=1000)
    for name, age in ((".unfinished-old", 2 * ABANDONED_SECONDS), (".unfinished-new", 0)):
        path = documents.folder / name
        path.touch()
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    documents.make_room(0)
    assert names(documents) == {"a", ".unfinished-new"}


def test_documents_are_counted_checked_and_cleared(documents: DocumentsFolder) -> None:
    cache_dir = documents.folder.parent
    assert documents_volume(cache_dir) == (0, 0)
    for name, dataset in (("x", "a"), ("y", "b"), ("z", "b")):
        documents.keep(written(documents, b"content", {"dataset": dataset}), name)
    path_of(documents, "z").write_bytes(path_of(documents, "y").read_bytes().replace(b"content", b"contend"))
    assert documents_volume(cache_dir) == (3, 3 * 4096)
    check = verify_documents(cache_dir, chosen=lambda record: record["dataset"] == "b", progress=SilentProgress())
    assert (check.documents, check.damaged) == (2, 1)
    assert clear_documents(cache_dir, chosen=lambda record: record["dataset"] == "b") == (1, 4096)
    assert names(documents) == {"x"}
    assert clear_documents(cache_dir) == (1, 4096)
