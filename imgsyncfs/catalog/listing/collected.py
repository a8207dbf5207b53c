"""The rows of one kind, images or annotations, collected in columns as they come from the catalog.

Faults of single rows are found here; faults of several (a name that is there twice, an annotation without its image)
where images and annotations are joined, in `imgsyncfs.catalog.listing.build`.
"""

from __future__ import annotations

import binascii
import json
import operator
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from imgsyncfs.catalog.listing.blob_names import blob_templates
from imgsyncfs.catalog.listing.columns import Column, TextTable, compact, join_columns, take_column
from imgsyncfs.catalog.listing.row_faults import Hidden, have_no_fault, sift_annotations, sift_images
from imgsyncfs.catalog.listing.table import ANNOTATION_EXT
from imgsyncfs.catalog.listing.typed_columns import SEPARATOR, Texts, TypedColumns, typed_columns
from imgsyncfs.catalog.row_values import (
    INTEGER_COLUMNS,
    LISTED_ANNOTATION_COLUMNS,
    LISTED_IMAGE_COLUMNS,
    decoded,
)
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow, Portion

Row = TypeVar("Row", ImageRow, AnnotationRow)

_NUMBERED_TEXTS = ("ext", "blob", "etag")
_NO_DIGEST = b"0" * 32
_HALF = np.dtype(">u8")
_LENGTH = struct.Struct("<Q")


_Sift: TypeAlias = "Callable[[Sequence[Row]], tuple[list[Row], Hidden]]"


@dataclass(frozen=True)
class CollectedRows:
    """Rows of one kind that can each be shown, in the order in which they came.

    Attributes:
        names: the stems.
        ascending: whether each name is above the one before it, by bytes.
        columns: name to column, shape (rows,): the numbers; ``md5_upper`` and ``md5_lower``; and for ``ext`` (images
            only), ``blob`` (templates) and ``etag`` the place of each row's text in `texts`.
        texts: name to the texts, each once, in the order in which they came first.
        hidden: (file name, reason) of the rows that cannot be shown.
    """

    names: TextTable
    ascending: bool
    columns: dict[str, Column]
    texts: dict[str, TextTable]
    hidden: Hidden

    def __len__(self) -> int:
        return len(self.names)

    def to_bytes(self) -> bytes:
        """For another process; see `from_bytes`."""
        arrays = {f"column {name}": column for name, column in self.columns.items()}
        for name, table in {"names": self.names, **self.texts}.items():
            arrays |= {f"content {name}": table.content, f"ends {name}": table.ends}
        places, joined = join_columns(arrays)
        # ASCII: a hidden name need not be valid UTF-8.
        facts = json.dumps([self.ascending, self.hidden, places], ensure_ascii=True).encode()
        return b"".join((_LENGTH.pack(len(facts)), facts, joined.data))

    @classmethod
    def from_bytes(cls, content: bytes) -> CollectedRows:
        """Back from `to_bytes`."""
        (length,) = _LENGTH.unpack_from(content)
        ascending, hidden, places = json.loads(content[_LENGTH.size : _LENGTH.size + length])
        joined = np.frombuffer(content, np.uint8, offset=_LENGTH.size + length)
        columns, tables = {}, {}
        for place in places:
            kind, _, name = place.partition(" ")
            if kind == "column":
                columns[name] = take_column(joined, places[place])
            elif kind == "content":
                ends = take_column(joined, places[f"ends {name}"])
                tables[name] = TextTable(take_column(joined, places[place]), ends)
        names = tables.pop("names")
        return cls(names, ascending, columns, tables, [(name, reason) for name, reason in hidden])


def collect_images(portions: Iterable[Portion[ImageRow]]) -> CollectedRows:
    """Collect a dataset's images.

    Raises:
        CatalogError: the catalog cannot be read.
    """
    return _collect(portions, _Collector(LISTED_IMAGE_COLUMNS, sift_images))


def collect_annotations(portions: Iterable[Portion[AnnotationRow]]) -> CollectedRows:
    """Collect a dataset's annotations; see `collect_images`."""
    return _collect(portions, _Collector(LISTED_ANNOTATION_COLUMNS, sift_annotations))


def _collect(portions: Iterable[Portion[Row]], collector: _Collector[Row]) -> CollectedRows:
    for portion in portions:
        collector.add(portion)
    return collector.collected()


