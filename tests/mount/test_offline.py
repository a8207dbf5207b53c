"""Mounts without their servers: with ``--offline`` nobody is asked; what was saved is shown, what is cached is read."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mounting import Workplace, copy_of, local_workplace, mount_status, store_requests, write_folder

PINNED, OTHER = "original_20260105_rgb_rbbox", "original_20260106_rgb_rbbox"

START_SECONDS = 10.0
"""Far from the timeout of 30 s, which nobody is to sit out."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of two datasets."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    for number, dataset in enumerate((PINNED, OTHER)):
        folder = write_folder(workplace.folder / f"folder{number}", count=4, first=10 * number)
        workplace.run("publish", folder, "--name", dataset, "--loose")
    return workplace


@pytest.fixture
def seen(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog, which was mounted once: one dataset is pinned, the other was listed alone."""
    workplace = copy_of(published, tmp_path)
    workplace.run("pin", PINNED)
    with workplace.mounted() as mountpoint:
        list((mountpoint / OTHER).iterdir())
    return workplace


def take_away(workplace: Workplace) -> None:
    """Have catalog and store be elsewhere."""
    Path(workplace.catalog).rename(workplace.folder / "catalog.away")
    (workplace.folder / "store").rename(workplace.folder / "store.away")


def leave_there(_: Workplace) -> None:
    """Have catalog and store stay where they are."""


def contents(folder: Path) -> dict[str, bytes]:
    """All images and annotations of a dataset."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith((".xml", "me.json"))}


@pytest.mark.parametrize("options", [("--offline",), ("-o", "offline"), ()])
def test_without_its_servers_a_mount_comes_up_at_once_shows_what_is_saved_and_reads_what_is_cached(
    seen: Workplace, published: Workplace, options: tuple[str, ...]
) -> None:
    take_away(seen)
    begun = time.monotonic()
    with seen.mounted(*options) as mountpoint:
        assert time.monotonic() - begun < START_SECONDS
        assert {path.name for path in mountpoint.iterdir()} == {PINNED, OTHER}
        expected = {path.name: path.read_bytes() for path in (published.folder / "folder0").iterdir()}
        assert contents(mountpoint / PINNED) == expected
        assert len(list((mountpoint / OTHER).iterdir())) == 16
        assert mount_status(mountpoint)["catalog"]["trouble"]


@pytest.mark.parametrize("servers", [take_away, leave_there])
def test_a_mount_that_is_to_be_offline_asks_nobody(seen: Workplace, servers: Callable[[Workplace], None]) -> None:
    servers(seen)
    with seen.mounted("--offline") as mountpoint:
        contents(mountpoint / PINNED)
        with pytest.raises(OSError, match="Input/output error") as refused:
            (mountpoint / OTHER / "img_00010.jpg").read_bytes()
        assert refused.value.errno == errno.EIO
        assert mount_status(mountpoint)["health"] in {"offline", "failing"}
        assert store_requests(mountpoint) == 0
        told = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    assert "img_00010.jpg" in told
    assert "made to be offline" in told


def test_what_is_published_meanwhile_is_not_shown(seen: Workplace) -> None:
    with seen.mounted("--offline") as mountpoint:
        before = contents(mountpoint / PINNED)
        seen.run("publish", write_folder(seen.folder / "new", count=9), "--name", PINNED, "--loose")
        refreshed = seen.run("refresh", mountpoint, status=1)
        assert "made to be offline" in refreshed.stderr
        assert contents(mountpoint / PINNED) == before


def test_a_catalog_that_was_never_seen_cannot_be_mounted_offline(published: Workplace, tmp_path: Path) -> None:
    workplace = copy_of(published, tmp_path)
    refused = workplace.run("mount", tmp_path / "mnt", "--offline", status=None)
    assert refused.returncode != 0
