"""Publishing into a catalog: one transaction that makes it say what the publisher says, writing only what differs.

The first statement raises the revision: that locks the dataset against everyone else who would publish it, and what is
read after it is what will be replaced.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from imgsyncfs.annotations.label_counts import LabelCount
from imgsyncfs.blob_layout import WHOLE_BLOB_BYTES
from imgsyncfs.catalog.connection import Connection
from imgsyncfs.catalog.labels import write_labels
from imgsyncfs.catalog.row_values import (
    annotation_row,
    dataset_values,
    image_row,
    is_utf8,
    orientation_row,
    read_dataset_values,
)
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, OrientationRow
from imgsyncfs.catalog.schema import (
    ANNOTATION_COLUMNS,
    DATASET_COLUMNS,
    DIGESTS_LEVEL,
    IMAGE_COLUMNS,
    LABELS_LEVEL,
    ORIENTATION_COLUMNS,
    ORIENTATIONS_LEVEL,
    dataset_columns,
    select_datasets,
)
from imgsyncfs.catalog.statements import NAMES_AT_ONCE, insert, insert_all, portions
from imgsyncfs.errors import CatalogError

_REVISION, _UPDATED_AT, _PUBLISH_ID = map(DATASET_COLUMNS.index, ("revision", "updated_at", "publish_id"))


class _NothingDiffers(Exception):
    """Ends the transaction of a publish that would change nothing: the raised revision is undone."""


@dataclass(frozen=True)
class _Table:
    """One table's part in a publish.

    Attributes:
        name: of the table.
        key: columns and values that all rows of this publish have.
        columns: the others, `name` first.
        make: a row from the database's values.
    """

    name: str
    key: dict[str, str]
    columns: tuple[str, ...]
    make: Callable[[Sequence[Any]], Any]

    @property
    def where(self) -> str:
        """The condition for the rows of this publish."""
        return " AND ".join(f"{column} = ?" for column in self.key)


@dataclass(frozen=True)
class _Difference:
    """What has to be written to one table.

    Attributes:
        stale: names whose rows go, because they are gone or changed.
        fresh: (name, …) values of rows that come, because they are new or changed.
        rewritten: whether all the rows there are go first.
        unchanged: number of rows that stay.
    """

    stale: Sequence[str]
    fresh: Sequence[tuple[Any, ...]]
    rewritten: bool
    unchanged: int

    def __bool__(self) -> bool:
        return bool(self.stale or self.fresh or self.rewritten)


def replace_dataset(
    connection: Connection,
    row: DatasetRow,
    images: Sequence[ImageRow],
    annotations: Sequence[AnnotationRow],
    progress: Callable[[int], None],
    *,
    extent_digests: Mapping[str, str],
    orientations: Mapping[str, int],
    labels: Mapping[str, Sequence[LabelCount]] | None,
    additions: int,
) -> int:
    """Make the catalog say exactly this about a dataset; see `imgsyncfs.catalog.catalog.Catalog.replace_dataset`.

    `additions` is the level of what `imgsyncfs.catalog.schema.addition_statements` has added to the catalog.

    Raises:
        CatalogError: the rows contradict each other, or could not be written.
        DuplicateRow: somebody else published the dataset for the first time just now.
    """
    _check(row, images, annotations)
    dataset = row.dataset_id
    row = replace(row, publish_id=uuid.uuid4().hex)
    annotation_key = {"dataset_id": dataset, "label_version": row.label_version}
    tables = (
        (_Table("images", {"dataset_id": dataset}, IMAGE_COLUMNS, image_row), images),
        (_Table("annotations", annotation_key, ANNOTATION_COLUMNS, annotation_row), annotations),
    )
    try:
        with connection.transaction():
            revision, differs = _lock(connection, row, additions=additions)
            for table, rows in tables:
                difference = _compare(connection, table, rows)
                differs = differs or bool(difference)
                progress(difference.unchanged)
                _write(connection, table, difference, progress)
            if additions >= DIGESTS_LEVEL:
                known = {file.md5 for _, rows in tables for file in rows if file.byte_count > WHOLE_BLOB_BYTES}
                differs = _write_digests(connection, row, known, extent_digests) or differs
            if additions >= ORIENTATIONS_LEVEL:
                differs = _write_orientations(connection, dataset, images, orientations) or differs
            if additions >= LABELS_LEVEL:
                differs = write_labels(connection, dataset, row.label_version, labels) or differs
            if not differs:
                raise _NothingDiffers  # noqa: TRY301  # out of the transaction, not out of here
            _write_dataset(connection, replace(row, revision=revision), additions=additions)
    except _NothingDiffers:
        return revision - 1
    return revision


def _check(row: DatasetRow, images: Sequence[ImageRow], annotations: Sequence[AnnotationRow]) -> None:
    """Refuse rows that contradict each other before anything is locked."""
    try:
        dataset_values(row)
    except ValueError as error:
        raise CatalogError(f"The dataset {row.dataset_id} cannot be published: {error}; rename it.") from error
    names = {image.name for image in images}
    annotated = {annotation.name for annotation in annotations}
    for what, files, different in (("image", images, names), ("annotation", annotations, annotated)):
        if len(different) < len(files):
            (name, _), *_ = Counter(file.name for file in files).most_common(1)
            raise CatalogError(
                f"The dataset {row.dataset_id} cannot be published: the {what} {name!r} is given twice; give it once."
            )
    if not annotated <= names:
        raise CatalogError(
            f"The dataset {row.dataset_id} cannot be published: the annotation {min(annotated - names)!r} has no "
            "image; leave it out, or add the image."
        )


def _lock(connection: Connection, row: DatasetRow, *, additions: int) -> tuple[int, bool]:
    """Raise the revision, which locks the dataset until the transaction ends.

    Returns:
        The new revision, and whether the dataset itself (not its files) is new or changed.
    """
    connection.execute(
        "UPDATE datasets SET revision = COALESCE(revision, 0) + 1 WHERE dataset_id = ?", (row.dataset_id,)
    )
    query = f"{select_datasets(additions)} WHERE dataset_id = ?"
    found = list(connection.rows(query, (row.dataset_id,)))
    columns = dataset_columns(additions)
    if not found:
        # Two who publish it for the first time: the second waits here, and then fails with a `DuplicateRow`.
        insert(connection, "datasets", columns, [dataset_values(replace(row, revision=1))[: len(columns)]])
        return 1, True
    revision: int = found[0][_REVISION]
    try:
        old = read_dataset_values(found[0])
    except ValueError:
        return revision, True  # A row that cannot be read is not worth keeping.
    # When nothing else differs, it is still the same revision, of the same publish.
    same = {"revision": revision, "updated_at": old[_UPDATED_AT], "publish_id": old[_PUBLISH_ID]}
    return revision, old != dataset_values(replace(row, **same))


def _compare(connection: Connection, table: _Table, rows: Sequence[Any]) -> _Difference:
    """Find what has to be written so that the table holds these rows."""
    values_of = attrgetter(*table.columns)
    given = {row.name: row for row in rows}
    missing = dict(given)
    query = f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {table.where}"  # noqa: S608  # constant names
    stale: list[str] = []
    fresh: list[tuple[Any, ...]] = []
    rewritten = False
    unchanged = 0
    for values in connection.rows(query, tuple(table.key.values())):
        row = missing.get(values[0])
        if row is not None and values_of(row) == values:
            del missing[values[0]]
            unchanged += 1
            continue
        try:
            old = table.make(values)
        except ValueError:
            rewritten = True  # A row that cannot be read is not worth keeping, and may not be found by its name.
            continue
        row = missing.pop(old.name, None)
        if row is None and old.name in given:
            rewritten = True  # The name is there twice, in a table that somebody made without its key.
            continue
        if row == old:
            unchanged += 1  # but for NULL, or capitals in the digest
            continue
        stale.append(old.name)
        if row is not None:
            fresh.append(values_of(row))
    # No database takes a parameter that is no valid text.
    if rewritten or not all(map(is_utf8, stale)):
        return _Difference((), [values_of(row) for row in rows], rewritten=True, unchanged=0)
    fresh += [values_of(row) for row in missing.values()]
    return _Difference(stale, fresh, rewritten=False, unchanged=unchanged)


def _write(connection: Connection, table: _Table, difference: _Difference, progress: Callable[[int], None]) -> None:
    key = tuple(table.key.values())
    delete = f"DELETE FROM {table.name} WHERE {table.where}"  # noqa: S608  # constant names
    if difference.rewritten:
        connection.execute(delete, key)
    for names in portions(difference.stale, NAMES_AT_ONCE):
        marks = ", ".join("?" * len(names))
        connection.execute(f"{delete} AND name IN ({marks})", (*key, *names))
    columns = (*table.key, *table.columns)
    insert_all(connection, table.name, columns, ((*key, *row) for row in difference.fresh), progress)


def _write_digests(
    connection: Connection, row: DatasetRow, large_files: Collection[str], digests: Mapping[str, str]
) -> bool:
    """Keep the digests of extents, and forget those of files that are gone. Says whether there are new ones.

    `large_files` are the MD5s of the files of this publish that have several extents.
    """
    key = (row.dataset_id,)
    found = dict(connection.rows("SELECT md5, xxh3 FROM extent_digests WHERE dataset_id = ?", key))
    given = {md5: text for md5, text in digests.items() if found.get(md5) != text}
    if not found and not given:
        return False
    others = connection.rows(
        "SELECT md5 FROM annotations WHERE dataset_id = ? AND label_version <> ? AND byte_count > ?",
        (row.dataset_id, row.label_version, WHOLE_BLOB_BYTES),
    )
    wanted = {*large_files, *digests, *(md5 for (md5,) in others)}
    stale = [md5 for md5 in found if md5 in given or md5 not in wanted]
    for names in portions(stale, NAMES_AT_ONCE):
        marks = ", ".join("?" * len(names))
        statement = f"DELETE FROM extent_digests WHERE dataset_id = ? AND md5 IN ({marks})"  # noqa: S608  # marks alone
        connection.execute(statement, (*key, *names))
    fresh = ((row.dataset_id, *entry) for entry in given.items())
    insert_all(connection, "extent_digests", ("dataset_id", "md5", "xxh3"), fresh)
    return bool(given)


def _write_orientations(
    connection: Connection, dataset: str, images: Sequence[ImageRow], orientations: Mapping[str, int]
) -> bool:
    """Keep the orientations of the images that have one but 1. Says whether any differs from what was kept."""
    table = _Table("image_orientations", {"dataset_id": dataset}, ORIENTATION_COLUMNS, orientation_row)
    found = ((image.name, orientations.get(image.name, 1)) for image in images)
    difference = _compare(connection, table, [OrientationRow(*entry) for entry in found if entry[1] != 1])
    _write(connection, table, difference, lambda _: None)
    return bool(difference)


def _write_dataset(connection: Connection, row: DatasetRow, *, additions: int) -> None:
    columns = dataset_columns(additions)
    assignments = ", ".join(f"{column} = ?" for column in columns)
    statement = f"UPDATE datasets SET {assignments} WHERE dataset_id = ?"  # noqa: S608  # constant names
    connection.execute(statement, (*dataset_values(row)[: len(columns)], row.dataset_id))
