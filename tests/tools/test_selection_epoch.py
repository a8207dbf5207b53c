"""A selection of three datasets as ultralytics learns from it: its images, its classes, its boxes, its splits."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml
from support.house_boxes import HouseImage, cut, house_images
from support.mounting import local_workplace
from support.publishing import noisy_jpeg
from support.ultralytics_epoch import train
from support.yolo_reader import read_yolo
from ultralytics import YOLO

SELECTION = "people"
SPLITS = ("train", "valid", "test")
ROUNDING = 0.51e-6
"""Half of the last of six decimals of a picture's side."""

MAPPED = {"person": "human", "person with face": "human"}
DROPPED = "dog"
UNWANTED = "cat"
"""Images that show one do not meet the selection's conditions."""


@dataclass(frozen=True)
class Published:
    """A dataset to publish.

    Attributes:
        label_type: of all of its objects.
        stem: what its images' names begin with.
        size: of its images.
        classes: in its own order.
        weights: how it is divided.
    """

    label_type: str
    stem: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    weights: str


ONE, TWO, THREE, OTHER = (
    "original_20260101_rgb_bbox",
    "original_20260102_rgb_rbbox",
    "original_20260103_rgb_poly",
    "original_20260104_rgb_bbox",
)
CLASSES = ("car", UNWANTED, DROPPED, "person", "person with face")
# Two have images of the same names, and divide them otherwise; one has names that begin with its id.
PUBLISHED = {
    ONE: Published("bbox", f"{ONE}_", (96, 64), CLASSES, "60/20/20"),
    TWO: Published("rbbox", "frame_", (64, 96), CLASSES[::-1], "50/25/25"),
    THREE: Published("poly", "frame_", (80, 80), CLASSES[2:] + CLASSES[:2], "30/40/30"),
    OTHER: Published("bbox", "frame_", (96, 64), CLASSES, "60/20/20"),
}
CHOSEN = (ONE, TWO, THREE)
IMAGES = 30

Json = dict[str, Any]
Rows = list[tuple[str, list[float]]]


def classes_in(number: int) -> list[str]:
    """The classes of an image's objects; images that follow each other differ in kind."""
    kinds = {3: [DROPPED, DROPPED], 4: ["car", UNWANTED], 6: []}
    return kinds.get(number % 10, ["person", DROPPED, "person with face", "car", "person"][number % 4 :])


def annotation(dataset: Published, number: int) -> Json:
    """A house annotation; an image in ten is not checked."""
    chance = random.Random(f"{dataset.label_type} {number}")
    objects = [{"class": name, **outline(dataset, chance)} for name in classes_in(number)]
    width, height = dataset.size
    return {
        "anno_version": "0.2.0",
        "label_checked": int(number % 10 != 5),
        "height": height,
        "width": width,
        "depth": 3,
        "ext": "jpg",
        "labels": [{"label_type": dataset.label_type, "object": objects}] if objects else [],
    }


def outline(dataset: Published, chance: random.Random) -> Json:
    """The place of an object; one in four or so reaches beyond the picture."""
    x, y = (chance.uniform(5, side - 5) for side in dataset.size)
    w, h = chance.uniform(4, 24), chance.uniform(4, 24)
    if dataset.label_type == "bbox":
        return {"x1": x - w / 2, "y1": y - h / 2, "x2": x + w / 2, "y2": y + h / 2}
    if dataset.label_type == "rbbox":
        return {"x": x, "y": y, "w": w, "h": h, "a": chance.uniform(-math.pi, math.pi)}
    return {"points": [[x - w / 2, y], [x, y - h / 2], [x + w / 2, y + h / 3], [x + w / 4, y + h / 2]]}


@dataclass(frozen=True)
class Learned:
    """A mount after an epoch on its selection.

    Attributes:
        mountpoint: of the mount.
        sources: dataset to the folder that it was published from.
        told: what `support.ultralytics_epoch.train` told.
        weights: what the epoch left behind.
    """

    mountpoint: Path
    sources: dict[str, Path]
    told: Json
    weights: Path

    @property
    def view(self) -> Path:
        """The selection as YOLO has it."""
        return self.mountpoint / ".views" / "yolo" / f"@{SELECTION}"

    @property
    def classes(self) -> list[str]:
        """The names that classes have in the selection, by their numbers."""
        names: list[str] = yaml.safe_load((self.view / "data.yaml").read_text())["names"]
        return names

    def house(self) -> dict[str, HouseImage]:
        """Name to what was published, of all images that meet the selection's conditions."""
        return {
            shown_as(dataset, stem): image
            for dataset in CHOSEN
            for stem, image in house_images(self.sources[dataset]).items()
            if image.is_checked and not image.of_classes([UNWANTED])
        }


def shown_as(dataset: str, stem: str) -> str:
    """The name that an image has in a selection, as the README says it."""
    return stem if stem.startswith(dataset) else f"{dataset}--{stem}"


