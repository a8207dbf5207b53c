"""Where the objects of house annotations are, worked out otherwise than the project does it: what tools must show."""

from __future__ import annotations

import cmath
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
from pycocotools import mask as masks

Point = tuple[float, float]
Edges = tuple[float, float, float, float]

LABEL_TYPES = ("bbox", "rbbox", "poly", "seg")
"""Those that have objects; labels of types that nobody knows are in no tool's layout."""


class HouseObject(NamedTuple):
    """An object of a house annotation.

    Attributes:
        label_type: one of `LABEL_TYPES`.
        name: its class.
        outline: the corners of a box, clockwise from the top left of the unturned one, or the points of a polygon; of a
            mask the corners around its pixels.
        content: as it stands in the annotation.
    """

    label_type: str
    name: str
    outline: tuple[Point, ...]
    content: Mapping[str, Any]

    @property
    def edges(self) -> Edges:
        """Left, top, right and bottom of the upright box around it."""
        xs, ys = zip(*self.outline, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class HouseImage(NamedTuple):
    """An image, and what its house annotation says.

    Attributes:
        path: of the image in the dataset's own directory.
        size: width and height as the annotation has them, (0, 0) without one.
        is_checked: whether somebody says to have looked at it.
        is_looked_at: whether somebody has labelled it, or looked at it and found nothing.
        objects: all of them, in the annotation's order.
        labels: all of them, as they stand in the annotation.
    """

    path: Path
    size: tuple[int, int]
    is_checked: bool
    is_looked_at: bool
    objects: tuple[HouseObject, ...]
    labels: tuple[Mapping[str, Any], ...]

    def of_classes(self, names: Iterable[str]) -> list[HouseObject]:
        """The objects of these classes."""
        return [each for each in self.objects if each.name in names]


def datasets_in(mountpoint: Path) -> list[str]:
    """The ids of the datasets that a mount shows."""
    return sorted(path.name for path in mountpoint.iterdir())


@cache
def house_images(dataset: Path) -> dict[str, HouseImage]:
    """The images in a dataset's own directory, by their stems."""
    return {path.stem: _house_image(path) for path in sorted(dataset.glob("*.jpg"))}


def objects_of(content: Mapping[str, Any]) -> tuple[HouseObject, ...]:
    """The objects of a house annotation, as JSON has it."""
    return tuple(_objects(content["labels"]))


def cut(outline: Iterable[Point], size: tuple[int, int]) -> list[Point]:
    """An outline whose points are moved to the edge of a picture of this width and height if they lie beyond it."""
    width, height = size
    return [(min(max(x, 0), width), min(max(y, 0), height)) for x, y in outline]


def has_area(outline: Iterable[Point]) -> bool:
    """Whether the upright box around an outline covers anything."""
    return all(max(places) - min(places) > 1e-3 for places in zip(*outline, strict=True))


def mask_pixels(rle: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The pixels of a mask, 1 where it covers something, as pycocotools decodes it."""
    compressed = rle if isinstance(rle["counts"], str) else masks.frPyObjects(rle, *rle["size"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy, about pycocotools
        decoded: npt.NDArray[np.uint8] = masks.decode(compressed)
    return decoded


def _house_image(path: Path) -> HouseImage:
    beside = path.with_suffix(".json")
    if not beside.exists():
        return HouseImage(path, (0, 0), is_checked=False, is_looked_at=False, objects=(), labels=())
    content = orjson.loads(beside.read_bytes())
    objects = objects_of(content)
    is_checked = content["label_checked"] == 1
    size = content["width"], content["height"]
    return HouseImage(path, size, is_checked, is_checked or bool(objects), objects, tuple(content["labels"]))


def _objects(labels: Iterable[dict[str, Any]]) -> Iterator[HouseObject]:
    for label in labels:
        for item in label["object"] if label["label_type"] in LABEL_TYPES else ():
            yield HouseObject(label["label_type"], item["class"], _outline(label["label_type"], item), item)


def _outline(label_type: str, item: dict[str, Any]) -> tuple[Point, ...]:
    if label_type == "rbbox":
        turn = cmath.rect(1, item["a"])
        offsets = [complex(x * item["w"], y * item["h"]) / 2 for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        places = [complex(item["x"], item["y"]) + offset * turn for offset in offsets]
        return tuple([(place.real, place.imag) for place in places])
    if label_type == "poly":
        return tuple([(x, y) for x, y in item["points"]])
    left, top, right, bottom = _mask_edges(item["rle"]) if label_type == "seg" else _box_edges(item)
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _box_edges(item: dict[str, Any]) -> Edges:
    return item["x1"], item["y1"], item["x2"], item["y2"]


def _mask_edges(rle: dict[str, Any]) -> Edges:
    rows, columns = np.nonzero(mask_pixels(rle))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
