"""Progress on a terminal: one bar for each part of the work, with rate and time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from imgsyncfs.tools.sync.summary import DatasetSummary

Bar = TypeVar("Bar", bound="ProgressBar")


class ProgressBar:
    """Draws progress on standard error; without a terminal it draws nothing.

    A context manager: the bars stand still when it ends. See `imgsyncfs.workers.progress.Progress`.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._running: tuple[Progress, TaskID] | None = None

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Begin the next part of the work."""
        self._end_phase()
        if self._console.is_terminal:
            bar = Progress(*self._columns(unit), console=self._console)
            bar.start()
            self._running = bar, bar.add_task(name, total=total, unit=unit, volume="")

    def advance(self, count: int) -> None:
        """Add units that are done."""
        if self._running:
            bar, task = self._running
            bar.advance(task, count)

    def __enter__(self: Bar) -> Bar:  # noqa: PYI019  # Self is there from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        self._end_phase()

    def _columns(self, unit: str) -> tuple[ProgressColumn, ...]:
        if unit == "bytes":
            counts: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
        else:
            counts = (MofNCompleteColumn(), TextColumn("{task.fields[unit]}"))
        return TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn()

    def _end_phase(self) -> None:
        if self._running:
            bar, _ = self._running
            bar.stop()
            self._running = None


class SyncBar(ProgressBar):
    """Draws how far a sync is, with the bytes that were copied; without a terminal it prints one line a dataset.

    `imgsyncfs.tools.sync.run.sync` takes it as ``progress``, and its methods as ``copied`` and ``finished``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._copied_bytes = 0
        self._began = 0.0

    def phase(self, name: str, total: int | None, unit: str) -> None:
        """Begin a dataset."""
        self._copied_bytes, self._began = 0, time.monotonic()
        super().phase(name, total, unit)

    def copied(self, byte_count: int) -> None:
        """Say that a file of this length was copied."""
        self._copied_bytes += byte_count
        if self._running:
            bar, task = self._running
            rate = self._copied_bytes / max(time.monotonic() - self._began, 0.001)
            bar.update(task, volume=f"{decimal(self._copied_bytes)} {decimal(round(rate))}/s")

    def finished(self, dataset: DatasetSummary) -> None:
        """Say that a dataset is done."""
        if not self._console.is_terminal:
            done = dataset.copied + dataset.kept
            click.echo(
                f"Syncing files : {dataset.dataset_id} - {done}/{dataset.files}, {decimal(dataset.copied_bytes)} copied"
            )

    def _columns(self, unit: str) -> tuple[ProgressColumn, ...]:  # noqa: ARG002  # it is always files
        return (
            TextColumn("{task.description} - {task.completed}/{task.total}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[volume]}"),
            TimeRemainingColumn(compact=True),
        )
