"""A mount that has been here before comes up at once, also where its database and its store hang."""

from __future__ import annotations

import time
from pathlib import Path

from support.mounting import Workplace, eventually, write_folder
from support.services import Container, Database
from support.tcp_proxy import TcpFault, TcpProxy

FIRST, SECOND = "original_20260301_rgb_bbox", "original_20260302_rgb_bbox"


def test_with_a_database_and_a_store_that_hang_a_mount_comes_up_at_once_and_catches_up_when_they_answer(
    tmp_path: Path, postgresql_database: Database, container: Container
) -> None:
    port, azurite = postgresql_database.postgresql.port, container.azurite
    with TcpProxy(port) as database, TcpProxy(azurite.port) as store:
        secrets = {
            **postgresql_database.environment,
            "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string_through(store.port),
        }
        workplace = Workplace(postgresql_database.url.replace(f":{port}/", f":{database.port}/"), tmp_path, secrets)
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=1), "--name", FIRST)
        with workplace.mounted() as mountpoint:
            expected = (mountpoint / FIRST / "img_00000.jpg").read_bytes()
        workplace.run("publish", write_folder(tmp_path / "two", count=1), "--name", SECOND)
        with database.fault(TcpFault(hangs=True)), store.fault(TcpFault(hangs=True)):
            mountpoint.mkdir(exist_ok=True)
            began = time.monotonic()
            told = workplace.run("mount", mountpoint, "--timeout", "20", "--refresh", "3600").stderr
            # Each is waited for for a second; the machine may be busy.
            assert time.monotonic() - began < 10
            assert "did not answer within 1 s" in told
            assert (mountpoint / FIRST / "img_00000.jpg").read_bytes() == expected
        try:
            # The question that was not waited for is answered now, long before the next refresh.
            assert eventually((mountpoint / SECOND).is_dir)
        finally:
            workplace.run("umount", mountpoint)
