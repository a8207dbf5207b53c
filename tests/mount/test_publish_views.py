"""Publishing from a view of a mount: a dataset in a tool's layout, as it is and edited."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, demo_workplace

from imgsyncfs.annotations.house_format import ObjectLabel, parse_annotation
from imgsyncfs.tools.layouts.registry import LAYOUTS

DATASETS = ("original_20200207_fisheye_rbbox", "opensource_handraised_rgb_bbox", "original_20200406_dewarp_bbox")
"""With rotated boxes; with polygons and masks; with labels and keys that nothing here knows."""

VIEWS = [name for name in LAYOUTS if name != "imagesynchronizer"]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    workplace = demo_workplace(tmp_path_factory.mktemp("views"))
    with workplace.mounted("--refresh", "3600") as mountpoint:
        yield workplace, mountpoint


@pytest.mark.parametrize("view", ["plain", *VIEWS])
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_view_that_is_published_as_its_dataset_changes_nothing(
    mounted: tuple[Workplace, Path], view: str, dataset: str
) -> None:
    workplace, mountpoint = mounted
    done = workplace.run("publish", mountpoint / ".views" / view / dataset, "--name", dataset)
    assert f"{dataset} was already so, at revision 1" in done.stdout


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        ("preview", "would be replaced by copies of themselves with annotations drawn into them"),
        ("yolo-obb-640", "would be replaced by copies of themselves made smaller"),
        ("gallery", "no image"),
    ],
)
def test_a_view_whose_pictures_are_no_images_is_refused_under_its_datasets_id(
    mounted: tuple[Workplace, Path], tmp_path: Path, view: str, reason: str
) -> None:
    workplace, mountpoint = mounted
    dataset = DATASETS[0]
    shown = mountpoint / ".views" / view / dataset
    for folder in (shown, shutil.copytree(shown, tmp_path / "copy")):
        done = workplace.run("publish", folder, "--name", dataset, status=1)
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
    again = workplace.run("publish", mountpoint / ".views" / "plain" / dataset, "--name", dataset)
    assert f"{dataset} was already so, at revision 1" in again.stdout


def test_a_box_that_was_moved_in_a_copied_view_is_all_that_changes(
    mounted: tuple[Workplace, Path], tmp_path: Path
) -> None:
    workplace, mountpoint = mounted
    dataset = "opensource_handraised_rgb_bbox"
    before = {path.name: path.read_bytes() for path in (mountpoint / ".views" / "plain" / dataset).glob("*.json")}
    copy = shutil.copytree(mountpoint / ".views" / "coco" / dataset, tmp_path / "copy")
    document = orjson.loads((copy / "instances.json").read_bytes())
    edited = next(each for each in document["annotations"] if not each["segmentation"])
    edited["bbox"][0] += 3
    (copy / "instances.json").write_bytes(orjson.dumps(document))
    done = workplace.run("publish", copy, "--name", dataset)
    assert "revision 2" in done.stdout
    after = {path.name: path.read_bytes() for path in (mountpoint / ".views" / "plain" / dataset).glob("*.json")}
    (changed,) = {name for name in after if after[name] != before[name]}
    was, now = parse_annotation(before[changed]), parse_annotation(after[changed])
    assert [label for label in now.labels if not is_boxes(label)] == [
        label for label in was.labels if not is_boxes(label)
    ]
    assert now.extra == was.extra


def is_boxes(label: object) -> bool:
    return isinstance(label, ObjectLabel) and label.label_type == "bbox"


def test_a_folder_that_may_be_two_things_is_asked_about_with_the_option(
    mounted: tuple[Workplace, Path], tmp_path: Path
) -> None:
    workplace, mountpoint = mounted
    dataset, views = DATASETS[0], mountpoint / ".views"
    copy = shutil.copytree(views / "yolo-obb" / dataset, tmp_path / "copy")
    shutil.copy(views / "cvat" / dataset / "annotations.xml", copy)
    done = workplace.run("publish", copy, "--name", dataset, status=1)
    assert done.stderr.endswith("say which one it is, yolo or cvat: --from NAME.\n")
    assert "was already so" in workplace.run("publish", copy, "--name", dataset, "--from", "yolo-obb").stdout


@pytest.mark.parametrize("view", ["yolo-obb", "coco", "cvat", "dota", "voc"])
def test_a_view_is_converted_to_house_annotations_in_another_folder(
    mounted: tuple[Workplace, Path], tmp_path: Path, view: str
) -> None:
    workplace, mountpoint = mounted
    dataset = DATASETS[0]
    source = mountpoint / ".views" / view / dataset
    refused = workplace.run("convert", source, "--to", "imagesynchronizer", status=1)
    assert refused.stderr.endswith("choose another folder for them: add --output DIR.\n")
    workplace.run("convert", source, "--to", "imagesynchronizer", "-o", tmp_path / "out")
    house = {path.name for path in (mountpoint / ".views" / "plain" / dataset).glob("*.json")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == house
    again = workplace.run("convert", source, "--to", "imagesynchronizer", "-o", tmp_path / "out")
    assert "0 annotations converted" in again.stdout
