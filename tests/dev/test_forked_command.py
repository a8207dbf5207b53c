"""The commands that tests run in forks of one process: as in a new interpreter."""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path

import pytest
from support.forked_command import LATE_IMPORTS, run_forked
from support.mounting import Workplace, local_workplace, write_folder


@pytest.mark.parametrize("module", LATE_IMPORTS)
def test_what_is_imported_beforehand_is_there(module: str) -> None:
    # The fork server says nothing of a module that it cannot import.
    importlib.import_module(module)


def test_a_forked_command_says_and_returns_what_a_new_interpreter_does(tmp_path: Path) -> None:
    forked = Workplace(str(tmp_path / "missing.db"), tmp_path)
    fresh = Workplace(forked.catalog, tmp_path, {"PYTHONUNBUFFERED": "1"})
    for arguments in (["--version"], ["datasets"], ["datasets", "--nonsense"]):
        one, other = (place.run(*arguments, status=None) for place in (forked, fresh))
        called = [text.replace("python -m imgsyncfs", "imgsyncfs") for text in (other.stdout, other.stderr)]
        assert [one.returncode, one.stdout, one.stderr] == [other.returncode, *called]


def test_a_forked_command_leaves_nothing_to_the_next_one(tmp_path: Path) -> None:
    names = "original_20260105_rgb_rbbox", "original_20260106_rgb_rbbox"
    for name in names:
        (tmp_path / name).mkdir()
        workplace = local_workplace(tmp_path / name)
        workplace.run("publish", write_folder(workplace.folder / "one", count=1), "--name", name)
    for name in names:
        assert name in Workplace(str(tmp_path / name / "catalog.db"), tmp_path / name).run("datasets").stdout
    assert not any(variable.startswith("IMGSYNCFS_CATALOG") for variable in os.environ)


def test_a_forked_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "catalog.db")
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        run_forked(["datasets"], environment=workplace.variables(), seconds=0.01)
