"""Pins: what is never evicted, by the keys of its extents.

A pin keeps room for extents: those that are not in the cache, or were found damaged, are pinned when they come. Several
pins may have a key; its extent is pinned as long as one of them is there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import orjson

from imgsyncfs.cache.table import PINNED_TIME, USE, ExtentTable, number_of_bytes
from imgsyncfs.cache.upkeep import table_faults
from imgsyncfs.settings.private_folders import check_own_folder

_RELEASE = (
    "UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1 AND NOT EXISTS (SELECT 1 FROM Pinned WHERE key = ?)"
)
_PINNED_CONTENT = (
    "SELECT Cache.size, length(Cache.value) FROM Pinned JOIN Cache ON Cache.key = Pinned.key AND Cache.raw = 1"
    " WHERE Pinned.pin = ?"
)

PINNED_AT_ONCE = 2048
"""Keys pinned in one transaction: others wait for it some milliseconds."""


@dataclass(frozen=True)
class Pin:
    """Something that is pinned.

    Attributes:
        name: unlike those of all other pins of the cache.
        dataset_id: the dataset.
        catalog: which catalog it is of; see `imgsyncfs.catalog.catalog_identity`.
        revision: of the dataset.
        extents: how many it has.
        bytes: of their content.
    """

    name: str
    dataset_id: str
    catalog: str
    revision: int
    extents: int
    bytes: int


class _PinnedTable(ExtentTable):
    """The cache's table with what is pinned. All that writes runs within a transaction."""

    def put_pin(self, name: str, record: str) -> None:
        """Keep what a pin is of."""
        self._sql(
            "INSERT INTO Pins(pin, record) VALUES (?, ?) ON CONFLICT(pin) DO UPDATE SET record = excluded.record",
            (name, record),
        )

    def pins(self) -> list[tuple[str, str]]:
        """(name, record) of each pin, by name."""
        rows: list[tuple[str, str]] = self._sql("SELECT pin, record FROM Pins ORDER BY pin").fetchall()
        return rows

    def remove_pin(self, name: str) -> bool:
        """Forget a pin whose keys are released; says whether there was one."""
        return bool(self._sql("DELETE FROM Pins WHERE pin = ?", (name,)).rowcount)

    def pin_keys(self, name: str, keys: Sequence[str]) -> None:
        """Have entries stay, those that are there and those that come.

        Args:
            name: the pin's.
            keys: of the entries.
        """
        connection = self._con
        connection.executemany("INSERT OR IGNORE INTO Pinned(key, pin) VALUES (?, ?)", ((key, name) for key in keys))
        connection.executemany(USE, ((PINNED_TIME, key) for key in keys))

    def release_keys(self, name: str, most: int, now: float) -> int:
        """Let go of some keys of a pin; returns how many.

        Args:
            name: the pin's.
            most: how many.
            now: when the entries were used last, from now on.
        """
        keys = [key for (key,) in self._sql("SELECT key FROM Pinned WHERE pin = ? LIMIT ?", (name, most)).fetchall()]
        connection = self._con
        connection.executemany("DELETE FROM Pinned WHERE key = ? AND pin = ?", ((key, name) for key in keys))
        connection.executemany(_RELEASE, ((now, key, key) for key in keys))
        return len(keys)

    def pinned_content(self, name: str) -> tuple[int, int]:
        """(entries, bytes of the disk) of a pin's keys that are there."""
        rows = self._sql(_PINNED_CONTENT, (name,)).fetchall()
        return len(rows), sum(number_of_bytes(size) + number_of_bytes(inline) for size, inline in rows)


def keep_pin(folder: Path, pin: Pin, keys: Iterable[str]) -> None:
    """Pin extents; a pin of the same name is replaced.

    Args:
        folder: the cache's.
        pin: what they are of.
        keys: of its extents, in the cache or not.

    Raises:
        CacheError: the cache cannot be written.
    """
    with _opened(folder) as table:
        _release(table, pin.name)
        with table.writing():
            table.put_pin(pin.name, orjson.dumps(asdict(pin)).decode())
        left = iter(keys)
        while portion := list(islice(left, PINNED_AT_ONCE)):
            with table.writing():
                table.pin_keys(pin.name, portion)


def remove_pin(folder: Path, name: str) -> bool:
    """Let go of a pin: its extents stay until others need the room. Says whether there was one.

    Args:
        folder: the cache's.
        name: the pin's.

    Raises:
        CacheError: the cache cannot be written.
    """
    with _opened(folder) as table:
        _release(table, name)
        with table.writing():
            return table.remove_pin(name)


def pins(folder: Path) -> list[tuple[Pin, int, int]]:
    """The pins of a cache, by their names.

    Args:
        folder: the cache's; it need not be there.

    Returns:
        Each with the number of its extents that are in the cache, and the bytes of the disk that they take up.

    Raises:
        CacheError: the cache cannot be read.
    """
    if not folder.is_dir():
        return []
    with _opened(folder) as table:
        found = []
        for name, record in table.pins():
            with contextlib.suppress(orjson.JSONDecodeError, TypeError):
                # A record that somebody changed is none: `keep_pin` writes it again.
                found.append((Pin(**{**orjson.loads(record), "name": name}), *table.pinned_content(name)))
        return found


def _release(table: _PinnedTable, name: str) -> None:
    """Have the extents of a pin evicted as if they were used just now, but for those that another pin has."""
    while True:
        with table.writing():
            if not table.release_keys(name, PINNED_AT_ONCE, time.time()):
                return


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[_PinnedTable]:
    check_own_folder(folder)
    with table_faults(folder), contextlib.closing(_PinnedTable(folder)) as table:
        yield table
