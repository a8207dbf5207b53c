"""The kernel's calls, answered from a tree of nodes: fusepy, errors to errno, and nothing else.

The peculiarities, with their measured reasons (fusepy 3.0.1, libfuse 2.9, Linux 6.18):

- *Zero-message open*: `open` ends in ENOSYS, after which the kernel opens files without asking and keeps their pages.
  52,000 repeated reads a second instead of 8,000. `flush`, `release` and `access` are not offered at all, for the same
  reason; `getxattr` and `listxattr` end in ENOSYS, or `ls` would cost a message a file. `opendir` must not: libfuse's
  high-level interface crashes on it.
- *Pinned thread state*: libfuse's threads are not Python's, and without a pin each callback makes and throws away a
  thread state (10-20 µs).
- *Paths are bytes*: fusepy decodes paths, and one that is not UTF-8 would end in EINVAL. `Binding` hands them on as
  they are; for fusepy's own methods it is told Latin-1, which maps every byte to a character and back.
- *`stat` is short*: `Binding.getattr` fills the kernel's struct in one step (`imgsyncfs.mount.status_struct`), without
  fusepy's loop over a dictionary.
- *Bytes are copied once*: `Binding.read` hands libfuse's own buffer on, and what lies in the cache is read into it.
- *One boundary*: every exception becomes an errno here. In fusepy an `OSError` without errno escapes the callback, and
  a reader can then see a truncated file.

Threads: callbacks run on libfuse's threads, any number at once.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import fuse

from imgsyncfs.errors import (
    AnnotationError,
    BlobChanged,
    BlobRefused,
    CatalogMissing,
    CatalogRefused,
    CatalogUnreachable,
    ImgsyncfsError,
    StoreNotAllowed,
    StoreRefused,
    StoreUnreachable,
)
from imgsyncfs.library.nodes import DIRECTORY_MODE, FIRST_POSITION, Attributes, Directory, File, Link, Node, find_node
from imgsyncfs.mount.status_struct import BLOCK_BYTES, READ_BYTES, write_status

logger = logging.getLogger(__name__)

SUBTYPE = "imgsyncfs"

_PINNED: set[int] = set()
"""Native ids of the threads whose Python state is pinned. One that ends leaves some kilobytes behind."""


_FILL = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, fuse.c_off_t)
"""libfuse's function that takes a directory's entry: (buffer, name, status, offset after it). It copies the name and
comes back at once, so the interpreter lock is kept: a third of the time that an entry takes otherwise."""

_SAME_FOR_ALL = (StoreRefused, StoreUnreachable, CatalogRefused, CatalogUnreachable)
"""Errors that concern all files alike: reported once a minute, for the file that was read first."""

_DOTS = ((b".", DIRECTORY_MODE, 1), (b"..", DIRECTORY_MODE, FIRST_POSITION))
"""The first entries of each directory: name, mode and offset after it."""


def error_number(error: BaseException) -> int:
    """The errno that a reader gets for an exception."""
    if isinstance(error, (StoreRefused, BlobRefused, CatalogRefused)):
        return errno.EACCES
    if isinstance(error, BlobChanged):
        return errno.ESTALE
    if isinstance(error, CatalogMissing):
        return errno.ENOENT
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO


class Operations:
    """What fusepy calls. Only the operations that are here are offered to libfuse.

    Args:
        root: the tree.
        capacity: gives (bytes, files) for `statfs`.
        report: called with each error: (message, cause).
        stale: called when a blob is no longer what the catalog says.
        ready: called when the mount can be used.
        owner: (user id, group id) that everything belongs to.
    """

    use_ns = True

    def __init__(
        self,
        root: Directory,
        *,
        capacity: Callable[[], tuple[int, int]],
        report: Callable[[str, str], None],
        stale: Callable[[], None],
        ready: Callable[[], None],
        owner: tuple[int, int],
    ) -> None:
        self._root = root
        self._capacity = capacity
        self._report = report
        self._stale = stale
        self._ready = ready
        self.owner = owner

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Run one operation; an error leaves as a `FuseOSError`."""
        thread = threading.get_native_id()
        if thread not in _PINNED:
            _PINNED.add(thread)
            ctypes.pythonapi.PyGILState_Ensure()
        try:
            return getattr(self, operation)(*arguments)
        except fuse.FuseOSError:
            raise
        except Exception as error:
            self._report_error(operation, arguments, error)
            raise fuse.FuseOSError(error_number(error)) from error

    def init(self, _path: str) -> None:
        """The kernel has accepted the mount."""
        self._ready()

    def getattr(self, path: bytes) -> Attributes:
        """`stat`."""
        return self._node(path).attributes()

    def readdir(self, path: bytes, offset: int, take: Callable[[Iterable[tuple[bytes, int, int]]], None]) -> None:
        """List a directory, or a piece of it.

        Args:
            path: of the directory.
            offset: where to go on, one of those given to `take`; 0 at first.
            take: takes (name, mode, offset after it) of entries, as many as it wants; the offset is 0 for those of a
                directory that is given whole.
        """
        node = self._node(path)
        if not isinstance(node, Directory):
            raise fuse.FuseOSError(errno.ENOTDIR)
        if node.is_large:
            take(chain(_DOTS[offset:], node.children_from(max(offset, FIRST_POSITION))))
        else:
            take((name, mode, 0) for name, mode in chain((entry[:2] for entry in _DOTS), node.children()))

    def readlink(self, path: bytes) -> bytes:
        """The target of a symlink."""
        node = self._node(path)
        if not isinstance(node, Link):
            raise fuse.FuseOSError(errno.EINVAL)
        return node.target

    def open(self, _path: str, _flags: int) -> int:
        """Tell the kernel to open files without asking."""
        raise fuse.FuseOSError(errno.ENOSYS)

    def read(self, path: bytes, buffer: memoryview, offset: int) -> int:
        """Fill a buffer with a part of a file; returns how many bytes that is."""
        node = self._node(path)
        if not isinstance(node, File):
            raise fuse.FuseOSError(errno.EISDIR)
        return node.read_into(offset, buffer)

    def getxattr(self, _path: str, _name: str, *_more: Any) -> bytes:
        """Tell the kernel not to ask for extended attributes."""
        raise fuse.FuseOSError(errno.ENOSYS)

    def listxattr(self, _path: str) -> list[str]:
        """Tell the kernel not to ask for extended attributes."""
        raise fuse.FuseOSError(errno.ENOSYS)

    def statfs(self, _path: str) -> dict[str, int]:
        """`df`: bytes in the cache, images in the catalog, and nothing free."""
        total, files = self._capacity()
        return {
            "f_bsize": READ_BYTES,
            "f_frsize": BLOCK_BYTES,
            "f_blocks": -(-total // BLOCK_BYTES),
            "f_bfree": 0,
            "f_bavail": 0,
            "f_files": files,
            "f_ffree": 0,
            "f_namemax": 255,
        }

    def _node(self, path: bytes) -> Node:
        node = find_node(self._root, path)
        if node is None:
            raise fuse.FuseOSError(errno.ENOENT)
        return node

    def _report_error(self, operation: str, arguments: tuple[Any, ...], error: Exception) -> None:
        path = arguments[0].decode(errors="backslashreplace") if arguments and isinstance(arguments[0], bytes) else ""
        if isinstance(error, BlobChanged):
            self._stale()
        if isinstance(error, AnnotationError):
            self._report(str(error), "")
        elif isinstance(error, StoreNotAllowed):
            # A line for each such store: one that is not allowed must not hide another.
            self._report(f"{path}: {error}", str(error))
        elif isinstance(error, _SAME_FOR_ALL):
            self._report(f"{path}: {error}", type(error).__name__)
        elif isinstance(error, ImgsyncfsError):
            self._report(f"{path}: {error}", str(error))
        else:
            logger.error("%s %s failed", operation, path, exc_info=error)
            self._report(f"{path}: {operation} failed: {error!r}; please report this with the mount's log.", "")


class Binding(fuse.FUSE):  # type: ignore[misc]  # fusepy ships no types
    """fusepy, with the most frequent operations answered without its detours.

    The methods have fusepy's names and libfuse's arguments; they return 0 or a length, and raise `FuseOSError`.
    """

    operations: Operations

    def getattr(self, path: bytes, buffer: Any) -> int:
        """`stat`."""
        write_status(buffer.contents, self.operations("getattr", path), self.operations.owner)
        return 0

    def fgetattr(self, path: bytes, buffer: Any, _file: Any) -> int:
        """`fstat`."""
        return self.getattr(path, buffer)

    def readlink(self, path: bytes, buffer: Any, size: int) -> int:
        """The target of a symlink, with a NUL at its end."""
        target = self.operations("readlink", path)[: size - 1] + b"\0"
        ctypes.memmove(buffer, target, len(target))
        return 0

    def readdir(self, path: bytes, buffer: Any, fill: Any, offset: int, _file: Any) -> int:
        """List a directory. The mode goes with each name, or `find` and `os.scandir` would stat every entry.

        libfuse gathers entries that are given with the offset 0, all of a directory, before the kernel sees the first.
        With another offset it takes as many as the kernel has asked for, keeps nothing, and asks again from there: a
        million images with their siblings would be 300 MB otherwise.
        """
        status = fuse.c_stat()
        fill_entry = _FILL(ctypes.cast(fill, ctypes.c_void_p).value or 0)
        address = ctypes.addressof(status)

        def take(entries: Iterable[tuple[bytes, int, int]]) -> None:
            for name, mode, after in entries:
                status.st_mode = mode
                if fill_entry(buffer, name, address, after):
                    if not after:
                        raise fuse.FuseOSError(errno.ENOMEM)
                    return

        self.operations("readdir", path, offset, take)
        return 0

    def read(self, path: bytes, buffer: Any, size: int, offset: int, _file: Any) -> int:
        """Read a part of a file."""
        target = (ctypes.c_char * size).from_address(ctypes.addressof(buffer.contents))
        length: int = self.operations("read", path, memoryview(target).cast("B"), offset)
        return length


def serve(operations: Operations, mountpoint: Path, *, options: dict[str, str | bool]) -> None:
    """Mount, and answer the kernel until the mount ends (`umount`, SIGINT or SIGTERM). Runs on the main thread.

    Args:
        operations: the answers.
        mountpoint: an empty directory.
        options: for libfuse and the kernel, name to value, or to True for a flag.

    Raises:
        RuntimeError: libfuse could not mount; it has said why on standard error.
    """
    Binding(
        operations,
        os.fsencode(mountpoint).decode("latin-1"),
        encoding="latin-1",
        foreground=True,
        **options,
    )
