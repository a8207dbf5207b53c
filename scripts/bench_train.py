"""A training loop's reader: an epoch of ResNet-18, on the graphics processor if there is one.

The same protocol as `bench_reader`; a process of its own because it needs PyTorch and torchvision, which the benchmark
does not install. What is timed is the epoch alone: the loader's workers start, every image is decoded, cropped and
trained on once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch
from bench_reader import Done, Job, serve
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

BATCH = 64
CLASSES = 10
CROP = 224
CPU_IMAGES = 128
"""Without a graphics processor the network takes all of the time, and tells nothing of the files; so many show that."""


class Images(Dataset[tuple[torch.Tensor, int]]):  # type: ignore[misc]  # PyTorch need not be installed
    """Images as tensors of one size, each with the number of a class."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._transform = transforms.Compose([transforms.RandomResizedCrop(CROP), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._names[index]) as image:
            return self._transform(image.convert("RGB")), index % CLASSES


class Training:
    """A network that has seen one batch, so that nothing is set up while the time is taken."""

    def __init__(self) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = models.resnet18(num_classes=CLASSES).to(self._device, memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(self._network.parameters(), lr=0.1, momentum=0.9)
        self._loss = torch.nn.CrossEntropyLoss()
        self._step(torch.rand(BATCH, 3, CROP, CROP), torch.zeros(BATCH, dtype=torch.long))
        self._finish()

    def epoch(self, job: Job) -> Done:
        """Trains on every image once, in an order that is the same each time."""
        on_gpu = self._device.type == "cuda"
        names = job["names"] if on_gpu else job["names"][:CPU_IMAGES]
        loader = DataLoader(
            Images(names),
            BATCH,
            shuffle=True,
            generator=torch.Generator().manual_seed(0),
            num_workers=max(2, len(os.sched_getaffinity(0)) - 2),
            pin_memory=on_gpu,
        )
        images = 0
        for pictures, classes in loader:
            self._step(pictures, classes)
            images += len(classes)
        self._finish()
        return {"items": images, "bytes": 0}

    def _step(self, pictures: torch.Tensor, classes: torch.Tensor) -> None:
        pictures = pictures.to(self._device, memory_format=torch.channels_last, non_blocking=True)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            loss = self._loss(self._network(pictures), classes.to(self._device, non_blocking=True))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _finish(self) -> None:
        """Wait until the graphics processor has done what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(serve(Training().epoch))
