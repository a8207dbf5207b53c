"""The namespace as nodes: what stands at a path, what it says of itself, what is in it.

Pure Python and no FUSE: the mount is one door to it, copying and the Python API are others. Paths and names are bytes,
as they are to the kernel, so that a name which is not UTF-8 is simply not found.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

DIRECTORY_MODE = stat.S_IFDIR | 0o555
FILE_MODE = stat.S_IFREG | 0o444

FIRST_POSITION = 2
"""Where reading a large directory begins; what is below stands for ``.`` and ``..``."""


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


class Node(Protocol):
    """A file or a directory."""

    def attributes(self) -> Attributes:
        """What `stat` shows; may read an annotation where the node is a rendered file."""
        ...


class File(Node, Protocol):
    """Something that can be read."""

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only where the file ends."""
        ...


class DirectFile(File, Protocol):
    """A file whose bytes lie somewhere already, and need not be copied twice."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read as much from `offset` as a buffer takes; says how many bytes that is, fewer only where the file ends."""
        ...


class Directory(Node, Protocol):
    """Something that has children."""

    def child(self, name: bytes) -> Node | None:
        """What stands there under a name, or None."""
        ...

    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of what stands there; reads no blob."""
        ...


class LargeDirectory(Directory, Protocol):
    """A directory that can be read piece by piece, for one whose entries are too many to be gathered."""

    def children_from(self, position: int) -> Iterator[tuple[bytes, int, int]]:
        """(name, mode, position after it) of what stands there, from a position on, `FIRST_POSITION` at first.

        Positions are below 2**60. They stay good when the directory changes, as far as that can be.
        """
        ...


@dataclass(frozen=True)
class RootDirectory:
    """The directory at the mount point: datasets, and hidden directories that are always there.

    Attributes:
        hidden: name to node of what begins with a dot.
        datasets: gives name to node of the datasets; asked at each look, so it must be cheap.
        modified_at: gives the Unix time that `stat` shows.
    """

    hidden: Mapping[bytes, Directory]
    datasets: Callable[[], Mapping[bytes, Directory]]
    modified_at: Callable[[], int]

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        return Attributes(DIRECTORY_MODE, 0, self.modified_at())

    def child(self, name: bytes) -> Node | None:
        """What stands there under a name, or None."""
        return self.hidden.get(name) or self.datasets().get(name)

    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of what stands there."""
        for name in (*self.hidden, *self.datasets()):
            yield name, DIRECTORY_MODE


def find_node(root: Directory, path: bytes) -> Node | None:
    """Walk from the root to a path.

    Args:
        root: where ``/`` is.
        path: absolute, as the kernel gives it: no empty part but the first, no ``.`` or ``..``.

    Returns:
        What stands there, or None.
    """
    node: Node = root
    for name in path.split(b"/"):
        if not name:
            continue
        child = getattr(node, "child", None)
        if child is None:
            return None
        found = child(name)
        if found is None:
            return None
        node = found
    return node
