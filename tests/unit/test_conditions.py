"""Conditions on images as SQL: what a database does to answer them."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from imgsyncfs.catalog import DatasetRow
from imgsyncfs.catalog.conditions import image_query, parse_condition
from imgsyncfs.catalog.schema import SQLITE, create_statements

ROW = DatasetRow("house", "1.0.0", "rgb", (), (), (), 1, "", "file:///data", 1, 5)


def plan(*conditions: str) -> str:
    """How SQLite answers a query for images."""
    query = image_query(ROW, map(parse_condition, conditions))
    assert query is not None
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in create_statements(SQLITE):
            connection.execute(statement)
        return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.parameters))


@pytest.mark.parametrize("conditions", [("class=person",), ("Gender=Female",), ("class=person", "objects>3")])
def test_a_label_is_found_in_the_index_and_not_among_all_of_a_dataset(conditions: tuple[str, ...]) -> None:
    assert "SEARCH chosen USING COVERING INDEX annotations_by_label" in plan(*conditions)
