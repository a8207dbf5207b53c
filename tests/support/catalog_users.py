"""What processes do that were given a catalog or a dataset of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import imgsyncfs


def read_all(dataset: imgsyncfs.Dataset) -> list[bytes]:
    """All images of a dataset."""
    return [one.content for one in dataset]


def read_dataset(catalog: imgsyncfs.ImageCatalog, dataset_id: str) -> list[bytes]:
    """All images of a catalog's dataset."""
    return read_all(catalog.datasets[dataset_id])
