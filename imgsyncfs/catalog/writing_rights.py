"""Whether a catalog can be written, found out before anything is uploaded: rights, and the lengths of texts."""

from __future__ import annotations

from collections.abc import Mapping

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.schema import (
    DIGESTS_LEVEL,
    LABELS_LEVEL,
    ORIENTATIONS_LEVEL,
    SQLITE,
    longest_text,
)
from imgsyncfs.errors import CatalogError, CatalogRefused, CatalogUnreachable


class _Undone(Exception):
    """Ends a transaction that was only tried."""


def check_rights(connection: Connection, *, level: int) -> None:
    """Make sure that a dataset can be published: each kind of statement is tried in a way that touches no row.

    Args:
        connection: to the catalog.
        level: of additions that it has.

    Raises:
        CatalogRefused: the user lacks rights, which are named.
        CatalogError: the database cannot be written for another reason.
    """
    missing: dict[str, list[str]] = {}
    refusal: CatalogRefused | None = None
    for table, column, rights in _written(level):
        for right in rights:
            try:
                connection.execute(_idle_statement(right, table, column))
            except CatalogRefused as error:
                refusal = error
                missing.setdefault(table, []).append(right)
    if refusal is not None:
        grants = "; ".join(f"GRANT {', '.join(rights)} ON {table} TO …" for table, rights in missing.items())
        raise CatalogRefused(
            f"The catalog {connection.where} cannot be published to, since its user lacks rights to write; have the "
            f"database's administrator run: {grants}."
        ) from refusal
    if connection.dialect is SQLITE:
        _try_file(connection)


def _try_file(connection: Connection) -> None:
    """Write a row and take it back: SQLite makes its journal, beside the file, only for something to be written."""
    try:
        with connection.transaction():
            connection.execute("INSERT INTO catalog_settings (name, value) VALUES (?, ?)", ("write_check", ""))
            raise _Undone  # noqa: TRY301  # out of the transaction, not out of here
    except _Undone:
        return
    except CatalogUnreachable:
        raise
    except CatalogError as error:
        raise CatalogError(
            f"The catalog {connection.where} cannot be published to: {str(error).rstrip('.')}; the file and its "
            "directory have to be writable for whoever publishes."
        ) from error


def check_lengths(where: str, values: Mapping[str, str]) -> None:
    """Make sure that texts are not longer than their columns, in any kind of database.

    Args:
        where: the catalog, for the message.
        values: name of a column to its text.

    Raises:
        CatalogError: one is too long, or ends in a space where that makes no difference to SQL Server.
    """
    for column, value in values.items():
        longest = longest_text(column)
        if longest and len(value) > longest:
            raise CatalogError(
                f"The catalog {where} cannot keep the {column} {value[:30]!r}…, which has {len(value)} characters; "
                f"shorten it to {longest}."
            )
        if column in {"dataset_id", "label_version"} and value != value.rstrip(" "):
            raise CatalogError(
                f"The catalog {where} cannot keep the {column} {value!r}, which ends in a space: SQL Server takes it "
                "for the same without; leave the space out."
            )


def _written(level: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """The tables that a publish writes, each with a column of its key and the rights that it takes."""
    changed = ("INSERT", "DELETE")
    tables: list[tuple[str, str, tuple[str, ...]]] = [
        ("datasets", "dataset_id", ("INSERT", "UPDATE")),
        ("images", "dataset_id", changed),
        ("annotations", "dataset_id", changed),
    ]
    if level >= DIGESTS_LEVEL:
        tables.append(("extent_digests", "dataset_id", changed))
    if level >= ORIENTATIONS_LEVEL:
        tables.append(("image_orientations", "dataset_id", changed))
    if level >= LABELS_LEVEL:
        tables += [("annotation_labels", "dataset_id", changed), ("dataset_labels", "dataset_id", changed)]
    return tables


def _idle_statement(right: str, table: str, column: str) -> str:
    """A statement that takes a right and changes nothing."""
    if right == "INSERT":
        return f"INSERT INTO {table} ({column}) SELECT {column} FROM {table} WHERE 1 = 0"  # noqa: S608  # constant names
    if right == "UPDATE":
        return f"UPDATE {table} SET {column} = {column} WHERE 1 = 0"  # noqa: S608  # constant names
    return f"DELETE FROM {table} WHERE 1 = 0"  # noqa: S608  # constant names
