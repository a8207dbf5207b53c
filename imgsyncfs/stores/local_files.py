"""What the local store does to files: reads ranges of them, and writes new ones so that they survive a crash."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.stores.beneath import open_beneath

if TYPE_CHECKING:
    from pathlib import Path

    from imgsyncfs.stores.blocks import Content

COPY_BYTES = 1 * MEBIBYTE

_LINKLESS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def read_range_into(buffer: memoryview, descriptor: int, start: int) -> int:
    """Read a range of an open file into a buffer; returns the number of bytes, less where the file ends."""
    received = 0
    while received < len(buffer):
        count = os.preadv(descriptor, [buffer[received:]], start + received)
        if not count:
            break
        received += count
    return received


def md5_of(descriptor: int) -> str:
    """The MD5 digest of an open file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    position = 0
    while block := os.pread(descriptor, COPY_BYTES, position):
        digest.update(block)
        position += len(block)
    return digest.hexdigest()


def write_file(folder: int, name: str, content: Content, md5: str) -> str:
    """Write a new file with the modes of the umask into an open folder, bring it to the disk, and return its md5."""
    digest = ""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o666, dir_fd=folder), "wb") as stream:  # noqa: PTH123  # a Path has no dir_fd
        for block, digest_so_far in content.blocks(COPY_BYTES, md5=md5):
            stream.write(block)
            digest = digest_so_far
        stream.flush()
        os.fsync(stream.fileno())
    return digest


def take_name(folder: int, unfinished: str, name: str) -> bool:
    """Give a finished file of an open folder its name unless that is taken; says whether it got it."""
    try:
        os.link(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        # A disk without hard links (exFAT, some network disks). Between the question and the renaming another writer
        # could come in; names say what is in a blob, so it would bring the same content.
        if _has(folder, name):
            return False
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    return True


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, each brought to the disk, so that no crash leaves rows without blobs."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def open_made_folder(root: int, root_path: str, name: str) -> int:
    """Open a folder beneath another for reading; make it and those above it as `make_folders` does.

    Args:
        root: descriptor of the folder that it lies beneath.
        root_path: that one's absolute path.
        name: relative to it; ``.`` is that one itself.

    Returns:
        A descriptor, to be closed.

    Raises:
        OSError: see `imgsyncfs.stores.beneath.open_beneath`.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY
    if name == ".":
        return open_beneath(root, root_path, name, flags)
    with suppress(FileNotFoundError):
        return open_beneath(root, root_path, name, flags)
    above, _, last = name.rpartition("/")
    parent = open_made_folder(root, root_path, above or ".")
    try:
        with suppress(FileExistsError):
            os.mkdir(last, dir_fd=parent)
        sync_open_folder(parent)
    finally:
        os.close(parent)
    return open_beneath(root, root_path, name, flags)


def _has(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_open_folder(descriptor)
    finally:
        os.close(descriptor)


def sync_open_folder(descriptor: int) -> None:
    """Bring the names of a folder that is open for reading to the disk."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks can't do this for folders, and need it not.
        if error.errno != errno.EINVAL:
            raise
