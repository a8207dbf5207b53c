"""The README's table of tools: each line as typed there opens a dataset of a mount."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torchvision.datasets
from datasets import load_dataset
from datumaro.components.dataset import Dataset
from pycocotools.coco import COCO
from rfdetr.datasets import detect_roboflow_format
from rfdetr.datasets.coco import CocoDetection as RfDetrDataset
from supervision import DetectionDataset
from support.dota_reader import read_dota
from support.mounting import PATIENCE_SECONDS, demo_workplace
from support.places import REPOSITORY
from support.rolabelimg_reader import read_rolabelimg
from support.screens import screen, window_titles

FISHEYE = "original_20200207_fisheye_rbbox"
UPRIGHT = "original_20200219_dewarp_bbox"
CLASSIFIED = "opensource_imdbwiki&affectnet_rgb_clf&reg"
EPOCH = ("epochs=1", "imgsz=32", "batch=4", "workers=0", "device=cpu", "plots=False")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo, mounted."""
    with demo_workplace(tmp_path_factory.mktemp("demo")).mounted("--timeout", "120") as mountpoint:
        yield mountpoint


def lines() -> Iterator[str]:
    """What the table says to give to tools, as typed."""
    readme = (REPOSITORY / "README.md").read_text()
    table = readme.partition("| tool | what to give it |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        yield re.findall(r"`([^`]*/mnt/[^`]*)`", row.split(" | ")[1])[0]


LINES = list(lines())


def test_the_table_has_a_line_for_each_view_that_tools_open() -> None:
    views = {view for line in LINES for view in re.findall(r"/\.views/([^/]+)/", line)}
    assert views == {"yolo", "yolo-obb", "yolo-seg", "coco", "voc", "imagefolder", "hf", "cvat", "dota"}
    roots = {root for line in LINES for root in re.findall(r"/mnt/(\w+)/DATASET", line)}
    assert roots == {"labelme", "xanylabeling", "rolabelimg"}


def opened_by_rf_detr(dataset_dir: str) -> Any:
    """What RF-DETR trains with; its models would need their weights first."""
    assert detect_roboflow_format(Path(dataset_dir)) == "coco"
    train = Path(dataset_dir) / "train"
    return RfDetrDataset(str(train), str(train / "_annotations.coco.json"), None, remap_category_ids=True)


def opened_by_mmrotate(data_root: str, ann_file: str, data_prefix: dict[str, str]) -> list[Any]:
    """What mmrotate would read, which cannot be installed here."""
    images = {path.stem for path in (Path(data_root) / data_prefix["img_path"]).iterdir()}
    labels = sorted((Path(data_root) / ann_file).iterdir())
    assert {path.stem for path in labels} <= images
    return [read_dota(path.read_bytes()) for path in labels]


NAMES: dict[str, Callable[..., Any]] = {
    "COCO": COCO,
    "CocoDetection": torchvision.datasets.CocoDetection,
    "DOTADataset": opened_by_mmrotate,
    "Dataset": Dataset,
    "DetectionDataset": DetectionDataset,
    "ImageFolder": torchvision.datasets.ImageFolder,
    "VOCDetection": torchvision.datasets.VOCDetection,
    "dict": dict,
    "load_dataset": load_dataset,
}


@pytest.mark.parametrize("line", [line for line in LINES if "(" in line])
def test_a_line_of_python_opens_a_dataset(
    demo: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    dataset = CLASSIFIED if "imagefolder/" in line else UPRIGHT
    opened = eval(line.replace("/mnt/datasets", str(demo)).replace("DATASET", dataset), NAMES)  # it is the README's
    if isinstance(opened, dict) and "dataset_dir" in opened:
        opened = opened_by_rf_detr(**opened)
    assert len(opened.imgs if isinstance(opened, COCO) else opened) > 0


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("yolo ")])
def test_a_line_for_ultralytics_trains(demo: Path, line: str, tmp_path: Path) -> None:
    typed = line.replace("/mnt/datasets", str(demo)).replace("DATASET", FISHEYE)
    done = subprocess.run(
        # It would write its results into the repository otherwise, since its environment lies there.
        ["bash", "-c", f"{typed} project={tmp_path} {' '.join(EPOCH)}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "YOLO_CONFIG_DIR": str(tmp_path),
            "YOLO_OFFLINE": "true",
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 epochs completed" in done.stdout + done.stderr


@pytest.mark.parametrize("program", ["labelme", "xanylabeling"])
def test_a_line_for_a_labelling_tool_opens_its_window_with_the_first_image(program: str, tmp_path: Path) -> None:
    (line,) = [line for line in LINES if line.startswith(f"{program} ")]
    python = os.environ[f"IMGSYNCFS_{program.upper()}_PYTHON"]
    with demo_workplace(tmp_path).mounted("--view", program) as mountpoint, screen() as display:
        typed = line.replace(f"/mnt/{program}", str(mountpoint)).replace("DATASET", FISHEYE)
        first = next(iter(sorted((mountpoint / FISHEYE).glob("*.jpg")))).name
        tool = subprocess.Popen(
            ["bash", "-c", f"exec {typed}"],
            env={
                "PATH": f"{Path(python).parent}:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "DISPLAY": display,
                "QT_QPA_PLATFORM": "xcb",
                "LANG": "C.UTF-8",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 10 * PATIENCE_SECONDS
            while not any(first in title for title in window_titles(display)):
                assert tool.poll() is None, "it ended"
                assert time.monotonic() < deadline, window_titles(display)
                time.sleep(0.2)
        finally:
            tool.terminate()
            tool.wait()


def test_rolabelimg_finds_what_it_opens_by_its_own_rule(tmp_path: Path) -> None:
    (line,) = [line for line in LINES if line.startswith("/mnt/rolabelimg/")]
    with demo_workplace(tmp_path).mounted("--view", "rolabelimg") as mountpoint:
        folder = Path(line.replace("/mnt/rolabelimg", str(mountpoint)).replace("DATASET", FISHEYE))
        images = sorted(folder.glob("*.jpg"))
        assert len(images) == 4
        for image in images:
            assert read_rolabelimg(Path(str(image).split(".")[0] + ".xml"))
