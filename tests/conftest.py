"""Fixtures that many tests share: the real servers, and something fresh for each test in them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.examples import EXAMPLES
from support.promises import TESTS, held
from support.services import (
    Azurite,
    Container,
    Database,
    PostgreSql,
    odbc_driver,
    run_services,
    start_azurite,
    start_postgresql,
)

if TYPE_CHECKING:
    from support.tds_server import TdsServer

pytest_plugins = ["support.divided_dataset", "support.empty_catalogs"]

# These layers are no part of everything. The layer tools has an environment of its own, with PyTorch.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["tools/*"]
collect_ignore_glob += [f"{layer}/*" for layer in ("faults", "machines") if os.environ.get("IMGSYNCFS_LAYER") != layer]

# No example fails for being slow: the machine may be busy.
settings.register_profile("usual", deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usual")


@pytest.fixture(autouse=True, scope="session")
def _signals_are_not_ignored() -> Iterator[None]:
    """With `nohup scripts/test`, or `scripts/test &`, commands and mounts would ignore these signals as well."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGHUP, signal.SIGINT)]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """Where the run's servers keep their files; at the end they are stopped and the folder is gone."""
    folder = Path(tempfile.mkdtemp(prefix="imgsyncfs-services-"))
    folder.chmod(0o711)  # PostgreSQL, as a user of its own where the tests run as root, must be able to pass through
    yield folder
    if (folder / "services.json").exists():
        run_services("stop", folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def azurite(services_folder: Path) -> Azurite:
    """The run's Azurite, started when the first test asks for it."""
    return start_azurite(services_folder)


@pytest.fixture(scope="session")
def postgresql(services_folder: Path) -> PostgreSql:
    """The run's PostgreSQL server, started when the first test asks for it."""
    return start_postgresql(services_folder)


@pytest.fixture
def container(azurite: Azurite) -> Container:
    """A fresh container in Azurite."""
    name = f"test-{uuid.uuid4().hex}"
    with azurite.client() as client:
        client.create_container(name)
    return Container(
        azurite=azurite,
        name=name,
        url=f"azure://{azurite.account}/{name}",
        environment={"AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string},
    )


@pytest.fixture
def postgresql_database(postgresql: PostgreSql) -> Iterator[Database]:
    """A fresh database in PostgreSQL, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    with postgresql.connection() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield Database(
        postgresql=postgresql,
        name=name,
        url=f"postgresql://{postgresql.user}@127.0.0.1:{postgresql.port}/{name}",
        password=postgresql.password,
        environment={"IMGSYNCFS_PASSWORD": postgresql.password},
    )
    with postgresql.connection() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_odbc_url(tmp_path: Path) -> str:
    """The catalog URL of a SQLite file that is reached through ODBC; the file is not there yet."""
    # Timeout: how many milliseconds a statement waits for another connection's lock.
    return f"odbc:Driver={odbc_driver('SQLite3')};Database={tmp_path / 'catalog.db'};Timeout=5000"


@pytest.fixture
def sql_server(tmp_path: Path) -> Iterator[TdsServer]:
    """A server that speaks as SQL Server does, with an empty database."""
    # Late: the layer unit does without what this needs.
    from support.tds_server import tds_server

    with tds_server(tmp_path / "datasets.db") as server:
        yield server


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount of the demo's datasets and of the generated images with annotations of all label types; is only read."""
    # Late: few tests wait for what this needs.
    from support.generated_dataset import mounted_with_demo

    with mounted_with_demo(tmp_path_factory.mktemp("views")) as mountpoint:
        yield mountpoint


SERVERS = {
    "azurite": "azurite",
    "container": "azurite",
    "postgresql": "postgresql",
    "postgresql_database": "postgresql",
}
"""Fixture to the mark of what it needs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need, and begin with what takes long.

    Two run at a time, and the run would else end with one of two minutes alone.
    """
    holding = {name for tests in held().values() for name in tests}
    for item in items:
        if f"{item.path.relative_to(TESTS)}::{getattr(item, 'originalname', item.name)}" in holding:
            item.add_marker("semantics")
        for mark in {SERVERS[name] for name in SERVERS.keys() & set(getattr(item, "fixturenames", ()))}:
            item.add_marker(mark)
        if item.path.parent.name in {"mount", "soak"}:
            item.add_marker("mount")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
