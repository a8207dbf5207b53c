"""What a reader gets when something goes wrong behind the mount, and what the mount says about it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import orjson
import pytest
from support.http_proxy import Fault, HttpProxy
from support.mounting import (
    Workplace,
    copy_of,
    eventually,
    local_workplace,
    mount_status,
    noise_image,
    write_folder,
)
from support.services import Container

DATASET = "original_20260105_rgb_rbbox"

REFUSED = Fault(status=403, headers={"x-ms-error-code": "AuthenticationFailed"})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A catalog with one dataset of loose blobs in a local store."""
    workplace = local_workplace(tmp_path_factory.mktemp("published"))
    workplace.run("publish", write_folder(workplace.folder / "one", count=4), "--name", DATASET, "--loose")
    return workplace


@pytest.fixture
def workplace(published: Workplace, tmp_path: Path) -> Workplace:
    """A copy of that catalog."""
    return copy_of(published, tmp_path)


@pytest.fixture
def proxied(container: Container, tmp_path: Path) -> Iterator[tuple[Workplace, HttpProxy]]:
    """A catalog with one dataset of loose blobs in Azurite, behind a proxy."""
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        workplace.run("publish", write_folder(tmp_path / "one", count=4), "--name", DATASET, "--loose")
        yield workplace, proxy


