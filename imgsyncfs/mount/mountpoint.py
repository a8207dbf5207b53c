"""The mount point: checked before mounting, waited for, and left clean after."""

from __future__ import annotations

import ctypes.util
import errno
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from imgsyncfs.errors import MountError
from imgsyncfs.library.nodes import CONTROL_NAME, REFRESH_NAME

logger = logging.getLogger(__name__)

FILESYSTEM_TYPE = "fuse.imgsyncfs"
MOUNT_TABLE = Path("/proc/self/mountinfo")
DEVICE = Path("/dev/fuse")
FUSE_CONFIGURATION = Path("/etc/fuse.conf")
COMMAND_SECONDS = 20.0
BUSY_SECONDS = 3.0

_INSTALL = "on Debian or Ubuntu run: sudo apt-get install"


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
    """The absolute path of a place, its parent's symlinks resolved. The place itself is not touched: it may be dead."""
    return mountpoint.parent.resolve() / mountpoint.name if mountpoint.name else mountpoint.resolve()


def check_system(options: Collection[str] = ()) -> None:
    """See that FUSE is there, and may be used.

    Args:
        options: names of the options for libfuse.

    Raises:
        MountError: something is missing; the message says how to get it.
    """
    if ctypes.util.find_library("fuse") is None:
        raise MountError(f"libfuse 2 is not installed; {_INSTALL} libfuse2 (libfuse2t64 on newer ones)")
    if shutil.which("fusermount") is None:
        raise MountError(f"fusermount is not installed; {_INSTALL} fuse3")
    if not DEVICE.exists():
        raise MountError(
            "/dev/fuse is not there; run: sudo modprobe fuse (in a container: start it with --device /dev/fuse)"
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise MountError(f"You may not use {DEVICE}; let everyone with: sudo chmod 0666 {DEVICE}")
    others = sorted({"allow_other", "allow_root"}.intersection(options))
    if others and os.geteuid() != 0 and not _lets_users_allow_others():
        raise MountError(
            f"Only root may mount with {others[0]} here; let users do so with: "
            f"echo user_allow_other | sudo tee -a {FUSE_CONFIGURATION}"
        )


def _lets_users_allow_others() -> bool:
    """Whether fusermount's configuration has the line ``user_allow_other``."""
    try:
        lines = FUSE_CONFIGURATION.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def check_mountpoint(mountpoint: Path) -> None:
    """See that a mount can be made at a place; one that a killed daemon left behind is cleared.

    Args:
        mountpoint: an absolute path; see `absolute`.

    Raises:
        MountError: it is missing, no directory, not empty, or in use.
    """
    entry = mount_entry(mountpoint)
    if entry and _is_dead(mountpoint):
        logger.info("Clearing a dead mount at %s", mountpoint)
        detach(mountpoint)
        entry = mount_entry(mountpoint)
    if entry and entry.filesystem_type == FILESYSTEM_TYPE:
        raise MountError(
            f"{mountpoint} is mounted already; look into it, or end it with: imgsyncfs umount {mountpoint}"
        )
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


def detach(mountpoint: Path) -> None:
    """Take a mount out of the namespace at once, whatever still uses it.

    Raises:
        MountError: it could not be.
    """
    _unmount(mountpoint, lazy=True)


def unmount(mountpoint: Path, *, lazy: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
    """End a mount of ours.

    Args:
        mountpoint: an absolute path; see `absolute`.
        lazy: detach at once, whatever uses it.
        busy_seconds: how long to try again while something uses it.

    Raises:
        MountError: nothing of ours is mounted there, or it stays in use; the message says by what.
    """
    entry = mount_entry(mountpoint)
    if entry is None:
        raise MountError(f"Nothing is mounted at {mountpoint}; `imgsyncfs status` and `findmnt` show what is.")
    if entry.filesystem_type != FILESYSTEM_TYPE:
        raise MountError(f"What is mounted at {mountpoint} is {entry.filesystem_type} and not ours; use umount(8).")
    if lazy or _is_dead(mountpoint):
        detach(mountpoint)
        return
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            _unmount(mountpoint, lazy=False)
        except MountError as error:
            if mount_entry(mountpoint) is None:
                return
            if time.monotonic() > deadline:
                users = ", ".join(_users(mountpoint)) or "a program of another user"
                raise MountError(
                    f"{mountpoint} is in use by {users}; close it, or detach the mount with: "
                    f"imgsyncfs umount --lazy {mountpoint} ({error})"
                ) from error
            time.sleep(0.1)
        else:
            return


def _unmount(mountpoint: Path, *, lazy: bool) -> None:
    command = ["umount", "-i"] if os.geteuid() == 0 else ["fusermount", "-u"]
    if lazy:
        command.append("-l" if command[0] == "umount" else "-z")
    try:
        done = subprocess.run(
            [*command, str(mountpoint)], capture_output=True, timeout=COMMAND_SECONDS, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        raise MountError(
            f"{command[0]} {mountpoint} did not end within {COMMAND_SECONDS:g} s; try with --lazy."
        ) from None
    if done.returncode != 0:
        raise MountError(done.stderr.strip() or f"{command[0]} ended with status {done.returncode}")


def _is_dead(mountpoint: Path) -> bool:
    """Whether the daemon behind a mount is gone (the kernel then answers ENOTCONN)."""
    try:
        # Of other names the kernel goes on answering from what it knew; statvfs may ask a database.
        os.stat(mountpoint / CONTROL_NAME.decode() / REFRESH_NAME.decode())  # noqa: PTH116  # a Path would do the same
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


def _users(mountpoint: Path) -> list[str]:
    """Programs that have a file, or their working directory, below a place: ``name (process id)``."""
    below = f"{mountpoint}/"
    users = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            links = [entry / "cwd", *(entry / "fd").iterdir()]
            if any(f"{_target(link)}/".startswith(below) for link in links):
                users.append(f"{(entry / 'comm').read_text().strip()} ({entry.name})")
        except OSError:
            # Gone meanwhile, or another user's.
            continue
    return users


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
