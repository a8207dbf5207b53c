"""Catalogs of another system's tables: what is checked before, what the views show, and what is refused afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from support.empty_catalogs import address_of
from support.publishing import Place, WatchedStore, annotated_folder

from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.catalog.adoption import plan
from imgsyncfs.catalog.mapping import COLUMNS, EXAMPLE, KEYS, CatalogMapping, parse_mapping, quoted, rows_query
from imgsyncfs.catalog.rows import SelectionRow, SubscriptionRow
from imgsyncfs.catalog.schema import POSTGRESQL, SQL_SERVER, SQLITE
from imgsyncfs.errors import CatalogError, ConfigurationError
from imgsyncfs.tools.publish.folder import publish

STREET = "original_20260101_rgb_bbox"
MD5 = "0123456789abcdef0123456789abcdef"

TABLES = (
    "CREATE TABLE photo_sets (set_name VARCHAR(100), revision BIGINT, photo_count BIGINT)",
    """CREATE TABLE photos (set_name VARCHAR(100), stem VARCHAR(100), extension VARCHAR(10), "size in ""bytes" BIGINT,
    path VARCHAR(500), md5_hex VARCHAR(100), gone BIGINT)""",
    "CREATE TABLE photo_labels (set_name VARCHAR(100), stem VARCHAR(100), size_in_bytes BIGINT, path VARCHAR(500))",
    f"INSERT INTO photo_sets VALUES ('{STREET}', 7, 2)",
    f"INSERT INTO photos VALUES ('{STREET}', 'a', 'jpg', 10, 'x/a.jpg', '{MD5.upper()}', 0)",
    f"INSERT INTO photos VALUES ('{STREET}', 'b', 'jpg', 20, 'x/b.jpg', NULL, 0)",
    f"INSERT INTO photos VALUES ('{STREET}', 'b', 'jpg', 20, 'x/b.jpg', NULL, 1)",
    f"INSERT INTO photo_labels VALUES ('{STREET}', 'a', 30, 'x/a.json')",
)

MAPPING = """
store = "file:///data"
[datasets]
from = "photo_sets"
dataset_id = "set_name"
revision = { sql = "s.revision + (SELECT COUNT(*) FROM photos p WHERE p.set_name = s.set_name AND p.gone = 0)" }
size = "photo_count"
[images]
from = "photos"
where = "gone = 0"
dataset_id = "set_name"
name = "stem"
ext = "extension"
byte_count = 'size in "bytes'
blob = "path"
md5 = "md5_hex"
[annotations]
from = "photo_labels"
dataset_id = "set_name"
name = "stem"
byte_count = "size_in_bytes"
blob = "path"
"""


@pytest.fixture(params=["sqlite", "postgresql", "sqlite_odbc", "sql_server"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None]:
    """URL and password of an empty database of each kind, SQL Server's too."""
    return address_of(request, tmp_path)


@pytest.fixture
def database(address: tuple[str, str | None]) -> Iterator[Catalog]:
    """A database of each kind with another system's tables."""
    with open_catalog(address[0], password=address[1], create=True) as opened:
        for statement in TABLES:
            opened._connection.execute(statement)
        yield opened


def mapped(changes: str = "", to: str = "") -> CatalogMapping:
    assert changes in MAPPING
    return parse_mapping(MAPPING.replace(changes, to) if changes else MAPPING, "MAPPING.toml")


def told(database: Catalog, mapping: CatalogMapping) -> list[str]:
    return [finding.text for finding in database.look_at_mapping(mapping)]


@pytest.fixture
def adopted(database: Catalog) -> Catalog:
    assert told(database, mapped()) == []
    database.adopt(database.adoption(mapped()))
    return database


def test_an_adopted_catalog_shows_the_other_systems_rows(adopted: Catalog) -> None:
    adopted.check()
    (dataset,) = adopted.datasets()
    assert (dataset.dataset_id, dataset.revision, dataset.size) == (STREET, 9, 2)
    assert (dataset.label_version, dataset.store) == ("1.0.0", "file:///data")
    images = {image.name: image for image in adopted.images(STREET)}
    assert {name: (image.byte_count, image.md5) for name, image in images.items()} == {"a": (10, MD5), "b": (20, "")}
    assert [(each.name, each.blob) for each in adopted.annotations(STREET, "1.0.0")] == [("a", "x/a.json")]
    assert adopted.table().faults == []


def test_its_revision_changes_with_the_other_systems_rows(adopted: Catalog) -> None:
    adopted._connection.execute("UPDATE photos SET gone = 0")
    assert [row.revision for row in adopted.datasets()] == [10]


