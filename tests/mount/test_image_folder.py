"""The views ``imagefolder`` in a mount: images by the values of their classifications, known without any annotation."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
import yaml
from support.mounting import (
    Workplace,
    box_annotation,
    copy_of,
    local_workplace,
    mount_status,
    write_folder,
    write_image,
)
from support.old_catalogs import take_additions_away

from imgsyncfs.catalog import open_catalog

FACES = "opensource_faces_rgb_clf"
BOXES = "original_20260401_rgb_rbbox"
NEVER = ("--refresh", "3600")
GENDERS = ["Female", "Male", "Female", "a/b"]


def classified(*labels: tuple[str, str]) -> bytes:
    """A house annotation with classifications, and an object of a class."""
    document = orjson.loads(box_annotation(name="face"))
    document["labels"] += [{"label_type": "clf", "label_name": name, "label": label} for name, label in labels]
    return orjson.dumps(document)


def write_faces(folder: Path, genders: list[str] = GENDERS) -> Path:
    """Images with a gender each, some of which wear a mask, and one image that nobody has labelled."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, gender in enumerate(genders):
        mask = [("Mask", "yes")] if number == 1 else []
        write_image(folder / f"face_{number}.jpg", shade=number)
        (folder / f"face_{number}.json").write_bytes(classified(("Gender", gender), *mask))
    write_image(folder / "bare.jpg", shade=99)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog that its tests only read, of faces and of boxes."""
    workplace = local_workplace(tmp_path_factory.mktemp("faces"))
    workplace.run("publish", write_faces(workplace.folder / "faces"), "--name", FACES)
    workplace.run("publish", write_folder(workplace.folder / "boxes", count=3), "--name", BOXES)
    return workplace


@pytest.fixture(scope="module")
def shared(published: Workplace) -> Iterator[Path]:
    """A mount that its tests only read."""
    with published.mounted(*NEVER) as mountpoint:
        yield mountpoint


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_faces(tmp_path / "faces"), "--name", FACES)
    return workplace


def values_below(folder: Path) -> dict[str, str]:
    """The directory above each image, whichever split it is in."""
    return {path.stem: path.parent.name for path in folder.rglob("*") if path.is_file()}


def split_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_image_is_in_the_directory_of_its_first_value(shared: Path) -> None:
    top = shared / ".views" / "imagefolder" / FACES
    expected = {f"face_{number}": gender.replace("/", "%2F") for number, gender in enumerate(GENDERS)}
    assert values_below(top) == expected
    assert split_names(top) <= {"train", "valid", "test"}
    for path in top.rglob("*.jpg"):
        assert path.read_bytes() == (shared / FACES / path.name).read_bytes()


def test_the_splits_are_those_of_the_other_views(shared: Path) -> None:
    places = {path.name: path.parts[-3] for path in (shared / ".views" / "imagefolder" / FACES).rglob("*.jpg")}
    others = {path.name: path.parts[-2] for path in (shared / ".views" / "coco" / FACES).rglob("face_*.jpg")}
    assert places == others


def test_a_view_is_offered_for_each_label_with_the_datasets_that_have_it(shared: Path) -> None:
    views = {path.name for path in (shared / ".views").iterdir() if path.name.startswith("imagefolder")}
    assert views == {"imagefolder", "imagefolder:Gender", "imagefolder:Mask"}
    for view in views:
        assert [path.name for path in (shared / ".views" / view).iterdir()] == [FACES]
    assert values_below(shared / ".views" / "imagefolder:Mask" / FACES) == {"face_1": "yes"}
    assert not (shared / ".views" / "imagefolder:mask").exists()
    assert not (shared / ".views" / "imagefolder" / BOXES).exists()


def test_what_is_not_in_the_view_is_not_there_and_named_with_its_number(shared: Path) -> None:
    top = shared / ".views" / "imagefolder:Mask" / FACES
    [image] = top.rglob("*.jpg")
    assert not (image.parent / "face_0.jpg").exists()
    assert not (top / "face_0.jpg").exists()
    assert not (image.parent / "face_1.json").exists()
    told = (shared / ".imgsyncfs" / "errors.log").read_text()
    assert f"The view imagefolder:Mask of {FACES} does not show 4 images without a label Mask" in told


def test_the_root_of_a_mount_can_show_a_label(published: Workplace, tmp_path: Path) -> None:
    with copy_of(published, tmp_path).mounted(*NEVER, "--view", "imagefolder:Gender") as mountpoint:
        assert [path.name for path in mountpoint.iterdir()] == [FACES]
        assert values_below(mountpoint / FACES)["face_1"] == "Male"
        assert (mountpoint / ".views" / "imagefolder:Gender" / FACES).samefile(mountpoint / FACES)
        assert sorted(path.name for path in (mountpoint / ".views" / "coco").iterdir()) == [FACES, BOXES]


def test_a_label_that_no_dataset_has_is_not_mounted_and_near_ones_are_named(
    published: Workplace, tmp_path: Path
) -> None:
    workplace = copy_of(published, tmp_path)
    (tmp_path / "mnt").mkdir()
    refused = workplace.run("mount", tmp_path / "mnt", "--view", "imagefolder:Gendre", status=None)
    assert refused.returncode
    assert "No dataset has the label 'Gendre'" in refused.stderr
    assert "Gender, Mask" in refused.stderr


def test_no_annotation_is_read_for_the_view(workplace: Workplace) -> None:
    for path in (workplace.folder / "store").rglob("*annotations*"):
        path.unlink()
    with workplace.mounted(*NEVER) as mountpoint:
        assert len(values_below(mountpoint / ".views" / "imagefolder" / FACES)) == len(GENDERS)
        assert mount_status(mountpoint)["store"]["requests"] == 0


def test_a_mount_that_starts_without_the_database_shows_what_it_has_seen(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = values_below(mountpoint / ".views" / "imagefolder:Gender" / FACES)
    with closing(sqlite3.connect(workplace.catalog, isolation_level=None)) as other:
        # Nobody else can read the database now.
        other.execute("BEGIN EXCLUSIVE")
        with workplace.mounted(*NEVER, "--timeout", "1") as mountpoint:
            assert values_below(mountpoint / ".views" / "imagefolder:Gender" / FACES) == before


def test_a_publish_moves_an_image_to_the_directory_of_its_new_value(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        top = mountpoint / ".views" / "imagefolder" / FACES
        assert values_below(top)["face_0"] == "Female"
        shutil.rmtree(workplace.folder / "faces")
        workplace.run("publish", write_faces(workplace.folder / "faces", ["Male", "Male"]), "--name", FACES)
        assert values_below(top) == {"face_0": "Male", "face_1": "Male"}


def test_a_catalog_of_an_earlier_version_is_mounted_without_the_view(workplace: Workplace) -> None:
    with open_catalog(workplace.catalog) as catalog:
        take_additions_away(catalog, level=3)
    with workplace.mounted(*NEVER) as mountpoint:
        assert list((mountpoint / ".views" / "imagefolder").iterdir()) == []
        assert len(list((mountpoint / ".views" / "coco" / FACES).rglob("*.jpg"))) == len(GENDERS) + 1
        # Whoever publishes next gives the catalog what this version adds.
        workplace.run("publish", workplace.folder / "faces", "--name", FACES)
        assert len(values_below(mountpoint / ".views" / "imagefolder:Gender" / FACES)) == len(GENDERS)


# Classes that the column of the catalog does not list.


def test_classes_that_only_annotations_have_are_numbered_after_the_listed_ones(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    folder = write_folder(tmp_path / "boxes", count=3)
    (folder / "img_00001.json").write_bytes(box_annotation(name="dog"))
    (folder / "img_00002.json").write_bytes(box_annotation(name="cat"))
    done = workplace.run("publish", folder, "--name", BOXES, "--classes", "zebra,person")
    assert "number these after the listed ones, by name" in done.stderr
    with workplace.mounted(*NEVER) as mountpoint:
        top = mountpoint / ".views" / "yolo-obb" / BOXES
        names = yaml.safe_load((top / "data.yaml").read_text())["names"]
        assert names == ["zebra", "person", "cat", "dog"]
        rows = {path.stem: path.read_text().split() for path in top.rglob("img_*.txt")}
        assert {stem: names[int(row[0])] for stem, row in rows.items()} == {
            "img_00000": "person",
            "img_00001": "dog",
            "img_00002": "cat",
        }
        coco = orjson.loads((mountpoint / ".views" / "coco" / BOXES / "instances.json").read_bytes())
        assert [each["name"] for each in coco["categories"]] == names
        assert len(coco["annotations"]) == 3
        assert "dog" not in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