def expected_rows(image: HouseImage) -> Rows:
    """Classes, and centres and sizes as shares of the picture's, that a view must show of an image."""
    found: Rows = []
    for item in image.objects:
        if item.name != DROPPED:
            left, top, right, bottom = item.edges
            corners = np.array(cut([(left, top), (right, bottom)], image.size)) / image.size
            box = [*corners.mean(axis=0), *(corners[1] - corners[0])]
            found.append((MAPPED.get(item.name, item.name), box))
    return found


def stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    """Three of four datasets in a selection, and an epoch on it."""
    folder = tmp_path_factory.mktemp("selection")
    workplace = local_workplace(folder)
    sources = {dataset_id: folder / dataset_id for dataset_id in PUBLISHED}
    for dataset_id, dataset in PUBLISHED.items():
        sources[dataset_id].mkdir()
        # Each image is in a group of its own.
        for number in range(IMAGES):
            path = sources[dataset_id] / f"{dataset.stem}{number * 100:05}"
            path.with_suffix(".jpg").write_bytes(noisy_jpeg(*dataset.size))
            path.with_suffix(".json").write_bytes(orjson.dumps(annotation(dataset, number)))
        workplace.run("publish", sources[dataset_id], "--name", dataset_id, "--classes", ",".join(dataset.classes))
        workplace.run("split", dataset_id, dataset.weights)
    workplace.run(
        *("select", SELECTION),
        *(word for dataset_id in CHOSEN for word in ("--dataset", dataset_id)),
        *("--where", "label_checked=1", "--where", f"class!={UNWANTED}"),
        *(word for name, other in MAPPED.items() for word in ("--map", f"{name}={other}")),
        *("--drop", DROPPED),
    )
    with workplace.mounted("--refresh", "3600") as mountpoint:
        told = train(mountpoint, "yolo", folder, f"@{SELECTION}")
        yield Learned(mountpoint, sources, told, folder / "yolo" / "run" / "weights" / "last.pt")


def test_ultralytics_trains_an_epoch_on_a_selection_and_takes_every_image(learned: Learned) -> None:
    said = [re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in learned.told["said"]]
    assert learned.told["status"] == 0, said[-20:]
    assert any("1 epochs completed" in line for line in said)
    house = learned.house()
    for split in ("train", "valid"):
        names = stems(learned.view / split / "images")
        backgrounds = sum(not expected_rows(house[name]) for name in names)
        counted = f"{len(names)} images, {backgrounds} backgrounds, 0 corrupt: 100%"
        assert any("Scanning" in line and counted in line for line in said), counted


def test_the_trained_model_knows_the_classes_by_their_other_names_and_not_the_dropped_one(learned: Learned) -> None:
    names = YOLO(learned.weights).names
    assert [names[number] for number in range(len(names))] == learned.classes
    assert "human" in learned.classes
    assert {*MAPPED, DROPPED}.isdisjoint(learned.classes)


def test_images_of_all_three_datasets_that_meet_the_conditions_are_there_and_no_others(learned: Learned) -> None:
    found = [path.stem for split in SPLITS for path in (learned.view / split / "images").iterdir()]
    assert sorted(found) == sorted(learned.house())
    assert all(any(name.startswith(dataset) for name in found) for dataset in CHOSEN)


def test_each_image_is_its_own_datasets_picture_though_another_has_one_of_that_name(learned: Learned) -> None:
    house = learned.house()
    for path in learned.view.glob("*/images/*"):
        assert path.read_bytes() == house[path.stem].path.read_bytes(), path.name


@pytest.mark.parametrize("dataset", CHOSEN)
def test_each_image_is_on_the_split_that_it_is_on_in_its_dataset(learned: Learned, dataset: str) -> None:
    chosen = learned.house().keys()
    for split in SPLITS:
        own = stems(learned.mountpoint / ".views" / "yolo" / dataset / split / "images")
        expected = {shown_as(dataset, stem) for stem in own} & chosen
        assert expected, "a dataset with no image on a side tells nothing of that"
        shown = stems(learned.view / split / "images")
        assert {name for name in shown if name.startswith(dataset)} == expected


def test_every_image_has_its_labels_beside_it_though_all_its_objects_are_dropped(learned: Learned) -> None:
    for split in SPLITS:
        assert stems(learned.view / split / "labels") == stems(learned.view / split / "images")
    only_dropped = {name for name, image in learned.house().items() if image.objects and not expected_rows(image)}
    assert len(only_dropped) >= len(CHOSEN)
    assert {path.stem for path in learned.view.glob("*/labels/*") if not path.read_bytes()} >= only_dropped


@pytest.mark.parametrize("split", SPLITS)
def test_labels_show_the_house_annotations_boxes_by_the_classes_other_names(learned: Learned, split: str) -> None:
    house, classes = learned.house(), learned.classes
    for path in (learned.view / split / "labels").iterdir():
        found = read_yolo(path.read_bytes(), len(classes))
        expected = expected_rows(house[path.stem])
        assert [classes[number] for number, _ in found] == [name for name, _ in expected], path.name
        for (_, shown), (_, exact) in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.ravel(shown), exact, rtol=0, atol=ROUNDING, err_msg=path.name)
