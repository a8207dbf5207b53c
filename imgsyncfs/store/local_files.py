"""What the local store does to files: reads ranges of them, and writes new ones so that they survive a crash."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from imgsyncfs.durable_files import sync_folder
from imgsyncfs.extents import MEBIBYTE

if TYPE_CHECKING:
    from pathlib import Path

    from imgsyncfs.store.content import Content

COPY_BYTES = 1 * MEBIBYTE

_LINKLESS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def read_range(descriptor: int, start: int, stop: int) -> bytes:
    """A range of an open file; shorter where the file ends."""
    pieces = []
    while start < stop:
        piece = os.pread(descriptor, stop - start, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_range_into(room: memoryview, descriptor: int, start: int) -> int:
    """Read a range of an open file into memory; how many bytes there are."""
    received = 0
    while received < len(room):
        count = os.preadv(descriptor, [room[received:]], start + received)
        if not count:
            break
        received += count
    return received


def md5_of(path: Path) -> str:
    """The MD5 digest of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(COPY_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_file(path: Path, content: Content, md5: str) -> str:
    """Write a new file with the modes of the umask, bring it to the disk, and return its md5."""
    digest = ""
    with path.open("xb") as stream:
        for block, digest_so_far in content.blocks(COPY_BYTES, md5=md5):
            stream.write(block)
            digest = digest_so_far
        stream.flush()
        os.fsync(stream.fileno())
    return digest


def take_name(unfinished: Path, path: Path) -> bool:
    """Give a finished file its name unless that is taken; says whether it got it."""
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        # A disk without hard links (exFAT, some network disks). Between the question and the renaming another writer
        # could come in; names say what is in a blob, so it would bring the same content.
        if path.exists():
            return False
        unfinished.rename(path)
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
