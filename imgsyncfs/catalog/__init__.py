"""The catalog: the SQL database that says which datasets, images and annotations exist.

::

    with open_catalog("postgresql://reader@db.example.com/datasets", password=password) as catalog:
        for dataset in catalog.datasets():
            print(dataset.dataset_id, dataset.size)

`imgsyncfs.catalog.listing` has what is built from it: the compact table of one dataset revision's files.
"""

from __future__ import annotations

from imgsyncfs.catalog.catalog import Catalog, open_catalog
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, SubscriptionRow
from imgsyncfs.catalog.url import catalog_identity

__all__ = [
    "AnnotationRow",
    "Catalog",
    "DatasetRow",
    "ImageRow",
    "SubscriptionRow",
    "catalog_identity",
    "open_catalog",
]
