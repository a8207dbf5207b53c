"""What the local store promises beyond the common contract: about disks, links, modes and the system's errors."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from imgsyncfs.errors import BlobChanged, BlobMissing, StoreError, StoreMissing, StoreRefused, StoreUnreachable
from imgsyncfs.store import Store, open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(folder.as_uri())


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda mask: (os.umask(mask), None)[1]
    os.umask(before)


def failing(number: int) -> Callable[..., NoReturn]:
    def fail(*_arguments: Any, **_options: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["/etc/passwd", "a//b", "a/", "/"])
def test_a_name_with_nothing_beside_a_slash_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        store.read(name)
    with pytest.raises(StoreError, match="cannot be used"):
        store.write(name, b"x")


def test_a_blob_is_a_plain_file_with_its_name(store: Store, folder: Path) -> None:
    store.write("dataset/image.jpg", b"content")

    assert files_in(folder) == ["dataset/image.jpg"]
    assert (folder / "dataset/image.jpg").read_bytes() == b"content"


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_modes_are_those_of_the_umask(
    store: Store, folder: Path, umask: Callable[[int], None], mask: int, file_mode: int, folder_mode: int
) -> None:
    umask(mask)

    store.write("inner/x", b"content")

    assert stat.S_IMODE((folder / "inner/x").stat().st_mode) == file_mode
    assert stat.S_IMODE((folder / "inner").stat().st_mode) == folder_mode


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_nothing_half_written_stays(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("imgsyncfs.store.local.os.fsync", failing(number))

    with pytest.raises(StoreError, match=r"Blob x in file:///.* the disk is full; free some space"):
        store.write("x", b"content")

    assert files_in(folder) == []


def test_content_is_on_the_disk_before_it_has_its_name(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_at_sync = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        names_at_sync.append((stat.S_ISREG(os.fstat(descriptor).st_mode), (folder / "x").exists()))
        real_fsync(descriptor)

    monkeypatch.setattr("imgsyncfs.store.local.os.fsync", fsync)
    store.write("x", b"content")

    assert names_at_sync == [(True, False), (False, True)]


def test_an_unfinished_write_is_not_listed(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed_meanwhile = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            listed_meanwhile.append((files_in(folder) != [], list(store.list())))
        real_fsync(descriptor)

    monkeypatch.setattr("imgsyncfs.store.local.os.fsync", fsync)
    store.write("x", b"content")

    assert listed_meanwhile == [(True, [])]


def test_a_disk_without_hard_links_will_do(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", failing(errno.EPERM))

    written = store.write("inner/x", b"content")

    assert store.describe("inner/x").etag == written.etag
    assert store.write("inner/x", b"content").etag == written.etag
    assert files_in(folder) == ["inner/x"]


def test_a_disk_without_hard_links_keeps_what_came_meanwhile(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hardlink_to(path: Path, _target: Path) -> NoReturn:
        path.write_bytes(b"another")
        failing(errno.EPERM)()

    monkeypatch.setattr(Path, "hardlink_to", hardlink_to)

    with pytest.raises(BlobChanged):
        store.write("x", b"content", md5="9a0364b9e99bb480dd25e1f0284c8555")
    assert files_in(folder) == ["x"]
    assert store.read("x") == b"another"


def test_a_disk_that_cannot_sync_folders_will_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real_fsync(descriptor)

    monkeypatch.setattr("imgsyncfs.store.local.os.fsync", fsync)
    store.write("x", b"content")

    assert store.read("x") == b"content"


def test_a_folder_that_goes_away_is_a_missing_store_and_is_not_made_anew(store: Store, folder: Path) -> None:
    store.write("x", b"content")
    folder.rename(folder.with_name("elsewhere"))

    with pytest.raises(StoreMissing, match="mounted"):
        store.read("x")
    with pytest.raises(StoreMissing):
        store.write("y", b"content")
    assert not folder.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_read_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store.write("x", b"content")
    monkeypatch.setattr("imgsyncfs.store.local.os.open", failing(number))

    with pytest.raises(StoreRefused, match=r"may not be read .*; check the permissions of /.*/x"):
        store.read("x")


def test_a_read_only_disk_refuses_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", failing(errno.EROFS))

    with pytest.raises(StoreRefused, match=r"may not be written \(Read-only file system\)"):
        store.write("x", b"content")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_disk_that_fails_is_an_unreachable_store(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store.write("x", b"content")
    monkeypatch.setattr("imgsyncfs.store.local.os.pread", failing(number))

    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        store.read("x")


def test_too_many_open_files_are_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("x", b"content")
    monkeypatch.setattr("imgsyncfs.store.local.os.open", failing(errno.EMFILE))

    with pytest.raises(StoreError, match="ulimit -n"):
        store.read("x")


def test_a_range_comes_whole_however_the_system_serves_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 40
    store.write("x", content)
    real_pread = os.pread
    monkeypatch.setattr("imgsyncfs.store.local.os.pread", lambda fd, n, offset: real_pread(fd, min(n, 1000), offset))

    assert store.read("x", 10, 9_000) == content[10:9_010]


def test_links_out_of_the_store_are_followed(store: Store, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner/x").write_bytes(b"content")
    (folder / "folder link").symlink_to(outside)
    (folder / "file link").symlink_to(outside / "inner/x")

    assert store.read("folder link/inner/x") == store.read("file link") == b"content"
    assert sorted(info.blob for info in store.list()) == ["file link", "folder link/inner/x"]


def test_links_in_a_circle_and_broken_ones_are_left_out(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.write("inner/x", b"content")
    (folder / "inner/up").symlink_to(folder)
    (folder / "broken").symlink_to(folder / "nowhere")
    (folder / "itself").symlink_to(folder / "itself")

    assert [info.blob for info in store.list()] == ["inner/x"]
    assert "broken" in caplog.text
    assert "itself" in caplog.text


def test_a_pipe_does_not_hang_a_reader(store: Store, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(folder / "pipe")

    with pytest.raises(BlobMissing):
        store.read("pipe")
    assert list(store.list()) == []
    assert "no regular file" in caplog.text


def test_a_file_whose_name_is_not_utf_8_is_left_out(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.jpg")).write_bytes(b"content")
    store.write("x", b"content")

    assert [info.blob for info in store.list()] == ["x"]
    assert "UTF-8" in caplog.text


def test_a_file_in_the_way_of_a_folder_is_named(store: Store, folder: Path) -> None:
    (folder / "x").write_bytes(b"content")

    with pytest.raises(StoreError, match="cannot be written"):
        store.write("x/y", b"content")
    with pytest.raises(StoreError, match="cannot be written"):
        store.write("z" * 300, b"content")
    assert files_in(folder) == ["x"]


def test_a_file_replaced_while_it_is_read_is_noticed_by_its_etag(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("x", b"content")
    etag = store.describe("x").etag
    real_pread = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        content = real_pread(descriptor, length, offset)
        os.utime(folder / "x", ns=(1, 1))
        return content

    monkeypatch.setattr("imgsyncfs.store.local.os.pread", pread)

    with pytest.raises(StoreError, match="etag"):
        store.read("x", etag=etag)
