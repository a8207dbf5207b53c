"""Progress on a terminal: one bar for each part of the work, with rate and time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class ProgressBar:
    """Draws progress on standard error; without a terminal it draws nothing.

    A context manager: the bars stand still when it ends.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn())
        self._counting = Progress(
            *columns,
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bytes = Progress(
            *columns, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=self._console
        )
        self._running: tuple[Progress, TaskID] | None = None

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Begin the next part of the work; see `imgsyncfs.workers.progress.Progress`."""
        self._end_phase()
        if not self._console.is_terminal:
            return
        bar = self._bytes if unit == "bytes" else self._counting
        bar.start()
        self._running = bar, bar.add_task(name, total=total, unit=unit)

    def advance(self, count: int) -> None:
        """Add units that are done."""
        if self._running:
            bar, task = self._running
            bar.advance(task, count)

    def __enter__(self) -> ProgressBar:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_phase()

    def _end_phase(self) -> None:
        if self._running:
            bar, task = self._running
            bar.stop()
            bar.remove_task(task)
            self._running = None
