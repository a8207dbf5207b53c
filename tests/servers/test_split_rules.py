"""Split rules: kept by catalogs in SQLite and PostgreSQL, with pyodbc and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.old_catalogs import take_additions_away
from support.services import Database
from support.tds_server import TdsServer

from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.catalog import Catalog, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.rows import SplitRow
from imgsyncfs.catalog.schema import SCHEMA_ADDITIONS
from imgsyncfs.errors import CatalogError, ConfigurationError

DATASET, OTHER = "original_20200207_rgb_bbox", "original_20200208_rgb_bbox"
ROW = DatasetRow(DATASET, "1.0.0", "rgb", (), (), (), 3, "", "file:///data", 0, 5)
IMAGES = [ImageRow(name, "jpg", 4, 3, 3, 10, "", "blob", 0, place, "", 7) for place, name in enumerate("abc")]
RULE = SplitRule((7, 2, 1), r"^(cam\d+)_")


@pytest.fixture(params=["sqlite", "postgresql", "sqlite_odbc", "sql_server"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A catalog of two datasets in a database of each kind."""
    url, password = f"sqlite://{tmp_path}/catalog.db", None
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("postgresql_database")
        url, password = database.url, database.password
    elif request.param == "sql_server":
        server: TdsServer = request.getfixturevalue("sql_server")
        url, password = server.url, server.password
    elif request.param == "sqlite_odbc":
        url = request.getfixturevalue("sqlite_odbc_url")
    with open_catalog(url, password=password, create=True) as opened:
        opened.initialize(store="file:///data")
        for dataset_id in (DATASET, OTHER):
            opened.replace_dataset(replace(ROW, dataset_id=dataset_id), IMAGES, [])
        yield opened


def dataset(catalog: Catalog, dataset_id: str = DATASET) -> DatasetRow:
    found = catalog.dataset(dataset_id)
    assert found is not None
    return found


def test_a_dataset_has_no_rule_of_its_own_at_first(catalog: Catalog) -> None:
    assert catalog.split_rules() == {}
    assert catalog.table().split_rules == []


def test_a_rule_is_kept_and_handed_on_with_the_table(catalog: Catalog) -> None:
    catalog.set_split_rule(DATASET, RULE)
    assert catalog.split_rules()[DATASET].rule == RULE
    assert catalog.table().split_rules == [SplitRow(DATASET, "7/2/1", RULE.group_by)]


def test_another_rule_raises_the_revision_of_its_dataset_alone(catalog: Catalog) -> None:
    before, other = dataset(catalog), dataset(catalog, OTHER)
    assert catalog.set_split_rule(DATASET, RULE) == 2
    after = dataset(catalog)
    assert (after.revision, after.publish_id != before.publish_id) == (2, True)
    assert after.listing_key("id") != before.listing_key("id")
    assert dataset(catalog, OTHER) == other


def test_the_same_rule_again_raises_nothing(catalog: Catalog) -> None:
    catalog.set_split_rule(DATASET, RULE)
    before = dataset(catalog)
    assert catalog.set_split_rule(DATASET, RULE) == 2
    assert catalog.set_split_rule(OTHER, SplitRule()) == 1
    assert dataset(catalog) == before


def test_going_back_to_the_usual_rule_forgets_the_other(catalog: Catalog) -> None:
    catalog.set_split_rule(DATASET, RULE)
    assert catalog.set_split_rule(DATASET, SplitRule()) == 3
    assert catalog.split_rules() == {}


def test_a_publish_leaves_the_rule_alone(catalog: Catalog) -> None:
    catalog.set_split_rule(DATASET, RULE)
    assert catalog.replace_dataset(ROW, IMAGES[:2], []) == 3
    assert catalog.split_rules()[DATASET].rule == RULE


def test_a_dataset_that_is_not_there_gets_no_rule(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="There is no dataset nothing"):
        catalog.set_split_rule("nothing", RULE)
    assert catalog.split_rules() == {}


@pytest.mark.parametrize(("weights", "group_by"), [("80/20", ""), (None, None), ("8/1/1", "(a+)+"), ("8/1/1", "(")])
def test_a_rule_written_by_hand_that_cannot_be_used_is_named_and_no_other_is_taken(
    catalog: Catalog, weights: str | None, group_by: str | None
) -> None:
    insert = "INSERT INTO split_rules (dataset_id, weights, group_by) VALUES (?, ?, ?)"
    catalog._connection.execute(insert, (DATASET, weights, group_by))
    table = catalog.table()
    assert [fault.partition(" cannot be used")[0] for fault in table.faults] == [f"The split rule of {DATASET}"]
    [row] = table.split_rules
    with pytest.raises(ConfigurationError, match=f"imgsyncfs split {DATASET}"):
        _ = row.rule
    catalog.set_split_rule(DATASET, RULE)
    assert catalog.table().faults == []


def test_the_stems_of_the_images_can_be_had_alone(catalog: Catalog) -> None:
    assert sorted(catalog.image_names(DATASET)) == ["a", "b", "c"]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_catalog_of_an_earlier_version_has_no_rules_until_one_is_set(catalog: Catalog, level: int) -> None:
    take_additions_away(catalog, level=level)
    assert catalog.table().split_rules == []
    catalog.set_split_rule(DATASET, RULE)
    assert catalog.split_rules()[DATASET].rule == RULE


@pytest.mark.parametrize("level", [0, 1, 2])
def test_init_gives_an_earlier_versions_catalog_the_table(catalog: Catalog, level: int) -> None:
    take_additions_away(catalog, level=level)
    assert catalog.initialize(store="file:///data") is False
    assert catalog._settings.level == int(SCHEMA_ADDITIONS)
    assert catalog.split_rules() == {}


def test_without_the_right_to_make_the_table_it_is_said_who_can_make_it(
    postgresql_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgresql_database.url.replace(f"//{postgresql_database.postgresql.user}@", "//divider@")
    with open_catalog(postgresql_database.url, password=postgresql_database.password) as owners:
        owners.initialize(store="file:///data")
        owners.replace_dataset(ROW, IMAGES, [])
        take_additions_away(owners, level=2)
        execute = owners._connection.execute
        for statement in ("DROP ROLE IF EXISTS divider", "CREATE ROLE divider LOGIN PASSWORD 'p'"):
            execute(statement)
        execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO divider")
        try:
            with (
                open_catalog(url, password="p") as others,  # a role of this test alone
                pytest.raises(CatalogError, match="imgsyncfs init"),
            ):
                others.set_split_rule(DATASET, RULE)
            assert "is used without" in caplog.text
            assert dataset(owners).revision == 1
        finally:
            for statement in ("DROP OWNED BY divider", "DROP ROLE divider"):
                execute(statement)
