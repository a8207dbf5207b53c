"""Mount a team's whole catalog of image datasets as plain directories.

From Python, without a mount::

    import imgsyncfs

    with imgsyncfs.connect("postgresql://reader@db.example.com/datasets") as catalog:
        for dataset in catalog.datasets.select("image_type=fisheye360"):
            for sample in dataset:
                print(sample.name, sample.image.size, sample.boxes)

`imgsyncfs.api` has all of it. It is imported when one of its names is first used: every command and every worker
process imports this package, and none of them should wait half a second for what it does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgsyncfs.api import Dataset, Datasets, ImageCatalog, LabelledImage, connect

__all__ = ["Dataset", "Datasets", "ImageCatalog", "LabelledImage", "connect"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("imgsyncfs.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
