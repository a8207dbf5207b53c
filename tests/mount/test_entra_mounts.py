"""Mounts that log in with Entra ID: at SQL Server, and at a store that takes no key."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from support.certificates import private_authority
from support.mounting import Workplace, eventually, process_ids, write_folder
from support.services import Azurite, start_azurite, stop_azurite
from support.tds_server import TdsServer
from support.token_server import SECRET_HEADER, TokenServer, token_server

DATASET = "original_20260105_rgb_rbbox"


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    """A machine with a managed identity."""
    with token_server() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file with the authority's certificate, and the one with the server's and its key."""
    return private_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure_azurite(tmp_path_factory: pytest.TempPathFactory, authority: tuple[Path, Path]) -> Iterator[Azurite]:
    """An Azurite that takes Entra ID's tokens."""
    folder = tmp_path_factory.mktemp("secure")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGSYNCFS_AZURITE_CERTIFICATE", str(authority[1]))
        azurite = start_azurite(folder)
        yield azurite
        stop_azurite(folder)


@pytest.fixture
def workplace(secure_azurite: Azurite, authority: tuple[Path, Path], tokens: TokenServer, tmp_path: Path) -> Workplace:
    """A catalog whose store has no key in the environment."""
    container = f"test-{uuid.uuid4().hex}"
    with BlobServiceClient(
        secure_azurite.endpoint, credential=secure_azurite.key, connection_verify=str(authority[0])
    ) as client:
        client.create_container(container)
    workplace = Workplace(
        str(tmp_path / "catalog.db"),
        tmp_path,
        {
            **tokens.environment,
            "IMGSYNCFS_AZURE_ENDPOINT": secure_azurite.endpoint,
            "REQUESTS_CA_BUNDLE": str(authority[0]),
        },
    )
    workplace.run("init", "--store", f"azure://{secure_azurite.account}/{container}")
    workplace.run("publish", write_folder(tmp_path / "one", count=20), "--name", DATASET, "--loose")
    return workplace


def test_a_store_is_read_with_a_token_by_processes_that_were_not_started_with_what_gives_one(
    workplace: Workplace, tokens: TokenServer
) -> None:
    with workplace.mounted() as mountpoint:
        shown = (mountpoint / DATASET / "img_00001.jpg").read_bytes()
        environments = [Path(f"/proc/{process}/environ").read_bytes() for process in process_ids(mountpoint)]
    assert shown == (workplace.folder / "one" / "img_00001.jpg").read_bytes()
    assert set(tokens.resources) == {"https://storage.azure.com"}
    assert len(environments) > 2
    assert not [each for each in environments if SECRET_HEADER.encode() in each]


def test_reading_goes_on_when_a_token_has_ended(workplace: Workplace, tokens: TokenServer) -> None:
    tokens.seconds = 2.0
    with workplace.mounted() as mountpoint:
        (mountpoint / DATASET / "img_00001.jpg").read_bytes()
        ends_at = time.time() + tokens.seconds + 1.0
        assert eventually(lambda: time.time() > ends_at)
        shown = (mountpoint / DATASET / "img_00002.jpg").read_bytes()
    assert shown == (workplace.folder / "one" / "img_00002.jpg").read_bytes()


def test_a_store_without_a_token_is_named_with_what_to_do(workplace: Workplace, tokens: TokenServer) -> None:
    tokens.refuses = True
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    refused = workplace.run("mount", mountpoint, status=1).stderr
    assert "logging in with Entra ID failed; run `az login`" in refused


def test_sql_server_is_asked_with_a_token_by_a_process_that_was_not_started_with_what_gives_one(
    sql_server: TdsServer, tokens: TokenServer, tmp_path: Path
) -> None:
    url = f"mssql://127.0.0.1:{sql_server.port}/datasets?auth=entra&Encrypt=no"
    workplace = Workplace(url, tmp_path, dict(tokens.environment))
    workplace.run("init", "--store", f"file://{tmp_path}/store")
    workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", DATASET)
    with workplace.mounted() as mountpoint:
        shown = [path.name for path in (mountpoint / DATASET).iterdir()]
    assert "img_00001.jpg" in shown
    assert sql_server.logins[-1].token in tokens.tokens
