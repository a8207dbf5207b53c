"""The command sync."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from imgsyncfs.catalog.subscriptions import find_subscription, members
from imgsyncfs.cli.common import (
    allow_store_option,
    catalog_options,
    open_configured_catalog,
)
from imgsyncfs.errors import CatalogUnreachable, ConfigurationError
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.configuration import library_settings
from imgsyncfs.library.library import Library
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.tools.pairing import printable
from imgsyncfs.tools.sync.run import DatasetSummary, SyncSummary, sync
from imgsyncfs.tools.sync.views import find_view

logger = logging.getLogger(__name__)

LEFT_OUT_STATUS = 3
"""Exit status when the rest was copied but something could not be: a script should notice."""

MOST_NAMED = 20
"""So many files are named one by one; a store that lost a folder would fill the screen."""


class SyncBar:
    """Draws on standard error how far a sync is; where that is no terminal it prints one line a dataset instead.

    Tells what `imgsyncfs.tools.sync.run.sync` says to its ``progress``, ``copied`` and ``finished``. A context manager:
    the bars stand still when it ends.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._copied_bytes = 0
        self._began = 0.0

    def phase(self, name: str, total: int | None, unit: str) -> None:  # noqa: ARG002  # it is always files
        """Begin a dataset; see `imgsyncfs.workers.progress.Progress`."""
        self._stop()
        if not self._console.is_terminal:
            return
        self._copied_bytes, self._began = 0, time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description} - {task.completed}/{task.total}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[volume]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task(name, total=total, volume="")

    def advance(self, count: int) -> None:
        """Add files that are done."""
        if self._bar:
            self._bar.advance(self._task, count)

    def copied(self, byte_count: int) -> None:
        """Say that a file of this length was copied."""
        self._copied_bytes += byte_count
        if self._bar:
            rate = self._copied_bytes / max(time.monotonic() - self._began, 0.001)
            self._bar.update(self._task, volume=f"{decimal(self._copied_bytes)} {decimal(round(rate))}/s")

    def finished(self, dataset: DatasetSummary) -> None:
        """Say that a dataset is done."""
        if not self._console.is_terminal:
            done = dataset.copied + dataset.kept
            click.echo(
                f"Syncing files : {dataset.dataset_id} - {done}/{dataset.files}, {decimal(dataset.copied_bytes)} copied"
            )

    def __enter__(self) -> SyncBar:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


@click.command("sync")
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@catalog_options
@allow_store_option
@click.option("--subscription", metavar="NAME", help="The datasets of a subscription.")
@click.option("--amount", metavar="N", type=click.IntRange(min=1), help="Only the first N images of each dataset.")
@click.option("--siblings", metavar="LIST", help=f"Rendered files to copy too: {','.join(FORMATS)}. [default: none]")
@click.option(
    "--view", "view_name", metavar="VIEW", help=f"The layout of a tool: {', '.join(FORMATS)}, or plain images."
)
@click.option("--delete", is_flag=True, help="Remove what sync wrote and the catalog no longer has.")
@click.option("--overwrite", is_flag=True, help="Replace files that somebody changed in TARGET.")
@click.option("--cache-dir", metavar="DIR", help="Folder of the disk cache. [IMGSYNCFS_CACHE_DIR; ~/.cache/imgsyncfs]")
@click.option("--cache-size", metavar="SIZE", help="Most that the cache keeps. [default: 20G]")
@click.option("--keep-free", metavar="SHARE", help="How much of the cache's disk stays free. [default: 5%]")
@click.option("--timeout", metavar="SECONDS", help="How long to wait for a store. [default: 30]")
def sync_command(
    *,
    target: Path,
    dataset_ids: tuple[str, ...],
    configuration: Configuration,
    subscription: str | None,
    amount: int | None,
    siblings: str | None,
    view_name: str | None,
    delete: bool,
    overwrite: bool,
    **given: str | None,
) -> None:
    """Copy datasets to plain folders TARGET/<dataset>; all of them, unless some are named.

    Only what is missing or differs is copied. Stopped at any moment, it goes on when it is run again. Files that
    somebody changed in TARGET are kept.
    """
    if subscription and dataset_ids:
        raise ConfigurationError("Name datasets, or a subscription with --subscription, and not both.")
    if view_name and siblings:
        raise ConfigurationError("A view has its own annotations; leave out --siblings, or --view.")
    view = find_view(view_name) if view_name else None
    settings = checked_settings(configuration, {**given, "siblings": siblings or "none"})
    with Library(settings) as library, SyncBar() as bar:
        summary = sync(
            library,
            target,
            datasets=chosen_datasets(library, dataset_ids, subscription),
            amount=amount,
            view=view,
            delete=delete,
            overwrite=overwrite,
            progress=bar,
            copied=bar.copied,
            finished=bar.finished,
        )
    report(summary, target)


def checked_settings(configuration: Configuration, given: dict[str, str | None]) -> LibrarySettings:
    """Put together a library's settings; ask for the catalog's password if it needs one.

    Args:
        configuration: catalog, secrets, cache folder.
        given: the options siblings, cache_dir, cache_size, keep_free and timeout, None where not given.

    Raises:
        ConfigurationError: an option makes no sense.
        FormatError: a sibling's format is unknown.
        CatalogError: there is no such catalog, or it refuses us.
    """
    settings = library_settings(configuration, given)
    try:
        catalog, configuration = open_configured_catalog(configuration, timeout=settings.timeout)
        with catalog:
            catalog.check()
    except CatalogUnreachable as error:
        # What was read before is in the cache: the library knows whether that will do.
        logger.warning("%s", error)
    return library_settings(configuration, given)


def chosen_datasets(library: Library, dataset_ids: Sequence[str], subscription: str | None) -> Sequence[str]:
    """The ids of the datasets that were asked for: those named, or a subscription's, or all.

    Raises:
        ConfigurationError: there is no such subscription.
    """
    shown = [row.dataset_id for row in library.datasets.values()]
    if subscription is not None:
        table = library.mirror.table
        chosen = {
            row.dataset_id for row in members(find_subscription(table.subscriptions, subscription), table.rows.values())
        }
        return [dataset_id for dataset_id in shown if dataset_id in chosen]
    return dataset_ids or shown


def report(summary: SyncSummary, target: Path) -> None:
    """Tell what came of it; exit with `LEFT_OUT_STATUS` if something could not be done."""
    datasets = _counted(len(summary.datasets), "dataset")
    if summary.copied or summary.removed:
        parts = [f"copied {_counted(summary.copied, 'file')} ({decimal(summary.copied_bytes)})"]
        if summary.kept:
            parts.append(f"{summary.kept:,} were there already")
        if summary.removed:
            parts.append(f"removed {summary.removed:,}")
        click.echo(f"{datasets} in {target}: {', '.join(parts)}.")
    elif not summary.failed:
        click.echo(f"Nothing to transfer: {_counted(summary.kept, 'file')} of {datasets} in {target} already.")
    if summary.changed:
        click.echo("Kept, since somebody changed them (--overwrite replaces them):", err=True)
        _name(summary.changed)
    if summary.failed:
        click.echo(f"Could not be synced ({len(summary.failed):,}):", err=True)
        _name([f"{failure.path}: {failure.reason}" for failure in summary.failed])
        sys.exit(LEFT_OUT_STATUS)


def _name(lines: Sequence[str]) -> None:
    for line in lines[:MOST_NAMED]:
        click.echo(f"  {printable(line)}", err=True)
    if len(lines) > MOST_NAMED:
        click.echo(f"  and {len(lines) - MOST_NAMED:,} more", err=True)


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
