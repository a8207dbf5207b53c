"""Folders and files that no other user may change: the cache and the config file must be among them.

A user who may write to a folder, or rename one on the way to it, decides what lies under its path. So each step of the
way is checked, and a path that another user could exchange is refused. Nothing that was there before is changed: a
shared folder stays shared, and a cache in it gets a sub-folder of its own (`cache_folder`).

"The user" is the one that the process runs as.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from imgsyncfs.errors import CacheError, CacheFull
from imgsyncfs.settings.values import expanded_path

CACHE_NAMES = frozenset({"catalogs", "documents", "extents", "journal", "logs"})
"""What lies in a cache folder."""

_ROOT = 0

_MOST_LINKS = 40
"""The kernel's limit for one path."""


def path_fault(path: Path) -> str | None:
    """Say who else may change what lies under a path, or exchange it for something else.

    A step of the way must belong to the user or to root, links included. Nobody else may write to it, unless it is a
    sticky folder such as ``/tmp``, where everyone renames only what is his own.

    Args:
        path: a folder or a file; links are followed.

    Returns:
        Which step is at fault and why, to be read after a colon; None if there is none, as far as the way exists.
    """
    try:
        return next((fault for step, status in _steps(path) if (fault := status_fault(step, status))), None)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{error.filename} cannot be looked at ({error.strerror})"


def status_fault(path: Path, status: os.stat_result) -> str | None:
    """Say who else may change one file or folder, whatever the way to it is.

    Args:
        path: how to call it.
        status: what `os.fstat` or `os.lstat` say about it.

    Returns:
        The fault, to be read after a colon; None if there is none.
    """
    if status.st_uid not in (_ROOT, os.geteuid()):
        return f"{path} belongs to {_user_name(status.st_uid)}"
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return None
    return _write_fault(path, status)


def own_folder_fault(folder: Path) -> str | None:
    """Say why a folder is not the user's alone: as `path_fault`, and it must be no link and belong to the user.

    Returns:
        The fault, to be read after a colon; None if there is none, or no such folder.
    """
    fault = path_fault(folder)
    if fault is not None or not os.path.lexists(folder):
        return fault
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is {'a link' if stat.S_ISLNK(status.st_mode) else 'no folder'}"
    if status.st_uid != os.geteuid():
        return f"{folder} belongs to {_user_name(status.st_uid)}"
    return _write_fault(folder, status)


def own_file_fault(path: Path, status: os.stat_result) -> str | None:
    """Say why a file in a folder of the user's alone is not the user's.

    Args:
        path: how to call it.
        status: what `os.fstat` or `os.lstat` say about it.

    Returns:
        The fault, to be read after a colon; None if there is none.
    """
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is {'a link' if stat.S_ISLNK(status.st_mode) else 'no regular file'}"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to {_user_name(status.st_uid)}"
    return None


