"""The table of datasets: CSV with the users' own columns, JSON with all, and conditions on it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.values import did_you_mean

COLUMNS = ("dataset_id", "label_version", "image_type", "classes", "projects", "label_type", "size", "note")

MOST_LISTED = 10
"""Values that are listed where none is near."""

_ALIASES = {"class": "classes", "project": "projects"}


def column_values(row: DatasetRow, column: str) -> tuple[str, ...]:
    """The values of a dataset in a column: several in a list-valued one.

    Args:
        row: the dataset.
        column: one of `COLUMNS`, ``source``, ``class`` or ``project``.

    Raises:
        ConfigurationError: there is no such column; the message names near ones.
    """
    name = _ALIASES.get(column, column)
    if name == "source":
        return (row.dataset_id.partition("_")[0],)
    if name not in COLUMNS:
        known = [*COLUMNS, "source"]
        hint = did_you_mean(column, known, otherwise=f"known are {', '.join(known)}.")
        raise ConfigurationError(f"There is no column {column!r}; {hint}")
    value: Any = getattr(row, name)
    return value if isinstance(value, tuple) else (str(value),)


def matching(rows: Iterable[DatasetRow], conditions: Iterable[str]) -> list[DatasetRow]:
    """The datasets that meet every condition.

    Args:
        rows: datasets.
        conditions: each ``COLUMN=VALUE``; a list-valued column matches by any of its values.

    Raises:
        ConfigurationError: a condition is not of that form, or its column is unknown.
    """
    pairs = []
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals:
            raise ConfigurationError(f"{condition!r} is no condition; write COLUMN=VALUE, for example image_type=rgb.")
        column_values(_EMPTY_ROW, column.strip())
        pairs.append((column.strip(), value.strip()))
    return [row for row in rows if all(value in column_values(row, column) for column, value in pairs)]


def near_values(rows: Iterable[DatasetRow], conditions: Iterable[str]) -> list[str]:
    """What is to be said of conditions that no dataset meets: a sentence each, with the values that are near.

    Args:
        rows: all datasets.
        conditions: as for `matching`, which has accepted them.
    """
    hints = []
    rows = list(rows)
    for condition in conditions:
        column, _, value = (part.strip() for part in condition.partition("="))
        known = sorted({each for row in rows for each in column_values(row, column) if each})
        if value not in known:
            listed = f"there are {', '.join(known[:MOST_LISTED])}{', …' if len(known) > MOST_LISTED else ''}."
            hints.append(f"No dataset has {column}={value}; {did_you_mean(value, known, otherwise=listed)}")
    return hints


def shown_fields(row: DatasetRow) -> Mapping[str, str]:
    """The users' columns as text; list values are joined by commas, as in their own table."""
    return {column: ",".join(column_values(row, column)) for column in COLUMNS}


def to_csv(rows: Iterable[DatasetRow]) -> bytes:
    """The users' columns as CSV, UTF-8, lines ended by a newline."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(shown_fields(row) for row in rows)
    return text.getvalue().encode(errors="backslashreplace")


def to_json(rows: Iterable[DatasetRow]) -> bytes:
    """All columns as a JSON array, list values as arrays, indented."""
    return orjson.dumps(list(rows), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


_EMPTY_ROW = DatasetRow("", "", "", (), (), (), 0, "", "", 0, 0)
