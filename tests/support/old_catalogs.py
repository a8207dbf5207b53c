"""Catalogs as earlier versions made them."""

from __future__ import annotations

from imgsyncfs.catalog import Catalog


def take_additions_away(catalog: Catalog) -> None:
    """Make of a catalog what it would be if a version before publish ids had made it."""
    execute = catalog._connection.execute
    execute("DROP TABLE extent_digests")
    execute("ALTER TABLE datasets DROP COLUMN publish_id")
    execute("DELETE FROM catalog_settings WHERE name = 'schema_additions'")
