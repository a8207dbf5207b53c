"""Views that people and strict readers open: each shows what the house annotations say, of all label types."""

from __future__ import annotations

import os
import subprocess
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from support.dota_reader import read_dota
from support.generated_dataset import DATASET
from support.house_boxes import HouseObject, datasets_in, house_images
from support.labelme_shapes import check_shapes, flags_of
from support.mounting import demo_workplace
from support.places import SUPPORT
from support.rolabelimg_reader import read_rolabelimg
from support.screens import screen

FISHEYE = "original_20200207_fisheye_rbbox"
CLASSIFIED = "opensource_imdbwiki&affectnet_rgb_clf&reg"

# With 10,000 generated images a look at all takes some ten seconds; labelme takes half a minute to start where the
# machine is busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PIXEL = 0.51
ROTATED_PIXEL = 1e-4


def read_by_labelme(script: str, *arguments: Path, **variables: str) -> dict[str, dict[str, Any]]:
    """What a program of labelme's prints about files, by their paths."""
    done = subprocess.run(
        [os.environ["IMGSYNCFS_LABELME_PYTHON"], SUPPORT / script, *arguments],
        capture_output=True,
        env={**os.environ, **variables},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return dict(orjson.loads(done.stdout))


def test_the_plain_view_is_the_dataset_without_rendered_files(everything: Path) -> None:
    done = subprocess.run(
        ["diff", "-r", "-x", "*.labelme.json", "-x", "*.xml", everything, everything / ".views" / "plain"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_labelmes_reader_sees_every_object_and_every_classification(everything: Path) -> None:
    datasets = datasets_in(everything)
    view = everything / ".views" / "labelme"
    seen = read_by_labelme("labelme_reader.py", *[view / dataset for dataset in datasets])
    house = {
        str(view / dataset / f"{stem}.json"): image
        for dataset in datasets
        for stem, image in house_images(everything / dataset).items()
    }
    assert seen.keys() == {name for name, image in house.items() if image.is_looked_at}
    for name, file in seen.items():
        check_shapes(file["shapes"], house[name])
        assert file["flags"] == flags_of(house[name])


def test_labelmes_window_opens_the_directory_of_a_mount_that_shows_its_view(tmp_path: Path) -> None:
    with demo_workplace(tmp_path).mounted("--view", "labelme") as mountpoint, screen() as display:
        for dataset in (FISHEYE, CLASSIFIED):
            picture = tmp_path / "window.png"
            seen = read_by_labelme(
                "labelme_window.py",
                mountpoint / dataset,
                picture,
                DISPLAY=display,
                QT_QPA_PLATFORM="xcb",
                HOME=str(tmp_path),
            )
            house = house_images(mountpoint / ".views" / "plain" / dataset)
            assert {Path(name).stem for name in seen} == house.keys()
            for name, file in seen.items():
                image = house[Path(name).stem]
                assert f"{dataset}/{image.path.name}" in file["title"]
                check_shapes(file["shapes"], image)
                assert file["flags"] == flags_of(image)
            with Image.open(picture) as window:
                assert len(window.convert("RGB").getcolors(1 << 24) or ()) > 200


def test_rolabelimg_draws_every_box_where_the_house_annotation_has_it(everything: Path) -> None:
    for dataset in datasets_in(everything):
        for stem, image in house_images(everything / dataset).items():
            path = everything / ".views" / "rolabelimg" / dataset / f"{stem}.xml"
            assert path.exists() == image.is_looked_at
            shapes = read_rolabelimg(path) if image.is_looked_at else []
            expected = [each for kind in ("bbox", "rbbox") for each in image.objects if each.label_type == kind]
            assert [shape.label for shape in shapes] == [each.name for each in expected], path
            for shape, item in zip(shapes, expected, strict=True):
                if item.label_type == "bbox":
                    np.testing.assert_allclose(shape.corners, item.outline, atol=PIXEL, err_msg=str(path))
                else:
                    turns = round((item.content["a"] - shape.angle) / pi)
                    assert abs(item.content["a"] - shape.angle - turns * pi) < 1e-5
                    # Half a turn leaves the box where it is, and moves its first corner.
                    outline = item.outline if turns % 2 == 0 else (*item.outline[2:], *item.outline[:2])
                    np.testing.assert_allclose(shape.corners, outline, atol=2 * ROTATED_PIXEL, err_msg=str(path))


def test_a_strict_reader_of_dota_sees_every_box_by_its_corners(everything: Path) -> None:
    for dataset in datasets_in(everything):
        house, seen = house_images(everything / dataset), set[str]()
        for path in (everything / ".views" / "dota" / dataset).glob("*/labelTxt/*.txt"):
            seen.add(path.stem)
            rows = read_dota(path.read_bytes())
            expected = [each for each in house[path.stem].objects if has_four_corners(each)]
            assert [row.name for row in rows] == [each.name.replace(" ", "-") for each in expected], path
            for row, item in zip(rows, expected, strict=True):
                outline = item.outline
                turned = [(*outline[2:], *outline[:2]), outline]
                assert any(np.allclose(row.corners, each, atol=1e-5) for each in turned), path
        assert seen == {stem for stem, image in house.items() if image.is_looked_at}


def has_four_corners(item: HouseObject) -> bool:
    return item.label_type != "seg" and len(item.outline) == 4


def test_the_generated_dataset_holds_all_label_types(everything: Path) -> None:
    images = house_images(everything / DATASET).values()
    assert {each.label_type for image in images for each in image.objects} == {"bbox", "rbbox", "poly", "seg"}
    assert {label["label_type"] for image in images for label in image.labels} >= {"clf", "reg"}
    assert {(image.is_looked_at, bool(image.labels)) for image in images} == {
        (True, True),
        (True, False),
        (False, False),
    }
