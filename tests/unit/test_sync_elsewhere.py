"""Whatever a record, a listing or a link says: sync changes nothing outside the folders of its datasets."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.publishing import DATASET, Place, published_place
from support.syncing import files_in, open_library

from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.listing.saved import COLUMNS_FILE, load_listing, save_listing
from imgsyncfs.catalog.listing.table import Listing
from imgsyncfs.errors import SyncError
from imgsyncfs.library.library import Library
from imgsyncfs.tools.sync.record import RECORD_FILE, RECORD_FOLDER
from imgsyncfs.tools.sync.run import SyncSummary, sync

GONE = "opensource_20200301_rgb_bbox"
COUNT = 3


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A catalog with one dataset of three annotated images, for a test that changes it."""
    with published(tmp_path) as opened:
        yield opened


@contextlib.contextmanager
def published(folder: Path) -> Iterator[Place]:
    """A catalog with one dataset of three annotated images."""
    with published_place(folder, COUNT) as opened:
        yield opened


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """The library of a catalog that stays as it is: only records, targets and links are odd."""
    folder = tmp_path_factory.mktemp("library")
    with published(folder), open_library(folder) as opened:
        yield opened


@pytest.fixture
def target(library: Library, tmp_path: Path) -> Path:
    """A folder that was synced to."""
    folder = tmp_path / "target"
    sync_again(library, folder)
    return folder


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A file outside the target."""
    path = tmp_path / "elsewhere" / "treasure.json"
    path.parent.mkdir()
    path.write_text("treasure")
    return path


def sync_again(library: Library, target: Path, *, delete: bool = True) -> SyncSummary:
    return sync(library, target, datasets=[DATASET], delete=delete, overwrite=True)


def note(target: Path, library: Library, treasure: Path, name: object, *, dataset: object = DATASET) -> None:
    """Put it into the record that sync wrote the treasure, and left it as it is."""
    status = treasure.stat()
    with contextlib.closing(sqlite3.connect(target / RECORD_FOLDER / RECORD_FILE)) as connection, connection:
        row = (dataset, name, status.st_size, status.st_mtime_ns, "", "", 1, "")
        connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        catalog = catalog_identity(library.settings.catalog)
        connection.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?)", (dataset, catalog))


def names_noted(target: Path) -> set[object]:
    with contextlib.closing(sqlite3.connect(target / RECORD_FOLDER / RECORD_FILE)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM files")}


@pytest.mark.parametrize(
    "name", ["../../elsewhere/treasure.json", "{treasure}", "link/treasure.json", "..", "x\0", b"bytes", 5]
)
@pytest.mark.parametrize("dataset", [DATASET, GONE])
def test_a_name_in_the_record_that_leads_elsewhere_is_forgotten_and_nothing_removed(
    library: Library, target: Path, treasure: Path, name: str | bytes | int, dataset: str
) -> None:
    (target / GONE).mkdir()
    for folder in (target / DATASET, target / GONE):
        (folder / "link").symlink_to(treasure.parent)
    given = name.format(treasure=treasure) if isinstance(name, str) else name
    note(target, library, treasure, given, dataset=dataset)
    summary = sync_again(library, target)
    assert (summary.removed, summary.failed) == (0, ())
    assert treasure.read_text() == "treasure"
    assert names_noted(target) == {path.name for path in (target / DATASET).iterdir()} - {"link"}


@pytest.mark.parametrize("dataset", ["../elsewhere", "{folder}", "..", ".", "", "a/../../elsewhere", b"bytes"])
def test_a_dataset_in_the_record_that_leads_elsewhere_is_left_out(
    library: Library, target: Path, treasure: Path, dataset: str | bytes
) -> None:
    (target / "a").mkdir()
    empty = target.parent / "empty"
    empty.mkdir()
    (treasure.parent / ".imgsyncfs-sync-0123456789abcdef").write_text("theirs")
    given = dataset.format(folder=treasure.parent) if isinstance(dataset, str) else dataset
    note(target, library, treasure, treasure.name, dataset=given)
    note(target, library, treasure, "x", dataset="../empty")
    assert sync_again(library, target).removed == 0
    assert len(files_in(treasure.parent)) == 2
    assert empty.exists()


def test_a_dataset_in_the_record_does_not_lead_to_the_record(library: Library, target: Path) -> None:
    beside = target / RECORD_FOLDER / "beside"
    beside.write_text("x")
    note(target, library, beside, beside.name, dataset=RECORD_FOLDER)
    assert sync_again(library, target).removed == 0
    assert beside.exists()


@pytest.mark.parametrize("delete", [False, True])
def test_a_datasets_folder_that_is_a_link_is_refused(
    place: Place, tmp_path: Path, treasure: Path, delete: bool
) -> None:
    target = tmp_path / "target"
    with open_library(tmp_path) as library:
        sync_again(library, target)
    elsewhere = target.parent / "moved"
    (target / DATASET).rename(elsewhere)
    (target / DATASET).symlink_to(elsewhere)
    (elsewhere / ".imgsyncfs-sync-0123456789abcdef").write_text("theirs")
    (elsewhere / "a_00001.json").write_text("theirs")
    (place.folder / "a_00000.json").unlink()
    (place.folder / "a_00000.jpg").unlink()
    place.publish()
    before = files_in(elsewhere)
    with open_library(tmp_path) as library, pytest.raises(SyncError, match=f"{target / DATASET} is a link"):
        sync_again(library, target, delete=delete)
    assert files_in(elsewhere) == before


def test_the_folder_of_a_dataset_that_is_gone_is_no_link(library: Library, target: Path, treasure: Path) -> None:
    (target / GONE).symlink_to(treasure.parent)
    note(target, library, treasure, treasure.name, dataset=GONE)
    with pytest.raises(SyncError, match=f"{target / GONE} is a link"):
        sync_again(library, target)
    assert treasure.read_text() == "treasure"


@pytest.mark.parametrize("part", [RECORD_FOLDER, f"{RECORD_FOLDER}/{RECORD_FILE}"])
def test_a_record_that_is_a_link_is_refused(library: Library, target: Path, treasure: Path, part: str) -> None:
    (target / part).rename(target.parent / "moved")
    (target / part).symlink_to(target.parent / "moved")
    with pytest.raises(SyncError, match=f"{target / part} is a link"):
        sync_again(library, target)


def test_a_file_that_is_a_link_is_replaced_and_what_it_leads_to_stays(
    library: Library, target: Path, treasure: Path
) -> None:
    path = target / DATASET / "a_00000.json"
    path.unlink()
    path.symlink_to(treasure)
    assert sync_again(library, target).copied == 1
    assert not path.is_symlink()
    assert treasure.read_text() == "treasure"


def test_a_saved_listing_that_leads_elsewhere_writes_nothing_there(place: Place, tmp_path: Path) -> None:
    with open_library(tmp_path) as library:
        sync_again(library, tmp_path / "first")
    [columns] = (tmp_path / "cache" / "catalogs").rglob(COLUMNS_FILE)
    listing = load_listing(columns.parent)
    altered = {name: column.copy() for name, column in listing.columns.items()}
    changed = 0
    for column in altered.values():
        content = column.tobytes()
        if b"a_00000" in content:
            column.view("u1")[:] = bytearray(content.replace(b"a_00000", b"../aaaa"))
            changed += 1
    assert changed
    save_listing(Listing(listing.facts, altered), columns.parent)
    with open_library(tmp_path) as library:
        summary = sync_again(library, tmp_path / "target")
    assert {path.name for path in (tmp_path / "target").iterdir()} == {DATASET, RECORD_FOLDER}
    assert len(files_in(tmp_path / "target" / DATASET)) == 2 * COUNT - 2
    assert [failure.reason for failure in summary.failed] == [
        "it holds a '/', which separates directories; rename it"
    ] * 2
