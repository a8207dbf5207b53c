"""Rows as they come from a database, made into the values that `imgsyncfs.catalog.rows` promises.

Rows may have been written by hand: NULL stands for a text or number that is not known, a digest may be in capitals,
and SQLite lets any value stand in any column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, OrientationRow, SplitRow, SubscriptionRow
from imgsyncfs.catalog.schema import (
    ANNOTATION_COLUMNS,
    DATASET_COLUMNS,
    IMAGE_COLUMNS,
    INTEGER_COLUMNS,
    ORIENTATION_COLUMNS,
    SPLIT_COLUMNS,
    SUBSCRIPTION_COLUMNS,
)

LISTED_IMAGE_COLUMNS = tuple(column for column in IMAGE_COLUMNS if column != "position")
LISTED_ANNOTATION_COLUMNS = ANNOTATION_COLUMNS
"""What a listing is made of. The order of the images is that of their names."""

_DATASET_TYPES, _IMAGE_TYPES, _ANNOTATION_TYPES, _ORIENTATION_TYPES, _SPLIT_TYPES = (
    tuple(int if column in INTEGER_COLUMNS else str for column in columns)
    for columns in (DATASET_COLUMNS, IMAGE_COLUMNS, ANNOTATION_COLUMNS, ORIENTATION_COLUMNS, SPLIT_COLUMNS)
)
_IMAGE_MD5 = IMAGE_COLUMNS.index("md5")
_ANNOTATION_MD5 = ANNOTATION_COLUMNS.index("md5")
STORE_PLACE = DATASET_COLUMNS.index("store")
_POSITION = IMAGE_COLUMNS.index("position")
_LISTS = tuple(DATASET_COLUMNS.index(column) for column in ("classes", "projects", "label_type"))

_TEXTS = tuple(place for place, column in enumerate(DATASET_COLUMNS) if column not in INTEGER_COLUMNS)
_FREE_TEXTS = frozenset({"image_type", "classes", "projects", "label_type", "note"})
"""Texts for people: a dataset whose note cannot be read is a dataset all the same."""

LARGEST = 2**63 - 1

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What stands in a text where bytes were not valid UTF-8."""


def is_utf8(text: str) -> bool:
    """Whether a text that came from a database was valid UTF-8 there."""
    return text.isascii() or not _SURROGATE.search(text)


def decoded(values: Sequence[Any]) -> tuple[Any, ...]:
    """A row whose texts came as `bytes`, with `str` in their place; bytes that are no UTF-8 become surrogates."""
    return tuple(value.decode(errors="surrogateescape") if isinstance(value, bytes) else value for value in values)


def dataset_values(row: DatasetRow) -> tuple[str | int, ...]:
    """A dataset as the database holds it: lists joined by commas.

    Raises:
        ValueError: an item of a list has a comma in it.
    """
    values: list[Any] = [getattr(row, column) for column in DATASET_COLUMNS]
    for position in _LISTS:
        for item in values[position]:
            if "," in item:
                column = DATASET_COLUMNS[position]
                raise ValueError(f"{item!r} in the column {column} holds a comma, which separates values there")
        values[position] = ",".join(values[position])
    return tuple(values)


def read_dataset_values(values: Sequence[Any]) -> tuple[Any, ...]:
    """A dataset's row with every value of the type its column has; see `dataset_values`.

    Raises:
        ValueError: a value that should be a number is none.
    """
    return _tidied(values, _DATASET_TYPES, DATASET_COLUMNS)


def dataset_row(values: Sequence[Any], default_store: str) -> tuple[DatasetRow, str]:
    """Make a dataset of what `read_dataset_values` gave.

    Args:
        values: in the order of DATASET_COLUMNS.
        default_store: for a dataset that names no store.

    Returns:
        The dataset, and what is amiss with it all the same; mostly ``""``.

    Raises:
        ValueError: a number is below 0 or has more than 64 bits, or a text that must be exact is not valid UTF-8.
    """
    parts = list(values)
    _check_numbers(parts, DATASET_COLUMNS)
    odd = [] if is_utf8("".join(map(str, values))) else [place for place in _TEXTS if not is_utf8(values[place])]
    for place in odd:
        if DATASET_COLUMNS[place] not in _FREE_TEXTS:
            raise ValueError(f"{DATASET_COLUMNS[place]} is not valid UTF-8")
        parts[place] = _SURROGATE.sub("\ufffd", parts[place])
    for place in _LISTS:
        parts[place] = _items(parts[place])
    parts[STORE_PLACE] = parts[STORE_PLACE] or default_store
    columns = ", ".join(DATASET_COLUMNS[place] for place in odd)
    return DatasetRow(*parts), f"{columns} is not valid UTF-8" if odd else ""


