"""Trainers read views of a mount as they are: ultralytics trains an epoch, torchvision opens VOC's layout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, local_workplace
from support.publishing import noisy_jpeg
from torchvision.datasets import VOCDetection

from imgsyncfs.annotations.geometry import corners

DATASET = "original_20260105_rgb_rbbox"
IMAGES = 40

TRAINING = """
import sys
from ultralytics import YOLO
model, facts, runs = sys.argv[1:]
found = YOLO(model).train(
    data=facts, epochs=1, imgsz=64, batch=4, workers=0, device="cpu", project=runs, name="run", plots=False
)
"""


def house(number: int) -> bytes:
    boxes = [
        {"class": name, "x": 40.5 + number % 7, "y": 30.25, "w": 30.0, "h": 15.0, "a": number / 10}
        for name in ("person", "dog")
    ]
    label = {"label_type": "rbbox", "object": boxes}
    return orjson.dumps(
        {"anno_version": "0.2.0", "label_checked": 1, "height": 64, "width": 96, "depth": 3, "labels": [label]}
    )


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, Path]]:
    """A mount of a dataset of rotated boxes, each image in a group of its own."""
    workplace = local_workplace(tmp_path_factory.mktemp("trainers"))
    folder = workplace.folder / "set"
    folder.mkdir()
    for number in range(IMAGES):
        (folder / f"img_{number * 100:05d}.jpg").write_bytes(noisy_jpeg(96, 64))
        (folder / f"img_{number * 100:05d}.json").write_bytes(house(number))
    workplace.run("publish", folder, "--name", DATASET)
    workplace.run("split", DATASET, "60/20/20")
    with workplace.mounted() as mountpoint:
        yield workplace, mountpoint


@pytest.mark.parametrize(("view", "model"), [("yolo", "yolov8n.yaml"), ("yolo-obb", "yolov8n-obb.yaml")])
def test_ultralytics_trains_an_epoch_and_takes_every_image(
    mounted: tuple[Workplace, Path], tmp_path: Path, view: str, model: str
) -> None:
    _, mountpoint = mounted
    top = mountpoint / ".views" / view / DATASET
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, model, str(top / "data.yaml"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert "1 epochs completed" in said
    for split in ("train", "valid"):
        count = len(list((top / split / "images").iterdir()))
        assert f"{count}/{count}" in said
    assert "0 backgrounds, 0 corrupt" in said
    assert not [line for line in said.splitlines() if "corrupt" in line and "0 corrupt" not in line]


def test_torchvision_opens_vocs_layout_and_sees_the_boxes(mounted: tuple[Workplace, Path]) -> None:
    _, mountpoint = mounted
    root = mountpoint / ".views" / "voc" / DATASET
    names = set()
    for split in ("train", "val"):
        for picture, target in VOCDetection(str(root), year="2012", image_set=split):
            annotation = target["annotation"]
            names.add(annotation["filename"])
            assert picture.size == (96, 64)
            assert [each["name"] for each in annotation["object"]] == ["person", "dog"]
            number = int(annotation["filename"][4:9]) // 100
            outline = corners([(40.5 + number % 7, 30.25, 30.0, 15.0, number / 10)])[0]
            box = {key: float(value) for key, value in annotation["object"][0]["bndbox"].items()}
            low, high = outline.min(axis=0), outline.max(axis=0)
            assert (box["xmin"], box["ymin"], box["xmax"], box["ymax"]) == pytest.approx((*low, *high), abs=0.51)
    listed = (root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    assert names == {f"{stem}.jpg" for stem in listed}
    assert len(names) > IMAGES // 2
