"""The catalog's tables as SQL, and what differs between databases: the types of columns, and settings of a session.

All other SQL is one text for all: ``?`` parameters, no LIMIT or TOP, no upsert. Table and column names are reserved
neither in SQL Server, PostgreSQL nor SQLite, so that nothing is quoted. (``blob`` is reserved in MySQL.)

Only keys are NOT NULL: rows that were written by hand may leave the rest out, and reading puts ``""`` and 0 there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from imgsyncfs.catalog.rows import (
    AnnotationRow,
    DatasetLabelsRow,
    DatasetRow,
    ImageRow,
    LabelRow,
    OrientationRow,
    SplitRow,
    SubscriptionRow,
)

SCHEMA_VERSION = "1"

SCHEMA_ADDITIONS = "5"
"""What later versions have added to the schema, beside what earlier ones read and write; see `addition_statements`.

Additions are made level by level, each on the one before it. A catalog of a lower level, 0 without any, is read as it
is; the next publish or ``init`` brings it to this one."""

DIGESTS_LEVEL = 1
"""From this level of additions on, publishes have ids, and the digests of large files' extents are kept."""

ORIENTATIONS_LEVEL = 2
"""From this level of additions on, orientations of images are kept."""

SPLITS_LEVEL = 3
"""From this level of additions on, datasets may have split rules of their own."""

LABELS_LEVEL = 4
"""From this level of additions on, what annotations say is kept."""

SELECTIONS_LEVEL = 5
"""From this level of additions on, selections of images are kept."""

ADDED = {
    DIGESTS_LEVEL: "the column publish_id of the table datasets and the table extent_digests",
    ORIENTATIONS_LEVEL: "the table image_orientations",
    SPLITS_LEVEL: "the table split_rules",
    LABELS_LEVEL: "the tables annotation_labels and dataset_labels",
    SELECTIONS_LEVEL: "the table selections",
}
"""What each level of additions brings, for people."""

DATASET_COLUMNS = tuple(field.name for field in fields(DatasetRow))
ADDED_DATASET_COLUMNS = ("publish_id",)
FIRST_DATASET_COLUMNS = tuple(column for column in DATASET_COLUMNS if column not in ADDED_DATASET_COLUMNS)
IMAGE_COLUMNS = tuple(field.name for field in fields(ImageRow))
ANNOTATION_COLUMNS = tuple(field.name for field in fields(AnnotationRow))
ORIENTATION_COLUMNS = tuple(field.name for field in fields(OrientationRow))
SPLIT_COLUMNS = tuple(field.name for field in fields(SplitRow))
LABEL_COLUMNS = tuple(field.name for field in fields(LabelRow))
DATASET_LABELS_COLUMNS = tuple(field.name for field in fields(DatasetLabelsRow))
SELECTION_COLUMNS = ("name", "definition", "updated_at")
SUBSCRIPTION_COLUMNS = tuple(field.name for field in fields(SubscriptionRow))

INTEGER_COLUMNS = frozenset(
    field.name
    for kind in (DatasetRow, ImageRow, AnnotationRow, OrientationRow, LabelRow, SubscriptionRow)
    for field in fields(kind)
    if field.type == "int"
)
"""The columns that hold whole numbers; all others hold text."""

LONGEST_LABEL_NAME = 200
LONGEST_LABEL_VALUE = 300
"""In characters: with the dataset's id and the label version, an index of SQL Server has 1,700 bytes for them."""

_COMPARED = {"label_version": 50, "label_name": LONGEST_LABEL_NAME, "label_value": LONGEST_LABEL_VALUE}
"""The longest length of texts that are compared, where they are no part of their table's key."""

_LABEL_INDEX = ("label_name", "label_value", "dataset_id", "label_version", "object_count")
"""Without the image's name, which would make it too long for SQL Server. With the number of objects, so that all that a
query asks for is in the index: otherwise SQLite would rather look at each label of a dataset."""

_LENGTHS = {
    "blob": 1100,
    "etag": 200,
    "ext": 100,
    "group_by": 200,
    "image_type": 100,
    "label_type": 200,
    "md5": 32,
    "publish_id": 32,
    "store": 2000,
    "value": 2000,
    "weights": 50,
}
"""The longest length of texts in characters; others may have any."""

