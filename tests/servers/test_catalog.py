"""The catalog in SQLite, in PostgreSQL through pyodbc, and in SQLite through pyodbc: the same tests for all three."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyodbc
import pytest
from support.services import Database, PostgreSql, odbc_driver
from support.tds_server import TdsServer

from imgsyncfs.catalog import AnnotationRow, Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.listing import read_listing
from imgsyncfs.catalog.rows import Portion
from imgsyncfs.errors import (
    CatalogError,
    CatalogMissing,
    CatalogRefused,
    CatalogUnreachable,
    ConfigurationError,
    NotACatalog,
)

STORE = "azure://account/container"
DATASET = DatasetRow(
    dataset_id="original_20200207_fisheye_rbbox",
    label_version="1.0.0",
    image_type="fisheye360",
    classes=("person", "person with face"),
    projects=("wework", "sbr"),
    label_type=("clf", "reg"),
    size=3,
    note="seen from above",
    store="file:///data",
    revision=0,
    updated_at=1_600_000_000,
)


def make_image(number: int, **changes: Any) -> ImageRow:
    row = ImageRow(
        name=f"image_{number:05d}",
        ext="jpg",
        height=1024,
        width=1280,
        depth=3,
        byte_count=100_000 + number,
        md5=f"{number:032x}",
        blob=f"{DATASET.dataset_id}/images-0123456789abcdef.pack",
        blob_offset=number << 33,
        position=number,
        etag="",
        modified_at=1_500_000_000 + number,
    )
    return replace(row, **changes)


def make_annotation(number: int, **changes: Any) -> AnnotationRow:
    row = AnnotationRow(
        name=f"image_{number:05d}",
        label_checked=number % 2,
        object_count=number % 3,
        byte_count=2_000 + number,
        md5=f"{number + 7:032x}",
        blob=f"{DATASET.dataset_id}/annotations-0123456789abcdef.pack",
        blob_offset=number << 33,
        etag='"0x8D"',
        modified_at=1_500_000_000 + number,
    )
    return replace(row, **changes)


IMAGES = [make_image(number) for number in range(3)]
ANNOTATIONS = [make_annotation(number) for number in range(3)]


@dataclass(frozen=True)
class Address:
    """Where a test's catalog is, and how to get in."""

    url: str
    password: str | None = field(default=None, repr=False)

    def open(self, *, timeout: float = 30.0) -> Catalog:
        return open_catalog(self.url, password=self.password, timeout=timeout, create=True)


