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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import orjson

from imgsyncfs.cache.files import ExtentFiles, is_file_name
from imgsyncfs.cache.folders import READING, OpenFolder, RefusedFile

logger = logging.getLogger(__name__)

FOLDER = "unfinished"

LOG_BYTES = 64 * 1024
"""At this length a log is begun anew with what is still unfinished."""

_MOST_BYTES = 64 << 20
"""No log is longer than what a writer has unfinished; of a damaged one no more is read."""


class UnfinishedFiles:
    """One writer's log. Any number of threads may use it.

    Args:
        folder: the cache's.

    Raises:
        OSError: the log cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        within = OpenFolder(folder, user=os.geteuid())
        within.make(FOLDER)
        self._logs = within.sub_folder(FOLDER)
        self._name = secrets.token_hex(8)
        self._descriptor = self._logs.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
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
        self._logs.remove(self._name)
        # Nobody else refers to it: it is closed with this.
        del self._logs
        os.close(self._descriptor)

    def _append(self, lines: Iterable[tuple[str, str | None]]) -> None:
        content = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        self._length += os.pwrite(self._descriptor, content, self._length)


def unfinished_names(folder: Path) -> set[str]:
    """The files that writers are at just now, or were when they were killed.

    Raises:
        OSError: the logs cannot be read.
    """
    return {file for _, _, descriptor in _opened_logs(folder) for file in _read(descriptor)}


def remove_leftovers(files: ExtentFiles, *, leads_to: Callable[[str], str | None]) -> int:
    """Remove what writers have left that are no more.

    Args:
        files: the cache's.
        leads_to: the file that a key's entry leads to; None if there is no entry, or it has no file.

    Returns:
        How many files were removed.

    Raises:
        OSError: the folder cannot be read or written.
    """
    count = 0
    for logs, name, descriptor in _opened_logs(files.folder):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Its writer lives.
            continue
        count += files.remove(file for file, key in _read(descriptor).items() if leads_to(key) != file)
        logs.remove(name)
    return count


def _opened_logs(folder: Path) -> Iterator[tuple[OpenFolder, str, int]]:
    """Each log, open until the next one is asked for: the folder that it is in, its name there, its descriptor."""
    try:
        logs = OpenFolder(folder, user=os.geteuid()).sub_folder(FOLDER)
    except FileNotFoundError:
        return
    for name in logs.names():
        try:
            descriptor = _opened_log(logs, name)
        except FileNotFoundError:
            continue
        except RefusedFile as error:
            logger.warning("This is no log of unfinished files and is left alone: %s", error)
            continue
        try:
            yield logs, name, descriptor
        finally:
            os.close(descriptor)


def _opened_log(logs: OpenFolder, name: str) -> int:
    descriptor = logs.open(name, READING)
    try:
        logs.checked(descriptor, name)
    except RefusedFile:
        os.close(descriptor)
        raise
    return descriptor


def _read(descriptor: int) -> dict[str, str]:
    """What is unfinished according to a log: names and keys."""
    keys: dict[str, str] = {}
    for line in os.pread(descriptor, min(os.fstat(descriptor).st_size, _MOST_BYTES), 0).splitlines():
        # The last line may be cut off.
        with contextlib.suppress(ValueError, TypeError):
            name, key = orjson.loads(line)
            if key is None:
                keys.pop(name, None)
            elif isinstance(name, str) and isinstance(key, str) and is_file_name(name):
                # No other name: a damaged log must not lead out of the folder.
                keys[name] = key
    return keys
