"""The benchmark's servers: Azurite with a log of its requests, PostgreSQL with a log of its statements, a proxy."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import pyodbc
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from azurite_server import ACCESS_LOG_VARIABLE, NODE_FLAGS_VARIABLE
from bench_commands import SCRIPTS, BenchError, run

SERVICE_SECONDS = 120.0
LOG_SECONDS = 10.0
SIGNATURE_LIFE = timedelta(days=1)
BLOB_PATH_PARTS = 3
"""The emulator's paths are /account/container/blob."""

SERVICE_VERSION = "2021-12-02"
"""Of the REST protocol; any that knows what is used here."""

COLLECTOR_FLAGS = "--min-semi-space-size=64 --max-semi-space-size=64 --heap-growing-percent=1000"
"""For Azurite's garbage collector. Without the first two all of the heap was gone through for each 80 MB or so that
were sent (`--trace-gc`), and 16 MiB took 90 ms of the processors' time and not 35, whoever asked for them. Without the
last one the same begins once the heap has become small: 300 MB then took 1.0 to 1.5 s, and take 0.65."""

MARK = "imgsyncfs-bench-mark"
ACCESS_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[\d.]+" (?P<status>\d+)')
STATEMENT_LINE = re.compile(r"LOG:  (?:statement|execute [^:]+): (?P<statement>.*)")


@dataclass(frozen=True)
class Requests:
    """Requests that a server has answered.

    Attributes:
        contents: reads of blobs.
        others: all else: listings, properties, writes.
    """

    contents: int = 0
    others: int = 0

    @property
    def all(self) -> int:
        """Requests of any kind."""
        return self.contents + self.others


def count_requests(lines: Iterable[str]) -> Requests:
    """Count what an access log holds (format "common"); marks of `Azurite.mark` are left out.

    A GET of a blob that is not there is counted as one of the others: it reads nothing.
    """
    contents = others = 0
    for line in lines:
        match = ACCESS_LINE.search(line)
        if match is None or MARK in match["target"]:
            continue
        target = urlsplit(match["target"])
        is_blob = len(target.path.strip("/").split("/", BLOB_PATH_PARTS - 1)) == BLOB_PATH_PARTS
        plain = "comp" not in parse_qs(target.query, keep_blank_values=True)
        if match["method"] == "GET" and is_blob and plain and match["status"].startswith("2"):
            contents += 1
        else:
            others += 1
    return Requests(contents, others)


@dataclass(frozen=True)
class Azurite:
    """A running Azurite that writes an access log."""

    folder: Path
    port: int
    account: str
    key: str = field(repr=False)

    @property
    def content(self) -> Path:
        """The folder with the content of all blobs."""
        return self.folder / "azurite" / "__blobstorage__"

    def connection_string(self, port: int = 0) -> str:
        """What opens it, directly or through a proxy on another port."""
        endpoint = f"http://127.0.0.1:{port or self.port}/{self.account}"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};BlobEndpoint={endpoint};"
        )

    def signature(self) -> str:
        """A SAS that may do everything for a day."""
        return generate_account_sas(
            self.account,
            self.key,
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
            expiry=datetime.now(timezone.utc) + SIGNATURE_LIFE,
        )

    def create(self, container: str) -> None:
        """Make a container; raises BenchError if the server refuses it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SERVICE_SECONDS)
        with contextlib.closing(connection):
            url = f"/{self.account}/{container}?restype=container&{self.signature()}"
            connection.request("PUT", url, headers={"x-ms-version": SERVICE_VERSION})
            answer = connection.getresponse()
            if answer.status != HTTPStatus.CREATED:
                raise BenchError(f"Azurite refused the container {container} with status {answer.status}")

    def put(self, container: str, files: Sequence[tuple[str, Path]]) -> None:
        """Upload files as blobs, one request each over one connection: the SDK and rclone take three times as long.

        Args:
            container: it must be there.
            files: (name of the blob, file).

        Raises:
            BenchError: the server refused one.
        """
        signature = self.signature()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SERVICE_SECONDS)
        with contextlib.closing(connection):
            for name, path in files:
                headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": SERVICE_VERSION}
                url = f"/{self.account}/{container}/{name}?{signature}"
                connection.request("PUT", url, body=path.read_bytes(), headers=headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != HTTPStatus.CREATED:
                    raise BenchError(f"Azurite refused the upload of {name} with status {answer.status}")

    def warm_up(self, container: str, names: Sequence[str]) -> None:
        """Read blobs: a server that was just started takes twice as long for its first thousand answers."""
        signature = self.signature()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SERVICE_SECONDS)
        with contextlib.closing(connection):
            for name in names:
                connection.request("GET", f"/{self.account}/{container}/{name}?{signature}")
                connection.getresponse().read()

    def mark(self) -> int:
        """Wait until all that was asked before is in the log; returns the log's length."""
        word = f"{MARK}-{secrets.token_hex(8)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LOG_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", f"/{self.account}/{word}")
            connection.getresponse().read()
        log = self.folder / "azurite.log"
        deadline = time.monotonic() + LOG_SECONDS
        start = log.stat().st_size
        while time.monotonic() < deadline:
            with log.open("rb") as file:
                # The server writes the line about when it sends the answer: it may have been there already.
                file.seek(max(0, start - 4096))
                if word.encode() in file.read():
                    return log.stat().st_size
            time.sleep(0.002)
        raise BenchError(f"Azurite did not write a request into {log} within {LOG_SECONDS:.0f} s")

    def requests_since(self, mark: int) -> Requests:
        """What was asked since a mark."""
        end = self.mark()
        with (self.folder / "azurite.log").open("rb") as file:
            file.seek(mark)
            return count_requests(file.read(end - mark).decode(errors="replace").splitlines())


