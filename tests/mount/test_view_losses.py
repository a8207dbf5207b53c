"""``LOSSES.txt`` in a view: what the layout does not show, there when something is lost, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.divided_dataset import COUNT, DATASET, NEVER
from support.mounting import Workplace, eventually, mount_status, write_folder

from imgsyncfs.library.views.registry import VIEWS


def losses(mountpoint: Path, view: str) -> Path:
    return mountpoint / ".views" / view / DATASET / "LOSSES.txt"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def written(mountpoint: Path) -> int:
    count: int = mount_status(mountpoint)["documents"]["written"]
    return count


@pytest.mark.parametrize("view", ["yolo", "hf"])
def test_what_labels_and_documents_do_not_show_is_counted_over_all_images(divided: Path, view: str) -> None:
    text = losses(divided, view).read_text()
    assert text.startswith(f"{view} does not show of {DATASET}:\n{COUNT} ")
    assert losses(divided, view).stat().st_size == len(text)


@pytest.mark.parametrize("view", ["coco", "yolo-obb", "dota", "cvat"])
def test_there_is_no_such_file_where_nothing_is_lost(divided: Path, view: str) -> None:
    assert not losses(divided, view).exists()
    assert "LOSSES.txt" not in names_in(losses(divided, view).parent)


@pytest.mark.parametrize("view", [name for name, view in VIEWS.items() if not view.has_splits])
def test_a_flat_view_has_none_and_reads_nothing_to_know_that(divided: Path, view: str) -> None:
    before = written(divided)
    assert not losses(divided, view).exists()
    assert written(divided) == before


def test_an_absence_that_is_known_is_asked_for_once(divided: Path) -> None:
    absent = losses(divided, "coco")
    assert not absent.exists()
    before = mount_status(divided)["responders"]["requests"]
    for _ in range(200):
        assert not absent.exists()
    assert mount_status(divided)["responders"]["requests"] - before < 100


def test_listing_writes_nothing_and_names_the_file_when_it_is_known(small_workplace: Workplace) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint:
        for view, file in (("yolo", "LOSSES.txt"), ("hf", "train/metadata.jsonl")):
            folder = losses(mountpoint, view).parent
            before = written(mountpoint)
            # Twice: the kernel then has the directory, and has to be told.
            assert "LOSSES.txt" not in names_in(folder) | names_in(folder)
            assert written(mountpoint) == before
            assert (folder / file).stat().st_size
            assert "LOSSES.txt" in names_in(folder)


def test_the_file_is_copied_with_the_dataset(small_workplace: Workplace, tmp_path: Path) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint:
        text = losses(mountpoint, "yolo").read_text()
        shutil.copytree(losses(mountpoint, "yolo").parent, tmp_path / "copy")
        assert (tmp_path / "copy" / "LOSSES.txt").read_text() == text


def test_it_is_in_the_datasets_directory_where_the_root_shows_the_view(small_workplace: Workplace) -> None:
    with small_workplace.mounted(*NEVER, "--view", "yolo") as mountpoint:
        assert (mountpoint / DATASET / "LOSSES.txt").read_text().startswith(f"yolo does not show of {DATASET}:\n")


def test_a_publish_counts_anew(small_workplace: Workplace, tmp_path: Path) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint:
        before = losses(mountpoint, "yolo").read_text()
        small_workplace.run("publish", write_folder(tmp_path / "one", count=7), "--name", DATASET)
        assert eventually(lambda: losses(mountpoint, "yolo").read_text() == before.replace("\n5 ", "\n7 "))


def test_another_mount_takes_it_from_the_cache(small_workplace: Workplace) -> None:
    with small_workplace.mounted(*NEVER) as mountpoint:
        text = losses(mountpoint, "yolo").read_text()
        assert not losses(mountpoint, "yolo-obb").exists()
        assert written(mountpoint) == 2
    for path in (small_workplace.folder / "store").iterdir():
        shutil.rmtree(path)
    with small_workplace.mounted(*NEVER) as mountpoint:
        assert losses(mountpoint, "yolo").read_text() == text
        assert not losses(mountpoint, "yolo-obb").exists()
        assert written(mountpoint) == 0


def test_nothing_is_said_to_be_absent_that_could_not_be_counted(small_workplace: Workplace) -> None:
    store = small_workplace.folder / "store"
    with small_workplace.mounted(*NEVER, "--timeout", "5") as mountpoint:
        store.rename(small_workplace.folder / "away")
        with pytest.raises(OSError, match="Input/output"):
            losses(mountpoint, "yolo").stat()
        (small_workplace.folder / "away").rename(store)
        assert eventually(lambda: _is_there(losses(mountpoint, "yolo")))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
