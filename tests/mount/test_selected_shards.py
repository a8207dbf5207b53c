"""Tar files of a selection that gives classes other names: the annotations in them have these."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import orjson
import pytest
from support.mounting import Workplace, box_annotation, local_workplace, mount_status, write_image

ONE, TWO = "original_20260101_rgb_bbox", "original_20260102_rgb_bbox"
NEVER = ("--refresh", "3600")


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """Two datasets and a selection of both; some images have no annotation."""
    made = local_workplace(tmp_path)
    for dataset, name in ((ONE, "person"), (TWO, "a much longer name of a class \u00e4")):
        folder = tmp_path / dataset
        folder.mkdir()
        for number in range(0, 1200, 100):
            write_image(folder / f"{dataset}_{number:05}.jpg", shade=number // 10)
            if number % 300:
                annotation = box_annotation(x=20 + number // 100, name=name)
                (folder / f"{dataset}_{number:05}.json").write_bytes(annotation)
        made.run("publish", folder, "--name", dataset)
    made.run("select", "all", "--map", "person=somebody whose name is longer")
    return made


def members_of(folder: Path) -> dict[str, bytes]:
    """The content of all members of all tar files, by the names of the files that they are."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        size = path.stat().st_size
        assert len(path.read_bytes()) == size
        with tarfile.open(path) as shard:
            for member in shard:
                content = shard.extractfile(member)
                assert content is not None
                found[unquote(member.name)] = content.read()
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in {".jpg", ".json"}}


def test_samples_have_the_annotations_that_the_selections_directory_has(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        shown = files_of(mountpoint / ".views" / "plain" / "@all")
        annotations = [content for name, content in shown.items() if name.endswith(".json")]
        assert len(annotations) == 16
        assert sum(b"somebody whose name is longer" in content for content in annotations) == 8
        folder = mountpoint / ".views" / "webdataset" / "@all"
        before = mount_status(mountpoint)["documents"]["written"]
        names = {path.name for path in folder.iterdir()}
        # A directory is listed without any annotation being read for it.
        assert mount_status(mountpoint)["documents"]["written"] == before
        assert {name for name in names if name.endswith(".tar")} == {path.name for path in folder.glob("*.tar")}
        assert members_of(folder) == shown
        assert not (folder / "LOSSES.txt").exists()
    # Another mount takes them from the cache.
    with workplace.mounted(*NEVER) as mountpoint:
        assert members_of(mountpoint / ".views" / "webdataset" / "@all") == shown
        assert mount_status(mountpoint)["documents"]["written"] == 0


def test_a_cache_that_is_cleared_meanwhile_has_the_annotations_written_again(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "--responders", "2") as mountpoint:
        folder = mountpoint / ".views" / "webdataset" / "@all"
        before = members_of(folder)
        workplace.run("cache", "clear")
        for path in folder.glob("*.tar"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        assert members_of(folder) == before


def test_a_copy_has_the_same_tar_files_as_the_mount(workplace: Workplace, tmp_path: Path) -> None:
    workplace.run("sync", tmp_path / "copy", "@all", "--view", "webdataset")
    with workplace.mounted(*NEVER) as mountpoint:
        shown = mountpoint / ".views" / "webdataset" / "@all"
        shutil.copytree(shown, tmp_path / "shown")
    (copied,) = [path for path in (tmp_path / "copy").iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in (tmp_path / "shown").iterdir():
        assert (copied / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_annotation_that_cannot_be_read_is_left_out_and_counted(workplace: Workplace) -> None:
    with closing(sqlite3.connect(workplace.catalog)) as catalog, catalog:
        # An annotation that is somebody else's bytes: those of an image.
        (name,) = catalog.execute("SELECT MIN(name) FROM annotations").fetchone()
        catalog.execute(
            "UPDATE annotations SET (blob, blob_offset, byte_count, md5) = "
            "(SELECT blob, blob_offset, byte_count, md5 FROM images WHERE name = ?) WHERE name = ?",
            (name, name),
        )
    with workplace.mounted(*NEVER) as mountpoint:
        folder = mountpoint / ".views" / "webdataset" / "@all"
        members = members_of(folder)
        assert f"{name}.jpg" in members
        assert f"{name}.json" not in members
        assert sum(each.endswith(".json") for each in members) == 15
        assert all(orjson.loads(content) for each, content in members.items() if each.endswith(".json"))
        assert "annotations that do not parse" in (folder / "LOSSES.txt").read_text()
