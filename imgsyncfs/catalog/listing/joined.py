"""Join parts of several datasets' listings to the listing of a selection: whole columns at a time, no row by itself.

An image keeps its blob, its annotation and its orientation. Its name is that of the dataset, with the dataset's id
before it where it does not begin with that: so images of different datasets never have the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.catalog.listing.build import bring_together
from imgsyncfs.catalog.listing.collected import CollectedRows
from imgsyncfs.catalog.listing.columns import Column, TextTable, compact
from imgsyncfs.catalog.listing.files import NAME_MARK, FileTable
from imgsyncfs.catalog.listing.table import (
    HAS_ANNOTATION,
    HAS_SIBLINGS,
    Listing,
    Origin,
    name_in_selection,
)
from imgsyncfs.catalog.rows import DatasetRow

_NUMBERS = ("byte_count", "blob_offset", "md5_upper", "md5_lower")
_SHAPE = ("height", "width", "depth")


@dataclass(frozen=True)
class ListingPart:
    """Images of a dataset that are in a selection.

    Attributes:
        listing: the dataset's.
        indices: of the images in it, rising, shape (n,).
    """

    listing: Listing
    indices: Column


def join_listings(
    row: DatasetRow, parts: Sequence[ListingPart], *, catalog_id: str, choice: ClassChoice | None = None
) -> Listing:
    """Join parts of listings.

    Args:
        row: the selection, as a dataset.
        parts: of datasets, each once, in the order in which a name that is there twice is given away.
        catalog_id: identity of the catalog.
        choice: what the selection makes of classes.

    Returns:
        The listing, not numbered yet. `Listing.origin_of` leads back to the datasets.
    """
    names = [
        [name_in_selection(stem, part.listing.dataset_id.encode()) for stem in part.listing.stems.texts(part.indices)]
        for part in parts
    ]
    images, annotations = _Rows(), _Rows()
    orientations: dict[str, int] = {}
    digests: dict[str, str] = {}
    for part, own in zip(parts, names, strict=True):
        listing, indices = part.listing, part.indices
        flags = listing.columns["flags"][indices]
        images.add(listing.images, indices, own, listing.images.epoch)
        images.add_columns({name: listing.columns[name][indices] for name in _SHAPE})
        images.add_texts("ext", [ext.encode() for ext in listing.facts.exts], listing.columns["ext"][indices])
        annotated = np.flatnonzero(flags & HAS_ANNOTATION)
        annotations.add(
            listing.annotations, indices[annotated], [own[place] for place in annotated], listing.annotations.epoch
        )
        annotations.add_columns(
            {
                # Whether there is something to render is all that a listing keeps of these two.
                "label_checked": (flags[annotated] & HAS_SIBLINGS) != 0,
                "object_count": np.zeros(len(annotated), np.uint8),
            }
        )
        turned = listing.columns["orientation"][indices]
        orientations |= {own[place].decode(): int(turned[place]) for place in np.flatnonzero(turned != 1)}
        digests |= listing.large_digests
    joined = bring_together(row, catalog_id, images.collected(), annotations.collected(), digests, orientations)
    return _with_origins(joined, parts, names, choice or ClassChoice())


def _with_origins(
    joined: Listing, parts: Sequence[ListingPart], names: Sequence[Sequence[bytes]], choice: ClassChoice
) -> Listing:
    origins = tuple(Origin(part.listing.dataset_id, part.listing.store, part.listing.key) for part in parts)
    number_of: dict[bytes, int] = {}
    for number, own in enumerate(names):
        for name in own:
            number_of.setdefault(name, number)
    numbers = np.fromiter(map(number_of.__getitem__, joined.stems.texts()), np.int64, len(joined))
    facts = replace(joined.facts, origins=origins, choice=choice)
    return Listing(facts, {**joined.columns, "origin": compact(numbers)})


@dataclass
class _Rows:
    """Files of one kind, as they are put end to end; see `CollectedRows`."""

    names: list[bytes] = field(default_factory=list)
    columns: dict[str, list[Column]] = field(default_factory=dict)
    texts: dict[str, dict[bytes, int]] = field(default_factory=lambda: {"ext": {}, "blob": {}, "etag": {}})

    def add(self, files: FileTable, indices: Column, names: Sequence[bytes], epoch: int) -> None:
        """Add files of a listing under new names."""
        self.names += names
        self.add_columns({name: files.columns[name][indices] for name in _NUMBERS})
        self.add_columns({"modified_at": files.columns["modified_at"][indices].astype(np.int64) + epoch})
        self.add_texts("etag", files.texts["etag"].texts(), files.columns["etag"][indices])
        templates, numbers = files.texts["blob"].texts(), files.columns["blob"][indices]
        if any(NAME_MARK in template for template in templates) and _are_new(files, indices, names):
            # These blobs bear the names that the files have in their dataset.
            blobs = [files.record(index).blob.encode() for index in indices.tolist()]
            self.add_texts("blob", blobs, np.arange(len(blobs)))
        else:
            self.add_texts("blob", templates, numbers)

    def add_columns(self, columns: dict[str, Column]) -> None:
        """Add values of columns."""
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)

    def add_texts(self, name: str, texts: Sequence[bytes], numbers: Column) -> None:
        """Add a column of texts, given by their places among some."""
        known = self.texts[name]
        used = np.unique(numbers)
        places = np.zeros(len(texts) + 1, np.int64)
        places[used] = [known.setdefault(texts[number], len(known)) for number in used.tolist()]
        self.add_columns({name: places[numbers]})

    def collected(self) -> CollectedRows:
        """All files, as the rows of a catalog would be collected."""
        columns = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        for name in (*_NUMBERS, *_SHAPE, *self.texts, "modified_at", "label_checked", "object_count"):
            columns.setdefault(name, np.empty(0, np.int64))
        texts = {name: TextTable.of(list(known)) for name, known in self.texts.items()}
        return CollectedRows(TextTable.of(self.names), not self.names, columns, texts, [])


def _are_new(files: FileTable, indices: Column, names: Sequence[bytes]) -> bool:
    return any(files.stem(index) != name for index, name in zip(indices.tolist(), names, strict=True))


def chosen_indices(listing: Listing, stems: Iterator[bytes] | Sequence[bytes]) -> Column:
    """The indices of images by their stems, rising; stems that are not there are left out."""
    found = np.fromiter((listing.find(stem) for stem in stems), np.int64)
    return np.unique(found[found >= 0])
