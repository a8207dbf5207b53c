"""Evicted files, kept for a moment to be written anew.

A cache at its limit evicts as much as it takes in. To remove a file and make another costs twice what writing one anew
does, and on ext4 far more: for minutes it does not give a removed file's inode again, and to make a file it walks over
all those, 0.4 ms once some thousand were removed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from imgsyncfs.cache.files import FOLDERS, ExtentFiles, FreedFile

MOST_FILES = 32
"""Twice as many as are added at a time."""


class SpareFiles:
    """The spare files of one writer. Any number of threads may use it.

    Args:
        files: the cache's.
        most_bytes: of the disk that they may take up, beside what the table knows of.
    """

    def __init__(self, files: ExtentFiles, *, most_bytes: int) -> None:
        self._files = files
        self._most_bytes = most_bytes
        self._spare: deque[FreedFile] = deque()
        self._lock = threading.Lock()

    def take(self) -> str | None:
        """The name of a file to be written anew, the one that waits longest; None if there is none."""
        with self._lock:
            return self._spare.popleft().name if self._spare else None

    def offer(self, files: Iterable[FreedFile]) -> list[str]:
        """Take in files as far as there is room for them.

        Returns:
            The names of the others; they are removed.
        """
        refused = []
        with self._lock:
            byte_count = sum(file.byte_count for file in self._spare)
            for file in files:
                # The folders of earlier versions are not made again.
                fits = len(self._spare) < MOST_FILES and byte_count + file.byte_count <= self._most_bytes
                if fits and file.name.partition("/")[0] in FOLDERS:
                    self._spare.append(file)
                    byte_count += file.byte_count
                else:
                    refused.append(file.name)
        self._files.remove(refused)
        return refused

    def close(self) -> None:
        """Remove them all."""
        with self._lock:
            names = [file.name for file in self._spare]
            self._spare.clear()
        self._files.remove(names)
