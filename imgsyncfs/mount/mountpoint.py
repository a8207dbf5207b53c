"""The mount point: what is mounted there, and whether something can be."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgsyncfs.errors import MountError

FILESYSTEM_TYPE = "fuse.imgsyncfs"
MOUNT_TABLE = Path("/proc/self/mountinfo")
DEVICE = Path("/dev/fuse")
FUSE_CONFIGURATION = Path("/etc/fuse.conf")

_MOST_LINKS = 40
"""The kernel's limit for one path."""

_INSTALL = "on Debian or Ubuntu run: sudo apt-get install"

_FIRST_WITH_T64 = {"debian": 13, "ubuntu": 24}
"""The releases from which on libfuse's package has its other name."""


@dataclass(frozen=True)
class MountEntry:
    """One line of the system's mount table.

    Attributes:
        mountpoint: where.
        filesystem_type: for example ``fuse.imgsyncfs``.
        source: what is mounted, as the mount named it.
        device: number of the file system, ``major:minor``: no two mounts at a place have the same.
    """

    mountpoint: Path
    filesystem_type: str
    source: str
    device: str

    @property
    def is_trigger(self) -> bool:
        """Whether it is autofs, systemd's (``x-systemd.automount``) or automount(8)'s, waiting for somebody to look.

        It has something mounted upon it. Who looks into it meanwhile waits until that has happened.
        """
        return self.filesystem_type == "autofs"


def mount_entry(mountpoint: Path) -> MountEntry | None:
    """What is mounted at a place, or None; asks the system's table and not the mount, which may be dead.

    Args:
        mountpoint: an absolute path without symlinks; see `absolute`.
    """
    return next((entry for entry in reversed(mount_entries()) if entry.mountpoint == mountpoint), None)


def mount_entries() -> list[MountEntry]:
    """All that is mounted, in order: the last one at a place is the one that is seen."""
    entries = []
    for line in MOUNT_TABLE.read_bytes().splitlines():
        first, _, rest = line.partition(b" - ")
        fields, (kind, source, *_) = first.split(), rest.split()
        entries.append(MountEntry(Path(_text(fields[4])), _text(kind), _text(source), _text(fields[2])))
    return entries


def _text(field: bytes) -> str:
    """A field of the table, which writes space, tab, newline and backslash in octal digits (proc(5))."""
    return os.fsdecode(field.decode("unicode_escape").encode("latin-1"))


def absolute(mountpoint: Path) -> Path:
    """The absolute path of a place, symlinks resolved. Nothing that is mounted there is touched: it may hang."""
    for _ in range(_MOST_LINKS):
        if not mountpoint.name or mountpoint.name == "..":
            return mountpoint.resolve()
        place = mountpoint.parent.resolve() / mountpoint.name
        if mount_entry(place) is not None or not place.is_symlink():
            return place
        mountpoint = place.parent / place.readlink()
    return mountpoint


def check_system(options: Collection[str] = ()) -> None:
    """See that FUSE is there, and may be used.

    Args:
        options: names of the options for libfuse.

    Raises:
        MountError: something is missing; the message says how to get it.
    """
    check_libfuse()
    if shutil.which("fusermount") is None:
        raise MountError(f"fusermount is not installed; {_INSTALL} fuse3")
    if not DEVICE.exists():
        raise MountError(
            "/dev/fuse is not there; run: sudo modprobe fuse (in a container: start it with --device /dev/fuse)"
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise MountError(f"You may not use {DEVICE}; let everyone with: sudo chmod 0666 {DEVICE}")
    others = sorted({"allow_other", "allow_root"}.intersection(options))
    if others and os.geteuid() != 0 and not lets_users_allow_others():
        raise MountError(
            f"Only root may mount with {others[0]} here; let users do so with: "
            f"echo user_allow_other | sudo tee -a {FUSE_CONFIGURATION}"
        )


def check_libfuse() -> None:
    """See that libfuse is installed.

    Raises:
        MountError: it is not; the message says how to get it.
    """
    if ctypes.util.find_library("fuse") is None:
        raise MountError(f"libfuse 2 is not installed; {_INSTALL} {libfuse_package(_release())}")


def libfuse_package(release: Mapping[str, str]) -> str:
    """What the package of libfuse 2 is called.

    Args:
        release: the fields of os-release(5).
    """
    first = _FIRST_WITH_T64.get(release.get("ID", ""))
    number = release.get("VERSION_ID", "").partition(".")[0]
    if first is None or not number.isdecimal():
        return "libfuse2t64 (libfuse2 on older ones)"
    return "libfuse2t64" if int(number) >= first else "libfuse2"


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def lets_users_allow_others() -> bool:
    """Whether fusermount's configuration has the line ``user_allow_other``."""
    try:
        lines = FUSE_CONFIGURATION.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def check_mountpoint(mountpoint: Path) -> None:
    """See that a mount can be made at a place.

    Args:
        mountpoint: an absolute path; see `absolute`.

    Raises:
        MountError: it is missing, no directory, not empty, or in use.
    """
    entry = mount_entry(mountpoint)
    if entry and entry.filesystem_type == FILESYSTEM_TYPE:
        raise MountError(
            f"{mountpoint} is mounted already; look into it, or end it with: imgsyncfs umount {mountpoint}"
        )
    if entry and entry.is_trigger:
        return
    if entry:
        raise MountError(f"Something else ({entry.filesystem_type}) is mounted at {mountpoint}; choose another place.")
    try:
        empty = not any(os.scandir(mountpoint))
    except FileNotFoundError:
        raise MountError(f"The mount point {mountpoint} does not exist; make it with: mkdir -p {mountpoint}") from None
    except NotADirectoryError:
        raise MountError(f"The mount point {mountpoint} is not a directory; choose another place.") from None
    except PermissionError:
        raise MountError(f"You may not look into the mount point {mountpoint}; choose a place of your own.") from None
    if not empty:
        raise MountError(f"The mount point {mountpoint} is not empty; choose an empty directory.")
