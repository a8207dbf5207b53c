"""A sync that is killed, interrupted or cut off leaves whole files only, and the next one goes on."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, write_folder
from support.places import importing_support
from support.publishing import DATASET, annotated_folder, fill, house, open_place
from support.services import Container
from support.syncing import files_in, open_library, read_again

from imgsyncfs.errors import StoreUnreachable, SyncError
from imgsyncfs.tools.sync.copying import TEMPORARY_PREFIX
from imgsyncfs.tools.sync.record import Entry, SyncRecord
from imgsyncfs.tools.sync.run import sync

KILLS = 10
COMMAND = [sys.executable, "-m", "support.killed_sync"]


def final_files(folder: Path) -> dict[str, bytes]:
    """The files under their final names."""
    return {name: content for name, content in files_in(folder).items() if not name.startswith(TEMPORARY_PREFIX)}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sync_killed_ten_times_leaves_whole_files_only_and_at_last_equals_the_source(tmp_path: Path) -> None:
    moments = random.Random(20)
    target = tmp_path / "target"
    with open_place(tmp_path) as place:
        annotated_folder(place.folder, 200)
        place.publish()
        with open_library(tmp_path, siblings=("labelme",)) as library:
            sync(library, tmp_path / "reference-1", datasets=[DATASET])
            fill(place.folder, {f"a_{number:05d}.json": house("face", "person") for number in range(200)})
            old = files_in(tmp_path / "reference-1" / DATASET)
            killed = 0
            for number in range(KILLS):
                if number == KILLS // 2:
                    # From here on files are replaced, and not only added.
                    place.publish()
                    read_again(library)
                    sync(library, tmp_path / "reference-2", datasets=[DATASET])
                new = files_in(tmp_path / "reference-2" / DATASET)
                moment = (str(moments.randint(1, 12)), f"{moments.uniform(0, 0.01):.4f}")
                environment = os.environ | {"PYTHONPATH": importing_support()}
                done = subprocess.run([*COMMAND, tmp_path, target, *moment], env=environment, check=False, timeout=60)
                killed += done.returncode == -signal.SIGKILL
                for name, content in final_files(target / DATASET).items():
                    assert content in (old[name], new.get(name)), name
            assert killed == KILLS
            assert final_files(target / DATASET) != new
            summary = sync(library, target, datasets=[DATASET])
            assert (summary.changed, summary.failed) == ((), ())
            assert files_in(target / DATASET) == new
            assert sync(library, target, datasets=[DATASET]).copied == 0


class EndsBeforeIntent(SyncRecord):
    """Ends the sync before the file that is to be renamed is noted."""

    def add(self, *_: object, **__: object) -> None:
        raise KeyboardInterrupt


class EndsBeforeRenaming(SyncRecord):
    """Ends the sync when the file is noted, and before it is renamed."""

    def add(self, dataset_id: str, name: str, entry: Entry) -> None:
        super().add(dataset_id, name, entry)
        raise KeyboardInterrupt


class EndsAfterRenaming(SyncRecord):
    """Ends the sync when the file is renamed, and before the entry of the old one is gone."""

    def keep_only(self, *_: object, **__: object) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("record", [EndsBeforeIntent, EndsBeforeRenaming, EndsAfterRenaming])
def test_a_sync_that_ends_around_a_renaming_does_not_take_its_own_file_for_changed(
    record: type[SyncRecord], tmp_path: Path
) -> None:
    def publish_label(label: str) -> None:
        # Of the same length and the same second each time: only the record can tell them apart.
        fill(place.folder, {"a_00001.json": house(label)})
        place.publish()
        with sqlite3.connect(tmp_path / "catalog.db") as connection:
            connection.execute("UPDATE annotations SET modified_at = 1600000000")
        connection.close()

    with open_place(tmp_path) as place:
        annotated_folder(place.folder, 3)
        publish_label("person")
        with open_library(tmp_path) as library:
            sync(library, tmp_path / "target", datasets=[DATASET])
            for label in ("parson", "pirson"):
                publish_label(label)
                read_again(library)
                with pytest.raises(KeyboardInterrupt):
                    sync(library, tmp_path / "target", datasets=[DATASET], open_record=record)
            assert sync(library, tmp_path / "target", datasets=[DATASET]).changed == ()
        assert files_in(tmp_path / "target" / DATASET) == files_in(place.folder)


@pytest.fixture
def proxied(container: Container, tmp_path: Path) -> Iterator[tuple[Workplace, HttpProxy]]:
    """A catalog with one dataset of loose blobs in Azurite, behind a proxy."""
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=20), "--name", DATASET, "--loose")
        proxy.forget()
        yield workplace, proxy


def test_a_container_is_synced_with_one_request_a_file_and_none_the_second_time(
    proxied: tuple[Workplace, HttpProxy], tmp_path: Path
) -> None:
    workplace, proxy = proxied
    workplace.run("sync", tmp_path / "target", "--all", "--cache-dir", tmp_path / "cache-1")
    assert files_in(tmp_path / "target" / DATASET) == files_in(tmp_path / "one")
    assert proxy.count() == 40
    proxy.forget()
    done = workplace.run("sync", tmp_path / "target", "--all", "--cache-dir", tmp_path / "cache-2")
    assert "Nothing to transfer" in done.stdout
    assert proxy.count() == 0


def test_a_store_that_is_away_ends_the_sync_early_with_one_sentence_and_the_next_one_goes_on(
    proxied: tuple[Workplace, HttpProxy], tmp_path: Path
) -> None:
    workplace, proxy = proxied
    proxy.stop()
    began = time.monotonic()
    done = workplace.run("sync", tmp_path / "target", "--all", "--timeout", "2", status=1)
    assert time.monotonic() - began < 20
    assert len([line for line in done.stderr.splitlines() if line.startswith("imgsyncfs: ")]) == 1
    assert files_in(tmp_path / "target" / DATASET) == {}
    proxy.start()
    workplace.run("sync", tmp_path / "target", "--all")
    assert files_in(tmp_path / "target" / DATASET) == files_in(tmp_path / "one")


def test_a_network_that_goes_midway_leaves_whole_files_and_what_is_missing_is_fetched_later(
    proxied: tuple[Workplace, HttpProxy], container: Container, tmp_path: Path
) -> None:
    _, proxy = proxied
    published = files_in(tmp_path / "one")
    connection = {container.url: {"connection_string": container.azurite.connection_string_through(proxy.port)}}
    with open_library(tmp_path, timeout=3, stores=connection) as library:
        # The answers break off within the fifth file; those that follow find nobody.
        proxy.set_fault(Fault(cut_after=100))
        with pytest.raises(StoreUnreachable):
            sync(library, tmp_path / "target", datasets=[DATASET])
        for name, content in files_in(tmp_path / "target" / DATASET).items():
            assert content == published[name]
    proxy.set_fault(Fault())
    with open_library(tmp_path, stores=connection) as library:
        sync(library, tmp_path / "target", datasets=[DATASET])
    assert files_in(tmp_path / "target" / DATASET) == published


def test_a_store_that_is_away_for_a_moment_is_waited_for(
    proxied: tuple[Workplace, HttpProxy], container: Container, tmp_path: Path
) -> None:
    _, proxy = proxied
    connection = {container.url: {"connection_string": container.azurite.connection_string_through(proxy.port)}}
    proxy.set_fault(Fault(status=503, count=20))
    with open_library(tmp_path, timeout=20, stores=connection) as library:
        summary = sync(library, tmp_path / "target", datasets=[DATASET])
    assert (summary.copied, summary.failed) == (40, ())


def test_an_interrupted_sync_ends_soon_and_leaves_nothing_behind(
    proxied: tuple[Workplace, HttpProxy], tmp_path: Path
) -> None:
    workplace, proxy = proxied
    with proxy.fault(Fault(hold=True)):
        process = subprocess.Popen(
            [sys.executable, "-m", "imgsyncfs", "sync", tmp_path / "target", "--all"],
            env=workplace.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        proxy.wait_for_requests(2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert time.monotonic() - began < 15
    assert (process.returncode, told.splitlines()[-1]) == (130, "Interrupted.")
    assert files_in(tmp_path / "target" / DATASET) == {}


def test_a_disk_that_becomes_full_is_said_to_be_so_and_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_place(tmp_path) as place:
        annotated_folder(place.folder, 30)
        place.publish()
        published = files_in(place.folder)
        with open_library(tmp_path) as library:
            calls = iter(range(1000))
            real = os.fsync

            def full(descriptor: int) -> None:
                if next(calls) >= 10:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                real(descriptor)

            monkeypatch.setattr(os, "fsync", full)
            with pytest.raises(SyncError, match="no room left"):
                sync(library, tmp_path / "target", datasets=[DATASET])
            monkeypatch.undo()
            left = files_in(tmp_path / "target" / DATASET)
            assert left.items() <= published.items()
            assert len(left) < len(published)
            sync(library, tmp_path / "target", datasets=[DATASET])
        assert files_in(tmp_path / "target" / DATASET) == published
