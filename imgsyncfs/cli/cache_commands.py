"""The commands about the disk cache: cache stats, clear, verify. All work while mounts use it, and without any."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.filesize import decimal
from rich.table import Table

from imgsyncfs.cache.documents import clear_documents, documents_volume, verify_documents
from imgsyncfs.cache.pins import pins
from imgsyncfs.cache.upkeep import cache_content, clear_cache, extents_folder, verify_cache
from imgsyncfs.catalog.listing import read_listing
from imgsyncfs.cli.common import catalog_options, cell, counted, echo_json, open_configured_catalog, table_console
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.fetching.contents import belongs_to, store_and_folder
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.settings.limits import disk_space
from imgsyncfs.settings.private_folders import cache_folder

MOST_SHOWN = 20
"""Rows of the table of datasets and folders, those that take up most."""


@click.group("cache")
def cache_command() -> None:
    """Look at the disk cache, empty it, or check it; mounts may be using it meanwhile."""


def _cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--cache-dir`` and what `catalog_options` adds; the command gets the folder of extents as ``folder``."""

    @catalog_options
    @click.option(
        "--cache-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the disk cache. [IMGSYNCFS_CACHE_DIR; ~/.cache/imgsyncfs]",
    )
    @functools.wraps(command)
    def wrapped(*, configuration: Configuration, cache_dir: Path | None, **options: Any) -> None:
        folder = extents_folder(cache_folder(cache_dir or configuration.cache_dir))
        command(configuration=configuration, folder=folder, **options)

    return wrapped


_dataset_option = click.option("--dataset", "dataset_id", metavar="ID", help="Only what belongs to this dataset.")


@cache_command.command("stats")
@_cache_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every folder.")
def stats_command(*, configuration: Configuration, folder: Path, as_json: bool) -> None:  # noqa: ARG001  # for all three
    """Show how much the cache holds, and of what.

    Limits are those that the mount which was made last was told.
    """
    content = cache_content(folder, store_and_folder)
    documents, document_bytes = documents_volume(folder.parent)
    disk = disk_space(folder)
    entries = sum(count for count, _ in content.groups.values())
    groups = sorted(content.groups.items(), key=lambda group: (-group[1][1], group[0]))
    if as_json:
        shown = {
            "folder": str(folder),
            "bytes": content.byte_count,
            "size_limit": content.limits and content.limits.size_limit,
            "keep_free": content.limits and content.limits.keep_free,
            "disk_free": disk.free,
            "extents": entries,
            "documents": documents,
            "document_bytes": document_bytes,
            "groups": [
                {"store": store, "folder": name, "extents": count, "bytes": byte_count}
                for (store, name), (count, byte_count) in groups
            ],
        }
        echo_json(shown)
        return
    limit = f" of {decimal(content.limits.size_limit)}" if content.limits else ""
    keep = f", {decimal(content.limits.keep_free)} are kept free" if content.limits else ""
    facts = Table(show_header=False, box=None)
    facts.add_row("folder", cell(str(folder)))
    facts.add_row("size", f"{decimal(content.byte_count)}{limit}")
    facts.add_row("disk", f"{decimal(disk.free)} free{keep}")
    facts.add_row("extents", f"{entries:,}")
    if documents:
        facts.add_row("documents", f"{documents:,} of views, {decimal(document_bytes)} beside the extents")
    console = table_console()
    console.print(facts)
    if not groups:
        return
    table = Table(box=box.HEAVY_HEAD if console.is_terminal else None)
    table.add_column("dataset or folder", no_wrap=True)
    table.add_column("extents", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("store", overflow="fold")
    for (store, name), (count, byte_count) in groups[:MOST_SHOWN]:
        table.add_row(cell(name), f"{count:,}", decimal(byte_count), cell(store))
    console.print(table)
    if len(groups) > MOST_SHOWN:
        console.print(f"The {MOST_SHOWN} largest of {len(groups):,}; --json shows them all.")


@cache_command.command("clear")
@_cache_options
@_dataset_option
def clear_command(*, configuration: Configuration, folder: Path, dataset_id: str | None) -> None:
    """Remove what the cache holds; it is fetched, or written, again when somebody reads it.

    Documents of views, and the tables of queries among them, are removed as well. What is pinned stays, and so do saved
    listings: they are small, and a mount works with them while the database is away.
    """
    chosen = _chosen(configuration, dataset_id)
    with ProgressBar() as bar:
        count, byte_count = clear_cache(folder, chosen=chosen, progress=bar)
    documents, document_bytes = clear_documents(folder.parent, chosen=_of_dataset(dataset_id))
    removed = f"{counted(count, 'extent')} ({decimal(byte_count)})"
    if documents:
        removed += f" and {counted(documents, 'document')} of views ({decimal(document_bytes)})"
    click.echo(f"Removed {removed} from the cache {folder}.")
    stays = [each.dataset_id for each, _, _ in pins(folder) if dataset_id in {None, each.dataset_id}]
    if stays:
        click.echo(
            f"Note: {', '.join(stays[:MOST_SHOWN])} stays, being pinned; let go of it with: imgsyncfs unpin", err=True
        )


@cache_command.command("verify")
@_cache_options
@_dataset_option
def verify_command(*, configuration: Configuration, folder: Path, dataset_id: str | None) -> None:
    """Read all that the cache holds, and remove what is damaged; whoever reads it later has it fetched again.

    Files that belong to nothing, which a killed process may leave, are removed as well. The exit status is 0 if
    everything is in order afterwards, whatever was found, and 1 if the cache cannot be read.
    """
    chosen = _chosen(configuration, dataset_id)
    with ProgressBar() as bar:
        extents = verify_cache(folder, chosen=chosen, progress=bar)
        documents = verify_documents(folder.parent, chosen=_of_dataset(dataset_id), progress=bar)
    checked = f"{counted(extents.entries, 'extent')} ({decimal(extents.byte_count)})"
    if documents.documents:
        checked += f" and {counted(documents.documents, 'document')} of views ({decimal(documents.byte_count)})"
    mended = [
        f"removed {counted(count, noun)} that {'was' if count == 1 else 'were'} damaged"
        for noun, count in (("extent", extents.damaged), ("document", documents.damaged))
        if count
    ]
    if extents.orphans:
        mended.append(f"removed {counted(extents.orphans, 'file')} that belonged to nothing")
    click.echo(f"Checked {checked} in the cache {folder}: {' and '.join(mended) or 'all is well'}.")


def _of_dataset(dataset_id: str | None) -> Callable[[dict[str, Any]], bool] | None:
    """Which documents are meant, by their records; None for all of them."""
    return None if dataset_id is None else lambda record: record.get("dataset") == dataset_id


def _chosen(configuration: Configuration, dataset_id: str | None) -> Callable[[str], bool] | None:
    """Which extents are meant; None for all of them.

    Raises:
        ConfigurationError: there is no such dataset.
        CatalogError: the catalog cannot be read.
    """
    if dataset_id is None:
        return None
    catalog, _ = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        listing = read_listing(catalog, dataset_id)
    if listing is None:
        raise ConfigurationError(f"There is no dataset {dataset_id} in the catalog; imgsyncfs datasets lists them.")
    return belongs_to(listing)
