"""What is saved of a catalog belongs to that catalog and that publish, whatever stands at the same place later."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounting import Workplace, eventually, local_workplace, write_image
from support.old_catalogs import take_additions_away
from support.services import Database

from imgsyncfs.catalog import Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.listing import build_listing, changed

DATASET = "original_20260105_rgb_rbbox"
ROW = DatasetRow(DATASET, "2.0.0", "rgb", (), (), (), 1, "", "file:///data", 0, 5)
IMAGE = ImageRow("a", "jpg", 4, 3, 3, 10, "1" * 32, "blob", 0, 0, "", 7)


@pytest.fixture(params=["sqlite", "postgresql", "sqlite_odbc"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None]:
    """URL and password of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/catalog.db", None
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgresql_database")
        return database.url, database.password
    return request.getfixturevalue("sqlite_odbc_url"), None


def opened(address: tuple[str, str | None]) -> Catalog:
    catalog = open_catalog(address[0], password=address[1], create=True)
    catalog.initialize(store="file:///data")
    return catalog


def published(catalog: Catalog, *images: ImageRow) -> DatasetRow:
    catalog.replace_dataset(ROW, images, [])
    row = catalog.dataset(DATASET)
    assert row is not None
    return row


# The catalog


def test_every_publish_that_changes_anything_has_an_id_of_its_own(address: tuple[str, str | None]) -> None:
    with opened(address) as catalog:
        first = published(catalog, IMAGE)
        same = published(catalog, IMAGE)
        second = published(catalog, replace(IMAGE, md5="2" * 32))
    assert same == first
    assert len({first.publish_id, second.publish_id, ""}) == 3


def test_a_catalog_before_orientations_keeps_its_publish_ids(address: tuple[str, str | None]) -> None:
    with opened(address) as catalog:
        row = published(catalog, IMAGE)
        take_additions_away(catalog, level=1)
        assert catalog.dataset(DATASET) == row
        assert catalog.table().datasets == [row]
        assert published(catalog, IMAGE) == row


def test_a_catalog_of_an_earlier_version_is_read_as_it_is(address: tuple[str, str | None]) -> None:
    with opened(address) as catalog:
        row = published(catalog, IMAGE)
        take_additions_away(catalog)
        assert catalog.dataset(DATASET) == replace(row, publish_id="")
        assert catalog.table().datasets == [replace(row, publish_id="")]


def test_the_next_publish_gives_an_earlier_versions_catalog_publish_ids(address: tuple[str, str | None]) -> None:
    with opened(address) as catalog:
        published(catalog, IMAGE)
        take_additions_away(catalog)
        row = published(catalog, replace(IMAGE, md5="2" * 32))
    assert row.revision == 2
    assert row.publish_id


def test_init_gives_an_earlier_versions_catalog_publish_ids(address: tuple[str, str | None]) -> None:
    with opened(address) as catalog:
        take_additions_away(catalog)
        assert catalog.initialize(store="file:///data") is False
        assert published(catalog, IMAGE).publish_id


def test_a_publisher_who_may_not_change_tables_publishes_all_the_same(
    postgresql_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    address = postgresql_database.url, postgresql_database.password
    with opened(address) as catalog:
        published(catalog, IMAGE)
        take_additions_away(catalog)
        execute = catalog._connection.execute
        for statement in ("DROP ROLE IF EXISTS publisher", "CREATE ROLE publisher LOGIN PASSWORD 'p'"):
            execute(statement)
        execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO publisher")
    url = postgresql_database.url.replace(f"//{postgresql_database.postgresql.user}@", "//publisher@")
    try:
        with open_catalog(url, password="p") as catalog:
            row = published(catalog, replace(IMAGE, md5="2" * 32))
    finally:
        with opened(address) as catalog:
            catalog._connection.execute("DROP OWNED BY publisher")
            catalog._connection.execute("DROP ROLE publisher")
    assert (row.revision, row.publish_id) == (2, "")
    assert "imgsyncfs init" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [{"revision": 2}, {"publish_id": "b"}, {"updated_at": 6}, {"label_version": "3"}, {"store": "file:///elsewhere"}],
)
def test_a_listings_key_tells_one_publish_from_another(changes: dict[str, object]) -> None:
    row = replace(ROW, revision=1, publish_id="a")
    assert replace(row, **changes).listing_key("one") != row.listing_key("one")  # type: ignore[arg-type]  # of its fields


