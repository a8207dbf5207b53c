"""The README's commands work as typed: all of them, in order, in one shell, as after ``scripts/quickstart``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.places import REPOSITORY, importing_support

SECONDS = 120.0

FIRST, LAST = "## Mount", "## Semantics"
"""The part of it that has tasks."""

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

STANDING_IN = {
    # As root does without it; the link of mount(8)'s helper, which other tests use meanwhile, is there already.
    "sudo": 'test "$1" = ln || exec "$@"',
    # Its window is opened by other tests; here, whatever it is to open must be there.
    "labelme": 'ls "$1" > /dev/null',
    "xdg-open": 'test -s "$1"',
    "imgsyncfs": f'exec "{sys.executable}" -m imgsyncfs "$@"',
    "python": f'exec "{sys.executable}" "$@"',
}
"""Programs that the shell finds first."""


@dataclass(frozen=True)
class Block:
    """What the README says to type in one go."""

    kind: str
    text: str

    def as_shell(self) -> str:
        """For a shell that stops at the first failure, and shows what it runs."""
        if self.kind == "python":
            return f"python - <<'PYTHON'\n{self.text}PYTHON\n"
        return self.text


def blocks() -> list[Block]:
    """All of them, in order."""
    readme = (REPOSITORY / "README.md").read_text()
    tasks = readme[readme.index(FIRST) : readme.index(LAST)]
    return [Block(kind, text) for kind, text in BLOCK.findall(tasks)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home directory with the demo that ``scripts/quickstart`` makes; what is left mounted in it is unmounted."""
    home = tmp_path / "home"
    programs = home / "bin"
    programs.mkdir(parents=True)
    for name, line in STANDING_IN.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    subprocess.run([programs / "imgsyncfs", "demo", home / "imgsyncfs-demo"], env=environment(home), check=True)
    yield home
    for place in re.findall(r" (\S+) fuse.imgsyncfs ", Path("/proc/self/mounts").read_text()):
        if place.startswith(f"{home}/"):
            subprocess.run(["fusermount", "-u", "-z", place], check=False)


def environment(home: Path) -> dict[str, str]:
    """Nothing of whoever runs the tests but the programs."""
    return {
        "HOME": str(home),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "PYTHONPATH": importing_support(),
        "IMGSYNCFS_CATALOG": str(home / "imgsyncfs-demo" / "catalog.db"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
    }


def test_every_command_works_as_typed_and_in_order(home: Path) -> None:
    work = home / "repository"
    work.mkdir()
    script = "set -e\n" + "".join(f"set -x\n{block.as_shell()}set +x\n" for block in blocks())
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    # The last lines say which command it was, and why.
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(work)
