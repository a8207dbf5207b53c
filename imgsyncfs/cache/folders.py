"""Folders of the cache, held open: what lies in one is found by its name in it, and no link is followed.

So whatever a name or a link says, nothing outside the cache is opened, made or removed.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

_NO_ACCESS_TIME = getattr(os, "O_NOATIME", 0)

READING = os.O_RDONLY | _NO_ACCESS_TIME
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


class OpenFolder:
    """A folder, held open; closed when nobody refers to it. Any number of threads may use one.

    Args:
        path: where it is. Only its last part must be no link: the way there is `imgsyncfs.settings.private_folders`'
        concern.
        user: whose it must be, and what lies in it.
        within: the folder that it lies in, where it has the name that is the path's last part; None goes by the path.

    Attributes:
        descriptor: its descriptor.

    Raises:
        FileNotFoundError: it is not there.
        RefusedFile: it is a link, or somebody else's.
        OSError: it cannot be opened.
    """

    __slots__ = ("_path", "_user", "descriptor")

    def __init__(self, path: Path, *, user: int, within: OpenFolder | None = None) -> None:
        self.descriptor = -1
        self._path = path
        self._user = user
        self.descriptor = _opened(path.parent, path.name, _FOLDER, None if within is None else within.descriptor)
        if os.fstat(self.descriptor).st_uid != user:
            raise RefusedFile(str(path), "it belongs to another user")

    def sub_folder(self, name: str) -> OpenFolder:
        """Open a folder in it; raises as the class does."""
        return OpenFolder(self._path / _plain(name), user=self._user, within=self)

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
        """Open a file in it; `checked` must look at one that was there before.

        Raises:
            FileNotFoundError: it is not there.
            RefusedFile: it is a link or a folder.
            OSError: it cannot be opened.
        """
        return _opened(self._path, _plain(name), flags, self.descriptor)

    def checked(self, descriptor: int, name: str) -> os.stat_result:
        """See that an open file is one, and ours.

        Raises:
            RefusedFile: it is not.
        """
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedFile(f"{self._path}/{name}", "it is no regular file")
        if status.st_uid != self._user:
            raise RefusedFile(f"{self._path}/{name}", "it belongs to another user")
        return status

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
