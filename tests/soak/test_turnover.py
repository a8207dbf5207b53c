"""Publish after publish under readers who have the changed files open: each reads what it opened, and nothing grows.

``IMGSYNCFS_TURNOVER_SECONDS=120 scripts/test soak -k turnover`` takes two minutes for it: between two publishes the
mount does what it does in its own time.
"""

from __future__ import annotations

import mmap
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mounting import Workplace, box_annotation, eventually, local_workplace, mount_status, process_ids

SECONDS = float(os.environ.get("IMGSYNCFS_TURNOVER_SECONDS", "8"))

PUBLISHES = 10
WARM_PUBLISHES = 3
"""After which everything has the size that it is to keep."""

DATASET = "original_20260301_rgb_rbbox"
IMAGES = 60
CHANGED = 12
"""Images that each publish changes, with their annotations; all are open."""

HELD_PUBLISHES = 3
"""How many publishes those who have files open see."""

GROWTH_BYTES = 16 << 20
"""What all processes together may grow by; some 125 MB go up and down by 5."""

SHARED_GROWTH_BYTES = 4 << 20
"""Each responder fills its own memory for the longest of reads when there is one."""

DESCRIPTORS_OPENED_LATE = 4
"""A connection more to the catalog or to the cache's table. A listing has three, in the coordinator alone."""

THREADS_STARTED_LATE = 6
"""Those that load listings and make control files come when there is more than one to load or make."""

READERS = 4


@dataclass(frozen=True)
class Footprint:
    """What a mount takes.

    Attributes:
        memory_bytes: of all processes, each its share of what they share.
        shared_bytes: the part of it that lies in shared memory.
        descriptors: that are open, without those of the cache's content, of which as many are kept as its reader may.
        threads: that run.
        listings: files in the cache's folder of these, with whatever else lies beside them.
    """

    memory_bytes: int
    shared_bytes: int
    descriptors: int
    threads: int
    listings: int

    @classmethod
    def of(cls, mountpoint: Path, cache: Path) -> Footprint:
        """Of a mount now."""
        memory = shared = threads = descriptors = 0
        for process in process_ids(mountpoint):
            folder = Path(f"/proc/{process}")
            shares = fields_of(folder / "smaps_rollup")
            memory += int(shares["Pss"].split()[0]) * 1024
            shared += int(shares["Pss_Shmem"].split()[0]) * 1024
            threads += int(fields_of(folder / "status")["Threads"])
            descriptors += sum(not is_below(link, cache / "extents") for link in (folder / "fd").iterdir())
        return cls(memory, shared, descriptors, threads, len(list((cache / "catalogs").rglob("*"))))


def fields_of(path: Path) -> dict[str, str]:
    """The lines ``name: value`` of a file in /proc."""
    return dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)


def is_below(link: Path, folder: Path) -> bool:
    """Whether a link in /proc leads into a folder, or nowhere any more."""
    try:
        return link.readlink().is_relative_to(folder)
    except FileNotFoundError:
        return True


