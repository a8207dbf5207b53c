"""A reader that is ended while it waits goes at once, and takes nobody else's answer with it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.http_proxy import Fault, HttpProxy
from support.mounting import Workplace, eventually, local_workplace, mount_status, write_folder
from support.services import Container

DATASET = "original_20260105_rgb_rbbox"

ANSWER_SECONDS = 20.0
"""When the slow store answers; before the timeout of a mount, which is 30 seconds."""

AT_ONCE_SECONDS = 3.0

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@dataclass(frozen=True)
class SlowMount:
    """A mount whose store lets readers wait.

    Attributes:
        folder: the dataset's directory.
        published: what it was published from.
        proxy: before the store.
    """

    folder: Path
    published: Path
    proxy: HttpProxy

    def waiting(self) -> int:
        """How many requests of the kernel wait for the store."""
        count: int = mount_status(self.folder.parent)["store"]["waiting"]
        return count

    @contextlib.contextmanager
    def started(self, *command: str | Path, requests: int = 1) -> Iterator[subprocess.Popen[bytes]]:
        """A reader that waits for the store, with so many requests of the kernel's that wait."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
            try:
                assert eventually(lambda: self.waiting() >= requests)
                yield reader
            finally:
                reader.kill()


@pytest.fixture
def slow(container: Container, tmp_path: Path) -> Iterator[SlowMount]:
    """A mount of loose blobs that nobody has read."""
    with HttpProxy(container.azurite.port) as proxy:
        connection = container.azurite.connection_string_through(proxy.port)
        workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, {"AZURE_STORAGE_CONNECTION_STRING": connection})
        workplace.run("init", "--store", container.url)
        published = write_folder(tmp_path / "one", count=8)
        workplace.run("publish", published, "--name", DATASET, "--loose")
        with workplace.mounted() as mountpoint:
            # The listing comes from the database.
            assert (mountpoint / DATASET / "img_00000.jpg").exists()
            with proxy.fault(Fault(delay=ANSWER_SECONDS)):
                yield SlowMount(mountpoint / DATASET, published, proxy)


def seconds_to_end(reader: subprocess.Popen[bytes], signal_number: signal.Signals) -> float:
    """Send a signal, and wait for the end."""
    began = time.monotonic()
    reader.send_signal(signal_number)
    reader.wait(ANSWER_SECONDS + 20)
    return time.monotonic() - began


@pytest.mark.parametrize("signal_number", ENDING)
def test_a_reader_that_waits_for_a_slow_store_ends_at_once(slow: SlowMount, signal_number: signal.Signals) -> None:
    with slow.started("cat", slow.folder / "img_00001.jpg") as reader:
        assert seconds_to_end(reader, signal_number) < AT_ONCE_SECONDS
    assert reader.returncode == -signal_number


