"""What labelme must show of a house annotation, worked out otherwise than the project does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from support.house_boxes import HouseImage, HouseObject, mask_pixels

SHAPES = {"bbox": "rectangle", "rbbox": "polygon", "poly": "polygon", "seg": "mask"}

ROUNDING = 1e-5


def check_shapes(shapes: Sequence[Mapping[str, Any]], image: HouseImage) -> None:
    """Compare the shapes that labelme holds of an image with its house annotation.

    Raises:
        AssertionError: they differ.
    """
    # labelme's own shapes (points, circles) come from labels that are nobody else's, after all objects.
    shown = shapes[: len(image.objects)]
    assert [(shape["label"], shape["shape_type"]) for shape in shown] == [
        (item.name, SHAPES[item.label_type]) for item in image.objects
    ], image.path
    for shape, item in zip(shown, image.objects, strict=True):
        if item.label_type == "seg":
            _check_mask(shape, item)
        else:
            left, top, right, bottom = item.edges
            points = [(left, top), (right, bottom)] if item.label_type == "bbox" else item.outline
            np.testing.assert_allclose(shape["points"], points, atol=ROUNDING, err_msg=str(image.path))


def flags_of(image: HouseImage) -> dict[str, bool]:
    """The flags that stand for an image's classifications."""
    return {f"{each['label_name']}: {each['label']}": True for each in image.labels if each["label_type"] == "clf"}


def _check_mask(shape: Mapping[str, Any], item: HouseObject) -> None:
    left, top, right, bottom = map(int, item.edges)
    covered = mask_pixels(item.content["rle"])[top:bottom, left:right]
    assert shape["mask"] == covered.tolist()
    # Its points are the first and the last pixel.
    assert shape["points"] == [[left, top], [right - 1, bottom - 1]]
