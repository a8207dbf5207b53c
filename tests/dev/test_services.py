"""The real servers that other tests rely on, and the proxy that stands in front of Azurite."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyodbc
import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError
from azure.storage.blob import BlobServiceClient, ContainerClient
from support.http_proxy import Fault, HttpProxy
from support.services import (
    SCRIPT,
    Azurite,
    Container,
    Database,
    PostgreSql,
    ServicesError,
    run_services,
    start_azurite,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for servers of the test's own."""
    with tempfile.TemporaryDirectory(prefix="imgsyncfs-services-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
        if (folder / "services.json").exists():
            run_services("stop", folder)


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[HttpProxy]:
    """A started proxy in front of the run's Azurite."""
    with HttpProxy(azurite.port) as proxy:
        yield proxy


def through(proxy: HttpProxy, container: Container) -> ContainerClient:
    """A client of the container whose requests go through the proxy and are not repeated."""
    connection_string = container.azurite.connection_string_through(proxy.port)
    return ContainerClient.from_connection_string(connection_string, container.name, retry_total=0)


def processes_that_name(folder: Path) -> list[str]:
    """The command lines, of all processes, that name the folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(folder) in arguments:
            lines.append(arguments.replace(b"\0", b" ").decode())
    return lines


def state_of(folder: Path) -> dict[str, dict[str, object]]:
    """What ``services.json`` says."""
    state: dict[str, dict[str, object]] = json.loads((folder / "services.json").read_text())
    return state


def test_stopped_servers_leave_no_process_and_come_back_with_the_same_address_and_password(folder: Path) -> None:
    run_services("start", folder)
    first = state_of(folder)
    assert len(processes_that_name(folder)) == 2
    run_services("start", folder)
    assert state_of(folder) == first, "starting twice keeps the servers that run"

    run_services("stop", folder)
    assert processes_that_name(folder) == []
    assert [server["pid"] for server in state_of(folder).values()] == [None, None]

    run_services("start", folder)
    second = state_of(folder)
    assert {name: {**server, "pid": 0} for name, server in second.items()} == {
        name: {**server, "pid": 0} for name, server in first.items()
    }
    run_services("stop", folder)
    assert processes_that_name(folder) == []


def test_azurite_keeps_its_content_over_a_stop_while_clients_are_connected(container: Container) -> None:
    with container.azurite.client() as client:
        blob = client.get_blob_client(container.name, "kept")
        blob.upload_blob(b"content")
        with container.azurite.stopped(), pytest.raises(ServiceRequestError):
            blob.download_blob()
        assert blob.download_blob().readall() == b"content"


def test_the_exports_that_start_prints_are_shell_text(folder: Path) -> None:
    script = 'eval "$("$0" start "$1")" && printf "%s\\n" "$AZURE_STORAGE_CONNECTION_STRING" "$IMGSYNCFS_CATALOG"'
    command = ["bash", "-euc", script, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    state = state_of(folder)
    assert done.stdout.splitlines() == [state["azurite"]["connection_string"], state["postgresql"]["url"]]


def test_what_holds_keys_is_readable_by_its_owner_alone(azurite: Azurite) -> None:
    assert stat.S_IMODE((azurite.folder / "services.json").stat().st_mode) == 0o600
    assert azurite.key not in repr(azurite)


def test_azurite_refuses_a_wrong_key(azurite: Azurite) -> None:
    wrong = azurite.connection_string.replace(azurite.key, "A" * 86 + "==")
    with (
        BlobServiceClient.from_connection_string(wrong, retry_total=0) as client,
        pytest.raises(HttpResponseError) as refusal,
    ):
        list(client.list_containers())
    assert refusal.value.status_code == 403


def test_postgresql_refuses_a_wrong_password(postgresql: PostgreSql) -> None:
    with (
        pytest.raises(pyodbc.Error, match="password authentication failed"),
        postgresql.connection(password="not the one"),
    ):
        pass


def test_a_process_id_that_now_belongs_to_another_program_is_left_alone(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            (folder / "services.json").write_text(json.dumps({"azurite": {"pid": stranger.pid, "port": 20000}}))
            run_services("stop", folder)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_server_that_dies_at_start_is_an_error_with_the_end_of_its_log(folder: Path) -> None:
    (folder / "postgresql").mkdir()
    (folder / "postgresql" / "PG_VERSION").write_text("7.4\n")
    with pytest.raises(ServicesError, match="ended at start with code 2") as failure:
        run_services("start", folder)
    assert "could not access the server configuration file" in str(failure.value)
    assert processes_that_name(folder) == [], "neither is the other server left running"


def test_a_port_that_another_program_took_meanwhile_is_an_error_that_says_so(azurite: Azurite, folder: Path) -> None:
    taken = {**state_of(azurite.folder)["azurite"], "pid": None}
    (folder / "services.json").write_text(json.dumps({"azurite": taken}))
    with pytest.raises(ServicesError, match=f"port {azurite.port} is taken by another program"):
        start_azurite(folder)


def test_a_server_that_is_not_installed_is_an_error_that_says_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "empty"))
    with pytest.raises(ServicesError, match="is not installed; run: scripts/services install"):
        start_azurite(folder)


def test_stopping_where_nothing_was_started_is_an_error(folder: Path) -> None:
    with pytest.raises(ServicesError, match="no server was ever started"):
        run_services("stop", folder)


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_database_and_a_container_that_nobody_used(
    postgresql_database: Database, container: Container, turn: int
) -> None:
    with postgresql_database.postgresql.connection(postgresql_database.name) as connection:
        connection.execute("CREATE TABLE used (turn integer)")
        connection.execute("INSERT INTO used VALUES (?)", turn)
        assert connection.execute("SELECT turn FROM used").fetchall()[0][0] == turn
    with container.azurite.client() as client:
        blobs = client.get_container_client(container.name)
        blobs.upload_blob("used", b"")
        assert [blob.name for blob in blobs.list_blobs()] == ["used"]


def test_sqlite_is_reached_through_odbc(sqlite_odbc_url: str) -> None:
    connection = pyodbc.connect(sqlite_odbc_url.removeprefix("odbc:"), autocommit=True)
    try:
        connection.execute("CREATE TABLE one (number integer)")
        connection.execute("INSERT INTO one VALUES (?)", 7)
        assert connection.execute("SELECT number FROM one").fetchone()[0] == 7
    finally:
        connection.close()


def test_the_proxy_passes_content_both_ways_and_counts_the_requests(proxy: HttpProxy, container: Container) -> None:
    content = os.urandom(9_000_000)  # the client uploads and downloads that in pieces
    with through(proxy, container) as client:
        client.upload_blob("large &?", content)
        assert [(blob.name, blob.size) for blob in client.list_blobs()] == [("large &?", len(content))]
        proxy.forget()
        assert client.download_blob("large &?", offset=5, length=7).readall() == content[5:12]
        assert [(request.method, request.path.split("?")[0]) for request in proxy.requests] == [
            ("GET", f"/{container.azurite.account}/{container.name}/large%20%26%3F")
        ]
        assert client.download_blob("large &?", max_concurrency=4).readall() == content
        assert client.get_blob_client("large &?").exists()
        assert proxy.count("HEAD", container.name) == 1
        assert proxy.count("GET") == proxy.count() - 1
        assert proxy.count("PUT") == 0


def test_the_proxy_answers_other_requests_while_it_delays_some(proxy: HttpProxy, container: Container) -> None:
    with through(proxy, container) as client:
        readers = [threading.Thread(target=client.get_container_properties) for _ in range(4)]
        with proxy.fault(Fault(delay=60, count=len(readers))):
            for reader in readers:
                reader.start()
            proxy.wait_for_requests(len(readers))
            client.get_container_properties()
            assert all(reader.is_alive() for reader in readers)
        for reader in readers:
            reader.join(30)  # the fault is lifted, so they are answered now
        assert not any(reader.is_alive() for reader in readers)


def test_a_delayed_answer_comes_after_the_delay(proxy: HttpProxy, container: Container) -> None:
    with through(proxy, container) as client, proxy.fault(Fault(delay=0.3)):
        began = time.monotonic()
        assert client.get_container_properties().name == container.name
        assert time.monotonic() - began >= 0.3


def test_a_request_that_the_proxy_holds_ends_when_the_fault_is_lifted(proxy: HttpProxy, container: Container) -> None:
    errors: list[AzureError] = []

    def ask() -> None:
        try:
            client.get_container_properties()
        except AzureError as error:
            errors.append(error)

    with through(proxy, container) as client:
        asking = threading.Thread(target=ask)
        with proxy.fault(Fault(hold=True)):
            asking.start()
            proxy.wait_for_requests(1)
            asking.join(0.2)
            assert asking.is_alive()
        asking.join(30)
        assert len(errors) == 1
        assert client.get_container_properties().name == container.name


def test_the_proxy_refuses_with_a_status_as_often_as_it_was_told(proxy: HttpProxy, container: Container) -> None:
    with through(proxy, container) as client:
        client.upload_blob("blob", b"content")
        proxy.set_fault(Fault(status=503, methods=frozenset({"GET"}), count=1))
        assert client.get_blob_client("blob").get_blob_properties().size == 7
        with pytest.raises(HttpResponseError) as refusal:
            client.download_blob("blob")
        assert refusal.value.status_code == 503
        assert client.download_blob("blob").readall() == b"content"


def test_the_proxy_cuts_an_answer_midway(proxy: HttpProxy, container: Container) -> None:
    with through(proxy, container) as client:
        client.upload_blob("blob", bytes(500_000))
        with proxy.fault(Fault(cut_after=100_000)), pytest.raises(HttpResponseError, match="100000 bytes read"):
            client.download_blob("blob").readall()
        assert client.download_blob("blob").readall() == bytes(500_000)


def test_a_stopped_proxy_refuses_connections_and_starts_again_on_its_port(
    proxy: HttpProxy, container: Container
) -> None:
    with through(proxy, container) as client:
        assert client.exists()
        proxy.stop()
        with pytest.raises(ServiceRequestError, match="refused"):
            client.exists()
        proxy.start()
        assert client.exists()