def test_a_listings_key_tells_one_catalog_from_another() -> None:
    assert ROW.listing_key("one") != ROW.listing_key("two")


def test_a_blob_that_nothing_but_its_name_tells_apart_is_another_one_in_another_catalog() -> None:
    image = replace(IMAGE, md5="")
    one, two = (build_listing(ROW, [image], [], catalog_id=name) for name in ("one", "two"))
    assert not changed(one, one)
    assert changed(one, two).images.indices_before == [0]


# Mounts and copies


def publish(workplace: Workplace, shade: int) -> bytes:
    """Publish a dataset of one image of a shade, as people would; returns the image."""
    folder = workplace.folder / f"shade-{shade}"
    folder.mkdir()
    write_image(folder / "a.png", shade=shade)
    workplace.run("publish", folder, "--name", DATASET)
    return (folder / "a.png").read_bytes()


def read(path: Path) -> bytes | None:
    """A file's content; None while a new catalog does not have it yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def make_again(workplace: Workplace) -> bytes:
    """Remove catalog and store, make both again at the same place, and publish other images up to the same revision."""
    (workplace.folder / "catalog.db").unlink()
    shutil.rmtree(workplace.folder / "store")
    workplace.run("init", "--store", f"file://{workplace.folder}/store")
    publish(workplace, 100)
    return publish(workplace, 200)


def restore(workplace: Workplace) -> bytes:
    """Restore the backup of the catalog, and publish another image as the revision that was there already."""
    with sqlite3.connect(workplace.folder / "backup.db") as backup:
        with sqlite3.connect(workplace.folder / "catalog.db") as catalog:
            backup.backup(catalog)
        catalog.close()
    backup.close()
    return publish(workplace, 200)


@pytest.fixture(params=[make_again, restore])
def replaced(request: pytest.FixtureRequest) -> Callable[[Workplace], bytes]:
    """A way in which a catalog comes to say something else under the same name and revision."""
    way: Callable[[Workplace], bytes] = request.param
    return way


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """A catalog with a dataset at its second revision, and a backup of the first."""
    place = local_workplace(tmp_path)
    publish(place, 1)
    shutil.copy(tmp_path / "catalog.db", tmp_path / "backup.db")
    publish(place, 2)
    return place


def test_a_mount_shows_what_the_catalog_at_its_place_says_now(
    workplace: Workplace, replaced: Callable[[Workplace], bytes]
) -> None:
    with workplace.mounted() as mountpoint:
        before = (mountpoint / DATASET / "a.png").read_bytes()
    content = replaced(workplace)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes() == content != before


def test_a_mount_that_runs_turns_to_what_the_catalog_at_its_place_says_now(
    workplace: Workplace, replaced: Callable[[Workplace], bytes]
) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes()
        content = replaced(workplace)
        assert eventually(lambda: read(mountpoint / DATASET / "a.png") == content)


def test_sync_copies_what_the_catalog_at_its_place_says_now(
    workplace: Workplace, replaced: Callable[[Workplace], bytes]
) -> None:
    workplace.run("sync", workplace.folder / "copy", DATASET)
    content = replaced(workplace)
    workplace.run("sync", workplace.folder / "copy", DATASET)
    assert (workplace.folder / "copy" / DATASET / "a.png").read_bytes() == content


def test_a_mount_of_an_earlier_versions_catalog_shows_what_another_one_at_its_place_says(workplace: Workplace) -> None:
    with open_catalog(workplace.catalog) as catalog:
        take_additions_away(catalog)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes()
    content = make_again(workplace)
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "a.png").read_bytes() == content
