"""What is in the directories above the datasets' files, made from the table of datasets; see `imgsyncfs.library.tree`.

The branches, each of which is made when somebody first looks into it: ``.views``, with the names of the views, and
each view; ``.selections``; ``.by``, with the names of the columns, and each column; ``.subscriptions``, with their
names, and each subscription.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from imgsyncfs.catalog.dataset_table import column_values
from imgsyncfs.catalog.mirror import DatasetTable
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.selections import MARK, is_selection
from imgsyncfs.catalog.subscriptions import members, subscription_fault
from imgsyncfs.library.dataset_numbers import Place
from imgsyncfs.library.numbers import ROOT, named_number
from imgsyncfs.library.tree import TreeNode
from imgsyncfs.library.views.registry import find_view, offered_views

VIEWS_NAME = b".views"
SELECTIONS_NAME = b".selections"
BY_NAME = b".by"
SUBSCRIPTIONS_NAME = b".subscriptions"

BY_COLUMNS = ("source", "image_type", "label_type", "class", "project", "label_version")

Nodes: TypeAlias = Iterator[tuple[int, TreeNode]]

Path: TypeAlias = tuple[bytes, ...]
"""The names that lead from the root to a directory."""


def place_in(path: Path, name: bytes, view: str) -> Place:
    """What a directory of a dataset shows.

    Args:
        path: of the directory that it is in.
        name: its own.
        view: name of the view that the root shows.
    """
    if not path:
        return Place(name.decode(), view)
    return Place(MARK + name.decode()) if path == (SELECTIONS_NAME,) else Place(name.decode(), path[-1].decode())


def branches_above(place: Place) -> list[int]:
    """The numbers of the branches that lead to what shows a dataset, if the root does not; the upper one first."""
    if place.view:
        return [directory_number((VIEWS_NAME,)), directory_number((VIEWS_NAME, place.view.encode()))]
    return [directory_number((SELECTIONS_NAME,))] if is_selection(place.dataset_id) else []


def directory_number(path: Path) -> int:
    """The node number of a directory that is no dataset's."""
    return named_number(_joined(path), b"")


