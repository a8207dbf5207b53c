"""Names of files that no entry may lead to, on disk as long as that is so.

A writer puts down what it begins: a file that it is about to write, one that it is about to take from the table. If it
is killed between the file and the table, the next one finds the name here (`remove_leftovers`) and need not look
through the whole cache, which takes seconds for a million files.

Each writer has a log of its own, locked as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import orjson

from imgsyncfs.cache.files import is_file_name, remove_files

logger = logging.getLogger(__name__)

FOLDER = "unfinished"

LOG_BYTES = 64 * 1024
"""At this length a log is begun anew with what is still unfinished."""


class UnfinishedFiles:
    """One writer's log. Any number of threads may use it.

    Args:
        folder: the cache's.

    Raises:
        OSError: the log cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        logs = folder / FOLDER
        logs.mkdir(mode=0o700, exist_ok=True)
        self._path = logs / secrets.token_hex(8)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._lock = threading.Lock()
        self._length = 0
        self._keys: dict[str, str] = {}

    def add(self, files: Mapping[str, str]) -> None:
        """Put down files before something is done to them.

        Args:
            files: the name of each, and the key of the entry that leads to it, or will.

        Raises:
            OSError: the disk is full.
        """
        if not files:
            return
        with self._lock:
            self._keys |= files
            if self._length > LOG_BYTES:
                os.ftruncate(self._descriptor, 0)
                self._length = 0
                files = self._keys
            self._append(files.items())

    def finish(self, names: Collection[str]) -> None:
        """Say that an entry leads to these files, or that they are gone."""
        if not names:
            return
        with self._lock:
            for name in names:
                self._keys.pop(name, None)
            try:
                self._append((name, None) for name in names)
            except OSError as error:
                # A name too many does no harm: `remove_leftovers` looks whether an entry leads to it.
                logger.debug("The log of unfinished files could not be written: %s", error)

    def close(self) -> None:
        """End the log; nothing is unfinished any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _append(self, lines: Iterable[tuple[str, str | None]]) -> None:
        content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        self._length += os.pwrite(self._descriptor, content, self._length)


def unfinished_names(folder: Path) -> set[str]:
    """The files that writers are at just now, or were when they were killed."""
    return {name for path in _logs(folder) for name in _read(path)}


def remove_leftovers(folder: Path, *, leads_to: Callable[[str], str | None]) -> int:
    """Remove what writers have left that are no more.

    Args:
        folder: the cache's.
        leads_to: the file that a key's entry leads to; None if there is no entry, or it has no file.

    Returns:
        How many files were removed.

    Raises:
        OSError: the folder cannot be read or written.
    """
    count = 0
    for path in _logs(folder):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Its writer lives.
                continue
            leftovers = [name for name, key in _read(path).items() if leads_to(key) != name]
            count += remove_files(folder, leftovers)
            path.unlink()
    return count


def _logs(folder: Path) -> list[Path]:
    try:
        return list((folder / FOLDER).iterdir())
    except FileNotFoundError:
        return []


def _read(path: Path) -> dict[str, str]:
    """What is unfinished according to a log: names and keys."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    keys: dict[str, str] = {}
    for line in content.splitlines():
        # The last line may be cut off.
        with contextlib.suppress(ValueError, TypeError):
            name, key = orjson.loads(line)
            if key is None:
                keys.pop(name, None)
            elif is_file_name(name):
                # No other name: a damaged log must not lead out of the folder.
                keys[name] = key
    return keys
