"""Faults that this project once had: what puts them back, and which tests then fail. See ``tests/faults.toml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.places import TESTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        name: what goes wrong.
        file: of this project, from its root.
        was: a text that stands there once.
        put: what takes its place.
        tests: pytest's names of those that fail then, from the folder of tests.
    """

    name: str
    file: str
    was: str
    put: str
    tests: tuple[str, ...]

    def put_back(self, checkout: Path) -> None:
        """Change a checkout's file.

        Raises:
            AssertionError: the text is not there, or more than once.
        """
        path = checkout / self.file
        content = path.read_text()
        assert content.count(self.was) == 1, (
            f"{self.file} has changed; say in tests/faults.toml how to put back: {self.name}"
        )
        path.write_text(content.replace(self.was, self.put))


def faults() -> list[Fault]:
    """All of them."""
    entries: list[Mapping[str, object]] = tomllib.loads((TESTS / "faults.toml").read_text())["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]  # type: ignore[arg-type]  # a test reads them