class _Collector(Generic[Row]):
    """Collects portions.

    Args:
        columns: those that a listing is made of.
        sift: tells good rows from others one by one, where a portion is not surely without fault.
    """

    def __init__(self, columns: tuple[str, ...], sift: _Sift[Row]) -> None:
        self._columns = columns
        self._sift: _Sift[Row] = sift
        self._values = attrgetter(*columns)
        self._names: list[bytes] = []
        self._lengths: list[Column] = []
        self._ascending = True
        self._last = b""
        self._numbers: dict[str, list[Column]] = {name: [] for name in columns if name in INTEGER_COLUMNS}
        self._digests: list[bytes] = []
        self._places: dict[str, list[Column]] = {name: [] for name in _NUMBERED_TEXTS if name in columns}
        self._texts: dict[str, dict[bytes, int]] = {name: {} for name in self._places}
        self._hidden: Hidden = []

    def add(self, portion: Portion[Row]) -> None:
        """Take in a portion."""
        columns = typed_columns(portion.columns, portion.values)
        if columns is None or not have_no_fault(columns):
            rows, unreadable = portion.rows()
            self._hidden += [(self._file_name(values), f"{reason}; correct it") for values, reason in unreadable]
            rows, hidden = self._sift(rows)
            self._hidden += hidden
            if not rows:
                return
            columns = self._columns_of(rows)
        self._take(columns)

    def collected(self) -> CollectedRows:
        """All that was taken in."""
        digests = np.frombuffer(b"".join(self._digests), _HALF).reshape(-1, 2).astype(np.uint64)
        columns = {name: _joined(parts) for name, parts in self._numbers.items()}
        columns |= {name: _joined(parts) for name, parts in self._places.items()}
        columns |= {"md5_upper": digests[:, 0], "md5_lower": digests[:, 1]}
        content = np.frombuffer(b"".join(self._names), np.uint8)
        names = TextTable(content, compact(np.cumsum(_joined(self._lengths))))
        texts = {name: TextTable.of(list(texts)) for name, texts in self._texts.items()}
        return CollectedRows(names, self._ascending, columns, texts, self._hidden)

    def _file_name(self, values: Sequence[object]) -> str:
        """What a file of a row would be called, whatever stands there."""
        texts = dict(zip(self._columns, decoded(values), strict=True))
        return f"{texts['name']}.{texts.get('ext', ANNOTATION_EXT)}"

    def _columns_of(self, rows: Sequence[Row]) -> TypedColumns:
        """Rows that have been looked at one by one; unlike elsewhere an etag of theirs may hold a NUL."""
        numbers, texts = {}, {}
        for name, values in zip(self._columns, zip(*map(self._values, rows), strict=True), strict=True):
            if name in INTEGER_COLUMNS:
                numbers[name] = np.array(values, np.int64)
            else:
                encoded = [value.encode() for value in values]
                texts[name] = Texts(encoded, SEPARATOR.join(encoded))
        return TypedColumns(len(rows), numbers, texts)

    def _take(self, columns: TypedColumns) -> None:
        names, digests = columns.texts["name"].values, columns.texts["md5"]
        self._ascending &= self._last < names[0] and all(map(operator.lt, names, islice(names, 1, None)))
        self._last = names[-1]
        self._names.append(columns.texts["name"].end_to_end())
        self._lengths.append(columns.texts["name"].lengths)
        for name, values in columns.numbers.items():
            self._numbers[name].append(values)
        self._digests.append(_digests(digests))
        for name in self._places:
            texts = columns.texts[name].values
            self._number(name, blob_templates(texts, names, digests.values) if name == "blob" else texts)

    def _number(self, name: str, texts: Sequence[bytes]) -> None:
        known = self._texts[name]
        # Where one text follows the same text, it is looked up once.
        differs = np.fromiter(map(operator.ne, texts, islice(texts, 1, None)), np.bool_, len(texts) - 1)
        starts = np.concatenate(([0], np.flatnonzero(differs) + 1))
        places = [known.setdefault(texts[start], len(known)) for start in starts.tolist()]
        self._places[name].append(np.repeat(np.array(places), np.diff(starts, append=len(texts))))


def _digests(digests: Texts) -> bytes:
    """Digests of 16 bytes, of 32 hexadecimal digits each; zeros where there are none."""
    if len(digests.joined) == len(digests.values) * (len(_NO_DIGEST) + len(SEPARATOR)) - len(SEPARATOR):
        return binascii.unhexlify(digests.end_to_end())
    return binascii.unhexlify(b"".join([digest or _NO_DIGEST for digest in digests.values]))


def _joined(parts: list[Column]) -> Column:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
