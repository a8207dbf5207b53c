"""A mount of a catalog on a server asks its store whether anything has changed, and the database only then."""

from __future__ import annotations

from pathlib import Path

from support.mounting import Workplace, eventually, mount_status, write_folder
from support.services import Container, Database
from support.tcp_proxy import TcpProxy

FIRST, SECOND = "original_20260301_rgb_bbox", "original_20260302_rgb_bbox"


def test_changes_made_elsewhere_are_seen_by_a_mark_in_the_store_and_nothing_else_is_asked_of_the_database(
    tmp_path: Path, postgresql_database: Database, container: Container
) -> None:
    secrets = {**postgresql_database.environment, **container.environment}
    elsewhere = Workplace(postgresql_database.url, tmp_path / "elsewhere", secrets)
    elsewhere.run("init", "--store", container.url)
    elsewhere.run("publish", write_folder(tmp_path / "one", count=1), "--name", FIRST)
    port = postgresql_database.postgresql.port
    with TcpProxy(port) as proxy:
        here = Workplace(postgresql_database.url.replace(f":{port}/", f":{proxy.port}/"), tmp_path / "here", secrets)
        here.folder.mkdir()
        with here.mounted("--refresh", "0.2") as mountpoint:

            def has_refreshed(since: int) -> bool:
                return int(mount_status(mountpoint)["catalog"]["read_at"]) > since

            assert (mountpoint / FIRST / "img_00000.jpg").read_bytes()
            # The first one asks the database; its session ends some seconds later.
            before = mount_status(mountpoint)["catalog"]["read_at"]
            assert eventually(lambda: has_refreshed(before + 6))
            quiet, since = proxy.byte_count, mount_status(mountpoint)["catalog"]["read_at"]
            assert eventually(lambda: has_refreshed(since + 1))
            assert proxy.byte_count == quiet
            elsewhere.run("publish", write_folder(tmp_path / "two", count=1), "--name", SECOND)
            assert eventually((mountpoint / SECOND).is_dir)
            assert proxy.byte_count > quiet
            elsewhere.run("select", "few", "--dataset", FIRST)
            assert eventually((mountpoint / ".selections" / "few").is_dir)


def marks(container: Container) -> list[str]:
    with container.azurite.client() as client:
        listed = client.get_container_client(container.name).list_blobs(name_starts_with=".imgsyncfs/")
        return [blob.name for blob in listed]


def test_a_catalog_whose_datasets_others_change_gets_no_mark(
    tmp_path: Path, postgresql_database: Database, container: Container
) -> None:
    secrets = {**postgresql_database.environment, **container.environment}
    workplace = Workplace(postgresql_database.url, tmp_path, secrets)
    workplace.run("init", "--store", container.url)
    workplace.run("publish", write_folder(tmp_path / "one", count=1), "--name", FIRST)
    assert len(marks(container)) == 1
    with container.azurite.client() as client:
        client.get_blob_client(container.name, marks(container)[0]).delete_blob()
    with postgresql_database.postgresql.connection(postgresql_database.name) as connection:
        connection.execute("INSERT INTO catalog_settings (name, value) VALUES ('read_only', 'yes')")
    workplace.run("subscribe", "mine", FIRST)
    assert marks(container) == []
