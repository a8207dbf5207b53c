"""A catalog in SQL Server from its first day on, through both drivers: made, published to, mounted, changed, copied."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.mounting import Workplace, write_folder
from support.tds_server import TdsServer

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
