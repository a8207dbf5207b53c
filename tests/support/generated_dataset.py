"""A dataset of house annotations of all label types, made up and the same at every run.

Boxes are turned by any angle, some given beyond a whole turn; a tenth of all objects reaches beyond the picture's edge.
Among the images are some that were checked and are empty, some that nobody has looked at, and some without annotation.
The dataset's id and its images' names hold ``_test_``, which readers that look for splits in names stumble over.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pycocotools import mask as masks

from support.mounting import demo_workplace
from support.publishing import noisy_jpeg

DATASET = "opensource_test_rgb_bbox&rbbox&poly&seg&clf&reg"
COUNT = int(os.environ.get("IMGSYNCFS_GENERATED_IMAGES", "1000"))
"""How many images: each ten in a row have one of each kind, so fewer find what depends on kinds as well."""

WIDTH, HEIGHT = 64, 48
CLASSES = ("person", "face", "traffic light", "R&D <人>")
PICTURES = 16
"""So many pictures stand behind all names: made fast, and told apart by eye."""

Json = dict[str, Any]


def stem(number: int) -> str:
    """The name of an image."""
    return f"opensource_test_rgb_{number:05}"


def annotation_of(number: int) -> Json | None:
    """The house annotation of an image, None where it has none; images that follow each other differ in kind."""
    chance = random.Random(number)
    kind = number % 10
    if kind == 9:
        return None
    labels: list[Json] = []
    for label_type in {0: ("bbox",), 1: ("rbbox",), 2: ("poly",), 3: ("seg",), 6: _OBJECTS}.get(kind, ()):
        objects = [_object(chance, label_type) for _ in range(chance.randint(1, 4))]
        labels.append({"label_type": label_type, "object": objects})
    if kind in {4, 6}:
        label = chance.choice(("Female", "Male"))
        labels.append({"label_type": "clf", "label_name": "Gender", "label": label})
    if kind in {5, 6}:
        labels.append({"label_type": "reg", "label_name": "Age", "label": chance.randint(1, 99)})
    return {
        "anno_version": "0.2.0",
        "label_checked": int(kind != 8),
        "height": HEIGHT,
        "width": WIDTH,
        "depth": 3,
        "ext": "jpg",
        "labels": labels,
    }


def named_annotations(count: int = COUNT) -> Iterator[tuple[str, Json | None]]:
    """The name and the house annotation of each image."""
    return ((stem(number), annotation_of(number)) for number in range(count))


def write_dataset(folder: Path, count: int = COUNT) -> Path:
    """Write images and annotations as somebody would publish them; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [noisy_jpeg(WIDTH, HEIGHT) for _ in range(PICTURES)]
    for number, (name, content) in enumerate(named_annotations(count)):
        (folder / f"{name}.jpg").write_bytes(pictures[number % PICTURES])
        if content is not None:
            (folder / f"{name}.json").write_bytes(orjson.dumps(content))
    return folder


@contextmanager
def mounted_with_demo(folder: Path, count: int = COUNT) -> Iterator[Path]:
    """A mount of the demo's datasets and of this one; takes some 15 s for 10,000 images."""
    workplace = demo_workplace(folder)
    source = write_dataset(folder / "set", count)
    # Some ten seconds for 10,000, and minutes where the machine is busy.
    workplace.run("publish", source, "--name", DATASET, "--classes", ",".join(CLASSES), seconds=300)
    # Whole-dataset files are waited for, however busy the machine is.
    with workplace.mounted("--refresh", "3600", "--timeout", "120") as mountpoint:
        yield mountpoint


_OBJECTS = ("bbox", "rbbox", "poly", "seg")


def _object(chance: random.Random, label_type: str) -> Json:
    name = {"class": chance.choice(CLASSES)}
    reaches_beyond = chance.random() < 0.1
    margin = 0.5 if reaches_beyond else 14
    x, y = chance.uniform(margin, WIDTH - margin), chance.uniform(margin, HEIGHT - margin)
    w, h = chance.uniform(2, 18), chance.uniform(2, 18)
    if label_type == "bbox":
        return {**name, "x1": x - w / 2, "y1": y - h / 2, "x2": x + w / 2, "y2": y + h / 2}
    if label_type == "rbbox":
        return {**name, "x": x, "y": y, "w": w, "h": h, "a": chance.uniform(-7, 7)}
    if label_type == "poly":
        w, h = w + 10, h + 10  # or four corners might be as good as a rectangle's
        around = [
            (x - w / 2, y),
            (x, y - h / 2),
            (x + w / 2, y + h / 3),
            (x + w / 4, y + h / 2),
            (x - w / 3, y + h / 3),
        ]
        return {**name, "points": [list(point) for point in around[: chance.randint(3, 5)]]}
    covered = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    covered[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = 1
    counts = masks.encode(covered)["counts"].decode()
    return {**name, "rle": {"size": [HEIGHT, WIDTH], "counts": counts}}
