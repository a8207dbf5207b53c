"""How a mount ends: by umount, by a signal, by force; nothing is left behind, and the next mount works."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounting import Workplace, all_end_after, demo_workplace, eventually, mount_status, process_ids

END_SECONDS = 15.0


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog, made once."""
    return demo_workplace(tmp_path_factory.mktemp("end"))


@contextlib.contextmanager
def own_mount(workplace: Workplace, name: str) -> Iterator[Path]:
    """A mount that the test ends itself; whatever the test leaves is cleared."""
    mountpoint = workplace.folder / name
    mountpoint.mkdir()
    workplace.run("mount", mountpoint)
    try:
        yield mountpoint
    finally:
        if is_mounted(mountpoint):
            workplace.run("umount", "--lazy", mountpoint)


def is_up(mountpoint: Path) -> bool:
    """Whether a mount says how it is doing."""
    try:
        return bool(mount_status(mountpoint))
    except OSError:
        return False


def is_mounted(mountpoint: Path) -> bool:
    """Whether the system's table has it: a dead mount counts."""
    return f" {mountpoint} " in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_mount_and_its_workers(workplace: Workplace, signal_number: signal.Signals) -> None:
    with own_mount(workplace, f"by-{signal_number.name}") as mountpoint:
        processes = process_ids(mountpoint)
        os.kill(processes[0], signal_number)
        assert all_end_after(processes)
        assert not is_mounted(mountpoint)


def test_a_signal_that_the_main_thread_does_not_see_ends_the_mount(workplace: Workplace) -> None:
    with own_mount(workplace, "by-thread") as mountpoint:
        processes = process_ids(mountpoint)
        threads = {int(entry.name) for entry in Path(f"/proc/{processes[0]}/task").iterdir()} - {processes[0]}
        # As when the signal comes just before the main thread begins to wait, but every time.
        assert ctypes.CDLL(None).tgkill(processes[0], max(threads), signal.SIGTERM) == 0
        assert all_end_after(processes)
        assert not is_mounted(mountpoint)


def test_the_plain_umount_command_ends_the_processes_too(workplace: Workplace) -> None:
    with own_mount(workplace, "by-umount") as mountpoint:
        processes = process_ids(mountpoint)
        subprocess.run(["fusermount", "-u", str(mountpoint)], check=True, timeout=20)
        assert all_end_after(processes)


def test_ctrl_c_ends_a_mount_in_the_foreground(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "foreground"
    mountpoint.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-m", "imgsyncfs", "mount", str(mountpoint), "--foreground"],
        env=workplace.variables(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stderr is not None
    with command, command.stderr as words:
        assert "Ctrl-C" in words.readline()
        processes = process_ids(mountpoint)
        # A terminal sends it to the whole group: the workers get it as well.
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(END_SECONDS) == 0
        assert words.read() == ""
    assert all_end_after(processes)
    assert not is_mounted(mountpoint)


def test_after_kill_9_the_workers_are_gone_and_the_next_mount_works(workplace: Workplace) -> None:
    with own_mount(workplace, "killed") as mountpoint:
        processes = process_ids(mountpoint)
        os.kill(processes[0], signal.SIGKILL)
        assert all_end_after(processes)
        assert is_mounted(mountpoint)
        workplace.run("mount", mountpoint)
        assert "original_20200207_fisheye_rbbox" in [path.name for path in mountpoint.iterdir()]


def test_umount_clears_a_dead_mount(workplace: Workplace) -> None:
    with own_mount(workplace, "dead") as mountpoint:
        processes = process_ids(mountpoint)
        os.kill(processes[0], signal.SIGKILL)
        assert all_end_after(processes)
        workplace.run("umount", mountpoint)
        assert not is_mounted(mountpoint)


def test_a_worker_that_dies_is_replaced_and_reading_goes_on(workplace: Workplace) -> None:
    workplace = Workplace(workplace.catalog, workplace.folder / "worker", workplace.environment)
    workplace.folder.mkdir()
    with workplace.mounted() as mountpoint:
        for worker in process_ids(mountpoint)[1:]:
            os.kill(worker, signal.SIGKILL)
        image = mountpoint / "original_20200207_fisheye_rbbox" / "original_20200207_fisheye_rbbox_00079.jpg"
        assert image.read_bytes().startswith(b"\xff\xd8")


def test_a_mount_whose_process_fails_is_no_empty_directory(workplace: Workplace) -> None:
    shown = 0
    for descriptors in range(27, 37):
        mountpoint = workplace.folder / f"with-{descriptors}"
        mountpoint.mkdir()
        # With so few, something fails before the mount comes up, after that, or not at all.
        done = workplace.run("mount", mountpoint, status=None, under=("prlimit", f"--nofile={descriptors}"))
        try:
            if done.returncode == 0:
                assert eventually(lambda: is_up(mountpoint) or not workplace.processes_left())  # noqa: B023
                with contextlib.suppress(OSError):
                    assert list(mountpoint.iterdir()), f"an empty directory with {descriptors} descriptors"
                    shown += 1
        finally:
            if is_mounted(mountpoint):
                workplace.run("umount", "--lazy", mountpoint, status=None)
    assert shown


def test_umount_of_a_busy_mount_says_who_uses_it(workplace: Workplace) -> None:
    with own_mount(workplace, "busy") as mountpoint:
        with (mountpoint / ".imgsyncfs" / "README.txt").open():
            done = workplace.run("umount", mountpoint, status=1)
            assert f"({os.getpid()})" in done.stderr
            assert "--lazy" in done.stderr
        workplace.run("umount", mountpoint)
