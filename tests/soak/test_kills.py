"""Kills at random moments (SIGKILL): of the processes behind a mount, and of commands. Nothing is lost, nothing half.

``IMGSYNCFS_KILLS=300 scripts/test soak -k kill`` does as many; a run says which numbers it began with
(``IMGSYNCFS_KILLS_SEED``), and how many it did.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mounting import Workplace, box_annotation, eventually, local_workplace, mount_status, process_ids
from support.old_catalogs import take_additions_away

from imgsyncfs.catalog import open_catalog

KILLS = int(os.environ.get("IMGSYNCFS_KILLS", "10"))
SEED = int(os.environ.get("IMGSYNCFS_KILLS_SEED", "20261128"))

COMMANDS = ("publish", "sync", "prefetch", "pin", "cache clear")
PROCESSES = ("coordinator", "responder", "catalog worker", "fetch worker", "template")
KILLS_EACH = max(1, round(KILLS / (len(COMMANDS) + len(PROCESSES) + 1)))

DATASET = "original_20260301_rgb_rbbox"
IMAGES = 60
CHANGED = 20
"""Images that each publish changes, with their annotations."""

READERS = 2

OLD_SECONDS = 3600
"""Made older than anything that is in flight: what a killed process left is taken away when it is as old."""

Contents = Mapping[str, bytes]
"""Name of each file of the dataset to its content."""


@dataclass
class Place:
    """A catalog with one dataset, and what the dataset must hold.

    Attributes:
        workplace: the catalog, and the cache.
        chance: what is random.
        variant: how often the folder was changed.
        held: the contents that the dataset may have: one, or two after a publish that was killed.
    """

    workplace: Workplace
    chance: random.Random
    variant: int = 0
    held: list[Contents] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder that is published."""
        return self.workplace.folder / "folder"

    def change(self) -> Contents:
        """Change some images and annotations of the folder; returns all of its contents."""
        self.folder.mkdir(exist_ok=True)
        self.variant += 1
        numbers = range(IMAGES) if self.variant == 1 else self.chance.sample(range(IMAGES), CHANGED)
        pixels = np.random.default_rng(self.variant)
        for number in numbers:
            image = Image.fromarray(pixels.integers(0, 256, (90, 120, 3), dtype=np.uint8))
            image.save(self.folder / f"img_{number:05}.jpg", quality=90)
            annotation = box_annotation(x=30.0 + self.variant, size=(120, 90))
            (self.folder / f"img_{number:05}.json").write_bytes(annotation)
        return contents_of(self.folder)

    def publish(self) -> tuple[str | Path, ...]:
        """The command that publishes the folder."""
        return ("publish", self.folder, "--name", DATASET)

    def check(self, contents: Contents) -> None:
        """See that these are the dataset's, whole; from now on it must have them."""
        assert contents in self.held, "the dataset is neither what it was nor what was published"
        self.held = [contents]

    def check_in_mount(self) -> None:
        """Mount, read everything, and see that the cache has nothing that is damaged or belongs to nothing."""
        make_old(self.workplace.folder / "cache")
        with self.workplace.mounted("--siblings", "none") as mountpoint:
            self.check(contents_of(mountpoint / DATASET))
            assert eventually(lambda: not left_behind(self.workplace.folder / "cache"))
        verified = self.workplace.run("cache", "verify").stdout
        assert "all is well" in verified


def contents_of(folder: Path) -> Contents:
    """All files of a dataset."""
    with os.scandir(folder) as entries:
        return {entry.name: Path(entry.path).read_bytes() for entry in entries if not entry.name.startswith(".")}


def make_old(cache: Path) -> None:
    """Have all files of a cache look as if they had been written long ago, without waiting for it."""
    then = time.time() - OLD_SECONDS
    for path in cache.rglob("*"):
        # A pipe's, or a file's that is removed just now.
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (then, then), follow_symlinks=False)


def left_behind(cache: Path) -> list[Path]:
    """Temporary files and folders in a cache: their names begin with a dot."""
    return [path for path in cache.rglob(".*") if path.name.startswith(".")]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """The catalog, published once."""
    made = Place(local_workplace(tmp_path), random.Random(f"{SEED} {request.node.name}"))
    made.held = [made.change()]
    made.workplace.run(*made.publish())
    return made


def words_of(place: Place, command: str) -> tuple[str | Path, ...]:
    """The command to be killed; what it changes is noted."""
    if command == "publish":
        place.held.append(place.change())
        return place.publish()
    if command == "sync":
        return ("sync", place.workplace.folder / "copy", DATASET)
    if command == "cache clear":
        place.workplace.run("prefetch", DATASET)
        return ("cache", "clear")
    return (command, DATASET)


def start(place: Place, words: tuple[str | Path, ...]) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "imgsyncfs", *map(str, words)],
        env=place.workplace.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finish(place: Place, command: str, words: tuple[str | Path, ...]) -> None:
    """Run once more what was killed, and see that it then does all that it is for."""
    place.workplace.run(*words)
    if command == "publish":
        place.held = [contents_of(place.folder)]
    elif command == "sync":
        copy = place.workplace.folder / "copy" / DATASET
        assert contents_of(copy) in place.held
        assert not list(copy.rglob("*.part"))
        shutil.rmtree(place.workplace.folder / "copy")
    elif command in {"prefetch", "pin"}:
        blobs = place.workplace.folder / "store" / DATASET
        blobs.rename(place.workplace.folder / "away")
        with place.workplace.mounted("--siblings", "none") as mountpoint:
            place.check(contents_of(mountpoint / DATASET))
        (place.workplace.folder / "away").rename(blobs)
        place.workplace.run("cache", "clear")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_killed_at_any_moment_leaves_all_whole_and_is_finished_when_it_is_run_again(
    place: Place, command: str
) -> None:
    words = words_of(place, command)
    begun = time.monotonic()
    with start(place, words) as whole:
        whole.wait()
    takes = time.monotonic() - begun
    place.held = place.held[-1:]
    killed = 0
    for _ in range(KILLS_EACH):
        if command != "publish":
            shutil.rmtree(place.workplace.folder / "cache", ignore_errors=True)
        words = words_of(place, command)
        with start(place, words) as running:
            try:
                running.wait(place.chance.uniform(0, takes))
            except subprocess.TimeoutExpired:
                running.kill()
                killed += 1
        assert eventually(lambda: not place.workplace.processes_left()), "its workers outlived it"
        place.check_in_mount()
        finish(place, command, words)
        place.check_in_mount()
    print(f"{command}: {killed} of {KILLS_EACH} were killed before they ended, in {takes:.1f} s")


