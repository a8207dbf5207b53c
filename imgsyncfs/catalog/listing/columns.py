"""Columns of a listing: whole numbers in as few bytes as they need, and tables of texts.

A column is a one-dimensional numpy array of unsigned integers. A column of one repeated value takes no memory: it is
one element with a stride of 0. Single values are read through a `memoryview`, which gives Python's own integers, ten
times as fast as numpy's.

To be saved, or passed to another process, columns are joined in one (`join_columns`). Each begins at a multiple of 64
bytes there; a repeated value is there once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


def compact(values: Column) -> Column:
    """Put whole numbers from 0 up into the smallest type that holds them.

    Args:
        values: any integer type, shape (n,), none below 0.

    Returns:
        The same values, read-only: uint8, uint16, uint32 or uint64; repeated by a stride of 0 if all are the same.
    """
    highest = int(values.max()) if len(values) else 0
    small = np.ascontiguousarray(values, dtype=np.min_scalar_type(highest))
    if len(small) > 1 and bool((small == small[0]).all()):
        return np.broadcast_to(small[:1].copy(), small.shape)
    small.flags.writeable = False
    return small


def is_repeated(values: Column) -> bool:
    """Whether a column is one element, repeated."""
    return len(values) > 1 and values.strides == (0,)


def stored_bytes(values: Column) -> int:
    """The size of a column in bytes."""
    return values.itemsize if is_repeated(values) else values.nbytes


SIGNPOST_DISTANCE = 64
"""Every 64th text is kept as an object for searching: 1.5 bytes a text, and a search takes half the time."""


class TextTable:
    """Texts end to end in one buffer.

    Args:
        content: all texts in UTF-8, uint8, shape (bytes,).
        ends: where each text ends, shape (n,).
    """

    def __init__(self, content: Column, ends: Column) -> None:
        self.content = content
        self.ends = ends
        self._content = content.data
        self._ends = ends.data
        self._found_last = (b"", -1)

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> TextTable:
        """Make a table of texts."""
        content = np.frombuffer(b"".join(texts), dtype=np.uint8)
        return cls(content, compact(np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        start = self._ends[index - 1] if index else 0
        return bytes(self._content[start : self._ends[index]])

    def texts(self, indices: Column | None = None) -> list[bytes]:
        """Many texts at once: those at `indices`, or all."""
        content = self.content.tobytes()
        starts, ends = self._bounds()
        if indices is not None:
            starts, ends = starts[indices], ends[indices]
        return [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def _bounds(self) -> tuple[Column, Column]:
        """Where each text begins and ends."""
        ends = self.ends.astype(np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if len(ends) else ends
        return starts, ends

    def between(self, start: int, stop: int) -> list[bytes]:
        """The texts from one index up to another, which may lie beyond the end."""
        ends: list[int] = self._ends[start:stop].tolist()
        if not ends:
            return []
        begin = self._ends[start - 1] if start else 0
        content = bytes(self._content[begin : ends[-1]])
        return [content[low - begin : high - begin] for low, high in pairwise([begin, *ends])]

    def first_from(self, text: bytes) -> int:
        """Where the first text stands that is not below `text`, in a table that is sorted by bytes.

        Its length if there is none.
        """
        return bisect_left(range(len(self)), text, key=self.__getitem__)

    def find(self, text: bytes) -> int:
        """Where a text stands in a table that is sorted by bytes; -1 if it does not.

        The one found last, and the one after it, are tried first: whoever goes through a directory comes in order.
        """
        last, index = self._found_last
        if text == last:
            return index
        index += 1
        if index >= len(self._ends) or self[index] != text:
            index = self._search(text)
        if index >= 0:
            self._found_last = (text, index)
        return index

    def _search(self, text: bytes) -> int:
        low = max(0, bisect_right(self._signposts, text) - 1) * SIGNPOST_DISTANCE
        content, ends = self._content, self._ends
        high = min(low + SIGNPOST_DISTANCE, len(ends))
        while low < high:
            middle = (low + high) // 2
            found = bytes(content[ends[middle - 1] if middle else 0 : ends[middle]])
            if found < text:
                low = middle + 1
            elif found == text:
                return middle
            else:
                high = middle
        return -1

    @cached_property
    def _signposts(self) -> list[bytes]:
        return [self[index] for index in range(0, len(self), SIGNPOST_DISTANCE)]

    def longer_than(self, byte_count: int) -> list[int]:
        """The indices of all texts of more bytes."""
        starts, ends = self._bounds()
        indices: list[int] = np.flatnonzero(ends - starts > byte_count).tolist()
        return indices

    def ending_in(self, suffix: bytes) -> list[int]:
        """The indices of all texts that end in `suffix`, for a suffix that is not empty."""
        starts, ends = self._bounds()
        chosen = np.flatnonzero(ends - starts >= len(suffix))
        for position, byte in enumerate(reversed(suffix)):
            chosen = chosen[self.content[ends[chosen] - 1 - position] == byte]
        indices: list[int] = chosen.tolist()
        return indices

    def equals(self, other: TextTable) -> bool:
        """Whether both hold the same texts in the same order."""
        return np.array_equal(self.content, other.content) and np.array_equal(self.ends, other.ends)


def first_seen(ids: Column) -> tuple[Column, Column]:
    """Number ids anew in the order in which they first appear, leaving out those that don't.

    Args:
        ids: whole numbers, shape (n,).

    Returns:
        (the new ids, shape (n,); the old id of each new one)
    """
    # Numbered so already? Then each is at most one above all before it.
    highest = np.maximum.accumulate(ids)
    if len(ids) and highest[0] == 0 and bool((np.diff(highest) <= 1).all()):
        return ids, np.arange(int(highest[-1]) + 1)
    used, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse], used[order]


def join_digests(upper: Column, lower: Column) -> list[str]:
    """MD5 digests in hexadecimal.

    Args:
        upper: their upper halves, uint64.
        lower: their lower halves.

    Returns:
        32 digits each; ``""`` for 0, which stands for one that is not known.
    """
    text = np.stack((upper, lower), axis=1).astype(">u8").tobytes().hex()
    digests = (text[start : start + 32] for start in range(0, len(text), 32))
    return ["" if digest == _NO_DIGEST else digest for digest in digests]


_NO_DIGEST = "0" * 32


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
