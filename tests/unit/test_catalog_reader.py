"""The worker's side of reading a catalog: the table of datasets, and listings, with a second process for large ones."""

from __future__ import annotations

import os
import resource
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgsyncfs.catalog import AnnotationRow, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.listing import load_listing
from imgsyncfs.catalog.worker import CatalogReader
from imgsyncfs.errors import CatalogError

DATASET = DatasetRow("original_20200207_fisheye_rbbox", "2.0.0", "", (), (), (), 300, "", "file:///data", 0, 5)
IMAGES = [
    ImageRow(f"i{number:03d}", "jpg", 4, 3, 3, 10, f"{number + 1:032x}", "pack", number * 10, number, "", 7)
    for number in range(300)
]
ANNOTATIONS = [
    AnnotationRow(row.name, 1, 0, 20, f"{row.position + 1000:032x}", "labels", row.position * 20, "", 7)
    for row in IMAGES[::2]
]


@pytest.fixture
def catalog_settings(tmp_path: Path) -> dict[str, Any]:
    """What leads a reader to a catalog with one dataset."""
    url = f"sqlite://{tmp_path}/catalog.db"
    with open_catalog(url, create=True) as catalog:
        catalog.initialize(store="file:///data")
        catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    return {"url": url, "password": None, "timeout": 30.0}


@pytest.fixture
def reader(catalog_settings: dict[str, Any]) -> CatalogReader:
    """A reader for which the dataset is small."""
    return CatalogReader(catalog_settings)


@pytest.fixture
def two_process_reader(catalog_settings: dict[str, Any]) -> CatalogReader:
    """A reader for which the dataset is large."""
    return CatalogReader(catalog_settings, large_dataset=len(IMAGES))


def nobody(_part: dict[str, Any], _payload: bytes) -> None:
    pass


def read(reader: CatalogReader, folder: Path) -> dict[str, Any]:
    result, _ = reader.handle({"question": "listing", "dataset": DATASET.dataset_id, "folder": str(folder)}, nobody)
    return result


def children() -> set[str]:
    """This process's children."""
    return {
        child
        for task in Path(f"/proc/{os.getpid()}/task").iterdir()
        for child in (task / "children").read_text().split()
    }


def seconds_of_ended_children() -> float:
    """Processor time of this process's children that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def test_a_second_process_reads_a_large_datasets_annotations(
    reader: CatalogReader, two_process_reader: CatalogReader, tmp_path: Path
) -> None:
    before, seconds = children(), seconds_of_ended_children()
    expected = load_listing(Path(read(reader, tmp_path / "one")["path"]))
    assert seconds_of_ended_children() == seconds
    listing = load_listing(Path(read(two_process_reader, tmp_path / "two")["path"]))
    assert seconds_of_ended_children() > seconds
    # Each begins a lineage of its own.
    assert replace(listing.facts, lineage=expected.facts.lineage) == expected.facts
    assert [listing.annotation(index) for index in range(300)] == [expected.annotation(index) for index in range(300)]
    assert sum(listing.has_annotation(index) for index in range(300)) == 150
    assert children() == before


def test_what_the_second_process_cannot_read_is_told_and_it_ends(
    two_process_reader: CatalogReader, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("DROP TABLE annotations")
    before = children()
    with pytest.raises(CatalogError, match="no such table: annotations"):
        read(two_process_reader, tmp_path / "two")
    assert children() == before


def test_a_dataset_that_is_not_there_has_no_listing(reader: CatalogReader, tmp_path: Path) -> None:
    result, _ = reader.handle({"question": "listing", "dataset": "nothing", "folder": str(tmp_path / "x")}, nobody)
    assert result["path"] is None


def test_rows_that_came_half_way_do_not_change_what_comes_after(reader: CatalogReader) -> None:
    catalog = reader._connect()
    portions = catalog.image_portions(DATASET.dataset_id)
    next(portions)
    del portions
    assert {row.ext for row in catalog.images(DATASET.dataset_id)} == {"jpg"}
