"""The view hf: Hugging Face's datasets, offline, loads every image and sees the boxes of the house annotations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from support.generated_dataset import DATASET
from support.house_boxes import datasets_in, has_area, house_images

ROUNDING = 1.1e-6

LOADING = """
import json, sys
from datasets import Image, load_dataset
for folder in sys.argv[1:]:
    for split, rows in load_dataset("imagefolder", data_dir=folder).items():
        for row in rows.cast_column("image", Image(decode=False)):
            row["image"] = row["image"]["path"]
            print(json.dumps([folder, split, row]))
"""
"""In a process of its own: where it keeps its copies, and that it asks nobody, is decided when it is imported."""


def test_datasets_loads_every_split_and_sees_every_box(everything: Path, tmp_path: Path) -> None:
    views = everything / ".views" / "hf"
    assert "_test_" in DATASET
    datasets = datasets_in(everything)
    folders = [str(views / dataset) for dataset in datasets]
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *folders],
        capture_output=True,
        text=True,
        check=False,
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    loaded = {(Path(folder).name, Path(row["image"])) for folder, _, row in rows}
    assert loaded == {(dataset, path) for dataset in datasets for path in (views / dataset).glob("*/*.jpg")}
    assert len(rows) == len(loaded)
    for folder, split, row in rows:
        path = Path(row["image"])
        assert path.parent == Path(folder) / split
        image = house_images(everything / Path(folder).name)[path.stem]
        listed = classes(views.parent / "yolo" / Path(folder).name)
        expected = [each for each in image.of_classes(listed) if has_area(each.outline)]
        assert row["objects"]["names"] == [each.name for each in expected], path
        assert [listed[number] for number in row["objects"]["categories"]] == row["objects"]["names"]
        exact = [(left, top, right - left, bottom - top) for left, top, right, bottom in (e.edges for e in expected)]
        np.testing.assert_allclose(
            np.reshape(row["objects"]["bbox"], (-1, 4)),
            np.reshape(exact, (-1, 4)),
            atol=2 * ROUNDING,
            err_msg=str(path),
        )


def classes(folder: Path) -> list[str]:
    """The dataset's classes in their order, as its data.yaml lists them."""
    lines = (folder / "data.yaml").read_text().splitlines()
    return [json.loads(line.removeprefix("- ")) for line in lines if line.startswith("- ")]
