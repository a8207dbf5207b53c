"""Catalogs as earlier versions made them."""

from __future__ import annotations

from imgsyncfs.catalog import Catalog


def take_additions_away(catalog: Catalog, *, level: int = 0) -> None:
    """Make of a catalog what it would be if a version had made it that knew a lower level of additions.

    Args:
        catalog: one with all additions.
        level: 0 for a version before publish ids, 1 for one before orientations of images, 2 for one before split
            rules, 3 for one before labels, 4 for one before selections.
    """
    execute = catalog._connection.execute
    execute("DROP TABLE selections")
    if level == 4:
        execute("UPDATE catalog_settings SET value = '4' WHERE name = 'schema_additions'")
        return
    execute("DROP TABLE annotation_labels")
    execute("DROP TABLE dataset_labels")
    if level > 0:
        execute("UPDATE catalog_settings SET value = ? WHERE name = 'schema_additions'", (str(level),))
    if level == 3:
        return
    execute("DROP TABLE split_rules")
    if level == 2:
        return
    execute("DROP TABLE image_orientations")
    if level == 1:
        return
    execute("DROP TABLE extent_digests")
    execute("ALTER TABLE datasets DROP COLUMN publish_id")
    execute("DELETE FROM catalog_settings WHERE name = 'schema_additions'")
