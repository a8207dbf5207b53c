"""One odd row of a catalog: it is hidden or fails by itself and is named, and all others are there."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from support.api_setup import work_in
from support.mounting import Workplace, copy_of, eventually, local_workplace, write_folder
from support.services import Container

import imgsyncfs

GOOD = "original_20260105_rgb_rbbox"
ODD = "original_20260106_rgb_rbbox"


def execute(workplace: Workplace, sql: str, *parameters: object) -> None:
    """Change a catalog by hand."""
    with sqlite3.connect(workplace.folder / "catalog.db") as connection:
        assert connection.execute(sql, parameters).rowcount == 1
    connection.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with two datasets."""
    place = local_workplace(tmp_path_factory.mktemp("published"))
    for name in (GOOD, ODD):
        place.run("publish", write_folder(place.folder / name, count=3), "--name", name)
    return place


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


@dataclass(frozen=True)
class Oddity:
    """Something odd that somebody wrote into the catalog.

    Attributes:
        column: of the dataset's row.
        value: what stands there, as SQL.
        said: what messages hold beside the dataset's id.
    """

    column: str
    value: str
    said: str


HIDING = [
    Oddity("size", "'many'", "size is 'many', which is no number"),
    Oddity("size", "-1", "size is -1"),
    Oddity("revision", "'1a'", "revision is '1a'"),
    Oddity("updated_at", "1e300", "updated_at is"),
    Oddity("store", "CAST(x'66ff' AS TEXT)", "store is not valid UTF-8"),
    Oddity("label_version", "CAST(x'66ff' AS TEXT)", "label_version is not valid UTF-8"),
]


def make_odd(workplace: Workplace, oddity: Oddity) -> None:
    execute(workplace, f"UPDATE datasets SET {oddity.column} = {oddity.value} WHERE dataset_id = ?", ODD)


def is_readable(dataset: Path) -> bool:
    """Whether all of a dataset can be read."""
    return {path.name: len(path.read_bytes()) > 0 for path in dataset.iterdir()} == dict.fromkeys(
        (f"img_{number:05}{suffix}" for number in range(3) for suffix in (".jpg", ".json", ".labelme.json", ".xml")),
        True,
    )


def datasets_in(mountpoint: Path) -> list[str]:
    """The datasets that a mount shows."""
    return sorted(path.name for path in mountpoint.iterdir() if not path.name.startswith("."))


def mounting_says(workplace: Workplace, seen: Callable[[Path], None]) -> tuple[str, str]:
    """Mount, have a look, and return what the terminal said and what ``errors.log`` says."""
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    done = workplace.run("mount", mountpoint)
    try:
        seen(mountpoint)
        log = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
    finally:
        workplace.run("umount", mountpoint)
    assert "Traceback" not in done.stderr
    return done.stderr, log


@pytest.mark.parametrize("oddity", HIDING, ids=lambda oddity: f"{oddity.column}-{oddity.value}")
def test_a_dataset_whose_row_cannot_be_used_is_hidden_and_named_and_the_others_are_mounted(
    workplace: Workplace, oddity: Oddity
) -> None:
    def seen(mountpoint: Path) -> None:
        assert datasets_in(mountpoint) == [GOOD]
        assert is_readable(mountpoint / GOOD)

    make_odd(workplace, oddity)
    for said in mounting_says(workplace, seen):
        assert ODD in said
        assert oddity.said in said


def test_a_dataset_with_an_id_that_is_no_utf_8_is_hidden_and_named(workplace: Workplace) -> None:
    execute(workplace, "UPDATE datasets SET dataset_id = CAST(x'6fff' AS TEXT) WHERE dataset_id = ?", ODD)

    def seen(mountpoint: Path) -> None:
        assert datasets_in(mountpoint) == [GOOD]

    for said in mounting_says(workplace, seen):
        assert "dataset_id is not valid UTF-8" in said


