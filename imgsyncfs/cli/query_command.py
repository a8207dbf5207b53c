"""The command query: SQL over the annotations of a catalog."""

from __future__ import annotations

import csv
import inspect
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime, time
from itertools import islice
from typing import Any

import click
import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imgsyncfs.cli.common import allow_store_option, cache_options, catalog_options, checked_settings, chosen_datasets
from imgsyncfs.cli.progress_bar import ProgressBar
from imgsyncfs.errors import ConfigurationError, printable
from imgsyncfs.library.library import Library
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.tools.query import TABLES, Answer, check_query, run_query

MOST_ROWS = 1_000
"""Rows of a table on a screen: a million would have to be kept in memory to be aligned."""

MOST_CHARACTERS = 60
"""A longer value is cut on a terminal."""

DECIMALS = 6
"""Of numbers in a table; CSV has them whole."""

PART_CHARACTERS = 1 << 16
"""Of CSV that are written at once."""

NULL = "NULL"


def _columns_help(columns: Mapping[str, str]) -> str:
    width = max(map(len, columns))
    return "\n".join(f"  {name:{width}}  {meaning}" for name, meaning in columns.items())


_HELP = (
    inspect.cleandoc("""Run SQL over all annotations, images and datasets of the catalog, with DuckDB.

    For example: imgsyncfs query "SELECT class, count(*) FROM annotations GROUP BY class"

    Prints a table, or CSV. Annotations are read when a query first names them, and again when a dataset was published
    since. A query only reads, and no other file than these tables:
    """),
    *(f"\b\n{table}\n{_columns_help(columns)}" for table, columns in TABLES.items()),
)


@click.command("query", help="\n\n".join(_HELP))
@click.argument("sql")
@click.option(
    "--dataset", "dataset_ids", metavar="ID", multiple=True, help="Only this dataset; may be given several times."
)
@click.option("--subscription", metavar="NAME", help="Only the datasets of a subscription.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with all rows and whole values.")
@catalog_options
@allow_store_option
@cache_options
@click.option("--timeout", metavar="SECONDS", help="How long to wait for a store. [default: 30]")
def query_command(
    *,
    sql: str,
    dataset_ids: tuple[str, ...],
    subscription: str | None,
    as_csv: bool,
    configuration: Configuration,
    **given: str | None,
) -> None:
    """Run a query; `_HELP` is what users read."""
    if dataset_ids and subscription:
        raise ConfigurationError("Give --dataset or --subscription, and not both.")
    check_query(sql)
    settings = checked_settings(configuration, {**given, "siblings": "none"})
    with Library(settings) as library, ExitStack() as stack:
        chosen = chosen_datasets(library, dataset_ids, subscription)
        with ProgressBar() as bar:
            answer = stack.enter_context(run_query(library, sql, chosen, progress=bar))
        try:
            _print_csv(answer) if as_csv else _print_table(answer)
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads has enough, as `head` does; nor must the interpreter complain of it at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for loss in answer.losses:
        click.echo(printable(f"Note: the tables do not show {loss.count:,} {loss.what}: {loss.reason}."), err=True)


def _print_csv(answer: Answer) -> None:
    if not answer.columns:
        return
    part = io.StringIO()
    writer = csv.writer(part, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in answer.rows:
        writer.writerow([_plain(value) for value in row])
        if part.tell() > PART_CHARACTERS:
            click.echo(part.getvalue(), nl=False)
            part.seek(0)
            part.truncate()
    click.echo(part.getvalue(), nl=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, (list, tuple, dict)):
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return value


def _print_table(answer: Answer) -> None:
    """As many columns as fit on a terminal, all of them elsewhere."""
    if not answer.columns:
        return
    rows = list(islice(answer.rows, MOST_ROWS + 1))
    more, rows = len(rows) > MOST_ROWS, rows[:MOST_ROWS]
    terminal = sys.stdout.isatty()
    cells = [[_shown(value, MOST_CHARACTERS if terminal else 0) for value in row] for row in rows]
    names = [printable(name) for name in answer.columns]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    console = Console() if terminal else Console(width=sum(widths) + 3 * len(widths) + 1)
    shown = len(widths)
    while shown > 1 and sum(widths[:shown]) + 3 * shown + 1 > console.width:
        shown -= 1
    table = Table(box=box.HEAVY_HEAD if terminal else None)
    for place, name in enumerate(names[:shown]):
        table.add_column(Text(name), justify="right" if _are_numbers(rows, place) else "left", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row[:shown]))
    console.print(table)
    if terminal:
        console.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}", highlight=False)
    if names[shown:]:
        click.echo(f"Not shown, for lack of room: {', '.join(names[shown:])}; --csv has all columns.", err=True)
    if more:
        click.echo(f"These are the first {MOST_ROWS:,} rows; --csv has all, LIMIT fewer.", err=True)


def _are_numbers(rows: Sequence[Sequence[Any]], place: int) -> bool:
    values: Iterator[Any] = (row[place] for row in rows)
    return all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values)


def _shown(value: Any, characters: int) -> str:
    if value is None:
        return NULL
    text = printable(str(round(value, DECIMALS) if isinstance(value, float) else _plain(value)))
    return f"{text[: characters - 1]}…" if characters and len(text) > characters else text
