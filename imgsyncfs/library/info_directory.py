"""The directory ``.imgsyncfs``: files about the mount itself.

The kernel does not ask when a file is opened (see `imgsyncfs.mount.operations`), and keeps a file's pages until its
size changes or they are dropped. So there are two kinds of files. Those that change with the catalog switch like any
other file. Those that change all the time (`SnapshotFile`) are made anew whenever the kernel asks for attributes, with
another size than before. ``status-<anything>.json`` is ``status.json`` under a name that the kernel has not seen yet.

Threads: each file guards its content with a lock held for an assignment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property

from cachetools import TTLCache

from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.nodes import DIRECTORY_MODE, FILE_MODE, Attributes, Directory, File


def _siblings() -> str:
    lines = [f"  <dataset>/{'x' + known.suffix:<18} the same for {known.shown_title}" for known in FORMATS.values()]
    return "\n".join([f"{lines[0]}, rendered when it is looked at", *lines[1:]])


README = f"""This is an imgsyncfs mount: a catalog of image datasets as plain directories.

  <dataset>/x.jpg              the image
  <dataset>/x.json             its annotation in the house format
{_siblings()}

  .by/<column>/<value>/        symlinks: .by/image_type/rgb/..., .by/class/person/...
  .subscriptions/<name>/       symlinks to the datasets of each subscription

  .imgsyncfs/datasets.csv      which datasets there are (datasets.json: with every column)
  .imgsyncfs/status.json       how this mount is doing
  .imgsyncfs/errors.log        what went wrong, and what to do about it

Everything is read-only. Nothing is copied before it is read; what was read once is kept in a cache on this machine.
""".encode()

FRESH_PREFIX = b"status-"
FRESH_SECONDS = 60.0
MOST_FRESH = 256


class FixedFile(File):
    """A file whose content never changes, and is made at the first look.

    Args:
        make: makes the content; the same if it is called twice.
        modified_at: Unix seconds.
    """

    def __init__(self, make: Callable[[], bytes], modified_at: int) -> None:
        self._make = make
        self._modified_at = modified_at

    @cached_property
    def _content(self) -> bytes:
        return self._make()

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        return Attributes(FILE_MODE, len(self._content), self._modified_at)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        return self._content[offset : offset + size]


class ReplacedFile(File):
    """A file that is replaced now and then, by `imgsyncfs.mount.turnover`.

    Args:
        make: makes the first content; see `FixedFile`.
    """

    def __init__(self, make: Callable[[], bytes]) -> None:
        self.replace(make)

    def replace(self, make: Callable[[], bytes]) -> None:
        """Replace the content."""
        self._file = FixedFile(make, int(time.time()))

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        return self._file.attributes()

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        return self._file.read(offset, size)


class SnapshotFile(File):
    """A file that changes all the time; a look at its attributes takes a snapshot, which reads are served from.

    Args:
        take: gives the content; a newline more at its end must do no harm.
    """

    def __init__(self, take: Callable[[], bytes]) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._content = b""

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        content = self._take()
        with self._lock:
            if len(content) == len(self._content) and content != self._content:
                # Only another size makes the kernel drop the pages it has.
                content += b"\n"
            self._content = content
        return Attributes(FILE_MODE, len(content), int(time.time()))

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        with self._lock:
            return self._content[offset : offset + size]


class ControlDirectory(Directory):
    """``.imgsyncfs`` itself.

    Args:
        datasets_csv: gives a function that makes the content of ``datasets.csv``, as the catalog is now.
        datasets_json: the same for ``datasets.json``.
        status: gives the content of ``status.json``.
        errors: gives the content of ``errors.log``.
    """

    NAME = b".imgsyncfs"

    def __init__(
        self,
        *,
        datasets_csv: Callable[[], Callable[[], bytes]],
        datasets_json: Callable[[], Callable[[], bytes]],
        status: Callable[[], bytes],
        errors: Callable[[], bytes],
    ) -> None:
        self._since = int(time.time())
        self._status = status
        self._replaced = {
            b"datasets.csv": (ReplacedFile(datasets_csv()), datasets_csv),
            b"datasets.json": (ReplacedFile(datasets_json()), datasets_json),
        }
        self._files: dict[bytes, File] = {
            b"README.txt": FixedFile(lambda: README, self._since),
            **{name: file for name, (file, _) in self._replaced.items()},
            b"status.json": SnapshotFile(status),
            b"errors.log": SnapshotFile(errors),
        }
        self._fresh_lock = threading.Lock()
        self._fresh: TTLCache[bytes, FixedFile] = TTLCache(MOST_FRESH, FRESH_SECONDS)

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        return Attributes(DIRECTORY_MODE, 0, self._since)

    def child(self, name: bytes) -> File | None:
        """The file of that name, or None."""
        known = self._files.get(name)
        if known is not None or not name.startswith(FRESH_PREFIX):
            return known
        with self._fresh_lock:
            fresh = self._fresh.get(name)
        if fresh is None:
            content = self._status()
            fresh = FixedFile(lambda: content, int(time.time()))
            with self._fresh_lock:
                self._fresh[name] = fresh
        return fresh

    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of the files."""
        for name in self._files:
            yield name, FILE_MODE

    def replacements(self) -> Iterator[tuple[bytes, Callable[[], None]]]:
        """(path in the mount, what puts the new content there) of the files that follow the catalog."""
        for name, (file, newest) in self._replaced.items():

            def replace(file: ReplacedFile = file, newest: Callable[[], Callable[[], bytes]] = newest) -> None:
                file.replace(newest())

            yield self.NAME + b"/" + name, replace
