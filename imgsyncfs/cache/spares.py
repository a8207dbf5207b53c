"""Evicted files, kept for a moment to be written anew.

A cache at its limit evicts as much as it takes in. To remove a file and make another costs twice what writing one anew
does, and on ext4 far more: for minutes it does not give a removed file's inode again, and to make a file it walks over
all those, 0.4 ms once some thousand were removed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from imgsyncfs.cache.files import FreedFile, remove_files

MOST_FILES = 32
"""Twice as many as are added at a time."""


class SpareFiles:
    """The spare files of one writer. Any number of threads may use it.

    Args:
        folder: the cache's.
        most_bytes: of the disk that they may take up, beside what the table knows of.
    """

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._files: deque[FreedFile] = deque()
        self._lock = threading.Lock()

    def take(self) -> str | None:
        """The name of a file to be written anew, the one that waits longest; None if there is none."""
        with self._lock:
            return self._files.popleft().name if self._files else None

    def offer(self, files: Iterable[FreedFile]) -> list[str]:
        """Take in files as far as there is room for them.

        Returns:
            The names of the others; they are removed.
        """
        refused = []
        with self._lock:
            byte_count = sum(file.byte_count for file in self._files)
            for file in files:
                if len(self._files) < MOST_FILES and byte_count + file.byte_count <= self._most_bytes:
                    self._files.append(file)
                    byte_count += file.byte_count
                else:
                    refused.append(file.name)
        remove_files(self._folder, refused)
        return refused

    def close(self) -> None:
        """Remove them all."""
        with self._lock:
            names = [file.name for file in self._files]
            self._files.clear()
        remove_files(self._folder, names)
