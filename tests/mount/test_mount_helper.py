"""``mount -t imgsyncfs`` through the real mount(8)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.mounting import Workplace, all_end_after, demo_workplace, process_ids

HELPER = Path("/sbin/mount.imgsyncfs")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog."""
    assert HELPER.exists(), f"{HELPER} is missing; `scripts/test` links it there."
    return demo_workplace(tmp_path_factory.mktemp("helper"))


def mount8(workplace: Workplace, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run mount(8), with sudo when the tests do not run as root."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "--preserve-env"]
    command = [*sudo, *map(str, arguments)]
    return subprocess.run(command, env=workplace.variables(), capture_output=True, text=True, timeout=60, check=False)


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
