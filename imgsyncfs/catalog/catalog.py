"""The catalog: everything that is asked of it and written into it.

All SQL for reading is here; `imgsyncfs.catalog.replacement` has what publishing writes.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from imgsyncfs.annotations.label_counts import LabelCount
from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.blob_layout import are_extent_digests, is_md5
from imgsyncfs.catalog.catalog_settings import CatalogSettings
from imgsyncfs.catalog.conditions import ImageQuery
from imgsyncfs.catalog.connection import Connection, connect
from imgsyncfs.catalog.fingerprint import read_fingerprint
from imgsyncfs.catalog.gathered import gathered
from imgsyncfs.catalog.isolation import find_isolation
from imgsyncfs.catalog.labels import read_dataset_labels, read_image_values, write_labels
from imgsyncfs.catalog.replacement import replace_dataset
from imgsyncfs.catalog.rerun import until_done
from imgsyncfs.catalog.row_values import (
    LISTED_ANNOTATION_COLUMNS,
    LISTED_IMAGE_COLUMNS,
    annotation_row,
    dataset_row,
    decoded,
    image_row,
    is_utf8,
    listed_image_row,
    orientation_row,
    read_dataset_values,
    split_row,
    subscription_row,
    subscription_values,
)
from imgsyncfs.catalog.rows import (
    AnnotationRow,
    CatalogTable,
    DatasetLabelsRow,
    DatasetRow,
    ImageRow,
    OrientationRow,
    Portion,
    SelectionRow,
    SplitRow,
    SubscriptionRow,
)
from imgsyncfs.catalog.schema import (
    ANNOTATION_COLUMNS,
    DIGESTS_LEVEL,
    IMAGE_COLUMNS,
    LABELS_LEVEL,
    ORIENTATION_COLUMNS,
    ORIENTATIONS_LEVEL,
    SELECTIONS_LEVEL,
    SPLIT_COLUMNS,
    SPLITS_LEVEL,
    SUBSCRIPTION_COLUMNS,
    select_datasets,
)
from imgsyncfs.catalog.selecting import (
    SelectedImages,
    count_classes,
    read_selections,
    remove_selection,
    write_selection,
)
from imgsyncfs.catalog.statements import insert
from imgsyncfs.catalog.url import parse_catalog_url
from imgsyncfs.catalog.writing_rights import check_lengths, check_rights
from imgsyncfs.errors import (
    CatalogError,
    ConfigurationError,
)

if TYPE_CHECKING:
    from imgsyncfs.catalog.adoption import Adoption, Finding
    from imgsyncfs.catalog.mapping import CatalogMapping
    from imgsyncfs.stores.contract import Store

logger = logging.getLogger(__name__)

_IMAGES_OF = "images WHERE dataset_id = ?"
_ANNOTATIONS_OF = "annotations WHERE dataset_id = ? AND label_version = ?"
_IMAGES = f"SELECT {', '.join(IMAGE_COLUMNS)} FROM {_IMAGES_OF}"  # noqa: S608  # constant names
_ANNOTATIONS = f"SELECT {', '.join(ANNOTATION_COLUMNS)} FROM {_ANNOTATIONS_OF}"  # noqa: S608  # constant names
_BYTE_COUNTS = "SELECT dataset_id, SUM(byte_count) FROM images GROUP BY dataset_id"
_EXTENT_DIGESTS = "SELECT md5, xxh3 FROM extent_digests WHERE dataset_id = ?"
_ORIENTATIONS = f"SELECT {', '.join(ORIENTATION_COLUMNS)} FROM image_orientations WHERE dataset_id = ?"  # noqa: S608  # constant names
_SPLIT_RULES = f"SELECT {', '.join(SPLIT_COLUMNS)} FROM split_rules"  # noqa: S608  # constant names
_SUBSCRIPTIONS = f"SELECT {', '.join(SUBSCRIPTION_COLUMNS)} FROM subscriptions"  # noqa: S608  # constant names

_EXIF_ORIENTATIONS = range(1, 9)

FileRow = TypeVar("FileRow", ImageRow, AnnotationRow, OrientationRow)
Kept = TypeVar("Kept", DatasetRow, DatasetLabelsRow, SelectionRow, SplitRow, SubscriptionRow)


def open_catalog(
    url: str,
    *,
    password: str | None = None,
    timeout: float = 30.0,
    create: bool = False,
    patience: float = 0.0,
    waiting: Callable[[float], None] = lambda _: None,
) -> Catalog:
    """Connect to a catalog. Whether the database holds one is found out by `Catalog.check`.

    Args:
        url: see `imgsyncfs.catalog.url`; without a password in it.
        password: for the user in the URL, if one is needed.
        timeout: for one answer of the database, or another connection's lock, in seconds.
        create: whether a missing SQLite file is made, to be initialized.
        patience: how long to ask a server again that says that it will be ready soon, in seconds: a serverless
            database that sleeps takes up to a minute.
        waiting: is told now and then for how many seconds that was done so far.

    Returns:
        The catalog; to be closed, or used in a ``with`` statement.

    Raises:
        CatalogMissing: there is no such file or database.
        CatalogRefused: user or password are refused.
        CatalogUnreachable: the server cannot be reached, or does not answer in time.
        CatalogError: the database cannot be opened for another reason.
        ConfigurationError: the URL makes no sense, or the ODBC driver is not installed.
    """
    if timeout <= 0:
        raise ConfigurationError(f"The time limit is {timeout:g} s; give one above 0.")
    parsed = parse_catalog_url(url)
    return Catalog(
        connect(parsed, password=password, timeout=timeout, create=create, patience=patience, waiting=waiting)
    )


class Catalog:
    """An open catalog. It belongs to the thread that opened it: every thread opens its own.

    All methods raise `NotACatalog` if the tables are not there, `CatalogUnreachable` if the database does not answer in
    time (the catalog must then be opened anew), and `CatalogError` for all else that the database refuses.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._settings = CatalogSettings(connection)

    def __enter__(self) -> Catalog:  # noqa: PYI034  # Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    @property
    def has_session(self) -> bool:
        """Whether a session with a server is open."""
        return self._connection.has_session

    def rest(self) -> None:
        """End the session with a server while nobody needs it, so that a serverless database may sleep."""
        self._connection.rest()

    def is_stale(self) -> bool:
        """Whether to open it anew: another catalog is at its place, or what it has logged in with ends soon."""
        return self._connection.is_stale()

    def check(self) -> None:
        """Make sure that this is a catalog.

        Raises:
            NotACatalog: it is none, or one that this version does not know.
        """
        self._settings.check()

    def initialize(self, *, store: str) -> bool:
        """Make the tables of an empty database; see `CatalogSettings.initialize`."""
        return self._settings.initialize(store=store)

    def check_writable(self, values: Mapping[str, str]) -> None:
        """Make sure, before anything is uploaded, that a dataset can be published.

        Args:
            values: name of a column of ``datasets`` to the text that will stand there; others are not looked at.

        Raises:
            CatalogRefused: the user lacks rights, which are named.
            CatalogError: the catalog is read-only, or a text is too long for it.
        """
        self._settings.refuse_read_only()
        check_lengths(self._connection.where, values)
        check_rights(self._connection, level=self._settings.level)

    def look_at_mapping(self, mapping: CatalogMapping, *, schema: str = "") -> list[Finding]:
        """Check what is to be adopted against the database; see `imgsyncfs.catalog.adoption.look_at`."""
        # Late: a mount has no use for it.
        from imgsyncfs.catalog.adoption import look_at

        return look_at(self._connection, mapping, schema=schema)

    def blob_findings(self, mapping: CatalogMapping, store: Store) -> list[Finding]:
        """Compare some blobs with what is to be adopted; see `imgsyncfs.catalog.adoption.blob_findings`."""
        # Late: a mount has no use for it.
        from imgsyncfs.catalog.adoption import blob_findings

        return blob_findings(self._connection, mapping, store)

    def adoption(self, mapping: CatalogMapping, *, schema: str = "") -> Adoption:
        """What makes the catalog of another system's tables; see `imgsyncfs.catalog.adoption.plan`."""
        # Late: a mount has no use for it.
        from imgsyncfs.catalog.adoption import plan

        return plan(self._connection, mapping, schema=schema)

    def adopt(self, adoption: Adoption) -> None:
        """Make the catalog of another system's tables, in one transaction."""
        # Late: a mount has no use for it.
        from imgsyncfs.catalog.adoption import adopt

        adopt(self._connection, adoption)

    def missing_additions(self) -> list[str]:
        """What `initialize` would add to the schema of a catalog, for people; nothing where there is no catalog yet."""
        return self._settings.missing_additions()

    def unlabelled_datasets(self) -> list[DatasetRow]:
        """The datasets of which the catalog does not know what their annotations say, ordered by id.

        An earlier version has published them. Nothing where there is no catalog yet.
        """
        if not self._settings.has_table("catalog_settings"):
            return []
        self._settings.read()
        if self._settings.known("read_only"):
            return []
        known = {(row.dataset_id, row.label_version) for row in self.dataset_labels()}
        return [row for row in self.datasets() if (row.dataset_id, row.label_version) not in known]

    def default_store(self) -> str:
        """URL of the store that datasets are published to."""
        return self._settings.value("store")

    def is_read_only(self) -> bool:
        """Whether its datasets are views of another system's tables, whose own writers know nothing of it."""
        self._settings.read()
        return self._settings.is_read_only

    def identity(self) -> str:
        """The id of this catalog, unlike any other's; ``""`` if it was made without."""
        self._settings.read()
        return self._settings.known("catalog_id")

    def table(self) -> CatalogTable:
        """All datasets and subscriptions, and what is wrong with some. One odd row keeps no other from being seen."""
        faults: list[str] = []
        self._settings.read()
        return CatalogTable(
            self._settings.known("catalog_id"),
            self._settings.known("store"),
            self._datasets(faults),
            self._subscriptions(faults),
            self._split_rules(faults),
            self._dataset_labels(faults),
            self._selections(faults),
            faults,
        )

    def fingerprint(self) -> str | None:
        """What tells `table` from another one; None if that is to be read to know. See `read_fingerprint`."""
        self._settings.value("store")
        return read_fingerprint(self._connection, self._settings.level)

    def readers_wait(self) -> bool:
        """Whether who reads waits for who publishes; `imgsyncfs.catalog.isolation.REMEDY` says what to do."""
        return find_isolation(self._connection).readers_wait

    def described(self) -> str:
        """The kind of database, and what it is reached through, for people."""
        return self._connection.described()

    def datasets(self) -> list[DatasetRow]:
        """All datasets, ordered by id (by code points, whatever the database's own order); odd rows are logged."""
        self._settings.read()
        return _logging_faults(self._datasets)

    def dataset(self, dataset_id: str) -> DatasetRow | None:
        """One dataset, None if there is no such.

        Raises:
            CatalogError: its row cannot be used.
        """
        self._settings.read()
        query = f"{select_datasets(self._settings.level)} WHERE dataset_id = ?"
        for values in list(self._connection.rows(query, (dataset_id,))):
            try:
                return self._dataset(values)[0]
            except ValueError as error:
                raise CatalogError(
                    f"The dataset {dataset_id} in the catalog {self._connection.where} cannot be used: {error}; "
                    "correct its row."
                ) from error
        return None

    def _datasets(self, faults: list[str]) -> list[DatasetRow]:
        """The datasets; what is wrong with others is added to the faults."""
        rows = []
        for values in list(self._connection.rows(select_datasets(self._settings.level))):
            try:
                row, fault = self._dataset(values)
            except ValueError as error:
                faults.append(f"The dataset {values[0]!a} is hidden: {error}; correct its row in the catalog.")
            else:
                rows.append(row)
                if fault:
                    faults.append(f"The dataset {row.dataset_id} is shown in part: {fault}; correct it in the catalog.")
        return sorted(rows, key=lambda row: row.dataset_id)

    def images(self, dataset_id: str) -> Iterator[ImageRow]:
        """The images of a dataset, fetched in portions, in no certain order. Rows that cannot be read are logged.

        Nothing else may be asked of this catalog before the iterator has ended or is closed; and on SQLite nobody can
        publish meanwhile, so the rows should be taken quickly.
        """
        return self._readable(self._connection.rows(_IMAGES, (dataset_id,)), image_row, dataset_id)

    def annotations(self, dataset_id: str, label_version: str) -> Iterator[AnnotationRow]:
        """The annotations of a dataset in one label version; see `images`."""
        rows = self._connection.rows(_ANNOTATIONS, (dataset_id, label_version))
        return self._readable(rows, annotation_row, dataset_id)

    def image_names(self, dataset_id: str) -> list[str]:
        """The stems of a dataset's images, in no certain order; those that are not valid UTF-8 are left out."""
        rows = self._connection.rows("SELECT name FROM images WHERE dataset_id = ?", (dataset_id,))
        return [name for (name,) in rows if isinstance(name, str) and is_utf8(name)]

    def image_portions(self, dataset_id: str) -> Iterator[Portion[ImageRow]]:
        """The images of a dataset for its listing, without their positions; see `images`."""
        portions = gathered(self._connection, LISTED_IMAGE_COLUMNS, _IMAGES_OF, (dataset_id,))
        return (Portion(LISTED_IMAGE_COLUMNS, values, _decoding(listed_image_row)) for values in portions)

    def annotation_portions(self, dataset_id: str, label_version: str) -> Iterator[Portion[AnnotationRow]]:
        """The annotations of a dataset in one label version for its listing; see `images`."""
        portions = gathered(self._connection, LISTED_ANNOTATION_COLUMNS, _ANNOTATIONS_OF, (dataset_id, label_version))
        return (Portion(LISTED_ANNOTATION_COLUMNS, values, _decoding(annotation_row)) for values in portions)

    def extent_digests(self, dataset_id: str) -> dict[str, str]:
        """The digests of the extents of a dataset's large files.

        Returns:
            MD5 of a file to `imgsyncfs.blob_layout.extent_digests` of its content.
        """
        self._settings.read()
        if self._settings.level < DIGESTS_LEVEL:
            return {}
        rows = self._connection.rows(_EXTENT_DIGESTS, (dataset_id,))
        return {md5: digests for md5, digests in rows if is_md5(md5) and are_extent_digests(digests)}

    def image_orientations(self, dataset_id: str) -> dict[str, int]:
        """How images of a dataset are turned to be shown, as far as is known. Rows that cannot be used are logged.

        Returns:
            Stem to EXIF's number of the orientation, for the images whose number is not 1.
        """
        self._settings.read()
        if self._settings.level < ORIENTATIONS_LEVEL:
            return {}
        rows = self._readable(self._connection.rows(_ORIENTATIONS, (dataset_id,)), _known_orientation, dataset_id)
        return {row.name: row.orientation for row in rows if row.orientation != 1}

    def dataset_labels(self, dataset_id: str | None = None) -> list[DatasetLabelsRow]:
        """What annotations say, of each dataset and label version that was published since catalogs keep that.

        Args:
            dataset_id: the dataset; None for all.

        Returns:
            They are ordered by dataset and label version; odd rows are logged.
        """
        self._settings.read()
        return _logging_faults(partial(self._dataset_labels, dataset_id=dataset_id))

    def _dataset_labels(self, faults: list[str], *, dataset_id: str | None = None) -> list[DatasetLabelsRow]:
        """The rows; what is wrong with others is added to the faults."""
        return read_dataset_labels(self._connection, faults, dataset_id) if self._settings.level >= LABELS_LEVEL else []

    def image_values(self, dataset_id: str, label_version: str, label_name: str | None) -> dict[str, str]:
        """The value of a classification of each image that has it; see `imgsyncfs.catalog.labels.read_image_values`."""
        self._settings.read()
        if self._settings.level < LABELS_LEVEL:
            return {}
        return read_image_values(self._connection, dataset_id, label_version, label_name)

    def set_labels(self, row: DatasetRow, labels: Mapping[str, Sequence[LabelCount]]) -> int | None:
        """Keep what the annotations of a dataset say that was published before catalogs did so.

        That raises its revision, though its files stay: what is rendered for a revision is the same for everyone, and
        mounts notice.

        Args:
            row: the dataset, as its annotations were listed.
            labels: stem of each image to what its annotation of the row's label version says.

        Returns:
            The dataset's revision; None if somebody has published it, or removed it, since the row was read.

        Raises:
            CatalogError: the catalog cannot be written, or has no tables for that.
        """
        self._settings.refuse_read_only()
        publish_id = uuid.uuid4().hex
        with self._connection.transaction():
            # This locks the dataset, as a publish does, unless there was one.
            self._connection.execute(
                "UPDATE datasets SET revision = COALESCE(revision, 0) + 1, updated_at = ?, publish_id = ? WHERE "
                "dataset_id = ? AND label_version = ? AND COALESCE(revision, 0) = ? AND COALESCE(publish_id, '') = ?",
                (int(time.time()), publish_id, row.dataset_id, row.label_version, row.revision, row.publish_id),
            )
            now = self.dataset(row.dataset_id)
            if now is None or now.publish_id != publish_id:
                return None
            write_labels(self._connection, row.dataset_id, row.label_version, labels)
        return now.revision

    def byte_counts(self) -> dict[str, int]:
        """How many bytes the images of each dataset have together; goes through all of them."""
        # PostgreSQL's sum of whole numbers is a Decimal.
        return {dataset_id: int(count or 0) for dataset_id, count in self._connection.rows(_BYTE_COUNTS)}

    def replace_dataset(
        self,
        row: DatasetRow,
        images: Iterable[ImageRow],
        annotations: Iterable[AnnotationRow],
        *,
        extent_digests: Mapping[str, str] | None = None,
        orientations: Mapping[str, int] | None = None,
        labels: Mapping[str, Sequence[LabelCount]] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Publish a dataset: make the catalog say exactly this about it, in one transaction.

        Only what differs is written. Annotations of other label versions stay as they are. Two who publish the same
        dataset at once do so one after the other, each with a revision of its own.

        Args:
            row: the dataset; its `revision` is not looked at.
            images: all its images, each name once.
            annotations: all its annotations of the row's label version, each name once.
            extent_digests: MD5 of a large file among them to `imgsyncfs.blob_layout.extent_digests` of its content;
                what is known of others stays.
            orientations: name of an image to EXIF's number of its orientation; 1 for images that are not named.
            labels: name of an image to what its annotation says; None if nobody has looked.
            progress: called with the number of rows done since the last call; they add up to the number of images and
                annotations.

        Returns:
            The dataset's revision: one more than before, 1 if it is new, the same as before if nothing differs.

        Raises:
            CatalogError: the rows contradict each other, or could not be written; the catalog is as it was before.
        """
        images, annotations = list(images), list(annotations)
        self._settings.refuse_read_only()
        self._settings.make_additions()
        publish = partial(
            replace_dataset,
            self._connection,
            row,
            images,
            annotations,
            extent_digests=extent_digests or {},
            orientations=orientations or {},
            labels=labels,
            additions=self._settings.level,
        )
        return until_done(publish, progress or (lambda _: None), seconds=self._connection.timeout)

    def subscriptions(self) -> list[SubscriptionRow]:
        """All subscriptions, ordered by name (by code points); odd rows are logged."""
        return _logging_faults(self._subscriptions)

    def _subscriptions(self, faults: list[str]) -> list[SubscriptionRow]:
        """The subscriptions; what is wrong with others is added to the faults."""
        rows = []
        for values in list(self._connection.rows(_SUBSCRIPTIONS)):
            try:
                rows.append(subscription_row(values))
            except ValueError as error:
                faults.append(
                    f"The subscription {values[0]!a} is left out: {error}; make it again with: imgsyncfs subscribe"
                )
        return sorted(rows, key=lambda row: row.name)

    def put_subscription(self, row: SubscriptionRow) -> None:
        """Keep a subscription; one of the same name is replaced."""
        with self._connection.transaction():
            self._connection.execute("DELETE FROM subscriptions WHERE name = ?", (row.name,))
            insert(self._connection, "subscriptions", SUBSCRIPTION_COLUMNS, [subscription_values(row)])

    def remove_subscription(self, name: str) -> None:
        """Forget a subscription; it may be gone already."""
        with self._connection.transaction():
            self._connection.execute("DELETE FROM subscriptions WHERE name = ?", (name,))

    def selections(self) -> list[SelectionRow]:
        """All selections, ordered by name (by code points); odd rows are logged."""
        self._settings.read()
        return _logging_faults(self._selections)

    def _selections(self, faults: list[str]) -> list[SelectionRow]:
        """The selections; what is wrong with others is added to the faults."""
        return read_selections(self._connection, faults) if self._settings.level >= SELECTIONS_LEVEL else []

    def put_selection(self, row: SelectionRow) -> None:
        """Keep a selection; one of the same name is replaced.

        Raises:
            CatalogError: the catalog cannot be written, or an earlier version made it and its tables may not be
                changed.
        """
        self._settings.make_additions()
        if self._settings.level < SELECTIONS_LEVEL:
            raise CatalogError(
                f"The catalog {self._connection.where} has no table for selections yet; have whoever may change its "
                "tables run: imgsyncfs init"
            )
        with self._connection.transaction():
            write_selection(self._connection, row)

    def remove_selection(self, name: str) -> None:
        """Forget a selection; it may be gone already."""
        self._settings.read()
        if self._settings.level >= SELECTIONS_LEVEL:
            with self._connection.transaction():
                remove_selection(self._connection, name)

    def names_of(self, query: ImageQuery) -> list[str]:
        """The stems that a query gives, in no certain order; those that are not valid UTF-8 are left out."""
        rows = self._connection.rows(query.sql, query.parameters)
        return [name for (name,) in rows if isinstance(name, str) and is_utf8(name)]

    def class_counts(self, found: SelectedImages) -> dict[str, int]:
        """The number of objects of each class on images of a selection; none if the catalog does not keep labels."""
        self._settings.read()
        return count_classes(self._connection, found) if self._settings.level >= LABELS_LEVEL else {}

    def split_rules(self) -> dict[str, SplitRow]:
        """The split rules of the datasets that have one of their own, by dataset; odd rows are logged."""
        self._settings.read()
        return {row.dataset_id: row for row in _logging_faults(self._split_rules)}

    def _split_rules(self, faults: list[str]) -> list[SplitRow]:
        """The split rules; what is wrong with some is added to the faults."""
        if self._settings.level < SPLITS_LEVEL:
            return []
        rows = []
        for values in list(self._connection.rows(_SPLIT_RULES)):
            try:
                row = split_row(values)
            except ValueError as error:
                faults.append(f"The split rule of {values[0]!a} is left out: {error}; correct it in the catalog.")
                continue
            rows.append(row)
            try:
                _ = row.rule
            except ConfigurationError as error:
                faults.append(str(error))
        return sorted(rows, key=lambda row: row.dataset_id)

    def set_split_rule(self, dataset_id: str, rule: SplitRule) -> int:
        """Have a dataset divided by another rule.

        That raises its revision, though its files stay: what is rendered for a revision is the same for everyone, and
        mounts notice.

        Args:
            dataset_id: the dataset.
            rule: from now on; the usual one is kept nowhere.

        Returns:
            The dataset's revision, the same as before if it has this rule already.

        Raises:
            CatalogError: there is no such dataset, or the catalog cannot be written, or an earlier version made it
                and its tables may not be changed.
        """
        self._settings.refuse_read_only()
        self._settings.make_additions()
        if self._settings.level < SPLITS_LEVEL:
            raise CatalogError(
                f"The catalog {self._connection.where} has no table for split rules yet; have whoever may change its "
                "tables run: imgsyncfs init"
            )
        row = SplitRow(dataset_id, rule.weights_text, rule.group_by) if rule != SplitRule() else None
        known = self.dataset(dataset_id)
        if known is None:
            raise CatalogError(
                f"There is no dataset {dataset_id} in the catalog {self._connection.where}; list what there is with: "
                "imgsyncfs datasets"
            )
        if self.split_rules().get(dataset_id) == row:
            return known.revision
        with self._connection.transaction():
            # This locks the dataset, as a publish does.
            self._connection.execute(
                "UPDATE datasets SET revision = COALESCE(revision, 0) + 1, updated_at = ?, publish_id = ? "
                "WHERE dataset_id = ?",
                (int(time.time()), uuid.uuid4().hex, dataset_id),
            )
            self._connection.execute("DELETE FROM split_rules WHERE dataset_id = ?", (dataset_id,))
            if row is not None:
                insert(self._connection, "split_rules", SPLIT_COLUMNS, [(dataset_id, row.weights, row.group_by)])
        changed = self.dataset(dataset_id)
        return changed.revision if changed is not None else known.revision + 1

    def _dataset(self, values: Sequence[Any]) -> tuple[DatasetRow, str]:
        return dataset_row(read_dataset_values(values), self._settings.known("store"))

    def _readable(
        self, rows: Iterator[tuple[object, ...]], make: Callable[[Sequence[Any]], FileRow], dataset: str
    ) -> Iterator[FileRow]:
        for values in rows:
            try:
                row = make(values)
            except ValueError as error:
                logger.warning(
                    "The catalog %s has a row of %s in %s that cannot be read: %s; correct the row.",
                    self._connection.where,
                    ascii(values[0]),
                    dataset,
                    error,
                )
            else:
                yield row


def _logging_faults(read: Callable[[list[str]], list[Kept]]) -> list[Kept]:
    faults: list[str] = []
    rows = read(faults)
    for fault in faults:
        logger.warning("%s", fault)
    return rows


def _known_orientation(values: Sequence[Any]) -> OrientationRow:
    row = orientation_row(values)
    if row.orientation not in _EXIF_ORIENTATIONS:
        raise ValueError(f"its orientation is {row.orientation}, which is none of EXIF's, from 1 to 8")
    if not is_utf8(row.name):
        raise ValueError("its name is not valid UTF-8")
    return row


def _decoding(make: Callable[[Sequence[Any]], FileRow]) -> Callable[[Sequence[Any]], FileRow]:
    return lambda values: make(decoded(values))
