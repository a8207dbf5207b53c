"""Limits of the cache: as users write them, and in bytes of their disk."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.values import parse_size

DEFAULT_CACHE_SIZE = "20G"
DEFAULT_KEEP_FREE = "5%"


class CacheLimits(NamedTuple):
    """How much of the disk the cache may take up.

    Attributes:
        size_limit: most bytes in all, database included.
        keep_free: bytes of the disk to leave free, whoever takes up the others.
    """

    size_limit: int
    keep_free: int = 0


def parse_limits(cache_size: str | None, keep_free: str | None, *, cache_dir: Path) -> CacheLimits:
    """Parse limits as users write them.

    Args:
        cache_size: a size such as ``20G``; None for the default.
        keep_free: a size, or a share of the disk such as ``5%``; None for the default.
        cache_dir: where the cache is, or will be.

    Raises:
        ConfigurationError: one of them makes no sense.
    """
    share = parse_share(keep_free or DEFAULT_KEEP_FREE, total=disk_space(cache_dir).total)
    return CacheLimits(parse_size(cache_size or DEFAULT_CACHE_SIZE), share)


def parse_share(text: str, *, total: int) -> int:
    """A share of a disk such as ``5%``, or a size such as ``10G``, in bytes.

    Args:
        text: what was written.
        total: size of the disk in bytes.

    Raises:
        ConfigurationError: it is neither, or more than all of the disk.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip(), flags=re.ASCII)
    byte_count = total * float(match[1]) / 100 if match else parse_size(text)
    if byte_count > total:
        raise ConfigurationError(
            f"{text!r:.40} is more than all of the disk; write a share such as 5%, or a size such as 10G."
        )
    return int(byte_count)


class DiskSpace(NamedTuple):
    """Space on a disk, in bytes.

    Attributes:
        total: all of it.
        free: what this user may still take up.
    """

    total: int
    free: int


def disk_space(folder: Path) -> DiskSpace:
    """Space on the disk of a folder, which need not be there yet.

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