def victim(mountpoint: Path, process: str) -> int:
    """The number of one of the processes behind a mount."""
    status = mount_status(mountpoint)
    if process == "coordinator":
        return int(status["process_id"])
    if process == "responder":
        return int(status["responders"]["process_ids"][-1])
    if process == "catalog worker":
        return int(status["workers"]["process_ids"][0])
    if process == "fetch worker":
        return int(status["workers"]["process_ids"][-1])
    # Forked of the coordinator at first; what takes its place is started anew.
    [template] = [
        number
        for number in children_of(int(status["process_id"]))
        if Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")[2]
        in {b"imgsyncfs.mount.process", b"imgsyncfs.workers.template"}
    ]
    return template


def children_of(process: int) -> list[int]:
    """The processes that a process has started, and still has."""
    return [
        int(number)
        for task in Path(f"/proc/{process}/task").iterdir()
        for number in (task / "children").read_text().split()
    ]


@contextlib.contextmanager
def reading(folder: Path, expected: Contents) -> Iterator[Callable[[], tuple[int, list[str]]]]:
    """Read a dataset over and over; gives how many files were read, and which had other bytes than they must have."""
    ending = threading.Event()
    wrong: list[str] = []
    counts = [0] * READERS

    def read(reader: int) -> None:
        chance = random.Random(reader)
        names = list(expected)
        while not ending.is_set():
            name = chance.choice(names)
            with contextlib.suppress(OSError):
                if (folder / name).read_bytes() != expected[name]:
                    wrong.append(name)
                counts[reader] += 1

    readers = [threading.Thread(target=read, args=(reader,)) for reader in range(READERS)]
    for each in readers:
        each.start()
    try:
        yield lambda: (sum(counts), wrong)
    finally:
        ending.set()
        for each in readers:
            each.join(30)
            assert not each.is_alive(), "a reader waits for ever"


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_of_a_mount_killed_at_any_moment_gives_no_wrong_byte_and_keeps_nobody_waiting(
    place: Place, process: str
) -> None:
    workplace = place.workplace
    mountpoint = workplace.folder / "killed"
    mountpoint.mkdir()
    total = 0
    for _ in range(KILLS_EACH):
        shutil.rmtree(workplace.folder / "cache", ignore_errors=True)
        workplace.run("mount", mountpoint, "--siblings", "none", "--refresh", "0.2", "--timeout", "5")
        numbers = process_ids(mountpoint)
        with reading(mountpoint / DATASET, place.held[0]) as told:
            time.sleep(place.chance.uniform(0, 0.3))
            number = victim(mountpoint, process)
            os.kill(number, signal.SIGKILL)
            if process != "coordinator":
                # Another one takes its place.
                assert eventually(lambda: contents_are(mountpoint / DATASET, place.held[0]))
        count, wrong = told()
        total += count
        assert not wrong
        if process == "coordinator":
            assert eventually(lambda: not workplace.processes_left()), "processes outlived the coordinator"
            # Clears the dead mount.
            workplace.run("mount", mountpoint, "--siblings", "none")
            place.check(contents_of(mountpoint / DATASET))
            numbers = process_ids(mountpoint)
        workplace.run("umount", mountpoint)
        assert eventually(lambda: not workplace.processes_left()), f"of {numbers} some outlived the mount"
        place.check_in_mount()
    print(f"{process}: {KILLS_EACH} were killed under readers of {total:,} files")


def contents_are(folder: Path, expected: Contents) -> bool:
    """Whether all of a dataset can be read, and is right."""
    try:
        return contents_of(folder) == expected
    except OSError:
        return False


def level_of(workplace: Workplace) -> int:
    """The level of additions of a catalog, which must be one that can be read."""
    with open_catalog(workplace.catalog) as catalog:
        catalog.check()
        catalog.table()
        return catalog._settings.level


def test_a_migration_killed_at_any_moment_leaves_the_old_catalog_or_the_new_one(place: Place) -> None:
    workplace = place.workplace
    words = ("init", "--store", f"file://{workplace.folder}/store")
    new = level_of(workplace)
    takes = 0.0
    killed = 0
    for turn in range(KILLS_EACH + 1):
        old = place.chance.randrange(new)
        with open_catalog(workplace.catalog) as catalog:
            take_additions_away(catalog, level=old)
        begun = time.monotonic()
        with start(place, words) as running:
            try:
                running.wait(place.chance.uniform(0, takes) if turn else None)
            except subprocess.TimeoutExpired:
                running.kill()
                killed += 1
        takes = takes or time.monotonic() - begun
        assert level_of(workplace) in {old, new}
        place.check_in_mount()
        workplace.run(*words)
        assert level_of(workplace) == new
        assert workplace.run("select", f"turn{turn}", "--where", "class=person").returncode == 0
    print(f"init: {killed} of {KILLS_EACH} were killed before they ended, in {takes:.1f} s")
