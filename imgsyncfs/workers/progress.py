"""Progress of long work, reported to the caller."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of work, always on the thread that started it."""

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Begin the next part of the work; the one before it has ended.

        Args:
            name: what is done now, for example ``Checking``.
            total: how many units it will be; None if nobody knows yet.
            unit: what is counted: ``images``, ``datasets`` or ``bytes``.
        """

    def advance(self, count: int) -> None:
        """Add units that are done."""


class SilentProgress:
    """Reports nothing."""

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Ignore a new part of the work."""

    def advance(self, count: int) -> None:
        """Ignore units that are done."""
