"""Commands that copy datasets: sync to plain folders, prefetch to the disk cache."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.filesize import decimal

from imgsyncfs.cli.common import (
    LEFT_OUT_STATUS,
    allow_store_option,
    cache_options,
    catalog_options,
    checked_settings,
    chosen_datasets,
    counted,
    echo_some,
)
from imgsyncfs.cli.progress_bar import ProgressBar, SyncBar
from imgsyncfs.errors import ConfigurationError, printable
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.library import Library
from imgsyncfs.library.views.registry import VIEWS, find_view
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.tools.prefetch import prefetch
from imgsyncfs.tools.sync.run import SyncSummary, sync

MOST_NAMED = 20
"""So many files are named one by one; a store that lost a folder would fill the screen."""


@click.command("sync")
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@catalog_options
@allow_store_option
@click.option("--subscription", metavar="NAME", help="The datasets of a subscription.")
@click.option("--all", "everything", is_flag=True, help="All datasets of the catalog.")
@click.option("--amount", metavar="N", type=click.IntRange(min=1), help="Only the first N images of each dataset.")
@click.option("--siblings", metavar="LIST", help=f"Rendered files to copy too: {','.join(FORMATS)}. [default: none]")
@click.option(
    "--view",
    "view_name",
    metavar="VIEW",
    help=f"The layout of a tool: {', '.join(VIEWS)}.",
)
@click.option("--delete", is_flag=True, help="Remove what sync wrote and the catalog no longer has.")
@click.option("--overwrite", is_flag=True, help="Replace files that somebody changed in TARGET.")
@cache_options
@click.option("--timeout", metavar="SECONDS", help="How long to wait for a store. [default: 30]")
def sync_command(
    *,
    target: Path,
    dataset_ids: tuple[str, ...],
    configuration: Configuration,
    subscription: str | None,
    everything: bool,
    amount: int | None,
    siblings: str | None,
    view_name: str | None,
    delete: bool,
    overwrite: bool,
    **given: str | None,
) -> None:
    """Copy datasets to plain folders TARGET/<dataset>: those named, those of a subscription, or --all.

    Only what is missing or differs is copied. Stopped at any moment, it goes on when it is run again. Files that
    somebody changed in TARGET are kept.
    """
    _check_choice(dataset_ids, subscription, everything=everything)
    if view_name and siblings:
        raise ConfigurationError("A view has its own annotations; leave out --siblings, or --view.")
    view = find_view(view_name) if view_name else None
    settings = checked_settings(configuration, {**given, "siblings": siblings or "none"})
    with Library(settings) as library, SyncBar() as bar:
        if str(target) in library.rows:
            raise ConfigurationError(
                f"{target} is a dataset's id; say first where to copy to: imgsyncfs sync FOLDER {target}"
            )
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
    _report(summary, target)


@click.command("prefetch")
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@catalog_options
@allow_store_option
@click.option("--subscription", metavar="NAME", help="The datasets of a subscription.")
@click.option("--all", "everything", is_flag=True, help="All datasets of the catalog.")
@click.option("--annotations", is_flag=True, help="Only the annotations: what ls -l and labelling tools look at first.")
@cache_options
@click.option("--timeout", metavar="SECONDS", help="How long to wait for a store. [default: 30]")
def prefetch_command(
    *,
    dataset_ids: tuple[str, ...],
    configuration: Configuration,
    subscription: str | None,
    everything: bool,
    annotations: bool,
    **given: str | None,
) -> None:
    """Bring datasets into the disk cache, so that a mount with the same cache reads them without the network.

    What is there already is not fetched again; stopped at any moment, it goes on when it is run again.
    """
    _check_choice(dataset_ids, subscription, everything=everything)
    settings = checked_settings(configuration, {**given, "siblings": "none"})
    with Library(settings) as library, ProgressBar() as bar:
        chosen = chosen_datasets(library, dataset_ids, subscription)
        summary = prefetch(library, chosen, annotations_only=annotations, progress=bar)
    click.echo(
        f"{counted(summary.datasets, 'dataset')} {'is' if summary.datasets == 1 else 'are'} in the cache "
        f"{settings.cache_dir}: {decimal(summary.fetched_bytes)} fetched in {summary.requests:,} requests."
    )


def _check_choice(dataset_ids: Sequence[str], subscription: str | None, *, everything: bool) -> None:
    """See that exactly one way of choosing datasets is used: a whole catalog may be terabytes.

    Raises:
        ConfigurationError: none is, or several are.
    """
    if [bool(dataset_ids), bool(subscription), everything].count(True) != 1:
        raise ConfigurationError(
            "Say which datasets: name them, or give --subscription NAME, or --all; one of these and not two."
        )


def _report(summary: SyncSummary, target: Path) -> None:
    """Tell what came of it; exit with `LEFT_OUT_STATUS` if something could not be done."""
    datasets = counted(len(summary.datasets), "dataset")
    if summary.copied or summary.removed:
        parts = [f"copied {counted(summary.copied, 'file')} ({decimal(summary.copied_bytes)})"]
        if summary.kept:
            parts.append(f"{summary.kept:,} were there already")
        if summary.removed:
            parts.append(f"removed {summary.removed:,}")
        click.echo(f"{datasets} in {target}: {', '.join(parts)}.")
    elif not summary.failed:
        click.echo(f"Nothing to transfer: {counted(summary.kept, 'file')} of {datasets} in {target} already.")
    if summary.changed:
        click.echo("Kept, since somebody changed them (--overwrite replaces them):", err=True)
        echo_some([printable(path) for path in summary.changed[:MOST_NAMED]], len(summary.changed))
    if summary.failed:
        click.echo(f"Could not be synced ({len(summary.failed):,}):", err=True)
        named = [printable(f"{failure.path}: {failure.reason}") for failure in summary.failed[:MOST_NAMED]]
        echo_some(named, len(summary.failed))
        sys.exit(LEFT_OUT_STATUS)
