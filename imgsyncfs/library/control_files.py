"""The directory ``.imgsyncfs``: files about the mount itself.

A file's content never changes under a reader: each content has a node number of its own. Those that follow the catalog
(`datasets.csv`, `datasets.json`, `index.html`) get another one when it has changed, which the kernel is told.
`status.json` and `errors.log` change all the time: each look-up makes a snapshot, and the kernel asks again at the next
one.
``status-<anything>.json`` is another name for ``status.json``.

``refresh`` is not listed, since it does something: whoever reads it has the catalog asked for changes, and gets the
answer when they have been taken over. It is a file so that whoever may read the mount can ask, also from a container.

Threads: `ControlFiles._lock` guards the contents; it is held for dictionary operations only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from cachetools import LRUCache

from imgsyncfs.formats.registry import FormatDescription
from imgsyncfs.library.nodes import FILE_MODE, REFRESH_NAME, STATUS_NAME, Attributes
from imgsyncfs.library.numbers import CONTROL, NAMED, named_number
from imgsyncfs.library.views.registry import VIEWS


def readme(siblings: Sequence[FormatDescription]) -> bytes:
    """The mount's README.txt.

    Args:
        siblings: the formats that stand beside each image.
    """
    lines = [f"  <dataset>/{'x' + known.suffix:<18} the same for {known.shown_title}" for known in siblings]
    lines[:1] = [f"{line}, rendered when it is looked at" for line in lines[:1]]
    return _README.replace("SIBLINGS\n", "".join([f"{line}\n" for line in lines])).encode()


_README = f"""This is an imgsyncfs mount: a catalog of image datasets as plain directories.

  <dataset>/x.jpg              the image
  <dataset>/x.json             its annotation in the house format
SIBLINGS

  .views/<view>/<dataset>/     a dataset in the layout of a tool: {", ".join(VIEWS)}
                               LOSSES.txt in it says what the layout does not show; there is none if it shows all
  .selections/<name>/          images chosen out of several datasets; in views: .views/<view>/@<name>/
  .by/<column>/<value>/        symlinks: .by/image_type/rgb/..., .by/class/person/...
  .subscriptions/<name>/       symlinks to the datasets of each subscription

  .imgsyncfs/index.html        all datasets with a picture each, to open in a browser; leads to .views/gallery
  .imgsyncfs/datasets.csv      which datasets there are (datasets.json: with every column)
  .imgsyncfs/status.json       how this mount is doing
  .imgsyncfs/errors.log        what went wrong, and what to do about it

Everything is read-only. Nothing is copied before it is read; what was read once is kept in a cache on this machine.
"""

CONTROL_NUMBER = NAMED | CONTROL
"""The node number of the directory."""

STATUS_PREFIX = b"status-"
ERRORS_NAME = b"errors.log"

REFRESH_BYTES = 1024
"""The length of what a reader of ``refresh`` gets: `stat` tells it before there is an answer."""

MOST_REFRESHES = 256

KEPT_BYTES = 32 << 20
"""Contents kept for those who have them open: the newest 256 of the usual size."""


@dataclass(frozen=True)
class ControlFile:
    """A control file at one moment.

    Attributes:
        number: its node number.
        attributes: what `stat` shows.
        lasts: whether the name stands for this content until the catalog changes; else only for this look-up.
    """

    number: int
    attributes: Attributes
    lasts: bool


class ControlFiles:
    """The control files.

    Args:
        lasting: name to what makes the content, of those that follow the catalog.
        readme: the content of ``README.txt``.
        status: gives the content of ``status.json``.
        errors: gives the content of ``errors.log``.
    """

    def __init__(
        self,
        lasting: dict[bytes, Callable[[], bytes]],
        *,
        readme: bytes,
        status: Callable[[], bytes],
        errors: Callable[[], bytes],
    ) -> None:
        self.since = int(time.time())
        self._lasting = {b"README.txt": lambda: readme, **lasting}
        self._status = status
        self._errors = errors
        self._lock = threading.Lock()
        self._lasting_files: dict[bytes, ControlFile] = {}
        self._kept: LRUCache[int, tuple[ControlFile, bytes]] = LRUCache(
            KEPT_BYTES, getsizeof=lambda kept: len(kept[1]) + 1024
        )
        self._refreshes: LRUCache[int, Attributes] = LRUCache(MOST_REFRESHES)
        self._count = 0

    @property
    def names(self) -> tuple[bytes, ...]:
        """The names that the directory lists."""
        return (*self._lasting, STATUS_NAME, ERRORS_NAME)

    def look_up(self, name: bytes) -> ControlFile | None:
        """The file of a name, as it is now; None if there is none."""
        make = self._lasting.get(name)
        if make is None:
            return self._snapshot(name)
        with self._lock:
            known = self._lasting_files.get(name)
            if known is not None and known.number in self._kept:
                return known
        content = make()
        file = ControlFile(
            named_number(name, content, is_control=True), Attributes(FILE_MODE, len(content), int(time.time())), True
        )
        with self._lock:
            # The same content once more is the same file.
            file = self._kept[file.number][0] if file.number in self._kept else file
            self._lasting_files[name] = file
            self._kept[file.number] = (file, content)
        return file

    def renew(self) -> list[bytes]:
        """Forget the files that follow the catalog, which has changed; returns the names of those that were known."""
        with self._lock:
            names, self._lasting_files = list(self._lasting_files), {}
        return [name for name in names if name != b"README.txt"]

    def attributes(self, number: int) -> Attributes | None:
        """What `stat` shows of a file; None if it is too old to be kept."""
        with self._lock:
            kept, asking = self._kept.get(number), self._refreshes.get(number)
        return asking if kept is None else kept[0].attributes

    def asks_for_refresh(self, number: int) -> bool:
        """Whether a file is ``refresh``, as somebody looked it up."""
        with self._lock:
            return number in self._refreshes

    def read(self, number: int, offset: int, size: int) -> bytes | None:
        """Up to `size` bytes of a file from `offset`; None if it is too old to be kept."""
        with self._lock:
            kept = self._kept.get(number)
        return None if kept is None else kept[1][offset : offset + size]

    def _snapshot(self, name: bytes) -> ControlFile | None:
        content = None
        if name == ERRORS_NAME:
            content = self._errors()
        elif name == STATUS_NAME or name.startswith(STATUS_PREFIX):
            content = self._status()
        elif name != REFRESH_NAME:
            return None
        size = REFRESH_BYTES if content is None else len(content)
        attributes = Attributes(FILE_MODE, size, int(time.time()))
        with self._lock:
            self._count += 1
            file = ControlFile(named_number(name, b"%d" % self._count, is_control=True), attributes, False)
            if content is None:
                self._refreshes[file.number] = attributes
            else:
                self._kept[file.number] = (file, content)
        return file


def refresh_answer(read_at: int, trouble: str) -> bytes:
    """What a reader of ``refresh`` gets: JSON, and spaces up to `REFRESH_BYTES`.

    Args:
        read_at: when the catalog was read last, Unix seconds.
        trouble: why it could not be asked now; empty if it was.
    """
    # As many letters as fit, whatever JSON makes of them.
    content = orjson.dumps({"read_at": read_at, "trouble": trouble[: REFRESH_BYTES // 8]})
    return content.ljust(REFRESH_BYTES - 1) + b"\n"
