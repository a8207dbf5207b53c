"""The view xanylabeling: X-AnyLabeling's own reader sees what the house annotations say, rotations included."""

from __future__ import annotations

import os
import subprocess
from math import pi
from pathlib import Path

import numpy as np
import orjson
from support.house_boxes import datasets_in, house_images
from support.labelme_shapes import flags_of
from support.places import SUPPORT

SHAPES = {"bbox": "rectangle", "rbbox": "rotation", "poly": "polygon"}
"""It has no masks; they are told as losses, and kept."""

ROUNDING = 1e-5


def test_xanylabelings_reader_sees_every_object_and_its_rotation(everything: Path) -> None:
    datasets = datasets_in(everything)
    done = subprocess.run(
        [
            os.environ["IMGSYNCFS_XANYLABELING_PYTHON"],
            SUPPORT / "xanylabeling_reader.py",
            *[everything / ".views" / "xanylabeling" / dataset for dataset in datasets],
        ],
        capture_output=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    seen = {(Path(name).parent.name, Path(name).stem): file for name, file in orjson.loads(done.stdout).items()}
    house = {
        (dataset, stem): image for dataset in datasets for stem, image in house_images(everything / dataset).items()
    }
    assert seen.keys() == {name for name, image in house.items() if image.is_looked_at}
    for name, file in seen.items():
        image = house[name]
        assert (file["checked"], file["flags"]) == (image.is_checked, flags_of(image))
        expected = [each for each in image.objects if each.label_type in SHAPES]
        # Points and lines of labelme's come after all objects.
        shapes = file["shapes"][: len(expected)]
        assert [(shape["label"], shape["shape_type"]) for shape in shapes] == [
            (item.name, SHAPES[item.label_type]) for item in expected
        ], name
        for shape, item in zip(shapes, expected, strict=True):
            np.testing.assert_allclose(shape["points"], item.outline, atol=ROUNDING, err_msg=str(name))
            if item.label_type == "rbbox":
                off = (shape["direction"] - item.content["a"]) % (2 * pi)
                assert min(off, 2 * pi - off) < ROUNDING, name
