"""What an administrator says about tables of another system: which table and column gives each of a catalog's columns.

A file of TOML. A name in it is quoted as its database quotes names; SQL, written as ``{ sql = "…" }``, is the
administrator's own and stands in the views word by word.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imgsyncfs.catalog.schema import (
    ANNOTATION_COLUMNS,
    DATASET_COLUMNS,
    IMAGE_COLUMNS,
    INTEGER_COLUMNS,
    POSTGRESQL,
    SQL_SERVER,
    SQLITE,
    Dialect,
)
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.values import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = {
    "images": ("dataset_id", "name"),
    "annotations": ("dataset_id", "label_version", "name"),
    "datasets": ("dataset_id",),
}
"""The tables that are adopted, in the order in which their views are made, with their keys."""

COLUMNS = {
    "images": ("dataset_id", *IMAGE_COLUMNS),
    "annotations": ("dataset_id", "label_version", *ANNOTATION_COLUMNS),
    "datasets": DATASET_COLUMNS,
}

REQUIRED = {
    "images": ("dataset_id", "name", "ext", "byte_count", "blob"),
    "annotations": ("dataset_id", "name", "byte_count", "blob"),
    "datasets": ("dataset_id", "revision"),
}

_LONGEST_NAME = 128
"""SQL Server's; PostgreSQL takes 63 bytes and says so."""

EXAMPLE = """\
# Tables of another system, as a catalog of imgsyncfs: imgsyncfs init --adopt MAPPING.toml
# A text is the name of a column. { sql = "…" } is SQL of your own, which stands in the view word by word.
# What is left out is empty, or 0.

store = "azure://ACCOUNT/CONTAINER"         # where the blobs lie

[datasets]
from = "photo_sets"                         # a table or view, "schema.table" if need be; or { sql = "a JOIN b ON …" }
dataset_id = "set_name"                     # the directory's name
# A number that changes whenever an image or annotation of the dataset does, or a mount does not notice.
# Without such a column, count and take the latest of the images':
# revision = { sql = "(SELECT COUNT(*) + COALESCE(MAX(p.changed_at), 0) FROM photos p WHERE p.set_name = s.set_name)" }
revision = "revision"
size = "photo_count"                        # for people; where it is left out, mounts show 0
# label_version = { sql = "'1.0.0'" }       # '1.0.0' where it is left out
# image_type, classes, projects, label_type (each divided by commas), note, store, updated_at (Unix seconds)

[images]
from = "photos"
# where = "deleted_at IS NULL"              # SQL
dataset_id = "set_name"
name = "stem"                               # the file's name without its extension
ext = "extension"                           # without the dot
byte_count = "size_in_bytes"                # exact
blob = "path"                               # below the store
md5 = "md5_hex"                             # 32 hexadecimal digits; without it, nothing checks what is read
# height, width, depth, blob_offset, position, etag, modified_at (Unix seconds)

[annotations]                               # of the house format; leave the section out if there are none
from = "photo_labels"
dataset_id = "set_name"
name = "stem"                               # that of the image
byte_count = "size_in_bytes"
blob = "path"
# label_checked (1 or 0)
# object_count                              # 1 where it is left out; with 0 and not checked, nothing is rendered
# label_version, md5, blob_offset, etag, modified_at
"""


@dataclass(frozen=True)
class Sql:
    """SQL in the administrator's own words."""

    text: str


@dataclass(frozen=True)
class TableMapping:
    """Where the rows of one of a catalog's tables come from.

    Attributes:
        source: the name of a table, its parts divided by dots; or SQL for what stands behind FROM.
        where: SQL for the rows that belong to it; ``""`` for all.
        columns: name of a column to the name of the source's, or SQL.
    """

    source: str | Sql
    where: str
    columns: Mapping[str, str | Sql]


@dataclass(frozen=True)
class CatalogMapping:
    """A whole mapping.

    Attributes:
        store: URL of the store that the blobs lie in.
        tables: by the name of the catalog's table; without ``annotations`` if there are none.
    """

    store: str
    tables: Mapping[str, TableMapping]


