"""The commands ``pin`` and ``unpin``: datasets that stay in the disk cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich import box
from rich.filesize import decimal
from rich.table import Table

from imgsyncfs.cache.pins import Pin, pins
from imgsyncfs.cache.upkeep import extents_folder
from imgsyncfs.cli.common import (
    allow_store_option,
    cache_options,
    catalog_options,
    cell,
    checked_settings,
    chosen_datasets,
    counted,
    echo_json,
    table_console,
)
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.library.configuration import catalog_url
from imgsyncfs.library.library import Library
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.settings.private_folders import cache_folder
from imgsyncfs.tools.pin import pin, unpin


@click.command("pin")
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@catalog_options
@allow_store_option
@click.option("--subscription", metavar="NAME", help="The datasets of a subscription.")
@click.option("--list", "listing", is_flag=True, help="Show what is pinned, and whether all of it is there.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
@cache_options
@click.option("--timeout", metavar="SECONDS", help="How long to wait for a store. [default: 30]")
def pin_command(
    *,
    dataset_ids: tuple[str, ...],
    configuration: Configuration,
    subscription: str | None,
    listing: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Bring datasets into the disk cache whole, and keep them there: mounts then read them without the network.

    A dataset is pinned as it is now; when it is published again, pin it again. Stopped at any moment, it goes on when
    it is run again.
    """
    if listing:
        if dataset_ids or subscription:
            raise ConfigurationError("--list shows all that is pinned; name no datasets with it.")
        _list(extents_folder(cache_folder(_given_folder(given) or configuration.cache_dir)), as_json=as_json)
        return
    if bool(dataset_ids) == bool(subscription):
        raise ConfigurationError(
            "Say which datasets to pin: name them, or give --subscription NAME; --list shows what is."
        )
    settings = checked_settings(configuration, {**given, "siblings": "none"})
    with Library(settings) as library, ProgressBar() as bar:
        summary = pin(library, chosen_datasets(library, dataset_ids, subscription), progress=bar)
    click.echo(
        f"{counted(summary.datasets, 'dataset')} {'is' if summary.datasets == 1 else 'are'} pinned in the cache "
        f"{settings.cache_dir}: {decimal(summary.fetched_bytes)} fetched in {summary.requests:,} requests."
    )


@click.command("unpin")
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@catalog_options
@click.option("--all", "everything", is_flag=True, help="All pinned datasets of the catalog.")
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the disk cache. [IMGSYNCFS_CACHE_DIR; ~/.cache/imgsyncfs]",
)
def unpin_command(
    *, dataset_ids: tuple[str, ...], configuration: Configuration, everything: bool, cache_dir: Path | None
) -> None:
    """Let go of pinned datasets: they stay in the disk cache until others need the room."""
    if bool(dataset_ids) == everything:
        raise ConfigurationError("Say which datasets to let go of: name them, or give --all.")
    folder = cache_folder(cache_dir or configuration.cache_dir)
    released = unpin(folder, catalog_url(configuration), dataset_ids)
    click.echo(f"{counted(len(released), 'dataset')} {'is' if len(released) == 1 else 'are'} no longer pinned.")


def _given_folder(given: dict[str, str | None]) -> Path | None:
    return Path(given["cache_dir"]) if given["cache_dir"] else None


def _list(folder: Path, *, as_json: bool) -> None:
    found = pins(folder)
    if as_json:
        echo_json([{**asdict(each), "extents_here": here, "bytes_here": size} for each, here, size in found])
        return
    if not found:
        click.echo("Nothing is pinned; pin a dataset with: imgsyncfs pin DATASET", err=True)
        return
    console = table_console()
    table = Table(box=box.HEAVY_HEAD if console.is_terminal else None)
    for name in ("dataset", "revision", "here", "size", "catalog"):
        table.add_column(name, no_wrap=name != "catalog", overflow="fold")
    for each, here, _ in found:
        facts = (f"{each.revision}", _here(each, here), decimal(each.bytes))
        table.add_row(cell(each.dataset_id), *facts, cell(each.catalog))
    console.print(table)


def _here(found: Pin, here: int) -> str:
    return "all of it" if here >= found.extents else f"{here:,} of {found.extents:,} extents"
