"""Statements that write many rows at once, in the way that is quickest for each database.

Through psqlODBC, 13 columns each, from the same machine: 6,500 rows a second one by one, 33,000 with
``VALUES (…), (…)``, 100,000 with an array a column. SQL Server parses a statement with two thousand parameters longer
than it writes its rows; it takes them as one JSON text (OPENJSON, SQL Server 2016 and newer).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.row_values import LARGEST
from imgsyncfs.catalog.schema import INTEGER_COLUMNS, POSTGRESQL, SQL_SERVER
from imgsyncfs.errors import CatalogError

PARAMETERS_AT_ONCE = 900
"""Older SQLite takes 999 parameters in a statement, SQL Server 2,100."""

NAMES_AT_ONCE = 200

ROWS_AT_ONCE = 5000
"""Rows in one statement that takes them as arrays or JSON: about a megabyte."""

OPENJSON_LEVEL = 130
"""Compatibility level of a database of SQL Server from which on it knows OPENJSON."""

Row = Sequence[Any]


@dataclass(frozen=True)
class _Way:
    """How several rows are handed to a database.

    Attributes:
        most: rows in one statement.
        statement: the statement for so many rows.
        parameters: those of the statement for some rows.
    """

    most: int
    statement: Callable[[int], str]
    parameters: Callable[[Sequence[Row]], Sequence[Any]]


def insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a few new rows, each with a value for every column, in one statement."""
    way = _values(table, columns)
    connection.execute(way.statement(len(rows)), way.parameters(rows))


def insert_all(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write any number of new rows, in a transaction of the caller's.

    Args:
        connection: to the database.
        table: its name.
        columns: of the table.
        rows: a value for every column, a text or a whole number.
        progress: is told how many more were written.
    """
    remaining = iter(rows)
    way = _values(table, columns)
    first = list(islice(remaining, way.most + 1))
    if len(first) > way.most:
        way = _quickest(connection, table, columns)
    remaining = chain(first, remaining)
    while some := list(islice(remaining, way.most)):
        connection.execute(way.statement(len(some)), way.parameters(some))
        progress(len(some))


def portions(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of so many items, the last one with what is left."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _quickest(connection: Connection, table: str, columns: Sequence[str]) -> _Way:
    if connection.dialect == POSTGRESQL:
        return _arrays(table, columns)
    if connection.dialect == SQL_SERVER and _knows_openjson(connection):
        return _json(table, columns)
    return _values(table, columns)


def _knows_openjson(connection: Connection) -> bool:
    levels = connection.rows("SELECT compatibility_level FROM sys.databases WHERE name = DB_NAME()")
    return any(level >= OPENJSON_LEVEL for (level,) in list(levels))


def _values(table: str, columns: Sequence[str]) -> _Way:
    """A parameter for each value; every database knows it."""
    marks = f"({', '.join('?' * len(columns))})"
    start = _insert_into(table, columns)
    return _Way(
        max(1, PARAMETERS_AT_ONCE // len(columns)),
        lambda count: f"{start} VALUES {', '.join([marks] * count)}",
        lambda rows: [value for row in rows for value in row],
    )


def _arrays(table: str, columns: Sequence[str]) -> _Way:
    """A parameter for each column: PostgreSQL's text for an array (manual, "Array Input and Output Syntax")."""
    types = ("BIGINT" if column in INTEGER_COLUMNS else "TEXT" for column in columns)
    arrays = ", ".join(f"unnest(CAST(? AS {each}[]))" for each in types)
    statement = f"{_insert_into(table, columns)} SELECT {arrays}"
    return _Way(ROWS_AT_ONCE, lambda _: statement, lambda rows: [_array(column) for column in zip(*rows, strict=True)])


def _array(column: Sequence[Any]) -> str:
    return "{" + ",".join(map(_element, column)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _json(table: str, columns: Sequence[str]) -> _Way:
    """One parameter: JSON (Microsoft's documentation of OPENJSON, "OPENJSON with an explicit schema")."""
    # Sizes beyond the columns' own: what is too long is to be refused, and OPENJSON would cut it off.
    fields = ", ".join(
        f"{column} {'BIGINT' if column in INTEGER_COLUMNS else 'NVARCHAR(MAX)'} '$[{place}]'"
        for place, column in enumerate(columns)
    )
    # Drivers send long texts as NTEXT, which OPENJSON does not take.
    source = f"OPENJSON(CAST(? AS NVARCHAR(MAX))) WITH ({fields})"
    statement = f"{_insert_into(table, columns)} SELECT {', '.join(columns)} FROM {source}"  # noqa: S608  # constant names
    return _Way(
        ROWS_AT_ONCE,
        lambda _: statement,
        _json_parameters,
    )


def _json_parameters(rows: Sequence[Row]) -> list[str]:
    for number in chain.from_iterable(rows):
        if isinstance(number, int) and abs(number) > LARGEST:
            # OPENJSON would take it for NULL.
            raise CatalogError(f"A catalog cannot hold the number {number}, which has more than 64 bits; correct it.")
    return [json.dumps(list(map(list, rows)), ensure_ascii=False, separators=(",", ":"))]


def _insert_into(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)})"
