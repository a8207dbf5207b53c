"""What a killed process leaves in a catalog's folder: it is removed when nobody can be writing it any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from imgsyncfs.catalog.listing_folder import IN_FLIGHT_SECONDS, LISTINGS, UNFINISHED, remove_unfinished

LEFT = ("datasets.json.17", f"{LISTINGS}/abc/1-def.x7/columns.npy", f"{LISTINGS}/abc/1-def/values.k2")


def leave(folder: Path, *, age: float) -> list[Path]:
    """Leave files as processes do that are killed; returns what lies in their folders under a name of its own."""
    left = []
    for name in LEFT:
        parts = name.split("/")
        place = 1 if parts[-1] == "columns.npy" else 0
        parts[-1 - place] = UNFINISHED + parts[-1 - place]
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        left.append(path.parent if place else path)
    then = time.time() - age
    for path in left:
        os.utime(path, (then, then))
    return left


def test_what_was_left_long_ago_is_removed_and_all_else_stays(tmp_path: Path) -> None:
    listing = tmp_path / LISTINGS / "abc" / "1-def"
    listing.mkdir(parents=True)
    kept = [tmp_path / "datasets.json", listing / "columns.npy", listing / "meta.json"]
    for path in kept:
        path.write_bytes(b"whole")
    left = leave(tmp_path, age=2 * IN_FLIGHT_SECONDS)
    remove_unfinished(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.read_bytes() == b"whole" for path in kept)


def test_what_may_be_about_to_be_finished_stays(tmp_path: Path) -> None:
    left = leave(tmp_path, age=0.0)
    remove_unfinished(tmp_path)
    assert all(path.exists() for path in left)


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    folder = tmp_path / "catalog"
    folder.mkdir()
    link = folder / f"{UNFINISHED}link"
    link.symlink_to(outside)
    os.utime(link, (0, 0), follow_symlinks=False)
    remove_unfinished(folder)
    assert not link.is_symlink()
    assert (outside / "file").exists()


def test_a_folder_that_is_not_there_has_nothing_left(tmp_path: Path) -> None:
    remove_unfinished(tmp_path / "nowhere")


@pytest.mark.parametrize("older_than", [0.0, -1.0])
def test_how_old_it_must_be_can_be_said(tmp_path: Path, older_than: float) -> None:
    left = leave(tmp_path, age=1.0)
    remove_unfinished(tmp_path, older_than=older_than)
    assert not any(path.exists() for path in left)
