"""A conversion that is killed before any one of its steps loses nothing, and the next run finishes it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.convert_folders import (
    FULL,
    ORIGINALS,
    edit_labelme,
    files_of,
    make_folder,
    rename_first,
    save_with_rolabelimg,
)

from imgsyncfs.tools.convert.run import convert_paths

STEPS = frozenset({"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "open"})
MOST_STEPS = 60


def convert_and_die(folder: Path, target: str, step: int) -> None:
    """Convert until the given step, leave half a file if it is one that writes, and die as if by `kill -9`."""
    count = 0

    def before_step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in STEPS or not os.fsdecode(arguments[0]).startswith(str(folder)):
            return
        if event == "open" and (not isinstance(arguments[1], str) or "x" not in arguments[1]):
            return
        count += 1
        if count == step:
            if event == "open":
                descriptor = os.open(f"{arguments[0]}", os.O_WRONLY | os.O_CREAT)
                os.write(descriptor, b'{"half": ')
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(before_step)
    convert_paths([folder], to=target)


def killed(folder: Path, target: str, step: int) -> bool:
    """Convert in a process of its own; says whether it was killed, or had come to its end before."""
    process = multiprocessing.get_context("fork").Process(target=convert_and_die, args=(folder, target, step))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def house_folder(folder: Path) -> str:
    """House annotations, to be converted to labelme's."""
    make_folder(folder, "a", "full")
    return "labelme"


def labelme_folder(folder: Path) -> str:
    """labelme's files, one of them edited and one new, to be converted back."""
    make_folder(folder, "a", "full", "new")
    convert_paths([folder], to="labelme")
    edit_labelme(folder / "full.json", rename_first("dog"))
    (folder / ORIGINALS / "new.json").unlink()
    return "imagesynchronizer"


def half_converted_folder(folder: Path) -> str:
    """House annotations of which one has its second name already, and labelme's files, to be converted back."""
    make_folder(folder, "a", "b")
    convert_paths([folder / "a.json"], to="labelme")
    (folder / ORIGINALS / "b.json").hardlink_to(folder / "b.json")
    return "imagesynchronizer"


def rolabelimg_folder(folder: Path) -> str:
    """House annotations whose .xml was edited, to be converted to labelme's."""
    make_folder(folder, "a", "full")
    convert_paths([folder], to="rolabelimg")
    save_with_rolabelimg(folder / "full.xml", ("<name>person</name>", "<name>dog</name>"))
    return "labelme"


def xml_folder(folder: Path) -> str:
    """House annotations, to be converted to roLabelImg's."""
    make_folder(folder, "a", "full")
    return "rolabelimg"


@pytest.mark.parametrize(
    "prepare", [house_folder, labelme_folder, half_converted_folder, rolabelimg_folder, xml_folder]
)
def test_killed_before_any_step_nothing_is_lost_and_the_next_run_finishes(
    tmp_path: Path, prepare: Callable[[Path], str]
) -> None:
    start, folder = tmp_path / "start" / "set", tmp_path / "work" / "set"
    target = prepare(start)
    shutil.copytree(start, folder)
    convert_paths([folder], to=target)
    before, finished = files_of(start), files_of(folder)
    assert finished != before
    for step in range(1, MOST_STEPS):
        shutil.rmtree(folder)
        # With the times: which of two files is the newer one counts.
        shutil.copytree(start, folder)
        if not killed(folder, target, step):
            break
        found = files_of(folder)
        for name in (name for name in {*before, *finished} if not name.startswith(ORIGINALS)):
            # Every name that a tool looks at holds a whole file, the one before or the one after.
            assert found.get(name) in (before.get(name), finished.get(name)), (step, name)
            original = f"{ORIGINALS}/{name}"
            if found.get(name) == before.get(name) != finished.get(name) and original in before:
                # The original, or what becomes of it, is there until the other one is.
                assert found[original] in (before[original], finished[name]), (step, name)
        convert_paths([folder], to=target)
        assert files_of(folder) == finished, step
    assert 4 <= step < MOST_STEPS - 1


@pytest.mark.parametrize("prepare", [house_folder, labelme_folder])
def test_killed_before_any_step_one_can_turn_back(tmp_path: Path, prepare: Callable[[Path], str]) -> None:
    folder = tmp_path / "set"
    for step in range(1, MOST_STEPS):
        target = prepare(folder)
        stopped = killed(folder, target, step)
        convert_paths([folder], to="labelme")
        convert_paths([folder], to="imagesynchronizer")
        labels = orjson.loads((folder / "full.json").read_bytes())["labels"]
        expected = orjson.loads(orjson.dumps(FULL))["labels"]
        if prepare is labelme_folder:
            expected[0]["object"][0]["class"] = "dog"
        else:
            assert (folder / "full.json").read_bytes() == orjson.dumps(FULL)
        assert labels == expected
        assert not (folder / ORIGINALS).exists()
        assert not [name for name in files_of(folder) if "/." in f"/{name}"]
        shutil.rmtree(folder)
        if not stopped:
            break
    assert 4 <= step < MOST_STEPS - 1
