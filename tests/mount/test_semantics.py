"""Sentences of the README about what a mount does that no other file's tests hold; `tests/semantics.txt` names them."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sqlite3
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.http_proxy import HttpProxy
from support.mounting import (
    Workplace,
    box_annotation,
    copy_of,
    eventually,
    mount_status,
    noise_image,
    process_ids,
    workplace_with,
    write_folder,
    write_image,
)
from support.services import Container

from imgsyncfs.catalog import open_catalog
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.folder import publish

DATASET = "original_20260105_rgb_rbbox"
OTHER = "original_20260106_rgb_rbbox"

NEVER = ("--refresh", "3600")
"""A mount that does not ask by itself while a test runs."""

SOON = 5.0
"""Seconds in which what happens at once has happened, on a busy machine too."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog of one dataset of packed files."""
    return workplace_with(tmp_path_factory.mktemp("prepared"), DATASET, count=6)


@pytest.fixture
def workplace(prepared: Workplace, tmp_path: Path) -> Workplace:
    """A copy of it, to be changed; what was published is in its folder ``one``."""
    return copy_of(prepared, tmp_path)


def publish_elsewhere(workplace: Workplace, folder: Path, name: str = DATASET, *, loose: bool = False) -> None:
    """Publish as on another machine: nobody tells the mounts of this one."""
    store_url = (workplace.folder / "store").as_uri()
    with open_catalog(f"sqlite://{workplace.catalog}") as catalog, closing(open_store(store_url)) as store:
        publish(folder, catalog=catalog, store=store, dataset_id=name, loose=loose)


def read_error(path: Path) -> int | None:
    """The errno that reading a file ends in."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


def content_of(path: Path) -> bytes:
    """Read a file with system calls alone: Python's own `open` asks each file whether it is a terminal."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
    finally:
        os.close(descriptor)


