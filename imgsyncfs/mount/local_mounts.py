"""The mounts of this machine, and how they are told that their catalog has changed.

The system's table says what is mounted, of which catalog. A mount itself may be dead or hang, so it is only asked with
a time limit (`imgsyncfs.mount.asking`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from imgsyncfs.catalog import catalog_identity
from imgsyncfs.library.nodes import REFRESH_NAME
from imgsyncfs.mount.asking import ask
from imgsyncfs.mount.mountpoint import FILESYSTEM_TYPE, mount_entries

TELL_SECONDS = 5.0
"""How long to wait for all mounts together; a refresh takes hundredths of a second where the database is near."""


@dataclass(frozen=True)
class Refreshed:
    """What came of asking a mount to refresh.

    Attributes:
        mountpoint: which one.
        trouble: why it does not show what the catalog says; empty if it does.
    """

    mountpoint: Path
    trouble: str


def source_name(catalog: str) -> str:
    """The name under which the system's table has the mounts of a catalog, given its URL.

    Commas and the like would end the option that it is given in.
    """
    return re.sub(r"[^\w./:@=-]", "_", catalog_identity(catalog), flags=re.ASCII)


def mounts_of(catalog: str) -> list[Path]:
    """Where a catalog is mounted on this machine, as far as this process can see."""
    source = source_name(catalog)
    entries = [entry for entry in mount_entries() if entry.filesystem_type == FILESYSTEM_TYPE]
    return list(dict.fromkeys(entry.mountpoint for entry in entries if entry.source == source))


def refresh_mounts(mountpoints: Sequence[Path], *, seconds: float = TELL_SECONDS) -> list[Refreshed]:
    """Have mounts ask their catalog for changes, all at once, and wait until they show them.

    Args:
        mountpoints: of this project's mounts.
        seconds: how long to wait for all of them.
    """
    answers = ask(mountpoints, REFRESH_NAME, seconds=seconds)
    too_late = f"it did not answer within {seconds:g} s"
    return [
        Refreshed(place, too_late if answer.is_late else answer.fault or _trouble(answer.content))
        for place, answer in zip(mountpoints, answers, strict=True)
    ]


def _trouble(content: bytes) -> str:
    """Why a mount does not show what the catalog says."""
    with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
        return str(orjson.loads(content)["trouble"])
    return "it is of another version"
