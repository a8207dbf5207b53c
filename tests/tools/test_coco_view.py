"""The view coco: torchvision, supervision and RF-DETR see the boxes of the house annotations."""

from __future__ import annotations

from math import degrees
from pathlib import Path

import numpy as np
import pytest
import supervision
from rfdetr.datasets import detect_roboflow_format
from rfdetr.datasets.coco import CocoDetection as RfDetrDataset
from support.house_boxes import HouseImage, HouseObject, datasets_in, house_images, mask_pixels
from torchvision.datasets import CocoDetection

SPLITS = ("train", "valid", "test")
ROUNDING = 1.1e-6
SINGLE = 1e-4
"""Pixels that a number in single precision is off, for the sizes of the pictures here."""


def shown(image: HouseImage, classes: set[str]) -> list[HouseObject]:
    """The objects that the view must show of an image; polygons of fewer than three points are told as losses."""
    return [each for each in image.of_classes(classes) if len(each.outline) > 2]


def edges(items: list[HouseObject]) -> list[tuple[float, ...]]:
    return [each.edges for each in items]


def test_torchvision_sees_every_box_and_its_rotation(everything: Path) -> None:
    for dataset in datasets_in(everything):
        house, top = house_images(everything / dataset), everything / ".views" / "coco" / dataset
        found = CocoDetection(str(top), str(top / "instances.json"))
        assert len(found) == sum(image.is_looked_at for image in house.values())
        names = {number: category["name"] for number, category in found.coco.cats.items()}
        for number in found.ids:
            image = house[Path(found.coco.imgs[number]["file_name"]).stem]
            seen, expected = found._load_target(number), shown(image, {*names.values()})
            assert [names[each["category_id"]] for each in seen] == [each.name for each in expected], image.path
            for each, item in zip(seen, expected, strict=True):
                left, top_edge, right, bottom = item.edges
                exact = (left, top_edge, right - left, bottom - top_edge)
                np.testing.assert_allclose(each["bbox"], exact, atol=2 * ROUNDING, err_msg=str(image.path))
                if item.label_type == "seg":
                    assert (found.coco.annToMask(each) == mask_pixels(item.content["rle"])).all()
                elif item.label_type != "bbox":
                    np.testing.assert_allclose(
                        each["segmentation"], [np.ravel(item.outline)], atol=ROUNDING, err_msg=str(image.path)
                    )
                if item.label_type == "rbbox":
                    turned = (each["attributes"]["rotation"] - degrees(item.content["a"])) % 180
                    assert min(turned, 180 - turned) < ROUNDING


def test_torchvision_finds_every_image(everything: Path) -> None:
    for dataset in datasets_in(everything):
        for split in SPLITS:
            root = everything / ".views" / "coco" / dataset / split
            found = CocoDetection(str(root), str(root / "_annotations.coco.json"))
            for number in found.ids:
                described = found.coco.imgs[number]
                assert found._load_image(number).size == (described["width"], described["height"])


def test_supervision_sees_every_box(everything: Path) -> None:
    for dataset in datasets_in(everything):
        house = house_images(everything / dataset)
        for split in SPLITS:
            root = everything / ".views" / "coco" / dataset / split
            found = supervision.DetectionDataset.from_coco(str(root), str(root / "_annotations.coco.json"))
            for name, seen in found.annotations.items():
                expected = shown(house[Path(name).stem], {*found.classes})
                assert [found.classes[number] for number in seen.class_id] == [each.name for each in expected], name
                np.testing.assert_allclose(
                    seen.xyxy.reshape(-1, 4), np.reshape(edges(expected), (-1, 4)), atol=SINGLE, err_msg=name
                )


@pytest.mark.parametrize("split", SPLITS)
def test_rf_detr_sees_every_box_and_every_class(everything: Path, split: str) -> None:
    for dataset in datasets_in(everything):
        house, top = house_images(everything / dataset), everything / ".views" / "coco" / dataset
        assert detect_roboflow_format(top) == "coco"
        found = RfDetrDataset(
            str(top / split), str(top / split / "_annotations.coco.json"), None, remap_category_ids=True
        )
        names = {label: found.coco.cats[number]["name"] for label, number in (found.label2cat or {}).items()}
        assert [*names.values()] == [each["name"] for each in found.coco.cats.values()]
        for place in range(len(found)):
            _, target = found[place]
            image = house[Path(found.coco.imgs[found.ids[place]]["file_name"]).stem]
            expected = shown(image, {*names.values()})
            # It cuts boxes at the picture's edge.
            limits = (*image.size, *image.size)
            assert [names[int(label)] for label in target["labels"]] == [each.name for each in expected], image.path
            np.testing.assert_allclose(
                target["boxes"], np.clip(np.reshape(edges(expected), (-1, 4)), 0, limits), atol=SINGLE
            )
