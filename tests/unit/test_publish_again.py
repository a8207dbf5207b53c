"""Publishing again: after changes, after interruptions, and when files change meanwhile."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.places import importing_support
from support.publishing import DATASET, Place, annotated_folder, fill, house, jpeg, open_place

from imgsyncfs.blob_layout import SEAL_BYTES
from imgsyncfs.errors import PublishError, StoreUnreachable
from imgsyncfs.tools.publish.journal import UNSAVED_FINDINGS, Journal


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_place(tmp_path) as opened:
        yield opened


class WatchedJournal(Journal):
    """A journal that counts what it did not know, and collects the digests of images it is told of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.unknown = 0
        self.digests: list[str] = []

    def get(self, fingerprint: str) -> dict[str, Any] | None:
        findings = super().get(fingerprint)
        self.unknown += findings is None
        return findings

    def put(self, fingerprint: str, findings: Mapping[str, Any]) -> None:
        self.digests.append(findings["image"]["md5"])
        super().put(fingerprint, findings)


def digest_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def stop_at_write(number: int) -> None:
    raise StoreUnreachable(f"The store is away at write {number}.")


def test_a_folder_that_has_not_changed_is_said_to_be_so_and_sends_nothing(place: Place) -> None:
    annotated_folder(place.folder, 5)
    first = place.publish()
    before = place.images(), place.annotations(), place.catalog.dataset(DATASET)
    place.store.written.clear()
    again = place.publish()
    assert (again.changed, again.revision, again.uploaded_bytes) == (False, first.revision, 0)
    assert place.store.written == []
    assert (place.images(), place.annotations(), place.catalog.dataset(DATASET)) == before


def test_only_what_changed_is_sent_and_the_rest_keeps_its_place_and_time(place: Place) -> None:
    files = annotated_folder(place.folder, 5)
    place.publish()
    images, annotations = place.images(), place.annotations()
    changed = house("person", x1=9.5)
    assert len(changed) == len(files["a_00002.json"])
    fill(place.folder, {"a_00002.json": changed})
    again = place.publish()
    assert (again.changed, again.revision, again.uploaded_bytes) == (True, 2, len(changed) + SEAL_BYTES)
    assert place.images() == images
    now = place.annotations()
    assert {name for name in now if now[name] != annotations[name]} == {"a_00002"}
    assert place.published() == files | {"a_00002.json": changed}


def test_a_changed_file_gets_a_later_time_even_if_its_own_is_older(place: Place) -> None:
    annotated_folder(place.folder, 1)
    place.publish()
    before = place.images()["a_00000"].modified_at
    fill(place.folder, {"a_00000.jpg": jpeg(500)})
    os.utime(place.folder / "a_00000.jpg", (1_000_000, 1_000_000))
    place.publish()
    assert place.images()["a_00000"].modified_at == before + 1


def test_a_file_is_published_with_its_own_time_but_never_one_in_the_future(place: Place) -> None:
    annotated_folder(place.folder, 2)
    os.utime(place.folder / "a_00000.jpg", (1_000_000, 1_000_000))
    os.utime(place.folder / "a_00001.jpg", (9_000_000_000, 9_000_000_000))
    place.publish()
    rows = place.images()
    assert rows["a_00000"].modified_at == 1_000_000
    assert rows["a_00001"].modified_at < 9_000_000_000


def test_images_and_annotations_that_are_gone_leave_the_dataset(place: Place) -> None:
    files = annotated_folder(place.folder, 3)
    place.publish()
    for name in ("a_00000.jpg", "a_00000.json", "a_00001.json"):
        (place.folder / name).unlink()
        del files[name]
    again = place.publish()
    assert (again.removed, again.images, again.annotations, again.uploaded_bytes) == (("a_00000",), 2, 1, 0)
    assert place.published() == files


