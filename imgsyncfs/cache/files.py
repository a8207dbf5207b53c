"""The files that hold extents, and how their content is told from damage.

Large extents have a file each; small ones that are kept together share one, and the table says where in it each lies:
to make a file costs ext4 0.1 ms, and up to 0.9 ms while it remembers some thousand that were removed.

A file is written first, and only then does an entry in the table lead to it. While one does, it is never changed, and
afterwards it is written anew only if nobody has it open: whoever has goes on reading what it held.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

SUFFIX = ".val"

FOLDERS = tuple("0123456789abcdef")
"""More would take more of the disk than what they save: ext4 finds a name among a million without trouble."""

BLOCK_BYTES = 4096
"""Files take up whole blocks."""

_PART = "@"

_NAME = re.compile(r"[0-9a-f]{1,2}/(?:[0-9a-f]{2}/)?[0-9a-f]{20,}\.val")

_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)

_BUFFER_BYTES = 256 * 1024
"""What is verified passes through a buffer of this size, which fits the processor's second cache."""


class FreedFile(NamedTuple):
    """A file that no entry leads to any more.

    Attributes:
        name: within the cache's folder.
        key: of the entry that did.
        byte_count: what it takes up of the disk.
    """

    name: str
    key: str
    byte_count: int


def content_tag(content: bytes | memoryview) -> str:
    """Length and digest of an extent, as kept beside it. The digest finds damage; it keeps no one out."""
    return f"{len(content)}-{xxhash.xxh3_128_hexdigest(content)}"


def tagged_length(tag: object) -> int:
    """The length that a tag gives; 0 for what is no tag."""
    length, _, _ = str(tag).partition("-")
    return int(length) if length.isdecimal() else 0


def room_on_disk(length: int) -> int:
    """How many bytes of the disk a file of a length takes up."""
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def part_name(name: str, offset: int) -> str:
    """What the table calls a part of a file that several extents share.

    Args:
        name: the file's.
        offset: where the part begins, in bytes.
    """
    return f"{name}{_PART}{offset}"


def file_and_offset(name: str) -> tuple[str, int | None]:
    """The file that a name in the table means, and where in it the part begins; None where the extent is all of it."""
    file, is_part, offset = name.partition(_PART)
    return file, (int(offset) if offset.isdecimal() else 0) if is_part else None


def part_names(file: str) -> tuple[str, str]:
    """The bounds between which the names of all parts of a file are, the upper one excluded."""
    return f"{file}{_PART}", f"{file}{chr(ord(_PART) + 1)}"


def make_folders(folder: Path) -> None:
    """Make the folders that the files lie in.

    Raises:
        OSError: they cannot be made.
    """
    for name in FOLDERS:
        (folder / name).mkdir(mode=0o700, exist_ok=True)


def new_name() -> str:
    """A name within the cache's folder for a new file."""
    digits = secrets.token_hex(16)
    return f"{digits[:1]}/{digits[1:]}{SUFFIX}"


def is_file_name(name: str) -> bool:
    """Whether a name is one that `new_name` gives, or diskcache itself in earlier versions."""
    return _NAME.fullmatch(name) is not None


def write_file(folder: Path, name: str, contents: Sequence[bytes | memoryview], *, spare: bool = False) -> None:
    """Write a file.

    Args:
        folder: the cache's.
        name: of the file, within the folder.
        contents: what it is to hold, each from the beginning of a block.
        spare: there is a file of that name, which no entry leads to any more. It is written anew, unless somebody has
            it open still: then another one takes its place.

    Raises:
        OSError: it cannot be written, and nothing is left of it.
    """
    path = f"{folder}/{name}"
    descriptor = _open_spare(path) if spare else None
    if descriptor is None:
        descriptor = _create(folder, path)
    try:
        begin = end = 0
        for content in contents:
            written = 0
            while written < len(content):
                written += os.pwrite(descriptor, content[written:] if written else content, begin + written)
            end, begin = begin + written, begin + room_on_disk(written)
        if spare:
            os.ftruncate(descriptor, end)
    except OSError:
        remove_files(folder, [name])
        raise
    finally:
        os.close(descriptor)


def _create(folder: Path, path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_folders(folder)
        return os.open(path, flags, 0o600)


def _open_spare(path: str) -> int | None:
    """Open a file to write it anew; None, and the file is gone, if it cannot be had for us alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # This lease is granted only if nobody else has the file open (fcntl(2), F_SETLEASE), and nobody comes to open
        # it afterwards: no entry leads to it. So the lease itself is of no further use.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108  # as in `remove_files`
        return None
    return descriptor


def open_file(folder: Path, name: str) -> int | None:
    """Open a file for reading; None if it is gone.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        # Without O_NOATIME the first read after each write makes ext4 write the inode once more.
        return os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC | _NO_ACCESS_TIME)
    except FileNotFoundError:
        return None


class FileTags:
    """Makes tags of what files hold. Any number of threads may use it."""

    def __init__(self) -> None:
        # Buffers that nobody uses just now. Mapped, because they must begin at a page: the kernel copies three times as
        # slowly to an address 16 bytes beyond a multiple of 64, where a `bytearray` of this size has its content.
        self._buffers: list[mmap.mmap] = []

    def of(self, descriptor: int, offset: int = 0, length: int | None = None) -> str:
        """`content_tag` of what an open file holds.

        Args:
            descriptor: of the file.
            offset: where to begin, in bytes.
            length: how much to look at; None for all that follows.

        Raises:
            OSError: it cannot be read.
        """
        buffer = self._buffers.pop() if self._buffers else mmap.mmap(-1, _BUFFER_BYTES)
        digest = xxhash.xxh3_128()
        done = 0
        try:
            with memoryview(buffer) as view:
                while length is None or done < length:
                    room = view if length is None else view[: length - done]
                    count = os.preadv(descriptor, [room], offset + done)
                    if not count:
                        break
                    digest.update(room[:count])
                    done += count
        finally:
            self._buffers.append(buffer)
        return f"{done}-{digest.hexdigest()}"


def remove_files(folder: Path, names: Iterable[str]) -> int:
    """Remove files; those that are gone already are no trouble. Return how many were there."""
    count = 0
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}")  # noqa: PTH108  # a Path for each file costs more than the removal
            count += 1
    return count
