"""Commands about catalogs: init, datasets, subscribe, subscriptions."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from imgsyncfs.catalog import Catalog
from imgsyncfs.catalog.dataset_table import COLUMNS, matching, near_values, shown_fields, to_csv, to_json
from imgsyncfs.catalog.isolation import REMEDY
from imgsyncfs.catalog.mapping import EXAMPLE
from imgsyncfs.catalog.naming import SOURCES
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.subscriptions import find_subscription, members, subscribe
from imgsyncfs.cli.adopt_command import adopt_tables
from imgsyncfs.cli.common import (
    LEFT_OUT_STATUS,
    allow_store_option,
    catalog_options,
    cell,
    counted,
    echo_json,
    echo_some,
    open_configured_catalog,
    open_configured_store,
    tell_mounts,
)
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.errors import ConfigurationError, printable
from imgsyncfs.library.configuration import catalog_url
from imgsyncfs.settings.config_file import Configuration, load_configuration
from imgsyncfs.stores.allowed import allowed_stores, open_allowed_store
from imgsyncfs.stores.opening import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from imgsyncfs.stores.contract import Store

LEAST_COLUMNS = ("dataset_id", "size")

NOTE_CHARACTERS = 40
"""A longer note would push the table over the edge; --json and --csv have it whole."""


@click.command("init")
@click.option(
    "--store",
    metavar="URL",
    help="Where images and annotations will lie: file:///path or azure://ACCOUNT/CONTAINER[/PREFIX].",
)
@click.option(
    "--adopt",
    metavar="MAPPING.toml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Make a read-only catalog of tables that are there: check them, and print the SQL for it.",
)
@click.option("--create", is_flag=True, help="With --adopt: run the SQL, in one transaction.")
@click.option("--schema", default="", metavar="NAME", help="With --adopt: a schema of its own for the views.")
@click.option("--example", is_flag=True, help="Print an example of a MAPPING.toml.")
@catalog_options
@allow_store_option
def init_command(
    *, store: str | None, adopt: Path | None, create: bool, schema: str, example: bool, configuration: Configuration
) -> None:
    """Make a catalog, or bring one of an earlier version up to date.

    A new one: its tables in the database, and the store if it is missing. One of an earlier version gets the tables
    that are new, in one transaction, and earlier versions go on working with it. Then the annotations of datasets are
    read of which the catalog does not know what they say: each of these gets a new revision. All that is said before it
    begins. Interrupted, it goes on where it stopped when it is typed again. The exit status is 3 if datasets had to be
    left.

    With --adopt, the catalog is another system's tables, seen through views: MAPPING.toml says which column gives what.
    """
    if example:
        click.echo(EXAMPLE, nl=False)
        return
    if adopt is not None:
        if store is not None:
            raise click.UsageError("--adopt takes the store from its mapping; leave --store out.")
        adopt_tables(adopt, configuration, create=create, schema=schema)
        return
    if create or schema:
        raise click.UsageError("--create and --schema belong to --adopt MAPPING.toml; add it.")
    if store is None:
        raise click.UsageError("Missing option '--store'.")
    with closing(open_configured_store(store, configuration)) as opened:
        opened.create()
        opened.check()
    catalog, configuration = open_configured_catalog(configuration, create=True)
    with catalog:
        unread = _say_what_comes(catalog)
        made = catalog.initialize(store=opened.url)
        url = catalog_url(configuration)
        what = "is ready" if made else "was a catalog already, with the same store"
        # What was given here alone has to be given again.
        given = "" if load_configuration().catalog == configuration.catalog else f" --catalog {shlex.quote(url)}"
        click.echo(f"{url} {what}; next: imgsyncfs publish FOLDER --name ID{given}")
        if catalog.readers_wait():
            click.echo(f"Note: {REMEDY}", err=True)
        if unread:
            _read_annotations(catalog, unread, configuration)


def _say_what_comes(catalog: Catalog) -> list[DatasetRow]:
    """Say what `init` will do with a catalog that there is; returns the datasets whose annotations it will read."""
    missing, unread = catalog.missing_additions(), catalog.unlabelled_datasets()
    if missing:
        click.echo(
            f"An earlier version made this catalog. It gets, in one transaction: {'; '.join(missing)}. Earlier "
            "versions go on working with it."
        )
    if unread:
        images = sum(row.size for row in unread)
        click.echo(
            f"{'Then the' if missing else 'The'} annotations of {counted(len(unread), 'dataset')} "
            f"({counted(images, 'image')}) are read, so that the catalog knows what they say; each of these datasets "
            "gets a new revision."
        )
    return unread


def _read_annotations(catalog: Catalog, rows: Sequence[DatasetRow], configuration: Configuration) -> None:
    """Have what the annotations of datasets say kept in the catalog, and tell what came of it."""
    # Late: it reads annotations, and numpy comes with that.
    from imgsyncfs.tools.annotation_survey import survey

    allowed = allowed_stores(catalog.default_store(), configuration.allowed_stores)

    def open_store(url: str) -> Store:
        # Somebody else may have named it.
        return open_allowed_store(url, allowed=allowed, sections=configuration.stores, timeout=DEFAULT_TIMEOUT)

    with ProgressBar() as progress:
        summary = survey(catalog, rows, open_store=open_store, progress=progress)
    if summary.datasets:
        read = f"{counted(summary.annotations, 'annotation')} of {counted(summary.datasets, 'dataset')}"
        click.echo(f"The catalog knows what {read} say.")
        tell_mounts(configuration)
    for lines, what in (
        (summary.unreadable, "Annotations that cannot be read; mend them and publish again"),
        (summary.left, "Datasets that are left as they were"),
    ):
        if lines:
            click.echo(f"{what}:", err=True)
            echo_some(lines, len(lines))
    if summary.left:
        click.echo("Type this again when they can be read.", err=True)
        sys.exit(LEFT_OUT_STATUS)


@click.command("datasets")
@catalog_options
@click.option(
    "--where", "conditions", metavar="COLUMN=VALUE", multiple=True, help="Only these; may be given several times."
)
@click.option("--json", "form", flag_value="json", help="Print JSON, with every column.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
def datasets_command(*, configuration: Configuration, conditions: tuple[str, ...], form: str | None) -> None:
    """List the datasets of the catalog.

    On a terminal as a table, of as many columns as fit; in a pipe a line for each, its columns separated by tabs.
    """
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        known = catalog.datasets()
    rows = matching(known, conditions)
    for hint in near_values(known, conditions):
        click.echo(printable(hint), err=True)
    if not known:
        click.echo("The catalog has no datasets yet; publish one with: imgsyncfs publish FOLDER --name ID", err=True)
    if form:
        click.echo((to_json(rows) if form == "json" else to_csv(rows)).decode(), nl=False)
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        for row in rows:
            # A tab or a newline within a value would be taken for the next column or line; what is left is escaped.
            click.echo("\t".join(printable(" ".join(field.split())) for field in shown_fields(row).values()))


def _print_table(rows: Sequence[DatasetRow]) -> None:
    """The datasets as a table: ids whole, and as many of the other columns as fit."""
    console = Console()
    fields = [
        {**shown_fields(row), "note": textwrap.shorten(row.note, NOTE_CHARACTERS, placeholder="…")} for row in rows
    ]
    cells = [{column: cell(each[column]) for column in COLUMNS} for each in fields]
    widths = {column: max(cell_len(column), *(each[column].cell_len for each in cells), 0) for column in COLUMNS}
    shown = list(COLUMNS)
    # The id, which people copy, and how many images; the others go from the right.
    while len(shown) > len(LEAST_COLUMNS) and sum(widths[column] + 3 for column in shown) + 1 > console.width:
        shown.remove(next(column for column in reversed(shown) if column not in LEAST_COLUMNS))
    table = Table()
    for column in shown:
        table.add_column(column, justify="right" if column == "size" else "left", no_wrap=True, overflow="ignore")
    for each in cells:
        table.add_row(*(each[column] for column in shown))
    # In a very narrow terminal an id goes on in the next line, and can still be copied.
    console.print(table, width=max(console.width, sum(widths[column] + 3 for column in shown) + 1), crop=False)
    left_out = [column for column in COLUMNS if column not in shown]
    console.print(f"{len(rows)} datasets, {sum(row.size for row in rows):,} images")
    if left_out:
        console.print(f"Not shown, for lack of room: {', '.join(left_out)}; --csv and --json have all columns.")


@click.command("subscribe")
@click.argument("name")
@click.argument("dataset_ids", metavar="[DATASET]...", nargs=-1)
@click.option("--where", "conditions", metavar="COLUMN=VALUE", multiple=True, help="Datasets that meet all of these.")
@click.option("--source", type=click.Choice(SOURCES), help="Short for --where source=…")
@catalog_options
def subscribe_command(
    *,
    name: str,
    dataset_ids: tuple[str, ...],
    conditions: tuple[str, ...],
    source: str | None,
    configuration: Configuration,
) -> None:
    """Keep a choice of datasets under NAME: these, and all that meet the conditions, now or later."""
    if source:
        conditions = (*conditions, f"source={source}")
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        subscription = subscribe(catalog, name, dataset_ids=dataset_ids, conditions=conditions)
        rows = members(subscription, catalog.datasets())
    click.echo(f"{name}: {len(rows)} datasets, {sum(row.size for row in rows):,} images")
    tell_mounts(configuration)


@click.command("subscriptions")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Forget the subscription NAME. Its datasets stay.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@catalog_options
def subscriptions_command(*, name: str | None, remove: bool, as_json: bool, configuration: Configuration) -> None:
    """List subscriptions, or the datasets of the subscription NAME."""
    if remove and not name:
        raise ConfigurationError("Say which subscription to forget: imgsyncfs subscriptions NAME --remove")
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        known = {subscription.name: subscription for subscription in catalog.subscriptions()}
        chosen = [find_subscription(known, name)] if name else list(known.values())
        if remove:
            _forget(catalog, chosen[0].name, configuration)
            return
        rows = catalog.datasets()
    datasets = {subscription.name: members(subscription, rows) for subscription in chosen}
    if as_json:
        listed = [
            {**asdict(subscription), "datasets": [row.dataset_id for row in datasets[subscription.name]]}
            for subscription in chosen
        ]
        echo_json(listed)
    elif name:
        for row in datasets[name]:
            click.echo(printable(row.dataset_id))
    else:
        for subscription in chosen:
            named = f"{len(subscription.dataset_ids)} named" if subscription.dataset_ids else ""
            how = " and ".join(filter(None, (named, ", ".join(subscription.conditions))))
            click.echo(printable(f"{subscription.name}: {len(datasets[subscription.name])} datasets ({how})"))
        if not chosen:
            click.echo("There are no subscriptions; keep one with: imgsyncfs subscribe NAME [DATASET]…", err=True)


@click.command("unsubscribe")
@click.argument("name")
@catalog_options
def unsubscribe_command(*, name: str, configuration: Configuration) -> None:
    """Forget the subscription NAME. Its datasets stay, and copies of them."""
    catalog, configuration = open_configured_catalog(configuration)
    with catalog:
        catalog.check()
        known = {subscription.name: subscription for subscription in catalog.subscriptions()}
        _forget(catalog, find_subscription(known, name).name, configuration)


def _forget(catalog: Catalog, name: str, configuration: Configuration) -> None:
    catalog.remove_subscription(name)
    click.echo(f"{name} is forgotten.")
    tell_mounts(configuration)
