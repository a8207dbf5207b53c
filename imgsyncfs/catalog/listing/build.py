"""Build a listing from a catalog's rows.

One pass over the rows collects them in columns; sorting and numbering is numpy's. A million images with their
annotations take seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from imgsyncfs.catalog.listing.columns import Column, TextTable, compact, first_seen, split_digests
from imgsyncfs.catalog.listing.files import blob_template
from imgsyncfs.catalog.listing.row_faults import sound_annotations, sound_images
from imgsyncfs.catalog.listing.table import (
    ANNOTATION_PREFIX,
    HAS_ANNOTATION,
    HAS_SIBLINGS,
    IMAGE_PREFIX,
    Listing,
    ListingFacts,
)
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.errors import CatalogError

ATTEMPTS = 5

ROWS_AT_ONCE = 5000
"""Whole columns of so many rows are handled at once: fewer calls than row by row."""

Row = TypeVar("Row")


class ListingSource(Protocol):
    """What a listing is read from: `imgsyncfs.catalog.Catalog`."""

    def dataset(self, dataset_id: str) -> DatasetRow | None:
        """One dataset, None if there is no such."""

    def images(self, dataset_id: str) -> Iterator[ImageRow]:
        """Its images."""

    def annotations(self, dataset_id: str, label_version: str) -> Iterator[AnnotationRow]:
        """Its annotations in one label version."""


def read_listing(catalog: ListingSource, dataset_id: str) -> Listing | None:
    """Read a dataset's listing from a catalog, all of it from one revision.

    Args:
        catalog: is asked again when somebody publishes meanwhile.
        dataset_id: the dataset.

    Returns:
        The listing of its label version; None if there is no such dataset.

    Raises:
        CatalogError: the catalog cannot be read, or was published to at every attempt.
    """
    for _ in range(ATTEMPTS):
        before = catalog.dataset(dataset_id)
        if before is None:
            return None
        listing = build_listing(
            before, catalog.images(dataset_id), catalog.annotations(dataset_id, before.label_version)
        )
        after = catalog.dataset(dataset_id)
        if after is not None and (after.revision, after.label_version) == (before.revision, before.label_version):
            return listing
    raise CatalogError(
        f"The dataset {dataset_id} was published again during each of {ATTEMPTS} attempts to read it; try again later."
    )


def build_listing(row: DatasetRow, images: Iterable[ImageRow], annotations: Iterable[AnnotationRow]) -> Listing:
    """Build the listing of a dataset.

    Rows that cannot be shown as files are left out and told in `Listing.hidden`: names that no directory can have, an
    image without an extension (or with a dot in it, or with the annotations' own), numbers below 0, a digest that is
    none, a name that is given twice, an annotation without its image.

    Args:
        row: the dataset.
        images: all its images, in any order; read before the annotations.
        annotations: its annotations of the row's label version, in any order.

    Returns:
        The listing.
    """
    hidden: list[tuple[str, str]] = []
    image_files = _Files()
    exts: dict[str, int] = {}
    ext_ids, heights, widths, depths = array("q"), array("q"), array("q"), array("q")
    places: dict[str, int] = {}
    for portion in _portions(images):
        good, faulty = sound_images(portion, places)
        hidden += faulty
        for image in good:
            places[image.name] = len(places)
        image_files.add(good)
        ext_ids.extend([exts.setdefault(image.ext, len(exts)) for image in good])
        heights.extend([image.height for image in good])
        widths.extend([image.width for image in good])
        depths.extend([image.depth for image in good])

    annotation_files = _Files()
    annotated = array("q")
    flags = np.zeros(len(places), np.uint8)
    flag = flags.data
    for rows in _portions(annotations):
        good_rows, faulty = sound_annotations(rows, places, flag)
        hidden += faulty
        for annotation in good_rows:
            siblings = annotation.label_checked or annotation.object_count
            flag[places[annotation.name]] = HAS_ANNOTATION | (HAS_SIBLINGS if siblings else 0)
        annotated.extend([places[annotation.name] for annotation in good_rows])
        annotation_files.add(good_rows)

    stems = [name.encode() for name in places]
    del places
    order = np.array(sorted(range(len(stems)), key=stems.__getitem__), np.int64)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    stem_table = TextTable.of([stems[place] for place in order.tolist()])
    columns = {
        "stem_content": stem_table.content,
        "stem_ends": stem_table.ends,
        "flags": compact(flags[order]),
        **{
            name: compact(_integers(values)[order])
            for name, values in (("ext", ext_ids), ("height", heights), ("width", widths), ("depth", depths))
        },
    }
    count = len(order)
    image_columns, image_epoch = image_files.columns(rank, count)
    annotation_columns, annotation_epoch = annotation_files.columns(rank[_integers(annotated)], count)
    columns |= {IMAGE_PREFIX + name: column for name, column in image_columns.items()}
    columns |= {ANNOTATION_PREFIX + name: column for name, column in annotation_columns.items()}
    facts = ListingFacts(
        dataset_id=row.dataset_id,
        revision=row.revision,
        label_version=row.label_version,
        store=row.store,
        updated_at=row.updated_at,
        exts=tuple(exts),
        image_epoch=image_epoch,
        annotation_epoch=annotation_epoch,
        hidden=tuple(hidden),
    )
    return Listing(facts, columns)


class _Files:
    """Collects the files of one kind, in the order in which their rows come."""

    def __init__(self) -> None:
        self._byte_counts, self._offsets, self._times = array("q"), array("q"), array("q")
        self._blobs, self._etags = array("q"), array("q")
        self._templates: dict[str, int] = {}
        self._etag_texts: dict[str, int] = {}
        self._digests: list[str] = []

    def add(self, rows: Sequence[ImageRow] | Sequence[AnnotationRow]) -> None:
        """Take in rows without faults."""
        self._byte_counts.extend([row.byte_count for row in rows])
        self._offsets.extend([row.blob_offset for row in rows])
        self._times.extend([row.modified_at for row in rows])
        self._digests.extend([row.md5 for row in rows])
        templates, etags = self._templates, self._etag_texts
        self._blobs.extend(
            [templates.setdefault(blob_template(row.blob, row.name, row.md5), len(templates)) for row in rows]
        )
        self._etags.extend([etags.setdefault(row.etag, len(etags)) for row in rows])

    def columns(self, indices: Column, count: int) -> tuple[dict[str, Column], int]:
        """Make the columns.

        Args:
            indices: where in the listing each file goes, shape (files,).
            count: length of the listing; some of its images may lack a file of this kind.

        Returns:
            (columns by name, what is to be added to each time)
        """
        times = _integers(self._times)
        epoch = int(times.min()) if len(times) else 0
        upper, lower = split_digests(self._digests)
        spread = {
            "byte_count": _integers(self._byte_counts),
            "blob_offset": _integers(self._offsets),
            "modified_at": times - epoch,
            "md5_upper": upper,
            "md5_lower": lower,
        }
        columns = {name: compact(_spread(values, indices, count)) for name, values in spread.items()}
        in_order = np.argsort(indices, kind="stable")
        for name, ids, texts in (
            ("blob", self._blobs, self._templates),
            ("etag", self._etags, self._etag_texts),
        ):
            new_ids, old_ids = first_seen(_integers(ids)[in_order])
            known = list(texts)
            table = TextTable.of([known[number].encode() for number in old_ids.tolist()])
            # One beyond the blobs stands for "no file"; an etag is looked at only where there is a file.
            missing = len(table) if name == "blob" else 0
            columns[name] = compact(_spread(new_ids, indices[in_order], count, missing=missing))
            columns[f"{name}_content"], columns[f"{name}_ends"] = table.content, table.ends
        columns["order"] = _blob_order(columns["blob"], columns["blob_offset"], indices[in_order])
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


def _integers(values: array[int]) -> Column:
    return np.frombuffer(values, np.int64) if values else np.empty(0, np.int64)


def _portions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while portion := list(islice(iterator, ROWS_AT_ONCE)):
        yield portion
