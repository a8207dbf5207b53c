"""Copying views with directories and documents: what is copied, what is left alone, what is removed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.convert_folders import FULL
from support.publishing import DATASET, Place, fill, house, jpeg, open_place
from support.syncing import open_library, read_again

from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.errors import SyncError
from imgsyncfs.library.library import Library
from imgsyncfs.library.views.registry import VIEWS
from imgsyncfs.tools.sync.record import RECORD_FILE, RECORD_FOLDER
from imgsyncfs.tools.sync.run import SyncSummary, sync

COUNT = 6
BY_IMAGE = SplitRule((50, 25, 25), r"(\d+)$")
OTHER_SIDES = SplitRule((25, 50, 25), r"(\d+)$")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A catalog with one dataset whose images are in several splits; one annotation has what YOLO has not."""
    with open_place(tmp_path) as opened:
        files = {f"a_{number:05d}.jpg": jpeg(number) for number in range(COUNT)}
        files |= {f"a_{number:05d}.json": house("person", x1=number + 0.5) for number in range(COUNT)}
        fill(opened.folder, {**files, "a_00001.json": orjson.dumps(FULL)})
        opened.publish(classes=("person",))
        opened.catalog.set_split_rule(DATASET, BY_IMAGE)
        yield opened


@pytest.fixture
def library(place: Place, tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The dataset's, in the target."""
    return tmp_path / "target" / DATASET


def copy(library: Library, folder: Path, view: str, *, amount: int | None = None, delete: bool = False) -> SyncSummary:
    return sync(library, folder.parent, datasets=[DATASET], view=VIEWS[view], amount=amount, delete=delete)


def files_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.jpg"))


class Ends:
    """Ends the sync at a chosen part of the work."""

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def phase(self, _name: str, _total: int | None, unit: str, /) -> None:
        if unit == self.unit:
            raise KeyboardInterrupt

    def advance(self, count: int) -> None:
        """Go on."""


def test_what_a_layout_cannot_show_is_named_in_a_file_until_there_is_nothing_any_more(
    place: Place, library: Library, folder: Path
) -> None:
    copy(library, folder, "yolo")
    told = (folder / "LOSSES.txt").read_text()
    assert told.startswith(f"yolo does not show of {DATASET}:\n")
    assert "1 rotated boxes: YOLO has upright boxes only, and shows those around them\n" in told
    # Known without rendering anything again.
    assert copy(library, folder, "yolo").copied == 0
    assert (folder / "LOSSES.txt").read_text() == told
    fill(place.folder, {"a_00001.json": house("person")})
    place.publish()
    read_again(library)
    copy(library, folder, "yolo")
    assert not (folder / "LOSSES.txt").exists()


def test_documents_about_the_same_images_count_their_losses_once(library: Library, folder: Path) -> None:
    copy(library, folder, "coco")
    assert "2 keys that the house format does not know" in (folder / "LOSSES.txt").read_text()


def test_a_flat_view_has_no_file_of_losses(library: Library, folder: Path) -> None:
    copy(library, folder, "labelme")
    assert not (folder / "LOSSES.txt").exists()


def test_a_sync_that_is_stopped_before_the_documents_has_none_and_goes_on(library: Library, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sync(library, folder.parent, datasets=[DATASET], view=VIEWS["coco"], progress=Ends("images"))
    assert len(images_in(folder)) == COUNT
    assert list(folder.rglob("*.json")) == []
    summary = copy(library, folder, "coco")
    assert (summary.copied, summary.kept) == (5, COUNT)
    assert len(json.loads((folder / "instances.json").read_bytes())["images"]) == COUNT
    assert not list(folder.rglob(".*"))


def test_a_label_file_that_somebody_changed_is_kept_and_named(place: Place, library: Library, folder: Path) -> None:
    copy(library, folder, "yolo")
    [label] = folder.rglob("a_00002.txt")
    label.write_text("0 0.5 0.5 0.1 0.1\n")
    fill(place.folder, {"a_00002.json": house("person", "person"), "a_00003.json": house("person", "person")})
    place.publish()
    read_again(library)
    summary = copy(library, folder, "yolo")
    assert summary.changed == (f"{DATASET}/{label.relative_to(folder)}",)
    assert (summary.copied, label.read_text()) == (1, "0 0.5 0.5 0.1 0.1\n")


@pytest.mark.parametrize(
    ("view", "copied"), [("yolo", 1), ("coco", 2), ("hf", 1), ("cvat", 1), ("dota", 1), ("voc", 1)]
)
def test_after_a_publish_only_files_that_differ_are_copied(
    place: Place, library: Library, folder: Path, view: str, copied: int
) -> None:
    copy(library, folder, view)
    before = files_in(folder)
    fill(place.folder, {"a_00003.json": house("person", "person")})
    place.publish()
    read_again(library)
    assert copy(library, folder, view).copied == copied
    after = files_in(folder)
    assert before.keys() == after.keys()
    assert len([path for path in before if before[path] != after[path]]) == copied


def test_other_numbers_of_classes_reach_the_label_files(place: Place, library: Library, folder: Path) -> None:
    copy(library, folder, "yolo")
    place.publish(classes=("face", "person"))
    read_again(library)
    copy(library, folder, "yolo")
    assert {path.read_text()[0] for path in folder.rglob("*.txt") if path.parent.name == "labels"} == {"1"}
    assert 'names:\n- "face"\n' in (folder / "data.yaml").read_text()


def test_documents_of_an_amount_are_about_these_images_alone(library: Library, folder: Path) -> None:
    copy(library, folder, "coco", amount=2)
    assert images_in(folder) == ["a_00000.jpg", "a_00001.jpg"]
    assert len(json.loads((folder / "instances.json").read_bytes())["images"]) == 2
    copy(library, folder, "coco", amount=4)
    assert len(json.loads((folder / "instances.json").read_bytes())["images"]) == 4


def test_data_yaml_of_an_amount_names_no_split_that_has_no_images(place: Place, library: Library, folder: Path) -> None:
    place.catalog.set_split_rule(DATASET, SplitRule((1, 1, 1), r"^a_0000(\d)$"))
    read_again(library)
    copy(library, folder, "yolo", amount=1)
    [image] = folder.rglob("*.jpg")
    split = image.parent.parent.name
    said = dict(line.split(": ") for line in (folder / "data.yaml").read_text().splitlines() if ": " in line)
    assert {said["train"], said["val"], said["test"]} == {f"{split}/images"}


def test_an_image_that_changes_its_split_leaves_nothing_in_the_old_one(
    place: Place, library: Library, folder: Path
) -> None:
    copy(library, folder, "yolo")
    before = set(files_in(folder))
    place.catalog.set_split_rule(DATASET, OTHER_SIDES)
    read_again(library)
    summary = copy(library, folder, "yolo")
    assert set(files_in(folder)) != before
    assert summary.removed > 0
    assert images_in(folder) == [f"a_{number:05d}.jpg" for number in range(COUNT)]


def test_an_image_that_changes_its_split_and_was_changed_by_somebody_is_kept_and_named(
    place: Place, library: Library, folder: Path
) -> None:
    copy(library, folder, "yolo")
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"mine")
    place.catalog.set_split_rule(DATASET, OTHER_SIDES)
    read_again(library)
    summary = copy(library, folder, "yolo")
    assert len(summary.changed) == COUNT
    assert sum(path.read_bytes() == b"mine" for path in folder.rglob("*.jpg")) == COUNT


def test_another_view_in_the_same_folder_leaves_the_first_one_unless_it_is_to_be_deleted(
    library: Library, folder: Path
) -> None:
    copy(library, folder, "yolo")
    yolo = set(files_in(folder))
    copy(library, folder, "coco")
    assert yolo < set(files_in(folder))
    copy(library, folder, "coco", delete=True)
    copy(library, folder.parent.parent / "other" / DATASET, "coco")
    assert files_in(folder) == files_in(folder.parent.parent / "other" / DATASET)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"train", "valid", "test"}
    assert not (folder / "train" / "images").exists()


