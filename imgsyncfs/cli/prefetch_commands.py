"""The command prefetch."""

from __future__ import annotations

import click
from rich.filesize import decimal

from imgsyncfs.cli.common import allow_store_option, catalog_options
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.cli.sync_commands import checked_settings, chosen_datasets
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.library.library import Library
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.tools.prefetch import prefetch


@click.command("prefetch")
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@catalog_options
@allow_store_option
@click.option("--subscription", metavar="NAME", help="The datasets of a subscription.")
@click.option("--annotations", is_flag=True, help="Only the annotations: what ls -l and labelling tools look at first.")
@click.option("--cache-dir", metavar="DIR", help="Folder of the disk cache. [IMGSYNCFS_CACHE_DIR; ~/.cache/imgsyncfs]")
@click.option("--cache-size", metavar="SIZE", help="Most that the cache keeps. [default: 20G]")
@click.option("--keep-free", metavar="SHARE", help="How much of the cache's disk stays free. [default: 5%]")
@click.option("--timeout", metavar="SECONDS", help="How long to wait for a store. [default: 30]")
def prefetch_command(
    *,
    dataset_ids: tuple[str, ...],
    configuration: Configuration,
    subscription: str | None,
    annotations: bool,
    **given: str | None,
) -> None:
    """Bring datasets into the disk cache, so that a mount with the same cache reads them without the network.

    What is there already is not fetched again; stopped at any moment, it goes on when it is run again.
    """
    if bool(subscription) == bool(dataset_ids):
        raise ConfigurationError("Name datasets, or a subscription with --subscription.")
    settings = checked_settings(configuration, {**given, "siblings": "none"})
    with Library(settings) as library, ProgressBar() as bar:
        chosen = chosen_datasets(library, dataset_ids, subscription)
        summary = prefetch(library, chosen, annotations_only=annotations, progress=bar)
    datasets = "1 dataset is" if summary.datasets == 1 else f"{summary.datasets:,} datasets are"
    click.echo(
        f"{datasets} in the cache {settings.cache_dir}: {decimal(summary.fetched_bytes)} fetched "
        f"in {summary.requests:,} requests."
    )
