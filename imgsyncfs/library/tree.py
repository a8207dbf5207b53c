"""The directories above the datasets' files: the root; ``.views``, ``.selections``, ``.by``, ``.subscriptions`` below.

Each node has its number (`imgsyncfs.library.numbers`), so that two states of a tree can be compared, and what differs
goes to other processes as JSON. A catalog of many datasets has some forty times as many nodes below the hidden
directories, and most mounts need few of them: a branch is a directory whose entries are made when somebody first looks
into it (`imgsyncfs.library.branches`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import orjson

from imgsyncfs.library.nodes import DIRECTORY_MODE, LINK_MODE, Attributes
from imgsyncfs.library.numbers import NAMED, ROOT


class TreeNode(NamedTuple):
    """A directory or a symlink. A tuple, since a catalog of many datasets has ten times as many symlinks.

    Attributes:
        parent: the number of the directory that it is in.
        name: its own name; empty for the root.
        modified_at: Unix seconds.
        target: of a symlink, relative to its directory; empty for a directory.
        is_branch: whether its entries are made when somebody first looks into it.
    """

    parent: int
    name: bytes
    modified_at: int
    target: bytes = b""
    is_branch: bool = False

    @property
    def attributes(self) -> Attributes:
        """What `lstat` shows."""
        return Attributes(LINK_MODE if self.target else DIRECTORY_MODE, len(self.target), self.modified_at)


@dataclass(frozen=True)
class TreeChange:
    """What makes one state of a tree another.

    Attributes:
        nodes: those that came or have become others, by number; parents first.
        gone: numbers of those that are there no more.
        opened: numbers of branches whose entries have been made.
    """

    nodes: Mapping[int, TreeNode] = field(default_factory=dict)
    gone: tuple[int, ...] = ()
    opened: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """As JSON; see `from_bytes`."""
        nodes = [
            (number, node.parent, node.name.decode(), node.modified_at, node.target.decode(), node.is_branch)
            for number, node in self.nodes.items()
        ]
        return orjson.dumps((nodes, self.gone, self.opened))

    @classmethod
    def from_bytes(cls, content: bytes | memoryview) -> TreeChange:
        """Back from `to_bytes`."""
        nodes, gone, opened = orjson.loads(content)
        made = {
            number: TreeNode(parent, name.encode(), modified_at, target.encode(), is_branch)
            for number, parent, name, modified_at, target, is_branch in nodes
        }
        return cls(made, tuple(gone), tuple(opened))


@dataclass(frozen=True)
class Told:
    """What the kernel must be told of a change.

    Attributes:
        entries: (number of the directory, name) of what came, went or became another node.
        nodes: numbers of nodes whose attributes, or whose entries, are others.
    """

    entries: tuple[tuple[int, bytes], ...]
    nodes: tuple[int, ...]


_NO_CHILDREN: Mapping[bytes, int] = MappingProxyType({})


class Tree:
    """All nodes by number; at first there are none."""

    def __init__(self) -> None:
        self._nodes: dict[int, TreeNode] = {}
        self._children: dict[int, dict[bytes, int]] = {}
        self._opened: set[int] = set()
        self._unopened: set[int] = set()

    @property
    def nodes(self) -> Mapping[int, TreeNode]:
        """Number to node."""
        return self._nodes

    @property
    def unopened(self) -> frozenset[int]:
        """Numbers of the branches that nobody has looked into."""
        return frozenset(self._unopened)

    @property
    def opened(self) -> tuple[int, ...]:
        """Numbers of the branches that somebody has looked into."""
        return tuple(self._opened)

    def is_open(self, number: int) -> bool:
        """Whether a node is there, and what is in it is known."""
        return number in self._nodes and number not in self._unopened

    def children(self, number: int) -> Mapping[bytes, int]:
        """Name to number of what is in a directory, sorted by name.

        Empty for a symlink, for a branch that is not open, and for a dataset, whose files are not in the tree.
        """
        return self._children.get(number, _NO_CHILDREN)

    def path(self, number: int) -> tuple[bytes, ...]:
        """The names that lead from the root to a node."""
        names: list[bytes] = []
        while number != ROOT:
            node = self._nodes[number]
            names.append(node.name)
            number = node.parent
        return tuple(reversed(names))

    def opening(self, number: int, nodes: Iterable[tuple[int, TreeNode]]) -> TreeChange:
        """The change by which a branch gets its entries.

        Args:
            number: of the branch.
            nodes: what is in it, at all depths; parents first.
        """
        return TreeChange(dict(nodes), opened=(number,))

    def change_to(self, nodes: Iterable[tuple[int, TreeNode]]) -> TreeChange:
        """The change by which the tree has other nodes. The branches that are open stay open.

        Links, and directories of links, keep their times: a publish renews a dataset's time, and some twenty links lead
        to a dataset; they are what they were, and the kernel need not be told of them. A directory shows another time
        when other names are in it.

        Args:
            nodes: all of them, with those in open branches; parents first.
        """
        known, others = self._nodes, {}
        seen = set()
        for number, node in nodes:
            seen.add(number)
            if known.get(number) != node:
                others[number] = node
        gone = tuple([number for number in known if number not in seen])
        came = {(node.parent, node.name) for number, node in others.items() if number not in known}
        went = {(known[number].parent, known[number].name) for number in gone}
        grown = {parent for parent, _ in came ^ went}
        kept = [number for number in others if number & NAMED and number in known and number not in grown]
        for number in kept:
            del others[number]
        return TreeChange(others, gone)

    def told(self, change: TreeChange) -> Told:
        """What the kernel must be told of a change that has not been made yet. What it cannot know is not in it."""
        moved = [
            *(node for number, node in change.nodes.items() if number not in self._nodes),
            *(self._nodes[number] for number in change.gone),
        ]
        entries = [(node.parent, node.name) for node in moved if node.parent in self._nodes]
        known = [number for number in change.nodes if number in self._nodes]
        return Told(tuple(dict.fromkeys(entries)), tuple(dict.fromkeys([*(parent for parent, _ in entries), *known])))

    def take(self, change: TreeChange) -> None:
        """Make a change."""
        for number in change.gone:
            node = self._nodes.pop(number)
            self._unopened.discard(number)
            self._opened.discard(number)
            self._children.pop(number, None)
            siblings = self._children.get(node.parent)
            if siblings is not None:
                siblings.pop(node.name, None)
        grown = set()
        for number, node in change.nodes.items():
            if number not in self._nodes and number != ROOT:
                self._children.setdefault(node.parent, {})[node.name] = number
                grown.add(node.parent)
                if node.is_branch:
                    self._unopened.add(number)
            self._nodes[number] = node
        self._unopened.difference_update(change.opened)
        self._opened.update(change.opened)
        for number in grown:
            # One order in all processes, whichever way each came to it: a reader of a long directory asks several.
            self._children[number] = dict(sorted(self._children[number].items()))

    def whole(self) -> TreeChange:
        """The change that makes an empty tree this one."""
        return TreeChange(self._nodes, opened=self.opened)
