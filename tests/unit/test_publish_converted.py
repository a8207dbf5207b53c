"""Publishing a folder that a conversion wrote into: what it wrote is no part of the dataset, and nothing is amiss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.publishing import DATASET, Place, annotated_folder, open_place

from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.convert.own_files import RECORD_FILE, OwnFiles
from imgsyncfs.tools.convert.run import convert_paths
from imgsyncfs.tools.convert.to_layout import LAYOUT_FORMATS
from imgsyncfs.tools.convert.writing import TEMPORARY_PREFIX
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.folder import publish


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_place(tmp_path) as opened:
        annotated_folder(opened.folder, 3)
        yield opened


def left_out(place: Place) -> dict[str, str]:
    return {entry.path: entry.reason for entry in place.publish().left_out}


@pytest.mark.parametrize("name", LAYOUT_FORMATS)
def test_what_a_conversion_wrote_is_passed_over(place: Place, name: str) -> None:
    convert_paths([place.folder], to=name)
    before = {path.name: path.read_bytes() for path in place.folder.iterdir()}
    summary = place.publish()
    assert (summary.images, summary.annotations, summary.left_out) == (3, 3, ())
    assert {path.name: path.read_bytes() for path in place.folder.iterdir()} == before


def test_what_several_conversions_wrote_is_passed_over_when_annotations_changed_since(place: Place) -> None:
    for name in LAYOUT_FORMATS:
        convert_paths([place.folder], to=name)
    path = place.folder / "a_00001.json"
    path.write_bytes(path.read_bytes().replace(b'"person"', b'"face"'))
    (place.folder / f"{TEMPORARY_PREFIX}0123").write_bytes(b"of a conversion that was killed")
    assert left_out(place) == {}
    assert b'"face"' in place.published(DATASET)["a_00001.json"]


def test_what_the_record_has_in_its_journal_alone_counts(place: Place) -> None:
    with OwnFiles(place.folder) as own:
        own.write_short(place.folder / "classes.txt", b"person\n")
        assert (place.folder / f"{RECORD_FILE}-wal").stat().st_size
        assert left_out(place) == {}


def test_a_written_file_that_was_edited_is_named_and_can_be_taken_by_its_layout(place: Place) -> None:
    place.publish()
    convert_paths([place.folder], to="yolo")
    labels = place.folder / "a_00001.txt"
    number, x, rest = labels.read_text().split(maxsplit=2)
    labels.write_text(f"{number} {float(x) + 0.1} {rest}")
    found = left_out(place)
    assert found.keys() == {"a_00001.txt"}
    assert "name its layout with --from" in found["a_00001.txt"]
    before = place.annotations()
    summary = publish(place.folder, catalog=place.catalog, store=place.store, dataset_id=DATASET, layout="yolo")
    assert (summary.changed, summary.left_out) == (True, ())
    after = place.annotations()
    assert {name for name in after if after[name] != before[name]} == {"a_00001"}


def test_files_that_no_conversion_wrote_are_named_as_ever(place: Place) -> None:
    convert_paths([place.folder], to="yolo")
    (place.folder / "notes.txt").write_text("mine")
    assert left_out(place).keys() == {"notes.txt"}


def test_a_record_that_cannot_be_read_is_named_with_what_it_would_say(place: Place) -> None:
    convert_paths([place.folder], to="coco")
    (place.folder / RECORD_FILE).write_bytes(b"no database at all " * 100)
    found = left_out(place)
    assert found.keys() == {RECORD_FILE, "_annotations.coco.json"}
    assert "remove it, and convert again" in found[RECORD_FILE]


def test_a_folder_that_is_indexed_in_place_has_nothing_left_out_either(place: Place) -> None:
    convert_paths([place.folder], to="yolo")
    with closing(open_store(f"file://{place.folder}")) as store:
        summary = index(store, catalog=place.catalog, dataset_id=DATASET)
    assert (summary.images, summary.annotations, summary.left_out) == (3, 3, ())
