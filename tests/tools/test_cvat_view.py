"""The view cvat: Datumaro sees the boxes of the house annotations, with their rotations."""

from __future__ import annotations

from math import degrees
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from support.house_boxes import HouseObject, datasets_in, house_images, mask_pixels

ROUNDING = 0.0051
"""Datumaro itself rounds to two decimals."""

KINDS = {
    "bbox": AnnotationType.bbox,
    "rbbox": AnnotationType.rotated_bbox,
    "poly": AnnotationType.polygon,
    "seg": AnnotationType.mask,
}


def test_datumaro_sees_every_object_and_its_rotation(everything: Path) -> None:
    for dataset in datasets_in(everything):
        house = house_images(everything / dataset)
        found = Dataset.import_from(str(everything / ".views" / "cvat" / dataset), "cvat")
        labels = found.categories()[AnnotationType.label]
        listed = {each.name for each in labels.items}
        assert {item.id for item in found} == house.keys()
        for item in found:
            image = house[item.id]
            expected = [each for each in image.of_classes(listed) if len(each.outline) > 2]
            objects = [each for each in item.annotations if each.type != AnnotationType.label]
            assert [labels[each.label].name for each in objects] == [each.name for each in expected], item.id
            for seen, exact in zip(objects, expected, strict=True):
                assert seen.type == KINDS[exact.label_type], item.id
                compare(seen, exact, item.id)
            tags = [each for each in item.annotations if each.type == AnnotationType.label]
            assert [(labels[each.label].name, each.attributes["value"]) for each in tags] == [
                (label["label_name"], label["label"]) for label in image.labels if label["label_type"] == "clf"
            ]


def compare(seen: Any, exact: HouseObject, name: str) -> None:
    content = exact.content
    if exact.label_type == "seg":
        assert (np.asarray(seen.image) == mask_pixels(content["rle"])).all(), name
    elif exact.label_type == "rbbox":
        *places, rotation = seen.points
        assert places == pytest.approx([content[key] for key in "xywh"], abs=2 * ROUNDING), name
        off = (rotation - degrees(content["a"])) % 180
        assert min(off, 180 - off) < ROUNDING, name
    else:
        points = exact.edges if exact.label_type == "bbox" else np.ravel(exact.outline).tolist()
        assert seen.points == pytest.approx(points, abs=ROUNDING), name
