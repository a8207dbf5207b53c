"""Reading annotations that were published before catalogs kept what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.old_catalogs import take_additions_away
from support.publishing import DATASET, Place, annotated_folder, fill, house, jpeg

from imgsyncfs.catalog import Catalog
from imgsyncfs.errors import StoreNotAllowed
from imgsyncfs.stores.contract import Store
from imgsyncfs.tools.annotation_survey import SurveySummary, survey
from imgsyncfs.workers.progress import SilentProgress

OTHER = "original_20200208_rgb_bbox"


def surveyed(place: Place, *, store: Store | None = None) -> SurveySummary:
    rows = place.catalog.unlabelled_datasets()
    opened = store or place.store
    return survey(place.catalog, rows, open_store=lambda _: opened, progress=SilentProgress())


def all_labels(catalog: Catalog) -> list[tuple[object, ...]]:
    """All that the catalog holds of what annotations say."""
    query = "SELECT * FROM annotation_labels"
    return [*sorted(catalog._connection.rows(query)), *map(repr, catalog.dataset_labels())]  # type: ignore[list-item]


def test_what_is_read_later_is_what_a_publish_would_have_written(place: Place) -> None:
    annotated_folder(place.folder, 20)
    fill(place.folder, {"x.jpg": jpeg(99), "x.json": house("dog", "person", "dog"), "bare.jpg": jpeg(98)})
    place.publish()
    place.publish(OTHER, loose=True)
    written = all_labels(place.catalog)
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    assert [row.dataset_id for row in place.catalog.unlabelled_datasets()] == [DATASET, OTHER]
    assert surveyed(place) == SurveySummary(2, 42, (), ())
    assert all_labels(place.catalog) == written
    assert place.catalog.unlabelled_datasets() == []
    assert not place.publish().changed


def test_annotations_in_a_pack_are_read_together(place: Place) -> None:
    annotated_folder(place.folder, 50)
    place.publish()
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    place.store.read_bytes.clear()
    surveyed(place)
    assert len(place.store.read_bytes) == 1


def test_each_dataset_that_was_read_is_a_new_revision(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    surveyed(place)
    row = place.catalog.dataset(DATASET)
    assert row is not None
    assert row.revision == 2


def test_an_interrupted_survey_goes_on_with_the_datasets_that_are_left(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    place.publish(OTHER)
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    place.store.read_bytes.clear()

    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    place.store.before_read = stop
    with pytest.raises(KeyboardInterrupt):
        surveyed(place)
    assert [row.dataset_id for row in place.catalog.unlabelled_datasets()] == [OTHER]
    place.store.before_read = lambda _: None
    assert surveyed(place).datasets == 1
    assert place.catalog.unlabelled_datasets() == []


def test_a_dataset_in_a_store_that_may_not_be_read_is_named_and_left(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)

    def refuse(url: str) -> Store:
        raise StoreNotAllowed(f"{url} may not be read.")

    rows = place.catalog.unlabelled_datasets()
    summary = survey(place.catalog, rows, open_store=refuse, progress=SilentProgress())
    assert summary == SurveySummary(0, 0, (), (f"{DATASET}: {place.store.url} may not be read.",))
    assert place.catalog.unlabelled_datasets() == rows


def test_an_annotation_that_cannot_be_read_is_named_and_the_others_are_kept(place: Place) -> None:
    annotated_folder(place.folder, 3)
    place.publish(loose=True)
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    broken = place.annotations()["a_00001"]
    path = Path(place.store.url.removeprefix("file://")) / broken.blob
    path.chmod(0o644)
    path.write_bytes(b"{}")
    summary = surveyed(place)
    assert (summary.datasets, summary.annotations, summary.left) == (1, 2, ())
    assert summary.unreadable[0].startswith(f"{DATASET}: 1 (a_00001.json: ")


def test_a_dataset_none_of_whose_annotations_can_be_read_is_left(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    blob = Path(place.store.url.removeprefix("file://")) / place.annotations()["a_00000"].blob
    blob.rename(blob.with_suffix(".away"))
    assert surveyed(place).left[0].startswith(f"{DATASET}: no annotation can be read (a_00000.json: ")
    blob.with_suffix(".away").rename(blob)
    assert surveyed(place).datasets == 1


def test_a_dataset_that_is_published_meanwhile_is_left_to_whoever_publishes_it(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    take_additions_away(place.catalog, level=3)
    place.catalog.initialize(store=place.store.url)
    rows = place.catalog.unlabelled_datasets()
    fill(place.folder, {"a_00000.json": house("dog")})
    place.publish()
    written = all_labels(place.catalog)
    assert survey(place.catalog, rows, open_store=lambda _: place.store, progress=SilentProgress()) == SurveySummary(
        0, 0, (), ()
    )
    assert all_labels(place.catalog) == written
