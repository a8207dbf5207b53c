"""Count remarks about many files by their kind, with a few files named of each: memory does not grow with the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from imgsyncfs.formats.registry import Change, Loss

NAMED_FILES = 20
"""How many files are named of each kind."""


@dataclass(frozen=True)
class KindCount:
    """One kind of thing that became another, or that new files do not show.

    Attributes:
        what: the name of the things, in the plural.
        reason: what became of them, and why.
        count: their number.
        file_count: the number of files that they are in.
        files: the first few of these files, and how many of the things are in each.
    """

    what: str
    reason: str
    count: int = 0
    file_count: int = 0
    files: Mapping[str, int] = field(default_factory=dict)


class KindTally:
    """Counts remarks about files as they come."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], KindCount] = {}

    def add(self, file: str, remarks: Iterable[Loss | Change]) -> None:
        """Count what there is to say about a file; the name is fit to be printed."""
        for remark in remarks:
            key = (remark.what, remark.reason)
            before = self._counts.get(key, KindCount(*key))
            named = before.files if len(before.files) >= NAMED_FILES else {**before.files, file: remark.count}
            self._counts[key] = replace(
                before, count=before.count + remark.count, file_count=before.file_count + 1, files=named
            )

    def counts(self) -> tuple[KindCount, ...]:
        """The counts so far, in the order in which their kinds first came."""
        return tuple(self._counts.values())


def described(changes: Iterable[Change]) -> str:
    """Changes as one sentence about a file, without its name."""
    return "; ".join(f"{change.count} {change.what}: {change.reason}" for change in changes)
