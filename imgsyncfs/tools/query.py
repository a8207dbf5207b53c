"""Queries: SQL over the annotations, images and datasets of a catalog, run by DuckDB.

The tables ``annotations`` and ``images`` are those of the view ``table``, of all chosen datasets together;
``datasets`` is the catalog's own table. Only those that a query names are made, and annotations are read once for each
revision (`imgsyncfs.library.saved_tables`).

A query reads these tables and nothing else: DuckDB opens no file, loads no extension and changes no setting. The tables
are handed over by pyarrow, a part at a time.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from imgsyncfs.cache.documents import KeptDocument
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.subscriptions import find_datasets
from imgsyncfs.errors import ConfigurationError, QueryError
from imgsyncfs.formats.contract import Loss
from imgsyncfs.formats.dataset_documents.annotation_table import COLUMNS as ANNOTATION_COLUMNS
from imgsyncfs.formats.dataset_documents.annotation_table import annotation_schema
from imgsyncfs.formats.dataset_documents.contract import LossTally
from imgsyncfs.formats.dataset_documents.parquet import load_pyarrow
from imgsyncfs.library.documents import losses_of
from imgsyncfs.library.image_table import COLUMNS as IMAGE_COLUMNS
from imgsyncfs.library.image_table import image_schema
from imgsyncfs.library.library import Library
from imgsyncfs.library.saved_tables import saved_tables
from imgsyncfs.library.views.table import ANNOTATIONS, IMAGES
from imgsyncfs.workers.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

DATASET_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "dataset": "id",
        "label_version": "the labelling standard",
        "image_type": "such as fisheye360",
        "classes": "a list",
        "projects": "a list",
        "label_type": "a list of bbox, rbbox, poly, seg, clf, reg",
        "size": "number of images",
        "note": "free text",
        "revision": "how often it was published",
        "updated_at": "when that was last, UTC",
    }
)

TABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"annotations": ANNOTATION_COLUMNS, "images": IMAGE_COLUMNS, "datasets": DATASET_COLUMNS}
)
"""The tables and their columns, with what each holds."""

_DOCUMENTS = {"annotations": ANNOTATIONS, "images": IMAGES}

ROWS_AT_ONCE = 10_000

_LOCKS = (
    # Names of Python's variables are no tables.
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)

_ABOUT_COLUMNS = re.compile(r"\s*(describe|desc|show)\b", re.IGNORECASE)

_KIND = re.compile(r"^[A-Z][A-Za-z ]* Error: ")


@dataclass(frozen=True)
class Answer:
    """What a query gives.

    Attributes:
        columns: their names; none for a statement that gives no rows.
        rows: values as Python has them, None for null; read once, as the query goes on.
        losses: what the tables do not show, those of one kind added up.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]
    losses: tuple[Loss, ...]


def check_query(sql: str) -> None:
    """Find what is wrong with a query before anything is read for it.

    Raises:
        ConfigurationError: DuckDB or pyarrow is not installed.
        QueryError: it is not one query over the tables, or names a column that they do not have.
    """
    duckdb = _load_duckdb()
    with _told_as_query_errors(duckdb), closing(_connection(duckdb, _empty_tables())) as connection:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            what = "several statements" if statements else "no statement"
            raise QueryError(f"{sql!r:.60} is {what}; give one, such as: {_EXAMPLE}")
        kinds = duckdb.StatementType
        kind = statements[0].type
        if kind not in (kinds.SELECT, kinds.EXPLAIN, kinds.MULTI):
            raise QueryError(f"A query only reads, and this is {kind.name}; write one, such as: {_EXAMPLE}")
        if kind == kinds.SELECT:
            connection.execute(f"EXPLAIN {statements[0].query}")


