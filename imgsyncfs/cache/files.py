"""The files that hold extents, and the only way from a name in the table to one of them.

A large extent has a file of its own; small ones that are kept together share one, and the table has the offset of
each: to make a file costs ext4 0.1 ms.

A file is written first, and only then does an entry in the table lead to it. It is never changed afterwards: a reader
that has it open goes on reading when it has been removed.

A name from the table is never trusted to be a path: `file_and_offset` and `ExtentFiles` accept the names that
`new_name` gives, and no others. The folders are held open: what lies in one is found by its name in it, and no link is
followed. So whatever a name or a link says, nothing outside the cache is opened, made or removed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgsyncfs.cache.extent import Entry, OpenExtent, tagged_length

logger = logging.getLogger(__name__)

SUFFIX = ".val"

FOLDERS = tuple("0123456789abcdef")
"""More folders would take more of the disk than they save: ext4 finds a name among a million without trouble."""

BLOCK_BYTES = 4096
"""Files take up whole blocks."""

_PART = "@"

_NAME = re.compile(r"(?:[0-9a-f]|[0-9a-f]{2}/[0-9a-f]{2})/[0-9a-f]{20,64}\.val")

_EARLIER_FOLDER = re.compile(r"[0-9a-f]{2}")

_STRANGE_NAME = "the cache gives no such names"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
"""Up to 15 digits: no file is longer, and no number is larger than what system calls take."""

_READING = os.O_RDONLY | getattr(os, "O_NOATIME", 0)
"""Without O_NOATIME the first read after each write makes ext4 write the inode once more."""

_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
"""A pipe would keep whoever opens it waiting."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY

_NO_FILE = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
"""What opening or removing something that is no file of the cache gives: a link, a folder, a pipe, a socket."""


class RefusedFile(OSError):
    """What lies under a name is none of the cache's files, or the name is none that the cache gives."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, name)


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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        # By name within the cache's folder, which is itself there under the empty name.
        self._folders: dict[str, _OpenFolder] = {}

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

    def open(self, entry: Entry) -> OpenExtent | None:
        """Open what an entry leads to, which is yet to be verified; None if its file is gone.

        Raises:
            RefusedFile: it leads to none of the cache's files (a link, a pipe, somebody else's), or to one that cannot
                hold the extent.
            OSError: the file cannot be opened.
        """
        if entry.filename is None:
            if not isinstance(entry.content, bytes):
                raise RefusedFile(str(entry.key), "its content is no bytes")
            return OpenExtent(content=entry.content, length=len(entry.content))
        place = file_and_offset(entry.filename)
        if place is None:
            raise RefusedFile(str(entry.filename), _STRANGE_NAME)
        file, offset = place
        descriptor = self._opened(file)
        if descriptor is None:
            return None
        length, start = tagged_length(entry.tag), offset or 0
        extent = OpenExtent(descriptor=descriptor, length=length, start=start)
        byte_count = _checked(descriptor, file).st_size
        if byte_count < start + length or (offset is None and byte_count != length):
            raise RefusedFile(file, "it is no longer as long as it was written")
        return extent

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

    def _opened(self, name: str) -> int | None:
        """A descriptor of a file; None if it is gone."""
        folder_name, base = _taken_apart(name)
        try:
            folder = self._folder(folder_name)
            try:
                return folder.open(base, _READING)
            except FileNotFoundError:
                if not folder.was_removed:
                    raise
            # Another folder lies now where the one that is held open was removed.
            self.close()
            return self._open_folder(folder_name).open(base, _READING)
        except FileNotFoundError:
            return None

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

    def _folder(self, name: str) -> _OpenFolder:
        """A folder within the cache's; one that the cache makes is held open from now on."""
        folder = self._folders.get(name)
        return self._open_folder(name) if folder is None else folder

    def _open_folder(self, name: str) -> _OpenFolder:
        with self._lock:
            folder = self._folders.get("")
            if folder is None or folder.was_removed:
                self._folders.clear()
                folder = self._folders[""] = _OpenFolder(self.folder)
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
        raise RefusedFile(name, _STRANGE_NAME)
    folder, _, base = name.rpartition("/")
    return folder, base


