"""The wheel: what is in it, and that it works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.places import REPOSITORY
from support.wheels import BUILD_SECONDS, build_wheel, packaged_files


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("imgsyncfs/")}
    assert held == {name for name in packaged_files() if name.startswith("imgsyncfs/")}


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
