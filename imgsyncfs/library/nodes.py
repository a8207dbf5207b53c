"""The namespace as nodes: files, directories and symlinks.

Pure Python and no FUSE: the mount is one door to it, copying and the Python API are others. Paths and names are bytes,
as in the kernel, so that a name which is not UTF-8 is simply not found.
"""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

DIRECTORY_MODE = stat.S_IFDIR | 0o555
FILE_MODE = stat.S_IFREG | 0o444
LINK_MODE = stat.S_IFLNK | 0o777

FIRST_POSITION = 2
"""The first position in a large directory; those below are of ``.`` and ``..``."""


class Attributes(NamedTuple):
    """What `stat` shows.

    Attributes:
        mode: kind and permissions.
        size: length in bytes; exact, for rendered files too.
        modified_at: when the content last changed, Unix seconds.
    """

    mode: int
    size: int
    modified_at: int


class Node(ABC):
    """A file, a directory or a symlink."""

    __slots__ = ()

    @abstractmethod
    def attributes(self) -> Attributes:
        """What `stat` shows; may read an annotation where the node is a rendered file."""


class File(Node):
    """A node with bytes."""

    __slots__ = ()

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only where the file ends."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with the bytes from `offset` on.

        Returns:
            How many bytes; fewer than the buffer takes only where the file ends.
        """
        content = self.read(offset, len(buffer))
        # A slice that is too short for its content raises: nothing is written beyond the buffer.
        buffer[: len(content)] = content
        return len(content)


class Directory(Node):
    """A node with children.

    Attributes:
        is_large: it can be read piece by piece, since its entries are too many to be gathered.
    """

    __slots__ = ()

    is_large = False

    @abstractmethod
    def child(self, name: bytes) -> Node | None:
        """The child of that name, or None."""

    @abstractmethod
    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of the children; reads no blob."""

    def children_from(self, position: int) -> Iterator[tuple[bytes, int, int]]:
        """(name, mode, position after it) of the children of a large directory, from a position on.

        Positions begin at `FIRST_POSITION`, are below 2**60, and stay good when the directory changes, as far as
        that can be.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Link(Node):
    """A symlink.

    Attributes:
        target: relative to the directory that it is in.
        modified_at: Unix seconds.
    """

    target: bytes
    modified_at: int

    def attributes(self) -> Attributes:
        """What `lstat` shows."""
        return Attributes(LINK_MODE, len(self.target), self.modified_at)


@dataclass(frozen=True)
class RootDirectory(Directory):
    """The directory at the mount point: datasets, and directories that begin with a dot.

    Attributes:
        hidden: name to node of the directories that begin with a dot.
        datasets: gives name to node of the datasets; called at each look, so it must be cheap.
        modified_at: gives the Unix time that `stat` shows.
    """

    hidden: Mapping[bytes, Directory]
    datasets: Callable[[], Mapping[bytes, Directory]]
    modified_at: Callable[[], int]

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        return Attributes(DIRECTORY_MODE, 0, self.modified_at())

    def child(self, name: bytes) -> Node | None:
        """The child of that name, or None."""
        return self.hidden.get(name) or self.datasets().get(name)

    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of the children."""
        for name in (*self.hidden, *self.datasets()):
            yield name, DIRECTORY_MODE


def find_node(root: Directory, path: bytes) -> Node | None:
    """Walk from the root to a path.

    Args:
        root: where ``/`` is.
        path: absolute, as the kernel gives it: no empty part but the first, no ``.`` or ``..``.

    Returns:
        The node there, or None.
    """
    node: Node | None = root
    for name in filter(None, path.split(b"/")):
        node = node.child(name) if isinstance(node, Directory) else None
        if node is None:
            return None
    return node