@dataclass(frozen=True)
class PostgreSql:
    """A running PostgreSQL server that logs the statements it is asked to execute."""

    folder: Path
    url: str
    password: str = field(repr=False)

    def log_length(self) -> int:
        """How much it has logged; a statement is in the log before it is answered."""
        return (self.folder / "postgresql.log").stat().st_size

    def statements_since(self, length: int) -> list[str]:
        """The statements since the log had this length."""
        with (self.folder / "postgresql.log").open("rb") as file:
            file.seek(length)
            text = file.read().decode(errors="replace")
        return [match["statement"] for match in STATEMENT_LINE.finditer(text)]


@contextlib.contextmanager
def running_azurite(folder: Path) -> Iterator[Azurite]:
    """Azurite for as long as the block runs; it looks blobs up by their names (see `bench_azurite_index.cjs`)."""
    node_options = f"{os.environ.get('NODE_OPTIONS', '')} --require {SCRIPTS / 'bench_azurite_index.cjs'}"
    variables = {
        ACCESS_LOG_VARIABLE: "1",
        NODE_FLAGS_VARIABLE: COLLECTOR_FLAGS,
        "NODE_OPTIONS": node_options.strip(),
    }
    with _running(folder, "azurite", variables) as server:
        yield Azurite(folder, server["port"], server["account"], server["key"])


@contextlib.contextmanager
def running_postgresql(folder: Path) -> Iterator[PostgreSql]:
    """PostgreSQL for as long as the block runs."""
    with _running(folder, "postgresql", {}) as server:
        driver = next((name for name in pyodbc.drivers() if name.startswith("PostgreSQL Unicode")), None)
        if driver is None:
            raise BenchError("no ODBC driver for PostgreSQL is installed; run: scripts/services install")
        address = f"Server=127.0.0.1;Port={server['port']};Database={server['database']};Uid={server['user']}"
        connection = pyodbc.connect(f"Driver={driver};{address};Pwd={server['password']}", autocommit=True)
        with contextlib.closing(connection):
            # Holds for every session from the next one on.
            connection.execute(f"ALTER ROLE {server['user']} SET log_statement = 'all'")
        yield PostgreSql(folder, server["url"], server["password"])


@contextlib.contextmanager
def _running(folder: Path, name: str, variables: dict[str, str]) -> Iterator[dict[str, Any]]:
    services = SCRIPTS / "services"
    try:
        run([services, "start", folder, "--only", name], {**os.environ, **variables}, seconds=SERVICE_SECONDS)
        yield json.loads((folder / "services.json").read_text())[name]
    finally:
        if (folder / "services.json").exists():
            run([services, "stop", folder, "--only", name], os.environ, seconds=SERVICE_SECONDS)


@dataclass(frozen=True)
class Delay:
    """A running proxy that adds a delay to what is sent to a server.

    Attributes:
        port: the proxy's own.
        seconds: the delay.
        orders: takes another one, a line each.
        answers: gives it back when it holds.
    """

    port: int
    seconds: float
    orders: IO[str] = field(repr=False)
    answers: IO[str] = field(repr=False)

    @contextlib.contextmanager
    def prolonged(self, seconds: float) -> Iterator[None]:
        """Another delay for what is sent within the block."""
        self._order(seconds)
        try:
            yield
        finally:
            self._order(self.seconds)

    def _order(self, seconds: float) -> None:
        self.orders.write(f"{seconds:g}\n")
        self.orders.flush()
        if not self.answers.readline():
            raise BenchError("the proxy that adds a delay has ended")


@contextlib.contextmanager
def running_delay(port: int, seconds: float) -> Iterator[Delay]:
    """A proxy that adds a delay to what is sent to a port, for as long as the block runs."""
    process = subprocess.Popen(
        [sys.executable, SCRIPTS / "bench_delay.py", str(port), f"{seconds:g}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdin is not None  # Popen was given PIPE
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise BenchError("the proxy that adds a delay did not start")
            yield Delay(int(line), seconds, process.stdin, process.stdout)
        finally:
            process.kill()
