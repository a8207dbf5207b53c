"""Copying datasets to plain folders: what is copied, what is left alone, what is removed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mounting import Workplace, local_workplace, write_folder
from support.publishing import DATASET, Place, annotated_folder, fill, house, jpeg, open_place, published_place
from support.syncing import files_in, open_library, read_again

from imgsyncfs.errors import CatalogUnreachable, ConfigurationError, SyncError
from imgsyncfs.formats.registry import CONVERTIBLE, FORMATS, HOUSE
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import FIRST_POSITION
from imgsyncfs.library.views.registry import VIEWS, find_view
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.sync.record import RECORD_FILE, RECORD_FOLDER, SyncRecord
from imgsyncfs.tools.sync.run import SyncSummary, sync

OTHER = "opensource_20200301_rgb_bbox"
COUNT = 5


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A catalog with one dataset of five annotated images in packs."""
    with published_place(tmp_path, COUNT) as opened:
        yield opened


@pytest.fixture
def library(place: Place, tmp_path: Path) -> Iterator[Library]:
    """The library of that catalog."""
    with open_library(tmp_path) as opened:
        yield opened


def sync_all(library: Library, target: Path, *, amount: int | None = None, delete: bool = False) -> SyncSummary:
    """Sync every dataset."""
    return sync(library, target, datasets=list(library.rows), amount=amount, delete=delete)


def test_a_synced_dataset_is_as_published_byte_for_byte_with_the_times_of_the_catalog(
    place: Place, library: Library, tmp_path: Path
) -> None:
    summary = sync_all(library, tmp_path / "target")
    folder = tmp_path / "target" / DATASET
    assert files_in(folder) == files_in(place.folder)
    times = {f"{row.name}.{row.ext}": row.modified_at for row in place.images().values()}
    times |= {f"{row.name}.json": row.modified_at for row in place.annotations().values()}
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == {
        name: time * 10**9 for name, time in times.items()
    }
    assert (summary.copied, summary.kept, summary.failed) == (2 * COUNT, 0, ())
    assert summary.copied_bytes == sum(map(len, files_in(folder).values()))


def test_a_second_run_transfers_nothing(place: Place, library: Library, tmp_path: Path) -> None:
    sync_all(library, tmp_path / "target")
    # With an empty cache, so that whatever is read is asked of the store.
    with open_library(tmp_path, cache="empty") as fresh:
        summary = sync_all(fresh, tmp_path / "target")
        assert fresh.fetcher.counts().requests == 0
    assert (summary.copied, summary.kept) == (0, 2 * COUNT)


def test_siblings_are_copied_when_asked_for_and_not_rendered_again(place: Place, tmp_path: Path) -> None:
    with open_library(tmp_path, siblings=("labelme", "rolabelimg")) as library:
        names = {name.decode() for name, *_ in library.files(DATASET).entries_from(FIRST_POSITION)}
        sync_all(library, tmp_path / "target")
        assert set(files_in(tmp_path / "target" / DATASET)) == names
        assert {"a_00000.labelme.json", "a_00000.xml"} <= names
    with open_library(tmp_path, cache="empty", siblings=("labelme", "rolabelimg")) as fresh:
        assert sync_all(fresh, tmp_path / "target").kept == 4 * COUNT
        assert fresh.fetcher.counts().requests == 0


def test_a_larger_amount_takes_the_images_of_a_smaller_one_and_more(library: Library, tmp_path: Path) -> None:
    target = tmp_path / "target"
    sync_all(library, target, amount=2)
    two = set(files_in(target / DATASET))
    assert len(two) == 4
    sync_all(library, tmp_path / "other", amount=2)
    assert set(files_in(tmp_path / "other" / DATASET)) == two
    assert sync_all(library, target, amount=3).copied == 2
    three = files_in(target / DATASET)
    assert two < set(three)
    assert {name.removesuffix(".jpg") for name in three if name.endswith(".jpg")} == {
        name.removesuffix(".json") for name in three if name.endswith(".json")
    }


