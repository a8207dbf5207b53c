"""For every annotation in the demo, the tools' own readers accept what the mount renders, and see the house boxes."""

from __future__ import annotations

import csv
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from support.mounting import demo_workplace
from support.places import SAMPLES, SUPPORT
from support.rolabelimg_reader import read_rolabelimg

FISHEYE = "original_20200207_fisheye_rbbox"
SHAPES = {"bbox": "rectangle", "rbbox": "polygon", "poly": "polygon", "seg": "mask"}
PIXEL = 0.01


@pytest.fixture(scope="module")
def mountpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo, mounted."""
    with demo_workplace(tmp_path_factory.mktemp("formats")).mounted() as mounted:
        yield mounted


def house_annotations(mountpoint: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every house annotation that has siblings."""
    for path in house_files(mountpoint):
        annotation = orjson.loads(path.read_bytes())
        if annotation["label_checked"] or annotation["labels"]:
            yield path, annotation


def house_files(mountpoint: Path) -> list[Path]:
    """Every house annotation."""
    files = sorted(mountpoint.glob("o*/*.json"))
    return [path for path in files if not path.name.endswith(".labelme.json")]


def objects(annotation: dict[str, Any], *label_types: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(label type, object) in the order of the annotation."""
    for label in annotation["labels"]:
        if label["label_type"] in label_types:
            for item in label["object"]:
                yield label["label_type"], item


def corners(label_type: str, item: dict[str, Any]) -> list[tuple[float, float]] | None:
    """The corners that a reader must see, worked out here from the definition in words; None for a mask."""
    if label_type == "bbox":
        return [(item["x1"], item["y1"]), (item["x2"], item["y2"])]
    if label_type == "poly":
        return [(x, y) for x, y in item["points"]]
    if label_type == "seg":
        return None
    cosine, sine = math.cos(item["a"]), math.sin(item["a"])
    return [
        (item["x"] + u * cosine - v * sine, item["y"] + u * sine + v * cosine)
        for u, v in (
            (-item["w"] / 2, -item["h"] / 2),
            (item["w"] / 2, -item["h"] / 2),
            (item["w"] / 2, item["h"] / 2),
            (-item["w"] / 2, item["h"] / 2),
        )
    ]


@pytest.mark.slow
def test_labelme_loads_every_sibling_with_its_own_reader_and_sees_the_house_boxes(mountpoint: Path) -> None:
    annotations = list(house_annotations(mountpoint))
    assert len(annotations) > 40
    siblings = [path.with_suffix(".labelme.json") for path, _ in annotations]
    reader = SUPPORT / "labelme_reader.py"
    done = subprocess.run(
        [os.environ["IMGSYNCFS_LABELME_PYTHON"], reader, *siblings],
        capture_output=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    loaded = orjson.loads(done.stdout)
    for (path, annotation), sibling in zip(annotations, siblings, strict=True):
        shapes = loaded[str(sibling)]["shapes"]
        expected = list(objects(annotation, *SHAPES))
        assert [shape["shape_type"] for shape in shapes] == [SHAPES[label_type] for label_type, _ in expected], path
        for shape, (label_type, item) in zip(shapes, expected, strict=True):
            assert shape["label"] == item["class"]
            wanted = corners(label_type, item)
            if wanted is not None:
                np.testing.assert_allclose(shape["points"], wanted, atol=PIXEL, err_msg=str(path))


def test_every_xml_is_read_as_strictly_as_rolabelimg_does_and_shows_the_house_boxes(mountpoint: Path) -> None:
    seen = 0
    for path, annotation in house_annotations(mountpoint):
        shapes = read_rolabelimg(path.with_suffix(".xml"))
        expected = [*objects(annotation, "bbox"), *objects(annotation, "rbbox")]
        assert [shape.label for shape in shapes] == [item["class"] for _, item in expected], path
        for shape, (label_type, item) in zip(shapes, expected, strict=True):
            seen += 1
            if label_type == "rbbox":
                wanted = corners(label_type, item)
                # Which corner comes first does not matter to the tool's picture, nor half a turn.
                distance = min(
                    float(np.abs(np.roll(shape.corners, turn, axis=0) - np.array(wanted)).max()) for turn in range(4)
                )
                assert distance <= PIXEL, (path, item)
    assert seen > 100


def test_the_fisheye_boxes_point_at_the_centre_of_the_image(mountpoint: Path) -> None:
    shapes = read_rolabelimg(mountpoint / FISHEYE / f"{FISHEYE}_00079.xml")
    with (SAMPLES / "fisheye_00079.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(shapes) == len(rows) == 23
    for shape, row in zip(shapes, rows, strict=True):
        first, second = np.array(shape.corners[0]), np.array(shape.corners[1])
        along = (second - first) / np.linalg.norm(second - first)
        centre = np.array(shape.corners).mean(axis=0)
        np.testing.assert_allclose(centre, [float(row["x"]), float(row["y"])], atol=PIXEL)
        towards = np.array([1440.0, 1440.0]) - centre
        # The distance by which the box's own axis misses the centre, in pixels.
        assert abs(along[0] * towards[1] - along[1] * towards[0]) < 0.02


def test_an_image_that_nobody_looked_at_has_no_siblings_and_one_checked_and_empty_has(mountpoint: Path) -> None:
    for path in house_files(mountpoint):
        annotation = orjson.loads(path.read_bytes())
        expected = bool(annotation["label_checked"] or annotation["labels"])
        assert path.with_suffix(".xml").exists() == expected, path
        assert path.with_suffix(".labelme.json").exists() == expected, path
