"""Build a listing: images and annotations, collected in columns, are sorted and joined.

A million images with their annotations take seconds, nearly all of that to get the rows as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import numpy as np

from imgsyncfs.catalog.listing.collected import (
    NO_IMAGE,
    TWICE,
    CollectedRows,
    Hidden,
    collect_annotations,
    collect_images,
)
from imgsyncfs.catalog.listing.columns import Column, TextTable, compact, first_seen
from imgsyncfs.catalog.listing.table import (
    ANNOTATION_EXT,
    ANNOTATION_PREFIX,
    HAS_ANNOTATION,
    HAS_SIBLINGS,
    IMAGE_PREFIX,
    RUN_NUMBERS,
    RUN_STARTS,
    Listing,
    ListingFacts,
)
from imgsyncfs.catalog.row_values import (
    LISTED_ANNOTATION_COLUMNS,
    LISTED_IMAGE_COLUMNS,
    annotation_row,
    listed_image_row,
)
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow, Portion
from imgsyncfs.errors import CatalogError

ATTEMPTS = 5

ROWS_AT_ONCE = 1000

FileRow = TypeVar("FileRow", ImageRow, AnnotationRow)

AnnotationsBeside = Callable[[DatasetRow], Callable[[], CollectedRows] | None]
"""Begins to collect a dataset's annotations elsewhere at the same time; what it returns waits for them and gives them.
None if that would not pay."""


class ListingSource(Protocol):
    """What a listing is read from: `imgsyncfs.catalog.Catalog`."""

    def identity(self) -> str:
        """The catalog's id."""

    def dataset(self, dataset_id: str) -> DatasetRow | None:
        """One dataset, None if there is no such."""

    def extent_digests(self, dataset_id: str) -> Mapping[str, str]:
        """MD5 of a large file to the digests of its extents, end to end in hexadecimal."""

    def image_orientations(self, dataset_id: str) -> Mapping[str, int]:
        """Stem to EXIF's number of the orientation, for the images whose number is not 1."""

    def image_portions(self, dataset_id: str) -> Iterator[Portion[ImageRow]]:
        """Its images."""

    def annotation_portions(self, dataset_id: str, label_version: str) -> Iterator[Portion[AnnotationRow]]:
        """Its annotations in one label version."""


def read_listing(
    catalog: ListingSource, dataset_id: str, *, annotations_beside: AnnotationsBeside = lambda _: None
) -> Listing | None:
    """Read a dataset's listing from a catalog, all of it from one revision.

    Args:
        catalog: is asked again when somebody publishes meanwhile.
        dataset_id: the dataset.
        annotations_beside: may have another process collect the annotations.

    Returns:
        The listing of its label version; None if there is no such dataset.

    Raises:
        CatalogError: the catalog cannot be read, or was published to at every attempt.
    """
    for _ in range(ATTEMPTS):
        before = catalog.dataset(dataset_id)
        if before is None:
            return None
        catalog_id = catalog.identity()
        beside = annotations_beside(before)
        images = collect_images(catalog.image_portions(dataset_id))
        annotations = (
            beside() if beside else collect_annotations(catalog.annotation_portions(dataset_id, before.label_version))
        )
        digests = catalog.extent_digests(dataset_id)
        orientations = catalog.image_orientations(dataset_id)
        after = catalog.dataset(dataset_id)
        if after is not None and after.listing_key(catalog_id) == before.listing_key(catalog_id):
            return bring_together(before, catalog_id, images, annotations, digests, orientations)
    raise CatalogError(
        f"The dataset {dataset_id} was published again during each of {ATTEMPTS} attempts to read it; try again later."
    )


