"""A training loop's reader, as `torch.utils.data.DataLoader` works: a parent forks workers and gets batches from them.

The same protocol as `bench_reader`; a process of its own because it needs Pillow. Batches of shuffled indices go to
the workers through a queue, decoded and cropped pixels come back through another.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from typing import TYPE_CHECKING, Any

from bench_reader import Done, Job, serve
from PIL import Image

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

WORKERS = 4
BATCH = 16
CROP = (0, 0, 64, 64)
BATCH_SECONDS = 60.0


def decode_batches(names: list[str], batches: Queue[list[int] | None], decoded: Queue[list[bytes] | str]) -> None:
    """A worker: decodes whole images and sends a crop of each, until there are no more batches."""
    while (indices := batches.get(timeout=BATCH_SECONDS)) is not None:
        try:
            pixels = []
            for index in indices:
                with Image.open(names[index]) as image:
                    pixels.append(image.convert("RGB").crop(CROP).tobytes())
        except OSError as error:
            decoded.put(f"{type(error).__name__}: {error}")
            return
        decoded.put(pixels)


def decode_all(job: Job) -> Done:
    """An epoch: every image once, in an order that depends on nothing but their number."""
    # fork, as PyTorch does on Linux.
    context = multiprocessing.get_context("fork")
    names: list[str] = job["names"]
    order = random.Random(0).sample(range(len(names)), len(names))
    batches: Queue[list[int] | None] = context.Queue()
    decoded: Queue[list[bytes] | str] = context.Queue()
    workers = [context.Process(target=decode_batches, args=(names, batches, decoded)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    portions = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    for portion in [*portions, *[None] * WORKERS]:
        batches.put(portion)
    images, total = 0, 0
    for _ in portions:
        batch: Any = decoded.get(timeout=BATCH_SECONDS)
        if isinstance(batch, str):
            raise OSError(batch)
        images += len(batch)
        total += sum(map(len, batch))
    for worker in workers:
        worker.join(BATCH_SECONDS)
    return {"items": images, "bytes": total}


if __name__ == "__main__":
    sys.exit(serve(decode_all))
