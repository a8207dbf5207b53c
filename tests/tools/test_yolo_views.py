"""The views yolo, yolo-obb and yolo-seg: ultralytics and supervision see the boxes of the house annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
import yaml
from support.house_boxes import HouseImage, HouseObject, Point, cut, datasets_in, has_area, house_images
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset

ROUNDING = 1.1e-6
"""Six decimals of a picture's side; twice half of the last one, for a centre and a size make an edge."""

SHOWN: dict[str, Callable[[HouseObject], bool]] = {
    "yolo": lambda item: bool(item.outline),
    "yolo-obb": lambda item: item.label_type != "seg" and len(item.outline) == 4,
    "yolo-seg": lambda item: item.label_type != "seg",
}
"""What each view shows; the rest is told as losses."""

TASKS = {"yolo": "detect", "yolo-obb": "obb", "yolo-seg": "segment"}


def outlines(image: HouseImage, view: str, classes: list[str]) -> list[tuple[str, list[Point]]]:
    """The classes and outlines in pixels that a view must show of an image; two corners of an upright box."""
    found = []
    for item in filter(SHOWN[view], image.of_classes(classes)):
        left, top, right, bottom = item.edges
        shown = cut([(left, top), (right, bottom)] if view == "yolo" else item.outline, image.size)
        if has_area(shown):
            found.append((item.name, shown))
    return found


def seen_by_ultralytics(data: dict[str, Any], task: str) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """For each image its stem, and the classes and outlines that ultralytics' own dataset holds."""
    for split in {data["train"], data["val"], data["test"]}:
        found = YOLODataset(img_path=split, data=data, task=task, augment=False, imgsz=64)
        assert {Path(name).stem for name in found.im_files} == {path.stem for path in Path(split).glob("*.jpg")}
        for label in found.labels:
            names = [data["names"][int(number)] for number in label["cls"].ravel()]
            boxes = label["bboxes"]
            around = np.stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
            yield Path(label["im_file"]).stem, list(zip(names, label["segments"] or around, strict=True))


@pytest.mark.parametrize("view", SHOWN)
def test_ultralytics_takes_every_image_and_sees_every_box(everything: Path, view: str) -> None:
    for dataset in datasets_in(everything):
        house = house_images(everything / dataset)
        data = check_det_dataset(str(everything / ".views" / view / dataset / "data.yaml"), autodownload=False)
        seen = dict(seen_by_ultralytics(data, TASKS[view]))
        assert seen.keys() == house.keys()
        for stem, found in seen.items():
            image = house[stem]
            expected = outlines(image, view, list(data["names"].values()))
            assert [name for name, _ in found] == [name for name, _ in expected], stem
            for (_, shown), (_, exact) in zip(found, expected, strict=True):
                np.testing.assert_allclose(shown, np.array(exact) / image.size, atol=ROUNDING, err_msg=stem)


@pytest.mark.parametrize("view", ["yolo", "yolo-obb"])
def test_supervision_sees_every_box(everything: Path, view: str) -> None:
    for dataset in datasets_in(everything):
        house = house_images(everything / dataset)
        top = everything / ".views" / view / dataset
        classes = yaml.safe_load((top / "data.yaml").read_bytes())["names"]
        for split in ("train", "valid", "test"):
            found = supervision.DetectionDataset.from_yolo(
                images_directory_path=str(top / split / "images"),
                annotations_directory_path=str(top / split / "labels"),
                data_yaml_path=str(top / "data.yaml"),
                is_obb=view == "yolo-obb",
            )
            assert found.classes == classes
            assert {Path(name).stem for name in found.image_paths} == {p.stem for p in (top / split).rglob("*.jpg")}
            for name, seen in found.annotations.items():
                image = house[Path(name).stem]
                expected = outlines(image, view, classes)
                assert [classes[number] for number in seen.class_id] == [name for name, _ in expected], name
                if expected:
                    shown = seen.data["xyxyxyxy"] if view == "yolo-obb" else seen.xyxy.reshape(-1, 2, 2)
                    exact = np.array([outline for _, outline in expected])
                    # It counts in single precision.
                    np.testing.assert_allclose(shown, exact, atol=ROUNDING * max(image.size) + 1e-3, err_msg=name)
