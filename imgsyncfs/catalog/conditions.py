"""Conditions on images, and what they are in SQL.

A condition is ``COLUMN OPERATOR VALUE``, for example ``class=person``, ``Gender=Female``, ``objects>3`` or
``date>=2026-01-01``. What stands in the table of datasets is decided there (`imgsyncfs.catalog.dataset_table`); all
else is asked of the database, with parameters.

The SQL is one text for all databases.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imgsyncfs.catalog.dataset_table import COLUMNS, column_values
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import ConfigurationError

CLASS = "class"
"""The column of the classes of objects."""

DATE = "date"

_IMAGE_COLUMNS = {"height": "height", "width": "width", "depth": "depth", "bytes": "byte_count", DATE: "modified_at"}
_ANNOTATION_COLUMNS = {"label_checked": "label_checked", "objects": "object_count"}
NUMBER_COLUMNS = (*_IMAGE_COLUMNS, *_ANNOTATION_COLUMNS)
"""The columns that hold numbers, or a date."""

DATASET_COLUMNS = tuple(name for name in (*COLUMNS, "project", "source") if name not in {"classes", "note", "size"})
"""The columns that are decided in the table of datasets."""

_EQUAL = frozenset({"=", "!="})
_CONDITION = re.compile(r"\s*(?P<column>[^<>=!]*[^<>=!\s])\s*(?P<operator>!=|>=|<=|=|<|>)(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A condition on images.

    Attributes:
        column: one of `NUMBER_COLUMNS` or `DATASET_COLUMNS`, `CLASS`, or the name of a classification.
        operator: ``=``, ``!=``; and ``<``, ``<=``, ``>``, ``>=`` for numbers.
        value: as it was written, without blanks around it.
    """

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.operator}{self.value}"

    @property
    def is_of_dataset(self) -> bool:
        """Whether it holds for all images of a dataset, or for none."""
        return self.column in DATASET_COLUMNS

    @property
    def is_of_labels(self) -> bool:
        """Whether it is about classes or classifications."""
        return not self.is_of_dataset and self.column not in NUMBER_COLUMNS

    @property
    def number(self) -> int:
        """The value as a number; of a date, the Unix time at which it begins (UTC)."""
        if self.column != DATE:
            return int(self.value)
        day = dt.datetime.strptime(self.value, "%Y-%m-%d").replace(tzinfo=dt.timezone.utc)
        return int(day.timestamp())

    def holds_for(self, row: DatasetRow) -> bool:
        """Whether it holds for a dataset; for a condition that is of datasets."""
        return (self.value in column_values(row, self.column)) == (self.operator == "=")


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConfigurationError: it is none; the message says how to write one.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"{text!r} is no condition; write COLUMN=VALUE, for example {CLASS}=person, objects>3 or label_checked=1."
        )
    condition = Condition(match["column"], match["operator"], match["value"].strip())
    if condition.column in NUMBER_COLUMNS:
        try:
            _ = condition.number
        except ValueError:
            kind = "a date such as 2026-01-31" if condition.column == DATE else "a whole number"
            raise ConfigurationError(
                f"{text!r} is no condition: {condition.column} is compared with {kind}; write one behind the "
                f"{condition.operator}."
            ) from None
    elif condition.operator not in _EQUAL:
        raise ConfigurationError(
            f"{text!r} is no condition: only numbers are larger or smaller ({', '.join(NUMBER_COLUMNS)}); "
            "write = or !=."
        )
    return condition


@dataclass(frozen=True)
class ImageQuery:
    """A query for the stems of images, which may give one several times.

    Attributes:
        sql: with a ``?`` for each parameter.
        parameters: their values.
    """

    sql: str
    parameters: tuple[object, ...]


def image_query(row: DatasetRow, conditions: Iterable[Condition]) -> ImageQuery | None:
    """The query for the images of a dataset that meet conditions.

    Args:
        row: the dataset, which meets those that are of datasets.
        conditions: all must hold.

    Returns:
        The query; None if all images of the dataset meet them.
    """
    asked = [each for each in conditions if not each.is_of_dataset]
    if not asked:
        return None
    key = (row.dataset_id, row.label_version)
    labels = [each for each in asked if each.is_of_labels]
    # Few images have a label: those that have the first one are found by an index, and only they are looked at.
    first = next((each for each in labels if each.operator == "="), None)
    sql: list[str] = []
    parameters: list[object] = []
    if first is None:
        sql.append("SELECT chosen.name FROM images chosen")
    else:
        sql.append("SELECT chosen.name FROM annotation_labels chosen")
    where, values = _joined(sql, parameters, asked, row, by_labels=first is not None)
    if first is None:
        where, values = ["chosen.dataset_id = ?", *where], [row.dataset_id, *values]
    else:
        text, label_values = _label("chosen", first)
        where, values = [*_key("chosen"), text, *where], [*key, *label_values, *values]
    for each in labels:
        if each is first:
            continue
        text, label_values = _label("other", each)
        negation = "NOT " if each.operator == "!=" else ""
        where.append(
            f"{negation}EXISTS (SELECT 1 FROM annotation_labels other WHERE {' AND '.join(_key('other'))} "  # noqa: S608  # constant names
            f"AND other.name = chosen.name AND {text})"
        )
        values += [*key, *label_values]
    return ImageQuery(f"{' '.join(sql)} WHERE {' AND '.join(where)}", (*parameters, *values))


def _joined(
    sql: list[str], parameters: list[object], asked: Sequence[Condition], row: DatasetRow, *, by_labels: bool
) -> tuple[list[str], list[object]]:
    """Join the tables that numbers are in; returns the conditions on them, and their values."""
    where: list[str] = []
    values: list[object] = []
    of_images = [each for each in asked if each.column in _IMAGE_COLUMNS]
    of_annotations = [each for each in asked if each.column in _ANNOTATION_COLUMNS]
    image = "chosen"
    if by_labels and of_images:
        image = "image"
        sql.append("JOIN images image ON image.dataset_id = ? AND image.name = chosen.name")
        parameters.append(row.dataset_id)
    if of_annotations:
        # An image without an annotation has no objects, and nobody has checked it.
        sql.append(
            "LEFT JOIN annotations said ON said.dataset_id = ? AND said.label_version = ? AND said.name = chosen.name"
        )
        parameters += [row.dataset_id, row.label_version]
    for each in of_images:
        where.append(f"{image}.{_IMAGE_COLUMNS[each.column]} {_sql_operator(each)} ?")
        values.append(each.number)
    for each in of_annotations:
        where.append(f"COALESCE(said.{_ANNOTATION_COLUMNS[each.column]}, 0) {_sql_operator(each)} ?")
        values.append(each.number)
    return where, values


def _key(table: str) -> list[str]:
    return [f"{table}.dataset_id = ?", f"{table}.label_version = ?"]


def _label(table: str, condition: Condition) -> tuple[str, list[object]]:
    """What a label must be like, and the values in that."""
    is_class = condition.column == CLASS
    count = "> 0" if is_class else "= 0"
    text = f"{table}.label_name = ? AND {table}.label_value = ? AND {table}.object_count {count}"
    return text, ["" if is_class else condition.column, condition.value]


def _sql_operator(condition: Condition) -> str:
    return "<>" if condition.operator == "!=" else condition.operator
