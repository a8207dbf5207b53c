"""All images of a dataset as one table, ``images.parquet``: what the listing says of each, without reading a blob.

`COLUMNS` says what each column holds. What is not known is null. The columns ``dataset`` and ``image`` are those of
the table of annotations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsyncfs.annotations.splits import Split
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.columns import Column, join_digests
from imgsyncfs.catalog.listing.table import HAS_ANNOTATION, HAS_SIBLINGS
from imgsyncfs.formats.dataset_documents.parquet import ROW_GROUP_ROWS, load_pyarrow, parquet_chunks, words

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "dataset": "id of the dataset",
        "image": "name without the extension",
        "file_name": "name with it",
        "path": "from the mount's root on",
        "split": "train, validation or test",
        "label_version": "of the dataset",
        "height": "pixels, as the image is shown",
        "width": "likewise",
        "depth": "number of channels",
        "orientation": "how EXIF turns the stored picture, from 1 (not at all) to 8",
        "bytes": "length of the file",
        "md5": "of the file",
        "modified_at": "when the file last changed, UTC",
        "has_annotation": "whether there is an annotation",
        "is_labelled": "whether that has labels, or somebody has checked that there are none",
    }
)


def image_schema() -> pa.Schema:
    """The names and types of the columns.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    pa = load_pyarrow()
    types = dict.fromkeys(COLUMNS, pa.int64())
    types |= dict.fromkeys(("dataset", "split", "label_version"), words())
    types |= dict.fromkeys(("image", "file_name", "path", "md5"), pa.string())
    types |= dict.fromkeys(("has_annotation", "is_labelled"), pa.bool_())
    # Without a time zone: DuckDB's Python package wants another package for those that have one.
    types |= {"orientation": pa.int8(), "modified_at": pa.timestamp("ms")}
    return pa.schema([pa.field(name, types[name]) for name in COLUMNS])


def image_table_chunks(listing: Listing, splits: Column | None) -> Iterator[bytes]:
    """Write the table.

    Args:
        listing: of the dataset.
        splits: the `imgsyncfs.annotations.splits.Split` of each image; None if all are in train.

    Returns:
        The file's bytes, in parts; the same for the same listing and version of pyarrow.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    parts = range(0, len(listing), ROW_GROUP_ROWS)
    return parquet_chunks(image_schema(), (_rows(listing, splits, start) for start in parts))


def _rows(listing: Listing, splits: Column | None, start: int) -> pa.Table:
    """The rows of a row group."""
    pa = load_pyarrow()
    part = slice(start, start + ROW_GROUP_ROWS)
    stems = [stem.decode() for stem in listing.stems.between(part.start, part.stop)]
    exts = [listing.facts.exts[number] for number in listing.columns["ext"][part].tolist()]
    names = [f"{stem}.{ext}" for stem, ext in zip(stems, exts, strict=True)]
    flags = listing.columns["flags"][part]
    files = listing.images.columns
    digests = join_digests(files["md5_upper"][part], files["md5_lower"][part])
    times = files["modified_at"][part].astype(np.int64) + listing.images.epoch
    count = len(stems)
    columns: dict[str, Any] = {
        "dataset": _words([listing.dataset_id], np.zeros(count, np.int32)),
        "image": stems,
        "file_name": names,
        "path": [f"{listing.dataset_id}/{name}" for name in names],
        "split": _words([*map(str, Split)], np.zeros(count, np.int32) if splits is None else splits[part]),
        "label_version": _words([listing.label_version], np.zeros(count, np.int32)),
        **{name: _known(listing.columns[name][part]) for name in ("height", "width", "depth")},
        "orientation": listing.columns["orientation"][part].astype(np.int8),
        "bytes": files["byte_count"][part].astype(np.int64),
        "md5": [digest or None for digest in digests],
        "modified_at": pa.array(times * 1000, pa.timestamp("ms")),
        "has_annotation": (flags & HAS_ANNOTATION) != 0,
        "is_labelled": (flags & HAS_SIBLINGS) != 0,
    }
    schema = image_schema()
    arrays = [
        columns[field.name] if isinstance(columns[field.name], pa.Array) else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _words(known: list[str], numbers: Column) -> pa.Array:
    pa = load_pyarrow()
    return pa.DictionaryArray.from_arrays(numbers.astype(np.int32), pa.array(known, pa.string()))


def _known(values: Column) -> pa.Array:
    """Whole numbers, of which 0 stands for one that is not known."""
    return load_pyarrow().array(values.astype(np.int64), mask=values == 0)
