"""Train an epoch with ultralytics on views of a mount of one's own, and print what it said, as JSON.

    python ultralytics_epoch.py FOLDER       in the folder, which is the user's, all is made

{"user": its number, VIEW: {"status": exit status, "said": [lines], "images": {SPLIT: number}}}. The models are tiny, on
the processor, and begin from nothing: nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

from support.mounting import local_workplace
from support.publishing import noisy_jpeg

DATASET = "original_20260105_rgb_rbbox"
IMAGES = 40
MODELS = {"yolo": "yolov8n.yaml", "yolo-obb": "yolov8n-obb.yaml"}

TRAINING = """
import sys
from ultralytics import YOLO
model, facts, runs = sys.argv[1:]
YOLO(model).train(
    data=facts, epochs=1, imgsz=64, batch=4, workers=0, device="cpu", project=runs, name="run", plots=False
)
"""


def house(number: int) -> bytes:
    """An annotation of two rotated boxes."""
    boxes = [
        {"class": name, "x": 40.5 + number % 7, "y": 30.25, "w": 30.0, "h": 15.0, "a": number / 10}
        for name in ("person", "dog")
    ]
    label = {"label_type": "rbbox", "object": boxes}
    return orjson.dumps(
        {"anno_version": "0.2.0", "label_checked": 1, "height": 64, "width": 96, "depth": 3, "labels": [label]}
    )


def train(mountpoint: Path, view: str, folder: Path, dataset: str = DATASET) -> dict[str, Any]:
    """Train an epoch on a view of a dataset, or of a selection; what comes of it is in a folder of the view's name."""
    top = mountpoint / ".views" / view / dataset
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, MODELS[view], str(top / "data.yaml"), str(folder / view)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=folder,
        env={"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(folder), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    images = {split: len(list((top / split / "images").iterdir())) for split in ("train", "valid")}
    return {"status": done.returncode, "said": done.stdout.splitlines(), "images": images}


def main(folder: Path) -> dict[str, Any]:
    """Publish, mount, train."""
    workplace = local_workplace(folder)
    source = folder / "set"
    source.mkdir()
    # Each image is in a group of its own.
    for number in range(IMAGES):
        (source / f"img_{number * 100:05d}.jpg").write_bytes(noisy_jpeg(96, 64))
        (source / f"img_{number * 100:05d}.json").write_bytes(house(number))
    workplace.run("publish", source, "--name", DATASET, "--classes", "person,dog")
    workplace.run("split", DATASET, "60/20/20")
    with workplace.mounted() as mountpoint:
        return {"user": os.geteuid(), **{view: train(mountpoint, view, folder) for view in MODELS}}


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