def test_a_smaller_amount_removes_nothing_that_the_catalog_has(library: Library, tmp_path: Path) -> None:
    sync_all(library, tmp_path / "target")
    assert sync_all(library, tmp_path / "target", amount=1, delete=True).removed == 0
    assert len(files_in(tmp_path / "target" / DATASET)) == 2 * COUNT


def test_what_changed_in_the_catalog_is_replaced_and_the_rest_is_kept(
    place: Place, library: Library, tmp_path: Path
) -> None:
    sync_all(library, tmp_path / "target")
    fill(place.folder, {"a_00001.json": house("face"), "a_00009.jpg": jpeg(99)})
    place.publish()
    read_again(library)
    summary = sync_all(library, tmp_path / "target")
    assert files_in(tmp_path / "target" / DATASET) == files_in(place.folder)
    assert (summary.copied, summary.kept, summary.changed) == (2, 2 * COUNT - 1, ())


def test_a_file_that_somebody_changed_is_kept_and_reported_unless_it_may_be_overwritten(
    place: Place, library: Library, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    sync_all(library, target)
    edited = target / DATASET / "a_00001.json"
    same_length = edited.read_bytes().replace(b"person", b"parson")
    edited.write_bytes(same_length)
    fill(place.folder, {"a_00001.json": house("face")})
    place.publish()
    for _ in range(2):
        summary = sync_all(library, target)
        assert summary.changed == (f"{DATASET}/a_00001.json",)
        assert edited.read_bytes() == same_length
        read_again(library)
    assert sync(library, target, datasets=[DATASET], overwrite=True).copied == 1
    assert files_in(target / DATASET) == files_in(place.folder)


def test_a_file_that_was_only_touched_is_not_taken_for_changed(place: Place, library: Library, tmp_path: Path) -> None:
    target = tmp_path / "target"
    sync_all(library, target)
    for number in range(2):
        (target / DATASET / f"a_0000{number}.json").touch()
    fill(place.folder, {"a_00001.json": house("face")})
    place.publish()
    read_again(library)
    summary = sync_all(library, target)
    assert (summary.copied, summary.changed) == (1, ())
    assert files_in(target / DATASET) == files_in(place.folder)


def test_files_that_are_equal_already_are_adopted_and_not_fetched(
    place: Place, library: Library, tmp_path: Path
) -> None:
    folder = tmp_path / "target" / DATASET
    fill(folder, files_in(place.folder))
    (folder / "mine.txt").write_text("mine")
    summary = sync_all(library, tmp_path / "target")
    assert (summary.copied, summary.kept) == (0, 2 * COUNT)
    assert library.fetcher.counts().requests == 0
    time = place.images()["a_00000"].modified_at
    assert (folder / "a_00000.jpg").stat().st_mtime_ns == time * 10**9
    # Adopted, and therefore still its owner's.
    place.folder.joinpath("a_00000.jpg").unlink()
    place.folder.joinpath("a_00000.json").unlink()
    place.publish()
    read_again(library)
    assert sync_all(library, tmp_path / "target", delete=True).removed == 0
    assert len(files_in(folder)) == 2 * COUNT + 1


def test_another_file_under_a_name_of_the_catalog_is_kept(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "target" / DATASET
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (folder / "a_00000.jpg").symlink_to(tmp_path / "elsewhere")
    (folder / "a_00001.jpg").mkdir()
    (folder / "a_00002.jpg").write_bytes(b"mine")
    summary = sync_all(library, tmp_path / "target")
    assert set(summary.changed) == {f"{DATASET}/a_0000{number}.jpg" for number in range(3)}
    overwritten = sync(library, tmp_path / "target", datasets=[DATASET], overwrite=True)
    assert [failure.path for failure in overwritten.failed] == [f"{DATASET}/a_00001.jpg"]
    assert not (folder / "a_00000.jpg").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_somebody_writes_while_its_copy_is_on_its_way_is_kept(library: Library, tmp_path: Path) -> None:
    target = tmp_path / "target"

    def write_last(_: int) -> None:
        (target / DATASET / "a_00004.json").write_bytes(b"mine")

    summary = sync(library, target, datasets=[DATASET], copied=write_last)
    assert summary.changed == (f"{DATASET}/a_00004.json",)
    assert files_in(target / DATASET)["a_00004.json"] == b"mine"


def test_delete_removes_only_what_sync_wrote_and_nobody_changed(place: Place, library: Library, tmp_path: Path) -> None:
    target = tmp_path / "target"
    sync_all(library, target)
    (target / DATASET / "mine.json").write_text("mine")
    (target / DATASET / "a_00001.json").write_text("changed by me")
    for number in (0, 1):
        for ext in ("jpg", "json"):
            (place.folder / f"a_0000{number}.{ext}").unlink()
    place.publish()
    read_again(library)
    assert sync_all(library, target).removed == 0
    summary = sync_all(library, target, delete=True)
    assert summary.removed == 3
    assert summary.changed == (f"{DATASET}/a_00001.json",)
    assert set(files_in(target / DATASET)) == {*files_in(place.folder), "mine.json", "a_00001.json"}


def test_delete_removes_a_dataset_that_is_gone_with_its_folder(place: Place, library: Library, tmp_path: Path) -> None:
    target = tmp_path / "target"
    place.publish(OTHER)
    read_again(library)
    sync_all(library, target)
    assert len(files_in(target / OTHER)) == 2 * COUNT
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("DELETE FROM datasets WHERE dataset_id = ?", (OTHER,))
    connection.close()
    read_again(library)
    # It is gone from the catalog, whatever else was asked for.
    summary = sync(library, target, datasets=[DATASET], delete=True)
    assert summary.removed == 2 * COUNT
    assert not (target / OTHER).exists()
    assert len(files_in(target / DATASET)) == 2 * COUNT


def test_delete_leaves_the_datasets_of_another_catalog_alone(library: Library, tmp_path: Path) -> None:
    target = tmp_path / "target"
    sync_all(library, target)
    with open_place(tmp_path / "two") as other:
        annotated_folder(other.folder, 1)
        other.publish(OTHER)
        with open_library(tmp_path / "two") as second:
            assert sync_all(second, target, delete=True).removed == 0
    assert len(files_in(target / DATASET)) == 2 * COUNT


def test_delete_keeps_siblings_that_were_asked_for_once(place: Place, library: Library, tmp_path: Path) -> None:
    with open_library(tmp_path, siblings=("labelme",)) as with_siblings:
        sync_all(with_siblings, tmp_path / "target")
    assert sync_all(library, tmp_path / "target", delete=True).removed == 0
    assert (tmp_path / "target" / DATASET / "a_00000.labelme.json").exists()


def test_nothing_is_deleted_when_the_catalog_cannot_be_asked(library: Library, tmp_path: Path) -> None:
    sync_all(library, tmp_path / "target")
    connection = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with open_library(tmp_path, timeout=1) as offline:
            with pytest.raises(CatalogUnreachable, match="nothing can be deleted"):
                sync_all(offline, tmp_path / "target", delete=True)
            assert sync_all(offline, tmp_path / "target").kept == 2 * COUNT
    finally:
        connection.close()


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(place: Place, tmp_path: Path) -> None:
    place.publish(OTHER, loose=True)
    [blob] = (tmp_path / "store").rglob("a_00002.*.jpg")
    blob.unlink()
    with open_library(tmp_path) as library:
        summary = sync(library, tmp_path / "target", datasets=[OTHER])
    [failure] = summary.failed
    assert failure.path == f"{OTHER}/a_00002.jpg"
    assert blob.name in failure.reason
    assert summary.copied == 2 * COUNT - 1


def test_an_annotation_that_does_not_parse_costs_its_siblings_only(place: Place, tmp_path: Path) -> None:
    place.publish(OTHER, loose=True)
    content = b'{"labels": 5}'
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        (blob,) = connection.execute(
            "SELECT blob FROM annotations WHERE name = 'a_00002' AND dataset_id = ?", (OTHER,)
        ).fetchone()
        connection.execute("UPDATE annotations SET md5 = '', byte_count = ? WHERE blob = ?", (len(content), blob))
    connection.close()
    path = tmp_path / "store" / blob
    path.chmod(0o644)
    path.write_bytes(content)
    with open_library(tmp_path, siblings=("labelme",)) as library:
        summary = sync(library, tmp_path / "target", datasets=[OTHER])
    assert [failure.path for failure in summary.failed] == [f"{OTHER}/a_00002.labelme.json"]
    assert (tmp_path / "target" / OTHER / "a_00002.json").read_bytes() == content


def test_a_large_file_whose_content_is_another_is_never_put_in_place(tmp_path: Path) -> None:
    with open_place(tmp_path) as place:
        place.folder.mkdir()
        Image.new("RGB", (2000, 1600)).save(place.folder / "large.bmp")
        place.publish()
        [blob] = (tmp_path / "store").rglob("large.*.bmp")
        blob.chmod(0o644)
        with blob.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"x")
        with open_library(tmp_path) as library:
            summary = sync_all(library, tmp_path / "target")
    assert [failure.path for failure in summary.failed] == [f"{DATASET}/large.bmp"]
    assert files_in(tmp_path / "target" / DATASET) == {}


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)
    with open_place(tmp_path) as place:
        place.folder.mkdir()
        Image.fromarray(noise).save(place.folder / "large.bmp")
        place.publish()
        with open_library(tmp_path) as library:
            tracemalloc.start()
            try:
                summary = sync_all(library, tmp_path / "target")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert files_in(tmp_path / "target" / DATASET) == files_in(place.folder)
    assert summary.copied_bytes > 72e6
    assert peak < 24e6


