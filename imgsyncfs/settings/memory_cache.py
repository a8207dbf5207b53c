"""A cache in memory, for a mount whose cache folder lies on a disk without any room.

It is small, and goes with the mount: that the disk is full must not keep anybody from reading.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from imgsyncfs.settings.mount import MountSettings

MEMORY = Path("/dev/shm")  # noqa: S108  # a folder in it is made for the user alone, or refused
"""Where Linux keeps files in memory."""

MEMORY_BYTES = 64 << 20
"""Some extents of 4 MiB for each of a few readers."""


def in_memory(settings: MountSettings) -> MountSettings:
    """The settings of the same mount with a cache in memory; `imgsyncfs.settings.private_folders` checks its folder."""
    place = hashlib.sha256(settings.mountpoint.encode(errors="surrogateescape")).hexdigest()[:16]
    folder = MEMORY / f"imgsyncfs-{os.geteuid()}-{place}"
    size = min(settings.library.cache_size, MEMORY_BYTES)
    library = replace(settings.library, cache_dir=str(folder), cache_size=size, keep_free=0)
    return replace(settings, library=library, is_cache_temporary=True)
