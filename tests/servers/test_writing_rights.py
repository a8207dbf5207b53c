"""What would keep a dataset from being written is told before a single blob is uploaded."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from support.ordinary_user import NOBODY
from support.publishing import Place, WatchedStore, annotated_folder, fill, jpeg
from support.services import Container, Database
from support.tds_server import TdsServer

from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.errors import CatalogError, CatalogRefused, StoreRefused
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.publication import DatasetOptions

DATASET = "original_20260101_rgb_bbox"


def try_to_publish(place: Place, catalog: Catalog | None = None, **options: Any) -> Any:
    annotated_folder(place.folder, 2)
    return publish(
        place.folder,
        catalog=catalog or place.catalog,
        store=place.store,
        dataset_id=DATASET,
        options=DatasetOptions(**options),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_version": "1" * 51}, "label_version .* has 51 characters; shorten it to 50"),
        ({"label_version": "1.0.0 "}, "ends in a space"),
        ({"image_type": "i" * 101}, "image_type .* has 101 characters; shorten it to 100"),
        ({"label_type": ("l" * 150, "m" * 50)}, "label_type .* has 201 characters; shorten it to 200"),
        ({"classes": ("a,b",)}, "column classes holds a comma"),
    ],
)
def test_what_no_column_takes_is_refused_before_a_blob_is_written(
    place: Place, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CatalogError, match=words):
        try_to_publish(place, **options)
    assert place.store.written == []


def test_the_longest_texts_that_fit_are_published(place: Place) -> None:
    assert try_to_publish(place, label_version="1" * 50, image_type="i" * 100).changed


def test_a_name_that_ends_in_a_space_is_left_out(place: Place) -> None:
    fill(place.folder, {"img.jpg": jpeg(1), "img .jpg": jpeg(2)})
    summary = publish(place.folder, catalog=place.catalog, store=place.store, dataset_id=DATASET)
    assert [image.name for image in place.catalog.images(DATASET)] == ["img"]
    assert [entry.path for entry in summary.left_out] == ["img .jpg"]


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("granted", "grant"),
    [
        ("SELECT", "GRANT INSERT, UPDATE ON datasets TO .*GRANT INSERT, DELETE ON images TO .*ON dataset_labels TO"),
        ("SELECT, INSERT, UPDATE", "GRANT DELETE ON images TO .*GRANT DELETE ON annotations TO"),
    ],
)
def test_a_user_without_the_rights_is_told_the_grants_before_a_blob_is_written(
    place: Place, postgresql_database: Database, granted: str, grant: str
) -> None:
    execute: Callable[[str], None] = place.catalog._connection.execute
    for statement in ("DROP ROLE IF EXISTS looker", "CREATE ROLE looker LOGIN PASSWORD 'p'"):
        execute(statement)
    execute(f"GRANT {granted} ON ALL TABLES IN SCHEMA public TO looker")
    url = postgresql_database.url.replace(f"//{postgresql_database.postgresql.user}@", "//looker@")
    try:
        with open_catalog(url, password="p") as others:  # a role of this test alone
            with pytest.raises(CatalogRefused, match=grant):
                try_to_publish(place, others)
            with pytest.raises(CatalogRefused, match=grant):
                index(place.store, catalog=others, dataset_id=DATASET)
    finally:
        for statement in ("DROP OWNED BY looker", "DROP ROLE looker"):
            execute(statement)
    assert place.store.written == []


@pytest.mark.parametrize("address", ["sql_server"], indirect=True)
@pytest.mark.parametrize(
    ("denied", "grant"),
    [
        (("INSERT", "UPDATE", "DELETE"), "GRANT INSERT, UPDATE ON datasets TO .*GRANT INSERT, DELETE ON images TO"),
        (("DELETE",), "GRANT DELETE ON images TO .*GRANT DELETE ON annotations TO"),
    ],
)
def test_what_sql_server_denies_is_told_as_grants_before_a_blob_is_written(
    place: Place, sql_server: TdsServer, denied: tuple[str, ...], grant: str
) -> None:
    def fails(statement: str) -> tuple[int, str] | None:
        right = statement.partition(" ")[0]
        return (229, f"The {right} permission was denied on the object.") if right in denied else None

    sql_server.fails = fails
    with pytest.raises(CatalogRefused, match=grant):
        try_to_publish(place)
    assert place.store.written == []


def test_a_read_only_catalog_is_refused_before_a_blob_is_written(place: Place) -> None:
    place.catalog._connection.execute("INSERT INTO catalog_settings (name, value) VALUES ('read_only', 'adopted')")
    with pytest.raises(CatalogError, match="is read-only: its datasets are views"):
        try_to_publish(place)
    assert place.store.written == []


@pytest.mark.parametrize("address", ["sqlite", "sqlite_odbc"], indirect=True)
def test_a_file_that_cannot_be_written_is_told_before_a_blob_is_written(place: Place) -> None:
    # Root, as whom tests may run, writes whatever the file's mode is.
    place.catalog._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(CatalogError, match="make the database writable"):
        try_to_publish(place)
    assert place.store.written == []


@pytest.mark.parametrize("address", ["sqlite", "sqlite_odbc"], indirect=True)
def test_finding_out_leaves_nothing_in_the_catalog(place: Place) -> None:
    before = list(place.catalog._connection.rows("SELECT name, value FROM catalog_settings ORDER BY name"))
    place.catalog.check_writable({})
    assert list(place.catalog._connection.rows("SELECT name, value FROM catalog_settings ORDER BY name")) == before


def store_that_allows(container: Container, **rights: bool) -> WatchedStore:
    token: str = generate_container_sas(
        container.azurite.account,
        container.name,
        account_key=container.azurite.key,
        permission=ContainerSasPermissions(read=True, list=True, **rights),
        expiry=dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1),
    )
    credentials = StoreCredentials(sas_token=token, endpoint=container.azurite.endpoint)
    return WatchedStore(open_store(container.url, credentials=credentials))


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_a_container_that_may_only_be_read_is_told_before_anything_is_read_or_written(
    place: Place, container: Container
) -> None:
    place.store = store_that_allows(container)
    with pytest.raises(StoreRefused, match="AZURE_STORAGE_SAS_TOKEN"):
        try_to_publish(place)
    assert place.store.written == []


@pytest.mark.parametrize("rights", [{"write": True}, {"create": True}, {"write": True, "create": True}])
def test_finding_out_leaves_nothing_in_a_container(container: Container, rights: dict[str, bool]) -> None:
    store = store_that_allows(container, **rights)
    store.check_writable(DATASET)
    with container.azurite.client() as client:
        assert [*client.get_container_client(container.name).list_blobs(include=["uncommittedblobs"])] == []


def test_a_folder_that_may_not_be_written_is_told_and_finding_out_leaves_nothing() -> None:
    # Not pytest's own folder, through which nobody else passes.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(folder.as_uri())
        store.check_writable(DATASET)
        folder.chmod(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(StoreRefused, match="may not be written; have its owner give you"):
                store.check_writable(DATASET)
        finally:
            os.seteuid(before)
            folder.chmod(0o755)
        assert [*folder.iterdir()] == []
