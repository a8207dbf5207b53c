"""``bench_floor.py FOLDER MOUNTPOINT``: a passthrough, the least that a mount in Python with fusepy can cost."""

from __future__ import annotations

import os
import sys
from typing import Any

import fuse

ATTRIBUTES = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_atime", "st_mtime", "st_ctime")


class Passthrough(fuse.Operations):  # type: ignore[misc]  # fusepy ships no types
    """Shows a folder, with ordinary opens."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, Any]:
        """`stat`."""
        status = os.lstat(self.folder + path)
        return {name: getattr(status, name) for name in ATTRIBUTES}

    def readdir(self, path: str, _fh: int) -> list[str]:
        """`ls`."""
        return [".", "..", *os.listdir(self.folder + path)]  # noqa: PTH208  # nothing between it and the kernel

    def open(self, path: str, flags: int) -> int:
        """Opens the file behind."""
        return os.open(self.folder + path, flags)

    def read(self, _path: str, size: int, offset: int, fh: int) -> bytes:
        """Reads from the file behind."""
        return os.pread(fh, size, offset)

    def release(self, _path: str, fh: int) -> None:
        """Closes the file behind."""
        os.close(fh)


if __name__ == "__main__":
    fuse.FUSE(Passthrough(sys.argv[1]), sys.argv[2], foreground=True, ro=True)
