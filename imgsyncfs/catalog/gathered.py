"""Many rows by column: the database is asked for a thousand rows at a time as one JSON array a column, where it can.

A driver makes a value of each cell by itself, which is most of the time that a listing takes; orjson makes a thousand
of them in one call. PostgreSQL builds such arrays in little more than the time it needs for the rows. Other databases
are asked for rows: what SQL Server would pay for the like has not been measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

import orjson

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.schema import POSTGRESQL

ROWS_AT_ONCE = 1000
ANSWERS_AT_ONCE = 4


def gathered(
    connection: Connection, columns: Sequence[str], source: str, parameters: Sequence[object]
) -> Iterator[Sequence[Sequence[Any]]]:
    """Run a query, and give what it finds in portions, by column.

    Args:
        connection: to the database.
        columns: what to select.
        source: what follows FROM: one table, and a condition.
        parameters: of the condition.

    Returns:
        For each portion the values of each column, all as many and at least one. A text is `str`, or UTF-8 in `bytes`;
        what is no text, number or NULL in the database may come as anything.

    Raises:
        CatalogError: the database cannot be read.
    """
    names = ", ".join(columns)
    if connection.dialect != POSTGRESQL:
        query = f"SELECT {names} FROM {source}"  # noqa: S608  # constant names
        with closing(connection.portions(query, parameters)) as portions:  # type: ignore[type-var]  # a generator
            for portion in portions:
                yield list(zip(*portion, strict=True))
        return
    # All arrays of an answer are of the same rows, and in the same order: each row is given to all of them at once.
    arrays = ", ".join(f"CAST(json_agg({column}) AS TEXT)" for column in columns)
    numbered = f"SELECT {names}, (row_number() OVER () - 1) / {ROWS_AT_ONCE} AS portion FROM {source}"  # noqa: S608
    query = f"SELECT {arrays} FROM ({numbered}) AS numbered GROUP BY portion ORDER BY portion"  # noqa: S608  # likewise
    # A few at a time: each is some hundred kilobytes.
    with closing(connection.portions(query, parameters, most=ANSWERS_AT_ONCE)) as portions:  # type: ignore[type-var]  # likewise
        for row in chain.from_iterable(portions):
            yield [orjson.loads(array) for array in row]
