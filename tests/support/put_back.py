"""Faults that this project once had: what puts them back, and which tests then fail. See ``tests/faults.toml``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from support.places import TESTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Change:
    """A part of one.

    Attributes:
        file: of this project, from its root.
        was: a text that stands there once.
        put: what takes its place.
    """

    file: str
    was: str
    put: str


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        name: what goes wrong.
        changes: what puts it back; several, where more than one thing kept it away.
        tests: pytest's names of those that fail then, from the folder of tests.
    """

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]

    def put_back(self, checkout: Path) -> None:
        """Change a checkout's files.

        Raises:
            AssertionError: a text is not there, or more than once.
        """
        for change in self.changes:
            path = checkout / change.file
            content = path.read_text()
            assert content.count(change.was) == 1, (
                f"{change.file} has changed; say in tests/faults.toml how to put back: {self.name}"
            )
            path.write_text(content.replace(change.was, change.put))


def faults() -> list[Fault]:
    """All of them."""
    entries = tomllib.loads((TESTS / "faults.toml").read_text())["fault"]
    return [
        Fault(entry["name"], tuple(Change(**change) for change in entry["changes"]), tuple(entry["tests"]))
        for entry in entries
    ]
