"""How long work tells the one who waits for it how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Somebody who is told how far work is, always from the thread that started it."""

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Begin the next part of the work; the one before it has ended.

        Args:
            name: what is done now, for example ``Checking``.
            total: how many units it will be; None if nobody knows yet.
            unit: what is counted: ``images`` or ``bytes``.
        """

    def advance(self, count: int) -> None:
        """Say that so many units more are done."""


class SilentProgress:
    """Tells nobody."""

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Take no notice of a new part of the work."""

    def advance(self, count: int) -> None:
        """Take no notice of what is done."""
