"""A detector's data loader, by way of paths or of `imgsyncfs.torch.Dataset`: the same images, boxes and decoding.

The same protocol as `bench_reader`; a process of its own because it needs PyTorch, which the benchmark does not
install. Two forked workers go through all images in shuffled order. What is timed is an epoch: the first one, in which
the workers start, or the second one of the same workers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_reader import Done, Job, serve
from PIL import Image
from torch.utils.data import DataLoader, Dataset

WORKERS = 2
BATCH = 16
CROP = (0, 0, 64, 64)


def cropped(image: Image.Image) -> torch.Tensor:
    """A part of an image that was decoded whole: what goes back to the parent is to cost little."""
    return torch.from_numpy(np.array(image.crop(CROP)))


def together(batch: list[Any]) -> list[Any]:
    """Samples as they are."""
    return batch


class Paths(Dataset[tuple[torch.Tensor, dict[str, Any]]]):  # type: ignore[misc]  # PyTorch need not be installed
    """Images with their boxes, by the images' paths; the house annotations lie beside them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        path = Path(self._names[index])
        with Image.open(path) as image:
            pixels = cropped(image.convert("RGB"))
        labels = json.loads(path.with_suffix(".json").read_bytes())["labels"]
        boxes = [[each[name] for name in ("x1", "y1", "x2", "y2")] for label in labels for each in label["object"]]
        labelled = torch.ones(len(boxes), dtype=torch.int64)
        return pixels, {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": labelled, "image_id": index}


def _dataset(job: Job) -> Any:
    if job["work"].startswith("torch_paths"):
        return Paths(job["names"])
    catalog, dataset_id, cache = job["names"]
    os.environ.update(IMGSYNCFS_CACHE_DIR=cache, XDG_CONFIG_HOME=f"{cache}/config")
    # Late: the other one must not have imported it.
    from imgsyncfs.torch import Dataset as CatalogDataset

    return CatalogDataset(catalog, dataset_id, classes=["person"], transform=cropped)


def load_all(job: Job) -> Done:
    """Epochs: every image once in each, in an order that is the same each time."""
    dataset = _dataset(job)
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
        num_workers=WORKERS,
        persistent_workers=True,
        collate_fn=together,
        multiprocessing_context="fork",
    )
    for _ in range(2 if job["work"].endswith("_again") else 1):
        begin = time.monotonic()
        labelled = [len(target["boxes"]) > 0 for batch in loader for _, target in batch]
        end = time.monotonic()
    # An image without a box has not been read as it should have been.
    return {"items": sum(labelled), "bytes": 0, "begin": begin, "end": end}


if __name__ == "__main__":
    sys.exit(serve(load_all))
