"""``mount -t imgsyncfs`` through the real mount(8)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounting import Workplace, all_end_after, demo_workplace, eventually, process_ids

HELPER = Path("/sbin/mount.imgsyncfs")

SUDO = [] if os.geteuid() == 0 else ["sudo", "--preserve-env"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog."""
    assert HELPER.exists(), f"{HELPER} is missing; `scripts/test` links it there."
    return demo_workplace(tmp_path_factory.mktemp("helper"))


def mount8(workplace: Workplace, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run mount(8), with sudo when the tests do not run as root."""
    command = [*SUDO, *map(str, arguments)]
    return subprocess.run(command, env=workplace.variables(), capture_output=True, text=True, timeout=60, check=False)


def as_root(*words: str | Path) -> None:
    """Run a command that changes the machine."""
    subprocess.run([*SUDO, *words], timeout=60, check=True)


def test_mount_and_umount_take_the_type_the_catalog_and_the_options(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    for_others = "ro,noauto,nofail,_netdev,x-systemd.automount"
    options = f"{for_others},allow_other,refresh=5,siblings=rolabelimg,cache_dir={workplace.folder}/cache"
    done = mount8(workplace, "mount", "-t", "imgsyncfs", workplace.catalog, mountpoint, "-o", options)
    assert (done.returncode, done.stderr) == (0, "")
    processes = process_ids(mountpoint)
    try:
        names = [path.name for path in (mountpoint / "original_20200207_fisheye_rbbox").iterdir()]
        assert "original_20200207_fisheye_rbbox_00079.xml" in names
        assert not any(name.endswith(".labelme.json") for name in names)
        table = Path("/proc/self/mountinfo").read_text()
        [line] = [line for line in table.splitlines() if f" {mountpoint} " in line]
        assert " - fuse.imgsyncfs " in line
        assert "allow_other" in line
    finally:
        ended = mount8(workplace, "umount", mountpoint)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert all_end_after(processes)


def test_a_mistake_reaches_the_one_who_typed_mount(workplace: Workplace) -> None:
    done = mount8(workplace, "mount", "-t", "imgsyncfs", "/nowhere/catalog.db", workplace.folder, "-o", "refresh=5")
    assert done.returncode == 32
    assert "is not empty" in done.stderr
    empty = workplace.folder / "empty"
    empty.mkdir()
    done = mount8(workplace, "mount", "-t", "imgsyncfs", "/nowhere/catalog.db", empty)
    assert done.returncode == 32
    assert "/nowhere/catalog.db" in done.stderr
    done = mount8(workplace, "mount", "-t", "imgsyncfs", workplace.catalog, empty, "-o", "refersh=5")
    assert done.returncode != 0
    assert "did you mean refresh" in done.stderr


def test_a_line_of_fstab_may_be_mounted_again(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "from_fstab"
    options = "_netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=90,X-mount.mkdir"
    table = workplace.folder / "fstab"
    table.write_text(f"{workplace.catalog} {mountpoint} imgsyncfs {options},cache_dir={workplace.folder}/cache 0 0\n")
    assert (done := mount8(workplace, "mount", "--all", "--fstab", table)).returncode == 0, done.stderr
    processes = process_ids(mountpoint)
    try:
        again = mount8(workplace, "mount", "--all", "--fstab", table)
        assert (again.returncode, again.stderr) == (0, "")
        assert process_ids(mountpoint) == processes
        shown = mount8(workplace, "findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", mountpoint).stdout.split()
        assert shown == [f"sqlite://{workplace.catalog}", "fuse.imgsyncfs"]
    finally:
        mount8(workplace, "umount", mountpoint)
    assert all_end_after(processes)


@pytest.fixture
def with_fuse_link() -> Iterator[None]:
    """What `imgsyncfs install-helper` makes beside `HELPER`."""
    link = HELPER.with_name("mount.fuse.imgsyncfs")
    if link.exists():
        yield
        return
    as_root("ln", "--symbolic", "--force", "--no-dereference", HELPER, link)
    yield
    as_root("rm", link)


@pytest.mark.usefixtures("with_fuse_link")
def test_mount_takes_the_type_that_findmnt_shows(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "by_type"
    mountpoint.mkdir()
    cache = f"cache_dir={workplace.folder}/cache"
    done = mount8(workplace, "mount", "-t", "fuse.imgsyncfs", workplace.catalog, mountpoint, "-o", cache)
    assert (done.returncode, done.stderr) == (0, "")
    processes = process_ids(mountpoint)
    try:
        remounted = mount8(workplace, "mount", "-o", "remount,refresh=5", mountpoint)
        assert remounted.returncode == 32
        assert "end it with umount" in remounted.stderr
    finally:
        mount8(workplace, "umount", mountpoint)
    assert all_end_after(processes)


@pytest.mark.skipif(
    not Path("/dev/autofs").exists() or os.geteuid() != 0,
    reason="the kernel of this machine has no autofs, or only root could use it",
)
@pytest.mark.parametrize("kind", ["indirect", "direct"])
def test_autofs_mounts_when_somebody_looks(workplace: Workplace, kind: str) -> None:
    folder = workplace.folder / f"autofs-{kind}"
    place = folder / "datasets"
    # A direct map names the place itself, which autofs then makes its trigger; the other a folder that it keeps.
    place.mkdir(parents=True)
    within, key = (folder, "datasets") if kind == "indirect" else ("/-", str(place))
    (workplace.folder / f"auto.{kind}").write_text(
        f"{key} -fstype=imgsyncfs,ro,cache_dir={workplace.folder}/cache :{workplace.catalog}\n"
    )
    master = workplace.folder / "auto.master"
    master.write_text(f"{within} {workplace.folder}/auto.{kind} --timeout=600\n")
    words: list[str | Path] = ["automount", "--foreground", "--pid-file", workplace.folder / "automount.pid", master]
    # Its own process group sees what lies below, and has nothing mounted.
    automount = subprocess.Popen(words, env=workplace.variables(), start_new_session=True)
    try:
        trigger = folder if kind == "indirect" else place
        assert eventually(lambda: f" {trigger} autofs " in Path("/proc/mounts").read_text())
        listed = subprocess.run(["ls", place], capture_output=True, text=True, timeout=30, check=True)
        assert "original_20200207_fisheye_rbbox" in listed.stdout
        processes = process_ids(place)
        mount8(workplace, "umount", place)
        assert all_end_after(processes)
    finally:
        automount.terminate()
        automount.wait(30)