@lru_cache(1024)  # thousands of datasets have the same few lists
def _items(text: str) -> tuple[str, ...]:
    return tuple(item for part in text.split(",") if (item := part.strip()))


def image_row(values: Sequence[Any]) -> ImageRow:
    """Make an image of a row in the order of IMAGE_COLUMNS.

    Raises:
        ValueError: a value that should be a number is none.
    """
    return ImageRow(*_tidied(values, _IMAGE_TYPES, IMAGE_COLUMNS, _IMAGE_MD5))


def listed_image_row(values: Sequence[Any]) -> ImageRow:
    """Make an image of a row in the order of LISTED_IMAGE_COLUMNS; its position is 0. See `image_row`."""
    return image_row((*values[:_POSITION], 0, *values[_POSITION:]))


def annotation_row(values: Sequence[Any]) -> AnnotationRow:
    """Make an annotation of a row in the order of ANNOTATION_COLUMNS.

    Raises:
        ValueError: a value that should be a number is none.
    """
    return AnnotationRow(*_tidied(values, _ANNOTATION_TYPES, ANNOTATION_COLUMNS, _ANNOTATION_MD5))


def orientation_row(values: Sequence[Any]) -> OrientationRow:
    """Make an image's orientation of a row in the order of ORIENTATION_COLUMNS.

    Raises:
        ValueError: the orientation is no number.
    """
    return OrientationRow(*_tidied(values, _ORIENTATION_TYPES, ORIENTATION_COLUMNS))


def split_row(values: Sequence[Any]) -> SplitRow:
    """Make a split rule of a row in the order of SPLIT_COLUMNS.

    Raises:
        ValueError: the dataset's id is not valid UTF-8: it is no dataset's.
    """
    row = SplitRow(*_tidied(values, _SPLIT_TYPES, SPLIT_COLUMNS))
    if not is_utf8(row.dataset_id):
        raise ValueError("the dataset's id is not valid UTF-8")
    if not is_utf8(row.weights + row.group_by):
        # Stays a rule that cannot be used.
        return SplitRow(row.dataset_id, "not valid UTF-8", "")
    return row


def subscription_values(row: SubscriptionRow) -> tuple[str | int, ...]:
    """A subscription as the database holds it: lists as JSON, since conditions may hold commas."""
    return row.name, _listed(row.dataset_ids), _listed(row.conditions), row.updated_at


def subscription_row(values: Sequence[Any]) -> SubscriptionRow:
    """Make a subscription of a row in the order of SUBSCRIPTION_COLUMNS.

    Raises:
        ValueError: a list is no JSON array of texts, the time is no number, or a text is not valid UTF-8.
    """
    name, dataset_ids, conditions, updated_at = values
    row = SubscriptionRow(_text(name), _texts(dataset_ids), _texts(conditions), _integer(updated_at, "updated_at"))
    _check_numbers(values, SUBSCRIPTION_COLUMNS)
    if not is_utf8("".join((row.name, *row.dataset_ids, *row.conditions))):
        raise ValueError("it holds text that is not valid UTF-8")
    return row


def _listed(texts: Sequence[str]) -> str:
    return orjson.dumps(texts).decode()


def _texts(value: Any) -> tuple[str, ...]:
    texts = orjson.loads(value or "[]")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{value!r} is no JSON array of texts")
    return tuple(texts)


def _check_numbers(values: Sequence[Any], columns: tuple[str, ...]) -> None:
    for value, column in zip(values, columns, strict=True):
        if isinstance(value, int) and not 0 <= value <= LARGEST:
            raise ValueError(f"{column} is {value}, which is below 0 or has more than 64 bits")


def _tidied(
    values: Sequence[Any], types: tuple[type, ...], columns: tuple[str, ...], md5: int | None = None
) -> tuple[Any, ...]:
    """Values of the types of their columns; `md5` is the place of the digest, which gets small letters."""
    if tuple(map(type, values)) != types:
        values = [
            _integer(value, column) if wanted is int else _text(value)
            for value, wanted, column in zip(values, types, columns, strict=True)
        ]
    if md5 is not None and values[md5] != values[md5].lower():
        values = [*values[:md5], values[md5].lower(), *values[md5 + 1 :]]
    return tuple(values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _integer(value: Any, column: str) -> int:
    if value is None:
        return 0
    try:
        number = int(value)
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"{column} is {value!r}, which is no number") from None
    return number
