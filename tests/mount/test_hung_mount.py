"""A mount whose processes hang or are stopped: commands say so within a time limit, and can end it all the same."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.mounting import (
    Workplace,
    all_end_after,
    demo_workplace,
    eventually,
    is_running,
    mount_status,
    process_ids,
)

IMAGE = Path("original_20200207_fisheye_rbbox", "original_20200207_fisheye_rbbox_00079.jpg")

LIMIT_SECONDS = 15.0
"""What a command may take: its own limits are 5 s, and the machine may be busy."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog, made once."""
    return demo_workplace(tmp_path_factory.mktemp("hung"))


@pytest.fixture
def workplace(demo: Workplace, tmp_path: Path) -> Workplace:
    """The demo catalog with a cache of its own, which is empty."""
    return Workplace(demo.catalog, tmp_path)


@contextlib.contextmanager
def stopped(processes: Sequence[int]) -> Iterator[None]:
    """Stop processes for as long as the block runs."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def reader_of(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads a file."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        try:
            yield reader
        finally:
            reader.kill()


def is_mounted(mountpoint: Path) -> bool:
    """Whether the system's table has it."""
    return f" {mountpoint} " in Path("/proc/self/mountinfo").read_text()


def waiting(mountpoint: Path) -> bool:
    """Whether a read waits for an extent."""
    return bool(mount_status(mountpoint)["store"]["waiting"])


def test_a_command_about_a_stopped_mount_says_so_within_its_time_limit(workplace: Workplace) -> None:
    def said(command: str) -> str:
        return workplace.run(command, mountpoint, status=1, seconds=LIMIT_SECONDS).stderr

    with workplace.mounted() as mountpoint:
        processes = process_ids(mountpoint)
        # At once, for each waits as long as it may.
        with stopped(processes), ThreadPoolExecutor(3) as commands:
            status, mount, refresh = commands.map(said, ["status", "mount", "refresh"])
    for each in (status, mount):
        assert f"kill -CONT {processes[0]}" in each
        assert f"imgsyncfs umount --force {mountpoint}" in each
    for each in (status, mount, refresh):
        assert "answer within 5 s" in each


@pytest.mark.parametrize("option", [(), ("--lazy",)])
def test_umount_of_a_stopped_mount_unmounts_and_names_the_process_that_is_left(
    workplace: Workplace, option: tuple[str, ...]
) -> None:
    with workplace.mounted() as mountpoint:
        processes = process_ids(mountpoint)
        with stopped(processes):
            done = workplace.run("umount", *option, mountpoint, status=1, seconds=LIMIT_SECONDS)
            assert f"kill -9 {processes[0]}" in done.stderr
            assert not is_mounted(mountpoint)


