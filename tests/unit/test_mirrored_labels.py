"""What a mount knows of labels: as its catalog's table says them, or the saved one; and the values of images."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest

from imgsyncfs.annotations.label_counts import LabelCount
from imgsyncfs.catalog import Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.listing import ImageValues, Listing
from imgsyncfs.catalog.mirror import CatalogMirror
from imgsyncfs.catalog.worker import CatalogReader
from imgsyncfs.errors import CatalogUnreachable, DatasetChanged, ImgsyncfsError
from imgsyncfs.library.dataset_facts import facts_for
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.workers.pool import Answer, WorkerPool

DATASET = "original_20200207_rgb_clf"
ROW = DatasetRow(DATASET, "1.0.0", "rgb", ("zebra",), (), (), 3, "", "file:///data", 0, 5)
IMAGES = [ImageRow(name, "jpg", 4, 3, 3, 10, "", "blob", 0, place, "", 7) for place, name in enumerate("abc")]
FEMALE, MALE, CAR = LabelCount("Gender", "Female", 0), LabelCount("Gender", "Male", 0), LabelCount("", "car", 2)


class OneReader:
    """Stands in for a pool of workers: one of them, in this process, and away if told so."""

    def __init__(self, url: str) -> None:
        self._reader = CatalogReader({"url": url, "password": None, "timeout": 30.0})
        self.is_away = False

    def submit(self, arguments: dict[str, Any]) -> Future[Answer]:
        future: Future[Answer] = Future()
        try:
            if self.is_away:
                raise CatalogUnreachable("It is away.")
            future.set_result(self._reader.handle(arguments, lambda _part, _payload: None))
        except ImgsyncfsError as error:
            future.set_exception(error)
        return future


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(f"sqlite://{tmp_path}/catalog.db", create=True) as opened:
        opened.initialize(store="file:///data")
        opened.replace_dataset(ROW, IMAGES, [], labels={"a": (FEMALE, CAR), "c": (MALE,)})
        yield opened


@pytest.fixture
def reader(catalog: Catalog, tmp_path: Path) -> OneReader:
    return OneReader(f"sqlite://{tmp_path}/catalog.db")


def started(reader: OneReader, folder: Path) -> CatalogMirror:
    mirror = CatalogMirror(cast("WorkerPool", reader), folder, timeout=5.0, report=lambda _: None)
    mirror.start()
    return mirror


def values_of(found: ImageValues) -> list[str]:
    return [("", *found.values)[number] for number in found.numbers.tolist()]


def classes_in(mirror: CatalogMirror, listing: Listing) -> tuple[str, ...]:
    return facts_for(find_view("yolo"), listing, mirror.table.rows[DATASET], mirror).classes


def test_classes_that_annotations_have_are_numbered_after_the_listed_ones(reader: OneReader, tmp_path: Path) -> None:
    mirror = started(reader, tmp_path / "mirror")
    assert classes_in(mirror, mirror.listing(DATASET)) == ("zebra", "car")


def test_labels_are_those_of_the_label_version_that_the_dataset_has(
    catalog: Catalog, reader: OneReader, tmp_path: Path
) -> None:
    mirror = started(reader, tmp_path / "mirror")
    catalog.replace_dataset(replace(ROW, label_version="2.0.0"), IMAGES, [], labels={"a": (LabelCount("", "bus", 1),)})
    assert mirror.refresh()
    assert mirror.table.labels[DATASET].object_classes == ("bus",)
    assert classes_in(mirror, mirror.listing(DATASET)) == ("zebra", "bus")
    catalog.replace_dataset(replace(ROW, label_version="3.0.0"), IMAGES, [])
    assert mirror.refresh()
    assert DATASET not in mirror.table.labels


def test_labels_and_values_are_known_while_the_database_is_away(reader: OneReader, tmp_path: Path) -> None:
    first = started(reader, tmp_path / "mirror")
    assert values_of(first.image_values(first.listing(DATASET), "Gender")) == ["Female", "", "Male"]
    reader.is_away = True
    second = started(reader, tmp_path / "mirror")
    assert second.table.labels[DATASET].label_values == {"Gender": ["Female", "Male"]}
    listing = second.listing(DATASET)
    assert values_of(second.image_values(listing, "Gender")) == ["Female", "", "Male"]
    with pytest.raises(CatalogUnreachable):
        second.image_values(listing, None)


def test_a_table_that_an_earlier_version_saved_knows_no_labels(reader: OneReader, tmp_path: Path) -> None:
    started(reader, tmp_path / "mirror")
    saved = tmp_path / "mirror" / "datasets.json"
    table = orjson.loads(saved.read_bytes().partition(b"\n")[2])
    del table["dataset_labels"]
    saved.write_bytes(orjson.dumps(table))
    reader.is_away = True
    mirror = started(reader, tmp_path / "mirror")
    assert mirror.table.labels == {}


def test_values_of_a_later_revision_are_not_taken_for_those_of_a_listing(
    catalog: Catalog, reader: OneReader, tmp_path: Path
) -> None:
    mirror = started(reader, tmp_path / "mirror")
    listing = mirror.listing(DATASET)
    catalog.replace_dataset(ROW, IMAGES, [], labels={"a": (MALE,)})
    with pytest.raises(DatasetChanged, match="published again"):
        mirror.image_values(listing, "Gender")
    assert mirror.refresh()
    assert values_of(mirror.image_values(mirror.listing(DATASET), "Gender")) == ["Male", "", ""]


def test_classes_of_one_revision_do_not_number_the_objects_of_another(
    catalog: Catalog, reader: OneReader, tmp_path: Path
) -> None:
    mirror = started(reader, tmp_path / "mirror")
    catalog.replace_dataset(ROW, IMAGES, [], labels={"a": (LabelCount("", "bus", 1),)})
    listing = mirror.listing(DATASET)
    with pytest.raises(DatasetChanged):
        classes_in(mirror, listing)
    assert mirror.refresh()
    assert classes_in(mirror, listing) == ("zebra", "bus")


def test_values_that_were_spoiled_on_disk_are_read_again(reader: OneReader, tmp_path: Path) -> None:
    mirror = started(reader, tmp_path / "mirror")
    listing = mirror.listing(DATASET)
    before = mirror.image_values(listing, "Gender")
    [saved] = (tmp_path / "mirror").rglob("values-*")
    saved.write_bytes(saved.read_bytes()[:-30])
    assert np.array_equal(mirror.image_values(listing, "Gender").numbers, before.numbers)


def test_a_saved_table_that_was_changed_is_not_used(reader: OneReader, tmp_path: Path) -> None:
    started(reader, tmp_path / "mirror")
    saved = tmp_path / "mirror" / "datasets.json"
    saved.write_bytes(saved.read_bytes().replace(b"Female", b"Famale"))
    reader.is_away = True
    with pytest.raises(CatalogUnreachable):
        started(reader, tmp_path / "mirror")
