"""Several processes answer the kernel: what one of them knows or suffers makes no difference to a reader."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.mounting import (
    Workplace,
    box_annotation,
    copy_of,
    eventually,
    mount_status,
    noise_image,
    process_ids,
    workplace_with,
    write_image,
)

from imgsyncfs.library.views.registry import VIEWS

DATASET = "original_20260105_rgb_rbbox"
IMAGES = 24

KILLS = int(os.environ.get("IMGSYNCFS_KILLS", "30"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of one dataset; its folder is `folder_of`."""
    return workplace_with(tmp_path_factory.mktemp("prepared"), DATASET, count=IMAGES)


@pytest.fixture
def workplace(prepared: Workplace, tmp_path: Path) -> Workplace:
    """A copy of it, to be changed."""
    return copy_of(prepared, tmp_path)


def publish(workplace: Workplace) -> None:
    workplace.run("publish", workplace.folder / "one", "--name", DATASET)


def answering(mountpoint: Path) -> list[int]:
    """The process ids of the responders, without their template."""
    ids: list[int] = mount_status(mountpoint)["responders"]["process_ids"]
    return ids[:-1]


def replaced(mountpoint: Path) -> int:
    """How many responders have died and were replaced."""
    count: int = mount_status(mountpoint)["responders"]["replaced"]
    return count


