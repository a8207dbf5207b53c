"""`imgsyncfs check`: what is there is ticked, what is missing is named with its remedy, and nothing is left behind."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from support.mounting import Workplace, demo_workplace, local_workplace, write_folder
from support.services import Container, Database
from support.tds_server import TdsServer


def found(workplace: Workplace, *options: str, status: int = 0) -> dict[str, list[Any]]:
    """Name of each thing to (state, text) of what was found."""
    things: dict[str, list[Any]] = {}
    for each in json.loads(workplace.run("check", "--json", *options, status=status).stdout):
        things.setdefault(each["name"], []).append((each["state"], each["text"]))
    return things


def test_all_that_a_mount_needs_is_looked_at_and_ticked(tmp_path: Path) -> None:
    demo = demo_workplace(tmp_path)
    lines = demo.run("check").stdout.splitlines()
    assert all(line.startswith(("✓ ", "! ")) for line in lines)
    names = [line[2:].partition(":")[0] for line in lines]
    for name in ("Python", "FUSE", "cache", "catalog", "datasets", "publishing"):
        assert name in names
    assert any("images a second" in line for line in lines)
    assert not (tmp_path / "cache").exists()
    assert not list((tmp_path / "demo").rglob(".imgsyncfs*"))


def test_a_missing_catalog_fails_and_the_rest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path / "no.db"), tmp_path)
    things = found(workplace, status=1)
    assert things["catalog"][0][0] == "bad"
    assert "There is no catalog" in things["catalog"][0][1]
    assert things["FUSE"][0][0] == "good"
    none = found(replace(workplace, catalog=""), status=1)
    assert "No catalog was given" in none["catalog"][0][1]


def test_a_store_that_is_away_and_a_cache_that_others_may_change_are_named(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "cache").mkdir(mode=0o777, exist_ok=True)
    (tmp_path / "cache").chmod(0o777)
    things = found(workplace, status=1)
    assert things[f"store file://{tmp_path}/store"][0][0] == "bad"
    assert things["cache"][0][0] == "bad"
    assert things["catalog"][0][0] == "good"


def signed(container: Container, *, hours: float, write: bool) -> dict[str, str]:
    """Variables with a signature for a container."""
    token = generate_container_sas(
        container.azurite.account,
        container.name,
        account_key=container.azurite.key,
        permission=ContainerSasPermissions(read=True, list=True, write=write, create=write),
        expiry=dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=hours),
        start=dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=9),
    )
    return {"AZURE_STORAGE_SAS_TOKEN": token, "IMGSYNCFS_AZURE_ENDPOINT": container.azurite.endpoint}


def test_rights_and_signatures_of_servers_are_told(
    tmp_path: Path, postgresql_database: Database, container: Container
) -> None:
    owner = Workplace(postgresql_database.url, tmp_path, {**postgresql_database.environment, **container.environment})
    owner.run("init", "--store", container.url)
    owner.run("publish", write_folder(tmp_path / "one", count=2), "--name", "original_20260301_rgb_bbox")
    name = f"store {container.url}"

    def told(*, hours: float, write: bool, status: int = 0) -> str:
        environment = {**postgresql_database.environment, **signed(container, hours=hours, write=write)}
        return str(found(replace(owner, environment=environment), status=status)[name])

    assert "you may not publish" not in told(hours=48, write=True)
    reader = told(hours=2, write=False)
    assert "you may not publish" in reader
    assert "'odd', 'its signature ends at" in reader
    assert "images a second" in reader
    assert "'bad'" in told(hours=-2, write=False, status=1)
    wrong = replace(owner, environment={**container.environment, "IMGSYNCFS_PASSWORD": "wrong"})
    assert "password authentication failed" in found(wrong, status=1)["catalog"][0][1]


@pytest.mark.parametrize("snapshots", [True, False])
def test_what_keeps_readers_of_sql_server_waiting_is_told(
    tmp_path: Path, sql_server: TdsServer, snapshots: bool
) -> None:
    sql_server.settings |= {"is_read_committed_snapshot_on": int(snapshots)}
    workplace = Workplace(sql_server.url, tmp_path, {"IMGSYNCFS_PASSWORD": sql_server.password})
    made = workplace.run("init", "--store", f"file://{tmp_path}/store")
    assert ("READ_COMMITTED_SNAPSHOT ON" in made.stderr) is not snapshots
    things = found(workplace)
    assert ("snapshots" in things) is not snapshots
    assert "Microsoft SQL Server through libmsodbcsql" in things["catalog"][0][1]