def test_listing_a_directory_renders_nothing_and_stat_of_a_sibling_does(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        for folder, _, names in os.walk(mountpoint / DATASET):
            assert len(names) == 24
            assert sum(1 for _ in os.scandir(folder)) == 24
        assert mount_status(mountpoint)["responders"]["renders"] == 0
        sibling = mountpoint / DATASET / "img_00000.xml"
        size = sibling.stat().st_size
        assert eventually(lambda: mount_status(mountpoint)["responders"]["renders"] == 1)
        assert len(sibling.read_bytes()) == size


@pytest.mark.parametrize("seconds", ["0", "3600"])
def test_a_second_epoch_sends_no_message_at_all_whatever_timeouts_are_given(workplace: Workplace, seconds: str) -> None:
    names = ("attr_timeout", "entry_timeout", "negative_timeout")
    options = ",".join(f"{name}={seconds}" for name in names)
    with workplace.mounted(*NEVER, "-o", options) as mountpoint:

        def epoch() -> list[bytes]:
            with pytest.raises(FileNotFoundError):
                os.stat(mountpoint / DATASET / "absent.jpg")  # noqa: PTH116  # one call
            return [content_of(path) for path in sorted((mountpoint / DATASET).iterdir())]

        first = epoch()
        before = mount_status(mountpoint)["responders"]["requests"]
        assert [epoch() for _ in range(5)] == [first] * 5
        # What reading status.json takes, and answers that were counted late; five times 25 files were looked at.
        assert mount_status(mountpoint)["responders"]["requests"] - before < 12


def test_times_are_those_of_the_last_change_and_stay_while_the_content_does(workplace: Workplace) -> None:
    def times(mountpoint: Path) -> dict[str, tuple[int, int]]:
        found = {path.name: path.stat() for path in (mountpoint / DATASET).iterdir()}
        return {name: (status.st_mtime_ns, status.st_ctime_ns) for name, status in found.items()}

    with workplace.mounted("--refresh", "0.3") as mountpoint:
        before = times(mountpoint)
        began = int(time.time())
        # The time of a change is told in seconds.
        assert eventually(lambda: time.time() > began + 1)
        (workplace.folder / "one" / "img_00003.json").write_bytes(box_annotation(x=50.0))
        write_image(workplace.folder / "one" / "img_00004.jpg", shade=201)
        publish_elsewhere(workplace, workplace.folder / "one")
        assert eventually(lambda: times(mountpoint)["img_00004.jpg"] != before["img_00004.jpg"])
        after = times(mountpoint)
    with workplace.mounted(name="again") as mountpoint:
        assert times(mountpoint) == after
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"img_00003.json", "img_00003.xml", "img_00003.labelme.json", "img_00004.jpg"}
    for name in changed:
        assert all(before[name][0] < moment and moment // 10**9 > began for moment in after[name])


def test_index_and_subscribe_say_which_mounts_show_it_and_they_do(workplace: Workplace, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "store" / "in_place", count=2)
    with workplace.mounted(*NEVER) as mountpoint:
        done = workplace.run("index", folder.as_uri(), "--name", OTHER)
        assert f"The mount at {mountpoint} shows it." in done.stdout
        assert (mountpoint / OTHER / "img_00001.jpg").read_bytes() == (folder / "img_00001.jpg").read_bytes()
        done = workplace.run("subscribe", "mine", OTHER)
        assert f"The mount at {mountpoint} shows it." in done.stdout
        assert (mountpoint / ".subscriptions" / "mine" / OTHER).is_dir()


@pytest.mark.parametrize("way", ["refresh", "asked"])
def test_a_mount_shows_what_others_publish_within_its_refresh_or_when_somebody_reads_that_file(
    workplace: Workplace, tmp_path: Path, way: str
) -> None:
    folder = write_folder(tmp_path / "second", count=1)
    with workplace.mounted(*(NEVER if way == "asked" else ("--refresh", "0.5"))) as mountpoint:
        began = time.monotonic()
        publish_elsewhere(workplace, folder, OTHER)
        if way == "asked":
            assert not (mountpoint / OTHER).exists()
            (mountpoint / ".imgsyncfs" / "refresh").read_bytes()
            assert (mountpoint / OTHER).is_dir()
        else:
            assert eventually((mountpoint / OTHER).is_dir)
            assert time.monotonic() - began < SOON


@contextmanager
def watching(path: Path) -> Iterator[int]:
    """A descriptor that inotify tells of whatever happens in a directory."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    everything_but_reading = 0x0FC6
    assert libc.inotify_add_watch(descriptor, os.fsencode(path), everything_but_reading) > 0
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def heard(descriptor: int) -> list[int]:
    """The kinds of the events that inotify has told of."""
    try:
        content = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return []
    kinds = []
    while content:
        _, kind, _, length = struct.unpack_from("iIII", content)
        kinds.append(kind)
        content = content[16 + length :]
    return kinds


def test_watchers_hear_nothing_of_a_publish(workplace: Workplace, tmp_path: Path) -> None:
    with (
        workplace.mounted(*NEVER) as mountpoint,
        watching(mountpoint / DATASET) as watcher,
        watching(tmp_path / "one") as control,
    ):
        write_image(tmp_path / "one" / "new.jpg")
        workplace.run("publish", tmp_path / "one", "--name", DATASET)
        assert (mountpoint / DATASET / "new.jpg").exists()
        assert heard(control)
        assert heard(watcher) == []


def test_when_a_blob_was_replaced_the_catalog_is_asked_at_once(workplace: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "loose"
    folder.mkdir()
    noise_image(folder / "a.png", seed=1)
    workplace.run("publish", folder, "--name", OTHER, "--loose")
    [blob] = (tmp_path / "store").rglob("a.*.png")
    with workplace.mounted(*NEVER) as mountpoint:
        assert (mountpoint / OTHER / "a.png").stat().st_size
        # On another machine: published anew, and somebody has written over the old blob.
        content = noise_image(folder / "a.png", seed=2)
        publish_elsewhere(workplace, folder, OTHER, loose=True)
        blob.chmod(0o644)
        blob.write_bytes(content)
        began = time.monotonic()
        assert read_error(mountpoint / OTHER / "a.png") == errno.ESTALE
        assert eventually(lambda: read_error(mountpoint / OTHER / "a.png") is None)
        assert (mountpoint / OTHER / "a.png").read_bytes() == content
        assert time.monotonic() - began < SOON


def test_status_says_which_store_and_that_the_catalog_is_away(container: Container, tmp_path: Path) -> None:
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=2), "--name", DATASET, "--loose")
        with workplace.mounted("--refresh", "0.3", "--timeout", "2") as mountpoint:
            assert mount_status(mountpoint)["store"]["away"] == {}
            kept = (mountpoint / DATASET / "img_00000.jpg").read_bytes()
            proxy.stop()
            Path(workplace.catalog).rename(tmp_path / "unplugged.db")
            assert read_error(mountpoint / DATASET / "img_00001.json") == errno.EIO
            assert eventually(lambda: bool(mount_status(mountpoint)["catalog"]["trouble"]))
            status = mount_status(mountpoint)
            assert list(status["store"]["away"]) == [container.url]
            assert workplace.catalog in status["catalog"]["trouble"]
            shown = workplace.run("status", mountpoint).stdout
            assert container.url in shown
            assert "img_00001.json" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
            assert (mountpoint / DATASET / "img_00000.jpg").read_bytes() == kept


@pytest.mark.parametrize("way", ["up", "link", "pipe"])
def test_a_cache_entry_that_leads_elsewhere_is_fetched_again_counted_and_nothing_is_touched(
    workplace: Workplace, tmp_path: Path, way: str
) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    content = noise_image(folder / "long.png", seed=1)
    workplace.run("publish", folder, "--name", OTHER, "--loose")
    with workplace.mounted() as mountpoint:
        assert (mountpoint / OTHER / "long.png").read_bytes() == content
    extents = tmp_path / "cache" / "extents"
    treasure = tmp_path / "treasure"
    treasure.write_bytes(content[::-1])
    if way == "up":
        with closing(sqlite3.connect(extents / "cache.db")) as connection, connection:
            connection.execute("UPDATE Cache SET filename = '../../treasure' WHERE filename IS NOT NULL")
    else:
        [file] = (path for path in extents.rglob("*.val") if path.stat().st_size > 500_000)
        file.unlink()
        if way == "link":
            file.symlink_to(treasure)
        else:
            os.mkfifo(file)
    with workplace.mounted("--timeout", "5", name="again") as mountpoint:
        assert (mountpoint / OTHER / "long.png").read_bytes() == content
        assert mount_status(mountpoint)["cache"]["damaged"] >= 1
    assert treasure.read_bytes() == content[::-1]


def test_a_mount_in_use_is_detached_by_lazy_and_what_is_open_goes_on_being_read(workplace: Workplace) -> None:
    published = (workplace.folder / "one" / "img_00003.jpg").read_bytes()
    with (
        workplace.mounted() as mountpoint,
        (mountpoint / DATASET / "img_00003.jpg").open("rb", buffering=0) as reader,
    ):
        workplace.run("umount", mountpoint, status=1)
        assert reader.read(10) == published[:10]
        began = time.monotonic()
        assert "is detached" in workplace.run("umount", "--lazy", mountpoint).stderr
        assert time.monotonic() - began < 10
        assert not os.path.ismount(mountpoint)
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert published[:10] + reader.read() == published
        reader.close()


def test_a_reader_of_a_stopped_mount_waits_and_ends_when_it_is_interrupted(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        processes = process_ids(mountpoint)
        image = mountpoint / DATASET / "img_00003.jpg"
        assert image.exists()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            with subprocess.Popen(["cat", image], stdout=subprocess.DEVNULL) as reader:
                with pytest.raises(subprocess.TimeoutExpired):
                    reader.wait(1)
                reader.send_signal(signal.SIGINT)
                assert reader.wait(SOON) == -signal.SIGINT
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)


def test_after_kill_9_readers_have_an_error_at_once(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        image = mountpoint / DATASET / "img_00003.jpg"
        assert image.exists()
        os.kill(process_ids(mountpoint)[0], signal.SIGKILL)
        assert eventually(lambda: not workplace.processes_left())
        began = time.monotonic()
        assert read_error(image) == errno.ENOTCONN
        assert time.monotonic() - began < SOON
        workplace.run("umount", mountpoint)


def test_after_kill_9_what_the_kernel_holds_is_still_read(workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        image = mountpoint / DATASET / "img_00003.jpg"
        content, names = image.read_bytes(), sorted(path.name for path in image.parent.iterdir())
        os.kill(process_ids(mountpoint)[0], signal.SIGKILL)
        assert eventually(lambda: not workplace.processes_left())
        assert (image.read_bytes(), sorted(path.name for path in image.parent.iterdir())) == (content, names)
        assert read_error(image.with_name("img_00004.jpg")) == errno.ENOTCONN
        workplace.run("umount", mountpoint)