def numbers_in(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


def test_as_many_processes_answer_as_were_asked_for(workplace: Workplace) -> None:
    with workplace.mounted("--responders", "3") as mountpoint:
        assert len(answering(mountpoint)) == 3
    done = workplace.run("mount", workplace.folder / "mnt", "--responders", "0", status=None)
    assert done.returncode != 0
    assert "--responders" in done.stderr


def test_inode_numbers_are_those_of_the_last_mount_and_what_stat_and_readdir_say_agrees(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        before = numbers_in(mountpoint / DATASET)
        assert {name: (mountpoint / DATASET / name).stat().st_ino for name in before} == before
        root = numbers_in(mountpoint)
    with workplace.mounted() as mountpoint:
        assert numbers_in(mountpoint / DATASET) == before
        assert numbers_in(mountpoint) == root
        assert mountpoint.stat().st_ino == 1


def test_a_file_whose_content_has_changed_has_another_number_and_all_others_keep_theirs(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.3") as mountpoint:
        folder = mountpoint / DATASET
        before = numbers_in(folder)
        (workplace.folder / "one" / "img_00003.json").write_bytes(box_annotation(x=50.0))
        write_image(workplace.folder / "one" / "a_new_one.jpg")
        publish(workplace)
        assert eventually((folder / "a_new_one.jpg").exists)
        after = numbers_in(folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {f"img_00003.{ext}" for ext in ("json", "labelme.json", "xml")}
    assert after.keys() - before.keys() == {"a_new_one.jpg"}


def notifications(mountpoint: Path) -> int:
    """How many the kernel has been sent, once all is told of a change that shows."""
    read_at = mount_status(mountpoint)["catalog"]["read_at"]
    # The next refresh begins when the last has told all.
    assert eventually(lambda: mount_status(mountpoint)["catalog"]["read_at"] > read_at)
    count: int = mount_status(mountpoint)["responders"]["notifications"]
    return count


def test_the_kernel_is_told_of_changed_names_alone(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.3") as mountpoint:
        for path in (mountpoint / DATASET).iterdir():
            path.stat()
        (workplace.folder / "one" / "img_00003.json").write_bytes(box_annotation(x=50.0))
        (workplace.folder / "one" / "img_00004.jpg").unlink()
        (workplace.folder / "one" / "img_00004.json").unlink()
        publish(workplace)
        assert eventually(lambda: not (mountpoint / DATASET / "img_00004.jpg").exists())
        assert eventually(lambda: b"50" in (mountpoint / DATASET / "img_00003.json").read_bytes())
        # Three names of each annotation, and one image; the directories of the dataset and above it, whose times are
        # others. Of the other images' hundred names, none.
        assert notifications(mountpoint) == 2 * 3 + 1 + 2


def links_below(folder: Path) -> dict[Path, tuple[Path, int]]:
    """The symlinks at any depth: where they lead, and their numbers. The kernel knows them all then."""
    return {path: (path.readlink(), path.lstat().st_ino) for path in folder.rglob("*") if path.is_symlink()}


def test_of_links_the_kernel_is_told_only_those_that_came_or_went(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.3") as mountpoint:
        hidden = mountpoint / ".by"
        before = links_below(hidden)
        for view in (mountpoint / ".views").iterdir():
            list(view.iterdir())
        house = mountpoint / DATASET / "img_00003.json"
        house.stat()

        def publish_box(x: float, *options: str) -> int:
            """Publish another annotation; returns how many notifications that made."""
            told = notifications(mountpoint)
            (workplace.folder / "one" / house.name).write_bytes(box_annotation(x=x))
            workplace.run("publish", workplace.folder / "one", "--name", DATASET, *options)
            assert eventually(lambda: house.read_bytes() == (workplace.folder / "one" / house.name).read_bytes())
            return notifications(mountpoint) - told

        # The annotation's three names; the directories of the dataset, in each view too, and above it. One view has
        # only datasets with classifications.
        directories = 2 + len(VIEWS.keys() - {"imagefolder"})
        assert publish_box(50.0) == 3 + directories
        assert links_below(hidden) == before
        # The link, its directory and the directory above that came; the last has another time.
        assert publish_box(51.0, "--projects", "roadside") == 3 + directories + 2
        after = links_below(hidden)
    assert after.keys() - before.keys() == {hidden / "project" / "roadside" / DATASET}
    assert {path: link for path, link in after.items() if path in before} == before


def content_of(path: Path) -> bytes:
    """Read a file with system calls alone: Python's own `open` asks each file whether it is a terminal."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
    finally:
        os.close(descriptor)


def test_what_the_kernel_knows_it_never_asks_for_again(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        paths = sorted((mountpoint / DATASET).iterdir())
        contents = [content_of(path) for path in paths]
        first = mount_status(mountpoint)
        # Several refreshes later.
        assert eventually(lambda: mount_status(mountpoint)["catalog"]["read_at"] > first["catalog"]["read_at"] + 1)
        before = mount_status(mountpoint)["responders"]["requests"]
        assert sorted((mountpoint / DATASET).iterdir()) == paths
        assert [content_of(path) for path in paths] == contents
        assert not (mountpoint / DATASET / "absent.jpg").exists()
        assert not (mountpoint / DATASET / "absent.jpg").exists()
        after = mount_status(mountpoint)["responders"]["requests"]
    # The absent name, and what it takes to read status.json.
    assert after - before < 12


def test_a_file_that_is_open_and_mapped_keeps_its_revision_though_it_is_replaced_and_then_removed(
    workplace: Workplace, tmp_path: Path
) -> None:
    name = "original_20260107_rgb_bbox"
    folder = tmp_path / "long"
    folder.mkdir()
    old = noise_image(folder / "long.png", seed=1)
    workplace.run("publish", folder, "--name", name)
    with workplace.mounted("--refresh", "0.3") as mountpoint:
        image = mountpoint / name / "long.png"
        with image.open("rb", buffering=0) as reader:
            mapped = mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ)
            assert mapped[:10] == old[:10]
            new = noise_image(folder / "long.png", seed=2)
            write_image(folder / "other.jpg")
            workplace.run("publish", folder, "--name", name)
            assert eventually(lambda: image.read_bytes() == new)
            (folder / "long.png").unlink()
            workplace.run("publish", folder, "--name", name)
            assert eventually(lambda: not image.exists())
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert mapped[:] == old
            assert b"".join(iter(lambda: reader.read(65536), b"")) == old
            assert os.fstat(reader.fileno()).st_size == len(old)
            mapped.close()


def test_an_earlier_revision_is_let_go_when_nobody_has_a_file_of_it_open(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        house = mountpoint / DATASET / "img_00003.json"
        with house.open("rb") as reader:
            (workplace.folder / "one" / "img_00003.json").write_bytes(box_annotation(x=50.0))
            publish(workplace)
            assert eventually(lambda: house.read_bytes() == (workplace.folder / "one" / "img_00003.json").read_bytes())
            # A few refreshes later it is still there.
            time_read = mount_status(mountpoint)["catalog"]["read_at"]
            assert eventually(lambda: mount_status(mountpoint)["catalog"]["read_at"] > time_read + 2)
            assert mount_status(mountpoint)["revisions_held"] == 1
            assert reader.read() != b""
        assert eventually(lambda: mount_status(mountpoint)["revisions_held"] == 0)


def take_dataset_out(workplace: Workplace) -> tuple[object, ...]:
    """Take the dataset out of the catalog; returns its row."""
    with contextlib.closing(sqlite3.connect(workplace.catalog)) as connection, connection:
        row: tuple[object, ...] = connection.execute("SELECT * FROM datasets").fetchone()
        connection.execute("DELETE FROM datasets")
    return row


def test_a_file_that_is_open_can_be_read_though_its_dataset_is_removed(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        folder = mountpoint / DATASET
        published = workplace.folder / "one" / "img_00003.jpg"
        with (folder / published.name).open("rb") as reader:
            take_dataset_out(workplace)
            assert eventually(lambda: not folder.exists())
            read_at = mount_status(mountpoint)["catalog"]["read_at"]
            # Long after the mount would have let go of the dataset.
            assert eventually(lambda: mount_status(mountpoint)["catalog"]["read_at"] > read_at + 2)
            assert mount_status(mountpoint)["listings_loaded"] == 1
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert reader.read() == published.read_bytes()


def test_a_dataset_that_is_removed_is_let_go_and_may_come_back(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        folder = mountpoint / DATASET
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        row = take_dataset_out(workplace)
        assert eventually(lambda: not folder.exists())
        assert eventually(lambda: mount_status(mountpoint)["listings_loaded"] == 0)
        with contextlib.closing(sqlite3.connect(workplace.catalog)) as connection, connection:
            connection.execute(f"INSERT INTO datasets VALUES ({','.join('?' * len(row))})", row)
        assert eventually(folder.exists)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_responder_that_dies_is_replaced_and_reading_goes_on(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        for number in range(6):
            victim = answering(mountpoint)[number % 2]
            os.kill(victim, signal.SIGKILL)
            assert (mountpoint / DATASET / f"img_{number:05}.xml").stat().st_size > 0
            assert eventually(lambda victim=victim: len({*answering(mountpoint)} - {victim}) == 2)  # type: ignore[misc]  # mypy cannot infer a lambda's default
            assert replaced(mountpoint) == number + 1


def test_when_the_template_dies_responders_can_still_be_replaced(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        *responders, template = mount_status(mountpoint)["responders"]["process_ids"]
        os.kill(template, signal.SIGKILL)
        for process in responders:
            os.kill(process, signal.SIGKILL)
        assert (mountpoint / DATASET / "img_00000.jpg").read_bytes().startswith(b"\xff\xd8")
        # One that the template was about to fork when it died is replaced once more.
        assert eventually(lambda: replaced(mountpoint) >= len(responders))


ON_A_DEATH = {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED}
"""What a reader gets whose request a process that died had in hand, or who asks a mount whose coordinator has died."""


def read_until(
    stop: threading.Event, mountpoint: Path, expected: dict[str, bytes], seed: int, on_a_death: set[int]
) -> tuple[int, float]:
    """Read files at random and compare them; returns how many there were and the longest that one took.

    After one of some errors a reader tries again.
    """
    generator = random.Random(seed)
    names = list(expected)
    count, longest = 0, 0.0
    while not stop.is_set():
        name = generator.choice(names)
        begin = time.monotonic()
        try:
            content = (mountpoint / DATASET / name).read_bytes()
        except OSError as error:
            if error.errno not in on_a_death:
                raise
            stop.wait(0.01)
            continue
        finally:
            longest = max(longest, time.monotonic() - begin)
        assert content == expected[name]
        count += 1
    return count, longest


def processes_behind(mountpoint: Path) -> list[int]:
    """As `process_ids`, of a mount whose processes die."""
    while True:
        try:
            return process_ids(mountpoint)
        except OSError as error:
            if error.errno not in ON_A_DEATH:
                raise


@pytest.mark.slow
@pytest.mark.timeout(90 + 2 * KILLS)
def test_random_deaths_under_sixteen_readers_give_no_wrong_byte_and_nobody_hangs(workplace: Workplace) -> None:
    timeout = 10.0
    options = ("--timeout", f"{timeout:g}", "--cache-size", "64K")
    with workplace.mounted(*options) as mountpoint:
        names = sorted(path.name for path in (mountpoint / DATASET).iterdir())
        expected = {name: (mountpoint / DATASET / name).read_bytes() for name in names}
        stop = threading.Event()
        generator = random.Random(1)
        ends = 0
        # Between the clearing of a dead mount and the next one there are no files.
        on_a_death = {*ON_A_DEATH, errno.ENOENT}
        with ThreadPoolExecutor(16) as pool:
            readers = [pool.submit(read_until, stop, mountpoint, expected, seed, on_a_death) for seed in range(16)]
            dropping = subprocess.Popen([sys.executable, "-c", DROP, str(mountpoint / DATASET)])
            try:
                for _ in range(KILLS):
                    processes = processes_behind(mountpoint)
                    victim = generator.choice(processes)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                    if victim != processes[0]:
                        time.sleep(0.02)
                        continue
                    ends += 1
                    assert eventually(lambda: not workplace.processes_left())
                    assert error_of(mountpoint) in ON_A_DEATH
                    workplace.run("mount", mountpoint, *options)
            finally:
                stop.set()
                results = [reader.result(timeout + 30) for reader in readers]
                dropping.kill()
                dropping.wait()
    longest = max(seconds for _, seconds in results)
    print(f"{KILLS} deaths, {ends} of them the coordinator's; the longest read took {longest:.1f} s")
    assert ends > 0
    assert all(count > 0 for count, _ in results)
    assert longest < timeout + 2


def error_of(mountpoint: Path) -> int | None:
    """The errno that asking a mount ends in."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno
    return None


DROP = """
import os, sys, time
while True:
    try:
        for entry in os.scandir(sys.argv[1]):
            descriptor = os.open(entry.path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    except OSError:
        time.sleep(0.01)
"""
"""Drops pages, so that readers ask."""


class FileHandle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2)."""

    _fields_ = (("byte_count", ctypes.c_uint), ("kind", ctypes.c_int), ("content", ctypes.c_ubyte * 128))


REMEMBERED = (
    f"{DATASET}/img_00005.xml",
    f".views/labelme/{DATASET}/img_00005.json",
    f".views/labelme/{DATASET}",
    ".views/labelme",
    ".by/image_type/rgb",
    ".selections/chosen",
)


@dataclass(frozen=True)
class Remembered:
    """What an NFS server keeps of a file or directory, and what it must lead to: content, or names."""

    handle: FileHandle
    expected: bytes | list[str]


@pytest.fixture(scope="module")
def remembered(
    prepared: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workplace, Mapping[str, Remembered]]:
    """A workplace, and what is remembered of a mount of it that has ended."""
    workplace = copy_of(prepared, tmp_path_factory.mktemp("remembered"))
    workplace.run("select", "chosen", "--first", "1")
    libc = ctypes.CDLL(None, use_errno=True)
    kept = {}
    with workplace.mounted() as mountpoint:
        for name in REMEMBERED:
            handle, mount_id = FileHandle(byte_count=128), ctypes.c_int()
            place = mountpoint / name
            expected = [*numbers_in(place)] if place.is_dir() else place.read_bytes()
            path = os.fsencode(place)
            assert libc.name_to_handle_at(-100, path, ctypes.byref(handle), ctypes.byref(mount_id), 0) == 0
            kept[name] = Remembered(handle, expected)
    return workplace, kept


@pytest.mark.parametrize("name", REMEMBERED)
def test_what_an_nfs_server_remembers_leads_to_the_same_after_the_next_mount(
    remembered: tuple[Workplace, Mapping[str, Remembered]], name: str
) -> None:
    workplace, kept = remembered
    handle, expected = kept[name].handle, kept[name].expected
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel finds the way to a directory by reading those above it.
    with workplace.mounted("--list-hidden") as mountpoint:
        root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        descriptor = libc.open_by_handle_at(root, ctypes.byref(handle), os.O_RDONLY)
        os.close(root)
        assert descriptor >= 0, os.strerror(ctypes.get_errno())
        found = os.listdir(descriptor) if isinstance(expected, list) else os.read(descriptor, 1 << 20)  # noqa: PTH208
        os.close(descriptor)
        assert found == expected
