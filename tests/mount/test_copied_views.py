"""A view that is copied to a folder is what the mount shows, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.convert_folders import FULL
from support.mounting import Workplace, box_annotation, local_workplace, write_folder, write_image

from imgsyncfs.formats.losses_file import LOSSES_NAME
from imgsyncfs.library.views.registry import VIEWS

DATASET = "original_20260401_rgb_rbbox"
COUNT = 12


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    """A dataset of all label types in three splits, and its mount."""
    workplace = local_workplace(tmp_path_factory.mktemp("views"))
    folder = write_folder(workplace.folder / "one", count=COUNT)
    (folder / "img_00003.json").write_bytes(orjson.dumps(FULL))
    (folder / "img_00004.json").unlink()
    (folder / "img_00005.json").write_bytes(orjson.dumps({**FULL, "labels": []}))
    write_image(folder / "img_00007.png")
    (folder / "img_00007.jpg").unlink()
    (folder / "img_00008.json").write_bytes(box_annotation(name="face"))
    workplace.run("publish", folder, "--name", DATASET)
    workplace.run("split", DATASET, "60/20/20", "--group-by", r"(\d+)$")
    with workplace.mounted("--refresh", "3600") as mountpoint:
        yield workplace, mountpoint


def losses_in(folder: Path) -> bytes | None:
    """What the view does not show; None if it shows all."""
    path = folder / LOSSES_NAME
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("view", VIEWS)
def test_a_copied_view_is_what_the_mount_shows(mounted: tuple[Workplace, Path], tmp_path: Path, view: str) -> None:
    workplace, mountpoint = mounted
    workplace.run("sync", tmp_path, DATASET, "--view", view)
    shown = mountpoint / ".views" / view / DATASET
    # A mount lists this file when it is known that there is one.
    compared = subprocess.run(
        ["diff", "--recursive", "--exclude", LOSSES_NAME, shown, tmp_path / DATASET],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (compared.returncode, compared.stdout) == (0, "")
    assert losses_in(tmp_path / DATASET) == losses_in(shown)
    names = [path for path in (tmp_path / DATASET).rglob("*") if path.is_file() and path.name != LOSSES_NAME]
    # In some views not every image is a file.
    assert len(names) >= (1 if view in {"imagefolder", "table", "webdataset"} else COUNT)
    assert not any(path.is_symlink() for path in names)
    again = workplace.run("sync", tmp_path, DATASET, "--view", view, "--delete")
    assert "Nothing to transfer" in again.stdout
