"""Rows of a query in portions, as the driver gives them.

A listing is built from whole columns of them. An object a row is made only where a portion holds something odd: a
million objects would take longer than the database does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from imgsyncfs.catalog.rows import AnnotationRow, ImageRow

Row = TypeVar("Row", ImageRow, AnnotationRow)


@dataclass(frozen=True)
class Portion(Generic[Row]):
    """Some rows of one table.

    Attributes:
        columns: names of the columns.
        values: the rows, one or more, each in the order of `columns`. A text may be `str` or UTF-8 in `bytes`; anything
            else may stand there too, None for one.
        make: makes a row of its values; raises `ValueError` if they make none.
    """

    columns: tuple[str, ...]
    values: Sequence[Sequence[Any]]
    make: Callable[[Sequence[Any]], Row]

    def rows(self) -> tuple[list[Row], list[tuple[Sequence[Any], str]]]:
        """The rows as objects, and (values, reason) of those that make none."""
        rows, unreadable = [], []
        for values in self.values:
            try:
                rows.append(self.make(values))
            except ValueError as error:
                unreadable.append((values, str(error)))
        return rows, unreadable
