"""A mount of an ordinary user, and mounts in namespaces such as containers have."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.mounting import (
    Workplace,
    all_end_after,
    box_annotation,
    is_running,
    process_ids,
    workplace_with,
)
from support.ordinary_user import AS_NOBODY, NOBODY, as_ordinary_user
from support.places import SUPPORT, importing_support

LIFE = SUPPORT / "life_of_a_mount.py"
FORCED_END = SUPPORT / "forced_end.py"
SECONDS = 100.0

DATASET = "original_20260105_rgb_rbbox"

CONTAINER = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Namespaces of mounts and processes, as containers have."""


def life(*under: str, folder: Path | None = None) -> dict[str, Any]:
    """Have a mount live and end, under other commands; returns what it told."""
    done = subprocess.run(
        [*under, sys.executable, str(LIFE), *([str(folder)] if folder else [])],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": importing_support()},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_ordinary_users_mount_keeps_open_files_and_ends_clean(tmp_path: Path) -> None:
    if os.geteuid():
        told = life(folder=tmp_path)
        user = os.geteuid()
    else:
        told = life(*as_ordinary_user())
        user = NOBODY
    assert (told["user"], told["owner"], told["processes_of"]) == (user, user, [user])
    assert told["notifications"] > 0
    assert told["errors"] == 0


def test_an_ordinary_user_ends_a_stopped_mount_by_force(tmp_path: Path) -> None:
    under = () if os.geteuid() else as_ordinary_user()
    done = subprocess.run(
        [*under, sys.executable, str(FORCED_END), *([str(tmp_path)] if os.geteuid() else [])],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": importing_support()},
    )
    assert done.returncode == 0, done.stderr


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces of mounts everywhere")


STRICT = ": > /mnt/fuse.conf; mount --bind /mnt/fuse.conf /etc/fuse.conf"
"""Whatever this machine's says, users may not let others look into their mounts."""

CHECK = "from imgsyncfs.mount.mountpoint import check_system; check_system(['allow_other'])"


@needs_root
@pytest.mark.parametrize(
    ("mode", "remedy"),
    [("0600", "sudo chmod 0666 /dev/fuse"), ("0666", "echo user_allow_other | sudo tee -a /etc/fuse.conf")],
)
def test_an_ordinary_user_who_may_not_mount_hears_what_would_let_them(mode: str, remedy: str) -> None:
    script = AS_NOBODY.replace("mknod -m 0666", f"mknod -m {mode}").replace(
        "mkdir /mnt/work", f"{STRICT}\nmkdir /mnt/work"
    )
    done = subprocess.run(
        [*as_ordinary_user(script), sys.executable, "-c", CHECK],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": importing_support()},
    )
    assert remedy in done.stderr


@needs_root
@pytest.mark.parametrize("user", [(), ("--user", "--map-root-user")], ids=["privileged", "with its own users"])
def test_a_mount_in_a_container_keeps_open_files_and_ends_clean(tmp_path: Path, user: tuple[str, ...]) -> None:
    told = life(*CONTAINER, *user, folder=tmp_path)
    assert (told["user"], told["owner"], told["processes_of"]) == (0, 0, [0])
    assert told["notifications"] > 0
    assert told["errors"] == 0


READER = """
import mmap, os, pathlib, sys, time
path, mountpoint = map(pathlib.Path, sys.argv[1:])
with path.open("rb", buffering=0) as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    old = mapped[:]
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        new = bytes.fromhex(line)
        deadline = time.monotonic() + 20
        while new and path.read_bytes() != new and time.monotonic() < deadline:
            time.sleep(0.05)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        is_old = mapped[:] == os.pread(file.fileno(), len(old) + 1, 0) == old
        print(is_old, os.path.ismount(mountpoint) and path.read_bytes() == new, flush=True)
"""
"""Holds a file open and mapped. For each content that it is given, as hexadecimal, it says whether what it holds is as
it was, and whether the file's name leads to that content by now."""


@dataclass(frozen=True)
class InContainer:
    """A reader in a container, of a mount that was made outside."""

    process: subprocess.Popen[str]

    def sees(self, content: bytes) -> bool:
        """Whether the file's name leads to this for the reader, at once or after a while."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(content.hex(), file=self.process.stdin, flush=True)
        is_old, is_new = self.process.stdout.readline().split()
        assert is_old == "True"
        return is_new == "True"


@contextlib.contextmanager
def reader_in_container(path: Path, mountpoint: Path, *, propagation: str) -> Iterator[InContainer]:
    """A reader that has a file open, in namespaces of its own, for the length of the block."""
    command = [*CONTAINER, "--propagation", propagation, sys.executable, "-c", READER, str(path), str(mountpoint)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == 1
        yield InContainer(process)


@pytest.fixture
def published(tmp_path: Path) -> Workplace:
    """A catalog of one dataset."""
    return workplace_with(tmp_path, DATASET, count=2)


def publish(workplace: Workplace, name: str, content: bytes) -> None:
    """Publish the dataset with a changed file."""
    (workplace.folder / "one" / name).write_bytes(content)
    workplace.run("publish", workplace.folder / "one", "--name", DATASET)


@needs_root
def test_a_container_with_a_copy_of_the_mount_sees_publishes_and_keeps_it_until_it_ends(published: Workplace) -> None:
    with published.mounted("--refresh", "0.3") as mountpoint:
        house = mountpoint / DATASET / "img_00001.json"
        processes = process_ids(mountpoint)
        with reader_in_container(house, mountpoint, propagation="private") as reader:
            publish(published, house.name, box_annotation(x=50.0))
            assert reader.sees(box_annotation(x=50.0))
            subprocess.run(["umount", mountpoint], check=True)
            publish(published, house.name, box_annotation(x=51.0))
            assert reader.sees(box_annotation(x=51.0))
            assert all(map(is_running, processes))
        assert all_end_after(processes)


@needs_root
def test_the_end_of_a_mount_that_a_container_kept_is_not_that_of_the_next_one_there(published: Workplace) -> None:
    with published.mounted() as mountpoint:
        house = mountpoint / DATASET / "img_00001.json"
        [first, *_] = processes = process_ids(mountpoint)
        with reader_in_container(house, mountpoint, propagation="private"):
            subprocess.run(["umount", mountpoint], check=True)
            published.run("mount", mountpoint)
            # As `imgsyncfs umount` says how to end it.
            os.kill(first, signal.SIGTERM)
            assert all_end_after(processes)
            assert house.read_bytes()
        published.run("umount", mountpoint)


@needs_root
def test_unmounting_reaches_a_container_that_mounts_are_passed_on_to(published: Workplace) -> None:
    subprocess.run(["mount", "--bind", published.folder, published.folder], check=True)
    try:
        subprocess.run(["mount", "--make-shared", published.folder], check=True)
        with published.mounted("--refresh", "0.3") as mountpoint:
            house = mountpoint / DATASET / "img_00001.json"
            with reader_in_container(published.folder / "one" / house.name, mountpoint, propagation="slave") as reader:
                assert reader.sees((published.folder / "one" / house.name).read_bytes())
                published.run("umount", mountpoint)
                assert not reader.sees(b"")
    finally:
        subprocess.run(["umount", "--lazy", published.folder], check=True)
