"""The view voc: torchvision and Datumaro see the boxes of the house annotations."""

from __future__ import annotations

from math import degrees
from pathlib import Path

import pytest
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from support.generated_dataset import DATASET
from support.house_boxes import HouseImage, HouseObject, datasets_in, house_images
from torchvision.datasets import VOCDetection

PIXEL = 0.51
"""VOC has whole pixels."""

ROTATED = 1e-4
"""Pixels, or degrees, that ``robndbox`` is rounded to."""


def boxes(image: HouseImage) -> list[HouseObject]:
    """The objects that VOC has; polygons and masks are told as losses."""
    return [each for each in image.objects if each.label_type in {"bbox", "rbbox"}]


def test_torchvision_sees_every_box_and_beside_it_the_rotated_one(everything: Path) -> None:
    for dataset in datasets_in(everything):
        house, root = house_images(everything / dataset), everything / ".views" / "voc" / dataset
        for split in ("train", "val"):
            for picture, target in VOCDetection(str(root), year="2012", image_set=split):
                annotation = target["annotation"]
                image = house[Path(annotation["filename"]).stem]
                assert picture.size == image.size
                seen, expected = annotation.get("object", []), boxes(image)
                assert [each["name"] for each in seen] == [each.name for each in expected], image.path
                for each, item in zip(seen, expected, strict=True):
                    around = [float(each["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")]
                    assert around == pytest.approx(item.edges, abs=PIXEL), image.path
                    if item.label_type == "rbbox":
                        turned = {key: float(value) for key, value in each["robndbox"].items()}
                        places = [turned[key] for key in ("cx", "cy", "w", "h")]
                        assert places == pytest.approx([item.content[key] for key in "xywh"], abs=ROTATED), image.path
                        off = degrees(turned["angle"] - item.content["a"]) % 180
                        assert min(off, 180 - off) < ROTATED, image.path


def test_datumaro_sees_every_box(everything: Path) -> None:
    for dataset in datasets_in(everything):
        year = everything / ".views" / "voc" / dataset / "VOCdevkit" / "VOC2012"
        house = house_images(everything / dataset)
        found = Dataset.import_from(str(year), "voc")
        labels = found.categories()[AnnotationType.label]
        if not {each.name for image in house.values() for each in boxes(image)} <= {each.name for each in labels.items}:
            # The catalog does not list all of its classes, and Datumaro refuses what it has no number for.
            assert dataset != DATASET
            continue
        stems = {item.id for item in found}
        assert stems == {stem for stem, image in house.items() if image.is_looked_at}
        for item in found:
            expected = boxes(house[item.id])
            assert [labels[each.label].name for each in item.annotations] == [each.name for each in expected], item.id
            for seen, exact in zip(item.annotations, expected, strict=True):
                assert seen.points == pytest.approx(exact.edges, abs=PIXEL), item.id
