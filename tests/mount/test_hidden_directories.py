"""The hidden directories of a mount: each is made when somebody first looks into it, and is right from then on."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.mounting import Workplace, copy_of, eventually, mount_status, workplace_with

from imgsyncfs.library.branches import BY_COLUMNS
from imgsyncfs.library.views.registry import VIEWS

DATASET = "original_20260105_rgb_rbbox"
LATER = "original_20260106_rgb_rbbox"
MANY = 400

NEVER = ("--refresh", "3600")
"""A mount that does not ask by itself while a test runs."""

HIDDEN = (".by", ".selections", ".subscriptions", ".views")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of `MANY` datasets, of which one has images."""
    workplace = workplace_with(tmp_path_factory.mktemp("prepared"), DATASET, count=2)
    with changing(workplace) as connection:
        _, *columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(datasets)")]
        values = ", ".join({"size": "0"}.get(name, name) for name in columns)
        connection.executemany(
            f"INSERT INTO datasets SELECT ?, {values} FROM datasets WHERE dataset_id = ?",
            ((empty(number), DATASET) for number in range(1, MANY)),
        )
        connection.execute(
            "INSERT INTO dataset_labels (dataset_id, label_version, object_classes, label_values) "
            "SELECT dataset_id, label_version, '[]', '{}' FROM datasets WHERE size = 0"
        )
    return workplace


@pytest.fixture
def workplace(prepared: Workplace, tmp_path: Path) -> Workplace:
    """A copy of it, to be changed."""
    return copy_of(prepared, tmp_path)


@contextlib.contextmanager
def changing(workplace: Workplace) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(workplace.catalog)) as connection, connection:
        yield connection


def empty(number: int) -> str:
    """The id of a dataset without images."""
    return f"opensource_set{number:05}_rgb_rbbox"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def tree(mountpoint: Path) -> dict[str, Any]:
    """What a mount says of its directories."""
    status: dict[str, Any] = mount_status(mountpoint)["tree"]
    return status


def test_each_hidden_directory_is_made_when_somebody_looks_into_it_and_no_other(prepared: Workplace) -> None:
    prepared.run("subscribe", "mine", DATASET)
    with prepared.mounted(*NEVER) as mountpoint:
        for name in HIDDEN:
            assert (mountpoint / name).is_dir()
        nodes, looked_into = tree(mountpoint)["nodes"], []
        # The root, the datasets, the hidden directories and that of the mount itself.
        assert nodes == 1 + MANY + len(HIDDEN) + 1

        def look(path: str, more: int) -> None:
            """Look into a directory: so many nodes are made."""
            nonlocal nodes
            list((mountpoint / path).iterdir())
            nodes += more
            looked_into.append(path)
            assert tree(mountpoint) == {"nodes": nodes, "looked_into": sorted(looked_into)}

        look(".selections", 0)
        look(".views", len(VIEWS))
        look(".subscriptions", 1)
        look(".subscriptions/mine", 1)
        look(".by", len(BY_COLUMNS))
        look(".by/image_type", 1 + MANY)
        look(".views/yolo", MANY)
        # To know a name is to look, as well; to know the directory itself is not.
        assert (mountpoint / ".views" / "coco").is_dir()
        assert tree(mountpoint)["nodes"] == nodes
        assert (mountpoint / ".views" / "coco" / DATASET).is_dir()
        assert not (mountpoint / ".views" / "voc" / "nothing").exists()
        assert tree(mountpoint)["nodes"] == nodes + 2 * MANY


def test_datasets_that_come_and_go_are_seen_whoever_has_looked_before(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        opened, column = mountpoint / ".views" / "yolo", mountpoint / ".by" / "image_type" / "rgb"
        before = names(opened)
        assert before == names(column) == {DATASET, *map(empty, range(1, MANY))}
        assert not (opened / LATER).exists()
        inside = opened / empty(1)
        with changing(workplace) as connection:
            connection.execute("UPDATE datasets SET dataset_id = ? WHERE dataset_id = ?", (LATER, empty(1)))
        looked_into = tree(mountpoint)["looked_into"]
        workplace.run("refresh", mountpoint)
        assert tree(mountpoint)["looked_into"] == looked_into
        after = before - {empty(1)} | {LATER}
        assert (opened / LATER).is_dir()
        assert not inside.exists()
        for folder in (opened, column, mountpoint / ".views" / "coco", mountpoint / ".by" / "source" / "original"):
            assert names(folder) == ({DATASET, LATER} if folder.name == "original" else after)


def test_a_second_selection_is_there_as_soon_as_its_command_has_ended(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        for name in ("one", "two"):
            done = workplace.run("select", name, "--where", "class=person")
            assert f"The mount at {mountpoint} shows it." in done.stdout, done.stderr
            assert (mountpoint / ".selections" / name / f"{DATASET}--img_00000.jpg").is_file()
        assert names(mountpoint / ".selections") == {"one", "two"}
        assert {f"@{name}" for name in ("one", "two")} <= names(mountpoint / ".views" / "yolo")
        assert not any(path.startswith(".by") for path in tree(mountpoint)["looked_into"])


def test_who_takes_a_dead_responders_place_knows_what_was_looked_into(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER, "--responders", "1") as mountpoint:
        before = names(mountpoint / ".views" / "yolo")
        (process, _) = mount_status(mountpoint)["responders"]["process_ids"]
        os.kill(process, signal.SIGKILL)
        assert eventually(lambda: mount_status(mountpoint)["responders"]["replaced"] == 1)
        assert (mountpoint / ".views" / "yolo" / empty(1)).is_dir()
        assert names(mountpoint / ".views" / "labelme") == before
        assert tree(mountpoint)["looked_into"] == [".views", ".views/labelme", ".views/yolo"]