def parse_mapping(text: str, name: str) -> CatalogMapping:
    """Read a mapping.

    Args:
        text: the file's content.
        name: the file's name, for messages.

    Raises:
        ConfigurationError: it makes no sense.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The mapping {name} is no valid TOML: {error}.") from error
    for key in values:
        if key not in {"store", *KEYS}:
            raise ConfigurationError(
                f"The mapping {name} has the unknown key {key!r}; {did_you_mean(key, ['store', *KEYS])}"
            )
    store = values.get("store")
    if not isinstance(store, str) or not store:
        raise _example(f"The mapping {name} names no store", "write store = with its URL")
    tables = {}
    for table in KEYS:
        if table in values:
            tables[table] = _table(values[table], table, name)
        elif table != "annotations":
            raise _example(f"The mapping {name} has no section [{table}]", "write one")
    return CatalogMapping(store, tables)


def _table(section: Any, table: str, name: str) -> TableMapping:
    where = f"section [{table}] of the mapping {name}"
    if not isinstance(section, dict):
        raise _example(f"The {table} of the mapping {name} are no section", f"write [{table}]")
    known = ["from", "where", *COLUMNS[table]]
    columns = {}
    for key, value in section.items():
        if key not in known:
            raise ConfigurationError(f"The {where} has the unknown column {key!r}; {did_you_mean(key, known)}")
        columns[key] = _named(value, f"{key} in the {where}") if key != "where" else value
    if "from" not in columns:
        raise _example(f"The {where} does not say from which table", "write from =")
    condition = columns.pop("where", "")
    if not isinstance(condition, str):
        raise _example(f"where in the {where} is no text", "write SQL in quotation marks")
    source = columns.pop("from")
    for column in REQUIRED[table]:
        if column not in columns:
            raise _example(f"The {where} lacks the column {column}", "name the column that gives it, or SQL")
    return TableMapping(source, condition, columns)


def _named(value: Any, what: str) -> str | Sql:
    """The name of something in a database, or SQL."""
    if isinstance(value, dict) and [*value] == ["sql"] and isinstance(value["sql"], str) and value["sql"].strip():
        return Sql(value["sql"])
    if not isinstance(value, str):
        raise _example(f"{what} is neither a name nor SQL", 'write "NAME" or { sql = "…" }')
    if not value or len(value) > _LONGEST_NAME or not value.isprintable():
        raise _example(f"{what} is {value[:30]!r}, which is no name", "correct it")
    return value


def _example(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{what}; {remedy} (imgsyncfs init --example shows how).")


def quoted(name: str, dialect: Dialect) -> str:
    """A name as a database quotes it, whatever stands in it."""
    if dialect is SQL_SERVER:
        return "[" + name.replace("]", "]]") + "]"
    return '"' + name.replace('"', '""') + '"'


def rows_query(mapping: CatalogMapping, table: str, dialect: Dialect) -> str:
    """The query for the rows of one of a catalog's tables, with all its columns, as they stand in its view.

    Args:
        mapping: where they come from.
        table: one of `KEYS`.
        dialect: of the database.
    """
    if table not in mapping.tables:
        # A view that has all columns, and no rows.
        empty = TableMapping(Sql("(SELECT 1 AS one) s"), "1 = 0", {})
        mapping = replace(mapping, tables={**mapping.tables, table: empty})
    given = mapping.tables[table]
    columns = ", ".join(f"{column_value(given, column, dialect)} AS {column}" for column in COLUMNS[table])
    condition = f" WHERE {given.where}" if given.where else ""
    return f"SELECT {columns} FROM {source_text(given, dialect)}{condition}"  # noqa: S608  # quoted, or the administrator's


def source_text(given: TableMapping, dialect: Dialect) -> str:
    """What stands behind FROM: ``s`` is the table's name in the administrator's SQL."""
    if isinstance(given.source, Sql):
        return given.source.text
    return ".".join(quoted(part, dialect) for part in given.source.split(".")) + " s"


def column_value(given: TableMapping, column: str, dialect: Dialect) -> str:
    """What gives a column, as SQL."""
    value = given.columns.get(column)
    if isinstance(value, Sql):
        return f"({value.text})"
    if value is not None:
        prefix = "" if isinstance(given.source, Sql) else "s."
        return prefix + quoted(value, dialect)
    if column in INTEGER_COLUMNS:
        # An annotation without objects that nobody has checked gets no rendered siblings.
        return "CAST(1 AS BIGINT)" if column == "object_count" else "CAST(0 AS BIGINT)"
    text = "'1.0.0'" if column == "label_version" else "''"
    if dialect is POSTGRESQL:
        return f"CAST({text} AS TEXT)"
    return text if dialect is SQLITE else f"N{text}" if dialect is SQL_SERVER else text