_KEY_LENGTHS = {"dataset_id": 200, "name": 450}

TABLES = (
    "catalog_settings",
    "datasets",
    "images",
    "annotations",
    "subscriptions",
    "extent_digests",
    "image_orientations",
    "split_rules",
    "annotation_labels",
    "dataset_labels",
    "selections",
)


@dataclass(frozen=True)
class Dialect:
    """What is particular to one kind of database.

    Attributes:
        name: for messages.
        key: type of a text that is compared, given its longest length in characters; compares case and all.
        text: type of a text of limited length.
        long_text: type of a text of any length.
        primary_key: the words before a primary key's columns.
        clustered: the end of a large table's definition, given the columns that order it.
        after: what stands after a table's definition.
        session: statements for a new connection, given the time limit in milliseconds.
    """

    name: str
    key: Callable[[int], str] = lambda length: "TEXT"  # noqa: ARG005
    text: Callable[[int], str] = lambda length: "TEXT"  # noqa: ARG005
    long_text: str = "TEXT"
    primary_key: str = "PRIMARY KEY"
    clustered: Callable[[str], str] = lambda columns: ""  # noqa: ARG005
    after: str = ""
    session: Callable[[int], tuple[str, ...]] = lambda milliseconds: ()  # noqa: ARG005


SQLITE = Dialect(
    name="SQLite",
    # A dataset's rows then lie side by side in the order of their names, and the key is stored once.
    after=" WITHOUT ROWID",
)

POSTGRESQL = Dialect(
    name="PostgreSQL",
    session=lambda milliseconds: (
        f"SET statement_timeout = {milliseconds}",
        # Less, so that a statement that waits for a lock is told to be that.
        f"SET lock_timeout = {milliseconds * 3 // 4}",
    ),
)

CODE_POINTS = "Latin1_General_100_BIN2"
"""The collation of SQL Server that compares code points; the usual ones take 'A' for 'a'."""

SQL_SERVER = Dialect(
    name="Microsoft SQL Server",
    key=lambda length: f"NVARCHAR({length}) COLLATE {CODE_POINTS}",
    text=lambda length: f"NVARCHAR({length})",
    long_text="NVARCHAR(MAX)",
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
)


def find_dialect(dbms_name: str) -> Dialect:
    """Find the dialect of a database.

    Args:
        dbms_name: what its ODBC driver says for SQL_DBMS_NAME; `STANDARD` is for all that are unknown.
    """
    known = {dialect.name.lower(): dialect for dialect in (SQLITE, POSTGRESQL, SQL_SERVER)}
    return known.get(dbms_name.lower(), STANDARD)


def longest_text(column: str) -> int:
    """The longest length of a text in a column, in characters; 0 if it may have any."""
    return _KEY_LENGTHS.get(column) or _COMPARED.get(column) or _LENGTHS.get(column, 0)


def create_statements(dialect: Dialect) -> list[str]:
    """Write the statements that make the tables of an empty catalog, `TABLES` in that order, and their indexes."""
    return [
        _create(dialect, "catalog_settings", ("name", "value"), {"name": 100}),
        _create(dialect, "datasets", DATASET_COLUMNS, {"dataset_id": 200}),
        _create(
            dialect,
            "images",
            ("dataset_id", *IMAGE_COLUMNS),
            {"dataset_id": 200, "name": 450},
            clustered_by="dataset_id, position",
        ),
        _create(
            dialect,
            "annotations",
            ("dataset_id", "label_version", *ANNOTATION_COLUMNS),
            {"dataset_id": 200, "label_version": 50, "name": 450},
            clustered_by="dataset_id, label_version",
        ),
        _create(dialect, "subscriptions", SUBSCRIPTION_COLUMNS, {"name": 200}),
        _extent_digests(dialect),
        _image_orientations(dialect),
        _split_rules(dialect),
        *_labels(dialect),
        _selections(dialect),
    ]


def additions_level(setting: str | None) -> int:
    """The level of additions that a catalog has, of those that this version knows.

    Args:
        setting: what the catalog says; None if it says nothing.
    """
    return min(int(setting), int(SCHEMA_ADDITIONS)) if setting and setting.isdecimal() else 0


