"""``LOSSES.txt`` in a view: what the layout does not show, there when something is lost, and only then."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounting import Workplace, eventually, mount_status, workplace_with, write_folder

from imgsyncfs.library.views.registry import VIEWS

DATASET = "original_20260401_rgb_rbbox"
COUNT = 60
NEVER = ("--refresh", "3600")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount that its tests only read."""
    workplace = workplace_with(tmp_path_factory.mktemp("losses"), DATASET, count=COUNT)
    workplace.run("split", DATASET, "60/20/20", "--group-by", r"(\d+)$")
    with workplace.mounted(*NEVER) as mountpoint:
        yield mountpoint


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=5)


def losses(mountpoint: Path, view: str) -> Path:
    return mountpoint / ".views" / view / DATASET / "LOSSES.txt"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def written(mountpoint: Path) -> int:
    count: int = mount_status(mountpoint)["documents"]["written"]
    return count


@pytest.mark.parametrize("view", ["yolo", "hf"])
def test_what_labels_and_documents_do_not_show_is_counted_over_all_images(shared: Path, view: str) -> None:
    text = losses(shared, view).read_text()
    assert text.startswith(f"{view} does not show of {DATASET}:\n{COUNT} ")
    assert losses(shared, view).stat().st_size == len(text)


@pytest.mark.parametrize("view", ["coco", "yolo-obb", "dota", "cvat"])
def test_there_is_no_such_file_where_nothing_is_lost(shared: Path, view: str) -> None:
    assert not losses(shared, view).exists()
    assert "LOSSES.txt" not in names_in(losses(shared, view).parent)


@pytest.mark.parametrize("view", [name for name, view in VIEWS.items() if not view.has_splits])
def test_a_flat_view_has_none_and_reads_nothing_to_know_that(shared: Path, view: str) -> None:
    before = written(shared)
    assert not losses(shared, view).exists()
    assert written(shared) == before


def test_an_absence_that_is_known_is_asked_for_once(shared: Path) -> None:
    absent = losses(shared, "coco")
    assert not absent.exists()
    before = mount_status(shared)["responders"]["requests"]
    for _ in range(200):
        assert not absent.exists()
    assert mount_status(shared)["responders"]["requests"] - before < 100


def test_listing_writes_nothing_and_names_the_file_when_it_is_known(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        for view, file in (("yolo", "LOSSES.txt"), ("hf", "train/metadata.jsonl")):
            folder = losses(mountpoint, view).parent
            before = written(mountpoint)
            # Twice: the kernel then has the directory, and has to be told.
            assert "LOSSES.txt" not in names_in(folder) | names_in(folder)
            assert written(mountpoint) == before
            assert (folder / file).stat().st_size
            assert "LOSSES.txt" in names_in(folder)


def test_the_file_is_copied_with_the_dataset(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        text = losses(mountpoint, "yolo").read_text()
        shutil.copytree(losses(mountpoint, "yolo").parent, tmp_path / "copy")
        assert (tmp_path / "copy" / "LOSSES.txt").read_text() == text


def test_it_is_in_the_datasets_directory_where_the_root_shows_the_view(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "--view", "yolo") as mountpoint:
        assert (mountpoint / DATASET / "LOSSES.txt").read_text().startswith(f"yolo does not show of {DATASET}:\n")


def test_a_publish_counts_anew(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = losses(mountpoint, "yolo").read_text()
        workplace.run("publish", write_folder(tmp_path / "one", count=7), "--name", DATASET)
        assert eventually(lambda: losses(mountpoint, "yolo").read_text() == before.replace("\n5 ", "\n7 "))


def test_another_mount_takes_it_from_the_cache(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        text = losses(mountpoint, "yolo").read_text()
        assert not losses(mountpoint, "yolo-obb").exists()
        assert written(mountpoint) == 2
    for path in (workplace.folder / "store").iterdir():
        shutil.rmtree(path)
    with workplace.mounted(*NEVER) as mountpoint:
        assert losses(mountpoint, "yolo").read_text() == text
        assert not losses(mountpoint, "yolo-obb").exists()
        assert written(mountpoint) == 0


def test_nothing_is_said_to_be_absent_that_could_not_be_counted(workplace: Workplace) -> None:
    store = workplace.folder / "store"
    with workplace.mounted(*NEVER, "--timeout", "5") as mountpoint:
        store.rename(workplace.folder / "away")
        with pytest.raises(OSError, match="Input/output"):
            losses(mountpoint, "yolo").stat()
        (workplace.folder / "away").rename(store)
        assert eventually(lambda: _is_there(losses(mountpoint, "yolo")))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
