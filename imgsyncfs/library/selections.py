"""Other ways to the datasets: ``.by/<column>/<value>`` and ``.subscriptions/<name>``, directories of symlinks.

They are made from the table of datasets at the first look, and again when the table has changed.

Threads: the result is kept in one attribute that is replaced whole; two threads may make it at once, without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from imgsyncfs.catalog.dataset_table import column_values
from imgsyncfs.catalog.mirror import DatasetTable
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.subscriptions import members, subscription_fault
from imgsyncfs.library.nodes import DIRECTORY_MODE, LINK_MODE, Attributes, Directory, Link, Node

BY_COLUMNS = ("source", "image_type", "label_type", "class", "project", "label_version")

Choice: TypeAlias = "Mapping[bytes, Choice | Link]"


@dataclass(frozen=True)
class ChoiceDirectory(Directory):
    """A directory of symlinks, or of directories of them.

    Attributes:
        choice: gives the children; must be cheap.
        modified_at: gives the Unix time that `stat` shows.
    """

    choice: Callable[[], Choice]
    modified_at: Callable[[], int]

    def attributes(self) -> Attributes:
        """What `stat` shows."""
        return Attributes(DIRECTORY_MODE, 0, self.modified_at())

    def child(self, name: bytes) -> Node | None:
        """The child of that name, or None."""
        found = self.choice().get(name)
        if found is None or isinstance(found, Link):
            return found
        return ChoiceDirectory(lambda: found, self.modified_at)

    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of the children."""
        for name, entry in self.choice().items():
            yield name, LINK_MODE if isinstance(entry, Link) else DIRECTORY_MODE


class Kept:
    """A choice made from the table of datasets, and kept until the table changes.

    Args:
        make: makes it.
        table: gives the table.
    """

    def __init__(self, make: Callable[[DatasetTable], Choice], table: Callable[[], DatasetTable]) -> None:
        self._make = make
        self._table = table
        self._made: tuple[str, Choice] | None = None

    def __call__(self) -> Choice:
        """The choice, as the table is now."""
        table, made = self._table(), self._made
        if made is None or made[0] != table.digest:
            made = self._made = (table.digest, self._make(table))
        return made[1]


def by_columns(table: DatasetTable) -> Choice:
    """``<column>/<value>/<dataset>`` for each of `BY_COLUMNS`; values that cannot be a name are left out."""
    columns: dict[bytes, dict[bytes, dict[bytes, Link]]] = {column.encode(): {} for column in BY_COLUMNS}
    for row in table.shown.values():
        link = Link(b"../../../" + row.dataset_id.encode(), row.updated_at)
        for column in BY_COLUMNS:
            for value in column_values(row, column):
                if file_name_fault(value) is None:
                    columns[column.encode()].setdefault(value.encode(), {})[row.dataset_id.encode()] = link
    return columns


def by_subscriptions(table: DatasetTable) -> Choice:
    """``<name>/<dataset>`` for each subscription that can be used; only datasets that the mount shows."""
    return {
        name.encode(): {
            row.dataset_id.encode(): Link(b"../../" + row.dataset_id.encode(), row.updated_at)
            for row in members(subscription, table.shown.values())
        }
        for name, subscription in table.subscriptions.items()
        if file_name_fault(name) is None and not subscription_fault(subscription)
    }
