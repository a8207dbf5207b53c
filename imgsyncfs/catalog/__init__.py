"""The catalog: the SQL database that says which datasets, images and annotations exist.

::

    with open_catalog("postgresql://reader@db.example.com/datasets", password=password) as catalog:
        for dataset in catalog.datasets():
            print(dataset.dataset_id, dataset.size)

`imgsyncfs.catalog.listing` has what is built from it: the compact table of one dataset revision's files.

What speaks SQL is imported when it is first used: a mount's coordinator leaves that to its worker.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, SubscriptionRow
from imgsyncfs.catalog.url import catalog_identity

if TYPE_CHECKING:
    from imgsyncfs.catalog.catalog import Catalog, open_catalog

__all__ = [
    "AnnotationRow",
    "Catalog",
    "DatasetRow",
    "ImageRow",
    "SubscriptionRow",
    "catalog_identity",
    "open_catalog",
]


def __getattr__(name: str) -> Any:
    if name in {"Catalog", "open_catalog"}:
        return getattr(importlib.import_module("imgsyncfs.catalog.catalog"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
