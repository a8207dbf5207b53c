"""One odd row of a catalog: it is hidden or fails by itself and is named, and all others are there."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
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


SEVERAL = [f"original_202602{day:02}_rgb_rbbox" for day in range(1, 8)]
"""Datasets that become odd side by side, each in its own way: one mount shows what each of them does."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with two datasets."""
    return workplace_with(tmp_path_factory.mktemp("published"), GOOD, ODD)


@pytest.fixture(scope="module")
def with_several(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with one dataset that stays as it is, and several."""
    return workplace_with(tmp_path_factory.mktemp("several"), GOOD, *SEVERAL)


def workplace_with(folder: Path, *names: str) -> Workplace:
    """A catalog with datasets of three images."""
    place = local_workplace(folder)
    for name in names:
        place.run("publish", write_folder(folder / name, count=3), "--name", name)
    return place


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of the catalog with two datasets."""
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


def make_odd(workplace: Workplace, oddity: Oddity, dataset: str = ODD) -> None:
    execute(workplace, f"UPDATE datasets SET {oddity.column} = {oddity.value} WHERE dataset_id = ?", dataset)


def is_readable(dataset: Path) -> bool:
    """Whether all of a dataset can be read."""
    return {path.name: len(path.read_bytes()) > 0 for path in dataset.iterdir()} == dict.fromkeys(
        (f"img_{number:05}{suffix}" for number in range(3) for suffix in (".jpg", ".json", ".labelme.json", ".xml")),
        True,
    )


def datasets_in(mountpoint: Path) -> list[str]:
    """The datasets that a mount shows."""
    return sorted(path.name for path in mountpoint.iterdir() if not path.name.startswith("."))


@dataclass(frozen=True)
class Mount:
    """A mount.

    Attributes:
        mountpoint: where it is.
        terminal: what was said when it was made.
    """

    mountpoint: Path
    terminal: str

    @property
    def log(self) -> str:
        """What ``errors.log`` says."""
        return (self.mountpoint / ".imgsyncfs" / "errors.log").read_text()

    def says_at_once(self, *words: str) -> bool:
        """Whether one line on the terminal holds all these words, and one of ``errors.log`` too."""
        return all(
            any(all(word in line for word in words) for line in said.splitlines()) for said in (self.terminal, self.log)
        )


@contextlib.contextmanager
def mounted(workplace: Workplace) -> Iterator[Mount]:
    """Mount for as long as the block runs."""
    mountpoint = workplace.folder / "mnt"
    mountpoint.mkdir()
    done = workplace.run("mount", mountpoint)
    try:
        assert "Traceback" not in done.stderr
        yield Mount(mountpoint, done.stderr)
    finally:
        workplace.run("umount", mountpoint)


@pytest.fixture(scope="module")
def hiding(with_several: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount where each oddity hides a dataset, and one has an odd id."""
    workplace = copy_of(with_several, tmp_path_factory.mktemp("hiding"))
    *odd, nameless = SEVERAL
    for dataset, oddity in zip(odd, HIDING, strict=True):
        make_odd(workplace, oddity, dataset)
    execute(workplace, "UPDATE datasets SET dataset_id = CAST(x'6fff' AS TEXT) WHERE dataset_id = ?", nameless)
    with mounted(workplace) as mount:
        yield mount


@pytest.mark.parametrize("oddity", HIDING, ids=lambda oddity: f"{oddity.column}-{oddity.value}")
def test_a_dataset_whose_row_cannot_be_used_is_hidden_and_named_and_the_others_are_mounted(
    hiding: Mount, oddity: Oddity
) -> None:
    assert datasets_in(hiding.mountpoint) == [GOOD]
    assert is_readable(hiding.mountpoint / GOOD)
    assert hiding.says_at_once(SEVERAL[HIDING.index(oddity)], oddity.said)


def test_a_dataset_with_an_id_that_is_no_utf_8_is_hidden_and_named(hiding: Mount) -> None:
    assert datasets_in(hiding.mountpoint) == [GOOD]
    assert hiding.says_at_once("dataset_id is not valid UTF-8")


TEXT_COLUMNS = ["note", "classes", "image_type"]


@pytest.fixture(scope="module")
def with_odd_texts(with_several: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount where datasets have, each in another column, a text that is no UTF-8."""
    workplace = copy_of(with_several, tmp_path_factory.mktemp("texts"))
    for dataset, column in zip(SEVERAL, TEXT_COLUMNS, strict=False):
        make_odd(workplace, Oddity(column, "CAST(x'67ff6f' AS TEXT)", ""), dataset)
    with mounted(workplace) as mount:
        yield mount


@pytest.mark.parametrize("column", TEXT_COLUMNS)
def test_a_dataset_with_a_text_for_people_that_is_no_utf_8_is_shown_and_named(
    with_odd_texts: Mount, column: str
) -> None:
    odd = SEVERAL[TEXT_COLUMNS.index(column)]
    mountpoint = with_odd_texts.mountpoint
    assert is_readable(mountpoint / odd)
    assert is_readable(mountpoint / GOOD)
    rows = orjson.loads((mountpoint / ".imgsyncfs" / "datasets.json").read_bytes())
    [row] = [row for row in rows if row["dataset_id"] == odd]
    assert row[column] in ("g\ufffdo", ["g\ufffdo"])
    assert with_odd_texts.says_at_once(f"{odd} is shown in part: {column} is not valid UTF-8")


STORES = {
    "ftp://host/folder": "no known kind",
    "nonsense": "no known kind",
    "file:relative": "names no local folder",
    "azure://": "azure://",
}


@pytest.fixture(scope="module")
def with_odd_stores(with_several: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount where datasets lie in stores that make no sense."""
    workplace = copy_of(with_several, tmp_path_factory.mktemp("stores"))
    for dataset, store in zip(SEVERAL, STORES, strict=False):
        execute(workplace, "UPDATE datasets SET store = ? WHERE dataset_id = ?", store, dataset)
    with mounted(workplace) as mount:
        yield mount


@pytest.mark.parametrize(("store", "said"), STORES.items())
def test_a_dataset_in_a_store_that_makes_no_sense_is_named_and_the_others_are_read(
    with_odd_stores: Mount, store: str, said: str
) -> None:
    odd = SEVERAL[list(STORES).index(store)]
    assert is_readable(with_odd_stores.mountpoint / GOOD)
    with pytest.raises(OSError, match=r"\[Errno (5|13)\]"):
        (with_odd_stores.mountpoint / odd / "img_00000.jpg").read_bytes()
    assert odd in with_odd_stores.terminal
    lines = [line for line in with_odd_stores.log.splitlines() if odd in line]
    assert any(said in line or "allow" in line for line in lines)


def test_a_dataset_in_a_store_that_is_missing_is_named_and_the_others_are_read(
    workplace: Workplace, tmp_path: Path
) -> None:
    missing = tmp_path / "store" / "gone"
    execute(workplace, "UPDATE datasets SET store = ? WHERE dataset_id = ?", missing.as_uri(), ODD)
    with mounted(workplace) as mount:
        assert is_readable(mount.mountpoint / GOOD)
        with pytest.raises(OSError, match=r"\[Errno 5\]"):
            (mount.mountpoint / ODD / "img_00000.jpg").read_bytes()
        for said in (mount.terminal, mount.log):
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
    with mounted(workplace) as mount:
        assert is_readable(mount.mountpoint / GOOD)
        with pytest.raises(PermissionError):
            (mount.mountpoint / ODD / "img_00000.jpg").read_bytes()
        for said in (mount.terminal, mount.log):
            assert ODD in said
            assert container.url in said


SUBSCRIPTIONS = {
    ("odd-1", "[", "[]", 1): "left out",
    ("odd-2", "[]", '["size"]', 1): "cannot be used",
    ("odd-3", "[]", '["colour=red"]', 1): "cannot be used",
    ("odd-4", '{"a": 1}', "[]", 1): "left out",
    ("odd-5", "[]", "[]", "yesterday"): "left out",
}


@pytest.fixture(scope="module")
def with_odd_subscriptions(published: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount with a subscription that is as it should be, and others that make no sense."""
    workplace = copy_of(published, tmp_path_factory.mktemp("subscriptions"))
    workplace.run("subscribe", "good", GOOD)
    for row in SUBSCRIPTIONS:
        execute(workplace, "INSERT INTO subscriptions VALUES (?, ?, ?, ?)", *row)
    with mounted(workplace) as mount:
        yield mount


@pytest.mark.parametrize(("row", "said"), SUBSCRIPTIONS.items())
def test_a_subscription_that_makes_no_sense_is_named_and_the_others_are_there(
    with_odd_subscriptions: Mount, row: tuple[object, ...], said: str
) -> None:
    subscriptions = with_odd_subscriptions.mountpoint / ".subscriptions"
    assert [path.name for path in subscriptions.iterdir()] == ["good"]
    assert is_readable(subscriptions / "good" / GOOD)
    assert with_odd_subscriptions.says_at_once(f"'{row[0]}'", said)


NUMBERS = [("byte_count", "much"), ("width", "wide"), ("modified_at", "today"), ("byte_count", 2**70)]


@pytest.fixture(scope="module")
def with_odd_files(with_several: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount where datasets have, each in another column, an image with an odd number, and one an annotation."""
    workplace = copy_of(with_several, tmp_path_factory.mktemp("files"))
    for dataset, (column, value) in zip(SEVERAL, NUMBERS, strict=False):
        change = f"UPDATE images SET {column} = ? WHERE dataset_id = ? AND name = 'img_00001'"
        execute(workplace, change, str(value), dataset)
    change = "UPDATE annotations SET blob_offset = 'x' WHERE dataset_id = ? AND name = 'img_00001'"
    execute(workplace, change, SEVERAL[-1])
    with mounted(workplace) as mount:
        # All before anybody reads the log, of which the kernel keeps what it knows for a while.
        for dataset in SEVERAL:
            assert any((mount.mountpoint / dataset).iterdir())
        yield mount


@pytest.mark.parametrize(("column", "value"), NUMBERS)
def test_a_number_of_an_image_that_is_none_hides_that_image_alone(
    with_odd_files: Mount, column: str, value: object
) -> None:
    odd = SEVERAL[NUMBERS.index((column, value))]
    names = [path.name for path in (with_odd_files.mountpoint / odd).iterdir()]
    assert {name.partition(".")[0] for name in names} == {"img_00000", "img_00002"}
    assert len(names) == 8
    assert f"{odd}: the row 'img_00001.jpg' is hidden: " in with_odd_files.log


def test_a_number_of_an_annotation_that_is_none_hides_that_annotation_alone(with_odd_files: Mount) -> None:
    odd = SEVERAL[-1]
    names = [path.name for path in (with_odd_files.mountpoint / odd).iterdir()]
    assert "img_00001.jpg" in names
    assert len(names) == 9
    assert f"{odd}: the row 'img_00001.json' is hidden: blob_offset is 'x'" in with_odd_files.log


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
    run_beside_an_odd_row(workplace, "sync", tmp_path / "copy", "--all")
    assert (tmp_path / "copy" / GOOD / "img_00000.jpg").read_bytes()


def test_sync_copies_the_others_if_a_store_makes_no_sense(workplace: Workplace, tmp_path: Path) -> None:
    execute(workplace, "UPDATE datasets SET store = 'ftp://host/folder' WHERE dataset_id = ?", ODD)
    done = workplace.run("sync", tmp_path / "copy", "--all", status=3)
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
