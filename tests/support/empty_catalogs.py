"""Fixtures: an empty catalog of each kind. Files with needs of their own have other fixtures of these names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.stores.opening import open_store
from support.publishing import Place, WatchedStore
from support.services import Database

if TYPE_CHECKING:
    from support.tds_server import TdsServer


def address_of(request: pytest.FixtureRequest, folder: Path) -> tuple[str, str | None]:
    """URL and password of an empty database of the kind that is the request's parameter."""
    if request.param == "sqlite":
        return f"sqlite://{folder}/catalog.db", None
    if request.param == "sql_server":
        server: TdsServer = request.getfixturevalue("sql_server")
        return server.url, server.password
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgresql_database")
        return database.url, database.password
    return request.getfixturevalue("sqlite_odbc_url"), None


@pytest.fixture(params=["sqlite", "postgresql", "sqlite_odbc"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None]:
    """URL and password of an empty database of each kind."""
    return address_of(request, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    """A store that counts what is asked of it, with nothing in it."""
    opened = WatchedStore(open_store((tmp_path / "store").as_uri()))
    opened.create()
    yield opened
    opened.close()


@pytest.fixture
def catalog(address: tuple[str, str | None], store: WatchedStore) -> Iterator[Catalog]:
    """A catalog of each kind, without datasets."""
    with open_catalog(address[0], password=address[1], create=True) as opened:
        opened.initialize(store=store.url)
        yield opened


@pytest.fixture
def place(catalog: Catalog, store: WatchedStore, tmp_path: Path) -> Place:
    """Where to publish from and to, with a catalog of each kind."""
    return Place(catalog, store, tmp_path / "folder")