def test_an_image_that_cannot_be_used_any_more_is_left_out_and_removed(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    fill(place.folder, {"a_00001.jpg": b"no image"})
    again = place.publish()
    assert again.removed == ("a_00001",)
    assert [entry.path for entry in again.left_out] == ["a_00001.jpg", "a_00001.json"]


def test_the_journal_spares_the_files_that_have_not_changed(place: Place, tmp_path: Path) -> None:
    files = annotated_folder(place.folder, 5)
    with Journal(tmp_path / "journal") as journal:
        place.publish(journal=journal)
    fill(place.folder, {"a_00001.json": house("dog"), "a_00003.jpg": b"no image"})
    watched = WatchedJournal(tmp_path / "journal")
    with watched:
        place.publish(journal=watched)
        assert watched.unknown == 2
        assert watched.digests == [digest_of(files["a_00001.jpg"])]


def test_an_image_that_could_not_be_used_is_looked_at_again_each_time(place: Place, tmp_path: Path) -> None:
    annotated_folder(place.folder, 5)
    fill(place.folder, {"a_00003.jpg": b"no image"})
    watched = WatchedJournal(tmp_path / "journal")
    with watched:
        place.publish(journal=watched)
        assert (watched.unknown, len(watched.digests)) == (5, 4)
        place.publish(journal=watched)
        assert (watched.unknown, len(watched.digests)) == (6, 4)


def test_findings_from_the_journal_are_those_of_the_files(place: Place, tmp_path: Path) -> None:
    annotated_folder(place.folder, 3)
    fill(place.folder, {"a_00001.json": house("person", width=999), "a_00002.labelme.json": b"{}"})
    with Journal(tmp_path / "journal") as journal:
        first = place.publish(journal=journal)
        again = place.publish(journal=journal)
    assert len(first.warnings) == len(first.left_out) == 1
    assert (again.changed, again.warnings, again.left_out) == (False, first.warnings, first.left_out)


def test_a_file_that_changes_its_content_but_neither_size_nor_time_is_seen(place: Place, tmp_path: Path) -> None:
    files = annotated_folder(place.folder, 1)
    path = place.folder / "a_00000.json"
    with Journal(tmp_path / "journal") as journal:
        place.publish(journal=journal)
        times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        path.write_bytes(files[path.name].replace(b"person", b"dragon"))
        os.utime(path, ns=times)
        place.publish(journal=journal)
    assert b"dragon" in place.published()[path.name]


@pytest.mark.parametrize("loose", [False, True])
def test_an_interrupted_publish_shows_nothing_and_goes_on_where_it_stopped(place: Place, loose: bool) -> None:
    files = annotated_folder(place.folder, 8)
    place.store.before_write = lambda number: stop_at_write(number) if number == 2 else None
    with pytest.raises(StoreUnreachable):
        place.publish(loose=loose)
    assert place.catalog.datasets() == []
    there = {info.blob for info in place.store.list()}
    assert there
    place.store.written.clear()
    place.store.before_write = lambda _: None
    assert place.publish(loose=loose).revision == 1
    assert there.isdisjoint(place.store.written)
    assert place.published() == files


def test_an_interrupted_change_leaves_the_dataset_as_it_was(place: Place) -> None:
    files = annotated_folder(place.folder, 3)
    place.publish()
    fill(place.folder, {"a_00000.jpg": jpeg(500), "a_00000.json": house("dog"), "b.jpg": jpeg(501)})
    place.store.written.clear()
    place.store.before_write = lambda number: stop_at_write(number) if number == 2 else None
    with pytest.raises(StoreUnreachable):
        place.publish()
    dataset = place.catalog.dataset(DATASET)
    assert dataset is not None
    assert (dataset.revision, dataset.size) == (1, 3)
    assert place.published() == files


@pytest.mark.parametrize("name", ["a_00001.jpg", "a_00001.json"])
def test_a_file_that_changes_between_check_and_upload_stops_the_publish(place: Place, name: str) -> None:
    files = annotated_folder(place.folder, 3)
    other = jpeg(700) if name.endswith(".jpg") else files[name].replace(b"person", b"dragon")
    place.store.on_list = lambda: fill(place.folder, {name: other})
    with pytest.raises(PublishError, match=rf"{name} changed while it was being published; publish again"):
        place.publish()
    assert place.catalog.datasets() == []
    place.store.on_list = lambda: None
    place.publish()
    assert place.published() == files | {name: other}


def test_a_full_temporary_folder_stops_the_publish_with_the_remedy(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotated_folder(place.folder, 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    with pytest.raises(PublishError, match="set TMPDIR"):
        place.publish()
    assert place.catalog.datasets() == []


def test_a_file_that_vanishes_between_check_and_upload_stops_the_publish(place: Place) -> None:
    annotated_folder(place.folder, 3)
    place.store.on_list = (place.folder / "a_00001.jpg").unlink
    with pytest.raises(PublishError, match=r"a_00001\.jpg was checked, and now it cannot be read"):
        place.publish()
    assert place.catalog.datasets() == []


def test_a_publish_that_is_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    files = annotated_folder(tmp_path / "folder", UNSAVED_FINDINGS + 44)
    command = [sys.executable, "-m", "support.stopped_publish", str(tmp_path), "2"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": importing_support()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
        process.kill()
    assert list(temporary.iterdir()) == []
    journal = WatchedJournal(tmp_path / "journal")
    with open_place(tmp_path) as place, journal:
        assert place.catalog.datasets() == []
        there = [info.blob for info in place.store.list()]
        assert len(there) == 1
        summary = place.publish(journal=journal)
        assert summary.revision == 1
        assert [blob.rpartition("-")[0] for blob in place.store.written] == [f"{DATASET}/annotations"]
        assert len(journal.digests) <= 44
        assert place.published() == files


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 3), st.integers(0, 3))), max_size=4))
def test_after_each_publish_the_dataset_is_what_the_folder_is(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[int, tuple[int, int]]]
) -> None:
    with open_place(tmp_path_factory.mktemp("place")) as place:
        for state in states:
            files = {"always.jpg": jpeg(9)}
            for number, (image, annotation) in state.items():
                files[f"{number}.jpg"] = jpeg(image)
                if annotation:
                    files[f"{number}.json"] = house("person", x1=annotation)
            place.folder.mkdir(exist_ok=True)
            for path in place.folder.iterdir():
                if path.name not in files:
                    path.unlink()
            fill(place.folder, files)
            place.publish()
            assert place.published() == files
