"""The first thing somebody types on a machine of theirs: ``scripts/quickstart``, or pip with the wheel."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.machines import RELEASES, copy_checkout, fresh_machine
from support.wheels import build_wheel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mount,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("release", [*RELEASES]),
]

DATASET = "original_20200207_fisheye_rbbox"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_quickstart_does_all_the_set_up(release: str) -> None:
    with fresh_machine(release) as machine:
        copy_checkout(machine, "/root/imgsyncfs")
        said = machine.types("cd imgsyncfs; scripts/quickstart")
        assert "imgsyncfs umount /root/imgsyncfs-demo/mnt" in said
        assert f"{DATASET}_00079.labelme.json" in machine.types(f"ls ~/imgsyncfs-demo/mnt/{DATASET}")
        machine.types("file=~/imgsyncfs-demo/preview.png; test -s $file")


def test_check_names_what_the_wheel_needs_of_debian(release: str, wheel: Path) -> None:
    with fresh_machine(release) as machine:
        machine.types("apt-get install --quiet=2 python3-venv")
        shutil.copy(wheel, machine.root / "root")
        machine.types(f"python3 -m venv venv; venv/bin/pip install --quiet {wheel.name}; venv/bin/imgsyncfs demo demo")
        # Each answer names one thing that is missing.
        named = []
        for _ in range(5):
            said = machine.types("venv/bin/imgsyncfs check --catalog demo/catalog.db || true")
            if "✗" not in said:
                break
            [command] = re.findall(r"run: (sudo apt-get install [\w ]+)", said)
            named.append(command)
            machine.types(command)
        package = "libfuse2" if release == "12" else "libfuse2t64"
        assert named == [f"sudo apt-get install {package}", "sudo apt-get install fuse3"]
        machine.types("mkdir mnt; venv/bin/imgsyncfs mount mnt --catalog demo/catalog.db")
        assert "<annotation" in machine.types(f"cat mnt/{DATASET}/{DATASET}_00079.xml")
        machine.types("venv/bin/imgsyncfs umount mnt")
