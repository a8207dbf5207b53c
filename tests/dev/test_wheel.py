"""The wheel: what is in it, and that it works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.places import REPOSITORY

BUILD_SECONDS = 300.0


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "imgsyncfs", "pyproject.toml", "README.md", "LICENSE"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = listed.rstrip("\0").split("\0")
    for name in files:
        place = tmp_path / "source" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((REPOSITORY / name).read_bytes())
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(tmp_path / "source"),
    ]
    subprocess.run(words, timeout=BUILD_SECONDS, check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("imgsyncfs/")}
    assert held == {name for name in files if name.startswith("imgsyncfs/")}


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.timeout(600)
def test_the_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("IMGSYNCFS_", "AZURE_"))}
    subprocess.run(
        [REPOSITORY / "scripts" / "wheel", sys.executable],
        env={**environment, "TMPDIR": str(tmp_path)},
        timeout=BUILD_SECONDS,
        check=True,
    )