def test_umount_by_force_ends_a_stopped_mount_its_processes_and_whoever_waits_for_it(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        processes = process_ids(mountpoint)
        with stopped(processes), reader_of(mountpoint / IMAGE) as reader:
            workplace.run("umount", "--force", mountpoint, seconds=LIMIT_SECONDS)
            assert not is_mounted(mountpoint)
            assert not any(map(is_running, processes))
            assert reader.wait(LIMIT_SECONDS) != 0


def test_a_mount_in_the_foreground_that_was_suspended_is_ended_by_force(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "foreground"
    mountpoint.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-m", "imgsyncfs", "mount", "foreground", "--foreground"],
        env=workplace.variables(),
        cwd=workplace.folder,
        stderr=subprocess.PIPE,
    )
    assert command.stderr is not None
    with command, command.stderr:
        assert b"Ctrl-C" in command.stderr.readline()
        processes = process_ids(mountpoint)
        with stopped(processes):
            workplace.run("umount", "--force", mountpoint, seconds=LIMIT_SECONDS)
        assert command.wait(LIMIT_SECONDS) == -signal.SIGKILL
    assert all_end_after(processes)
    assert not is_mounted(mountpoint)


def test_a_signal_ends_a_mount_in_which_a_read_hangs(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        assert (mountpoint / IMAGE).exists()
        processes = process_ids(mountpoint)
        # Whoever fetches hangs, as if its store did.
        with stopped(mount_status(mountpoint)["workers"]["process_ids"]), reader_of(mountpoint / IMAGE) as reader:
            assert eventually(lambda: waiting(mountpoint))
            began = time.monotonic()
            os.kill(processes[0], signal.SIGTERM)
            assert all_end_after(processes)
            assert time.monotonic() - began < 10
            assert reader.wait(LIMIT_SECONDS) != 0


def test_a_read_that_has_begun_may_finish_when_a_signal_ends_the_mount(workplace: Workplace, demo: Workplace) -> None:
    published = next((demo.folder / "demo").rglob(f"{IMAGE.stem}*.jpg"), None)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / IMAGE).exists()
        processes = process_ids(mountpoint)
        with contextlib.ExitStack() as stack:
            with stopped(mount_status(mountpoint)["workers"]["process_ids"]):
                reader = stack.enter_context(reader_of(mountpoint / IMAGE))
                assert eventually(lambda: waiting(mountpoint))
                os.kill(processes[0], signal.SIGTERM)
                assert eventually(lambda: not is_mounted(mountpoint))
            content, complaint = reader.communicate(timeout=LIMIT_SECONDS)
        assert (reader.returncode, complaint) == (0, b"")
        assert content.startswith(b"\xff\xd8")
        assert published is None or content == published.read_bytes()
        assert all_end_after(processes)


def test_a_dead_mount_of_another_file_system_is_left_alone(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        entry = mountpoint.stat().st_dev
        assert entry
    other = workplace.folder / "other"
    other.mkdir()
    with dead_mount_of_another_kind(other):
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            list(other.iterdir())
        done = workplace.run("mount", other, status=1, seconds=LIMIT_SECONDS)
        assert "fuse.other" in done.stderr
        assert is_mounted(other)


@contextlib.contextmanager
def dead_mount_of_another_kind(mountpoint: Path) -> Iterator[None]:
    """A FUSE file system of another kind that nobody answers for any more."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    subprocess.run(
        ["mount", "-i", "-t", "fuse.other", "-o", options, "other", mountpoint], check=True, pass_fds=[device]
    )
    os.close(device)
    try:
        yield
    finally:
        subprocess.run(["umount", "-i", "-l", mountpoint], check=True)


def test_commands_find_a_mount_by_a_link_to_it(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        link = workplace.folder / "link"
        link.symlink_to(mountpoint.name)
        assert str(mountpoint) in workplace.run("status", link, "--json").stdout
        workplace.run("umount", link)
        assert not is_mounted(mountpoint)


def test_umount_of_a_busy_mount_names_who_has_a_file_of_it_mapped(workplace: Workplace) -> None:
    program = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ);"
        "f.close(); print('mapped', flush=True); sys.stdin.read()"
    )
    with workplace.mounted() as mountpoint:
        user = subprocess.Popen(
            [sys.executable, "-c", program, mountpoint / IMAGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert user.stdin is not None
        assert user.stdout is not None
        with user, user.stdin:
            assert user.stdout.readline() == b"mapped\n"
            done = workplace.run("umount", mountpoint, status=1)
            assert f"({user.pid})" in done.stderr
            assert "import mmap" in done.stderr


IN_A_NAMESPACE = (
    "mount -t fusectl none /sys/fs/fuse/connections && "
    'exec "$0" -m imgsyncfs umount --force "$1"'  # no process of the mount is seen there, so none is killed
)


def test_umount_by_force_has_the_kernel_end_what_waits_for_processes_that_it_cannot_kill(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        processes = process_ids(mountpoint)
        with stopped(processes), reader_of(mountpoint / IMAGE) as reader:
            namespace = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", IN_A_NAMESPACE]
            subprocess.run(
                [*namespace, sys.executable, mountpoint], env=workplace.variables(), timeout=LIMIT_SECONDS, check=True
            )
            assert reader.wait(LIMIT_SECONDS) != 0
            assert all(map(is_running, processes))
        # They see that it has ended as soon as they go on.
        assert all_end_after(processes)
        with pytest.raises(OSError, match="not connected"):
            list(mountpoint.iterdir())
        workplace.run("umount", mountpoint)
        assert not is_mounted(mountpoint)
