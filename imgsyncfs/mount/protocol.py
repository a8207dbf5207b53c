"""The kernel's side of FUSE: requests, answers and notifications as bytes.

A request is a header and its arguments, an answer a header and a result. An answer needs nothing but the request's
number (``unique``), so any process that has the device open can give it: a responder, or the coordinator in the place
of one that died. That is why messages are read and written here and not by libfuse's session, whose requests belong to
the process that received them; libfuse mounts and unmounts (`imgsyncfs.mount.channel`).

Source: ``linux/fuse.h``, protocol 7.31; a test compares every structure with the C compiler's.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

from imgsyncfs.library.nodes import LINK_MODE, Attributes, Owner

LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS = 1, 2, 3, 5, 14, 15, 17
INIT, OPENDIR, READDIR, INTERRUPT, DESTROY, BATCH_FORGET = 26, 27, 28, 36, 38, 42
OPERATION_NAMES = {
    LOOKUP: "lookup", GETATTR: "getattr", READLINK: "readlink", READ: "read", STATFS: "statfs", READDIR: "readdir",
}  # fmt: skip

UNANSWERED = frozenset({FORGET, BATCH_FORGET})
"""Requests that the kernel wants no answer to."""

NOTIFY_INVAL_INODE, NOTIFY_INVAL_ENTRY = 2, 3

ASYNC_READ = 1 << 0
EXPORT_SUPPORT = 1 << 4
NO_OPEN_SUPPORT = 1 << 17
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
CACHE_SYMLINKS = 1 << 23
NO_OPENDIR_SUPPORT = 1 << 24
EXPLICIT_INVAL_DATA = 1 << 25
WANTED = (
    ASYNC_READ | EXPORT_SUPPORT | NO_OPEN_SUPPORT | PARALLEL_DIROPS | MAX_PAGES | CACHE_SYMLINKS | NO_OPENDIR_SUPPORT
    | EXPLICIT_INVAL_DATA
)  # fmt: skip
"""What is taken of the kernel's offers: several reads of a file at once, no message for open and opendir, look-ups in
one directory side by side, reads of up to 1 MiB, targets of symlinks kept, pages dropped only when we say so."""

NEEDED = NO_OPEN_SUPPORT | NO_OPENDIR_SUPPORT

MAJOR, MINOR = 7, 31
LEAST_MINOR = 29
MOST_READ = 1 << 20
MOST_REQUESTS = (1 << 16) - 1
"""The highest of the kernel's own limits of requests."""
PAGE_BYTES = 4096
REQUEST_BYTES = 8192
"""The least that the kernel wants to be offered for a request, and the most that one takes: no file is written."""

FOREVER = 1 << 31
"""A timeout in seconds: the kernel keeps what it is told until it is notified, or needs the memory."""

