"""A publish whose connection to the database is dropped: by a firewall as it uploads, or by a server that ends."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from support.mounting import write_folder
from support.services import Database
from support.tcp_proxy import TcpFault, TcpProxy

from imgsyncfs.catalog import open_catalog
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.folder import publish

DATASET = "original_20260105_rgb_rbbox"
IMAGES = 5


class Dropping:
    """A progress that has all connections end when a part of the work begins.

    Args:
        proxy: that they go through.
        part: the name of it.
    """

    def __init__(self, proxy: TcpProxy, part: str) -> None:
        self._proxy = proxy
        self._part = part
        self.seen: list[str] = []

    def phase(self, name: str, total: int | None, unit: str) -> None:  # noqa: ARG002  # what is reported to
        self.seen.append(name)
        if name == self._part:
            with self._proxy.fault(TcpFault(refuses=True)):
                pass

    def advance(self, count: int) -> None:
        pass


@pytest.mark.postgresql
@pytest.mark.parametrize("part", ["Checking", "Uploading", "Writing the catalog"])
def test_a_connection_that_is_dropped_during_a_publish_is_opened_again(
    postgresql_database: Database, tmp_path: Path, part: str
) -> None:
    port = postgresql_database.postgresql.port
    folder, store_url = write_folder(tmp_path / "one", count=IMAGES), f"file://{tmp_path}/store"
    (tmp_path / "store").mkdir()
    with TcpProxy(port) as proxy:
        url = postgresql_database.url.replace(f":{port}/", f":{proxy.port}/")
        with (
            open_catalog(url, password=postgresql_database.password) as catalog,
            closing(open_store(store_url)) as store,
        ):
            catalog.initialize(store=store_url)
            progress = Dropping(proxy, part)
            summary = publish(folder, catalog=catalog, store=store, dataset_id=DATASET, progress=progress)
            assert part in progress.seen
            row = catalog.dataset(DATASET)
    assert row is not None
    assert (row.revision, summary.images) == (1, IMAGES)
