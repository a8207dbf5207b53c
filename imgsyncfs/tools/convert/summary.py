"""What came of a conversion, counted: its size does not depend on the number of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from imgsyncfs.formats.registry import Loss
from imgsyncfs.tools.pairing import LeftOut, printable

NAMED_FILES = 5
"""So many files are named of each kind of loss and of each note."""

NAMED_LEFT_OUT = 1000
"""So many of the files that could not be converted are named; the others are counted."""


@dataclass(frozen=True)
class LossCount:
    """One kind of thing that the new files do not show.

    Attributes:
        what: the things' name, in the plural.
        reason: why the format cannot show them.
        count: how many of them.
        file_count: in how many files.
        files: the first few of these.
    """

    what: str
    reason: str
    count: int
    file_count: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class ConvertNote:
    """Something that people should know about some files.

    Attributes:
        reason: what it is.
        file_count: how many files it is about.
        files: the first few of these.
    """

    reason: str
    file_count: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class ConvertSummary:
    """What came of a conversion.

    Attributes:
        to: the format: imagesynchronizer, labelme or rolabelimg.
        converted: how many images' annotations were converted.
        already: how many were in that format already.
        losses: what the new files do not show.
        notes: what else there is to know.
        left_out: files that could not be converted, the first thousand of them.
        left_out_count: how many there are.
    """

    to: str
    converted: int
    already: int
    losses: tuple[LossCount, ...]
    notes: tuple[ConvertNote, ...]
    left_out: tuple[LeftOut, ...]
    left_out_count: int


@dataclass
class _Mentions:
    """Files that have something in common: a count of things in them, of them, and the first few names."""

    count: int = 0
    file_count: int = 0
    files: list[str] = field(default_factory=list)

    def add(self, file: str, count: int = 1) -> None:
        self.count += count
        self.file_count += 1
        if len(self.files) < NAMED_FILES:
            self.files.append(file)


@dataclass
class ConvertTally:
    """Counts what comes of a conversion; its size does not depend on the number of files."""

    to: str
    converted: int = 0
    already: int = 0
    losses: dict[tuple[str, str], _Mentions] = field(default_factory=dict)
    notes: dict[str, _Mentions] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def done(self, path: Path, losses: Iterable[Loss] | None) -> None:
        """Count an annotation: what its new file does not show, or None if there was nothing to do."""
        if losses is None:
            self.already += 1
            return
        self.converted += 1
        for loss in losses:
            self.losses.setdefault((loss.what, loss.reason), _Mentions()).add(printable(path.name), loss.count)

    def note(self, path: Path, reason: str) -> None:
        """Count a file that there is something to say about."""
        self.notes.setdefault(reason, _Mentions()).add(printable(path.name))

    def leave_out(self, path: Path, reason: str) -> None:
        """Count a file that could not be converted, and why."""
        self.left_out_count += 1
        if len(self.left_out) < NAMED_LEFT_OUT:
            self.left_out.append(LeftOut(printable(str(path)), reason))

    def summary(self) -> ConvertSummary:
        """Give the counts so far."""
        return ConvertSummary(
            to=self.to,
            converted=self.converted,
            already=self.already,
            losses=tuple(
                LossCount(what, reason, kind.count, kind.file_count, tuple(kind.files))
                for (what, reason), kind in self.losses.items()
            ),
            notes=tuple(ConvertNote(reason, kind.file_count, tuple(kind.files)) for reason, kind in self.notes.items()),
            left_out=tuple(self.left_out),
            left_out_count=self.left_out_count,
        )
