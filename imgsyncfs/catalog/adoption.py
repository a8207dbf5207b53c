"""Make a catalog of another system's tables: views that look like a catalog's, and tables of our own beside them.

The views are read-only for us. Subscriptions and selections are kept in tables of our own. Everything is looked at in
the real database before: a view that lacks a column, or whose keys are there twice, would hide images later.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

from imgsyncfs.blob_layout import is_md5
from imgsyncfs.catalog.catalog_settings import CatalogSettings
from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.mapping import (
    COLUMNS,
    KEYS,
    REQUIRED,
    CatalogMapping,
    column_value,
    quoted,
    rows_query,
    source_text,
)
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.row_values import LARGEST, is_utf8
from imgsyncfs.catalog.schema import (
    CODE_POINTS,
    INTEGER_COLUMNS,
    POSTGRESQL,
    SCHEMA_ADDITIONS,
    SCHEMA_VERSION,
    SQL_SERVER,
    SQLITE,
    TABLES,
    Dialect,
    create_statements,
    longest_text,
)
from imgsyncfs.errors import BlobMissing, CatalogError, CatalogUnreachable, ConfigurationError, printable
from imgsyncfs.stores.contract import Store, blob_name_fault

SAMPLE_ROWS = 1000
"""Rows of each table that are looked at one by one."""

_NAMED = 3
"""Rows that a finding names."""

_PROBE = "imgsyncfs_probe"


@dataclass(frozen=True)
class Finding:
    """Something about a mapping that an administrator should know.

    Attributes:
        text: what is found, and its remedy.
        is_fault: whether the catalog cannot be made so.
    """

    text: str
    is_fault: bool = True


@dataclass(frozen=True)
class Adoption:
    """What makes a catalog of another system's tables.

    Attributes:
        statements: SQL, each a batch of its own.
        separator: what stands between them in a script for the database's own tool.
        for_users: SQL for each user, so that they see the schema's tables without naming it; ``""`` without a schema.
    """

    statements: Sequence[str]
    separator: str
    for_users: str


def look_at(connection: Connection, mapping: CatalogMapping, *, schema: str = "") -> list[Finding]:
    """Check a mapping against the database.

    Args:
        connection: to the database.
        mapping: what is to be adopted.
        schema: that the views will be made in; ``""`` for the user's own.

    Raises:
        CatalogUnreachable: the database does not answer.
    """
    findings = [*_clashes(connection, schema)]
    usable = True
    for table in mapping.tables:
        missing = [*_missing(connection, mapping, table)]
        findings += missing
        usable = usable and not missing
        if not missing:
            findings += _key_faults(connection, mapping, table)
            findings += _sample_faults(connection, mapping, table)
    if usable:
        findings += _strangers(connection, mapping)
        findings += _revision_faults(connection, mapping)
    return findings


def blob_findings(connection: Connection, mapping: CatalogMapping, store: Store) -> list[Finding]:
    """Compare what a mapping says of some blobs with the store; without those of datasets that name their own store.

    Args:
        connection: to the database.
        mapping: without faults, as `look_at` finds them.
        store: the mapping's.

    Raises:
        StoreError: the store cannot be read.
    """
    findings: list[Finding] = []
    if "store" in mapping.tables["datasets"].columns:
        return findings
    for table in ("images", "annotations"):
        if table not in mapping.tables:
            continue
        query = f"SELECT blob, byte_count, blob_offset FROM {_probe(mapping, table, connection)}"  # noqa: S608
        rows = connection.rows(query)
        sample = list(islice(rows, _NAMED))
        rows.close()  # type: ignore[attr-defined]  # a generator
        for blob, byte_count, offset in sample:
            named = f"{table}.blob: {printable(blob)} in {store.url}"
            try:
                there = store.describe(blob).byte_count
            except BlobMissing:
                findings.append(Finding(f"{named} is not there; correct blob, or the store."))
                continue
            end = int(offset or 0) + int(byte_count)
            if there < end or ("blob_offset" not in mapping.tables[table].columns and there != end):
                findings.append(
                    Finding(f"{named} has {there:,} bytes, where byte_count says {end:,}; correct byte_count.")
                )
    return findings


def plan(connection: Connection, mapping: CatalogMapping, *, schema: str = "") -> Adoption:
    """What makes the catalog: a schema if one is named, views, tables of our own, and the settings.

    Raises:
        ConfigurationError: the database has no schemas.
    """
    dialect = connection.dialect
    if schema and dialect not in (POSTGRESQL, SQL_SERVER):
        raise ConfigurationError(f"{dialect.name} has no schemas; leave it out.", option="schema")
    prefix = f"{quoted(schema, dialect)}." if schema else ""
    statements = [f"CREATE SCHEMA {quoted(schema, dialect)}"] if schema else []
    statements += [f"CREATE VIEW {prefix}{table} AS {rows_query(mapping, table, dialect)}" for table in KEYS]
    for statement in create_statements(dialect):
        # CREATE TABLE name (…), or CREATE INDEX name ON name (…).
        target = re.match(r"CREATE (?:TABLE|INDEX \w+ ON) (\w+)", statement)
        if target is not None and target[1] not in KEYS:
            if "dataset_id" in statement:
                # Compared with the views' columns: SQL Server compares no two columns of different collations.
                statement = statement.replace(CODE_POINTS, "DATABASE_DEFAULT")  # noqa: PLW2901  # the same, adapted
            start = target.start(1)
            statements.append(f"{statement[:start]}{prefix}{statement[start:]}")
    settings = {
        "schema_version": SCHEMA_VERSION,
        "schema_additions": SCHEMA_ADDITIONS,
        "store": mapping.store,
        "catalog_id": uuid.uuid4().hex,
        "read_only": "datasets, images and annotations are views of other tables",
    }
    rows = ", ".join(f"({_literal(name)}, {_literal(value)})" for name, value in settings.items())
    statements.append(f"INSERT INTO {prefix}catalog_settings (name, value) VALUES {rows}")  # noqa: S608  # literals
    separator = ";\nGO\n" if dialect is SQL_SERVER else ";\n"
    return Adoption(statements, separator, _for_users(schema, dialect) if schema else "")


def adopt(connection: Connection, adoption: Adoption) -> None:
    """Run the statements in one transaction.

    Raises:
        CatalogError: one is refused; nothing is made then.
    """
    with connection.transaction():
        for statement in adoption.statements:
            connection.execute(statement)


def _for_users(schema: str, dialect: Dialect) -> str:
    name = quoted(schema, dialect)
    if dialect is POSTGRESQL:
        grants = f"GRANT USAGE ON SCHEMA {name} TO …; GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO …"
        return f"{grants}; ALTER ROLE … SET search_path = {name}"
    return f"GRANT SELECT ON SCHEMA::{name} TO …; ALTER USER … WITH DEFAULT_SCHEMA = {name}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _clashes(connection: Connection, schema: str) -> Iterator[Finding]:
    """Tables that stand where views or tables would be made."""
    if schema:
        return
    settings = CatalogSettings(connection)
    for table in TABLES:
        if settings.has_table(table):
            remedy = (
                "make the catalog in another database"
                if connection.dialect is SQLITE
                else "give the views a schema of their own"
            )
            yield Finding(f"The database has a table {table} already; {remedy}.")


def _missing(connection: Connection, mapping: CatalogMapping, table: str) -> Iterator[Finding]:
    """What a mapping names and the database does not have or let be read."""
    given, dialect = mapping.tables[table], connection.dialect
    source = source_text(given, dialect)
    reason = _refusal(connection, f"SELECT 1 FROM {source} WHERE 1 = 0")  # noqa: S608  # as `rows_query` has it
    if reason:
        yield Finding(f"{table}: what `from` names cannot be read ({reason}); correct it, or grant SELECT on it.")
        return
    for column in given.columns:
        value = column_value(given, column, dialect)
        reason = _refusal(connection, f"SELECT {value} FROM {source} WHERE 1 = 0")  # noqa: S608  # likewise
        if reason:
            yield Finding(f"{table}.{column}: {value} cannot be read ({reason}); correct it in the mapping.")
    if given.where:
        reason = _refusal(connection, f"SELECT 1 FROM {source} WHERE ({given.where}) AND 1 = 0")  # noqa: S608  # likewise
        if reason:
            yield Finding(f"{table}: its condition `where` cannot be used ({reason}); correct it in the mapping.")


def _refusal(connection: Connection, query: str) -> str:
    """Why a query cannot be run; ``""`` if it can."""
    try:
        list(connection.rows(query))
    except CatalogUnreachable:
        raise
    except CatalogError as error:
        return str(error).partition(" cannot be used: ")[2].rpartition(";")[0] or str(error)
    return ""


def _key_faults(connection: Connection, mapping: CatalogMapping, table: str) -> Iterator[Finding]:
    """Keys that are there twice, or not there."""
    rows = _probe(mapping, table, connection)
    keys = ", ".join(KEYS[table])
    unknown = " OR ".join(f"{column} IS NULL" for column in REQUIRED[table])
    count = _number(connection, f"SELECT COUNT(*) FROM {rows} WHERE {unknown}")  # noqa: S608  # as `rows_query` has it
    if count:
        yield Finding(
            f"{table}: {count:,} rows lack one of {', '.join(REQUIRED[table])}; fill it, or leave these rows out with "
            "`where`."
        )
    twice = connection.rows(f"SELECT {keys} FROM {rows} GROUP BY {keys} HAVING COUNT(*) > 1")  # noqa: S608  # likewise
    found = list(islice(twice, _NAMED))
    twice.close()  # type: ignore[attr-defined]  # a generator
    if found:
        named = "; ".join(printable(", ".join(map(str, row))) for row in found)
        yield Finding(f"{table}: there are several rows of the same {keys} ({named}); leave one of each with `where`.")


def _sample_faults(connection: Connection, mapping: CatalogMapping, table: str) -> Iterator[Finding]:
    """What is wrong with values, by way of some rows."""
    rows = connection.rows(rows_query(mapping, table, connection.dialect))
    try:
        sample = list(islice(rows, SAMPLE_ROWS))
    except CatalogUnreachable:
        raise
    except CatalogError as error:
        yield Finding(f"{table}: its rows cannot be read ({error})")
        return
    finally:
        rows.close()  # type: ignore[attr-defined]  # a generator
    if not sample:
        yield Finding(f"{table}: there are no rows; see that `from` and `where` are right.", is_fault=False)
    for place, column in enumerate(COLUMNS[table]):
        faults: dict[str, list[str]] = {}
        for row in sample:
            fault = _value_fault(column, row[place], connection.dialect)
            if fault:
                faults.setdefault(fault, []).append(printable(repr(row[place])[:60]))
        for fault, values in faults.items():
            named = ", ".join(values[:_NAMED])
            yield Finding(
                f"{table}.{column}: {len(values):,} of {len(sample):,} rows looked at have a value that {fault} "
                f"({named})."
            )


def _value_fault(column: str, value: Any, dialect: Dialect) -> str:
    """What is wrong with a value, to be read after "a value that"; ``""`` for nothing."""
    if value is None:
        return ""
    if column in INTEGER_COLUMNS:
        # SQLite lets a number be a text, and its ODBC driver gives what an expression gives as one.
        is_text = isinstance(value, (str, bytes)) and not (dialect is SQLITE and value.isdigit())
        if is_text or int(value) != Decimal(value):
            return 'is no whole number; write { sql = "CAST(… AS BIGINT)" }'
        return "" if 0 <= int(value) <= LARGEST else "is below 0 or has more than 64 bits; give another column"
    if not isinstance(value, str):
        return f'is no text but {type(value).__name__}; write {{ sql = "CAST(… AS VARCHAR(200))" }}'
    longest = longest_text(column)
    return _text_fault(column, value) or (
        f"has more than {longest} characters; shorten it" if longest and len(value) > longest else ""
    )


def _text_fault(column: str, value: str) -> str:
    if not is_utf8(value):
        return "is not valid UTF-8; mend it"
    if column == "md5" and value and not is_md5(value.lower()):
        return "is no MD5 of 32 hexadecimal digits; give one, or leave md5 out"
    if column in {"dataset_id", "name"}:
        if value.endswith(" "):
            return "ends in a space, which SQL Server does not tell from none; trim it"
        fault = file_name_fault(value)
        return f"cannot be a file's name: {fault}" if fault else ""
    if column == "ext" and (value.startswith(".") or file_name_fault(value)):
        return "is no extension without its dot, such as jpg; take the dot away"
    if column == "blob" and blob_name_fault(value):
        return f"is no blob's name below the store: {blob_name_fault(value)}"
    return ""


def _strangers(connection: Connection, mapping: CatalogMapping) -> Iterator[Finding]:
    """Images without their dataset, and annotations without their image: nobody would see them."""
    dialect = connection.dialect
    pairs = [("images", "datasets", ("dataset_id",)), ("annotations", "images", ("dataset_id", "name"))]
    for table, other, key in pairs:
        if table not in mapping.tables:
            continue
        match = " AND ".join(f"o.{column} = {_PROBE}.{column}" for column in key)
        others = f"({rows_query(mapping, other, dialect)}) o"
        rows = _probe(mapping, table, connection)
        query = f"SELECT COUNT(*) FROM {rows} WHERE NOT EXISTS (SELECT 1 FROM {others} WHERE {match})"  # noqa: S608
        reason = _refusal(connection, query)
        if reason:
            yield Finding(
                f"{table}: its {' and '.join(key)} cannot be compared with those of {other} ({reason}); give columns "
                "of the same type."
            )
        elif count := _number(connection, query):
            yield Finding(f"{table}: {count:,} rows belong to none of the {other}; they are not shown.", is_fault=False)


def _revision_faults(connection: Connection, mapping: CatalogMapping) -> Iterator[Finding]:
    """Revisions that do not look as if they changed."""
    rows = _probe(mapping, "datasets", connection)
    counts = "COUNT(*), COUNT(DISTINCT revision), COUNT(CASE WHEN COALESCE(revision, 0) = 0 THEN 1 END)"
    found = next(iter(list(connection.rows(f"SELECT {counts} FROM {rows}"))))  # noqa: S608  # as `rows_query` has it
    # SQLite's ODBC driver gives what an expression gives as text.
    count, different, without = map(int, found)
    if without:
        yield Finding(
            f"datasets.revision: {without:,} datasets have none; mounts would not notice that they change.",
            is_fault=False,
        )
    if count > 1 and different == 1:
        yield Finding(
            f"datasets.revision: all {count:,} datasets have the same; see that it changes whenever an image or "
            "annotation does, or mounts do not notice.",
            is_fault=False,
        )


def _probe(mapping: CatalogMapping, table: str, connection: Connection) -> str:
    return f"({rows_query(mapping, table, connection.dialect)}) {_PROBE}"


def _number(connection: Connection, query: str) -> int:
    return int(next(iter(list(connection.rows(query))))[0])