@pytest.mark.parametrize("column", ["note", "classes", "image_type"])
def test_a_dataset_with_a_text_for_people_that_is_no_utf_8_is_shown_and_named(
    workplace: Workplace, column: str
) -> None:
    make_odd(workplace, Oddity(column, "CAST(x'67ff6f' AS TEXT)", ""))

    def seen(mountpoint: Path) -> None:
        assert is_readable(mountpoint / ODD)
        assert is_readable(mountpoint / GOOD)
        [row] = [
            row
            for row in orjson.loads((mountpoint / ".imgsyncfs" / "datasets.json").read_bytes())
            if row["dataset_id"] == ODD
        ]
        assert row[column] in ("g\ufffdo", ["g\ufffdo"])

    for said in mounting_says(workplace, seen):
        assert f"{ODD} is shown in part: {column} is not valid UTF-8" in said


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("ftp://host/folder", "no known kind"),
        ("nonsense", "no known kind"),
        ("file:relative", "names no local folder"),
        ("azure://", "azure://"),
    ],
)
def test_a_dataset_in_a_store_that_makes_no_sense_is_named_and_the_others_are_read(
    workplace: Workplace, store: str, said: str
) -> None:
    execute(workplace, "UPDATE datasets SET store = ? WHERE dataset_id = ?", store, ODD)

    def seen(mountpoint: Path) -> None:
        assert is_readable(mountpoint / GOOD)
        with pytest.raises(OSError, match=r"\[Errno (5|13)\]"):
            (mountpoint / ODD / "img_00000.jpg").read_bytes()

    terminal, log = mounting_says(workplace, seen)
    assert ODD in terminal
    assert ODD in log
    assert said in log or "allow" in log


def test_a_dataset_in_a_store_that_is_missing_is_named_and_the_others_are_read(
    workplace: Workplace, tmp_path: Path
) -> None:
    missing = tmp_path / "store" / "gone"
    execute(workplace, "UPDATE datasets SET store = ? WHERE dataset_id = ?", missing.as_uri(), ODD)

    def seen(mountpoint: Path) -> None:
        assert is_readable(mountpoint / GOOD)
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            (mountpoint / ODD / "img_00000.jpg").read_bytes()

    for said in mounting_says(workplace, seen):
        assert ODD in said
        assert str(missing) in said


def test_a_dataset_in_a_store_that_refuses_us_is_named_and_the_others_are_read(
    workplace: Workplace, container: Container, tmp_path: Path
) -> None:
    execute(workplace, "UPDATE datasets SET store = ? WHERE dataset_id = ?", container.url, ODD)
    wrong = container.azurite.connection_string.replace(container.azurite.key, "d3Jvbmc=")
    config = tmp_path / "config" / "imgsyncfs" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[stores."{container.url}"]\nconnection_string = "{wrong}"\n')
    config.chmod(0o600)

    def seen(mountpoint: Path) -> None:
        assert is_readable(mountpoint / GOOD)
        with pytest.raises(PermissionError):
            (mountpoint / ODD / "img_00000.jpg").read_bytes()

    for said in mounting_says(workplace, seen):
        assert ODD in said
        assert container.url in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("odd", "[", "[]", 1), "left out"),
        (("odd", "[]", '["size"]', 1), "cannot be used"),
        (("odd", "[]", '["colour=red"]', 1), "cannot be used"),
        (("odd", '{"a": 1}', "[]", 1), "left out"),
        (("odd", "[]", "[]", "yesterday"), "left out"),
    ],
)
def test_a_subscription_that_makes_no_sense_is_named_and_the_others_are_there(
    workplace: Workplace, row: tuple[object, ...], said: str
) -> None:
    workplace.run("subscribe", "good", GOOD)
    execute(workplace, "INSERT INTO subscriptions VALUES (?, ?, ?, ?)", *row)

    def seen(mountpoint: Path) -> None:
        assert [path.name for path in (mountpoint / ".subscriptions").iterdir()] == ["good"]
        assert is_readable(mountpoint / ".subscriptions" / "good" / GOOD)

    for words in mounting_says(workplace, seen):
        assert "'odd'" in words
        assert said in words


