"""How far a synchronization is, as a line that a notebook's cell shows."""

from __future__ import annotations

import sys
import time

LINE_SECONDS = 0.1
"""The line is not printed anew more often: each time it travels to the browser."""


class PrintedProgress:
    """Prints what an `imgsyncfs.workers.progress.Progress` hears: ``Syncing files : one_dataset - 2648/2648``.

    In a notebook and on a terminal the line is printed over itself as it grows; elsewhere once, when its part of the
    work has ended. A context manager: at its end the line is ended.
    """

    def __init__(self) -> None:
        self._grows = sys.stdout.isatty() or "ipykernel" in sys.modules
        self._name = ""
        self._done = 0
        self._total: int | None = None
        self._printed_at = 0.0

    def phase(self, name: str, total: int | None, unit: str) -> None:  # noqa: ARG002  # the line names its unit
        """Begin the next part of the work; see `imgsyncfs.workers.progress.Progress`."""
        self._end_line()
        self._name, self._done, self._total = name, 0, total

    def advance(self, count: int) -> None:
        """Add units that are done."""
        self._done += count
        if self._grows and time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._printed_at = time.monotonic()
            # The cursor goes back behind the line: a saved notebook shows what begins with it after an empty line.
            print(self._line(), end="\r", flush=True)

    def __enter__(self) -> PrintedProgress:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        self._end_line()

    def _line(self) -> str:
        return f"{self._name} - {self._done}" + ("" if self._total is None else f"/{self._total}")

    def _end_line(self) -> None:
        if self._name:
            print(self._line())
            self._name = ""
