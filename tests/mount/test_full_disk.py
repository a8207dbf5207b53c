"""A mount goes on without the disk of its cache: one that is full, or a saved listing that may not be read."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, copy_of, local_workplace, mount_status, write_folder

SEEN = "original_20260105_rgb_rbbox"
UNSEEN = "original_20260106_rgb_rbbox"

WITHOUT_ROOTS_RIGHTS = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
)
"""What root may otherwise do: read files that nobody may read."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with two datasets in a local store."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    for dataset in (SEEN, UNSEEN):
        workplace.run("publish", write_folder(workplace.folder / "one", count=3), "--name", dataset)
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own for as long as the block runs."""
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    """Take up all of a disk."""
    with contextlib.suppress(OSError), (folder / "fill").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(folder).f_bavail == 0


def contents(folder: Path) -> dict[str, bytes]:
    """All files in a directory."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_dataset_that_was_not_looked_at_before_is_listed_and_read_while_the_disk_is_full(
    workplace: Workplace, tmp_path: Path
) -> None:
    with disk(tmp_path / "cache") as cache, workplace.mounted() as mountpoint:
        expected = contents(mountpoint / SEEN)
        fill(cache)
        found = contents(mountpoint / UNSEEN)
        assert {name: content.replace(UNSEEN.encode(), SEEN.encode()) for name, content in found.items()} == expected
        yolo = mountpoint / ".views" / "yolo" / UNSEEN
        assert (yolo / "labels").is_dir() or any(yolo.iterdir())
        trouble = mount_status(mountpoint)["cache"]["trouble"]
        assert "0.0 MB free" in trouble
        assert "could not be saved" in trouble
        assert "make room" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert "could not be saved" in workplace.run("status", mountpoint).stdout.replace("\n", " ")


def test_what_is_published_while_the_disk_is_full_shows(workplace: Workplace, tmp_path: Path) -> None:
    with disk(tmp_path / "cache") as cache, workplace.mounted() as mountpoint:
        assert "img_00007.jpg" not in contents(mountpoint / SEEN)
        fill(cache)
        workplace.run("publish", write_folder(tmp_path / "more", count=8), "--name", SEEN)
        assert "img_00007.jpg" in contents(mountpoint / SEEN)


def test_what_is_made_of_images_and_long_annotations_is_read_while_the_disk_is_full(
    workplace: Workplace, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "long", count=1)
    annotation = orjson.loads((folder / "img_00000.json").read_bytes())
    annotation["labels"][0]["object"][0]["note"] = "long " * 20_000
    (folder / "img_00000.json").write_bytes(orjson.dumps(annotation))
    workplace.run("publish", folder, "--name", SEEN)
    with disk(tmp_path / "cache") as cache, workplace.mounted() as mountpoint:
        fill(cache)
        long = (mountpoint / SEEN / "img_00000.labelme.json").read_bytes()
        assert len(orjson.loads(long)["shapes"]) == 1
        assert (mountpoint / ".views" / "preview" / SEEN / "img_00000.jpg").read_bytes().startswith(b"\xff\xd8")
        assert mount_status(mountpoint)["renderings"]["made"] == 1


@pytest.mark.parametrize("was_used", [True, False])
def test_a_mount_is_made_while_the_disk_is_full(workplace: Workplace, tmp_path: Path, was_used: bool) -> None:
    with disk(tmp_path / "cache") as cache:
        if was_used:
            with workplace.mounted():
                pass
        fill(cache)
        with workplace.mounted() as mountpoint:
            assert len(contents(mountpoint / UNSEEN)) == 12
            status = mount_status(mountpoint)
            assert status["cache"]["trouble"]
        folder = Path(status["cache"]["folder"])
        assert was_used == (folder == cache)
        assert folder.exists() == was_used, "a cache in memory outlived the mount"


def saved_listings(workplace: Workplace) -> list[Path]:
    """The folders of saved listings, one for each revision."""
    return [path.parent for path in (workplace.folder / "cache").rglob("columns.npy")]


@pytest.mark.parametrize("fault", ["no rights", "no rights above", "damaged", "a file", "a pipe"])
def test_a_saved_listing_that_cannot_be_used_keeps_nobody_waiting(workplace: Workplace, fault: str) -> None:
    with workplace.mounted(under=WITHOUT_ROOTS_RIGHTS) as mountpoint:
        expected = contents(mountpoint / SEEN)
    [listing] = saved_listings(workplace)
    broken = listing.parent if fault == "no rights above" else listing
    if fault == "damaged":
        (listing / "columns.npy").write_bytes(b"damaged")
    elif fault == "a pipe":
        (listing / "columns.npy").unlink()
        os.mkfifo(listing / "columns.npy")
    elif fault == "a file":
        shutil.rmtree(listing)
        listing.write_bytes(b"")
    else:
        broken.chmod(0)
    with workplace.mounted("--timeout", "10", under=WITHOUT_ROOTS_RIGHTS) as mountpoint:
        began = time.monotonic()
        assert contents(mountpoint / SEEN) == expected
        assert time.monotonic() - began < 5
    if fault == "no rights above":
        broken.chmod(0o700)
    with workplace.mounted(under=WITHOUT_ROOTS_RIGHTS) as mountpoint:
        assert contents(mountpoint / SEEN) == expected
    assert len(saved_listings(workplace)) == 1


def test_no_pipe_in_place_of_a_saved_table_keeps_a_mount_waiting(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        expected = contents(mountpoint / SEEN)
    for name in ("datasets.json", "numbers.json"):
        [path] = (workplace.folder / "cache").rglob(name)
        path.unlink()
        os.mkfifo(path)
    with workplace.mounted("--timeout", "5") as mountpoint:
        assert contents(mountpoint / SEEN) == expected


@pytest.mark.parametrize("tables", ["none of ours", "damaged"])
def test_a_cache_that_is_none_of_ours_is_begun_anew_and_told(workplace: Workplace, tables: str) -> None:
    with workplace.mounted() as mountpoint:
        expected = contents(mountpoint / SEEN)
    database = workplace.folder / "cache" / "extents" / "cache.db"
    for path in database.parent.glob("cache.db*"):
        path.unlink()
    if tables == "damaged":
        database.write_bytes(b"no database, " * 1000)
    else:
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE Cache (bird TEXT)")
            connection.execute("CREATE TABLE Settings (key TEXT, value TEXT)")
    mountpoint = workplace.folder / "again"
    mountpoint.mkdir()
    said = workplace.run("mount", mountpoint).stderr
    try:
        assert "begun anew" in said
        assert "begun anew" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert contents(mountpoint / SEEN) == expected
        workplace.run("cache", "stats")
    finally:
        workplace.run("umount", mountpoint)


def test_a_cache_that_is_damaged_under_a_mount_keeps_nobody_from_reading(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        expected = contents(mountpoint / SEEN)
        database = workplace.folder / "cache" / "extents" / "cache.db"
        database.write_bytes(b"no database, " * 10_000)
        assert len(contents(mountpoint / UNSEEN)) == len(expected)
        assert os.statvfs(mountpoint).f_files > 0
        assert "again" not in workplace.run("status", mountpoint).stderr
        workplace.run("cache", "clear")
        assert contents(mountpoint / SEEN) == expected