IN_HEADER = struct.Struct("<IIQQIIIHH")
"""fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""

OUT_HEADER = struct.Struct("<IiQ")
"""fuse_out_header: len, error, unique."""

ATTR = struct.Struct("<6Q10I")
"""fuse_attr: ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev,
blksize, flags."""

ATTR_OUT = struct.Struct("<QII" + ATTR.format[1:])
"""fuse_attr_out: attr_valid, attr_valid_nsec, dummy, attr."""

ENTRY_OUT = struct.Struct("<4QII" + ATTR.format[1:])
"""fuse_entry_out: nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec, attr."""

READ_IN = struct.Struct("<QQIIQII")
"""fuse_read_in: fh, offset, size, read_flags, lock_owner, flags, padding. READDIR has the same."""

INTERRUPT_IN = struct.Struct("<Q")
"""fuse_interrupt_in: unique, of the request whose reader was sent a signal."""

INIT_IN = struct.Struct("<IIII")
"""The part of fuse_init_in that all kernels send: major, minor, max_readahead, flags."""

INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
"""fuse_init_out: major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
max_pages, map_alignment, flags2, unused."""

DIRENT = struct.Struct("<QQII")
"""fuse_dirent without its name: ino, off, namelen, type. The name follows, filled up to a multiple of 8 bytes."""

STATFS_OUT = struct.Struct("<5Q4I24x")
"""fuse_statfs_out: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding, spare."""

INVAL_INODE_OUT = struct.Struct("<Qqq")
"""fuse_notify_inval_inode_out: ino, off, len."""

INVAL_ENTRY_OUT = struct.Struct("<QII")
"""fuse_notify_inval_entry_out: parent, namelen, padding. The name follows, with a NUL at its end."""

BLOCK_BYTES = 512
"""The unit of st_blocks."""

READ_BYTES = 128 * 1024
"""Programs size their buffers by st_blksize."""

NAME_BYTES = 255


@dataclass(frozen=True)
class Limits:
    """What the kernel is told at the beginning.

    Attributes:
        max_background: in-flight requests of its readahead; its default of 12 starves parallel readers of a far store.
        congestion_threshold: from which number of them on the kernel counts the mount as busy.
        max_readahead: bytes that it reads ahead in a file.
    """

    max_background: int = 64
    congestion_threshold: int = 48
    max_readahead: int = MOST_READ


def init_answer(request: bytes, limits: Limits) -> tuple[bytes, int]:
    """Answer INIT.

    Returns:
        (the answer, the flags that were taken).

    Raises:
        OSError: the kernel is older than Linux 5.1, or speaks another protocol.
    """
    unique = IN_HEADER.unpack_from(request)[2]
    major, minor, max_readahead, offered = INIT_IN.unpack_from(request, IN_HEADER.size)
    if major != MAJOR or minor < LEAST_MINOR or offered & NEEDED != NEEDED:
        raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}")
    flags = offered & WANTED
    result = INIT_OUT.pack(
        MAJOR, MINOR, min(max_readahead, limits.max_readahead), flags, limits.max_background,
        limits.congestion_threshold, PAGE_BYTES, 1, MOST_READ // PAGE_BYTES, 0, 0,
    )  # fmt: skip
    return answer(unique, result), flags


def answer(unique: int, result: bytes) -> bytes:
    """The answer to a request."""
    return OUT_HEADER.pack(OUT_HEADER.size + len(result), 0, unique) + result


def refusal(unique: int, number: int) -> bytes:
    """The answer that a request has failed, with an errno."""
    return OUT_HEADER.pack(OUT_HEADER.size, -number, unique)


def attr_values(number: int, attributes: Attributes, owner: Owner) -> tuple[int, ...]:
    """The values of `ATTR`."""
    mode, size, time = attributes
    user, group, umask = owner
    if mode != LINK_MODE:
        mode &= ~umask
    time &= 0xFFFFFFFFFFFFFFFF
    return (
        number, size, -(-size // BLOCK_BYTES), time, time, time, 0, 0, 0, mode, 1, user, group, 0, READ_BYTES, 0,
    )  # fmt: skip


def attr_answer(unique: int, number: int, attributes: Attributes, owner: Owner, *, valid: int = FOREVER) -> bytes:
    """The answer to GETATTR.

    Args:
        unique: of the request.
        number: of the node.
        attributes: its own.
        owner: of all nodes.
        valid: for how many seconds.
    """
    return OUT_HEADER.pack(OUT_HEADER.size + ATTR_OUT.size, 0, unique) + ATTR_OUT.pack(
        valid, 0, 0, *attr_values(number, attributes, owner)
    )


def entry_answer(
    unique: int,
    number: int,
    attributes: Attributes,
    owner: Owner,
    *,
    entry_valid: int = FOREVER,
    attr_valid: int = FOREVER,
) -> bytes:
    """The answer to LOOKUP; see `attr_answer`. The number 0 says that there is no such name."""
    return OUT_HEADER.pack(OUT_HEADER.size + ENTRY_OUT.size, 0, unique) + ENTRY_OUT.pack(
        number, 0, entry_valid, attr_valid, 0, 0, *attr_values(number, attributes, owner)
    )


NO_ATTRIBUTES = Attributes(0, 0, 0)


def absence_answer(unique: int) -> bytes:
    """The answer to LOOKUP of a name that is not there, which the kernel remembers."""
    return entry_answer(unique, 0, NO_ATTRIBUTES, Owner(0, 0))


_FILLINGS = tuple(bytes(-length % 8) for length in range(8))


def directory_entry(number: int, position: int, name: bytes, mode: int) -> bytes:
    """An entry of the answer to READDIR.

    Args:
        number: of the node.
        position: after this entry.
        name: its own.
        mode: tells its kind, so that `find` and `os.scandir` need no more.
    """
    length = len(name)
    return DIRENT.pack(number, position, length, mode >> 12) + name + _FILLINGS[length & 7]


def statfs_answer(unique: int, *, total_bytes: int, files: int) -> bytes:
    """The answer to STATFS, for `df`: the size is the catalog's, of which nobody can write anything.

    Nothing is used and nothing is available, so that `df` gives no percentage: where all was used, as on a CD, those
    who watch file systems would be called up for a full one.
    """
    blocks = -(-total_bytes // BLOCK_BYTES)
    return answer(
        unique,
        STATFS_OUT.pack(blocks, blocks, 0, files, files, READ_BYTES, NAME_BYTES, BLOCK_BYTES, 0),
    )


def inode_notification(number: int) -> bytes:
    """Tell the kernel to forget the attributes and the pages, or the entries, of a node."""
    return OUT_HEADER.pack(OUT_HEADER.size + INVAL_INODE_OUT.size, NOTIFY_INVAL_INODE, 0) + INVAL_INODE_OUT.pack(
        number, 0, 0
    )


def attributes_notification(number: int) -> bytes:
    """Tell the kernel to forget the attributes of a node, and keep its pages."""
    return OUT_HEADER.pack(OUT_HEADER.size + INVAL_INODE_OUT.size, NOTIFY_INVAL_INODE, 0) + INVAL_INODE_OUT.pack(
        number, -1, 0
    )


def entry_notification(parent: int, name: bytes) -> bytes:
    """Tell the kernel to forget what a name stands for, or that it is not there."""
    length = OUT_HEADER.size + INVAL_ENTRY_OUT.size + len(name) + 1
    return OUT_HEADER.pack(length, NOTIFY_INVAL_ENTRY, 0) + INVAL_ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0"


def write_quietly(device: int, message: bytes) -> bool:
    """Write an answer or a notification to the kernel.

    Returns:
        Whether it was taken: not if nobody waits for the answer any more, or the kernel does not know the node.

    Raises:
        OSError: anything else.
    """
    try:
        os.write(device, message)
    except OSError as error:
        if error.errno not in _NOT_TAKEN:
            raise
        return False
    return True


_NOT_TAKEN = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN, errno.EINTR})