def read_error(path: Path) -> int | None:
    """The errno that reading a file ends in."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


def blob_of(workplace: Workplace, name: str) -> Path:
    """The file in the local store that holds an image or annotation."""
    stem, ext = name.split(".")
    [blob] = (workplace.folder / "store").rglob(f"{stem}.*.{ext}")
    return blob


def told(mountpoint: Path) -> list[str]:
    """The lines of errors.log."""
    return (mountpoint / ".imgsyncfs" / "errors.log").read_text().splitlines()


def test_a_blob_that_is_gone_is_an_input_output_error_and_one_line_that_names_it(workplace: Workplace) -> None:
    blob = blob_of(workplace, "img_00000.jpg")
    blob.unlink()
    with workplace.mounted() as mountpoint:
        for _ in range(5):
            assert read_error(mountpoint / DATASET / "img_00000.jpg") == errno.EIO
        assert read_error(mountpoint / DATASET / "img_00001.jpg") is None
        [line] = told(mountpoint)
    assert blob.name in line


def test_a_blob_that_was_replaced_is_stale_and_never_shown(workplace: Workplace) -> None:
    blob = blob_of(workplace, "img_00000.jpg")
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[::-1])
    with workplace.mounted() as mountpoint:
        assert read_error(mountpoint / DATASET / "img_00000.jpg") == errno.ESTALE
        assert any(blob.name in line for line in told(mountpoint))


def test_a_damaged_cache_is_fetched_again_and_counted(workplace: Workplace, tmp_path: Path) -> None:
    published = (tmp_path / "one" / "img_00000.jpg").read_bytes()
    with workplace.mounted() as mountpoint:
        assert (mountpoint / DATASET / "img_00000.jpg").read_bytes() == published
    # Small extents lie in the cache's database.
    with sqlite3.connect(workplace.folder / "cache" / "extents" / "cache.db") as connection:
        connection.execute("UPDATE Cache SET value = zeroblob(length(value))")
    connection.close()
    with workplace.mounted(name="again") as mountpoint:
        assert (mountpoint / DATASET / "img_00000.jpg").read_bytes() == published
        status = orjson.loads(workplace.run("status", mountpoint, "--json").stdout)
    assert status["cache"]["damaged"] >= 1


def test_a_store_that_never_answers_is_an_error_within_the_time_limit_and_listing_goes_on(
    proxied: tuple[Workplace, HttpProxy],
) -> None:
    workplace, proxy = proxied
    with workplace.mounted("--timeout", "3") as mountpoint:
        with proxy.fault(Fault(hold=True)):
            began = time.monotonic()
            assert read_error(mountpoint / DATASET / "img_00000.jpg") == errno.EIO
            # The time limit, and 2 s.
            assert time.monotonic() - began < 5
            # Readers that come now are refused at once, and do not each wait for a time limit of their own.
            began = time.monotonic()
            assert read_error(mountpoint / DATASET / "img_00001.jpg") == errno.EIO
            assert time.monotonic() - began < 2
            assert len(list((mountpoint / DATASET).iterdir())) == 16
            assert (mountpoint / DATASET / "img_00002.jpg").stat().st_size > 0
        deadline = time.monotonic() + 60
        while read_error(mountpoint / DATASET / "img_00000.jpg") is not None:
            assert time.monotonic() < deadline


def test_a_read_whose_fetching_process_hangs_is_an_error_within_the_time_limit_though_the_kernel_asks_twice(
    workplace: Workplace,
) -> None:
    with workplace.mounted("--timeout", "3") as mountpoint:
        image = mountpoint / DATASET / "img_00000.jpg"
        assert image.stat().st_size > 0
        workers = mount_status(mountpoint)["workers"]["process_ids"]
        for process in workers:
            os.kill(process, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert read_error(image) == errno.EIO
            assert time.monotonic() - began < 5
        finally:
            for process in workers:
                os.kill(process, signal.SIGCONT)
        assert eventually(lambda: read_error(image) is None)


def test_an_answer_that_breaks_off_is_asked_for_again_and_never_read_short(
    proxied: tuple[Workplace, HttpProxy], tmp_path: Path
) -> None:
    workplace, proxy = proxied
    with workplace.mounted() as mountpoint, proxy.fault(Fault(cut_after=100, count=2)):
        image = mountpoint / DATASET / "img_00000.jpg"
        assert image.read_bytes() == (tmp_path / "one" / "img_00000.jpg").read_bytes()


def test_credentials_that_are_refused_later_are_a_permission_error_told_once(
    proxied: tuple[Workplace, HttpProxy],
) -> None:
    workplace, proxy = proxied
    with workplace.mounted() as mountpoint:
        with proxy.fault(REFUSED):
            for number in range(3):
                assert read_error(mountpoint / DATASET / f"img_{number:05}.jpg") == errno.EACCES
        assert len(told(mountpoint)) == 1


def test_with_the_database_away_a_mount_starts_from_what_it_saw_last(tmp_path: Path, workplace: Workplace) -> None:
    with workplace.mounted() as mountpoint:
        names = sorted(os.listdir(mountpoint / DATASET))  # noqa: PTH208  # names are what is compared
    # A server that is away, and not a file that is missing: the same catalog, seen through a time limit.
    connection = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with workplace.mounted("--timeout", "1", name="again") as mountpoint:
            assert sorted(os.listdir(mountpoint / DATASET)) == names  # noqa: PTH208  # likewise
            assert "from what it saw last" in told(mountpoint)[0]
    finally:
        connection.close()


def test_a_dataset_that_nobody_has_looked_into_is_not_missing_while_the_file_of_the_database_is_away(
    tmp_path: Path, workplace: Workplace
) -> None:
    with workplace.mounted() as mountpoint:
        (tmp_path / "catalog.db").rename(tmp_path / "away.db")
        try:
            assert read_error(mountpoint / DATASET / "img_00001.jpg") == errno.EIO
            with pytest.raises(OSError, match=rf"\[Errno {errno.EIO}\]"):
                os.listdir(mountpoint / DATASET)  # noqa: PTH208  # what fails is one call
        finally:
            (tmp_path / "away.db").rename(tmp_path / "catalog.db")
        assert read_error(mountpoint / DATASET / "img_00001.jpg") is None


def test_a_dataset_that_is_gone_before_anybody_looked_into_it_does_not_look_empty(
    tmp_path: Path, workplace: Workplace
) -> None:
    with workplace.mounted() as mountpoint:
        with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection, connection:
            connection.execute("DELETE FROM datasets")
        with pytest.raises(OSError, match=rf"\[Errno {errno.ESTALE}\]"):
            os.listdir(mountpoint / DATASET)  # noqa: PTH208  # what fails is one call
        assert read_error(mountpoint / DATASET / "img_00001.jpg") == errno.ENOENT


@contextmanager
def disk(folder: Path, *, byte_count: int) -> Iterator[None]:
    """Have a folder be a disk of its own of this size."""
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={byte_count},mode=700", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_with_no_room_in_the_cache_reads_go_on_without_it(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    (tmp_path / "noise").mkdir()
    contents = {f"{seed}.png": noise_image(tmp_path / "noise" / f"{seed}.png", seed=seed) for seed in range(3)}
    workplace.run("publish", tmp_path / "noise", "--name", "original_20260107_rgb_bbox", "--loose")
    # The disk of the cache has room for the mount's tables, and not for an extent of 700 kB.
    with disk(tmp_path / "cache", byte_count=600_000), workplace.mounted() as mountpoint:
        for name, content in contents.items():
            assert (mountpoint / "original_20260107_rgb_bbox" / name).read_bytes() == content
        status = orjson.loads(workplace.run("status", mountpoint, "--json").stdout)
    assert status["store"]["uncached"] == 3


@contextmanager
def refused_connections(proxy: HttpProxy) -> Iterator[None]:
    """Have nobody listen there."""
    proxy.stop()
    try:
        yield
    finally:
        proxy.start()


PORTAL = b"<html><body>Please log in to the guest network.</body></html>"

AWAY: dict[str, Callable[[HttpProxy], AbstractContextManager[None]]] = {
    "down": refused_connections,
    "silent": lambda proxy: proxy.fault(Fault(hold=True)),
    "refusing": lambda proxy: proxy.fault(REFUSED),
    "without the container": lambda proxy: proxy.fault(
        Fault(status=404, headers={"x-ms-error-code": "ContainerNotFound"})
    ),
    "behind a portal's page": lambda proxy: proxy.fault(Fault(status=200, content=PORTAL)),
    "behind a portal's redirect": lambda proxy: proxy.fault(
        Fault(status=302, headers={"Location": "http://127.0.0.1:9/"}, content=PORTAL)
    ),
}


@pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
def test_a_mount_whose_store_is_away_says_so_and_reads_what_is_cached(
    proxied: tuple[Workplace, HttpProxy], away: Callable[[HttpProxy], AbstractContextManager[None]]
) -> None:
    workplace, proxy = proxied
    with workplace.mounted("--siblings", "none") as mountpoint:
        content = (mountpoint / DATASET / "img_00000.jpg").read_bytes()
    again = workplace.folder / "again"
    again.mkdir()
    with away(proxy):
        said = workplace.run("mount", again, "--timeout", "2", "--refresh", "1").stderr
    try:
        with away(proxy):
            assert (again / DATASET / "img_00000.jpg").read_bytes() == content
            [(store, reason)] = mount_status(again)["store"]["away"].items()
            assert store in said
            assert store in workplace.run("status", again).stdout.replace("\n", "")
            assert reason
            assert "Traceback" not in workplace.log()
        assert eventually(lambda: mount_status(again)["store"]["away"] == {})
        assert read_error(again / DATASET / "img_00003.jpg") is None
    finally:
        workplace.run("umount", again)


def test_with_nothing_cached_a_store_that_refuses_keeps_the_catalog_from_being_mounted(
    proxied: tuple[Workplace, HttpProxy],
) -> None:
    workplace, proxy = proxied
    (workplace.folder / "mnt").mkdir()
    with proxy.fault(REFUSED):
        said = workplace.run("mount", workplace.folder / "mnt", status=1).stderr
    assert "refused the credentials" in said


def test_with_the_file_of_the_catalog_away_a_mount_starts_from_what_it_saw_last(workplace: Workplace) -> None:
    image = Path(DATASET) / "img_00000.jpg"
    with workplace.mounted() as mountpoint:
        content = (mountpoint / image).read_bytes()
    catalog = Path(workplace.catalog)
    catalog.rename(catalog.with_name("elsewhere.db"))
    again = workplace.folder / "again"
    again.mkdir()
    said = workplace.run("mount", again, "--refresh", "1").stderr
    try:
        assert f"There is no catalog {catalog}" in said
        assert (again / image).read_bytes() == content
        assert "There is no catalog" in mount_status(again)["catalog"]["trouble"]
        catalog.with_name("elsewhere.db").rename(catalog)
        assert eventually(lambda: mount_status(again)["catalog"]["trouble"] == "")
    finally:
        workplace.run("umount", again)


def test_a_catalog_that_was_never_seen_and_is_not_there_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    said = Workplace(str(tmp_path / "catalog.db"), tmp_path).run("mount", tmp_path / "mnt", status=1).stderr
    assert "There is no catalog" in said
