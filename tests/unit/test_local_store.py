"""What the local store promises beyond the common contract: about disks, links, modes and the system's errors."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.store_reads import read_whole

from imgsyncfs.errors import (
    BlobChanged,
    BlobMissing,
    BlobRefused,
    StoreError,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from imgsyncfs.stores.buffers import RangeInParts
from imgsyncfs.stores.contract import RangeRead, Store
from imgsyncfs.stores.opening import open_store


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
        read_whole(store, name)
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
    monkeypatch.setattr(os, "fsync", failing(number))

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

    monkeypatch.setattr(os, "fsync", fsync)
    store.write("x", b"content")

    assert names_at_sync == [(True, False), (False, True)]


def test_an_unfinished_write_is_not_listed(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed_meanwhile = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            listed_meanwhile.append((files_in(folder) != [], list(store.list())))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.write("x", b"content")

    assert listed_meanwhile == [(True, [])]


def test_a_disk_without_hard_links_will_do(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))

    written = store.write("inner/x", b"content")

    assert store.describe("inner/x").etag == written.etag
    assert store.write("inner/x", b"content").etag == written.etag
    assert files_in(folder) == ["inner/x"]


def test_a_disk_without_hard_links_keeps_what_came_meanwhile(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(_unfinished: str, name: str, **_options: Any) -> NoReturn:
        (folder / name).write_bytes(b"another")
        failing(errno.EPERM)()

    monkeypatch.setattr(os, "link", link)

    with pytest.raises(BlobChanged):
        store.write("x", b"content", md5="9a0364b9e99bb480dd25e1f0284c8555")
    assert files_in(folder) == ["x"]
    assert read_whole(store, "x") == b"another"


def test_a_disk_that_cannot_sync_folders_will_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.write("x", b"content")

    assert read_whole(store, "x") == b"content"


def test_a_folder_that_goes_away_is_a_missing_store_and_is_not_made_anew(store: Store, folder: Path) -> None:
    store.write("x", b"content")
    folder.rename(folder.with_name("elsewhere"))

    with pytest.raises(StoreMissing, match="mounted"):
        read_whole(store, "x")
    with pytest.raises(StoreMissing):
        store.write("y", b"content")
    assert not folder.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_read_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store.write("x", b"content")
    monkeypatch.setattr(os, "open", failing(number))

    with pytest.raises(StoreRefused, match=r"may not be read .*; check the permissions of /.*/x"):
        read_whole(store, "x")


def test_a_read_only_disk_refuses_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def open_to_read(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            failing(errno.EROFS)()
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_to_read)

    with pytest.raises(StoreRefused, match=r"may not be written \(Read-only file system\)"):
        store.write("x", b"content")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_disk_that_fails_is_an_unreachable_store(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store.write("x", b"content")
    monkeypatch.setattr(os, "preadv", failing(number))

    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        read_whole(store, "x")


def test_too_many_open_files_are_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("x", b"content")
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))

    with pytest.raises(StoreError, match="ulimit -n"):
        read_whole(store, "x")


def test_a_range_comes_whole_however_the_system_serves_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 40
    store.write("x", content)
    real_preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: real_preadv(fd, [buffers[0][:1000]], offset))

    assert store.read("x", 10, 9_000) == content[10:9_010]


@pytest.fixture
def outside(folder: Path, tmp_path: Path) -> Path:
    """A folder outside of the store, with a file that links within the store lead to."""
    place = tmp_path / "outside"
    (place / "inner").mkdir(parents=True)
    (place / "inner/x").write_bytes(b"content")
    (folder / "absolute").symlink_to(place / "inner/x")
    (folder / "relative").symlink_to("../outside/inner/x")
    (folder / "folder").symlink_to(place)
    (folder / "nothing").symlink_to(place / "nothing")
    (folder / "twice").symlink_to("folder")
    return place


OUTWARD = ["absolute", "relative", "folder/inner/x", "twice/inner/x", "nothing", "folder/nothing"]


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("blob", OUTWARD)
def test_a_blob_behind_a_link_out_of_the_store_is_not_read(store: Store, blob: str) -> None:
    parts = RangeInParts(memoryview(bytearray(7)), 0, 7)

    for read in (
        lambda: read_whole(store, blob),
        lambda: store.read_into(blob, memoryview(bytearray(7))),
        lambda: store.read_parts(blob, parts),
        lambda: store.read_all_into([RangeRead(blob, memoryview(bytearray(7)))]),
        lambda: store.describe(blob),
    ):
        with pytest.raises(BlobRefused, match=rf"Blob {blob} in file:///.* leads out of the store's folder; put"):
            read()


@pytest.mark.parametrize("blob", OUTWARD)
def test_nothing_is_written_behind_a_link_out_of_the_store(store: Store, outside: Path, blob: str) -> None:
    with pytest.raises(BlobRefused, match="leads out"):
        store.write(blob, b"content")
    with pytest.raises(BlobRefused, match="leads out"):
        store.write(f"{blob}/new", b"content")

    assert files_in(outside) == ["inner/x"]


@pytest.mark.usefixtures("outside")
def test_links_out_of_the_store_are_not_listed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.write("x", b"content")

    assert [info.blob for info in store.list()] == ["x"]
    assert "'relative' in file:///" in caplog.text
    assert "leads out" in caplog.text


@pytest.mark.usefixtures("outside")
def test_a_prefix_behind_a_link_out_of_the_store_is_not_listed(store: Store) -> None:
    with pytest.raises(BlobRefused, match="leads out"):
        list(store.list("folder/inner/"))


def test_links_within_the_store_are_followed(store: Store, folder: Path) -> None:
    store.write("inner/x", b"content")
    (folder / "relative").symlink_to("inner/x")
    (folder / "absolute").symlink_to(folder / "inner/x")
    (folder / "inner/up").symlink_to(f"../../{folder.name}/inner/x")
    (folder / "folder").symlink_to(folder / "inner")

    for blob in ("relative", "absolute", "inner/up", "folder/x"):
        assert read_whole(store, blob) == b"content"
    store.write("folder/new", b"content")
    assert read_whole(store, "inner/new") == b"content"
    assert {info.blob for info in store.list()} >= {"relative", "absolute", "folder/x", "inner/new"}


def test_links_in_the_stores_own_path_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to(folder)

    store = open_store((tmp_path / "link").as_uri())
    assert read_whole(store, "x") == b"content"
    assert [info.blob for info in store.list()] == ["x"]


@pytest.mark.usefixtures("outside")
def test_a_store_below_an_allowed_one_is_not_reached_by_a_link_out_of_that(folder: Path) -> None:
    store = open_store((folder / "folder").as_uri(), within=folder.as_uri())

    for use in (
        store.check,
        lambda: read_whole(store, "inner/x"),
        lambda: store.write("new", b"content"),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreRefused, match=r"is not used: a link in its path leads out of /"):
            use()


def test_a_store_below_an_allowed_one_is_reached_by_a_link_within_that(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner/x").write_bytes(b"content")
    (folder / "link").symlink_to("inner")

    assert read_whole(open_store((folder / "link").as_uri(), within=folder.as_uri()), "x") == b"content"


NO_OPENAT2 = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x50000 | int(sys.argv[2])), (0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *rule) for rule in rules)
assert libc.prctl(38, 1, 0, 0, 0) == 0
kept = ctypes.create_string_buffer(program)
filter_ = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(kept))
assert libc.prctl(22, 2, ctypes.create_string_buffer(filter_), 0, 0) == 0, ctypes.get_errno()
"""
"""Has the system answer openat2 with an error from then on, as some containers do: prctl(2), PR_SET_SECCOMP."""


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_a_store_is_the_same(folder: Path, number: int) -> None:
    (folder / "inner").mkdir()
    (folder / "inner/x").write_bytes(b"content")
    (folder / "within").symlink_to("inner")
    program = f"""
import sys
{NO_OPENAT2}
from imgsyncfs.errors import BlobMissing, BlobRefused
from imgsyncfs.stores.opening import open_store
store = open_store(sys.argv[1])
print(store.read("inner/x", 0, 9), store.read("within/x", 0, 9), sorted(info.blob for info in store.list()))
print(store.write("new/y", b"y").byte_count, store.read("new/y", 0, 9))
for blob in {OUTWARD} + ["missing"]:
    try:
        store.read(blob, 0, 9)
    except (BlobMissing, BlobRefused) as error:
        print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, folder.as_uri(), str(number)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "b'content' b'content' ['inner/x', 'within/x']",
        "1 b'y'",
        *["BlobRefused"] * len(OUTWARD),
        "BlobMissing",
    ], done.stderr


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
        read_whole(store, "pipe")
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
    real_preadv = os.preadv

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        count = real_preadv(descriptor, buffers, offset)
        os.utime(folder / "x", ns=(1, 1))
        return count

    monkeypatch.setattr(os, "preadv", preadv)

    with pytest.raises(StoreError, match="etag"):
        read_whole(store, "x", etag=etag)