@pytest.fixture(params=["sqlite", "postgresql", "sqlite_odbc", "sql_server", "freetds"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return Address(f"sqlite://{tmp_path}/catalog.db")
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgresql_database")
        return Address(database.url, database.password)
    if request.param in {"sql_server", "freetds"}:
        server: TdsServer = request.getfixturevalue("sql_server")
        return Address(server.url_with(freetds=request.param == "freetds"), server.password)
    # Without the fixture's own Timeout, so that the catalog's time limit counts.
    url: str = request.getfixturevalue("sqlite_odbc_url")
    return Address(url.removesuffix(";Timeout=5000"))


@pytest.fixture
def catalog(address: Address) -> Iterator[Catalog]:
    """An initialized catalog without datasets."""
    with address.open() as catalog:
        catalog.initialize(store=STORE)
        yield catalog


def by_name(rows: Any) -> list[Any]:
    return sorted(rows, key=lambda row: row.name)


def contents(catalog: Catalog, row: DatasetRow = DATASET) -> tuple[DatasetRow | None, list[Any], list[Any]]:
    dataset = catalog.dataset(row.dataset_id)
    return (
        dataset and replace(dataset, publish_id=""),
        by_name(catalog.images(row.dataset_id)),
        by_name(catalog.annotations(row.dataset_id, row.label_version)),
    )


def execute(catalog: Catalog, sql: str, *parameters: object) -> None:
    catalog._connection.execute(sql, parameters)


class WatchedConnection:
    """A connection that collects the statements it executes."""

    def __init__(self, inner: Connection) -> None:
        self.dialect = inner.dialect
        self.where = inner.where
        self.timeout = inner.timeout
        self.statements: list[tuple[str, Sequence[object]]] = []
        self._inner = inner

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        self.statements.append((sql, parameters))
        self._inner.execute(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        return self._inner.rows(sql, parameters)

    def portions(
        self, sql: str, parameters: Sequence[object] = (), *, most: int | None = None
    ) -> Iterator[Sequence[Sequence[Any]]]:
        return self._inner.portions(sql, parameters, most=most)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._inner.transaction()

    def described(self) -> str:
        return self._inner.described()

    def is_stale(self) -> bool:
        return self._inner.is_stale()

    @property
    def has_session(self) -> bool:
        return self._inner.has_session

    def rest(self) -> None:
        self._inner.rest()

    def close(self) -> None:
        self._inner.close()


def test_what_was_published_is_what_is_read(catalog: Catalog) -> None:
    assert catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS) == 1
    assert contents(catalog) == (replace(DATASET, revision=1), IMAGES, ANNOTATIONS)
    assert [replace(row, publish_id="") for row in catalog.datasets()] == [replace(DATASET, revision=1)]


def test_a_dataset_that_is_not_there_is_none(catalog: Catalog) -> None:
    assert catalog.dataset("nothing") is None
    assert list(catalog.images("nothing")) == []
    assert read_listing(catalog, "nothing") is None


MANY = 6000
"""Rows that no way of writing them puts into one statement."""

ODD_TEXTS = (
    *("a\nb", "q'u\"o`t[e]", "ünï日本😀", "e\u0301", "..", " lead", "x" * 300, "?", "%", "{", "\\", "a;b", "Ä" * 150),
    *("NULL", "--", "/*", "\t", "a/b", "\x01", "''"),
)


def test_odd_texts_survive_in_every_column(catalog: Catalog) -> None:
    images = [make_image(1, name=text, blob=text, etag=text[:150], ext=text[:100]) for text in ODD_TEXTS]
    annotations = [make_annotation(1, name=text, blob=text) for text in ODD_TEXTS]
    datasets = [
        replace(DATASET, dataset_id=text[:199], note=text * 50, store=text, classes=(text.strip() or "x",), projects=())
        for text in ODD_TEXTS
    ]
    for dataset in datasets:
        catalog.replace_dataset(dataset, images, annotations)
        assert contents(catalog, dataset) == (replace(dataset, revision=1), by_name(images), by_name(annotations))
        assert catalog.replace_dataset(dataset, images, annotations) == 1
    assert len(catalog.datasets()) == len(ODD_TEXTS)


def test_names_that_differ_in_case_or_composition_are_different_names(catalog: Catalog) -> None:
    images = [make_image(number, name=name) for number, name in enumerate(["a", "A", "é", "e\u0301"])]
    catalog.replace_dataset(DATASET, images, [])
    assert by_name(catalog.images(DATASET.dataset_id)) == by_name(images)
    catalog.replace_dataset(DATASET, images[1:], [])
    assert by_name(catalog.images(DATASET.dataset_id)) == by_name(images[1:])


def test_many_rows_go_through_portions_of_statements(catalog: Catalog) -> None:
    texts = [ODD_TEXTS[number % len(ODD_TEXTS)] for number in range(MANY)]
    images = [make_image(number, name=f"{number:05}{text}", blob=text) for number, text in enumerate(texts)]
    annotations = [make_annotation(number, name=image.name) for number, image in enumerate(images) if number % 2]
    counts: list[int] = []
    catalog.replace_dataset(DATASET, images, annotations, progress=counts.append)
    assert sum(counts) == len(images) + len(annotations)
    assert max(counts) < MANY
    assert contents(catalog)[1:] == (images, annotations)


def test_publishing_the_same_again_writes_nothing(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    later = replace(DATASET, updated_at=DATASET.updated_at + 1, revision=77)
    counts: list[int] = []
    watched = WatchedConnection(catalog._connection)
    assert Catalog(watched).replace_dataset(later, IMAGES[::-1], ANNOTATIONS[::-1], progress=counts.append) == 1
    assert not [sql for sql, _ in watched.statements if sql.startswith(("INSERT", "DELETE"))]
    assert sum(counts) == len(IMAGES) + len(ANNOTATIONS)
    assert contents(catalog) == (replace(DATASET, revision=1), IMAGES, ANNOTATIONS)


def test_only_rows_that_differ_are_written(catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    images = [IMAGES[0], replace(IMAGES[1], byte_count=5), make_image(9)]
    watched = WatchedConnection(catalog._connection)
    assert Catalog(watched).replace_dataset(DATASET, images, ANNOTATIONS[:2]) == 2
    written = [value for sql, values in watched.statements if not sql.startswith("UPDATE") for value in values]
    assert IMAGES[0].name not in written
    assert contents(catalog) == (replace(DATASET, revision=2), by_name(images), ANNOTATIONS[:2])


def test_a_change_of_the_dataset_alone_is_a_new_revision(catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    changed = replace(DATASET, note="", classes=(), updated_at=1_700_000_000)
    assert catalog.replace_dataset(changed, IMAGES, ANNOTATIONS) == 2
    assert contents(catalog) == (replace(changed, revision=2), IMAGES, ANNOTATIONS)


def test_annotations_of_another_label_version_stay(catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    second = replace(DATASET, label_version="2.0.0")
    catalog.replace_dataset(second, IMAGES, ANNOTATIONS[:1])
    assert contents(catalog)[2] == ANNOTATIONS
    assert contents(catalog, second) == (replace(second, revision=2), IMAGES, ANNOTATIONS[:1])


def test_other_datasets_stay(catalog: Catalog) -> None:
    other = replace(DATASET, dataset_id="other")
    catalog.replace_dataset(other, IMAGES, ANNOTATIONS)
    catalog.replace_dataset(DATASET, IMAGES[:1], [])
    catalog.replace_dataset(DATASET, IMAGES[1:], [])
    assert contents(catalog, other) == (replace(other, revision=1), IMAGES, ANNOTATIONS)


def fail_in_progress(count: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("published", [False, True], ids=["new", "published before"])
def test_a_publish_that_fails_leaves_everything_as_it_was(catalog: Catalog, published: bool) -> None:
    if published:
        catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    before = contents(catalog)
    # More than a portion, so that some rows are written before the one that no database takes.
    images = [make_image(number) for number in range(500)]
    with pytest.raises(CatalogError):
        catalog.replace_dataset(DATASET, [*images, make_image(500, blob_offset=1 << 70)], [])
    assert contents(catalog) == before
    with pytest.raises(CatalogError, match="cannot hold"):
        catalog.replace_dataset(DATASET, [*images, make_image(500, blob="\udcff")], [])
    assert contents(catalog) == before
    with pytest.raises(KeyboardInterrupt):
        catalog.replace_dataset(DATASET, images, [], progress=fail_in_progress)
    assert contents(catalog) == before
    assert catalog.replace_dataset(DATASET, images, []) == (2 if published else 1)


@pytest.mark.parametrize(
    ("row", "images", "annotations", "said"),
    [
        (DATASET, [*IMAGES, IMAGES[1]], [], "image 'image_00001' is given twice"),
        (DATASET, IMAGES, [*ANNOTATIONS, ANNOTATIONS[2]], "annotation 'image_00002' is given twice"),
        (DATASET, IMAGES[:2], ANNOTATIONS, "annotation 'image_00002' has no image"),
        (replace(DATASET, classes=("a,b",)), IMAGES, [], "'a,b' in the column classes holds a comma"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(
    catalog: Catalog, row: DatasetRow, images: list[ImageRow], annotations: list[AnnotationRow], said: str
) -> None:
    with pytest.raises(CatalogError, match=said):
        catalog.replace_dataset(row, images, annotations)
    assert catalog.datasets() == []


@pytest.mark.parametrize("published", [False, True], ids=["new", "published before"])
def test_two_who_publish_at_once_get_a_revision_each(address: Address, catalog: Catalog, published: bool) -> None:
    if published:
        catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    start = threading.Barrier(4)

    def publish(number: int) -> int:
        with address.open() as own:
            start.wait(10)
            return own.replace_dataset(
                replace(DATASET, note=f"{number}"), [make_image(n, depth=number) for n in range(300)], []
            )

    with ThreadPoolExecutor(4) as pool:
        revisions = list(pool.map(publish, range(4)))
    first = 2 if published else 1
    assert sorted(revisions) == list(range(first, first + 4))
    dataset = catalog.dataset(DATASET.dataset_id)
    assert dataset is not None
    assert dataset.revision == first + 3
    assert {row.depth for row in catalog.images(DATASET.dataset_id)} == {revisions.index(first + 3)}


def test_who_waits_too_long_for_another_publish_is_told(address: Address, catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    with address.open(timeout=1.5) as second, catalog._connection.transaction():
        execute(catalog, "UPDATE datasets SET note = 'first' WHERE dataset_id = ?", DATASET.dataset_id)
        began = time.monotonic()
        with pytest.raises(CatalogUnreachable, match="nobody else is writing"):
            second.replace_dataset(replace(DATASET, note="second"), IMAGES, [])
        assert time.monotonic() - began < 10
    assert contents(catalog) == (replace(DATASET, note="first", revision=1), IMAGES, ANNOTATIONS)


def test_datasets_are_ordered_by_code_points(catalog: Catalog) -> None:
    names = ["b", "a", "B", "é", "_", "a&b", "a-b"]
    for name in names:
        catalog.replace_dataset(replace(DATASET, dataset_id=name), [], [])
    assert [row.dataset_id for row in catalog.datasets()] == sorted(names)


def test_rows_written_by_hand_may_leave_columns_empty(catalog: Catalog) -> None:
    execute(catalog, "INSERT INTO datasets (dataset_id) VALUES ('d')")
    execute(catalog, "INSERT INTO images (dataset_id, name) VALUES ('d', 'n')")
    execute(catalog, "INSERT INTO annotations (dataset_id, label_version, name) VALUES ('d', '', 'n')")
    assert catalog.dataset("d") == DatasetRow("d", "", "", (), (), (), 0, "", STORE, 0, 0)
    assert catalog.datasets() == [catalog.dataset("d")]
    assert list(catalog.images("d")) == [ImageRow("n", "", 0, 0, 0, 0, "", "", 0, 0, "", 0)]
    assert list(catalog.annotations("d", "")) == [AnnotationRow("n", 0, 0, 0, "", "", 0, "", 0)]
    assert catalog.replace_dataset(replace(DATASET, dataset_id="d"), IMAGES, ANNOTATIONS) == 1


def test_lists_and_digests_written_by_hand_are_tidied(catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    execute(catalog, "UPDATE datasets SET classes = ' person, ,face,'")
    execute(catalog, "UPDATE images SET md5 = ?", "ABCDEF" + "0" * 26)
    dataset = catalog.dataset(DATASET.dataset_id)
    assert dataset is not None
    assert dataset.classes == ("person", "face")
    assert {row.md5 for row in catalog.images(DATASET.dataset_id)} == {"abcdef" + "0" * 26}


def test_a_database_becomes_a_catalog_once(address: Address) -> None:
    with address.open() as catalog:
        with pytest.raises(NotACatalog, match="imgsyncfs init"):
            catalog.check()
        with pytest.raises(NotACatalog):
            catalog.datasets()
        assert catalog.initialize(store=STORE) is True
        catalog.check()
        assert catalog.default_store() == STORE
        assert catalog.initialize(store=STORE) is False
        with pytest.raises(CatalogError, match="has the store azure://account/container"):
            catalog.initialize(store="file:///other")
    with address.open() as catalog:
        catalog.check()
        assert catalog.default_store() == STORE


def test_somebody_elses_tables_are_left_alone(address: Address) -> None:
    with address.open() as catalog:
        execute(catalog, "CREATE TABLE datasets (dataset_id INTEGER)")
        with pytest.raises(CatalogError, match="table datasets"):
            catalog.initialize(store=STORE)
        execute(catalog, "INSERT INTO datasets (dataset_id) VALUES (1)")
        with pytest.raises(NotACatalog):
            catalog.check()


def test_a_catalog_of_another_schema_version_is_not_used(catalog: Catalog) -> None:
    execute(catalog, "UPDATE catalog_settings SET value = '9' WHERE name = 'schema_version'")
    with pytest.raises(NotACatalog, match=r"'9'.*upgrade"):
        catalog.check()


def test_rows_for_a_listing_come_in_many_portions_each_with_its_own_values(catalog: Catalog) -> None:
    odd = ['"', "\\", "\x1f\x1e", "人 🦊", "'; --", "[1]", "\t", ""]
    images = [replace(make_image(number), etag=odd[number % len(odd)], md5="") for number in range(2500)]
    annotations = [replace(make_annotation(number), object_count=number) for number in range(2500)]
    catalog.replace_dataset(DATASET, images, annotations)
    execute(catalog, "UPDATE images SET etag = NULL, depth = NULL WHERE name = ?", images[7].name)

    portions = list(catalog.image_portions(DATASET.dataset_id))
    found = [row for portion in portions for row in portion.rows()[0]]
    noted = [
        row
        for portion in catalog.annotation_portions(DATASET.dataset_id, DATASET.label_version)
        for row in portion.rows()[0]
    ]
    assert len(portions) > 1
    assert by_name(found) == [replace(row, position=0) for row in by_name(catalog.images(DATASET.dataset_id))]
    assert by_name(found)[7] == replace(images[7], position=0, etag="", depth=0)
    assert by_name(noted) == annotations


@dataclass
class BusyCatalog:
    """A catalog in which something happens while a listing is read from it, before one part of it or another."""

    catalog: Catalog
    before_images: Callable[[], None] = lambda: None
    before_annotations: Callable[[], None] = lambda: None
    before_orientations: Callable[[], None] = lambda: None

    def identity(self) -> str:
        return self.catalog.identity()

    def dataset(self, dataset_id: str) -> DatasetRow | None:
        return self.catalog.dataset(dataset_id)

    def extent_digests(self, dataset_id: str) -> Mapping[str, str]:
        return self.catalog.extent_digests(dataset_id)

    def image_orientations(self, dataset_id: str) -> Mapping[str, int]:
        self.before_orientations()
        return self.catalog.image_orientations(dataset_id)

    def image_portions(self, dataset_id: str) -> Iterator[Portion[ImageRow]]:
        self.before_images()
        return self.catalog.image_portions(dataset_id)

    def annotation_portions(self, dataset_id: str, label_version: str) -> Iterator[Portion[AnnotationRow]]:
        self.before_annotations()
        return self.catalog.annotation_portions(dataset_id, label_version)


def test_a_listing_that_begins_before_a_publish_is_read_again(address: Address, catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    publishes = iter([None])

    def publish_once() -> None:
        for _ in publishes:
            with address.open() as other:
                other.replace_dataset(DATASET, [make_image(8), make_image(9)], [make_annotation(9)])

    listing = read_listing(BusyCatalog(catalog, before_annotations=publish_once), DATASET.dataset_id)
    assert listing is not None
    assert listing.revision == 2
    assert [listing.stem(index) for index in range(len(listing))] == [b"image_00008", b"image_00009"]
    assert [listing.has_annotation(index) for index in range(2)] == [False, True]
    assert listing.hidden == ()


def test_a_listing_has_no_orientation_of_a_publish_that_came_in_between(address: Address, catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    publishes = iter([None])

    def publish_once() -> None:
        for _ in publishes:
            with address.open() as other:
                other.replace_dataset(DATASET, IMAGES, ANNOTATIONS, orientations={IMAGES[1].name: 6})

    listing = read_listing(BusyCatalog(catalog, before_orientations=publish_once), DATASET.dataset_id)
    assert listing is not None
    assert (listing.revision, [listing.orientation(index) for index in range(3)]) == (2, [1, 6, 1])


def test_a_listing_that_is_published_to_without_end_is_given_up(catalog: Catalog) -> None:
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    busy = BusyCatalog(catalog, before_images=lambda: execute(catalog, "UPDATE datasets SET revision = revision + 1"))
    with pytest.raises(CatalogError, match="published again"):
        read_listing(busy, DATASET.dataset_id)


def test_rows_that_are_not_read_to_the_end_do_no_harm(address: Address, catalog: Catalog) -> None:
    images = [make_image(number) for number in range(5000)]
    catalog.replace_dataset(DATASET, images, [])
    rows = catalog.images(DATASET.dataset_id)
    next(rows)
    del rows
    with address.open(timeout=5) as other:
        assert other.replace_dataset(DATASET, images[1:], []) == 2
    assert len(list(catalog.images(DATASET.dataset_id))) == 4999


# SQLite


def test_a_missing_sqlite_file_is_told_and_not_made(tmp_path: Path) -> None:
    for url in (str(tmp_path / "no.db"), f"odbc:Driver={odbc_driver('SQLite3')};Database={tmp_path}/no.db"):
        with pytest.raises(CatalogMissing, match=r"init|correct the catalog URL"):
            open_catalog(url)
    assert not (tmp_path / "no.db").exists()


def test_a_file_that_is_no_database_is_no_catalog(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, and no database at all.\n" * 50)
    for url in (str(path), f"odbc:Driver={odbc_driver('SQLite3')};Database={path}"):
        with open_catalog(url) as catalog, pytest.raises(NotACatalog, match=r"not a database.*imgsyncfs init"):
            catalog.check()
    path.write_bytes(b"")
    with open_catalog(str(path)) as catalog, pytest.raises(NotACatalog):
        catalog.check()


def test_a_directory_is_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(NotACatalog, match="is a directory"):
        open_catalog(str(tmp_path))


def test_a_catalog_in_a_directory_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogMissing, match="no directory"):
        open_catalog(str(tmp_path / "no" / "catalog.db"), create=True)


def test_a_path_may_hold_what_urls_take_for_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=ro#%20 é.db"
    with open_catalog(str(path), create=True) as catalog:
        catalog.initialize(store=STORE)
    assert path.exists()


def make_sqlite(tmp_path: Path) -> Catalog:
    catalog = open_catalog(str(tmp_path / "catalog.db"), create=True)
    catalog.initialize(store=STORE)
    catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
    return catalog


def test_a_number_that_is_none_is_logged_with_its_row_and_mended_by_the_next_publish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with make_sqlite(tmp_path) as catalog:
        execute(catalog, "UPDATE images SET byte_count = 'much' WHERE name = 'image_00001'")
        assert [row.name for row in by_name(catalog.images(DATASET.dataset_id))] == ["image_00000", "image_00002"]
        assert re.search(r"'image_00001'.*byte_count is 'much'", caplog.text)
        assert catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS) == 2
        assert contents(catalog) == (replace(DATASET, revision=2), IMAGES, ANNOTATIONS)


def test_a_name_that_is_no_utf_8_is_hidden_in_the_listing_and_gone_with_the_next_publish(tmp_path: Path) -> None:
    with make_sqlite(tmp_path) as catalog:
        execute(catalog, "UPDATE images SET name = CAST(x'ff41' AS TEXT) WHERE name = 'image_00001'")
        listing = read_listing(catalog, DATASET.dataset_id)
        assert listing is not None
        assert [name for name, _ in listing.hidden] == ["\udcffA.jpg", "image_00001.json"]
        assert catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS) == 2
        assert contents(catalog) == (replace(DATASET, revision=2), IMAGES, ANNOTATIONS)


def test_a_catalog_belongs_to_its_thread(tmp_path: Path) -> None:
    with make_sqlite(tmp_path) as catalog, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(catalog.datasets)
        with pytest.raises(CatalogError, match="thread"):
            asked.result()


# PostgreSQL and ODBC


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error)


def test_a_wrong_password_is_refused_and_nowhere_repeated(postgresql_database: Database) -> None:
    password = "hunter" + "2;x}"  # not as a whole in the lines that a traceback shows
    with pytest.raises(CatalogRefused, match="IMGSYNCFS_PASSWORD") as caught:
        open_catalog(postgresql_database.url, password=password)
    error: BaseException | None = caught.value
    while error is not None:
        assert password not in everything_said(error)
        error = error.__cause__ or error.__context__


def test_a_password_that_a_driver_echoes_is_blotted_out(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection_string: str, **options: object) -> None:
        raise pyodbc.Error("HY000", f"[HY000] cannot make sense of {connection_string}")

    monkeypatch.setattr("pyodbc.connect", refuse)
    password = "hunter" + "2;x}"
    with pytest.raises(CatalogError, match=r"cannot make sense of .*\*\*\*") as caught:
        open_catalog(postgresql_database.url, password=password)
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_no_password_is_refused(postgresql_database: Database) -> None:
    with pytest.raises(CatalogRefused, match="IMGSYNCFS_PASSWORD"):
        open_catalog(postgresql_database.url)


def test_any_password_opens_the_door(postgresql_database: Database) -> None:
    url = postgresql_database.url.replace(f"//{postgresql_database.postgresql.user}@", "//odd_reader@")
    with postgresql_database.postgresql.connection(postgresql_database.name) as connection:
        connection.execute("CREATE ROLE odd_reader LOGIN")
        for password in ("a;b", "a}b", "{a}", "a}}b{", " a ", "a=b", "a%41", "a+b", "a'\"b", "é日😀", "a\\b", "}"):
            quoted = password.replace("'", "''")
            connection.execute(f"ALTER ROLE odd_reader PASSWORD '{quoted}'")
            with open_catalog(url, password=password) as catalog, pytest.raises(NotACatalog):
                catalog.check()
        connection.execute("DROP ROLE odd_reader")


def test_tables_that_may_not_be_read_are_told_as_refused(postgresql_database: Database) -> None:
    with open_catalog(postgresql_database.url, password=postgresql_database.password) as catalog:
        catalog.initialize(store=STORE)
        execute(catalog, "DROP ROLE IF EXISTS stranger")
        execute(catalog, "CREATE ROLE stranger LOGIN PASSWORD 'x'")
        url = postgresql_database.url.replace(f"//{postgresql_database.postgresql.user}@", "//stranger@")
        with open_catalog(url, password="x") as strangers, pytest.raises(CatalogRefused, match="permission denied"):
            strangers.check()
        execute(catalog, "DROP ROLE stranger")


def test_a_missing_database_is_told(postgresql: PostgreSql) -> None:
    url = f"postgresql://{postgresql.user}@127.0.0.1:{postgresql.port}/no_such"
    with pytest.raises(CatalogMissing, match='"no_such" does not exist'):
        open_catalog(url, password=postgresql.password)


def test_a_driver_or_data_source_that_is_missing_is_a_matter_of_configuration() -> None:
    for url in ("odbc:Driver=No Such Driver;Server=x", "odbc:DSN=no_such_source"):
        with pytest.raises(ConfigurationError, match="odbcinst -q -d"):
            open_catalog(url)


@pytest.mark.parametrize("scheme", ["postgresql", "mssql"])
def test_a_port_that_refuses_and_a_host_that_is_unknown_are_told_at_once(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(
        CatalogUnreachable, match=rf"nothing answers at port {port} of 127.0.0.1 \(Connection refused\)"
    ):
        open_catalog(f"{scheme}://u@127.0.0.1:{port}/d", password="x")
    with pytest.raises(CatalogUnreachable, match="the host no-such-host.invalid is not found"):
        open_catalog(f"{scheme}://u@no-such-host.invalid/d", password="x")
    assert time.monotonic() - began < 5


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert_unreachable_in_time(server.getsockname()[1])


def test_a_host_that_drops_packets_is_given_up_in_time() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        # With its queue full the kernel drops what comes, as a firewall would.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(server.getsockname())
        assert_unreachable_in_time(server.getsockname()[1])


def assert_unreachable_in_time(port: int) -> None:
    began = time.monotonic()
    with pytest.raises(CatalogUnreachable):
        open_catalog(f"postgresql://u@127.0.0.1:{port}/d", password="x", timeout=1.5)
    assert time.monotonic() - began < 5


class Line:
    """A line to a server that can be made to swallow everything."""

    def __init__(self, port: int) -> None:
        self.dead = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._ends = [self._server]
        self._to = port
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if not self.dead.is_set():
                    target.sendall(content)

    def close(self) -> None:
        for end in self._ends:
            end.close()


def test_a_server_that_falls_silent_is_given_up_in_time(postgresql_database: Database) -> None:
    server = postgresql_database.postgresql
    with contextlib.closing(Line(server.port)) as line:
        url = postgresql_database.url.replace(f":{server.port}/", f":{line.port}/")
        catalog = open_catalog(url, password=postgresql_database.password, timeout=1.5)
        catalog.initialize(store=STORE)
        line.dead.set()
        began = time.monotonic()
        with pytest.raises(CatalogUnreachable, match=r"did not answer within 1\.5 s"):
            catalog.datasets()
        with pytest.raises(CatalogUnreachable):
            catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS)
        catalog.close()
        assert time.monotonic() - began < 5


def end_sessions(database: Database) -> None:
    """As a server does that is started again, or a firewall that forgets who has been silent."""
    with database.postgresql.connection() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?", database.name)


def test_a_session_that_the_server_ended_is_opened_anew(postgresql_database: Database) -> None:
    with open_catalog(postgresql_database.url, password=postgresql_database.password) as catalog:
        catalog.initialize(store=STORE)
        end_sessions(postgresql_database)
        assert catalog.datasets() == []
        end_sessions(postgresql_database)
        assert catalog.replace_dataset(DATASET, IMAGES, ANNOTATIONS) == 1
        catalog.rest()
        assert contents(catalog) == (replace(DATASET, revision=1), IMAGES, ANNOTATIONS)


@pytest.mark.parametrize("at", [1, 3])
def test_a_publish_whose_session_ends_within_its_transaction_is_done_once_more(
    postgresql_database: Database, at: int
) -> None:
    """At the first row that is written, and at the last."""
    with open_catalog(postgresql_database.url, password=postgresql_database.password) as catalog:
        catalog.initialize(store=STORE)
        told: list[int] = []

        def tell(count: int) -> None:
            told.append(count)
            if sum(told) == at and len(told) <= at:
                end_sessions(postgresql_database)

        assert catalog.replace_dataset(DATASET, IMAGES[:at], [], progress=tell) == 1
        assert sum(told) == at
        assert by_name(catalog.images(DATASET.dataset_id)) == IMAGES[:at]


def test_a_time_limit_must_be_above_zero(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        open_catalog(str(tmp_path / "catalog.db"), timeout=0)


def open_silently(open_it: Callable[[], Catalog]) -> None:
    with contextlib.suppress(CatalogError):
        open_it().close()


def test_connections_leave_no_threads_behind(postgresql_database: Database) -> None:
    before = threading.active_count()
    for _ in range(3):
        open_silently(lambda: open_catalog(postgresql_database.url, password=postgresql_database.password))
        open_silently(lambda: open_catalog(postgresql_database.url, password="wrong"))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert threading.active_count() <= before


def test_a_connection_to_postgresql_leaves_no_file_behind(postgresql_database: Database) -> None:
    open_catalog(postgresql_database.url, password=postgresql_database.password, timeout=10.0).close()
    with pytest.raises(CatalogRefused):
        open_catalog(postgresql_database.url, password="wrong", timeout=10.0)
    assert list(Path("/tmp").glob(f"psqlodbc_*{os.getpid()}.log")) == []
