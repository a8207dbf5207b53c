"""ultralytics trains an epoch on views of a mount as they are: as root, and as an ordinary user."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from support.ordinary_user import NOBODY, as_ordinary_user
from support.places import REPOSITORY, SUPPORT, importing_support

USERS = ("root", "ordinary") if os.geteuid() == 0 else ("ordinary",)


@pytest.fixture(scope="module", params=USERS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `support.ultralytics_epoch` told, run by one user."""
    needs_another = request.param == "ordinary" and os.geteuid() == 0
    under = as_ordinary_user() if needs_another else ()
    folder = () if needs_another else (str(tmp_path_factory.mktemp("epoch")),)
    done = subprocess.run(
        [*under, sys.executable, str(SUPPORT / "ultralytics_epoch.py"), *folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": importing_support()},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["user"] == (NOBODY if needs_another else os.geteuid())
    return found


@pytest.mark.parametrize("view", ["yolo", "yolo-obb"])
def test_ultralytics_trains_an_epoch_takes_every_image_and_warns_of_what_the_readme_says(
    told: dict[str, Any], view: str
) -> None:
    said = [re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in told[view]["said"]]
    assert told[view]["status"] == 0, said[-20:]
    assert any("1 epochs completed" in line for line in said)
    scanned = [line for line in said if "Scanning" in line and "corrupt" in line]
    for count in told[view]["images"].values():
        assert any(f"{count} images, 0 backgrounds, 0 corrupt: 100%" in line for line in scanned)
    readme = (REPOSITORY / "README.md").read_text()
    warnings = [line for line in said if "WARNING" in line]
    assert len(warnings) >= 2
    for line in warnings:
        assert explained_as(line) in readme, line


def explained_as(line: str) -> str:
    """A warning as the README has it: without the split, the path, and what was measured."""
    words = line.partition("WARNING ⚠️ ")[2]
    words = re.sub(r"^(train|val): ", "", words)
    return re.sub(r"/\S+", "…", words).partition(" (")[0]