def test_who_waits_for_the_size_of_a_rendered_file_ends_at_once(slow: SlowMount) -> None:
    for number, signal_number in enumerate(ENDING):
        with slow.started("stat", slow.folder / f"img_{number:05}.xml") as reader:
            assert seconds_to_end(reader, signal_number) < AT_ONCE_SECONDS, signal_number
        assert reader.returncode == -signal_number
        # Only then is whatever waits the next one.
        assert eventually(lambda: slow.waiting() == 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces of processes everywhere")
def test_a_reader_that_is_killed_in_a_container_ends_at_once(slow: SlowMount) -> None:
    contained = ("unshare", "--pid", "--fork", "--kill-child", "stat")
    with slow.started(*contained, slow.folder / "img_00001.xml") as container:
        began = time.monotonic()
        container.kill()
        assert eventually(lambda: slow.waiting() == 0)
        assert time.monotonic() - began < AT_ONCE_SECONDS


def test_ctrl_c_interrupts_a_python_program_that_waits_for_a_slow_store(slow: SlowMount) -> None:
    with slow.started(
        sys.executable, "-c", "import os, sys; os.stat(sys.argv[1])", slow.folder / "img_00001.xml"
    ) as reader:
        assert seconds_to_end(reader, signal.SIGINT) < AT_ONCE_SECONDS
        assert reader.stderr is not None
        assert b"KeyboardInterrupt" in reader.stderr.read()


WAITS_THROUGH_SIGNALS = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
print(os.stat(sys.argv[1]).st_size)
"""


def test_a_signal_that_is_not_to_end_a_reader_lets_it_wait_for_its_answer(slow: SlowMount) -> None:
    with slow.started(sys.executable, "-c", WAITS_THROUGH_SIGNALS, slow.folder / "img_00001.xml") as reader:
        reader.send_signal(signal.SIGUSR1)
        # The responders are asked once more, and so have told of the interruption by then.
        assert slow.waiting() == 1
        slow.proxy.set_fault(Fault())
        said, errors = reader.communicate(timeout=ANSWER_SECONDS)
    assert errors == b""
    assert int(said) == (slow.folder / "img_00001.xml").stat().st_size


def test_a_reader_that_another_signal_has_interrupted_before_is_ended_at_once(slow: SlowMount) -> None:
    with slow.started(sys.executable, "-c", WAITS_THROUGH_SIGNALS, slow.folder / "img_00001.xml") as reader:
        reader.send_signal(signal.SIGUSR1)
        assert slow.waiting() == 1
        assert seconds_to_end(reader, signal.SIGKILL) < AT_ONCE_SECONDS


def test_who_waits_for_the_same_file_gets_it_when_another_reader_is_ended(slow: SlowMount) -> None:
    with (
        slow.started("stat", "--format=%s", slow.folder / "img_00001.xml") as staying,
        slow.started("stat", slow.folder / "img_00001.xml", requests=2) as leaving,
    ):
        assert seconds_to_end(leaving, signal.SIGKILL) < AT_ONCE_SECONDS
        assert slow.waiting() == 1
        slow.proxy.set_fault(Fault())
        said, _ = staying.communicate(timeout=ANSWER_SECONDS)
    assert int(said) == (slow.folder / "img_00001.xml").stat().st_size


def test_when_all_that_waited_were_ended_nothing_waits_and_the_file_can_be_read(slow: SlowMount) -> None:
    for name in ("img_00001.xml", "img_00002.xml", "img_00001.labelme.json"):
        with slow.started("stat", slow.folder / name) as reader:
            seconds_to_end(reader, signal.SIGKILL)
    assert slow.waiting() == 0
    slow.proxy.set_fault(Fault())
    assert (slow.folder / "img_00001.xml").read_bytes().startswith(b"<annotation")


@contextlib.contextmanager
def locked(catalog: str) -> Iterator[None]:
    """A catalog that answers nobody."""
    with contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


OTHER = "original_20260106_rgb_rbbox"


@pytest.fixture
def two_datasets(tmp_path: Path) -> Workplace:
    """A catalog with two datasets; the second's listing is not known to a mount that has the first's."""
    workplace = local_workplace(tmp_path)
    for name in (DATASET, OTHER):
        workplace.run("publish", write_folder(tmp_path / name, count=3), "--name", name)
    return workplace


def test_who_waits_for_a_listing_ends_at_once(two_datasets: Workplace) -> None:
    with two_datasets.mounted() as mountpoint, locked(two_datasets.catalog):
        for signal_number in ENDING:
            reader = subprocess.Popen(["ls", mountpoint / DATASET], stdout=subprocess.DEVNULL)
            assert eventually(lambda process=reader.pid: is_in_kernel(process))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            assert seconds_to_end(reader, signal_number) < AT_ONCE_SECONDS, signal_number


def test_who_looks_into_a_dataset_whose_listing_is_saved_waits_for_no_other(two_datasets: Workplace) -> None:
    with two_datasets.mounted() as mountpoint:
        assert len(list((mountpoint / OTHER).iterdir())) == 3 * 4
    with two_datasets.mounted() as mountpoint, locked(two_datasets.catalog):
        # More than listings are loaded at once.
        readers = [subprocess.Popen(["ls", mountpoint / DATASET], stdout=subprocess.DEVNULL) for _ in range(8)]
        assert eventually(lambda: all(is_in_kernel(reader.pid) for reader in readers))
        began = time.monotonic()
        assert len(list((mountpoint / OTHER).iterdir())) == 3 * 4
        assert time.monotonic() - began < AT_ONCE_SECONDS
        for reader in readers:
            reader.kill()
            reader.wait(AT_ONCE_SECONDS)


def test_however_many_wait_for_a_listing_all_fail_within_the_timeout(two_datasets: Workplace) -> None:
    timeout = 2.0
    with two_datasets.mounted("--timeout", f"{timeout:g}") as mountpoint, locked(two_datasets.catalog):
        began = time.monotonic()
        readers = [
            subprocess.Popen(["ls", mountpoint / DATASET], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for _ in range(12)
        ]
        said = [reader.communicate(timeout=30)[1] for reader in readers]
        assert time.monotonic() - began < timeout + 2
    assert all(b"Input/output error" in each for each in said)


def is_in_kernel(process: int) -> bool:
    """Whether a process waits for the mount's answer."""
    return "request_wait" in Path(f"/proc/{process}/wchan").read_text()
