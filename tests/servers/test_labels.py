"""What annotations say: kept by catalogs in SQLite and PostgreSQL, with pyodbc and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from support.old_catalogs import take_additions_away
from support.publishing import DATASET, Place, annotated_folder, fill, house, jpeg

from imgsyncfs.annotations.label_counts import LabelCount
from imgsyncfs.catalog import AnnotationRow, Catalog, DatasetRow, ImageRow
from imgsyncfs.catalog.rows import DatasetLabelsRow
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.journal import Journal

ROW = DatasetRow(DATASET, "1.0.0", "rgb", (), (), (), 3, "", "file:///data", 0, 5)
IMAGES = [ImageRow(name, "jpg", 4, 3, 3, 10, "", "blob", 0, place, "", 7) for place, name in enumerate("abc")]
ANNOTATIONS = [AnnotationRow(name, 1, 1, 20, "", "labels", 0, "", 7) for name in "ab"]
PERSON, CAR, FEMALE, MALE = (
    LabelCount("", "person", 2),
    LabelCount("", "car", 1),
    LabelCount("Gender", "Female", 0),
    LabelCount("Gender", "Male", 0),
)
LABELS = {"a": (PERSON, FEMALE), "b": (MALE, CAR, PERSON)}
TOGETHER = DatasetLabelsRow(DATASET, "1.0.0", ["car", "person"], {"Gender": ["Female", "Male"]})


def replaced(catalog: Catalog, labels: Mapping[str, Sequence[LabelCount]] | None, *, row: DatasetRow = ROW) -> int:
    return catalog.replace_dataset(row, IMAGES, ANNOTATIONS, labels=labels)


def kept_labels(catalog: Catalog, *, label_version: str = "1.0.0") -> dict[str, list[LabelCount]]:
    """All that the table holds of the dataset in one label version, by image."""
    query = (
        "SELECT name, place, label_name, label_value, object_count FROM annotation_labels "
        "WHERE dataset_id = ? AND label_version = ?"
    )
    kept: dict[str, list[LabelCount]] = {}
    for name, _, *label in sorted(catalog._connection.rows(query, (DATASET, label_version))):
        kept.setdefault(name, []).append(LabelCount(*label))
    return kept


def dataset(catalog: Catalog, dataset_id: str = DATASET) -> DatasetRow:
    found = catalog.dataset(dataset_id)
    assert found is not None
    return found


# The catalog


def test_what_annotations_say_is_kept_for_each_and_for_the_dataset(catalog: Catalog) -> None:
    assert replaced(catalog, LABELS) == 1
    assert kept_labels(catalog) == {name: list(labels) for name, labels in LABELS.items()}
    assert catalog.table().dataset_labels == [TOGETHER]


def test_the_images_that_show_something_are_found_in_all_datasets(catalog: Catalog) -> None:
    replaced(catalog, LABELS)
    replaced(catalog, {"b": (FEMALE,)}, row=replace(ROW, dataset_id="original_20200208_rgb_bbox"))
    query = "SELECT dataset_id, name FROM annotation_labels WHERE label_name = ? AND label_value = ?"
    found = sorted(catalog._connection.rows(query, ("Gender", "Female")))
    assert found == [(DATASET, "a"), ("original_20200208_rgb_bbox", "b")]


def test_the_same_labels_again_are_the_same_revision(catalog: Catalog) -> None:
    replaced(catalog, LABELS)
    before = dataset(catalog)
    assert replaced(catalog, LABELS) == 1
    assert dataset(catalog) == before


@pytest.mark.parametrize(
    "labels",
    [
        {"a": (PERSON, MALE), "b": (MALE, CAR, PERSON)},
        {"a": (PERSON,), "b": (MALE, CAR, PERSON)},
        {"a": (PERSON, FEMALE, CAR), "b": (MALE, CAR, PERSON)},
        {"a": (FEMALE, PERSON), "b": (MALE, CAR, PERSON)},
        {"a": (LabelCount("", "person", 3), FEMALE), "b": (MALE, CAR, PERSON)},
        {"b": (MALE, CAR, PERSON)},
        {},
    ],
)
def test_labels_that_change_are_a_new_revision(catalog: Catalog, labels: dict[str, tuple[LabelCount, ...]]) -> None:
    replaced(catalog, LABELS)
    assert replaced(catalog, labels) == 2
    assert kept_labels(catalog) == {name: list(said) for name, said in labels.items()}


def test_a_dataset_that_was_looked_at_and_says_nothing_differs_from_one_that_nobody_has_looked_at(
    catalog: Catalog,
) -> None:
    replaced(catalog, None)
    assert catalog.dataset_labels() == []
    assert replaced(catalog, {}) == 2
    assert catalog.dataset_labels() == [DatasetLabelsRow(DATASET, "1.0.0", [], {})]
    assert replaced(catalog, {}) == 2
    assert replaced(catalog, None) == 3
    assert catalog.dataset_labels() == []


def test_another_label_version_has_labels_of_its_own(catalog: Catalog) -> None:
    replaced(catalog, LABELS)
    replaced(catalog, {"a": (CAR,)}, row=replace(ROW, label_version="2.0.0"))
    assert kept_labels(catalog) == {name: list(labels) for name, labels in LABELS.items()}
    assert kept_labels(catalog, label_version="2.0.0") == {"a": [CAR]}
    second = DatasetLabelsRow(DATASET, "2.0.0", ["car"], {})
    assert catalog.dataset_labels() == [TOGETHER, second]


def test_a_label_that_no_database_takes_is_left_out(catalog: Catalog) -> None:
    odd = [LabelCount("", text, 1) for text in ("nul\0", "x" * 301)]
    assert replaced(catalog, {"a": (PERSON, *odd)}) == 1
    assert kept_labels(catalog) == {"a": [PERSON]}
    assert replaced(catalog, {"a": (PERSON, *odd)}) == 1


def test_the_longest_label_that_is_kept_finds_room_in_the_index(catalog: Catalog) -> None:
    longest = LabelCount("\U0001f600" * 200, "\U00012000" * 300, 0)
    replaced(catalog, {"a": (longest,)})
    assert kept_labels(catalog) == {"a": [longest]}


def test_labels_that_somebody_spoiled_are_written_anew(catalog: Catalog) -> None:
    replaced(catalog, LABELS)
    catalog._connection.execute("UPDATE annotation_labels SET label_value = NULL WHERE name = 'b'")
    catalog._connection.execute("UPDATE dataset_labels SET label_values = 'odd'")
    assert [fault.partition(" is not known")[0] for fault in catalog.table().faults] == [
        f"What the annotations of '{DATASET}' say"
    ]
    assert replaced(catalog, LABELS) == 2
    assert kept_labels(catalog) == {name: list(labels) for name, labels in LABELS.items()}
    assert catalog.dataset_labels() == [TOGETHER]


def test_the_value_of_each_image_is_that_of_its_first_classification(catalog: Catalog) -> None:
    mask = LabelCount("Mask", "yes", 0)
    replaced(catalog, {"a": (PERSON, mask, FEMALE), "b": (MALE, FEMALE), "c": (CAR,)})
    assert catalog.image_values(DATASET, "1.0.0", None) == {"a": "yes", "b": "Male"}
    assert catalog.image_values(DATASET, "1.0.0", "Gender") == {"a": "Female", "b": "Male"}
    assert catalog.image_values(DATASET, "1.0.0", "gender") == {}


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_catalog_of_an_earlier_version_knows_no_labels_until_the_next_publish(catalog: Catalog, level: int) -> None:
    replaced(catalog, LABELS)
    take_additions_away(catalog, level=level)
    assert catalog.table().dataset_labels == []
    assert catalog.image_values(DATASET, "1.0.0", "Gender") == {}
    assert replaced(catalog, LABELS) == 2
    assert catalog.dataset_labels() == [TOGETHER]


def test_labels_of_an_earlier_publish_are_added_as_a_revision_of_its_own(catalog: Catalog) -> None:
    replaced(catalog, None)
    before = dataset(catalog)
    assert catalog.set_labels(before, LABELS) == 2
    assert catalog.dataset_labels() == [TOGETHER]
    assert dataset(catalog).publish_id != before.publish_id
    assert replaced(catalog, LABELS) == 2


@pytest.mark.parametrize("changed", [{"note": "new"}, {"label_version": "2.0.0"}])
def test_labels_of_a_publish_that_is_no_longer_the_last_one_are_not_kept(
    catalog: Catalog, changed: dict[str, str]
) -> None:
    replaced(catalog, None)
    before = dataset(catalog)
    replaced(catalog, None, row=replace(ROW, **changed))  # type: ignore[arg-type]  # texts alone
    after = dataset(catalog)
    assert catalog.set_labels(before, LABELS) is None
    assert catalog.dataset_labels() == []
    assert dataset(catalog) == after


# Publishing


def test_publishing_tells_the_catalog_what_annotations_say(place: Place) -> None:
    annotated_folder(place.folder, 2)
    document = orjson.loads(house("person", "car", "person"))
    document["labels"].append({"label_type": "clf", "label_name": "Gender", "label": "Female"})
    fill(place.folder, {"a_00000.json": orjson.dumps(document), "bare.jpg": jpeg(7)})
    place.publish()
    assert kept_labels(place.catalog) == {
        "a_00000": [PERSON, CAR, FEMALE],
        "a_00001": [LabelCount("", "person", 1)],
    }
    [row] = place.catalog.dataset_labels()
    assert (row.object_classes, row.label_values) == (["car", "person"], {"Gender": ["Female"]})


def test_publishing_the_same_again_changes_nothing_with_and_without_a_journal(place: Place, tmp_path: Path) -> None:
    annotated_folder(place.folder, 3)
    with Journal(tmp_path / "journal") as journal:
        place.publish(journal=journal)
        kept = kept_labels(place.catalog)
        assert not place.publish(journal=journal).changed
        assert not place.publish().changed
    assert kept_labels(place.catalog) == kept


def test_publishing_the_same_again_fills_what_an_earlier_version_left_out(place: Place, tmp_path: Path) -> None:
    annotated_folder(place.folder, 3)
    with Journal(tmp_path / "journal") as journal:
        place.publish(journal=journal)
        kept = kept_labels(place.catalog)
        take_additions_away(place.catalog, level=3)
        summary = place.publish(journal=journal)
        assert (summary.revision, summary.changed) == (2, True)
    assert kept_labels(place.catalog) == kept


def test_indexing_tells_the_catalog_what_annotations_say(place: Place) -> None:
    place.store.write("a.jpg", jpeg(1))
    place.store.write("a.json", house("person", "car"))
    index(place.store, catalog=place.catalog, dataset_id=DATASET)
    assert kept_labels(place.catalog) == {"a": [LabelCount("", "person", 1), CAR]}
