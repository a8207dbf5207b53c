"""How a mount is ended from outside: by the kernel, which needs no answer from whoever is behind it.

Nothing here looks into the mount, which may hang: the kernel's table says what is mounted, and ``/proc`` who uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from imgsyncfs.errors import MountError
from imgsyncfs.library.nodes import STATUS_NAME
from imgsyncfs.mount.asking import ANSWER_SECONDS, ask
from imgsyncfs.mount.launch import wait_for_end
from imgsyncfs.mount.mountpoint import DEVICE, FILESYSTEM_TYPE, MountEntry, mount_entry

logger = logging.getLogger(__name__)

COMMAND_SECONDS = 10.0
BUSY_SECONDS = 3.0
"""How long to try again while something uses a mount: who closes a file may not have done so to the end."""

SCAN_SECONDS = 3.0
"""How long to look for the programs that use a mount."""

KILL_SECONDS = 5.0

MOST_USERS = 8
COMMAND_LETTERS = 80

CONNECTIONS = Path("/sys/fs/fuse/connections")

PROCESS_MODULE = "imgsyncfs.mount.process"
"""What a mount in the background runs."""

_FORCE, _DETACH, _NO_FOLLOW = 1, 2, 8
"""Flags of umount(2)."""


def unmount(mountpoint: Path, *, lazy: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
    """End a mount of ours.

    Args:
        mountpoint: an absolute path; see `imgsyncfs.mount.mountpoint.absolute`.
        lazy: detach at once, whatever uses it.
        busy_seconds: how long to try again while something uses it.

    Raises:
        MountError: nothing of ours is mounted there, or it stays in use; the message says by what.
    """
    our_entry(mountpoint)
    if lazy:
        _unmount(mountpoint, _DETACH)
        return
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            _unmount(mountpoint, 0)
        except MountError as error:
            if mount_entry(mountpoint) is None:
                return
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            if ask([mountpoint], STATUS_NAME, seconds=ANSWER_SECONDS)[0].is_dead:
                _unmount(mountpoint, _DETACH)
                return
            users = ", ".join(users_of(mountpoint)) or "a program of another user"
            raise MountError(
                f"{mountpoint} is in use by {users}; close it, or detach the mount with: "
                f"imgsyncfs umount --lazy {mountpoint} ({error})"
            ) from error
        else:
            return


def end_by_force(mountpoint: Path) -> None:
    """End a mount of ours that may hang: whoever waits for it gets an error, and its processes are killed.

    Args:
        mountpoint: an absolute path; see `imgsyncfs.mount.mountpoint.absolute`.

    Raises:
        MountError: nothing of ours is mounted there, or it may not be ended.
    """
    entry = our_entry(mountpoint)
    process_id = process_of(mountpoint)
    processes = [] if process_id is None else [process_id, *_descendants(process_id)]
    _abort(entry)
    _unmount(mountpoint, _FORCE | _DETACH)
    for each in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)
    for each in processes:
        wait_for_end(each, KILL_SECONDS)


def clear_if_dead(mountpoint: Path) -> None:
    """Clear a mount of ours that a killed process left behind; leaves all others alone.

    Args:
        mountpoint: an absolute path; see `imgsyncfs.mount.mountpoint.absolute`.

    Raises:
        MountError: one of ours is there and does not answer in time, or may not be cleared.
    """
    entry = mount_entry(mountpoint)
    if entry is None or entry.filesystem_type != FILESYSTEM_TYPE:
        return
    [answer] = ask([mountpoint], STATUS_NAME, seconds=ANSWER_SECONDS)
    if answer.is_late:
        raise hangs(mountpoint)
    if answer.is_dead:
        logger.info("Clearing a dead mount at %s", mountpoint)
        _unmount(mountpoint, _DETACH)


def our_entry(mountpoint: Path) -> MountEntry:
    """The mount of ours at a place.

    Raises:
        MountError: there is none.
    """
    entry = mount_entry(mountpoint)
    if entry is None or entry.is_trigger:
        raise MountError(
            f"Nothing is mounted at {mountpoint}; mount it with: imgsyncfs mount {mountpoint} (`imgsyncfs status` and "
            "`findmnt` show what is mounted)"
        )
    if entry.filesystem_type != FILESYSTEM_TYPE:
        raise MountError(f"What is mounted at {mountpoint} is {entry.filesystem_type} and not ours; use umount(8).")
    return entry


def hangs(mountpoint: Path) -> MountError:
    """What somebody is told whom a mount does not answer."""
    process_id = process_of(mountpoint)
    reason = ""
    if process_id is not None:
        reason = f"; its process {process_id} is there"
        if is_stopped(process_id):
            reason = f": its process {process_id} is stopped, and goes on with kill -CONT {process_id}"
    return MountError(
        f"The mount at {mountpoint} does not answer within {ANSWER_SECONDS:g} s{reason}. Look again in a while, or end "
        f"it with: imgsyncfs umount --force {mountpoint}"
    )


def process_of(mountpoint: Path) -> int | None:
    """The process behind a mount, as far as this user may see it; None if it is not found."""
    for process in _processes():
        # First what never waits: the kernel reads a command from the memory of its process.
        if os.fspath(DEVICE) in _open_files(process) and _is_behind(process, mountpoint):
            return int(process.name)
    return None


def is_stopped(process_id: int) -> bool:
    """Whether a process was stopped by a signal, and has not gone on since."""
    return _status(process_id)[:1] == ["T"]


def users_of(mountpoint: Path) -> list[str]:
    """Programs that use something below a place: ``command (process id)``, of those that this user may see.

    Args:
        mountpoint: an absolute path.
    """
    users: list[str] = []
    # The list of mapped files is read under a lock that a process which waits for the mount may hold.
    scan = threading.Thread(target=_find_users, args=(mountpoint, users), daemon=True)
    scan.start()
    scan.join(SCAN_SECONDS)
    found = list(users)
    more = len(found) - MOST_USERS
    return [*found[:MOST_USERS], *([f"{more} more"] if more > 0 else [])]


def _find_users(mountpoint: Path, users: list[str]) -> None:
    below, mapped_below = f"{mountpoint}/", f" {mountpoint}/".encode(errors="surrogateescape")
    for process in _processes():
        paths = [*_open_files(process), *(_target(process / name) for name in ("cwd", "root", "exe"))]
        if any(f"{path}/".startswith(below) for path in paths) or _maps(process, mapped_below):
            users.append(f"{_command(process)} ({process.name})")


def _maps(process: Path, below: bytes) -> bool:
    try:
        return any(below in line for line in (process / "maps").read_bytes().splitlines())
    except OSError:
        return False


def _command(process: Path) -> str:
    """What a process runs, shortened."""
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        name = (process / "comm").read_text(errors="replace").strip()
        shown = words or name
        shortened = shown if len(shown) <= COMMAND_LETTERS else f"{shown[: COMMAND_LETTERS - 1]}…"
        return "".join(letter if letter.isprintable() else "?" for letter in shortened)
    return "a program"


def _is_behind(process: Path, mountpoint: Path) -> bool:
    """Whether a process is that of the mount, by its command."""
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().split(b"\0")
        if PROCESS_MODULE.encode() in words or b"--foreground" in words:
            folder = Path(_target(process / "cwd"))
            return any(folder / os.fsdecode(word) == mountpoint for word in words if word)
    return False


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _open_files(process: Path) -> list[str]:
    """Where the descriptors of a process lead; empty for another user's, or one that is gone."""
    try:
        return [_target(link) for link in (process / "fd").iterdir()]
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _status(process_id: int) -> list[str]:
    """The fields of a process's status from its state on (proc(5)); empty if it is gone."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _descendants(process_id: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for process in _processes():
        fields = _status(int(process.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(process.name))
    found, left = [], [process_id]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _abort(entry: MountEntry) -> None:
    """Have the kernel answer all that wait for a mount with an error, as it also does when its processes have ended."""
    try:
        (CONNECTIONS / entry.device.partition(":")[2] / "abort").write_bytes(b"1")
    except OSError as error:
        # The file system of connections is not mounted everywhere.
        logger.debug("The connection of %s cannot be aborted there: %s", entry.mountpoint, error)


def _unmount(mountpoint: Path, flags: int) -> None:
    """Have the kernel unmount: as root by itself, as another user by way of fusermount.

    Raises:
        MountError: it does not.
    """
    if os.geteuid() == 0:
        # The command umount(8) would look at the mount first, which may hang.
        umount = ctypes.CDLL(None, use_errno=True).umount2
        if umount(os.fsencode(mountpoint), ctypes.c_int(flags | _NO_FOLLOW)) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EPERM:
            raise MountError(f"umount {mountpoint}: {os.strerror(number)}")
    # Root of a container may have to do as other users do.
    command = ["fusermount", "-u", *(["-z"] if flags & _DETACH else []), str(mountpoint)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False, text=True)
    except subprocess.TimeoutExpired:
        raise MountError(f"fusermount -u {mountpoint} did not end within {COMMAND_SECONDS:g} s.") from None
    if done.returncode != 0:
        raise MountError(done.stderr.strip() or f"fusermount ended with status {done.returncode}")
