"""Portions of rows turned into columns of one type each, where every value has its column's type.

Whatever is done to a column is done by one call for all of it: a loop over a million rows costs a second for each
step in it.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imgsyncfs.catalog.listing.columns import Column
from imgsyncfs.catalog.row_values import INTEGER_COLUMNS

SEPARATOR = b"\0"
"""Stands between joined texts: no file name can hold it."""


@dataclass(frozen=True)
class Texts:
    """A column of texts.

    Attributes:
        values: each in UTF-8, without a NUL.
        joined: all of them with a NUL between each two.
    """

    values: Sequence[bytes]
    joined: bytes

    @cached_property
    def lengths(self) -> Column:
        """The length of each, in bytes."""
        return np.fromiter(map(len, self.values), np.int64, len(self.values))

    def end_to_end(self) -> bytes:
        """All of them with nothing between."""
        return self.joined.replace(SEPARATOR, b"")


@dataclass(frozen=True)
class TypedColumns:
    """Some rows as columns.

    Attributes:
        count: number of rows, 1 or more.
        numbers: name to int64, shape (count,).
        texts: name to texts.
    """

    count: int
    numbers: Mapping[str, Column]
    texts: Mapping[str, Texts]


def typed_columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> TypedColumns | None:
    """Turn rows into columns.

    Args:
        names: of the columns.
        rows: one or more; a text is `str`, or `bytes` in UTF-8. None stands for 0 or an empty text.

    Returns:
        The columns; None if a value is not of its column's type, or a text is no UTF-8 or holds a NUL character.
    """
    numbers: dict[str, Column] = {}
    texts: dict[str, Texts] = {}
    try:
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            if name in INTEGER_COLUMNS:
                numbers[name] = _numbers(values)
            else:
                texts[name] = _texts(values)
    except (TypeError, ValueError, OverflowError):
        return None
    return TypedColumns(len(rows), numbers, texts)


def _numbers(values: Sequence[Any]) -> Column:
    """A column of numbers.

    Raises:
        TypeError: one is no integer.
        OverflowError: one has more than 64 bits.
    """
    # An array takes integers alone; numpy would take 1.5 and "1", too.
    try:
        numbers = array("q", values)
    except TypeError:
        numbers = array("q", [0 if value is None else value for value in values])
    return np.frombuffer(numbers, np.int64)


def _texts(values: Sequence[Any]) -> Texts:
    """A column of texts.

    Raises:
        TypeError: not all are text of the same kind.
        ValueError: one is no UTF-8, or holds a NUL.
    """
    try:
        return _joined(values)
    except TypeError:
        kind = next((type(value) for value in values if value is not None), bytes)
        return _joined([kind() if value is None else value for value in values])


def _joined(values: Sequence[Any]) -> Texts:
    if isinstance(values[0], str):
        joined = "\0".join(values).encode()
        texts: Sequence[bytes] = joined.split(SEPARATOR)
    else:
        joined = SEPARATOR.join(values)
        if not joined.isascii():
            joined.decode()
        texts = values
    if joined.count(SEPARATOR) != len(values) - 1:
        raise ValueError("a text holds a NUL")
    return Texts(texts, joined)
