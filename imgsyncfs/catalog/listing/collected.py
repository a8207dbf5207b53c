"""The rows of one kind, images or annotations, collected in columns as they come from the catalog.

Portions of rows become columns of one type each. Whatever is done to a column is done by one call for all of it: a
loop over a million rows costs a second for each step in it. Most portions have no fault at all: that is seen from whole
columns, and no row is looked at by itself.

Faults of single rows are found here; faults of several (a name that is there twice, an annotation without its image)
where images and annotations are joined, in `imgsyncfs.catalog.listing.build`.
"""

from __future__ import annotations

import binascii
import json
import operator
import re
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, Generic, TypeVar

import numpy as np

from imgsyncfs.catalog.listing.columns import Column, TextTable, compact, join_columns, take_column
from imgsyncfs.catalog.listing.files import blob_templates
from imgsyncfs.catalog.listing.table import ANNOTATION_EXT
from imgsyncfs.catalog.naming import LONGEST_FILE_NAME_BYTES, file_name_fault
from imgsyncfs.catalog.row_values import LARGEST, LISTED_ANNOTATION_COLUMNS, LISTED_IMAGE_COLUMNS, decoded, is_utf8
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow, Portion
from imgsyncfs.catalog.schema import INTEGER_COLUMNS

Row = TypeVar("Row", ImageRow, AnnotationRow)

Hidden = list[tuple[str, str]]

TWICE = "there is another row of this name; delete one"
NO_IMAGE = "there is no image of this name that can be shown; delete the row, or publish the image"

_SEPARATOR = b"\0"
"""Stands between joined texts: no file name can hold it."""

_NUMBERED_TEXTS = ("ext", "blob", "etag")
_NOT_NEGATIVE = ("byte_count", "blob_offset", "height", "width", "depth")
_NO_DIGEST = b"0" * 32
_DIGEST = re.compile(r"(?:[0-9a-f]{32})?")
_DIGEST_LENGTHS = frozenset({0, 32})
_DIGITS_AND_SEPARATOR = b"0123456789abcdef\0"
_HALF = np.dtype(">u8")
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class _Texts:
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
        return self.joined.replace(_SEPARATOR, b"")


@dataclass(frozen=True)
class _TypedColumns:
    """Some rows as columns.

    Attributes:
        numbers: name to int64, shape (rows,).
        texts: name to texts.
    """

    numbers: Mapping[str, Column]
    texts: Mapping[str, _Texts]


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
    return _collect(portions, _Collector(LISTED_IMAGE_COLUMNS, _image_fault))


def collect_annotations(portions: Iterable[Portion[AnnotationRow]]) -> CollectedRows:
    """Collect a dataset's annotations; see `collect_images`."""
    return _collect(portions, _Collector(LISTED_ANNOTATION_COLUMNS, _annotation_fault))


def _collect(portions: Iterable[Portion[Row]], collector: _Collector[Row]) -> CollectedRows:
    for portion in portions:
        collector.add(portion)
    return collector.collected()


class _Collector(Generic[Row]):
    """Collects portions.

    Args:
        columns: those that a listing is made of.
        fault: why a row cannot be shown, or None; asked where a portion is not surely without fault.
    """

    def __init__(self, columns: tuple[str, ...], fault: Callable[[Row], str | None]) -> None:
        self._columns = columns
        self._fault: Callable[[Row], str | None] = fault
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
        columns = _typed_columns(portion.columns, portion.values)
        if columns is None or not _have_no_fault(columns):
            rows, unreadable = portion.rows()
            self._hidden += [(self._file_name(values), f"{reason}; correct it") for values, reason in unreadable]
            good = []
            for row in rows:
                fault = self._fault(row)
                if fault is None:
                    good.append(row)
                else:
                    self._hidden.append((self._file_name(self._values(row)), fault))
            if not good:
                return
            columns = self._columns_of(good)
        self._take(columns)

    def collected(self) -> CollectedRows:
        """All that was taken in."""
        digests = np.frombuffer(b"".join(self._digests), _HALF).reshape(-1, 2).astype(np.uint64)
        columns = {name: _concatenated(parts) for name, parts in self._numbers.items()}
        columns |= {name: _concatenated(parts) for name, parts in self._places.items()}
        columns |= {"md5_upper": digests[:, 0], "md5_lower": digests[:, 1]}
        content = np.frombuffer(b"".join(self._names), np.uint8)
        names = TextTable(content, compact(np.cumsum(_concatenated(self._lengths))))
        texts = {name: TextTable.of(list(texts)) for name, texts in self._texts.items()}
        return CollectedRows(names, self._ascending, columns, texts, self._hidden)

    def _file_name(self, values: Sequence[object]) -> str:
        """What a file of a row would be called, whatever stands there."""
        texts = dict(zip(self._columns, decoded(values), strict=True))
        return f"{texts['name']}.{texts.get('ext', ANNOTATION_EXT)}"

    def _columns_of(self, rows: Sequence[Row]) -> _TypedColumns:
        """Rows that have been looked at one by one; unlike elsewhere an etag of theirs may hold a NUL."""
        numbers, texts = {}, {}
        for name, values in zip(self._columns, zip(*map(self._values, rows), strict=True), strict=True):
            if name in INTEGER_COLUMNS:
                numbers[name] = np.array(values, np.int64)
            else:
                encoded = [value.encode() for value in values]
                texts[name] = _Texts(encoded, _SEPARATOR.join(encoded))
        return _TypedColumns(numbers, texts)

    def _take(self, columns: _TypedColumns) -> None:
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


