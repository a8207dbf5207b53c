"""Sixteen readers while the store, or the way to it, fails: right bytes or the errno that the README names, in time."""

from __future__ import annotations

import contextlib
import errno
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, eventually, mount_status, write_folder
from support.services import Azurite

DATASET = "original_20260105_rgb_bbox"
ANNOTATED = "original_20260106_rgb_rbbox"
PACKED = "original_20260108_rgb_bbox"

READERS = 16
TIMEOUT = 2.0
REFRESH = 1.0
LATE_SECONDS = 2.0
"""How much longer than the timeout a read may take."""

FAULT_SECONDS = 1.2
"""How long readers go on: after the first failure the store is not asked for a while."""

MORE_IMAGES = 2 * READERS
"""Images beside those of the cases."""

PORTAL = b"<html><body>Please log in to the guest network.</body></html>"


@dataclass(frozen=True)
class Case:
    """A fault, and what readers get.

    Attributes:
        fault: what the proxy does; None where it takes no connections at all.
        errors: the errnos that a read may end in.
        is_always_right: every read ends well.
    """

    fault: Fault | None
    errors: frozenset[int] = frozenset({errno.EIO})
    is_always_right: bool = False


CASES = {
    "connections are refused": Case(None),
    "nothing is answered": Case(Fault(hold=True)),
    "each answer ends within its body": Case(Fault(cut_after=5000), is_always_right=True),
    "each answer ends before its body": Case(Fault(cut_after=0)),
    "1 kB/s": Case(Fault(bytes_per_second=1000)),
    "403": Case(Fault(status=403, headers={"x-ms-error-code": "AuthenticationFailed"}), frozenset({errno.EACCES})),
    "403 of something else": Case(Fault(status=403, content=PORTAL)),
    "404": Case(Fault(status=404, headers={"x-ms-error-code": "BlobNotFound"})),
    "404 of the container": Case(Fault(status=404, headers={"x-ms-error-code": "ContainerNotFound"})),
    "412": Case(Fault(status=412, headers={"x-ms-error-code": "ConditionNotMet"}), frozenset({errno.ESTALE})),
    "429 at first": Case(Fault(status=429, headers={"Retry-After": "1"}, count=READERS // 2), is_always_right=True),
    "429": Case(Fault(status=429, headers={"Retry-After": "1"})),
    "429 for an hour": Case(Fault(status=429, headers={"Retry-After": "3600"})),
    "500": Case(Fault(status=500)),
    "503 at first": Case(Fault(status=503, count=READERS), is_always_right=True),
    "a portal's page": Case(Fault(status=200, content=PORTAL)),
    "a portal's redirect": Case(Fault(status=302, headers={"Location": "http://127.0.0.1:9/"}, content=PORTAL)),
    "a page without end": Case(Fault(status=200, content=bytes(65536), is_endless=True)),
    "a range without end": Case(
        Fault(status=206, headers={"Content-Range": "bytes 0-19734/19735"}, content=bytes(65536), is_endless=True)
    ),
    "bodies shorter than said": Case(Fault(length_off=500), is_always_right=True),
    "bodies longer than said": Case(Fault(length_off=-500)),
    "another range": Case(Fault(range_off=1)),
    "another body": Case(Fault(is_blanked=True), frozenset({errno.ESTALE})),
    "a flipped bit": Case(Fault(flip_at=12_345), frozenset({errno.ESTALE})),
}


@dataclass(frozen=True)
class Place:
    """A mount whose store is behind a proxy.

    Attributes:
        workplace: its catalog, and the way to the store through the proxy.
        mountpoint: where it is.
        proxy: before the store.
        contents: what the dataset's images are, by their names.
        unread: the names of those that no test has read, no two neighbours one after the other, so that none is
            fetched ahead.
    """

    workplace: Workplace
    mountpoint: Path
    proxy: HttpProxy
    contents: Mapping[str, bytes]
    unread: list[str]

    def take(self, count: int) -> list[Path]:
        """So many images that no test has read, and the cache has none of."""
        self.workplace.run("cache", "clear")
        taken, self.unread[:] = self.unread[:count], self.unread[count:]
        assert len(taken) == count
        return [self.mountpoint / DATASET / name for name in taken]

    @contextlib.contextmanager
    def disturbed(self, fault: Fault | None) -> Iterator[None]:
        """The fault for as long as the block runs; None for a proxy that takes no connections."""
        if fault is not None:
            with self.proxy.fault(fault):
                yield
            return
        self.proxy.stop()
        try:
            yield
        finally:
            self.proxy.start()

    def read(self, path: Path) -> int:
        """Read a file; returns the errno, 0 if it came, with the right content and in time."""
        began = time.monotonic()
        try:
            content = path.read_bytes()
        except OSError as error:
            found = error.errno or -1
        else:
            found = 0
            assert content == self.contents[path.name]
        assert time.monotonic() - began < TIMEOUT + LATE_SECONDS
        return found

    def read_all(self, paths: list[Path]) -> set[int]:
        """Sixteen readers read files; returns how that ended."""
        with ThreadPoolExecutor(READERS) as readers:
            return set(readers.map(self.read, paths))


@pytest.fixture(scope="module")
def place(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("faults")
    name = f"test-{uuid.uuid4().hex}"
    with azurite.client() as client:
        client.create_container(name)
    step = len(CASES) + MORE_IMAGES // READERS
    contents = write_images(folder / "one", count=READERS * step)
    connection = {"AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string}
    direct = Workplace(str(folder / "catalog.db"), folder, connection)
    direct.run("init", "--store", f"azure://{azurite.account}/{name}")
    direct.run("publish", folder / "one", "--name", DATASET, "--loose")
    (folder / "packed").mkdir()
    for name in [*contents][:READERS]:
        (folder / "packed" / name).symlink_to(folder / "one" / name)
    direct.run("publish", folder / "packed", "--name", PACKED)
    direct.run("publish", write_folder(folder / "two", count=100), "--name", ANNOTATED, "--loose")
    names = [*contents]
    unread = [name for start in range(step) for name in names[start::step]]
    with HttpProxy(azurite.port) as proxy:
        connection = {"AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string_through(proxy.port)}
        workplace = Workplace(direct.catalog, folder, connection)
        with workplace.mounted("--timeout", f"{TIMEOUT:g}", "--refresh", f"{REFRESH:g}") as mountpoint:
            yield Place(workplace, mountpoint, proxy, contents, unread)
        print(f"{proxy.disturbed:,} requests disturbed")  # pytest -s shows it


def write_images(folder: Path, *, count: int) -> dict[str, bytes]:
    """Write images of 20 kB that nothing compresses; returns their contents by their names."""
    folder.mkdir()
    noise = np.random.default_rng(1)
    for number in range(count):
        pixels = noise.integers(0, 256, (80, 82, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"img_{number:05}.png", compress_level=0)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_while_the_store_fails_readers_get_right_bytes_or_the_errno_of_the_failure_in_time(
    place: Place, case: Case
) -> None:
    paths = place.take(READERS)
    disturbed = place.proxy.disturbed
    end = time.monotonic() + FAULT_SECONDS
    with place.disturbed(case.fault):
        found = place.read_all(paths)
        while time.monotonic() < end and found != {0}:
            found |= place.read_all(paths)
    over = time.monotonic()
    assert found == {0} if case.is_always_right else found & case.errors
    assert found <= {0, *case.errors}
    assert case.fault is None or place.proxy.disturbed > disturbed
    while place.read_all(paths) != {0}:
        assert time.monotonic() < over + REFRESH + LATE_SECONDS


def test_while_the_store_fails_what_lies_in_a_pack_is_read_right_or_not_at_all(place: Place) -> None:
    paths = [place.mountpoint / PACKED / name for name in [*place.contents][:READERS]]
    # All of them lie in one extent, which does not come until the last of these.
    for name in ("another body", "a flipped bit", "another range", "403", "412", "404", "1 kB/s"):
        assert eventually(lambda: mount_status(place.mountpoint)["store"]["away"] == {})
        with place.disturbed(CASES[name].fault):
            assert place.read_all(paths) == CASES[name].errors
    assert eventually(lambda: mount_status(place.mountpoint)["store"]["away"] == {})
    with place.proxy.fault(Fault(cut_after=100_000)):
        assert place.read_all(paths) == {0}


def test_a_reader_who_joins_what_was_fetched_ahead_in_vain_waits_no_longer_than_the_timeout(place: Place) -> None:
    assert eventually(lambda: mount_status(place.mountpoint)["store"]["away"] == {})
    row = [place.mountpoint / ANNOTATED / f"img_{number:05}.jpg" for number in range(60)]
    # In a row, so that the next ones are fetched ahead.
    for path in row[:8]:
        path.read_bytes()
    with place.proxy.fault(Fault(hold=True)):
        for path in row[8:]:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                path.read_bytes()
            assert time.monotonic() - began < TIMEOUT + LATE_SECONDS / 2


def test_while_every_read_hangs_ls_and_stat_go_on_at_their_usual_rate(place: Place) -> None:
    paths = place.take(READERS)
    folder = place.mountpoint / ANNOTATED
    siblings = [folder / f"img_{number:05}.labelme.json" for number in range(READERS)]
    images = [folder / f"img_{number:05}.jpg" for number in range(100)]
    assert eventually(lambda: mount_status(place.mountpoint)["store"]["away"] == {})
    with ThreadPoolExecutor(2 * READERS) as readers, place.proxy.fault(Fault(hold=True)):
        hanging = [readers.submit(place.read, path) for path in paths]
        hanging += [readers.submit(stat_error, path) for path in siblings]
        assert eventually(lambda: mount_status(place.mountpoint)["store"]["waiting"] >= 2 * READERS)
        began = time.monotonic()
        assert len(list(folder.iterdir())) == 400
        for image in images:
            assert image.stat().st_size > 0
        # 100 look-ups and a list take 20 ms.
        assert time.monotonic() - began < 0.5
        assert not any(each.done() for each in hanging)
        assert {each.result() for each in hanging} == {errno.EIO}


def stat_error(path: Path) -> int:
    """The errno that a look at a file ends in; 0 for none."""
    try:
        path.stat()
    except OSError as error:
        return error.errno or -1
    return 0
