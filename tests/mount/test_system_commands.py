"""How the machine itself makes and ends a mount: as a service, through mount(8)'s links, on a device handed over."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounting import Workplace, all_end_after, demo_workplace, eventually

DATASET = "original_20200207_fisheye_rbbox"

DETACH = 2
"""A flag of umount2(2)."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog."""
    return demo_workplace(tmp_path_factory.mktemp("system"))


def test_a_service_says_when_it_is_ready_and_when_it_stops(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "service"
    mountpoint.mkdir()
    unit = workplace.run("systemd-unit", workplace.catalog, mountpoint).stdout
    [start] = [line.removeprefix("ExecStart=") for line in unit.splitlines() if line.startswith("ExecStart=")]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{workplace.folder}/notify")
        manager.settimeout(30)
        service = subprocess.Popen(
            [sys.executable, "-m", "imgsyncfs", *shlex.split(start)[1:]],
            env={**workplace.variables(), "NOTIFY_SOCKET": f"{workplace.folder}/notify"},
        )
        try:
            assert manager.recv(4096).split(b"\n") == [b"READY=1", f"STATUS=Mounted at {mountpoint}".encode()]
            assert (mountpoint / DATASET).is_dir()
            service.send_signal(signal.SIGTERM)
            assert manager.recv(4096).startswith(b"STOPPING=1")
            assert service.wait(30) == 0
        finally:
            service.kill()
            service.wait()
    assert not os.path.ismount(mountpoint)


@pytest.mark.parametrize("options", [(), ("--user",)])
def test_systemd_finds_no_fault_in_the_unit(workplace: Workplace, options: tuple[str, ...]) -> None:
    place = workplace.folder / "50% off, $HOME"
    place.mkdir(exist_ok=True)
    unit = workplace.run("systemd-unit", workplace.catalog, place, "-o", "umask=077", *options).stdout
    path = workplace.folder / "imgsyncfs-datasets.service"
    path.write_text(unit)
    manager = "--user" if options else "--system"
    # Its words are there, and the directories that it looks for units in; a user's manager wants a folder of its own.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(workplace.folder)}
    done = subprocess.run(
        ["systemd-analyze", manager, "verify", path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistake_in_a_service_is_told_before_it_is_installed(workplace: Workplace) -> None:
    done = workplace.run("systemd-unit", workplace.catalog, workplace.folder / "mnt", "-o", "refersh=5", status=1)
    assert "did you mean refresh" in done.stderr


def test_the_links_of_mount8_are_made_and_removed(workplace: Workplace) -> None:
    folder = workplace.folder / "sbin"
    folder.mkdir()
    (folder / "mount.imgsyncfs").symlink_to("/an/earlier/one/mount.imgsyncfs")
    workplace.run("install-helper", "--folder", folder)
    links = [folder / "mount.imgsyncfs", folder / "mount.fuse.imgsyncfs"]
    assert {link.readlink() for link in links} == {Path(sys.executable).parent / "mount.imgsyncfs"}
    workplace.run("install-helper", "--folder", folder, "--remove")
    assert list(folder.iterdir()) == []


def test_a_helper_of_another_program_stays(workplace: Workplace) -> None:
    folder = workplace.folder / "others"
    folder.mkdir()
    (folder / "mount.fuse.imgsyncfs").write_text("mine")
    for options in ((), ("--remove",)):
        done = workplace.run("install-helper", "--folder", folder, *options, status=1)
        assert "is another program's" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["mount.fuse.imgsyncfs"]


def mount_by_hand(mountpoint: Path) -> int:
    """Do what somebody with privileges does for a container; returns the descriptor of /dev/fuse."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={stat.S_IFDIR:o},user_id={os.getuid()},group_id={os.getgid()},default_permissions"
    read_only = 1
    mount = ctypes.CDLL(None, use_errno=True).mount
    place = os.fsencode(mountpoint)
    assert mount(b"handed", place, b"fuse.imgsyncfs", read_only, options.encode()) == 0, os.strerror(ctypes.get_errno())
    return device


@contextlib.contextmanager
def handed(mountpoint: Path) -> Iterator[int]:
    """A mount whose device is handed over; its maker ends it."""
    mountpoint.mkdir()
    device = mount_by_hand(mountpoint)
    try:
        yield device
    finally:
        os.close(device)
        ctypes.CDLL(None).umount2(os.fsencode(mountpoint), DETACH)


@pytest.mark.skipif(os.geteuid() != 0, reason="mount(2) is root's")
@pytest.mark.parametrize("foreground", [False, True])
def test_a_mount_that_somebody_else_made_is_served(workplace: Workplace, *, foreground: bool) -> None:
    mountpoint = workplace.folder / f"handed_{foreground}"
    with handed(mountpoint) as device:
        command = [sys.executable, "-m", "imgsyncfs", "mount", f"/dev/fd/{device}", *(["--foreground"] * foreground)]
        server = subprocess.Popen(command, env=workplace.variables(), pass_fds=(device,))
        try:
            assert foreground or server.wait(30) == 0
            # The kernel has each question wait until somebody answers.
            listed = subprocess.run(
                ["ls", mountpoint / DATASET], capture_output=True, text=True, timeout=30, check=True
            )
            assert f"{DATASET}_00079.xml" in listed.stdout
            processes = [server.pid] if foreground else workplace.processes_left()
            assert processes
            assert ctypes.CDLL(None).umount2(os.fsencode(mountpoint), 0) == 0
            assert not foreground or server.wait(30) == 0
            assert all_end_after(processes)
        finally:
            server.kill()
            server.wait()
    assert eventually(lambda: not workplace.processes_left())


@pytest.mark.parametrize(("descriptor", "said"), [(0, "is not /dev/fuse"), (999, "is not open")])
def test_a_descriptor_of_something_else_is_refused(workplace: Workplace, descriptor: int, said: str) -> None:
    assert said in workplace.run("mount", f"/dev/fd/{descriptor}", status=1).stderr
