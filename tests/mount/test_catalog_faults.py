"""A mount while its database, or the way to it, fails: what is known goes on, and changes are shown afterwards."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from support.mounting import Workplace, eventually, mount_status, write_folder
from support.services import Database
from support.tcp_proxy import TcpFault, TcpProxy

LISTED = "original_20260105_rgb_rbbox"
NOT_LISTED = "original_20260106_rgb_rbbox"

TIMEOUT = 2.0
REFRESH = 1.0
LATE_SECONDS = 2.0
"""How much longer than the timeout a look may take."""

IMAGES = 100

FAULTS = {
    "connections are refused": TcpFault(refuses=True),
    "nothing passes": TcpFault(hangs=True),
    "each connection ends within an answer": TcpFault(cut_after=100),
    "100 bytes a second": TcpFault(bytes_per_second=100),
}


@dataclass(frozen=True)
class Place:
    """A mount whose database is behind a proxy.

    Attributes:
        direct: its catalog, without the proxy.
        mountpoint: where it is.
        proxy: before the database.
    """

    direct: Workplace
    mountpoint: Path
    proxy: TcpProxy

    def trouble(self) -> str:
        """Why the catalog could not be asked."""
        trouble: str = mount_status(self.mountpoint)["catalog"]["trouble"]
        return trouble


@pytest.fixture
def place(postgresql_database: Database, tmp_path: Path) -> Iterator[Place]:
    port = postgresql_database.postgresql.port
    direct = Workplace(postgresql_database.url, tmp_path, postgresql_database.environment)
    direct.run("init", "--store", f"file://{tmp_path}/store")
    for dataset, count in ((LISTED, IMAGES), (NOT_LISTED, 3)):
        direct.run("publish", write_folder(tmp_path / dataset, count=count), "--name", dataset)
    with TcpProxy(port) as proxy:
        behind = Workplace(direct.catalog.replace(f":{port}/", f":{proxy.port}/"), tmp_path, direct.environment)
        with behind.mounted("--timeout", f"{TIMEOUT:g}", "--refresh", f"{REFRESH:g}") as mountpoint:
            yield Place(direct, mountpoint, proxy)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_while_the_database_fails_what_is_known_goes_on_and_changes_are_shown_after(
    place: Place, fault: TcpFault, tmp_path: Path
) -> None:
    listed = place.mountpoint / LISTED
    assert len(list(listed.iterdir())) == 4 * IMAGES
    with place.proxy.fault(fault):
        assert eventually(lambda: place.trouble() != "")
        began = time.monotonic()
        assert len(list(listed.iterdir())) == 4 * IMAGES
        for image in sorted(listed.glob("*.jpg")):
            assert image.read_bytes() == (tmp_path / LISTED / image.name).read_bytes()
        assert LISTED in {each.name for each in place.mountpoint.iterdir()}
        assert time.monotonic() - began < 1.5
        began = time.monotonic()
        with pytest.raises(OSError) as caught:  # noqa: PT011  # its errno is looked at below
            list((place.mountpoint / NOT_LISTED).iterdir())
        assert caught.value.errno == errno.EIO
        assert time.monotonic() - began < TIMEOUT + LATE_SECONDS
        place.direct.run("publish", write_folder(tmp_path / LISTED, count=IMAGES + 1), "--name", LISTED)
    over = time.monotonic()
    assert eventually(lambda: len(list(listed.iterdir())) == 4 * (IMAGES + 1))
    assert len(list((place.mountpoint / NOT_LISTED).iterdir())) == 12
    # A question that was under way when the fault ended has the timeout to fail.
    assert time.monotonic() - over < TIMEOUT + REFRESH + LATE_SECONDS
    assert place.trouble() == ""
    assert place.proxy.disturbed > 0


def test_whoever_asks_a_silent_database_for_changes_is_told_within_the_timeout(place: Place) -> None:
    refresh = place.mountpoint / ".imgsyncfs" / "refresh"

    def ask() -> tuple[str, float]:
        began = time.monotonic()
        trouble: str = orjson.loads(refresh.read_bytes())["trouble"]
        return trouble, time.monotonic() - began

    assert ask()[0] == ""
    with place.proxy.fault(TcpFault(hangs=True)), ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask)
        # The second one asks while the first question is under way, and would have to wait for both.
        assert eventually(lambda: place.proxy.disturbed > 1)
        for trouble, seconds in (ask(), first.result()):
            assert "answer" in trouble
            assert seconds < TIMEOUT + LATE_SECONDS / 2
