"""Commands about catalogs: init, datasets."""

from __future__ import annotations

import sys
import textwrap

import click
from rich.console import Console
from rich.table import Table

from imgsyncfs.catalog.dataset_table import COLUMNS, matching, shown_fields, to_csv, to_json
from imgsyncfs.cli.common import catalog_options, open_configured_catalog, open_configured_store
from imgsyncfs.library.configuration import catalog_url
from imgsyncfs.settings.config_file import Configuration

NOTE_CHARACTERS = 40
"""A longer note would push the table over the edge; --json and --csv have it whole."""

PIPE_COLUMNS = 250


@click.command("init")
@click.option(
    "--store",
    required=True,
    metavar="URL",
    help="Where images and annotations will lie: file:///path or azure://ACCOUNT/CONTAINER[/PREFIX].",
)
@catalog_options
def init_command(*, store: str, configuration: Configuration) -> None:
    """Make a catalog: its tables in the database, and the store if it is missing."""
    opened = open_configured_store(store, configuration)
    try:
        opened.create()
        opened.check()
    finally:
        opened.close()
    catalog, _ = open_configured_catalog(configuration, create=True)
    with catalog:
        made = catalog.initialize(store=opened.url)
    what = "is ready" if made else "was a catalog already, with the same store"
    click.echo(f"{catalog_url(configuration)} {what}; next: imgsyncfs publish FOLDER --name ID")


@click.command("datasets")
@catalog_options
@click.option(
    "--where", "conditions", metavar="COLUMN=VALUE", multiple=True, help="Only these; may be given several times."
)
@click.option("--json", "form", flag_value="json", help="Print JSON, with every column.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
def datasets_command(*, configuration: Configuration, conditions: tuple[str, ...], form: str | None) -> None:
    """List the datasets of the catalog."""
    catalog, _ = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        rows = matching(catalog.datasets(), conditions)
    if form:
        click.echo((to_json(rows) if form == "json" else to_csv(rows)).decode(), nl=False)
        return
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=column != "note")
    for row in rows:
        fields = {**shown_fields(row), "note": textwrap.shorten(row.note, NOTE_CHARACTERS, placeholder="…")}
        table.add_row(*fields.values())
    # A pipe has no width; 80 columns would cut ids that a script is about to read.
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    console.print(table)
    console.print(f"{len(rows)} datasets, {sum(row.size for row in rows):,} images")