def _digests(digests: _Texts) -> bytes:
    """Digests of 16 bytes, of 32 hexadecimal digits each; zeros where there are none."""
    if len(digests.joined) == len(digests.values) * (len(_NO_DIGEST) + len(_SEPARATOR)) - len(_SEPARATOR):
        return binascii.unhexlify(digests.end_to_end())
    return binascii.unhexlify(b"".join([digest or _NO_DIGEST for digest in digests.values]))


def _concatenated(parts: list[Column]) -> Column:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _typed_columns(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> _TypedColumns | None:
    """Give each column its type. None stands for 0 or an empty text.

    None is given back if a value is not of its column's type, or a text is no UTF-8 or holds a NUL character.
    """
    numbers: dict[str, Column] = {}
    texts: dict[str, _Texts] = {}
    try:
        for name, values in zip(names, columns, strict=True):
            if name in INTEGER_COLUMNS:
                numbers[name] = _numbers(values)
            else:
                texts[name] = _texts(values)
    except (TypeError, ValueError, OverflowError):
        return None
    return _TypedColumns(numbers, texts)


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


def _texts(values: Sequence[Any]) -> _Texts:
    """A column of texts.

    Raises:
        TypeError: not all are text of the same kind.
        ValueError: one is no UTF-8, or holds a NUL.
    """
    try:
        return _join_texts(values)
    except TypeError:
        kind = next((type(value) for value in values if value is not None), bytes)
        return _join_texts([kind() if value is None else value for value in values])


def _join_texts(values: Sequence[Any]) -> _Texts:
    if isinstance(values[0], str):
        joined = "\0".join(values).encode()
        texts: Sequence[bytes] = joined.split(_SEPARATOR)
    else:
        joined = _SEPARATOR.join(values)
        if not joined.isascii():
            joined.decode()
        texts = values
    if joined.count(_SEPARATOR) != len(values) - 1:
        raise ValueError("a text holds a NUL")
    return _Texts(texts, joined)


def _have_no_fault(columns: _TypedColumns) -> bool:
    """Whether rows can surely be shown, each by itself. That a name is there twice is not seen here."""
    texts = columns.texts
    lengths = texts["name"].lengths
    exts = {ext.decode() for ext in set(texts["ext"].values)} if "ext" in texts else {ANNOTATION_EXT}
    if "ext" in texts and any(_ext_fault(ext) or file_name_fault(ext) for ext in exts):
        return False
    longest_ext = max(len(ext.encode()) for ext in exts)
    digests = texts["md5"]
    return (
        b"/" not in texts["name"].joined
        and int(lengths.min()) > len("..")
        and int(lengths.max()) + len(".") + longest_ext <= LONGEST_FILE_NAME_BYTES
        and all(int(columns.numbers[name].min()) >= 0 for name in _NOT_NEGATIVE if name in columns.numbers)
        and all(texts["blob"].values)
        and _DIGEST_LENGTHS.issuperset(map(len, digests.values))
        and not digests.joined.translate(None, _DIGITS_AND_SEPARATOR)
    )


def _image_fault(row: ImageRow) -> str | None:
    """Why an image cannot be shown, or None."""
    fault = _ext_fault(row.ext) or _name_fault(row.name, row.ext) or _file_fault(row)
    if fault is None and min(row.height, row.width, row.depth) < 0:
        return "its height, width or depth is below 0; correct it"
    return fault


def _annotation_fault(row: AnnotationRow) -> str | None:
    return _name_fault(row.name, ANNOTATION_EXT) or _file_fault(row)


def _ext_fault(ext: str) -> str | None:
    if not ext or "." in ext or ext == ANNOTATION_EXT:
        return f"an image cannot have the extension {ext!r}; correct its column ext"
    return None


def _name_fault(name: str, ext: str) -> str | None:
    return file_name_fault(name) or file_name_fault(f"{name}.{ext}")


def _file_fault(row: ImageRow | AnnotationRow) -> str | None:
    if row.byte_count < 0 or row.blob_offset < 0:
        return "its byte_count or blob_offset is below 0; correct it"
    # A database without types of its own may hold any number.
    if any(isinstance(value, int) and abs(value) > LARGEST for value in vars(row).values()):
        return "one of its numbers has more than 64 bits; correct it"
    if not _DIGEST.fullmatch(row.md5):
        return f"its md5 {row.md5!r} is not 32 hexadecimal digits; correct it, or leave it empty"
    if not row.blob or "\0" in row.blob:
        return f"its blob is named {row.blob!r}, which none can be; correct it"
    if not (is_utf8(row.blob) and is_utf8(row.etag)):
        return "its blob or etag is not valid UTF-8; correct it"
    return None
