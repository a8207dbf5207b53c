"""The directories above the datasets' files: the root; ``.views``, ``.selections``, ``.by``, ``.subscriptions`` below.

They are made from the table of datasets, and again when it has changed. Each node has its number
(`imgsyncfs.library.numbers`), so that two trees can be compared, and the tree goes to other processes as JSON. Most
mounts do without what is below the hidden directories, a dozen nodes for each dataset: a tree may end there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import orjson

from imgsyncfs.catalog.dataset_table import column_values
from imgsyncfs.catalog.mirror import DatasetTable
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.selections import MARK
from imgsyncfs.catalog.subscriptions import members, subscription_fault
from imgsyncfs.library.nodes import DIRECTORY_MODE, LINK_MODE, Attributes
from imgsyncfs.library.numbers import NAMED, ROOT, named_number

VIEWS_NAME = b".views"
SELECTIONS_NAME = b".selections"

BY_COLUMNS = ("source", "image_type", "label_type", "class", "project", "label_version")


class TreeNode(NamedTuple):
    """A directory or a symlink. A tuple, since a catalog of many datasets has ten times as many symlinks.

    Attributes:
        parent: the number of the directory that it is in.
        name: its own name; empty for the root.
        modified_at: Unix seconds.
        target: of a symlink, relative to its directory; empty for a directory.
        children: name to number; empty for a symlink, and for a dataset, whose files are not in the tree.
    """

    parent: int
    name: bytes
    modified_at: int
    target: bytes
    children: Mapping[bytes, int]

    @property
    def attributes(self) -> Attributes:
        """What `lstat` shows."""
        return Attributes(LINK_MODE if self.target else DIRECTORY_MODE, len(self.target), self.modified_at)


_NO_CHILDREN: Mapping[bytes, int] = MappingProxyType({})


class Tree:
    """All nodes by number.

    Args:
        nodes: number to node.
        is_complete: whether what is below the hidden directories is there.
    """

    def __init__(self, nodes: Mapping[int, TreeNode], *, is_complete: bool = True) -> None:
        self.nodes = nodes
        self.is_complete = is_complete

    def to_bytes(self) -> bytes:
        """As JSON; see `from_bytes`."""
        return orjson.dumps(
            [
                self.is_complete,
                [
                    [number, node.parent, node.name.decode(), node.modified_at, node.target.decode()]
                    for number, node in self.nodes.items()
                ],
            ]
        )

    @classmethod
    def from_bytes(cls, content: bytes | memoryview) -> Tree:
        """Back from `to_bytes`."""
        is_complete, nodes = orjson.loads(content)
        return cls.of(
            (
                (number, parent, name.encode(), modified_at, target.encode())
                for number, parent, name, modified_at, target in nodes
            ),
            is_complete=is_complete,
        )

    @classmethod
    def of(cls, nodes: Iterable[tuple[int, int, bytes, int, bytes]], *, is_complete: bool = True) -> Tree:
        """Make a tree of (number, parent, name, modified_at, target) of each node, parents first."""
        children: dict[int, dict[bytes, int]] = {}
        made: dict[int, TreeNode] = {}
        for number, parent, name, modified_at, target in nodes:
            own = _NO_CHILDREN if target else children.setdefault(number, {})
            made[number] = TreeNode(parent, name, modified_at, target, own)
            if number != ROOT:
                children[parent][name] = number
        return cls(made, is_complete=is_complete)

    def settled(self, before: Tree) -> Tree:
        """The same tree, in which links, and directories of links, show the times that they have in another tree.

        A publish renews a dataset's time, and some twenty links lead to a dataset: they are what they were, and the
        kernel need not be told of them. A directory shows another time when other names are in it.
        """
        nodes = dict(self.nodes)
        for number, node in self.nodes.items():
            earlier = before.nodes.get(number) if number & NAMED else None
            # A directory that nobody has looked into yet is empty there.
            if earlier is not None and (not before.is_complete or earlier.children.keys() == node.children.keys()):
                nodes[number] = node._replace(modified_at=earlier.modified_at)
        return Tree(nodes, is_complete=self.is_complete)

    def changes_from(self, before: Tree) -> TreeChanges:
        """What is no longer as it was in another tree."""
        entries = [
            (node.parent, node.name)
            for tree, other in ((before, self), (self, before))
            for number, node in tree.nodes.items()
            if number != ROOT and node.parent in before.nodes and number not in other.nodes
        ]
        stale = {parent for parent, _ in entries} | {
            number
            for number, node in self.nodes.items()
            if number in before.nodes and before.nodes[number].modified_at != node.modified_at
        }
        return TreeChanges(tuple(dict.fromkeys(entries)), tuple(stale))


@dataclass(frozen=True)
class TreeChanges:
    """What the kernel must be told after a change of the tree.

    Attributes:
        entries: (number of the directory, name) of what came, went or became another node.
        nodes: numbers of nodes whose attributes, or whose entries, are others.
    """

    entries: tuple[tuple[int, bytes], ...]
    nodes: tuple[int, ...]


def build_tree(
    table: DatasetTable,
    datasets: Mapping[bytes, tuple[int, DatasetRow]],
    *,
    views: Mapping[bytes, Mapping[bytes, int] | None],
    control: tuple[bytes, int],
    since: int,
    selections: Mapping[bytes, int] | None = None,
    is_complete: bool = True,
) -> Tree:
    """Make the tree of a catalog.

    Args:
        table: the catalog's.
        datasets: name of each dataset that is shown to (node number of its directory, its row).
        views: name of each view to the node numbers of the datasets in it, by their names; None for one that the
            root itself shows.
        control: name and number of the directory of control files, which is not in the tree.
        since: the Unix time that directories show if there is no dataset.
        selections: name of each selection, with its mark, to the node number of its directory.
        is_complete: whether to make what is below the hidden directories as well.
    """
    newest = table.updated_at or since
    nodes = _nodes(table, datasets, views, selections or {}, control, newest, since, is_complete=is_complete)
    return Tree.of(nodes, is_complete=is_complete)


def _nodes(
    table: DatasetTable,
    datasets: Mapping[bytes, tuple[int, DatasetRow]],
    views: Mapping[bytes, Mapping[bytes, int] | None],
    selections: Mapping[bytes, int],
    control: tuple[bytes, int],
    newest: int,
    since: int,
    *,
    is_complete: bool,
) -> Iterator[tuple[int, int, bytes, int, bytes]]:
    yield ROOT, ROOT, b"", newest, b""
    yield control[1], ROOT, control[0], since, b""
    shown = [row for _, row in datasets.values()]
    by, subscriptions = (by_columns(shown), by_subscriptions(table, shown)) if is_complete else ({}, {})
    yield from _directory(ROOT, b"", b".by", by, newest)
    yield from _directory(ROOT, b"", b".subscriptions", subscriptions, newest)
    yield from _views(table, views if is_complete else {}, newest)
    yield from _selections(table, selections if is_complete else {}, newest)
    for name, (number, row) in datasets.items():
        yield number, ROOT, name, row.updated_at, b""


def _views(
    table: DatasetTable, views: Mapping[bytes, Mapping[bytes, int] | None], newest: int
) -> Iterator[tuple[int, int, bytes, int, bytes]]:
    top = named_number(b"/" + VIEWS_NAME, b"")
    yield top, ROOT, VIEWS_NAME, newest, b""
    for view, numbers in views.items():
        path = b"/%b/%b" % (VIEWS_NAME, view)
        if numbers is None:
            # A directory has one name alone.
            yield named_number(path, b".."), top, view, newest, b".."
            continue
        directory = named_number(path, b"")
        yield directory, top, view, newest, b""
        for name, number in numbers.items():
            row = table.row(name.decode())
            if row is not None:
                yield number, directory, name, row.updated_at, b""


def _selections(
    table: DatasetTable, numbers: Mapping[bytes, int], newest: int
) -> Iterator[tuple[int, int, bytes, int, bytes]]:
    top = named_number(b"/" + SELECTIONS_NAME, b"")
    yield top, ROOT, SELECTIONS_NAME, newest, b""
    for marked, number in numbers.items():
        row = table.row(marked.decode())
        if row is not None:
            yield number, top, marked.removeprefix(MARK.encode()), row.updated_at, b""


Links: TypeAlias = "Mapping[bytes, Links | int]"
"""Name of a directory to what is in it; name of a dataset to the Unix time of its symlink."""


def _directory(
    parent: int, above: bytes, name: bytes, links: Links, newest: int
) -> Iterator[tuple[int, int, bytes, int, bytes]]:
    path = above + b"/" + name
    number = named_number(path, b"")
    yield number, parent, name, newest, b""
    for inner_name, inner in links.items():
        if isinstance(inner, int):
            target = b"../" * path.count(b"/") + inner_name
            link = named_number(path + b"/" + inner_name, target)
            yield link, number, inner_name, inner, target
        else:
            yield from _directory(number, path, inner_name, inner, newest)


def by_columns(rows: Iterable[DatasetRow]) -> Links:
    """``<column>/<value>/<dataset>`` for each of `BY_COLUMNS`; values that cannot be a name are left out."""
    columns: dict[bytes, dict[bytes, dict[bytes, int]]] = {column.encode(): {} for column in BY_COLUMNS}
    for row in rows:
        for column in BY_COLUMNS:
            for value in column_values(row, column):
                if file_name_fault(value) is None:
                    links = columns[column.encode()].setdefault(value.encode(), {})
                    links[row.dataset_id.encode()] = row.updated_at
    return columns


def by_subscriptions(table: DatasetTable, shown: Iterable[DatasetRow]) -> Links:
    """``<name>/<dataset>`` for each subscription that can be used; only datasets that the root shows."""
    rows = list(shown)
    return {
        name.encode(): {row.dataset_id.encode(): row.updated_at for row in members(subscription, rows)}
        for name, subscription in table.subscriptions.items()
        if file_name_fault(name) is None and not subscription_fault(subscription)
    }
