"""Who sees a mount: whoever made it, and others only where that was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounting import Workplace, demo_workplace
from support.ordinary_user import NOBODY

IMAGE = Path("original_20200207_fisheye_rbbox", "original_20200207_fisheye_rbbox_00079.jpg")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, which only root can be")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo catalog, made once."""
    return demo_workplace(tmp_path_factory.mktemp("others"))


@pytest.fixture
def workplace(demo: Workplace) -> Iterator[Workplace]:
    """The demo catalog with a folder to mount in that all users may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="imgsyncfs-others-"))
    folder.chmod(0o711)
    yield replace(demo, folder=folder)
    shutil.rmtree(folder)


def complaint_of_another(*command: str | Path) -> str:
    """What a program says that another user runs; empty if it could do it."""
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, timeout=30, check=False
    )
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr.decode()


def test_a_mount_is_for_whoever_made_it_alone(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        assert (mountpoint / IMAGE).read_bytes()
        for place in (IMAGE, Path(".imgsyncfs", "status.json"), Path()):
            assert "Permission denied" in complaint_of_another("ls", mountpoint / place)


def test_a_mount_with_allow_other_is_for_everyone_and_its_cache_is_not(workplace: Workplace) -> None:
    with workplace.mounted("-o", "allow_other") as mountpoint:
        for place in (IMAGE, Path(".imgsyncfs", "status.json"), Path(".imgsyncfs", "errors.log")):
            assert complaint_of_another("cat", mountpoint / place) == ""
        assert "Permission denied" in complaint_of_another("ls", workplace.folder / "cache")


def test_a_umask_keeps_others_out_of_a_mount_with_allow_other(workplace: Workplace) -> None:
    with workplace.mounted("-o", "allow_other,umask=077") as mountpoint:
        assert (mountpoint / IMAGE).read_bytes()
        assert "Permission denied" in complaint_of_another("cat", mountpoint / IMAGE)