@pytest.mark.parametrize(
    ("table", "column", "value", "left"),
    [
        ("images", "byte_count", "much", {"img_00000", "img_00002"}),
        ("images", "width", "wide", {"img_00000", "img_00002"}),
        ("images", "modified_at", "today", {"img_00000", "img_00002"}),
        ("images", "byte_count", 2**70, {"img_00000", "img_00002"}),
    ],
)
def test_a_number_of_an_image_that_is_none_hides_that_image_alone(
    workplace: Workplace, table: str, column: str, value: object, left: set[str]
) -> None:
    execute(workplace, f"UPDATE {table} SET {column} = ? WHERE dataset_id = ? AND name = 'img_00001'", str(value), ODD)

    def seen(mountpoint: Path) -> None:
        assert {path.name.partition(".")[0] for path in (mountpoint / ODD).iterdir()} == left
        assert len(list((mountpoint / ODD).iterdir())) == 8

    _, log = mounting_says(workplace, seen)
    assert f"{ODD}: the row 'img_00001.jpg' is hidden: " in log


def test_a_number_of_an_annotation_that_is_none_hides_that_annotation_alone(workplace: Workplace) -> None:
    execute(workplace, "UPDATE annotations SET blob_offset = 'x' WHERE dataset_id = ? AND name = 'img_00001'", ODD)

    def seen(mountpoint: Path) -> None:
        assert "img_00001.jpg" in {path.name for path in (mountpoint / ODD).iterdir()}
        assert len(list((mountpoint / ODD).iterdir())) == 9

    _, log = mounting_says(workplace, seen)
    assert f"{ODD}: the row 'img_00001.json' is hidden: blob_offset is 'x'" in log


def test_publishing_mends_a_row_that_could_not_be_used(workplace: Workplace, tmp_path: Path) -> None:
    execute(workplace, "UPDATE images SET byte_count = 'much' WHERE dataset_id = ? AND name = 'img_00001'", ODD)
    workplace.run("publish", tmp_path / ODD, "--name", ODD)
    with workplace.mounted() as mountpoint:
        assert is_readable(mountpoint / ODD)


def run_beside_an_odd_row(workplace: Workplace, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    make_odd(workplace, HIDING[0])
    return workplace.run(*arguments)


def test_the_table_of_datasets_has_the_others_and_names_the_odd_one(workplace: Workplace) -> None:
    done = run_beside_an_odd_row(workplace, "datasets", "--json")
    assert [row["dataset_id"] for row in orjson.loads(done.stdout)] == [GOOD]
    assert ODD in done.stderr


def test_sync_copies_the_others(workplace: Workplace, tmp_path: Path) -> None:
    run_beside_an_odd_row(workplace, "sync", tmp_path / "copy")
    assert (tmp_path / "copy" / GOOD / "img_00000.jpg").read_bytes()


def test_sync_copies_the_others_if_a_store_makes_no_sense(workplace: Workplace, tmp_path: Path) -> None:
    execute(workplace, "UPDATE datasets SET store = 'ftp://host/folder' WHERE dataset_id = ?", ODD)
    done = workplace.run("sync", tmp_path / "copy", status=3)
    assert (tmp_path / "copy" / GOOD / "img_00000.jpg").read_bytes()
    assert ODD in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_python_api_has_the_others(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_odd(workplace, HIDING[0])
    work_in(workplace, monkeypatch)
    with imgsyncfs.connect() as catalog:
        assert catalog.datasets.ids == (GOOD,)
        assert len(list(catalog.datasets[GOOD])) == 3


def test_a_mount_that_runs_goes_on_with_the_others(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        make_odd(workplace, HIDING[0])
        log = mountpoint / ".imgsyncfs" / "errors.log"
        assert eventually(lambda: ODD in log.read_text())
        assert eventually(lambda: datasets_in(mountpoint) == [GOOD])
        assert is_readable(mountpoint / GOOD)