@dataclass(frozen=True)
class Branches:
    """What is in the directories of a mount.

    Attributes:
        table: the catalog's.
        datasets: name to row of each dataset that has a directory.
        selections: name, with its mark, to row of each selection as a dataset.
        view: name of the view that the root shows; empty for the datasets' own directories.
        control: name and number of the directory of control files, which is not in the tree.
        since: the Unix time that directories show if there is no dataset.
        numbers: gives the node numbers of directories that show datasets in a view, the datasets' own with an empty
            one, by the datasets' ids and in their order.
    """

    table: DatasetTable
    datasets: Mapping[bytes, DatasetRow]
    selections: Mapping[bytes, DatasetRow]
    view: str
    control: tuple[bytes, int]
    since: int
    numbers: Callable[[str, Iterable[str]], list[int]]

    def all(self, is_open: Callable[[int], bool]) -> Nodes:
        """All nodes, with those in open branches; parents first.

        Args:
            is_open: says by its number whether a branch is open.
        """
        pending: list[Path] = [()]
        while pending:
            path = pending.pop()
            for number, node in self.inside(path):
                yield number, node
                if node.is_branch and is_open(number):
                    pending.append((*path, node.name))

    def inside(self, path: Path) -> Nodes:
        """What is in a branch, at all depths that are made along with it; nothing if there is no such branch."""
        match path:
            case ():
                return self._root()
            case (top,) if top == VIEWS_NAME:
                return self._views()
            case (top, view) if top == VIEWS_NAME:
                return self._datasets_in(path, view.decode())
            case (top,) if top == SELECTIONS_NAME:
                return self._directories(path, self.selections, "")
            case (top,) if top == BY_NAME:
                return self._branches(path, (column.encode() for column in BY_COLUMNS))
            case (top, column) if top == BY_NAME:
                return self._column(path, column.decode())
            case (top,) if top == SUBSCRIPTIONS_NAME:
                return self._branches(path, self._subscriptions())
            case (top, name) if top == SUBSCRIPTIONS_NAME:
                return self._links(path, self._members(name.decode()))
        return iter(())

    @property
    def _newest(self) -> int:
        return self.table.updated_at or self.since

    def _root(self) -> Nodes:
        yield ROOT, TreeNode(ROOT, b"", self._newest)
        name, number = self.control
        yield number, TreeNode(ROOT, name, self.since)
        yield from self._branches((), (BY_NAME, SELECTIONS_NAME, SUBSCRIPTIONS_NAME, VIEWS_NAME))
        yield from self._directories((), self._shown(self.datasets, self.view), self.view)

    def _branches(self, path: Path, names: Iterable[bytes]) -> Nodes:
        parent = _number(path)
        for name in names:
            yield directory_number((*path, name)), TreeNode(parent, name, self._newest, is_branch=True)

    def _views(self) -> Nodes:
        labels = self.table.labels
        offered = offered_views(each for dataset_id, each in labels.items() if dataset_id in self.table.shown)
        path = (VIEWS_NAME,)
        yield from self._branches(path, (view.encode() for view in offered if view != self.view))
        if self.view in offered:
            # A directory has one name alone.
            name = self.view.encode()
            yield named_number(_joined((*path, name)), b".."), TreeNode(_number(path), name, self._newest, b"..")

    def _datasets_in(self, path: Path, view: str) -> Nodes:
        shown = {**self._shown(self.datasets, view), **self._shown(self.selections, view)}
        return self._directories(path, shown, view)

    def _shown(self, rows: Mapping[bytes, DatasetRow], view: str) -> Mapping[bytes, DatasetRow]:
        """Those of datasets or selections that a view shows, by their names."""
        if not view:
            return rows
        shows, labels = find_view(view).shows, self.table.labels
        return {name: row for name, row in rows.items() if shows(labels.get(row.dataset_id))}

    def _directories(self, path: Path, rows: Mapping[bytes, DatasetRow], view: str) -> Nodes:
        """The directories that show datasets; beside ordinary ones a selection keeps its mark."""
        parent = _number(path)
        numbers = self.numbers(view, [row.dataset_id for row in rows.values()])
        mark = MARK.encode() if path == (SELECTIONS_NAME,) else b""
        for number, (name, row) in zip(numbers, rows.items(), strict=True):
            yield number, TreeNode(parent, name.removeprefix(mark), row.updated_at)

    def _column(self, path: Path, column: str) -> Nodes:
        """``<value>/<dataset>``; values that cannot be a name are left out."""
        values: dict[str, list[DatasetRow]] = {}
        for row in self._shown(self.datasets, self.view).values():
            for value in column_values(row, column):
                values.setdefault(value, []).append(row)
        parent = _number(path)
        for value, rows in values.items():
            if file_name_fault(value) is None:
                name = value.encode()
                yield directory_number((*path, name)), TreeNode(parent, name, self._newest)
                yield from self._links((*path, name), rows)

    def _subscriptions(self) -> Iterator[bytes]:
        """The names of subscriptions that can be used."""
        for name, subscription in self.table.subscriptions.items():
            if file_name_fault(name) is None and not subscription_fault(subscription):
                yield name.encode()

    def _members(self, name: str) -> list[DatasetRow]:
        """The datasets of a subscription; only those that the root shows."""
        subscription = self.table.subscriptions.get(name)
        return members(subscription, self._shown(self.datasets, self.view).values()) if subscription else []

    def _links(self, path: Path, rows: Iterable[DatasetRow]) -> Nodes:
        parent, above = _number(path), b"../" * len(path)
        for row in rows:
            name = row.dataset_id.encode()
            target = above + name
            yield named_number(_joined((*path, name)), target), TreeNode(parent, name, row.updated_at, target)


def _joined(path: Path) -> bytes:
    return b"/" + b"/".join(path)


def _number(path: Path) -> int:
    return directory_number(path) if path else ROOT
