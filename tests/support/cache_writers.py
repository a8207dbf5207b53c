"""Processes that write to a cache, for tests that run several or kill one; and what lies on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from imgsyncfs.cache import CacheWriter
from imgsyncfs.cache.extent import Entry
from imgsyncfs.cache.files import FOLDERS, ExtentFiles
from imgsyncfs.cache.table import ExtentTable

CONTENT_BYTES = 100_000
BATCH = 4


def content_of(key: str, *, length: int = CONTENT_BYTES) -> bytes:
    """What a key's extent holds: the same in every process, and other for each key."""
    return (hashlib.sha256(key.encode()).digest() * (length // 32 + 1))[:length]


def bytes_on_disk(folder: Path) -> int:
    """What files take up, blocks and all.

    Writers go on meanwhile. Only files that outlast the walk count: all of
    them were there at its end, whereas a file removed during the walk and the
    one that took its place never were there together.
    """
    seen: dict[Path, int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                seen[path] = path.stat().st_blocks * 512
    return sum(size for path, size in seen.items() if path.exists())


def files_of_entries(folder: Path) -> set[Path]:
    """The files that the table's entries lead to."""
    with contextlib.closing(ExtentTable(folder)) as table:
        return {folder / name for letter in FOLDERS for name in table.filenames(letter)}


def start_writer(folder: Path, *, size_limit: int, name: str, batches: int = 0, die: str = "") -> subprocess.Popen[str]:
    """Start a process that puts batches of extents with keys ``<name>-<number>``.

    Args:
        folder: the cache's.
        size_limit: in bytes.
        name: what the keys begin with.
        batches: how many batches; 0: until it is killed.
        die: where the process kills itself: ``before-entry`` or ``after-eviction``.

    Returns:
        The process; it prints a line after each batch.
    """
    arguments = [str(folder), str(size_limit), name, str(batches), die]
    return subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_before_entry(_table: ExtentTable, _entry: Entry, *, length: int) -> None:
    _die()


def _die_after_eviction(_files: ExtentFiles, names: Iterable[str]) -> int:
    if list(names):
        _die()
    return 0


def main() -> None:
    """Be that process."""
    folder, size_limit, name, batches, die = sys.argv[1:]
    writer = CacheWriter(Path(folder), size_limit=int(size_limit))
    if die == "before-entry":
        ExtentTable.add = _die_before_entry  # type: ignore[method-assign, assignment]  # it does not return
    elif die == "after-eviction":
        ExtentFiles.remove = _die_after_eviction  # type: ignore[method-assign, assignment]  # in a process of its own
    for batch in range(int(batches)) if int(batches) else itertools.count():
        keys = [f"{name}-{number}" for number in range(batch * BATCH, (batch + 1) * BATCH)]
        print(len(writer.put_all({key: content_of(key) for key in keys})), flush=True)


if __name__ == "__main__":
    main()