class Versions:
    """What the files of a dataset were and are; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: dict[str, list[bytes]] = {}

    def add(self, name: str, content: bytes) -> None:
        """Take down what a file is from the next publish on."""
        with self._lock:
            self._contents.setdefault(name, []).append(content)

    def newest(self, name: str) -> bytes:
        """What a file is."""
        with self._lock:
            return self._contents[name][-1]

    def has(self, name: str, content: bytes) -> bool:
        """Whether a file is this, or was: one whole revision of it."""
        with self._lock:
            return content in self._contents[name]

    def names(self) -> list[str]:
        """Of all files."""
        with self._lock:
            return sorted(self._contents)


def write_version(folder: Path, number: int, version: int, versions: Versions) -> list[str]:
    """Write an image of some 100 kB and its annotation anew; returns their names."""
    noise = np.random.default_rng(1000 * version + number).integers(0, 256, (330, 330, 3), dtype=np.uint8)
    image, house = folder / f"img_{number:05}.jpg", folder / f"img_{number:05}.json"
    Image.fromarray(noise).save(image, quality=90)
    house.write_bytes(box_annotation(x=30 + version / 8, size=(330, 330)))
    for path in (image, house):
        versions.add(path.name, path.read_bytes())
    return [image.name, house.name]


@dataclass(frozen=True)
class Held:
    """A file that is open, and mapped, and what it must be."""

    descriptor: int
    mapped: mmap.mmap
    content: bytes

    @classmethod
    def open(cls, path: Path, content: bytes) -> Held:
        """Open a file, read nothing but its beginning, and map it."""
        descriptor = os.open(path, os.O_RDONLY)
        assert os.pread(descriptor, 100, 0) == content[:100]
        return cls(descriptor, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), content)

    def check(self) -> None:
        """See that it is what it was when it was opened, whatever the kernel has kept of it."""
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert self.mapped[:] == self.content
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(self.descriptor, len(self.content) + 1, 0) == self.content
        assert os.fstat(self.descriptor).st_size == len(self.content)

    def close(self) -> None:
        """Close it."""
        self.mapped.close()
        os.close(self.descriptor)


def read_any(stop: threading.Event, folder: Path, versions: Versions, seed: int) -> int:
    """Read files at random, each of which must be one whole revision; returns how many there were."""
    chance = random.Random(seed)
    names = versions.names()
    count = 0
    while not stop.is_set():
        name = chance.choice(names)
        assert versions.has(name, (folder / name).read_bytes()), f"{name} is mixed"
        count += 1
    return count


@contextmanager
def readers(folder: Path, versions: Versions) -> Iterator[None]:
    """Some who read whatever there is, for the length of the block."""
    stop = threading.Event()
    with ThreadPoolExecutor(READERS) as pool:
        reading = [pool.submit(read_any, stop, folder, versions, seed) for seed in range(READERS)]
        try:
            yield
        finally:
            stop.set()
    assert all(each.result() > 0 for each in reading)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_ten_publishes_under_readers_who_hold_files_open_mix_nothing_and_leave_nothing(tmp_path: Path) -> None:
    workplace = local_workplace(tmp_path)
    published = tmp_path / "folder"
    published.mkdir()
    versions = Versions()
    for number in range(IMAGES):
        write_version(published, number, 0, versions)
    publish(workplace, published)
    footprints: list[Footprint] = []
    held: list[list[Held]] = []
    with workplace.mounted("--refresh", "0.2") as mountpoint, readers(mountpoint / DATASET, versions):
        folder = mountpoint / DATASET
        assert all(is_new(folder, name, versions) for name in versions.names())
        first = Footprint.of(mountpoint, tmp_path / "cache")
        began = time.monotonic()
        for version in range(1, PUBLISHES + 1):
            turned = range(version * CHANGED % IMAGES, version * CHANGED % IMAGES + CHANGED)
            names = [f"img_{number:05}.{ext}" for number in turned for ext in ("jpg", "json")]
            held.append([Held.open(folder / name, versions.newest(name)) for name in names])
            for number in turned:
                write_version(published, number, version, versions)
            publish(workplace, published)
            assert eventually(lambda names=names: all(is_new(folder, name, versions) for name in names))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            for file in (file for files in held for file in files):
                file.check()
            assert 1 <= mount_status(mountpoint)["revisions_held"] <= HELD_PUBLISHES + 1
            if len(held) == HELD_PUBLISHES:
                for file in held.pop(0):
                    file.close()
            # What goes on in between takes its own time.
            time.sleep(max(0.0, began + version * SECONDS / PUBLISHES - time.monotonic()))
            footprints.append(Footprint.of(mountpoint, tmp_path / "cache"))
        for file in (file for files in held for file in files):
            file.close()
        assert eventually(lambda: mount_status(mountpoint)["revisions_held"] == 0)
        last = Footprint.of(mountpoint, tmp_path / "cache")
    warm = footprints[WARM_PUBLISHES - 1]
    print(first, *footprints, last, sep="\n")
    assert last.memory_bytes < warm.memory_bytes + GROWTH_BYTES
    assert last.shared_bytes < warm.shared_bytes + SHARED_GROWTH_BYTES
    assert last.descriptors <= first.descriptors + DESCRIPTORS_OPENED_LATE
    assert last.threads <= warm.threads + THREADS_STARTED_LATE
    assert {each.listings for each in footprints} == {last.listings}


def is_new(folder: Path, name: str, versions: Versions) -> bool:
    """Whether a new open gives what was published last."""
    return (folder / name).read_bytes() == versions.newest(name)


def publish(workplace: Workplace, folder: Path) -> None:
    """Publish a folder as the dataset."""
    workplace.run("publish", folder, "--name", DATASET)