def open_own_file(path: Path) -> int:
    """Open a file of the cache to read it; returns its descriptor. Waits for nobody: it may have become a pipe.

    Raises:
        OSError: it is not there, or is a link, no regular file, or somebody else's.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    fault = own_file_fault(path, os.fstat(descriptor))
    if fault is not None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, fault, str(path))
    return descriptor


def read_own_file(path: Path) -> bytes:
    """Read a file of the cache; raises what `open_own_file` raises."""
    with os.fdopen(open_own_file(path), "rb") as file:
        return file.read()


def cache_folder(given: Path) -> Path:
    """Say which folder is the cache's, for all who are given the same one.

    Args:
        given: what the user named. It is taken as it is if it is not there yet, or is the user's alone. In one that is
            shared (sticky, such as ``/tmp``), and in one of root's that holds other things (such as ``/var/cache``),
            the cache has a sub-folder of its own.

    Returns:
        The folder, without links; `make_own_folder` makes it.

    Raises:
        CacheError: somebody else could exchange it.
        ConfigurationError: it begins with the folder of a user that there is not.
    """
    named = expanded_path(given).absolute()
    fault = path_fault(named)
    if fault is not None:
        raise _unusable(named, fault)
    folder = Path(os.path.realpath(named))
    try:
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            return folder
        if status.st_mode & stat.S_ISVTX and _write_fault(folder, status):
            return folder / f"imgsyncfs-{os.geteuid()}"
        if (
            os.geteuid() == _ROOT
            and not _is_cache(folder)
            and not CACHE_NAMES.issuperset(entry.name for entry in folder.iterdir())
        ):
            return folder / "imgsyncfs"
    except FileNotFoundError:
        return folder
    except OSError as error:
        raise _unusable(named, error) from error
    return folder


def make_own_folder(folder: Path) -> None:
    """Make a folder of the cache for the user alone; one that is there already must be that.

    Args:
        folder: gets mode 0700 if it is made, as do its parents that are missing.

    Raises:
        CacheError: it cannot be made, or is not the user's alone.
    """
    check_own_folder(folder)
    try:
        # Path.mkdir makes parents as the process's mask has it.
        for step in [*reversed(folder.parents), folder]:
            if not step.exists():
                step.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    check_own_folder(folder)


def check_own_folder(folder: Path) -> None:
    """See that a folder of the cache is the user's alone, if it is there.

    Raises:
        CacheError: it is not.
    """
    fault = own_folder_fault(folder)
    if fault is not None:
        raise _unusable(folder, fault)


def has_no_room(error: OSError) -> bool:
    """Whether an error says that a disk is full, or that the user may not take up more of it."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def _unusable(folder: Path, reason: str | OSError) -> CacheError:
    kind = CacheFull if isinstance(reason, OSError) and has_no_room(reason) else CacheError
    return kind(
        f"The cache folder {folder} cannot be used: {reason}; correct that, or choose another folder.",
        option="cache_dir",
    )


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each folder and link on the way to a path, from the root on, and what it ends at.

    Raises:
        OSError: a step cannot be looked at, or is not there.
    """
    current = Path("/")
    left = list(reversed(path.absolute().parts[1:]))
    links = 0
    yield current, current.lstat()
    while left:
        name = left.pop()
        if name == "..":
            current = current.parent
            continue
        entry = current / name
        status = entry.lstat()
        yield entry, status
        if not stat.S_ISLNK(status.st_mode):
            current = entry
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(entry))
        target = Path(os.readlink(entry))  # noqa: PTH115  # it takes the path apart in any case
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        current = Path("/") if target.is_absolute() else current


def _write_fault(path: Path, status: os.stat_result) -> str | None:
    """Say who else may write to it; to a link nobody can, and a device keeps nothing."""
    mode = status.st_mode
    if stat.S_ISLNK(mode) or stat.S_ISCHR(mode):
        return None
    if mode & stat.S_IWOTH:
        return f"everyone may write to {path}"
    if mode & stat.S_IWGRP:
        if not _is_own_group(status.st_gid):
            return f"the group {_group_name(status.st_gid)} may write to {path}"
        # Where there is a list, these bits are the most that anyone in it is allowed.
        if _has_access_list(path):
            return f"an access control list lets others write to {path}"
    return None


def _is_own_group(group_id: int) -> bool:
    """Whether a group has no other members: the one that many systems make for each user, or root's."""
    name = _user_name(os.geteuid())
    try:
        group = grp.getgrgid(group_id)
    except KeyError:
        return False
    return (group_id == _ROOT or group.gr_name == name) and {name, "root"}.issuperset(group.gr_mem)


def _has_access_list(path: Path) -> bool:
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError:
        # It has none, or the disk knows none.
        return False
    return True


def _is_cache(folder: Path) -> bool:
    try:
        status = (folder / "extents" / "cache.db").lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user {user}"


def _group_name(group_id: int) -> str:
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)