def test_publishing_to_it_is_refused_before_a_blob_is_written(
    adopted: Catalog, store: WatchedStore, place_folder: Place
) -> None:
    annotated_folder(place_folder.folder, 1)
    with pytest.raises(CatalogError, match="read-only: its datasets are views"):
        publish(place_folder.folder, catalog=adopted, store=store, dataset_id=STREET)
    assert store.written == []


@pytest.fixture
def place_folder(adopted: Catalog, store: WatchedStore, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(adopted, store, tmp_path_factory.mktemp("new") / "folder")


def test_split_rules_are_refused_and_init_changes_nothing(adopted: Catalog) -> None:
    with pytest.raises(CatalogError, match="read-only"):
        adopted.set_split_rule(STREET, SplitRule((50, 25, 25)))
    assert adopted.initialize(store="file:///data") is False
    assert adopted.unlabelled_datasets() == []


def test_subscriptions_and_selections_are_kept_beside_the_views(adopted: Catalog) -> None:
    adopted.put_subscription(SubscriptionRow("mine", (STREET,), (), 1))
    adopted.put_selection(SelectionRow("chosen", (STREET,)))
    assert [row.name for row in adopted.subscriptions()] == ["mine"]
    assert [row.name for row in adopted.selections()] == ["chosen"]


@pytest.mark.parametrize(
    ("changes", "to", "words"),
    [
        ('from = "photos"', 'from = "phots"', "images: what `from` names cannot be read"),
        ('name = "stem"\next', 'name = "stm"\next', r'images.name: s\.[\["]stm[\]"] cannot be read'),
        ('where = "gone = 0"', "", f"several rows of the same dataset_id, name \\({STREET}, b\\)"),
        ('where = "gone = 0"', 'where = "went = 0"', "images: its condition `where` cannot be used"),
        ('"md5_hex"', '"path"', "images.md5: 2 of 2 rows looked at have a value that is no MD5"),
        ("'size in \"bytes'", '"path"', "images.byte_count: 2 of 2 rows looked at have a value that is no whole"),
        ('ext = "extension"', "ext = { sql = \"'.jpg'\" }", "images.ext: .* no extension without its dot"),
        ('blob = "path"\nmd5', "blob = { sql = \"'../' || path\" }\nmd5", "images.blob: .* no blob's name"),
        ('name = "stem"\next', "name = { sql = \"stem || ' '\" }\next", "images.name: .* ends in a space"),
        (
            'name = "stem"\nbyte',
            "name = { sql = \"'other'\" }\nbyte",
            "annotations: 1 rows belong to none of the images",
        ),
        ('blob = "path"\nmd5', 'blob = "md5_hex"\nmd5', "images: 1 rows lack one of dataset_id, name"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_made(database: Catalog, changes: str, to: str, words: str) -> None:
    assert any(re.search(words, text) for text in told(database, mapped(changes, to)))
    assert not database._settings.has_table("catalog_settings")


def test_a_table_of_a_catalogs_name_is_found(database: Catalog) -> None:
    database._connection.execute("CREATE TABLE datasets (x BIGINT)")
    assert any("has a table datasets already" in text for text in told(database, mapped()))


def test_a_statement_that_fails_leaves_nothing(database: Catalog) -> None:
    adoption = plan(database._connection, mapped())
    broken = type(adoption)([*adoption.statements, "CREATE NONSENSE"], adoption.separator, "")
    with pytest.raises(CatalogError):
        database.adopt(broken)
    assert not database._settings.has_table("catalog_settings")
    assert not database._settings.has_table("datasets")


def test_blobs_are_compared_with_what_the_mapping_says_of_them(database: Catalog, store: WatchedStore) -> None:
    for blob, byte_count in (("x/a.jpg", 10), ("x/b.jpg", 21)):
        store.write(blob, bytes(byte_count))
    missing, longer = sorted(finding.text for finding in database.blob_findings(mapped(), store))
    assert missing.startswith("annotations.blob: x/a.json in ")
    assert "is not there" in missing
    assert "x/b.jpg" in longer
    assert "has 21 bytes, where byte_count says 20" in longer


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)
def test_a_schema_of_its_own_keeps_the_names_apart(database: Catalog) -> None:
    database._connection.execute("CREATE TABLE images (x BIGINT)")
    assert database.look_at_mapping(mapped(), schema='image "sync"') == []
    adoption = database.adoption(mapped(), schema='image "sync"')
    database.adopt(adoption)
    assert 'search_path = "image ""sync"""' in adoption.for_users
    database._connection.execute('SET search_path TO "image ""sync"""')
    database.check()
    assert sorted(image.name for image in database.images(STREET)) == ["a", "b"]


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_sqlite_has_no_schemas(database: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="has no schemas"):
        database.adoption(mapped(), schema="own")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("store =", "no valid TOML"),
        ('[datasets]\nfrom = "a"', "names no store"),
        ('store = "file:///d"\n[images]\nfrom = "a"', "lacks the column dataset_id"),
        ('store = "file:///d"\n[image]\nfrom = "a"', "unknown key 'image'; .*images"),
        ('store = "file:///d"\n[images]\nfrom = "a"\nnmae = "b"', "unknown column 'nmae'; .*name"),
        ('store = "file:///d"\n[images]\nfrom = "a"\nname = 5', "neither a name nor SQL"),
        ('store = "file:///d"\n[images]\nfrom = "a"\nname = { sq = "x" }', "neither a name nor SQL"),
        ('store = "file:///d"\n[images]\nname = "a"', "does not say from which table"),
        ("store = 'file:///d'\n[images]\nfrom = \"a\\nb\"", "which is no name"),
    ],
)
def test_an_odd_mapping_is_refused_with_its_reason(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_mapping(text, "MAPPING.toml")


def test_the_example_is_a_mapping() -> None:
    assert parse_mapping(EXAMPLE, "example").tables.keys() == {"datasets", "images", "annotations"}


@given(st.text(min_size=1, max_size=20))
def test_no_name_ends_its_own_quotation(name: str) -> None:
    for dialect, end in ((SQLITE, '"'), (POSTGRESQL, '"'), (SQL_SERVER, "]")):
        inner = quoted(name, dialect)[1:-1]
        assert inner.replace(end * 2, "").count(end) == 0
        assert inner.replace(end * 2, end) == name


def test_without_annotations_there_is_a_view_without_rows(database: Catalog) -> None:
    mapping = parse_mapping(MAPPING.partition("[annotations]")[0], "MAPPING.toml")
    assert told(database, mapping) == []
    database.adopt(database.adoption(mapping))
    assert list(database.annotations(STREET, "1.0.0")) == []


def test_sql_server_gets_its_own_quotation_and_texts() -> None:
    query = rows_query(mapped(), "images", SQL_SERVER)
    assert "s.[set_name] AS dataset_id" in query
    assert 's.[size in "bytes] AS byte_count' in query
    assert "N'' AS etag" in query
    assert query.endswith("FROM [photos] s WHERE gone = 0")
    assert query.count(" AS ") - query.count("CAST(") == len(COLUMNS["images"])


class _SqlServer:
    """Stands for a connection to SQL Server, of which the SQL takes the dialect alone."""

    dialect = SQL_SERVER
    where = "nowhere"


@pytest.mark.parametrize("schema", ["", "image ]sync["])
def test_what_sql_server_gets_is_transact_sql(schema: str) -> None:
    adoption = plan(_SqlServer(), mapped(), schema=schema)  # type: ignore[arg-type]  # the dialect alone
    # sqlglot knows no PRIMARY KEY NONCLUSTERED; the tables are the ones that a catalog always has.
    for statement in (each for each in adoption.statements if not each.startswith("CREATE TABLE")):
        (parsed,) = sqlglot.parse(statement, dialect="tsql", error_level=sqlglot.ErrorLevel.RAISE)
        assert not isinstance(parsed, sqlglot.exp.Command), statement
    views = [parsed for parsed in adoption.statements if parsed.startswith("CREATE VIEW")]
    assert [view.partition(" AS SELECT")[0].rpartition(".")[2].split()[-1] for view in views] == [*KEYS]
    if schema:
        assert all("[image ]]sync[]" in statement for statement in adoption.statements)
        assert adoption.for_users.endswith("WITH DEFAULT_SCHEMA = [image ]]sync[]")
    assert adoption.separator == ";\nGO\n"


def test_columns_that_are_compared_with_the_views_have_the_databases_collation() -> None:
    statements = plan(_SqlServer(), mapped()).statements  # type: ignore[arg-type]  # the dialect alone
    labels = next(each for each in statements if each.startswith("CREATE TABLE annotation_labels"))
    assert "dataset_id NVARCHAR(200) COLLATE DATABASE_DEFAULT" in labels
    names = next(each for each in statements if each.startswith("CREATE TABLE selections"))
    assert "name NVARCHAR(200) COLLATE Latin1_General_100_BIN2" in names
