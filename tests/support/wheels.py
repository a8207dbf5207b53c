"""The wheel of this checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.places import REPOSITORY

BUILD_SECONDS = 300.0


def packaged_files() -> list[str]:
    """What of the checkout a wheel is built from, from its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "imgsyncfs", "pyproject.toml", "README.md", "LICENSE"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return listed.rstrip("\0").split("\0")


def build_wheel(folder: Path) -> Path:
    """Build the wheel.

    Args:
        folder: gets it; what a build leaves behind stays in there, too.
    """
    for name in packaged_files():
        place = folder / "source" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((REPOSITORY / name).read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "source"]
    subprocess.run([str(word) for word in words], timeout=BUILD_SECONDS, check=True)
    [wheel] = folder.glob("*.whl")
    return wheel