class _OpenFolder:
    """A folder, held open; closed when nobody refers to it. Any number of threads may use one.

    Args:
        path: where it is. Only its last part must be no link: the way there is `imgsyncfs.settings.private_folders`'
        concern.
        within: the folder that it lies in, where it has the name that is the path's last part; None goes by the path.

    Attributes:
        descriptor: its descriptor.

    Raises:
        FileNotFoundError: it is not there.
        RefusedFile: it is a link, or somebody else's.
        OSError: it cannot be opened.
    """

    __slots__ = ("_path", "descriptor")

    def __init__(self, path: Path, *, within: _OpenFolder | None = None) -> None:
        self.descriptor = -1
        self._path = path
        self.descriptor = _opened(path.parent, path.name, _FOLDER, None if within is None else within.descriptor)
        if os.fstat(self.descriptor).st_uid != os.geteuid():
            raise RefusedFile(str(path), "it belongs to another user")

    def sub_folder(self, name: str) -> _OpenFolder:
        """Open a folder in it; raises as the class does."""
        return _OpenFolder(self._path / _plain(name), within=self)

    def make(self, name: str) -> None:
        """Make a folder in it, unless there is one; a link in its place is removed, and what it leads to is left alone.

        Raises:
            RefusedFile: what is there is no folder, or somebody else's.
            OSError: it cannot be made.
        """
        try:
            os.mkdir(_plain(name), 0o700, dir_fd=self.descriptor)
        except FileExistsError:
            if stat.S_ISLNK(self.status(name).st_mode):
                logger.warning("The cache has a link in place of the folder %s/%s, which is removed.", self._path, name)
                self.remove(name)
                os.mkdir(name, 0o700, dir_fd=self.descriptor)
            self.sub_folder(name)

    def open(self, name: str, flags: int) -> int:
        """Open a file in it; `_checked` must look at one that was there before.

        Raises:
            FileNotFoundError: it is not there.
            RefusedFile: it is a link or a folder.
            OSError: it cannot be opened.
        """
        return _opened(self._path, _plain(name), flags, self.descriptor)

    def status(self, name: str) -> os.stat_result:
        """What `stat` says of a file in it, or of a link itself.

        Raises:
            FileNotFoundError: it is not there.
        """
        return os.stat(_plain(name), dir_fd=self.descriptor, follow_symlinks=False)

    def remove(self, name: str) -> bool:
        """Remove a file in it, or a link itself; say whether it was there.

        Raises:
            RefusedFile: it is a folder.
            OSError: it cannot be removed.
        """
        try:
            os.unlink(_plain(name), dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in _NO_FILE:
                raise RefusedFile(f"{self._path}/{name}", os.strerror(error.errno)) from error
            raise
        return True

    def names(self) -> list[str]:
        """What lies in it.

        Raises:
            OSError: it cannot be read.
        """
        # A descriptor of its own: the kernel keeps with it how far it was read.
        descriptor = _opened(self._path, ".", _FOLDER, self.descriptor)
        try:
            return os.listdir(descriptor)  # noqa: PTH208  # a Path has no descriptor
        finally:
            os.close(descriptor)

    @property
    def was_removed(self) -> bool:
        """Whether it was removed since; what is made under its path now is another one."""
        return os.fstat(self.descriptor).st_nlink == 0

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _checked(descriptor: int, name: str) -> os.stat_result:
    """See that an open file is one, and ours."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise RefusedFile(name, "it is no regular file")
    if status.st_uid != os.geteuid():
        raise RefusedFile(name, "it belongs to another user")
    return status


def _opened(above: Path, name: str, flags: int, within: int | None = None) -> int:
    """Open what has a name in a folder, whose path is for messages; without its descriptor, go by the path."""
    try:
        return os.open(name if within is not None else above / name, flags | _ALWAYS, 0o600, dir_fd=within)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise RefusedFile(str(above / name), os.strerror(error.errno)) from error
        raise


def _plain(name: str) -> str:
    """A name that means something in the folder itself, and nothing else.

    Raises:
        RefusedFile: it is none.
    """
    if "/" in name or "\0" in name or name in {"", ".", ".."}:
        raise RefusedFile(name, "it is no file's name")
    return name