def dataset_columns(level: int) -> tuple[str, ...]:
    """The columns of the table ``datasets`` at a level of additions: the first of `DATASET_COLUMNS`, in their order."""
    return DATASET_COLUMNS if level >= DIGESTS_LEVEL else FIRST_DATASET_COLUMNS


def select_datasets(level: int) -> str:
    """The query for datasets, with a value for each of `DATASET_COLUMNS`; a WHERE may follow."""
    columns = [*dataset_columns(level)]
    columns += ["''"] * (len(DATASET_COLUMNS) - len(columns))
    return f"SELECT {', '.join(columns)} FROM datasets"  # noqa: S608  # constant names


def addition_statements(dialect: Dialect, level: int) -> list[str]:
    """Write the statements that bring a catalog to a level of additions from the one below it."""
    if level == SELECTIONS_LEVEL:
        return [_selections(dialect)]
    if level == LABELS_LEVEL:
        return _labels(dialect)
    if level == SPLITS_LEVEL:
        return [_split_rules(dialect)]
    if level == ORIENTATIONS_LEVEL:
        return [_image_orientations(dialect)]
    # SQL Server knows no ADD COLUMN, and the others need no COLUMN.
    return [f"ALTER TABLE datasets ADD publish_id {_type(dialect, 'publish_id')}", _extent_digests(dialect)]


def _extent_digests(dialect: Dialect) -> str:
    """The table of what `imgsyncfs.blob_layout` makes, by the MD5 of the whole file."""
    return _create(dialect, "extent_digests", ("dataset_id", "md5", "xxh3"), {"dataset_id": 200, "md5": 32})


def _image_orientations(dialect: Dialect) -> str:
    """The table of the images that are not shown as they are stored."""
    return _create(
        dialect,
        "image_orientations",
        ("dataset_id", *ORIENTATION_COLUMNS),
        {"dataset_id": 200, "name": 450},
        clustered_by="dataset_id",
    )


def _split_rules(dialect: Dialect) -> str:
    """The table of the datasets that are not divided by the usual rule."""
    return _create(dialect, "split_rules", SPLIT_COLUMNS, {"dataset_id": 200})


def _labels(dialect: Dialect) -> list[str]:
    """The tables of what annotations say: each by itself, and those of each dataset together."""
    return [
        _create(
            dialect,
            "annotation_labels",
            ("dataset_id", "label_version", *LABEL_COLUMNS),
            {"dataset_id": 200, "label_version": 50, "name": 450, "place": 0},
            clustered_by="dataset_id, label_version",
        ),
        f"CREATE INDEX annotations_by_label ON annotation_labels ({', '.join(_LABEL_INDEX)})",
        _create(dialect, "dataset_labels", DATASET_LABELS_COLUMNS, {"dataset_id": 200, "label_version": 50}),
    ]


def _selections(dialect: Dialect) -> str:
    """The table of selections of images."""
    return _create(dialect, "selections", SELECTION_COLUMNS, {"name": 200})


def _create(
    dialect: Dialect, table: str, columns: Sequence[str], key: Mapping[str, int], *, clustered_by: str = ""
) -> str:
    """The definition of a table; the key's columns are given with their longest length in characters, 0 for numbers."""
    definitions = [
        f"{column} {dialect.key(key[column]) if key[column] else _type(dialect, column)} NOT NULL"
        if column in key
        else f"{column} {_type(dialect, column)}"
        for column in columns
    ]
    definitions.append(f"{dialect.primary_key} ({', '.join(key)})")
    clustered = dialect.clustered(clustered_by) if clustered_by else ""
    return f"CREATE TABLE {table} ({', '.join(definitions)}{clustered}){dialect.after}"


def _type(dialect: Dialect, column: str) -> str:
    """The type of a column that is no part of its table's key."""
    if column in INTEGER_COLUMNS:
        # Not INTEGER: SQLite's ODBC driver would read that with 32 bits.
        return "BIGINT"
    if column in _COMPARED:
        return dialect.key(_COMPARED[column])
    return dialect.text(_LENGTHS[column]) if column in _LENGTHS else dialect.long_text
