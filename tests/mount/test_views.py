"""Views in a mount: each dataset in the layout that a tool looks for, as real directories."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from support.convert_folders import files_of
from support.mounting import Workplace, box_annotation, mount_status, workplace_with, write_folder, write_image
from support.publishing import house

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.views.flat import FlatView
from imgsyncfs.library.views.registry import VIEWS

DATASET = "original_20260401_rgb_rbbox"
OTHER = "original_20260402_rgb_rbbox"
NEVER = ("--refresh", "3600")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    """A mount that its tests only read."""
    workplace = workplace_with(tmp_path_factory.mktemp("views"), DATASET, count=40)
    workplace.run("publish", write_folder(workplace.folder / "two", count=3), "--name", OTHER)
    with workplace.mounted(*NEVER) as mountpoint:
        yield workplace, mountpoint


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=3)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_views_are_there_and_not_listed(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    assert names_in(mountpoint) == [DATASET, OTHER]
    assert names_in(mountpoint / ".views") == sorted(VIEWS)
    for name, view in VIEWS.items():
        assert names_in(mountpoint / ".views" / name) == ([] if view.takes_label else [DATASET, OTHER])


FLAT = [name for name, view in VIEWS.items() if isinstance(view, FlatView)]


@pytest.mark.parametrize("view", [name for name in FLAT if name in FORMATS])
def test_a_view_has_each_image_and_beside_it_the_annotation_that_its_tool_looks_for(
    shared: tuple[Workplace, Path], view: str
) -> None:
    _, mountpoint = shared
    known, folder = FORMATS[view], mountpoint / ".views" / view / DATASET
    images = {path.name for path in (mountpoint / DATASET).glob("*.jpg")}
    stems = {name.removesuffix(".jpg") for name in images}
    assert set(names_in(folder)) == images | {f"{stem}{known.view_suffix}" for stem in stems}
    for stem in sorted(stems)[:5]:
        assert (folder / f"{stem}.jpg").read_bytes() == (mountpoint / DATASET / f"{stem}.jpg").read_bytes()
        content = (folder / f"{stem}{known.view_suffix}").read_bytes()
        assert known.recognizes(content)
        assert (folder / f"{stem}{known.view_suffix}").stat().st_size == len(content)


def test_the_plain_view_has_images_and_house_annotations_alone(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    plain = files_of(mountpoint / ".views" / "plain" / DATASET, annotations_only=False)
    beside = files_of(mountpoint / DATASET, annotations_only=False)
    assert plain == {name: content for name, content in beside.items() if not name.endswith((".labelme.json", ".xml"))}


@pytest.mark.parametrize("view", FLAT)
def test_sync_copies_what_the_view_shows(shared: tuple[Workplace, Path], tmp_path: Path, view: str) -> None:
    workplace, mountpoint = shared
    workplace.run("sync", tmp_path / "copy", DATASET, "--view", view)
    shown = files_of(mountpoint / ".views" / view / DATASET, annotations_only=False)
    assert files_of(tmp_path / "copy" / DATASET, annotations_only=False) == shown


def test_a_view_is_a_real_directory_that_can_be_copied(shared: tuple[Workplace, Path], tmp_path: Path) -> None:
    _, mountpoint = shared
    source = mountpoint / ".views" / "rolabelimg" / OTHER
    assert not source.is_symlink()
    assert source.resolve() == source
    shutil.copytree(source, tmp_path / "copy")
    assert names_in(tmp_path / "copy") == names_in(source)


@pytest.mark.parametrize("name", ["x.npy", "img_00000.labelme.json", "img_00000.JPG", "img_99999.jpg", "images"])
def test_what_a_view_does_not_have_is_not_there(shared: tuple[Workplace, Path], name: str) -> None:
    _, mountpoint = shared
    assert not (mountpoint / ".views" / "labelme" / DATASET / name).exists()
    assert not (mountpoint / ".views" / "gone" / DATASET).exists()


def test_a_name_that_is_not_there_beside_an_image_costs_one_message_ever(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    images = sorted((mountpoint / ".views" / "yolo" / DATASET).rglob("*.jpg"))
    assert len(images) == 40

    def requests() -> int:
        return int(mount_status(mountpoint)["responders"]["requests"])

    before = requests()
    absent = [path.with_suffix(".npy") for path in images]
    # As ultralytics does at every load of an image.
    for _ in range(4):
        assert not any(path.exists() for path in absent)
    told = requests() - before
    # The count of the last answers comes a little later, before as after, and looking at it takes messages of its own.
    # If names were asked for each time, there would be four times as many.
    assert len(images) / 2 < told < 2 * len(images)


def test_the_root_can_show_a_view(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "--view", "labelme") as mountpoint:
        (document, *_) = [orjson.loads(path.read_bytes()) for path in (mountpoint / DATASET).glob("*.json")]
        assert document["shapes"]
        assert not list((mountpoint / DATASET).glob("*.xml"))
        assert names_in(mountpoint / ".views" / "labelme") == names_in(mountpoint)
        assert list((mountpoint / ".views" / "rolabelimg" / DATASET).glob("*.xml"))
        assert (mountpoint / ".by" / "source" / "original" / DATASET).resolve() == mountpoint / DATASET


def test_a_view_in_the_root_is_an_option_of_fstab_too(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "-o", "view=rolabelimg") as mountpoint:
        assert list((mountpoint / DATASET).glob("*.xml"))
        assert not list((mountpoint / DATASET).glob("*.json"))


def test_an_unknown_view_and_one_with_siblings_are_refused(workplace: Workplace) -> None:
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    assert "labelme" in workplace.run("mount", mountpoint, "--view", "labelmee", status=1).stderr
    refused = workplace.run("mount", mountpoint, "--view", "labelme", "--siblings", "none", status=1)
    assert "leave out --siblings" in refused.stderr


@pytest.mark.parametrize("options", [(), ("--view", "labelme")])
def test_a_publish_is_seen_in_a_view_and_who_has_a_file_open_reads_on(
    workplace: Workplace, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with workplace.mounted(*NEVER, *options) as mountpoint:
        folder = mountpoint / DATASET if options else mountpoint / ".views" / "labelme" / DATASET
        changed, removed = folder / "img_00000.json", folder / "img_00002.jpg"
        before, image = changed.read_bytes(), removed.read_bytes()
        with changed.open("rb") as open_label, removed.open("rb") as open_image:
            source = tmp_path / "one"
            (source / "img_00000.json").write_bytes(box_annotation(name="cat"))
            for path in source.glob("img_00002.*"):
                path.unlink()
            workplace.run("publish", source, "--name", DATASET)
            assert orjson.loads(changed.read_bytes())["shapes"][0]["label"] == "cat"
            assert not removed.exists()
            assert names_in(folder) == ["img_00000.jpg", "img_00000.json", "img_00001.jpg", "img_00001.json"]
            assert open_label.read() == before
            assert open_image.read() == image


def test_a_dataset_that_comes_later_is_in_every_view(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        assert names_in(mountpoint / ".views" / "labelme") == [DATASET]
        workplace.run("publish", write_folder(tmp_path / "two", count=2), "--name", OTHER)
        for view in (name for name, view in VIEWS.items() if not view.takes_label):
            assert names_in(mountpoint / ".views" / view) == [DATASET, OTHER]
            if view in {"table", "webdataset"}:
                # They have no image by itself.
                assert any((mountpoint / ".views" / view / OTHER).iterdir())
                continue
            (image,) = (mountpoint / ".views" / view / OTHER).rglob("img_00000.jpg")
            assert image.stat().st_size


# Views with directories.


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def split_of(mountpoint: Path, view: str = "dota") -> dict[str, str]:
    """The split of each image, by its stem."""
    top = mountpoint / ".views" / view / DATASET
    return {path.stem: path.parts[-3] for path in top.glob("*/images/*.jpg")}


def test_dotas_view_has_images_and_labels_of_each_split_in_directories(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    top = mountpoint / ".views" / "dota" / DATASET
    assert names_in(top) == ["test", "train", "valid"]
    splits = split_of(mountpoint)
    assert splits.keys() == {path.stem for path in (mountpoint / DATASET).glob("*.jpg")}
    assert files_below(top) == {
        *(f"{split}/images/{stem}.jpg" for stem, split in splits.items()),
        *(f"{split}/labelTxt/{stem}.txt" for stem, split in splits.items()),
    }
    for stem, split in splits.items():
        label = top / split / "labelTxt" / f"{stem}.txt"
        assert label.stat().st_size == len(label.read_bytes())
        (row,) = label.read_text().splitlines()
        assert len(row.split()) == 10
        (box,) = orjson.loads((mountpoint / DATASET / f"{stem}.json").read_bytes())["labels"][0]["object"]
        shown = [float(number) for number in row.split()[:8]]
        expected = corners([(box["x"], box["y"], box["w"], box["h"], box["a"])])[0].ravel().tolist()
        assert shown == pytest.approx(expected, abs=1e-5)


def test_directories_of_a_view_can_be_walked_and_left(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    images = mountpoint / ".views" / "dota" / DATASET / "train" / "images"
    assert images.is_dir()
    assert not images.is_symlink()
    assert (images / ".." / "labelTxt").samefile(images.parent / "labelTxt")
    assert (images / ".." / ".." / "..").samefile(mountpoint / ".views" / "dota")
    assert not (images / "labelTxt").exists()
    assert not (images.parent / "other").exists()


def test_vocs_view_names_the_images_of_each_split(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    year = mountpoint / ".views" / "voc" / DATASET / "VOCdevkit" / "VOC2012"
    splits = split_of(mountpoint)
    sets = {path.name: path.read_text().split() for path in (year / "ImageSets" / "Main").iterdir()}
    assert {name: set(stems) for name, stems in sets.items()} == {
        "train.txt": {stem for stem, split in splits.items() if split == "train"},
        "val.txt": {stem for stem, split in splits.items() if split == "valid"},
        "trainval.txt": {stem for stem, split in splits.items() if split != "test"},
        "test.txt": {stem for stem, split in splits.items() if split == "test"},
    }
    assert {path.stem for path in (year / "JPEGImages").iterdir()} == splits.keys()
    assert {path.stem for path in (year / "Annotations").iterdir()} == splits.keys()
    assert FORMATS["rolabelimg"].recognizes(next((year / "Annotations").iterdir()).read_bytes())


def test_vocs_view_names_the_classes(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    year = mountpoint / ".views" / "voc" / DATASET / "VOCdevkit" / "VOC2012"
    assert names_in(year) == ["Annotations", "ImageSets", "JPEGImages", "labelmap.txt"]
    assert (year / "labelmap.txt").read_text() == "person:::\n"


def test_another_split_rule_is_seen_at_once(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = split_of(mountpoint)
        assert len(before) == 3
        for weights, expected in (("0/100/0", {"valid"}), ("100/0/0", {"train"})):
            workplace.run("split", DATASET, weights)
            assert set(split_of(mountpoint).values()) == expected
        workplace.run("split", DATASET, "--reset")
        assert split_of(mountpoint) == before


# YOLO.


def yolo_rows(top: Path, stem: str) -> tuple[str, list[list[float]]]:
    """The split of an image, and the rows of its label file, found as ultralytics finds it."""
    (image,) = top.glob(f"*/images/{stem}.jpg")
    head, _, tail = str(image).rpartition("/images/")
    label = Path(f"{head}/labels/{tail}").with_suffix(".txt")
    assert label.stat().st_size == len(label.read_bytes())
    return image.parts[-3], [[float(each) for each in row.split()] for row in label.read_text().splitlines()]


def test_yolos_view_has_a_data_yaml_that_leads_to_images_and_their_labels(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    top = mountpoint / ".views" / "yolo-obb" / DATASET
    facts = yaml.safe_load((top / "data.yaml").read_bytes())
    assert "path" not in facts
    assert facts["names"] == ["person"]
    splits = split_of(mountpoint, "yolo-obb")
    for key, split in (("train", "train"), ("val", "valid"), ("test", "test")):
        expected = {stem for stem, found in splits.items() if found == split}
        shown = {path.stem for path in (top / facts[key]).glob("*.jpg")}
        assert shown == expected or (not expected and shown)
    assert splits == split_of(mountpoint)


def test_the_corners_in_yolos_oriented_boxes_are_those_of_the_house_annotation(shared: tuple[Workplace, Path]) -> None:
    _, mountpoint = shared
    for path in sorted((mountpoint / DATASET).glob("*.jpg")):
        _, ((number, *shown),) = yolo_rows(mountpoint / ".views" / "yolo-obb" / DATASET, path.stem)
        (box,) = orjson.loads(path.with_suffix(".json").read_bytes())["labels"][0]["object"]
        exact = corners([(box["x"], box["y"], box["w"], box["h"], box["a"])])[0] / (64, 48)
        assert number == 0
        assert shown == pytest.approx(np.clip(exact, 0, 1).ravel().tolist(), abs=1e-6)


def test_an_image_looked_at_and_empty_has_an_empty_label_and_one_nobody_looked_at_has_none(
    workplace: Workplace, tmp_path: Path
) -> None:
    for number, checked in (("3", 1), ("4", 0)):
        write_image(tmp_path / "one" / f"img_0000{number}.jpg")
        empty = {"anno_version": "0.2.0", "label_checked": checked, "height": 48, "width": 64, "labels": []}
        (tmp_path / "one" / f"img_0000{number}.json").write_bytes(orjson.dumps(empty))
    workplace.run("publish", tmp_path / "one", "--name", DATASET)
    with workplace.mounted(*NEVER) as mountpoint:
        top = mountpoint / ".views" / "yolo" / DATASET
        assert yolo_rows(top, "img_00003")[1] == []
        assert not list(top.rglob("img_00004.txt"))


def test_vocs_lists_leave_out_what_nobody_has_looked_at(workplace: Workplace, tmp_path: Path) -> None:
    for number, annotation in (("3", house()), ("4", box_annotation(checked=0)), ("5", house(checked=0)), ("6", None)):
        write_image(tmp_path / "one" / f"img_0000{number}.jpg")
        if annotation is not None:
            (tmp_path / "one" / f"img_0000{number}.json").write_bytes(annotation)
    workplace.run("publish", tmp_path / "one", "--name", DATASET)
    with workplace.mounted(*NEVER) as mountpoint:
        year = mountpoint / ".views" / "voc" / DATASET / "VOCdevkit" / "VOC2012"
        listed = {
            stem
            for name in ("trainval", "test")
            for stem in (year / "ImageSets/Main" / f"{name}.txt").read_text().split()
        }
        assert listed == {f"img_0000{number}" for number in range(5)}
        assert listed == {path.stem for path in (year / "Annotations").iterdir()}


def test_what_a_trainers_layout_does_not_show_is_named_once(workplace: Workplace, tmp_path: Path) -> None:
    for path in (tmp_path / "one").glob("*.json"):
        document = orjson.loads(path.read_bytes())
        document["labels"].append({"label_type": "reg", "label_name": "Age", "label": 4})
        path.write_bytes(orjson.dumps(document))
    workplace.run("publish", tmp_path / "one", "--name", DATASET)
    with workplace.mounted(*NEVER, "--responders", "1") as mountpoint:
        for path in (mountpoint / ".views" / "yolo" / DATASET).rglob("*.txt"):
            assert path.read_bytes()
        named = (mountpoint / ".imgsyncfs" / "errors.log").read_text().splitlines()
        about = [line for line in named if f"The view yolo of {DATASET} does not show regression values" in line]
        assert len(about) == 1


def test_a_split_without_images_lets_data_yaml_name_another(workplace: Workplace) -> None:
    workplace.run("split", DATASET, "100/0/0")
    with workplace.mounted(*NEVER) as mountpoint:
        facts = yaml.safe_load((mountpoint / ".views" / "yolo" / DATASET / "data.yaml").read_bytes())
        assert (facts["train"], facts["val"]) == ("train/images", "train/images")
