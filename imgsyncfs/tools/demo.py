"""Make a small catalog to try things out: 22 datasets with a few images each, in a folder of their own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from imgsyncfs.catalog import open_catalog
from imgsyncfs.errors import CatalogError, PublishError
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.publication import DatasetOptions
from imgsyncfs.workers.progress import Progress, SilentProgress

DEMO_FILES = Path(__file__).with_name("demo_files")
"""Made by scripts/make_demo_images: datasets.csv, the users' own table, and a folder for each dataset in it."""


@dataclass(frozen=True)
class DemoSummary:
    """The content of a demo folder.

    Attributes:
        catalog: the SQLite file.
        datasets: how many.
        images: how many in all datasets.
        byte_count: length of the images and annotations.
        changed: False if all of it was there already.
    """

    catalog: Path
    datasets: int
    images: int
    byte_count: int
    changed: bool


def demo_options() -> dict[str, DatasetOptions]:
    """Return what the users' table says about each dataset, but for its size: the demo counts what is really there."""
    with (DEMO_FILES / "datasets.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["dataset_id"]: DatasetOptions(
                label_version=row["label_version"],
                image_type=row["image_type"],
                label_type=row["label_type"].split(","),
                classes=row["classes"].split(","),
                projects=row["projects"].split(","),
                note=row["note"],
            )
            for row in csv.DictReader(file)
        }


def make_demo(folder: Path, *, progress: Progress | None = None) -> DemoSummary:
    """Make the demo, or complete it where it is there already.

    Args:
        folder: is made if it is missing; it gets ``catalog.db`` and ``store``.
        progress: of the work.

    Returns:
        The content of the folder now.

    Raises:
        PublishError: the folder holds other things, or cannot be made.
    """
    progress = progress or SilentProgress()
    folder = folder.absolute()
    store_folder = folder / "store"
    catalog_file = folder / "catalog.db"
    try:
        _make_folder(folder, catalog_file)
        store_folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PublishError(f"The folder {folder} cannot be used ({error.strerror}); choose another one.") from error
    store = open_store(store_folder.as_uri())
    try:
        with open_catalog(f"sqlite://{catalog_file}", create=True) as catalog:
            if catalog_file.stat().st_size:
                catalog.check()
            catalog.initialize(store=store.url)
            options = demo_options()
            progress.phase("Publishing", len(options), "datasets")
            summaries = []
            for dataset_id, said in options.items():
                folder_of_one = DEMO_FILES / dataset_id
                summaries.append(
                    publish(folder_of_one, catalog=catalog, store=store, dataset_id=dataset_id, options=said)
                )
                progress.advance(1)
    except CatalogError as error:
        raise PublishError(f"The folder {folder} holds another catalog ({error}); choose an empty folder.") from error
    finally:
        store.close()
    return DemoSummary(
        catalog=catalog_file,
        datasets=len(summaries),
        images=sum(summary.images for summary in summaries),
        byte_count=sum(summary.byte_count for summary in summaries),
        changed=any(summary.changed for summary in summaries),
    )


def _make_folder(folder: Path, catalog_file: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not catalog_file.is_file() and any(folder.iterdir()):
        raise PublishError(f"The folder {folder} is not empty and holds no demo; choose an empty folder, or a new one.")