def build_listing(
    row: DatasetRow,
    images: Iterable[ImageRow],
    annotations: Iterable[AnnotationRow],
    *,
    catalog_id: str = "",
    extent_digests: Mapping[str, str] | None = None,
    orientations: Mapping[str, int] | None = None,
) -> Listing:
    """Build the listing of a dataset.

    Rows that cannot be shown as files are left out and told in `Listing.hidden`: names that no directory can have, an
    image without an extension (or with a dot in it, or with the annotations' own), numbers below 0, a digest that is
    none, a name that is given twice, an annotation without its image.

    Args:
        row: the dataset.
        images: all its images, in any order.
        annotations: its annotations of the row's label version, in any order.
        catalog_id: identity of the catalog that they are from.
        extent_digests: MD5 of a large file among them to the digests of its extents, end to end in hexadecimal.
        orientations: name of an image to EXIF's number of its orientation; 1 for images that are not named.

    Returns:
        The listing.
    """
    return bring_together(
        row,
        catalog_id,
        collect_images(_portions(images, LISTED_IMAGE_COLUMNS, listed_image_row)),
        collect_annotations(_portions(annotations, LISTED_ANNOTATION_COLUMNS, annotation_row)),
        extent_digests or {},
        orientations or {},
    )


def _portions(
    rows: Iterable[FileRow], columns: tuple[str, ...], make: Callable[[Sequence[Any]], FileRow]
) -> Iterator[Portion[FileRow]]:
    iterator = map(attrgetter(*columns), rows)
    while values := list(islice(iterator, ROWS_AT_ONCE)):
        yield Portion(columns, list(zip(*values, strict=True)), make)


def bring_together(
    row: DatasetRow,
    catalog_id: str,
    images: CollectedRows,
    annotations: CollectedRows,
    extent_digests: Mapping[str, str],
    orientations: Mapping[str, int],
) -> Listing:
    """Bring collected images and annotations together; see `build_listing`."""
    image_rows, twice = _in_order(images)
    stems = images.names if images.ascending else TextTable.of(images.names.texts(image_rows))
    count = len(stems)
    annotation_rows, annotated, unfit = _find_images(annotations, stems)
    flags = np.zeros(count, np.uint8)
    worth_rendering = annotations.columns["label_checked"] | annotations.columns["object_count"]
    flags[annotated] = np.where(worth_rendering[annotation_rows] != 0, HAS_ANNOTATION | HAS_SIBLINGS, HAS_ANNOTATION)
    columns = {
        "stem_content": stems.content,
        "stem_ends": stems.ends,
        "flags": compact(flags),
        "origin": compact(np.zeros(count, np.uint8)),
        "orientation": _orientation_column(stems, orientations),
        **{name: compact(images.columns[name][image_rows]) for name in ("ext", "height", "width", "depth")},
    }
    image_columns, image_epoch = _file_columns(images, image_rows, np.arange(count), count)
    annotation_columns, annotation_epoch = _file_columns(annotations, annotation_rows, annotated, count)
    columns |= _digest_columns(extent_digests)
    # Numbers in order, for the beginning of a lineage.
    first_run = np.zeros(min(count, 1), np.uint8)
    for prefix in (IMAGE_PREFIX, ANNOTATION_PREFIX):
        columns |= {prefix + RUN_STARTS: first_run, prefix + RUN_NUMBERS: first_run}
    columns |= {IMAGE_PREFIX + name: column for name, column in image_columns.items()}
    columns |= {ANNOTATION_PREFIX + name: column for name, column in annotation_columns.items()}
    facts = ListingFacts(
        dataset_id=row.dataset_id,
        catalog_id=catalog_id,
        key=row.listing_key(catalog_id),
        revision=row.revision,
        label_version=row.label_version,
        store=row.store,
        updated_at=row.updated_at,
        exts=tuple(ext.decode() for ext in images.texts["ext"].texts()),
        image_epoch=image_epoch,
        annotation_epoch=annotation_epoch,
        hidden=(*images.hidden, *twice, *annotations.hidden, *unfit),
        next_numbers=(count, count),
    )
    return Listing(facts, columns)


def _digest_columns(extent_digests: Mapping[str, str]) -> dict[str, Column]:
    known = sorted((bytes.fromhex(md5), bytes.fromhex(digests)) for md5, digests in extent_digests.items())
    columns: dict[str, Column] = {}
    for name, texts in (("large", [md5 for md5, _ in known]), ("digests", [digests for _, digests in known])):
        table = TextTable.of(texts)
        columns |= {f"{name}_content": table.content, f"{name}_ends": table.ends}
    return columns


