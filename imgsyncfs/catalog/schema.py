"""The catalog's tables as SQL, and what differs between databases: the types of columns, and settings of a session.

All other SQL is one text for all: ``?`` parameters, no LIMIT or TOP, no upsert. Table and column names are reserved
neither in SQL Server, PostgreSQL nor SQLite, so that nothing is quoted. (``blob`` is reserved in MySQL.)

Only keys are NOT NULL: rows that were written by hand may leave the rest out, and reading puts ``""`` and 0 there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, SubscriptionRow

SCHEMA_VERSION = "1"

SCHEMA_ADDITIONS = "1"
"""What later versions have added to the schema, in ways that earlier ones do not notice; see `addition_statements`. A
catalog without the additions is read as it is; the next publish or ``init`` makes them."""

DATASET_COLUMNS = tuple(field.name for field in fields(DatasetRow))
ADDED_DATASET_COLUMNS = ("publish_id",)
FIRST_DATASET_COLUMNS = tuple(column for column in DATASET_COLUMNS if column not in ADDED_DATASET_COLUMNS)
IMAGE_COLUMNS = tuple(field.name for field in fields(ImageRow))
ANNOTATION_COLUMNS = tuple(field.name for field in fields(AnnotationRow))
SUBSCRIPTION_COLUMNS = tuple(field.name for field in fields(SubscriptionRow))

TABLES = ("catalog_settings", "datasets", "images", "annotations", "subscriptions", "extent_digests")


@dataclass(frozen=True)
class Dialect:
    """What is particular to one kind of database.

    Attributes:
        name: for messages.
        key: type of a text that is compared, given its longest length in characters; compares case and all.
        text: type of a text of limited length.
        long_text: type of a text of any length.
        integer: type of a 64-bit integer.
        primary_key: the words before a primary key's columns.
        clustered: the end of a large table's definition, given the columns that order it.
        after: what stands after a table's definition.
        session: statements for a new connection, given the time limit in milliseconds.
    """

    name: str
    key: Callable[[int], str]
    text: Callable[[int], str]
    long_text: str
    integer: str
    primary_key: str = "PRIMARY KEY"
    clustered: Callable[[str], str] = lambda columns: ""  # noqa: ARG005
    after: str = ""
    session: Callable[[int], tuple[str, ...]] = lambda milliseconds: ()  # noqa: ARG005


SQLITE = Dialect(
    name="SQLite",
    key=lambda length: "TEXT",  # noqa: ARG005
    text=lambda length: "TEXT",  # noqa: ARG005
    long_text="TEXT",
    # Not INTEGER: SQLite's ODBC driver would read that with 32 bits.
    integer="BIGINT",
    # A dataset's rows then lie side by side in the order of their names, and the key is stored once.
    after=" WITHOUT ROWID",
)

POSTGRESQL = Dialect(
    name="PostgreSQL",
    key=lambda length: "TEXT",  # noqa: ARG005
    text=lambda length: "TEXT",  # noqa: ARG005
    long_text="TEXT",
    integer="BIGINT",
    session=lambda milliseconds: (
        f"SET statement_timeout = {milliseconds}",
        # Less, so that a statement that waits for a lock is told to be that.
        f"SET lock_timeout = {milliseconds * 3 // 4}",
    ),
)

SQL_SERVER = Dialect(
    name="Microsoft SQL Server",
    # The usual collations take 'A' for 'a'; this one compares code points.
    key=lambda length: f"NVARCHAR({length}) COLLATE Latin1_General_100_BIN2",
    text=lambda length: f"NVARCHAR({length})",
    long_text="NVARCHAR(MAX)",
    integer="BIGINT",
    # A clustered key may have 900 bytes, this one 1,700: dataset_id, label_version and name come to 1,400.
    primary_key="PRIMARY KEY NONCLUSTERED",
    # A dataset's rows then lie side by side: reading them all is what listings do.
    clustered=lambda columns: f", INDEX rows_together CLUSTERED ({columns})",
    session=lambda milliseconds: (f"SET LOCK_TIMEOUT {milliseconds}",),
)

STANDARD = Dialect(
    name="another database",
    key=lambda length: f"VARCHAR({length})",
    text=lambda length: f"VARCHAR({length})",
    long_text="VARCHAR(8000)",
    integer="BIGINT",
)


def find_dialect(dbms_name: str) -> Dialect:
    """Find the dialect of a database.

    Args:
        dbms_name: what its ODBC driver says for SQL_DBMS_NAME.

    Returns:
        The dialect; `STANDARD` for databases nobody thought of.
    """
    known = {dialect.name.lower(): dialect for dialect in (SQLITE, POSTGRESQL, SQL_SERVER)}
    return known.get(dbms_name.lower(), STANDARD)


def create_statements(dialect: Dialect) -> list[str]:
    """Write the statements that make the tables of an empty catalog.

    Args:
        dialect: of the database.

    Returns:
        One CREATE TABLE for each of `TABLES`, in that order.
    """
    key, text, integer = dialect.key, dialect.text, dialect.integer
    dataset_id, name, label_version = key(200), key(450), key(50)
    file_columns = f"""
        byte_count {integer},
        md5 {text(32)},
        blob {text(1100)},
        blob_offset {integer}"""
    return [
        _create(
            dialect,
            "catalog_settings",
            f"""
        name {key(100)} NOT NULL,
        value {text(2000)},""",
            "name",
        ),
        _create(
            dialect,
            "datasets",
            f"""
        dataset_id {dataset_id} NOT NULL,
        label_version {label_version},
        image_type {text(100)},
        classes {dialect.long_text},
        projects {dialect.long_text},
        label_type {text(200)},
        size {integer},
        note {dialect.long_text},
        store {text(2000)},
        revision {integer},
        updated_at {integer},
        publish_id {text(32)},""",
            "dataset_id",
        ),
        _create(
            dialect,
            "images",
            f"""
        dataset_id {dataset_id} NOT NULL,
        name {name} NOT NULL,
        ext {text(100)},
        height {integer},
        width {integer},
        depth {integer},{file_columns},
        position {integer},
        etag {text(200)},
        modified_at {integer},""",
            "dataset_id, name",
            clustered_by="dataset_id, position",
        ),
        _create(
            dialect,
            "annotations",
            f"""
        dataset_id {dataset_id} NOT NULL,
        label_version {label_version} NOT NULL,
        name {name} NOT NULL,
        label_checked {integer},
        object_count {integer},{file_columns},
        etag {text(200)},
        modified_at {integer},""",
            "dataset_id, label_version, name",
            clustered_by="dataset_id, label_version",
        ),
        _create(
            dialect,
            "subscriptions",
            f"""
        name {key(200)} NOT NULL,
        dataset_ids {dialect.long_text},
        conditions {dialect.long_text},
        updated_at {integer},""",
            "name",
        ),
        _extent_digests(dialect),
    ]


def dataset_columns(*, has_additions: bool) -> tuple[str, ...]:
    """The columns of the table ``datasets``: the first ones of `DATASET_COLUMNS`, in their order."""
    return DATASET_COLUMNS if has_additions else FIRST_DATASET_COLUMNS


def select_datasets(*, has_additions: bool) -> str:
    """The query for datasets, with a value for each of `DATASET_COLUMNS`; a WHERE may follow."""
    columns = [*dataset_columns(has_additions=has_additions)]
    columns += ["''"] * (len(DATASET_COLUMNS) - len(columns))
    return f"SELECT {', '.join(columns)} FROM datasets"  # noqa: S608  # constant names


def addition_statements(dialect: Dialect) -> list[str]:
    """Write the statements that bring an earlier version's catalog to `SCHEMA_ADDITIONS`.

    Args:
        dialect: of the database.
    """
    # SQL Server knows no ADD COLUMN, and the others need no COLUMN.
    return [f"ALTER TABLE datasets ADD publish_id {dialect.text(32)}", _extent_digests(dialect)]


def _extent_digests(dialect: Dialect) -> str:
    """The table of what `imgsyncfs.blob_layout` makes, by the MD5 of the whole file."""
    return _create(
        dialect,
        "extent_digests",
        f"""
        dataset_id {dialect.key(200)} NOT NULL,
        md5 {dialect.key(32)} NOT NULL,
        xxh3 {dialect.long_text},""",
        "dataset_id, md5",
    )


def _create(dialect: Dialect, table: str, columns: str, key_columns: str, *, clustered_by: str = "") -> str:
    clustered = dialect.clustered(clustered_by) if clustered_by else ""
    return (
        f"CREATE TABLE {table} ({columns}\n        {dialect.primary_key} ({key_columns}){clustered}\n){dialect.after}"
    )
