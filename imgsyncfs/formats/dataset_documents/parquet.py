"""Tables as Parquet files, written row group by row group, in memory that does not grow with the number of rows.

The same rows give the same bytes on every machine that has the same version of pyarrow, which names itself in the file.

pyarrow is an extra: it is large, and only tables need it. It is imported here alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from imgsyncfs.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 1 << 16
"""Rows of a row group: readers skip whole groups, and need the memory of one."""

COMPRESSION = "zstd"


def load_pyarrow() -> ModuleType:
    """Import pyarrow.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        # Late: it is optional, and takes a tenth of a second.
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigurationError(
            f"Tables are written by pyarrow, which cannot be imported ({error}); run: pip install 'imgsyncfs[table]'"
        ) from error
    found: ModuleType = pa
    return found


def words() -> pa.DataType:
    """The type of a column of texts of which each comes up many times: pandas reads it as categories."""
    pa = load_pyarrow()
    return pa.dictionary(pa.int32(), pa.string())


def parquet_chunks(schema: pa.Schema, row_groups: Iterable[pa.Table]) -> Iterator[bytes]:
    """Write a Parquet file.

    Args:
        schema: of the rows.
        row_groups: tables of that schema, each of which becomes a row group; read one after the other.

    Returns:
        The file's bytes, in parts.
    """
    pa = load_pyarrow()
    sink = _Sink()
    texts = [field.name for field in schema if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type)]
    writer = pa.parquet.ParquetWriter(sink, schema, compression=COMPRESSION, use_dictionary=texts)
    for table in row_groups:
        writer.write_table(table, row_group_size=max(1, len(table)))
        yield sink.take()
    writer.close()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        content = bytes(part)
        self._parts.append(content)
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        """All that was written since the last time."""
        content = b"".join(self._parts)
        self._parts.clear()
        return content