@contextmanager
def run_query(library: Library, sql: str, dataset_ids: Sequence[str], *, progress: Progress) -> Iterator[Answer]:
    """Run a query.

    Args:
        library: of the catalog.
        sql: a query that `check_query` has accepted, over `TABLES`.
        dataset_ids: the datasets whose rows are in the tables.
        progress: is told of images that are read.

    Yields:
        The answer, whose rows can be read until the block ends.

    Raises:
        CacheError: a table cannot be saved.
        CatalogError: a listing cannot be read.
        ConfigurationError: DuckDB or pyarrow is not installed, or there is no such dataset.
        QueryError: DuckDB cannot run it; also while rows are read.
        StoreError: an annotation cannot be read.
    """
    duckdb = _load_duckdb()
    rows = find_datasets(library.rows.values(), dataset_ids)
    losses = LossTally()
    tables = {**_empty_tables(), "datasets": _datasets_table(rows)}
    for name, document in _DOCUMENTS.items():
        # What is not in the text cannot be meant, so nothing needs be read for it.
        if name in sql.lower() and not _ABOUT_COLUMNS.match(sql):
            contents = []
            for table in saved_tables(library, [row.dataset_id for row in rows], document, progress=progress):
                contents.append(_mapped(table))
                for loss in losses_of(table):
                    losses.add(loss.what, loss.reason, loss.count)
            tables[name] = _dataset_of(contents, tables[name].schema)
    # What does not fit in memory is put there, and not in the folder that somebody happens to be in.
    with (
        tempfile.TemporaryDirectory(prefix="query-", dir=library.settings.cache_dir) as scratch,
        closing(_connection(duckdb, tables, Path(scratch))) as connection,
        _told_as_query_errors(duckdb),
    ):
        _interruptibly(connection, connection.execute, sql)
        columns = tuple(str(column[0]) for column in connection.description or ())
        yield Answer(columns, _rows_of(connection), losses.losses)


_EXAMPLE = "SELECT class, count(*) FROM annotations GROUP BY class"


def _load_duckdb() -> ModuleType:
    load_pyarrow()
    try:
        # Late: it is optional, and large.
        import duckdb
    except ImportError as error:
        raise ConfigurationError(
            f"Queries are run by DuckDB, which cannot be imported ({error}); run: pip install 'imgsyncfs[query]'"
        ) from error
    return duckdb


def _connection(duckdb: ModuleType, tables: Mapping[str, Any], scratch: Path | None = None) -> DuckDBPyConnection:
    """A database in memory that has these tables, and reads nothing else."""
    configuration = {"temp_directory": str(scratch) if scratch is not None else ""}
    connection: DuckDBPyConnection = duckdb.connect(":memory:", config=configuration)
    for name, table in tables.items():
        connection.register(name, table)
    for setting in _LOCKS:
        connection.execute(setting)
    return connection


def _rows_of(connection: DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := _interruptibly(connection, connection.fetchmany, ROWS_AT_ONCE):
        yield from rows


def _interruptibly(connection: DuckDBPyConnection, function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a method of a connection, which itself would hear of Ctrl-C only after it is done."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(function, argument)
        try:
            return done.result()
        except BaseException:
            connection.interrupt()
            raise


@contextmanager
def _told_as_query_errors(duckdb: ModuleType) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        # The rest is the query, with a mark below it.
        text = " ".join(str(error).partition("\n\nLINE ")[0].split())
        reason = _KIND.sub("", text)
        end = "" if reason.endswith((".", "!", "?")) else "."
        raise QueryError(f"The query cannot be run: {reason}{end}") from error


def _empty_tables() -> dict[str, Any]:
    schemas = {"annotations": annotation_schema(), "images": image_schema(), "datasets": _datasets_schema()}
    return {name: schema.empty_table() for name, schema in schemas.items()}


def _mapped(table: KeptDocument) -> pa.Buffer:
    """A table in memory, as far as it is read: of many datasets there are too many to have all files open."""
    # Late: it is optional.
    import pyarrow as pa

    with pa.memory_map(f"/proc/self/fd/{table.descriptor}") as file:
        return file.read_buffer(table.length)


def _dataset_of(contents: Sequence[pa.Buffer], schema: pa.Schema) -> Any:
    # Late: it is optional.
    import pyarrow.dataset

    parquet = pyarrow.dataset.ParquetFileFormat()
    return pyarrow.dataset.FileSystemDataset([parquet.make_fragment(each) for each in contents], schema, parquet)


def _datasets_schema() -> pa.Schema:
    pa = load_pyarrow()
    types = dict.fromkeys(DATASET_COLUMNS, pa.string())
    types |= dict.fromkeys(("classes", "projects", "label_type"), pa.list_(pa.string()))
    types |= {"size": pa.int64(), "revision": pa.int64(), "updated_at": pa.timestamp("s")}
    return pa.schema([pa.field(name, types[name]) for name in DATASET_COLUMNS])


def _datasets_table(rows: Sequence[DatasetRow]) -> pa.Table:
    pa = load_pyarrow()
    columns: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in DATASET_COLUMNS if name not in {"dataset", "updated_at"}
    }
    columns["dataset"] = [row.dataset_id for row in rows]
    columns["updated_at"] = [datetime.fromtimestamp(row.updated_at, timezone.utc).replace(tzinfo=None) for row in rows]
    return pa.Table.from_pydict(columns, schema=_datasets_schema())
