"""The files that hold extents, and how damage to their content is found.

A large extent has a file of its own; small ones that are kept together share one, and the table has the offset of
each: to make a file costs ext4 0.1 ms.

A file is written first, and only then does an entry in the table lead to it. It is never changed afterwards: a reader
that has it open goes on reading when it has been removed.

A name from the table is never trusted to be a path: `file_and_offset` and `ExtentFiles` accept the names that
`new_name` gives, and no others.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

from imgsyncfs.cache.folders import READING, OpenFolder, RefusedFile

logger = logging.getLogger(__name__)

SUFFIX = ".val"

FOLDERS = tuple("0123456789abcdef")
"""More folders would take more of the disk than they save: ext4 finds a name among a million without trouble."""

BLOCK_BYTES = 4096
"""Files take up whole blocks."""

_PART = "@"

_NAME = re.compile(r"(?:[0-9a-f]|[0-9a-f]{2}/[0-9a-f]{2})/[0-9a-f]{20,64}\.val")

_EARLIER_FOLDER = re.compile(r"[0-9a-f]{2}")

_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
"""Up to 15 digits: no file is longer, and no number is larger than what system calls take."""

_TAG = re.compile(r"(0|[1-9][0-9]{0,14})-[0-9a-f]{32}")

_BUFFER_BYTES = 256 * 1024
"""A file is verified through a buffer of this size, which fits the processor's second cache."""


class OpenedFile(NamedTuple):
    """A file that is open for reading.

    Attributes:
        descriptor: to be closed by whoever has it.
        byte_count: how long it is.
    """

    descriptor: int
    byte_count: int


def content_tag(content: bytes | memoryview) -> str:
    """Length and digest of an extent, as kept beside it. The digest finds damage; it keeps no one out."""
    return f"{len(content)}-{xxhash.xxh3_128_hexdigest(content)}"


def tagged_length(tag: object) -> int:
    """The length that a tag gives; 0 for what is no tag."""
    match = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    return int(match[1]) if match else 0


def disk_bytes(length: int) -> int:
    """How many bytes of the disk a file of a length takes up."""
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def part_name(name: str, offset: int) -> str:
    """What the table calls a part of a file that several extents share.

    Args:
        name: the file's.
        offset: where the part begins, in bytes.
    """
    return f"{name}{_PART}{offset}"


def file_and_offset(name: object) -> tuple[str, int | None] | None:
    """The file that a name in the table means, and where in it the part begins; None where the extent is all of it.

    Args:
        name: as it stands there; a damaged table may hold anything.

    Returns:
        None if the cache gives no such names.
    """
    if not isinstance(name, str):
        return None
    file, is_part, offset = name.partition(_PART)
    if not is_file_name(file):
        return None
    if not is_part:
        return file, None
    return (file, int(offset)) if _NUMBER.fullmatch(offset) else None


def holds(byte_count: int, offset: int | None, length: int) -> bool:
    """Whether a file can hold an extent.

    Args:
        byte_count: the file's length.
        offset: where in it the extent begins; None if it is all of the file.
        length: of the extent.
    """
    return byte_count == length if offset is None else offset + length <= byte_count


def part_names(file: str) -> tuple[str, str]:
    """The bounds between which the names of all parts of a file are, the upper one excluded."""
    return f"{file}{_PART}", f"{file}{chr(ord(_PART) + 1)}"


def new_name() -> str:
    """A name within the cache's folder for a new file."""
    digits = secrets.token_hex(16)
    return f"{digits[:1]}/{digits[1:]}{SUFFIX}"


def is_file_name(name: str) -> bool:
    """Whether a name is one that `new_name` gives, or diskcache itself in earlier versions."""
    return _NAME.fullmatch(name) is not None


