"""A company's own tables, made a catalog with ``init --adopt``, and mounted."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.mounting import Workplace
from support.publishing import house, jpeg

STREET, LOST = "original_20260101_rgb_bbox", "original_20260102_rgb_bbox"
IMAGE, ANNOTATION = jpeg(3), house("person")

MAPPING = """
store = "{store}"
[datasets]
from = "photo_sets"
dataset_id = "set_name"
revision = "revision"
size = "photo_count"
store = "place"
[images]
from = "photos"
dataset_id = "set_name"
name = "stem"
ext = {{ sql = "'jpg'" }}
byte_count = "size_in_bytes"
blob = "path"
md5 = "md5_hex"
height = {{ sql = "30" }}
width = {{ sql = "40" }}
[annotations]
from = "photo_labels"
dataset_id = "set_name"
name = "stem"
byte_count = "size_in_bytes"
blob = "path"
"""


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A database of a company's own tables, a store with an image and its annotation, and a mapping."""
    folder = tmp_path_factory.mktemp("company")
    (folder / "store").mkdir()
    (folder / "store" / "a.jpg").write_bytes(IMAGE)
    (folder / "store" / "a.json").write_bytes(ANNOTATION)
    with closing(sqlite3.connect(folder / "company.db")) as database, database:
        database.execute("CREATE TABLE photo_sets (set_name, revision, photo_count, place)")
        database.execute("CREATE TABLE photos (set_name, stem, size_in_bytes, path, md5_hex)")
        database.execute("CREATE TABLE photo_labels (set_name, stem, size_in_bytes, path)")
        places = [(STREET, 1, 1, None), (LOST, 1, 1, f"file://{folder}/nowhere")]
        database.executemany("INSERT INTO photo_sets VALUES (?, ?, ?, ?)", places)
        md5 = hashlib.md5(IMAGE, usedforsecurity=False).hexdigest()
        images = [(each, "a", len(IMAGE), "a.jpg", md5) for each in (STREET, LOST)]
        database.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, ?)", images)
        database.execute("INSERT INTO photo_labels VALUES (?, 'a', ?, 'a.json')", (STREET, len(ANNOTATION)))
    (folder / "MAPPING.toml").write_text(MAPPING.format(store=(folder / "store").as_uri()))
    return Workplace(str(folder / "company.db"), folder)


@pytest.fixture(scope="module")
def adopted(company: Workplace) -> Workplace:
    printed = company.run("init", "--adopt", company.folder / "MAPPING.toml")
    assert "CREATE VIEW datasets AS SELECT" in printed.stdout
    assert "type this again with --create" in printed.stderr
    # What is printed and what is run differ in the catalog's id alone.
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(printed.stdout)
    made = company.run("init", "--adopt", company.folder / "MAPPING.toml", "--create")
    assert "is ready, read-only" in made.stdout
    return company


@pytest.fixture(scope="module")
def mounted(adopted: Workplace) -> Iterator[Path]:
    with adopted.mounted("--allow-store", f"file://{adopted.folder}/nowhere") as mountpoint:
        yield mountpoint


def test_an_image_and_a_rendered_sibling_are_read(mounted: Path) -> None:
    assert (mounted / STREET / "a.jpg").read_bytes() == IMAGE
    assert (mounted / STREET / "a.json").read_bytes() == ANNOTATION
    assert b'"label": "person"' in (mounted / STREET / "a.labelme.json").read_bytes()


def test_a_dataset_whose_store_is_missing_keeps_no_other_from_being_mounted_and_is_named(mounted: Path) -> None:
    assert sorted(entry.name for entry in mounted.iterdir()) == [STREET, LOST]
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / LOST / "a.jpg").read_bytes()
    assert LOST in (mounted / ".imgsyncfs" / "errors.log").read_text()


def test_what_writes_is_refused(adopted: Workplace, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "b.jpg").write_bytes(IMAGE)
    before = sorted((adopted.folder / "store").iterdir())
    for command in (("publish", tmp_path / "new", "--name", STREET), ("split", STREET, "50/25/25")):
        done = adopted.run(*command, status=None)
        assert done.returncode == 1
        assert "is read-only: its datasets are views" in done.stderr
    assert sorted((adopted.folder / "store").iterdir()) == before


def test_a_mapping_with_a_fault_makes_nothing(adopted: Workplace, tmp_path: Path) -> None:
    text = (adopted.folder / "MAPPING.toml").read_text().replace('"stem"', '"stm"')
    (tmp_path / "wrong.toml").write_text(text)
    done = adopted.run("init", "--adopt", tmp_path / "wrong.toml", "--create", status=None)
    assert done.returncode == 1
    assert 's."stm" cannot be read' in done.stderr
    assert "Nothing was made" in done.stderr


def test_the_example_is_printed(company: Workplace) -> None:
    assert "[images]" in company.run("init", "--example").stdout
