"""The whole way on the three set-ups: publish, mount, every byte as published, cold and from the cache alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.http_proxy import HttpProxy
from support.mounting import Workplace, store_requests, write_folder
from support.services import Container, Database

DATASET = "original_20260105_rgb_rbbox"


@dataclass(frozen=True)
class SetUp:
    """A catalog and a store that can be taken away.

    Attributes:
        workplace: the catalog.
        stop_store: takes the store away.
    """

    workplace: Workplace
    stop_store: Callable[[], None]


@pytest.fixture(params=["sqlite-local", "postgresql-azurite", "sqlite-odbc-azurite"])
def set_up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SetUp]:
    """One of the three set-ups that users have."""
    if request.param == "sqlite-local":
        store = tmp_path / "store"
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path)
        workplace.run("init", "--store", f"file://{store}")

        def move_away() -> None:
            shutil.move(store, tmp_path / "store-away")

        yield SetUp(workplace, move_away)
        return
    container: Container = request.getfixturevalue("container")
    with HttpProxy(container.azurite.port) as proxy:
        environment = {"AZURE_STORAGE_CONNECTION_STRING": container.azurite.connection_string_through(proxy.port)}
        if request.param == "postgresql-azurite":
            database: Database = request.getfixturevalue("postgresql_database")
            workplace = Workplace(database.url, tmp_path, {**environment, **database.environment})
        else:
            workplace = Workplace(request.getfixturevalue("sqlite_odbc_url"), tmp_path, environment)
        workplace.run("init", "--store", container.url)
        yield SetUp(workplace, proxy.stop)


def test_every_byte_is_as_published_cold_and_then_from_the_cache_with_the_store_away(
    set_up: SetUp, tmp_path: Path
) -> None:
    published = write_folder(tmp_path / "published", count=40)
    set_up.workplace.run("publish", published, "--name", DATASET)
    with set_up.workplace.mounted("--siblings", "none", "--timeout", "5") as mountpoint:
        assert differences(published, mountpoint / DATASET) == ""
        assert store_requests(mountpoint) > 0
    set_up.stop_store()
    with set_up.workplace.mounted("--siblings", "none", "--timeout", "5", name="again") as mountpoint:
        assert differences(published, mountpoint / DATASET) == ""
        assert store_requests(mountpoint) == 0


def test_a_dataset_of_loose_blobs_reads_as_a_packed_one_does(set_up: SetUp, tmp_path: Path) -> None:
    published = write_folder(tmp_path / "published", count=10)
    set_up.workplace.run("publish", published, "--name", DATASET, "--loose")
    with set_up.workplace.mounted("--siblings", "none") as mountpoint:
        assert differences(published, mountpoint / DATASET) == ""


def differences(one: Path, other: Path) -> str:
    """What `diff -r` says."""
    done = subprocess.run(["diff", "-r", str(one), str(other)], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr
