"""A catalog in SQL Server from its first day on, through both drivers: made, published to, mounted, changed, copied."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.mounting import Workplace, eventually, write_folder
from support.tds_server import TdsServer

ASLEEP = (40613, "Database 'datasets' on server 'server' is not currently available.")
FIRST, SECOND = "original_20260301_rgb_bbox", "original_20260302_rgb_bbox"


@pytest.mark.parametrize("driver", ["microsoft", "freetds"])
def test_a_catalog_in_sql_server_is_made_published_to_mounted_refreshed_selected_from_and_copied(
    tmp_path: Path, sql_server: TdsServer, driver: str
) -> None:
    url = sql_server.url_with(freetds=driver == "freetds")
    workplace = Workplace(url, tmp_path, {"IMGSYNCFS_PASSWORD": sql_server.password})
    store = tmp_path / "store"
    store.mkdir()
    workplace.run("init", "--store", f"file://{store}")
    folder = write_folder(tmp_path / "one", count=5)
    workplace.run("publish", folder, "--name", FIRST)
    with workplace.mounted() as mountpoint:
        published = {path.name: path.read_bytes() for path in folder.iterdir()}
        shown = {path.name: path.read_bytes() for path in (mountpoint / FIRST).iterdir()}
        assert published.items() <= shown.items()
        workplace.run("publish", write_folder(tmp_path / "two", count=3), "--name", SECOND)
        workplace.run("select", "few", "--dataset", FIRST, "--where", "class=person", "--first", "2")
        workplace.run("refresh", mountpoint)
        assert len(list((mountpoint / SECOND).glob("*.jpg"))) == 3
        assert len(list((mountpoint / ".selections" / "few").glob("*.jpg"))) == 2
    workplace.run("sync", tmp_path / "copy", FIRST)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "copy" / FIRST).iterdir()}
    assert published.items() <= copied.items()


def test_a_mount_waits_for_a_database_that_wakes_up_and_the_next_one_starts_from_what_was_saved(
    tmp_path: Path, sql_server: TdsServer
) -> None:
    workplace = Workplace(sql_server.url, tmp_path, {"IMGSYNCFS_PASSWORD": sql_server.password})
    workplace.run("init", "--store", f"file://{tmp_path}/store")
    workplace.run("publish", write_folder(tmp_path / "one", count=1), "--name", FIRST)
    sleeps = iter([ASLEEP] * 2)
    sql_server.fails = lambda statement: next(sleeps, None) if statement == "LOGIN" else None
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    told = workplace.run("mount", mountpoint, "--refresh", "1").stderr
    assert "The database is waking up" in told
    assert len(list((mountpoint / FIRST).glob("*.jpg"))) == 1
    workplace.run("umount", mountpoint)
    sql_server.fails = lambda statement: ASLEEP if statement == "LOGIN" else None
    began = time.monotonic()
    with workplace.mounted("--refresh", "1") as mountpoint:
        assert time.monotonic() - began < 5
        assert len(list((mountpoint / FIRST).glob("*.jpg"))) == 1
        assert "a database that was paused" in workplace.run("status", mountpoint).stdout
        sql_server.fails = lambda _: None
        assert eventually(lambda: "a database that was paused" not in workplace.run("status", mountpoint).stdout)