def test_a_target_that_lacks_the_room_is_refused_before_anything_is_written(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.statvfs(tmp_path)
    little = os.statvfs_result((*disk[:4], 3, *disk[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: little)
    with pytest.raises(SyncError, match="no room"):
        sync_all(library, tmp_path / "target")
    assert files_in(tmp_path / "target" / DATASET) == {}
    monkeypatch.undo()
    sync_all(library, tmp_path / "target")
    monkeypatch.setattr(os, "statvfs", lambda _: little)
    # Nothing is missing any more, so that the little room will do.
    assert sync_all(library, tmp_path / "target").kept == 2 * COUNT


def test_only_one_sync_at_a_time_works_in_a_folder(library: Library, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with SyncRecord(tmp_path / "target"), pytest.raises(SyncError, match="Another sync"):
        sync_all(library, tmp_path / "target")
    assert sync_all(library, tmp_path / "target").copied == 2 * COUNT


def test_a_damaged_record_costs_a_reading_and_no_transfer(place: Place, library: Library, tmp_path: Path) -> None:
    sync_all(library, tmp_path / "target")
    (tmp_path / "target" / RECORD_FOLDER / RECORD_FILE).write_bytes(b"damaged" * 1000)
    with open_library(tmp_path, cache="empty") as fresh:
        summary = sync_all(fresh, tmp_path / "target")
        assert (summary.kept, fresh.fetcher.counts().requests) == (2 * COUNT, 0)
    assert files_in(tmp_path / "target" / DATASET) == files_in(place.folder)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(library: Library, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SyncError, match="file/target"):
        sync_all(library, tmp_path / "file" / "target")


def test_progress_counts_every_file_once(library: Library, tmp_path: Path) -> None:
    told: list[tuple[str, int | None]] = []
    count = 0

    class Recorder:
        def phase(self, name: str, total: int | None, unit: str) -> None:
            told.append((f"{name} {unit}", total))

        def advance(self, step: int) -> None:
            nonlocal count
            count += step

    for amount in (2, None):
        sync(library, tmp_path / "target", datasets=[DATASET], amount=amount, progress=Recorder())
    assert told == [(f"Syncing files : {DATASET} files", total) for total in (4, 2 * COUNT)]
    assert count == 4 + 2 * COUNT


def test_an_unknown_dataset_is_an_error_that_names_near_ones(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=DATASET):
        sync(library, tmp_path / "target", datasets=["original_20200207_rgb_box"])
    assert not (tmp_path / "target").exists()


def test_a_dataset_in_another_store_is_synced_though_one_store_is_away(place: Place, tmp_path: Path) -> None:
    second = open_store(f"file://{tmp_path}/second")
    second.create()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute(
            "INSERT INTO datasets SELECT ?, label_version, image_type, classes, projects, label_type, size, note, ?, "
            "revision, updated_at, publish_id FROM datasets",
            (OTHER, second.url),
        )
        for table in ("images", "annotations"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "dataset_id"]
            names = ", ".join(columns)
            connection.execute(
                f"INSERT INTO {table} (dataset_id, {names}) SELECT ?, {names} FROM {table}",
                (OTHER,),
            )
    connection.close()
    shutil.rmtree(tmp_path / "second")
    with open_library(tmp_path, allowed_stores=(second.url,)) as library:
        summary = sync_all(library, tmp_path / "target")
    assert files_in(tmp_path / "target" / DATASET) == files_in(place.folder)
    assert [failure.path for failure in summary.failed] == [OTHER]


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """A catalog for the command."""
    workplace = local_workplace(tmp_path)
    workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", DATASET)
    return workplace


def test_the_command_prints_a_line_a_dataset_and_says_when_there_is_nothing_to_do(
    workplace: Workplace, tmp_path: Path
) -> None:
    first = workplace.run("sync", tmp_path / "target", "--all")
    assert f"Syncing files : {DATASET} - 4/4" in first.stdout.splitlines()[0]
    assert "copied 4 files" in first.stdout
    assert files_in(tmp_path / "target" / DATASET) == files_in(tmp_path / "one")
    assert "Nothing to transfer" in workplace.run("sync", tmp_path / "target", "--all").stdout


def test_the_command_names_what_cannot_be_read_and_exits_with_a_status_of_its_own(
    workplace: Workplace, tmp_path: Path
) -> None:
    workplace.run("publish", tmp_path / "one", "--name", OTHER, "--loose")
    [blob] = (tmp_path / "store").rglob("img_00001.*.jpg")
    blob.unlink()
    done = workplace.run("sync", tmp_path / "target", OTHER, status=3)
    assert f"{OTHER}/img_00001.jpg" in done.stderr
    assert len(files_in(tmp_path / "target" / OTHER)) == 3


def test_the_command_syncs_a_subscription(workplace: Workplace, tmp_path: Path) -> None:
    workplace.run("publish", write_folder(tmp_path / "two", count=1), "--name", OTHER)
    workplace.run("subscribe", "ours", "--source", "original")
    workplace.run("sync", tmp_path / "target", "--subscription", "ours", "--amount", "1", "--siblings", "labelme")
    assert set(files_in(tmp_path / "target" / DATASET)) == {
        "img_00000.jpg",
        "img_00000.json",
        "img_00000.labelme.json",
    }
    assert not (tmp_path / "target" / OTHER).exists()
    assert "ours" in workplace.run("sync", tmp_path / "target", "--subscription", "hours", status=1).stderr


@pytest.mark.parametrize(
    ("view", "suffix"),
    [("labelme", ".json"), ("rolabelimg", ".xml"), ("xanylabeling", ".json"), ("plain", ".json")],
)
def test_a_view_has_the_images_and_the_annotations_that_its_tool_looks_for(
    library: Library, tmp_path: Path, view: str, suffix: str
) -> None:
    summary = sync(library, tmp_path / "target", datasets=[DATASET], view=VIEWS[view])
    names = {path.suffix for path in (tmp_path / "target" / DATASET).iterdir()}
    assert names == {".jpg", suffix}
    for path in (tmp_path / "target" / DATASET).glob(f"*{suffix}"):
        assert {**FORMATS, "plain": CONVERTIBLE[HOUSE]}[view].recognizes(path.read_bytes())
    again = sync(library, tmp_path / "target", datasets=[DATASET], view=VIEWS[view], delete=True)
    assert (again.copied, again.kept, again.failed) == (0, summary.copied, ())


def test_an_unknown_view_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="labelme, "):
        find_view("labelmee")