def _orientation_column(stems: TextTable, orientations: Mapping[str, int]) -> Column:
    if not orientations:
        return compact(np.ones(len(stems), np.uint8))
    known = {name.encode(): orientation for name, orientation in orientations.items()}
    return compact(np.fromiter((known.get(stem, 1) for stem in stems.texts()), np.uint8, len(stems)))


def _in_order(images: CollectedRows) -> tuple[Column, Hidden]:
    """The numbers of the rows in the order of their names, each name once, and what is hidden for that."""
    if images.ascending:
        return np.arange(len(images)), []
    names = images.names.texts()
    # Stable: of two rows of a name, the one that came first stays first.
    order = sorted(range(len(names)), key=names.__getitem__)
    again = [False, *(names[first] == names[second] for first, second in pairwise(order))]
    exts = images.texts["ext"].texts()
    hidden = [
        (f"{names[row].decode()}.{exts[images.columns['ext'][row]].decode()}", TWICE)
        for row, is_again in zip(order, again, strict=True)
        if is_again
    ]
    return np.array(order, np.int64)[~np.array(again, np.bool_)], hidden


def _find_images(annotations: CollectedRows, stems: TextTable) -> tuple[Column, Column, Hidden]:
    """Find the image of each annotation.

    Returns:
        (numbers of the rows in the order of their images, the images' indices, what is hidden for having none or not
        being the first)
    """
    if annotations.names.equals(stems):
        return np.arange(len(stems)), np.arange(len(stems)), []
    names = annotations.names.texts()
    places = dict(zip(stems.texts(), range(len(stems)), strict=True))
    found = np.array([places.get(name, -1) for name in names], np.int64)
    indices, rows = np.unique(found, return_index=True)
    is_there = indices >= 0
    chosen = rows[is_there]
    left = np.ones(len(names), np.bool_)
    left[chosen] = False
    hidden = [
        (f"{names[row].decode()}.{ANNOTATION_EXT}", NO_IMAGE if found[row] < 0 else TWICE)
        for row in np.flatnonzero(left).tolist()
    ]
    return chosen, indices[is_there], hidden


def _file_columns(collected: CollectedRows, rows: Column, indices: Column, count: int) -> tuple[dict[str, Column], int]:
    """Make the columns of the files of one kind; gives them by name, and what is to be added to each time.

    `rows` are the numbers of those to be listed, `indices` their places in the listing, rising, and `count` is its
    length: some of its images may lack a file of this kind.
    """
    times = collected.columns["modified_at"][rows]
    epoch = int(times.min()) if len(times) else 0
    spread = {"modified_at": times - epoch}
    for name in ("byte_count", "blob_offset", "md5_upper", "md5_lower"):
        spread[name] = collected.columns[name][rows]
    columns = {name: compact(_spread(values, indices, count)) for name, values in spread.items()}
    for name in ("blob", "etag"):
        new_ids, old_ids = first_seen(collected.columns[name][rows])
        known = collected.texts[name]
        table = known if len(old_ids) == len(known) and _is_range(old_ids) else TextTable.of(known.texts(old_ids))
        # One beyond the blobs stands for "no file"; an etag is looked at only where there is a file.
        missing = len(table) if name == "blob" else 0
        columns[name] = compact(_spread(new_ids, indices, count, missing=missing))
        columns[f"{name}_content"], columns[f"{name}_ends"] = table.content, table.ends
    columns["order"] = _blob_order(columns["blob"], columns["blob_offset"], indices)
    return columns, epoch


def _blob_order(blobs: Column, offsets: Column, present: Column) -> Column:
    """The indices of the files that there are by blob and offset; empty if that is the order they are in."""
    if len(present) == len(blobs):
        same_blob = blobs[1:] == blobs[:-1]
        if bool(((blobs[1:] > blobs[:-1]) | (same_blob & (offsets[1:] >= offsets[:-1]))).all()):
            return np.empty(0, np.uint8)
    return compact(present[np.lexsort((offsets[present], blobs[present]))])


def _spread(values: Column, indices: Column, count: int, *, missing: int = 0) -> Column:
    spread = np.full(count, missing, values.dtype)
    spread[indices] = values
    return spread


def _is_range(values: Column) -> bool:
    return bool((values == np.arange(len(values))).all())
