"""The rows of a catalog's tables as Python values: what publishing writes and what listings are built from.

Knows no SQL. A row holds plain values only (text, integers, tuples of text), never None: a text that is not known is
``""``, a number that is not known is 0.

Files of a dataset are read in portions, as the driver gives them: a listing is built from whole columns of these. An
object a row is made only where a portion holds something odd: a million objects would take longer than the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from imgsyncfs.annotations.splits import SplitRule, make_rule
from imgsyncfs.errors import ConfigurationError


@dataclass(frozen=True)
class DatasetRow:
    """One dataset.

    Attributes:
        dataset_id: the id, by the grammar ``source_name_imtype_labeltype`` for new ones.
        label_version: the labelling standard whose annotations are shown, for example ``2.0.0``.
        image_type: the users' word for the kind of image, for example ``fisheye360``.
        classes: names of the labelled classes.
        projects: names of the projects that use the dataset.
        label_type: kinds of labels, for example ``("clf", "reg")``.
        size: number of images.
        note: free text.
        store: URL of the store that holds the blobs.
        revision: goes up by one at each publish that changes anything; the first one is 1.
        updated_at: when that publish was, Unix seconds.
        publish_id: another one for each such publish, and never the same again; ``""`` in catalogs that were never
            published to since there is such a column.
    """

    dataset_id: str
    label_version: str
    image_type: str
    classes: tuple[str, ...]
    projects: tuple[str, ...]
    label_type: tuple[str, ...]
    size: int
    note: str
    store: str
    revision: int
    updated_at: int
    publish_id: str = ""

    def listing_key(self, catalog_id: str) -> str:
        """The name that this row's listing is saved under.

        The revision alone would name other files in a catalog that was made again at the same place, or restored from a
        backup and published to again.

        Args:
            catalog_id: identity of the catalog.

        Returns:
            The revision, and a digest of all that tells this row's files from others; fit for a file name.
        """
        facts = [catalog_id, self.dataset_id, self.label_version, self.store, self.publish_id]
        facts += map(str, (self.revision, self.updated_at))
        digest = hashlib.sha256("\0".join(facts).encode(errors="surrogatepass")).hexdigest()
        return f"{self.revision}-{digest[:32]}"


@dataclass(frozen=True)
class CatalogTable:
    """What a catalog says without naming an image.

    Attributes:
        catalog_id: tells this catalog from any other, also from an earlier one at its place; ``""`` if it has none.
        store: URL of the catalog's own store; ``""`` if it has none.
        datasets: those whose rows can be used, ordered by id (by code points).
        subscriptions: likewise, ordered by name.
        split_rules: of the datasets that have one of their own, ordered by id; also those that cannot be used.
        dataset_labels: what annotations say, ordered by dataset and label version.
        selections: those that can be used, ordered by name.
        faults: a sentence for each row that cannot be used, or not as it is.
    """

    catalog_id: str
    store: str
    datasets: Sequence[DatasetRow]
    subscriptions: Sequence[SubscriptionRow]
    split_rules: Sequence[SplitRow]
    dataset_labels: Sequence[DatasetLabelsRow]
    selections: Sequence[SelectionRow]
    faults: Sequence[str]


@dataclass(frozen=True)
class ImageRow:
    """One image of a dataset.

    Attributes:
        name: file name without its extension (the stem), unique in the dataset.
        ext: extension without the dot, for example ``jpg``.
        height: pixels after EXIF rotation; 0 if unknown, as are width and depth.
        width: pixels after EXIF rotation.
        depth: number of channels.
        byte_count: length of the file in bytes.
        md5: lower-case hex digest of the file; ``""`` if unknown.
        blob: name of the blob that holds the file, relative to the store.
        blob_offset: where in the blob the file begins, in bytes.
        position: place in the dataset's own order, from 0.
        etag: the store's mark of the blob's content; ``""`` for blobs that are never overwritten.
        modified_at: when this file's content last changed, Unix seconds.
    """

    name: str
    ext: str
    height: int
    width: int
    depth: int
    byte_count: int
    md5: str
    blob: str
    blob_offset: int
    position: int
    etag: str
    modified_at: int


@dataclass(frozen=True)
class OrientationRow:
    """How one image is turned to be shown; images without such a row are shown as they are stored.

    Attributes:
        name: stem of the image.
        orientation: EXIF's number, from 2 to 8.
    """

    name: str
    orientation: int


@dataclass(frozen=True)
class AnnotationRow:
    """One image's house annotation, of one label version.

    Attributes:
        name: stem of the image.
        label_checked: 1 if a person has checked the labels, else 0.
        object_count: number of labelled things: objects, classifications, regressions, unknown labels.
        byte_count: length of the JSON in bytes.
        md5: lower-case hex digest of the JSON; ``""`` if unknown.
        blob: name of the blob that holds the JSON, relative to the store.
        blob_offset: where in the blob the JSON begins, in bytes.
        etag: the store's mark of the blob's content; ``""`` for blobs that are never overwritten.
        modified_at: when this JSON's content last changed, Unix seconds.
    """

    name: str
    label_checked: int
    object_count: int
    byte_count: int
    md5: str
    blob: str
    blob_offset: int
    etag: str
    modified_at: int


@dataclass(frozen=True)
class SplitRow:
    """How one dataset is divided into train, validation and test; datasets without such a row have the usual rule.

    Attributes:
        dataset_id: the dataset.
        weights: for example ``80/10/10``.
        group_by: the expression for an image's group; ``""`` for the usual groups.
    """

    dataset_id: str
    weights: str
    group_by: str

    @property
    def rule(self) -> SplitRule:
        """The rule.

        Raises:
            ConfigurationError: it cannot be used. No other is to be taken instead: images that one user has trained
                with would be tests for another.
        """
        try:
            return make_rule(self.weights, self.group_by)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The split rule of {self.dataset_id} cannot be used: {error} Set another with: "
                f"imgsyncfs split {self.dataset_id} 80/10/10, or upgrade imgsyncfs."
            ) from error


@dataclass(frozen=True)
class LabelRow:
    """One thing that one annotation says; see `imgsyncfs.annotations.label_counts.LabelCount`.

    Attributes:
        name: stem of the image.
        place: where it stands in the annotation, from 0.
        label_name: of a classification; ``""`` for objects.
        label_value: the class of the objects, or the classification's label.
        object_count: number of objects; 0 for a classification.
    """

    name: str
    place: int
    label_name: str
    label_value: str
    object_count: int


@dataclass(frozen=True)
class DatasetLabelsRow:
    """What the annotations of a dataset say, all together, in one label version.

    There is none for a dataset that was published last before catalogs kept labels: nobody knows what its annotations
    say without reading them.

    Attributes:
        dataset_id: the dataset.
        label_version: of the annotations.
        object_classes: the classes of the objects, by name (by code points).
        label_values: name of each classification to its labels, both by name; ``""`` for those without a name.
    """

    dataset_id: str
    label_version: str
    object_classes: Sequence[str]
    label_values: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class SubscriptionRow:
    """One subscription.

    Attributes:
        name: what people call it.
        dataset_ids: datasets it names.
        conditions: each ``COLUMN=VALUE``; datasets that meet all of them belong to it as well.
        updated_at: when it was last changed, Unix seconds.
    """

    name: str
    dataset_ids: tuple[str, ...]
    conditions: tuple[str, ...]
    updated_at: int


@dataclass(frozen=True)
class SelectionRow:
    """One selection of images.

    Attributes:
        name: what people call it.
        dataset_ids: the datasets that images are taken from, in this order; none for all of the catalog.
        conditions: each ``COLUMN OPERATOR VALUE``; images that meet all of them belong to it.
        mapped: classes that have another name in it.
        mapped_to: the names of these, in the same order.
        dropped: classes whose objects are not in it.
        first_images: so many images at most, by dataset and name; 0 for all.
        classes: its classes, in the order that gives them their numbers, as it was when the selection was kept. Others
            follow by name.
        updated_at: when it was last changed, Unix seconds.
    """

    name: str
    dataset_ids: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()
    mapped_to: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    first_images: int = 0
    classes: tuple[str, ...] = ()
    updated_at: int = 0


Row = TypeVar("Row", ImageRow, AnnotationRow)


@dataclass(frozen=True)
class Portion(Generic[Row]):
    """Some rows of one table.

    Attributes:
        columns: names of the columns.
        values: for each of `columns` its value in every row, of one row or more. A text may be `str` or UTF-8 in
            `bytes`; anything else may stand there too, None for one.
        make: makes a row of its values, in the order of `columns`; raises `ValueError` if they make none.
    """

    columns: tuple[str, ...]
    values: Sequence[Sequence[Any]]
    make: Callable[[Sequence[Any]], Row]

    def rows(self) -> tuple[list[Row], list[tuple[Sequence[Any], str]]]:
        """The rows as objects, and (values, reason) of those that make none."""
        rows: list[Row] = []
        unreadable: list[tuple[Sequence[Any], str]] = []
        for values in zip(*self.values, strict=True):
            try:
                rows.append(self.make(values))
            except ValueError as error:
                unreadable.append((values, str(error)))
        return rows, unreadable
