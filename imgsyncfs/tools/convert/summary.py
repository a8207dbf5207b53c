"""The result of a conversion in counts: its size does not depend on the number of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from imgsyncfs.formats.registry import Loss
from imgsyncfs.tools.pairing import LeftOut, printable

NAMED_FILES = 5
"""How many files are named of each kind of loss and of each note."""

NAMED_LEFT_OUT = 1000
"""How many of the files that could not be converted are named; the others are counted."""


@dataclass(frozen=True)
class LossCount:
    """One kind of thing that the new files do not show.

    Attributes:
        what: the name of the things, in the plural.
        reason: why the format cannot show them.
        count: their number.
        file_count: the number of files that they are in.
        files: the first few of these files.
    """

    what: str
    reason: str
    count: int = 0
    file_count: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConvertNote:
    """A remark about some files.

    Attributes:
        reason: the remark.
        file_count: the number of files that it applies to.
        files: the first few of these files.
    """

    reason: str
    file_count: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConvertSummary:
    """The result of a conversion.

    Attributes:
        to: the name of the format.
        converted: the number of images whose annotations were converted.
        already: the number of images whose annotations were in that format already.
        losses: what the new files do not show.
        notes: remarks about files.
        left_out: files that could not be converted, at most `NAMED_LEFT_OUT`.
        left_out_count: the number of all files that could not be converted.
    """

    to: str
    converted: int
    already: int
    losses: tuple[LossCount, ...]
    notes: tuple[ConvertNote, ...]
    left_out: tuple[LeftOut, ...]
    left_out_count: int


@dataclass
class ConvertTally:
    """Counts results while a conversion runs."""

    to: str
    converted: int = 0
    already: int = 0
    losses: dict[tuple[str, str], LossCount] = field(default_factory=dict)
    notes: dict[str, ConvertNote] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def done(self, path: Path, losses: Iterable[Loss] | None) -> None:
        """Count an annotation by what its new file does not show; None if there was nothing to do."""
        if losses is None:
            self.already += 1
            return
        self.converted += 1
        for loss in losses:
            before = self.losses.get((loss.what, loss.reason), LossCount(loss.what, loss.reason))
            self.losses[loss.what, loss.reason] = LossCount(
                loss.what,
                loss.reason,
                count=before.count + loss.count,
                file_count=before.file_count + 1,
                files=(*before.files, printable(path.name))[:NAMED_FILES],
            )

    def note(self, path: Path, reason: str) -> None:
        """Count a file that a remark applies to."""
        before = self.notes.get(reason, ConvertNote(reason))
        files = (*before.files, printable(path.name))[:NAMED_FILES]
        self.notes[reason] = ConvertNote(reason, before.file_count + 1, files)

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
            losses=tuple(self.losses.values()),
            notes=tuple(self.notes.values()),
            left_out=tuple(self.left_out),
            left_out_count=self.left_out_count,
        )