def test_a_directory_that_is_a_link_is_refused_whoever_asks(library: Library, folder: Path, tmp_path: Path) -> None:
    copy(library, folder, "yolo")
    (folder / "train").rename(tmp_path / "moved")
    (folder / "train").symlink_to(tmp_path / "moved")
    before = files_in(tmp_path / "moved")
    for view in ("yolo", "labelme"):
        with pytest.raises(SyncError, match=f"{folder / 'train'} is a link"):
            copy(library, folder, view, delete=True)
    assert files_in(tmp_path / "moved") == before


def test_a_second_run_asks_no_store(library: Library, folder: Path, tmp_path: Path) -> None:
    copy(library, folder, "coco")
    with open_library(tmp_path, cache="empty") as fresh:
        assert copy(fresh, folder, "coco").copied == 0
        assert fresh.fetcher.counts().requests == 0


def test_a_dataset_that_is_gone_is_removed_with_its_directories(place: Place, library: Library, folder: Path) -> None:
    copy(library, folder, "voc")
    place.publish("opensource_20200301_rgb_bbox")
    with contextlib.closing(sqlite3.connect(folder.parent.parent / "catalog.db")) as connection, connection:
        connection.execute("DELETE FROM datasets WHERE dataset_id = ?", (DATASET,))
    read_again(library)
    sync(library, folder.parent, datasets=["opensource_20200301_rgb_bbox"], delete=True)
    assert not folder.exists()


def test_a_record_of_an_earlier_version_goes_on(library: Library, folder: Path) -> None:
    copy(library, folder, "labelme")
    with contextlib.closing(sqlite3.connect(folder.parent / RECORD_FOLDER / RECORD_FILE)) as connection, connection:
        connection.execute("ALTER TABLE files DROP COLUMN losses")
        connection.execute("DROP TABLE directories")
    assert copy(library, folder, "labelme").copied == 0


def test_documents_are_whole_when_the_disk_becomes_full(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(library, folder, "coco", amount=COUNT - 1)
    before = (folder / "instances.json").read_bytes()
    calls = iter(range(1000))
    real = os.fsync

    def full(descriptor: int) -> None:
        if next(calls) >= 1:
            raise OSError(28, os.strerror(28))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SyncError, match="no room left"):
        copy(library, folder, "coco")
    assert (folder / "instances.json").read_bytes() == before
    monkeypatch.undo()
    copy(library, folder, "coco")
    assert len(json.loads((folder / "instances.json").read_bytes())["images"]) == COUNT