class ExtentFiles:
    """The files of one cache folder, and the only way from a name to one of them.

    What `is_file_name` does not accept is refused. Files are opened, made and removed by their names in their folders,
    which are held open; no link is followed, and only regular files of the user's count.

    Threads: any number may use one. `_lock` guards the table of open folders: one is added or dropped while it is held.
    To look into the table takes no lock, and whoever has taken a folder from it keeps that open.

    Args:
        folder: the cache's.
        user: whose files they are; None is the one that the process runs as.
    """

    def __init__(self, folder: Path, *, user: int | None = None) -> None:
        self.folder = folder
        self._user = os.geteuid() if user is None else user
        self._lock = threading.Lock()
        # By name within the cache's folder, which is itself there under the empty name.
        self._folders: dict[str, OpenFolder] = {}

    def make_folders(self) -> None:
        """Make the folders that the files lie in.

        Raises:
            RefusedFile: one of them is no folder, or somebody else's.
            OSError: they cannot be made.
        """
        within = self._open_folder("")
        for name in FOLDERS:
            within.make(name)

    def write(self, name: str, contents: Sequence[bytes | memoryview]) -> None:
        """Write a new file.

        Args:
            name: of the file.
            contents: what it is to hold, each from the beginning of a block.

        Raises:
            OSError: it cannot be written, and nothing is left of it.
        """
        descriptor = self._create(name)
        try:
            begin = 0
            for content in contents:
                written = 0
                while written < len(content):
                    written += os.pwrite(descriptor, content[written:] if written else content, begin + written)
                begin += disk_bytes(written)
        except OSError:
            self.remove([name])
            raise
        finally:
            os.close(descriptor)

    def open(self, name: str) -> OpenedFile | None:
        """Open a file for reading; None if it is gone.

        Raises:
            RefusedFile: it is none of the cache's: a link, a pipe, somebody else's.
            OSError: it cannot be opened.
        """
        folder_name, base = _taken_apart(name)
        try:
            folder = self._folder(folder_name)
            try:
                descriptor = folder.open(base, READING)
            except FileNotFoundError:
                if not folder.was_removed:
                    raise
                folder = self._folder_anew(folder_name)
                descriptor = folder.open(base, READING)
        except FileNotFoundError:
            return None
        try:
            return OpenedFile(descriptor, folder.checked(descriptor, base).st_size)
        except OSError:
            os.close(descriptor)
            raise

    def remove(self, names: Iterable[str]) -> int:
        """Remove files; those that are gone already are no trouble, and what is no file of the cache stays.

        Returns:
            How many were removed.

        Raises:
            OSError: one cannot be removed.
        """
        count = 0
        for name in names:
            try:
                folder_name, base = _taken_apart(name)
                count += self._folder(folder_name).remove(base)
            except FileNotFoundError:
                continue
            except RefusedFile as error:
                logger.warning("This is no file of the cache and is left alone: %s", error)
        return count

    def names(self, folder: str) -> set[str]:
        """The names of all files in one of `FOLDERS`, and in those of earlier versions that begin like it.

        Raises:
            OSError: a folder cannot be read.
        """
        return {name for name in self._listed(folder) if is_file_name(name)}

    def modified_at(self, name: str) -> float:
        """When a file was last written, in Unix seconds; 0 if it is gone.

        Raises:
            RefusedFile: the name is none of the cache's.
        """
        folder_name, base = _taken_apart(name)
        try:
            return self._folder(folder_name).status(base).st_mtime
        except FileNotFoundError:
            return 0.0

    def close(self) -> None:
        """Close the folders."""
        with self._lock:
            self._folders.clear()

    def _listed(self, folder: str) -> Iterator[str]:
        above = [name for name in self._names_in("") if name[0] == folder and _EARLIER_FOLDER.fullmatch(name)]
        earlier = [
            f"{one}/{other}" for one in above for other in filter(_EARLIER_FOLDER.fullmatch, self._names_in(one))
        ]
        for each in [folder, *earlier]:
            yield from (f"{each}/{name}" for name in self._names_in(each))

    def _names_in(self, folder: str) -> list[str]:
        """What lies in a folder within the cache's; nothing if it is not there, or is no folder."""
        try:
            return self._folder(folder).names()
        except (FileNotFoundError, RefusedFile):
            return []

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        folder_name, base = _taken_apart(name)
        try:
            return self._folder(folder_name).open(base, flags)
        except FileNotFoundError:
            # The cache was thrown away and is made anew, or one of its folders was.
            self.close()
            self.make_folders()
            return self._folder(folder_name).open(base, flags)

    def _folder(self, name: str) -> OpenFolder:
        """A folder within the cache's; one that the cache makes is held open from now on."""
        folder = self._folders.get(name)
        return self._open_folder(name) if folder is None else folder

    def _folder_anew(self, name: str) -> OpenFolder:
        """The folder that lies now where the one that is held open was removed."""
        self.close()
        return self._open_folder(name)

    def _open_folder(self, name: str) -> OpenFolder:
        with self._lock:
            folder = self._folders.get("")
            if folder is None or folder.was_removed:
                self._folders.clear()
                folder = self._folders[""] = OpenFolder(self.folder, user=self._user)
            for part in name.split("/") if name else ():
                folder = folder.sub_folder(part)
            if name in FOLDERS:
                self._folders[name] = folder
            return folder


def _taken_apart(name: str) -> tuple[str, str]:
    """The folder that a name says, and the name within it.

    Raises:
        RefusedFile: it is no name of a file of the cache.
    """
    if not is_file_name(name):
        raise RefusedFile(name, "the cache gives no such names")
    folder, _, base = name.rpartition("/")
    return folder, base


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
                    part = view if length is None else view[: length - done]
                    count = os.preadv(descriptor, [part], offset + done)
                    if not count:
                        break
                    digest.update(part[:count])
                    done += count
        finally:
            self._buffers.append(buffer)
        return f"{done}-{digest.hexdigest()}"
