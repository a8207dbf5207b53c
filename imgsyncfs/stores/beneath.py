"""Open what lies beneath a folder, and never what a symbolic link leads to outside it.

Linux does it in one step: openat2(2) with RESOLVE_BENEATH follows relative links that stay beneath, and refuses
absolute ones. Where there is no openat2 (Linux before 5.6, some containers), a walk part by part stands in, which
refuses every link. After a refusal, realpath(3) says where the name leads. If that is beneath the folder, that path is
opened with no link followed: whatever is moved about meanwhile, no descriptor leads out.

Sources: openat2(2), linux/openat2.h. No lock is needed: all that is kept is which of the two ways is there.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable

_OPENAT2 = 437
"""The number of openat2 (asm-generic/unistd.h; x86 and 32-bit Arm have the same)."""

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08

MOST_TRIES = 32
"""openat2 gives EAGAIN if something was renamed while it went up by ``..``."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LINK_IN_THE_WAY = frozenset({errno.EXDEV, errno.ELOOP, errno.ENOTDIR})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.syscall.restype = ctypes.c_long

Opener = Callable[[int, str, int, bool], int]
"""Opens what lies beneath a folder: (its descriptor, name, flags, whether links beneath are followed)."""


class LinkLeadsOut(OSError):
    """A link on the way to a name leads out of the folder."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EXDEV, "a link leads out of the folder", name)


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW_BYTES = ctypes.sizeof(_OpenHow)


def open_beneath(root: int, root_path: str, name: str, flags: int, *, opener: Opener | None = None) -> int:
    """Open a file or folder beneath a folder.

    Args:
        root: descriptor of the folder; O_PATH will do.
        root_path: its absolute path, to find out where links lead.
        name: relative to it, its parts joined by ``/``; ``.`` is the folder itself.
        flags: as for open(2), without O_CREAT; the descriptor is not inherited.
        opener: what opens it; None takes openat2 where it is there, and the walk elsewhere.

    Returns:
        A descriptor, to be closed.

    Raises:
        LinkLeadsOut: a link on the way leads out of the folder, whether or not something is there.
        OSError: it cannot be opened for another reason.
    """
    if "\0" in name:
        raise ValueError("A name holds a NUL character.")
    opens = opener or _chosen_opener()
    flags |= os.O_CLOEXEC
    try:
        return opens(root, name, flags, True)
    except OSError as error:
        if error.errno not in _LINK_IN_THE_WAY:
            raise
        inner = _where_it_leads(root_path, name)
        if inner is None:
            raise LinkLeadsOut(name) from error
    return opens(root, inner, flags, False)


def open_by_openat2(root: int, name: str, flags: int, follows: bool) -> int:  # see `Opener`
    """An `Opener`: openat2(2). Follows relative links that stay beneath."""
    how = _how(flags, follows)
    encoded = os.fsencode(name)
    tries = 0
    while True:
        descriptor = _openat2(root, encoded, how)
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        tries += number == errno.EAGAIN
        if number not in {errno.EINTR, errno.EAGAIN} or tries == MOST_TRIES:
            raise OSError(number, os.strerror(number), name)


def open_by_walk(root: int, name: str, flags: int, follows: bool) -> int:  # noqa: ARG001  # see `Opener`
    """An `Opener`: part by part, for kernels without openat2. Follows no link."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    folder = os.dup(root)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        last = os.open(parts[-1] if parts else ".", flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(last).st_mode):
        # O_PATH opens the link itself.
        os.close(last)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return last


@functools.cache
def _chosen_opener() -> Opener:
    """What this kernel, and the filter of the container that this may be, lets us use."""
    descriptor = _openat2(-1, b"/", _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, 0))
    if descriptor >= 0:
        os.close(descriptor)
        return open_by_openat2
    return open_by_walk


@functools.cache
def _how(flags: int, follows: bool) -> _OpenHow:
    links = 0 if follows else _RESOLVE_NO_SYMLINKS
    return _OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | links)


def _openat2(folder: int, name: bytes, how: _OpenHow) -> int:
    """The system call: a descriptor, or -1 with `ctypes.get_errno` saying why."""
    descriptor: int = _libc.syscall(_OPENAT2, folder, name, ctypes.byref(how), _HOW_BYTES)
    return descriptor


def _where_it_leads(root_path: str, name: str) -> str | None:
    """Where a name leads, relative to the folder; None if that is outside.

    Raises:
        OSError: it leads to nothing.
    """
    top = os.path.realpath(root_path)
    path = os.path.join(top, name)  # noqa: PTH118  # a name may be any text
    target = os.path.realpath(path)
    above = top if top.endswith("/") else f"{top}/"
    if target != top and not target.startswith(above):
        return None
    # What is not there is skipped above where ``..`` follows it; the kernel does not.
    os.stat(path)  # noqa: PTH116  # likewise
    return "." if target == top else target.removeprefix(above)
