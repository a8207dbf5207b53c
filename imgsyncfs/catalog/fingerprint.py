"""What tells the tables that a mount shows from those of a moment ago, worked out by the database itself.

Ten thousand datasets are megabytes; whether anything about them has changed, by a publish or by hand, is a few numbers.
"""

from __future__ import annotations

from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.schema import LABELS_LEVEL, POSTGRESQL, SELECTIONS_LEVEL, SPLITS_LEVEL, SQL_SERVER

_TABLES = {
    "catalog_settings": 0,
    "datasets": 0,
    "subscriptions": 0,
    "split_rules": SPLITS_LEVEL,
    "dataset_labels": LABELS_LEVEL,
    "selections": SELECTIONS_LEVEL,
}
"""Table to the level of additions that it comes with."""

_CHECKSUMS = {
    # 60 bits of the MD5 of each row.
    POSTGRESQL.name: "COALESCE(SUM(CAST(CAST('x' || SUBSTR(MD5(CAST(t AS text)), 1, 15) AS bit(60)) AS bigint)), 0)",
    # Of 32 bits, and weak: what publishes change stands beside it.
    SQL_SERVER.name: "COALESCE(CHECKSUM_AGG(BINARY_CHECKSUM(*)), 0)",
}
_CHANGES = {
    "datasets": "COALESCE(SUM(revision), 0), COALESCE(SUM(updated_at), 0)",
    "subscriptions": "0, COALESCE(SUM(updated_at), 0)",
    "selections": "0, COALESCE(SUM(updated_at), 0)",
}


def read_fingerprint(connection: Connection, level: int) -> str | None:
    """Ask for the fingerprint of the tables that a mount shows.

    Args:
        connection: to the catalog's database.
        level: of the catalog's additions to the schema.

    Returns:
        Another text whenever a row differs, as surely as the database's checksums tell; None for a database that is
        read as quickly as asked, or that cannot tell.

    Raises:
        CatalogError: the database cannot be read.
    """
    checksum = _CHECKSUMS.get(connection.dialect.name)
    if checksum is None:
        return None
    parts = [
        f"SELECT '{table}', COUNT(*), {checksum}, {_CHANGES.get(table, '0, 0')} FROM {table} AS t"  # noqa: S608  # constant names
        for table, least in _TABLES.items()
        if level >= least
    ]
    found = sorted(tuple(map(str, row)) for row in connection.rows(" UNION ALL ".join(parts)))
    return "\n".join(map(" ".join, found))
