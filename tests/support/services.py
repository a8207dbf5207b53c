"""The servers of ``scripts/services``, typed, for tests: a server that cannot be started is an error, never a skip."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyodbc
from azure.storage.blob import BlobServiceClient

from support.places import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "services"
COMMAND_SECONDS = 110.0
REMEDY = "run: scripts/services install"


class ServicesError(Exception):
    """A command of ``scripts/services`` failed; the message is what it said."""


@dataclass(frozen=True)
class Azurite:
    """A running Azurite.

    Attributes:
        folder: what ``scripts/services`` was given.
        pid: the process that was started; another one after ``stopped()``.
    """

    folder: Path
    pid: int
    port: int
    account: str
    endpoint: str
    key: str = field(repr=False)
    connection_string: str = field(repr=False)

    def client(self) -> BlobServiceClient:
        """A new client that may do all; close it, or use it as a context manager."""
        return BlobServiceClient.from_connection_string(self.connection_string, retry_total=0)

    def connection_string_through(self, port: int) -> str:
        """The connection string for a proxy on another loopback port."""
        return self.connection_string.replace(f"127.0.0.1:{self.port}/", f"127.0.0.1:{port}/")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops the server for the length of a ``with`` block; afterwards it is there again, with port and content."""
        run_services("stop", self.folder, only="azurite")
        try:
            yield
        finally:
            run_services("start", self.folder, only="azurite")


@dataclass(frozen=True)
class PostgreSql:
    """A running PostgreSQL server."""

    folder: Path
    pid: int
    port: int
    user: str
    database: str
    url: str
    password: str = field(repr=False)

    @contextlib.contextmanager
    def connection(self, database: str = "", password: str = "") -> Iterator[Any]:
        """A pyodbc connection in autocommit mode, closed at the end of the ``with`` block.

        Args:
            database: the server's first one if empty.
            password: the right one if empty.
        """
        parts = {
            "Driver": odbc_driver("PostgreSQL Unicode"),
            "Server": "127.0.0.1",
            "Port": str(self.port),
            "Database": database or self.database,
            "Uid": self.user,
            "Pwd": password or self.password,
        }
        connection = pyodbc.connect(";".join(f"{name}={value}" for name, value in parts.items()), autocommit=True)
        try:
            yield connection
        finally:
            connection.close()


@dataclass(frozen=True)
class Container:
    """A fresh, empty container in Azurite.

    Attributes:
        url: its store URL.
        environment: the variables with which imgsyncfs may use it.
    """

    azurite: Azurite
    name: str
    url: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Database:
    """A fresh, empty database in PostgreSQL.

    Attributes:
        url: its catalog URL, without the password.
        environment: the variables with which imgsyncfs may use it.
    """

    postgresql: PostgreSql
    name: str
    url: str
    password: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)


def run_services(command: str, folder: Path, *, only: str = "") -> None:
    """Runs ``scripts/services start`` or ``stop`` on a folder; raises ServicesError with what it said if it fails."""
    options = ["--only", only] if only else []
    done = subprocess.run(
        [SCRIPT, command, folder, *options], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode != 0:
        raise ServicesError(done.stderr.strip())


def start_azurite(folder: Path) -> Azurite:
    """Starts Azurite in the folder, or finds the one that runs there."""
    run_services("start", folder, only="azurite")
    return Azurite(folder=folder, **json.loads((folder / "services.json").read_text())["azurite"])


def stop_azurite(folder: Path) -> None:
    """Stops the Azurite of the folder."""
    run_services("stop", folder, only="azurite")


def start_postgresql(folder: Path) -> PostgreSql:
    """Starts PostgreSQL in the folder, or finds the one that runs there."""
    run_services("start", folder, only="postgresql")
    return PostgreSql(folder=folder, **json.loads((folder / "services.json").read_text())["postgresql"])


def odbc_driver(name: str) -> str:
    """The ODBC driver registered as ``name``, or under a longer name that begins so; ServicesError if there is none."""
    drivers: list[str] = pyodbc.drivers()
    for driver in sorted(drivers, key=len):
        if driver.startswith(name):
            return driver
    raise ServicesError(f"no ODBC driver {name} is installed (there are: {', '.join(drivers) or 'none'}); {REMEDY}")
