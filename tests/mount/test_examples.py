"""The page of examples of the Python API: every block runs, in order, and prints what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.api_setup import work_in
from support.mounting import Workplace
from support.places import REPOSITORY

from imgsyncfs.tools.demo import make_demo

PAGE = REPOSITORY / "imgsyncfs" / "EXAMPLES.md"

BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """What the page says to type, and what is printed then."""
    found: list[tuple[str, str]] = BLOCK.findall(PAGE.read_text())
    return found


def test_every_block_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(Workplace(str(make_demo(tmp_path / "demo").catalog), tmp_path), monkeypatch)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, shown in blocks():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == shown, code


def test_the_type_checker_finds_the_types_in_a_program_outside_of_the_checkout(tmp_path: Path) -> None:
    revealed = "reveal_type(sample.boxes)\nreveal_type(sample.image)\nreveal_type(dataset)\n"
    (tmp_path / "program.py").write_text("".join(code for code, _ in blocks()) + revealed)
    checker = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    done = subprocess.run(checker, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
    types = [line.partition("Revealed type is ")[2] for line in done.stdout.splitlines() if "Revealed" in line]
    assert "numpy.float64" in types[0]
    assert types[1:] == ['"PIL.Image.Image"', '"imgsyncfs.api.Dataset"']
