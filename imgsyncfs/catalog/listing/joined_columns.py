"""Many columns end to end in one: how they are saved, and handed from one process to another.

Each column begins at a multiple of 64 bytes; one that is repeated (`imgsyncfs.catalog.listing.columns`) is there once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imgsyncfs.catalog.listing.columns import Column, is_repeated

ALIGNMENT = 64


def join_columns(columns: Mapping[str, Column]) -> tuple[dict[str, dict[str, Any]], Column]:
    """Put columns end to end.

    Args:
        columns: by name, shape (n,) each.

    Returns:
        (where each lies, for JSON; all of them, uint8)
    """
    places: dict[str, dict[str, Any]] = {}
    parts: list[Column] = []
    length = 0
    for name, column in columns.items():
        repeated = is_repeated(column)
        stored = np.ascontiguousarray(column[:1] if repeated else column).view(np.uint8).reshape(-1)
        padding = -length % ALIGNMENT
        parts += [np.zeros(padding, np.uint8), stored]
        length += padding
        places[name] = {
            "offset": length,
            "dtype": column.dtype.newbyteorder("<").str,
            "count": len(column),
            "repeated": repeated,
        }
        length += stored.nbytes
    return places, np.concatenate(parts)


def take_column(joined: Column, place: Mapping[str, Any]) -> Column:
    """One of the columns, sharing memory with all of them.

    Args:
        joined: what `join_columns` put end to end.
        place: what it said of the column.

    Raises:
        ValueError: there is no such place; and `KeyError` or `TypeError` where it is none at all.
    """
    count = int(place["count"])
    stored = min(count, 1) if place["repeated"] else count
    column = np.frombuffer(joined, dtype=np.dtype(place["dtype"]), count=stored, offset=int(place["offset"]))
    # Little-endian types have the machine's own name on every machine that there is.
    column = column.astype(column.dtype.newbyteorder("="), copy=False)
    return np.broadcast_to(column, (count,)) if place["repeated"] else column
