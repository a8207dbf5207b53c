"""Sixteen readers of a mount, each with habits of its own, for a while: a process for a test.

Arguments: the mount; a folder with the same files as they should be; seconds; names of datasets, which the readers take
in turn. Prints JSON: how many files each kind of reader read, and the names of files that were not what they should be.

Readers drop the pages that they read from the kernel's cache, so that the mount is asked again and again.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PIECE_BYTES = 64 * 1024
OPEN_AT_ONCE = 20


def drop_pages(descriptor: int) -> None:
    """Have the kernel forget what it knows of an open file."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_whole(path: Path) -> bytes:
    """From the beginning to the end, in pieces."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pieces = []
        while piece := os.read(descriptor, PIECE_BYTES):
            pieces.append(piece)
        drop_pages(descriptor)
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def read_mapped(path: Path) -> bytes:
    """As NumPy and PyTorch map files."""
    with path.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            content = mapped[:]
        drop_pages(file.fileno())
    return content


def is_right_in_order(
    mounted: Path, right: Path, names: list[str], chance: random.Random
) -> Iterator[tuple[str, bool]]:
    """All files, from some place on."""
    start = chance.randrange(len(names))
    for name in names[start:] + names[:start]:
        yield name, read_whole(mounted / name) == (right / name).read_bytes()


def is_right_at_random(
    mounted: Path, right: Path, names: list[str], chance: random.Random
) -> Iterator[tuple[str, bool]]:
    """An epoch of a training."""
    for name in chance.sample(names, len(names)):
        yield name, read_whole(mounted / name) == (right / name).read_bytes()


def is_right_mapped(mounted: Path, right: Path, names: list[str], chance: random.Random) -> Iterator[tuple[str, bool]]:
    """Likewise, mapped into memory."""
    for name in chance.sample(names, len(names)):
        yield name, read_mapped(mounted / name) == (right / name).read_bytes()


def is_right_in_part(mounted: Path, right: Path, names: list[str], chance: random.Random) -> Iterator[tuple[str, bool]]:
    """A few bytes somewhere in a file, as those who look for headers read."""
    for name in chance.sample(names, len(names)):
        content = (right / name).read_bytes()
        start = chance.randrange(len(content))
        length = chance.randrange(1, 5000)
        with (mounted / name).open("rb", buffering=0) as file:
            part = os.pread(file.fileno(), length, start)
            drop_pages(file.fileno())
        yield name, part == content[start : start + length]


def is_right_while_open(
    mounted: Path, right: Path, names: list[str], chance: random.Random
) -> Iterator[tuple[str, bool]]:
    """Many files open at once, and read later."""
    chosen = chance.sample(names, min(OPEN_AT_ONCE, len(names)))
    files = [(mounted / name).open("rb") for name in chosen]
    for name, file in zip(chosen, files, strict=True):
        with file:
            content = file.read()
            drop_pages(file.fileno())
        yield name, content == (right / name).read_bytes()


def is_right_listed(mounted: Path, right: Path, names: list[str], chance: random.Random) -> Iterator[tuple[str, bool]]:
    """`ls -l`: every name, and every size."""
    there = {entry.name: entry.stat().st_size for entry in os.scandir(mounted)}
    for name in chance.sample(names, len(names)):
        yield name, there.get(name) == (right / name).stat().st_size
    yield "the list of names", set(there) == {path.name for path in right.iterdir()}


Habit = Callable[[Path, Path, list[str], random.Random], Iterator[tuple[str, bool]]]

HABITS: list[tuple[Habit, tuple[str, ...]]] = [
    *[(is_right_in_order, (".jpg",))] * 4,
    *[(is_right_at_random, (".jpg",))] * 4,
    *[(is_right_at_random, (".labelme.json", ".xml"))] * 2,
    *[(is_right_listed, ("",))] * 2,
    *[(is_right_mapped, (".jpg", ".json"))] * 2,
    (is_right_in_part, (".jpg",)),
    (is_right_while_open, ("",)),
]


def read_for_a_while(number: int, mounted: Path, right: Path, seconds: float) -> tuple[str, int, list[str]]:
    """One reader: (habit, files read, names of wrong ones)."""
    habit, suffixes = HABITS[number]
    chance = random.Random(number)
    names = sorted(path.name for path in right.iterdir() if path.name.endswith(suffixes))
    until = time.monotonic() + seconds
    count, wrong = 0, []
    while time.monotonic() < until:
        for name, is_right in habit(mounted, right, names, chance):
            count += 1
            if not is_right:
                wrong.append(f"{habit.__name__}: {name}")
            if time.monotonic() > until:
                break
    return habit.__name__, count, wrong


def main() -> None:
    """Read until the time is over."""
    mounted, right, seconds, datasets = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    jobs = []
    for number in range(len(HABITS)):
        dataset = datasets[number % len(datasets)]
        jobs.append((number, mounted / dataset, right / dataset, seconds))
    with multiprocessing.get_context("fork").Pool(len(HABITS)) as pool:
        results = pool.starmap(read_for_a_while, jobs, chunksize=1)
    read: dict[str, int] = {}
    for habit, count, _ in results:
        read[habit] = read.get(habit, 0) + count
    print(json.dumps({"read": read, "wrong": [name for _, _, wrong in results for name in wrong]}))


if __name__ == "__main__":
    main()
