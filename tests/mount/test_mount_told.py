"""Who changes a catalog sees the mounts of this machine show it, and anyone can have a mount look now."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.mounting import Workplace, local_workplace, mount_status, workplace_with, write_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

DATASET = "original_20260401_rgb_rbbox"
OTHER = "original_20260402_rgb_rbbox"

NEVER = ("--refresh", "3600")
"""A mount that does not ask by itself while a test runs."""


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=2)


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Have a process do nothing for as long as the block runs."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_publish_says_which_mounts_show_it_and_they_do(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        assert not (mountpoint / OTHER).exists()
        done = workplace.run("publish", write_folder(tmp_path / "second", count=3), "--name", OTHER)
        assert f"The mount at {mountpoint} shows it." in done.stdout
        assert len(list((mountpoint / OTHER).glob("*.jpg"))) == 3


def test_a_publish_that_changes_nothing_tells_nobody(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER):
        done = workplace.run("publish", tmp_path / "one", "--name", DATASET)
        assert "The mount at" not in done.stdout + done.stderr


def test_a_new_subscription_is_there_at_once_and_one_forgotten_is_gone(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        place = mountpoint / ".subscriptions" / "mine" / DATASET
        assert not place.exists()
        workplace.run("subscribe", "mine", DATASET)
        assert place.is_dir()
        workplace.run("subscriptions", "mine", "--remove")
        assert not place.exists()


def test_mounts_of_other_catalogs_are_not_told(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    elsewhere = local_workplace(tmp_path / "elsewhere")
    with workplace.mounted(*NEVER):
        done = elsewhere.run("publish", tmp_path / "one", "--name", DATASET)
        assert "The mount at" not in done.stdout + done.stderr


def test_a_mount_that_hangs_does_not_keep_publish_waiting(workplace: Workplace, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "second", count=1)
    with workplace.mounted(*NEVER) as mountpoint, stopped(mount_status(mountpoint)["process_id"]):
        done = workplace.run("publish", folder, "--name", OTHER)
    assert f"the mount at {mountpoint} shows it after its next refresh: it did not answer within 5 s" in done.stderr


@pytest.mark.parametrize("named", [True, False])
def test_refresh_has_a_mount_show_what_the_catalog_says(workplace: Workplace, tmp_path: Path, named: bool) -> None:
    # Published by another machine: nobody tells the mount.
    with workplace.mounted(*NEVER) as mountpoint:
        unseen = Workplace(workplace.catalog, tmp_path, {"PATH": os.environ["PATH"]})
        folder = write_folder(tmp_path / "second", count=1)
        unseen.run("publish", folder, "--name", OTHER, under=("unshare", "--mount", "sh", "-c", UNSEEN, "sh"))
        assert not (mountpoint / OTHER).exists()
        # Other tests may have mounts that end just now.
        done = workplace.run("refresh", *([mountpoint] if named else []), status=0 if named else None)
        assert f"{mountpoint} shows what the catalog says." in done.stdout
        assert (mountpoint / OTHER).is_dir()


UNSEEN = 'umount -l -a -t fuse.imgsyncfs; exec "$@"'
"""Runs a command in a namespace without our mounts."""


def test_refresh_says_why_the_catalog_cannot_be_asked(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        catalog = Path(workplace.catalog)
        catalog.rename(catalog.with_suffix(".away"))
        done = workplace.run("refresh", mountpoint, status=1)
        catalog.with_suffix(".away").rename(catalog)
    assert f"{mountpoint} could not be refreshed: " in done.stderr


def test_refresh_of_a_place_where_nothing_is_mounted_says_so(workplace: Workplace, tmp_path: Path) -> None:
    assert "Nothing is mounted at" in workplace.run("refresh", tmp_path, status=1).stderr


def test_refresh_is_not_listed_so_that_nobody_asks_by_walking(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        assert "refresh" not in os.listdir(mountpoint / ".imgsyncfs")  # noqa: PTH208  # as programs do that walk
