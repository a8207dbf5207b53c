"""How large a disk is, and how much of it is free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class DiskSpace(NamedTuple):
    """The room on a disk, in bytes.

    Attributes:
        total: all of it.
        free: what we may still take up.
    """

    total: int
    free: int


def disk_space(folder: Path) -> DiskSpace:
    """The room on the disk that a folder is on, or will be once it is made.

    Raises:
        OSError: the disk does not answer.
    """
    while True:
        try:
            disk = os.statvfs(folder)
        except (FileNotFoundError, NotADirectoryError):
            if folder == folder.parent:
                raise
            folder = folder.parent
        else:
            return DiskSpace(disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize)
