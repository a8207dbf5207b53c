"""The listing: the compact in-memory table of one dataset revision's files.

It holds real files only, images and annotations. The siblings that are rendered beside them may bear the name of a
real file (``a.labelme`` and its ``.json`` beside image ``a``, or an image ``a.xml``); the real file wins, and
`Listing.shadowed` says where that is so. Rows that cannot be shown as files are left out; `Listing.hidden` has them.

All values lie in columns (`imgsyncfs.catalog.listing.columns`), sorted by the UTF-8 bytes of the stem. Nothing is ever
changed, so that any number of threads may read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.blob_layout import digest_at
from imgsyncfs.catalog.listing.columns import Column, TextTable, stored_bytes
from imgsyncfs.catalog.listing.files import COLUMNS, TEXTS, FileRecord, FileTable
from imgsyncfs.catalog.naming import LONGEST_FILE_NAME_BYTES

if TYPE_CHECKING:
    from imgsyncfs.catalog.listing.saved import ListingFiles

ANNOTATION_EXT = "json"

HAS_ANNOTATION = 1
HAS_SIBLINGS = 2

IMAGE_PREFIX = "image_"
ANNOTATION_PREFIX = "annotation_"

RUN_STARTS = "run_starts"
RUN_NUMBERS = "run_numbers"
"""Columns with the numbers of files; see `imgsyncfs.catalog.listing.numbering`."""

OWN_COLUMNS = ("stem_content", "stem_ends", "ext", "height", "width", "depth", "orientation", "flags", "origin")
LARGE_COLUMNS = ("large_content", "large_ends", "digests_content", "digests_ends")
FILE_COLUMNS = (
    *COLUMNS,
    *(f"{text}_{part}" for text in TEXTS for part in ("content", "ends")),
    RUN_STARTS,
    RUN_NUMBERS,
)
ALL_COLUMNS = (
    *OWN_COLUMNS,
    *LARGE_COLUMNS,
    *(f"{prefix}{column}" for prefix in (IMAGE_PREFIX, ANNOTATION_PREFIX) for column in FILE_COLUMNS),
)

_BY_IMAGE = (
    *(name for name in OWN_COLUMNS if name != "stem_content"),
    *(f"{prefix}{name}" for prefix in (IMAGE_PREFIX, ANNOTATION_PREFIX) for name in COLUMNS if name != "order"),
)
_ORDERS = (IMAGE_PREFIX + "order", ANNOTATION_PREFIX + "order")


class Origin(NamedTuple):
    """A dataset that images of a selection come from.

    Attributes:
        dataset_id: the dataset.
        store: URL of the store that holds its blobs.
        key: `ListingFacts.key` of its listing.
    """

    dataset_id: str
    store: str
    key: str


NAME_SEPARATOR = b"--"


def name_in_selection(stem: bytes, dataset_id: bytes) -> bytes:
    """The stem of a dataset's image in a selection, where images of other datasets stand beside it.

    It is the same where it begins with the dataset's id, as most do, and has that before it otherwise.
    """
    if stem.startswith(dataset_id + b"_"):
        return stem
    return dataset_id + NAME_SEPARATOR + stem


def original_stem(name: bytes, dataset_id: bytes) -> bytes:
    """The stem in a dataset of what bears a name in a selection: back from `name_in_selection`."""
    return name.removeprefix(dataset_id + NAME_SEPARATOR)


@dataclass(frozen=True)
class ListingFacts:
    """What a listing holds beside its columns.

    Attributes:
        dataset_id: the dataset.
        catalog_id: identity of the catalog that it was read from.
        key: `imgsyncfs.catalog.rows.DatasetRow.listing_key` of the row that it is of; two listings of the same key are
            the same.
        revision: of the dataset.
        label_version: whose annotations these are.
        store: URL of the store that holds the blobs.
        updated_at: when the revision was published, Unix seconds.
        exts: the images' extensions.
        image_epoch: what is added to each image's ``modified_at``.
        annotation_epoch: what is added to each annotation's.
        hidden: (name, reason) of each row that cannot be shown.
        lineage: tells numbers of files that were given one after the other from others; empty before they are numbered.
        next_numbers: the lowest number that no image of the lineage has had, and the same of annotations.
        origins: of a selection, the datasets that its images come from; the column ``origin`` has the place of each
            image's among them.
        choice: what a selection makes of classes.
    """

    dataset_id: str
    catalog_id: str
    key: str
    revision: int
    label_version: str
    store: str
    updated_at: int
    exts: tuple[str, ...]
    image_epoch: int
    annotation_epoch: int
    hidden: tuple[tuple[str, str], ...]
    lineage: str = ""
    next_numbers: tuple[int, int] = (0, 0)
    origins: tuple[Origin, ...] = ()
    choice: ClassChoice = field(default_factory=ClassChoice)


class Listing:
    """The files of one revision of a dataset. Made by `build_listing` and `load_listing`.

    `dataset_id`, `catalog_id`, `key`, `revision`, `label_version`, `store`, `updated_at` and `hidden` are those of its
    `ListingFacts`.

    Args:
        facts: everything but the columns.
        columns: by the names in `ALL_COLUMNS`.
        files: the open files that they are mapped from, if they are.
    """

    def __init__(
        self, facts: ListingFacts, columns: Mapping[str, Column], *, files: ListingFiles | None = None
    ) -> None:
        self.facts = facts
        self.files = files
        self.columns = columns
        self.stems = TextTable(columns["stem_content"], columns["stem_ends"])
        # MD5s of files that are fetched in several extents, sorted, and of each the digests of its extents.
        self._large = TextTable(columns["large_content"], columns["large_ends"])
        self._digests = TextTable(columns["digests_content"], columns["digests_ends"])
        self.images = self._files(IMAGE_PREFIX, facts.image_epoch)
        self.annotations = self._files(ANNOTATION_PREFIX, facts.annotation_epoch)
        self._exts = columns["ext"].data
        self._sizes = tuple(columns[name].data for name in ("height", "width", "depth"))
        self._orientations = columns["orientation"].data
        self._flags = columns["flags"].data
        self._origins = columns["origin"].data
        self._listing_of: Callable[[Origin], Listing | None] | None = None
        self._count = len(self.stems)
        self.dataset_id, self.revision, self.label_version = facts.dataset_id, facts.revision, facts.label_version
        self.catalog_id, self.store, self.updated_at = facts.catalog_id, facts.store, facts.updated_at
        self.key = facts.key
        self.hidden = facts.hidden

    def _files(self, prefix: str, epoch: int) -> FileTable:
        columns = {name: self.columns[prefix + name] for name in COLUMNS}
        texts = {
            name: TextTable(self.columns[f"{prefix}{name}_content"], self.columns[f"{prefix}{name}_ends"])
            for name in TEXTS
        }
        return FileTable(columns, texts, epoch=epoch, stem=self.stems.__getitem__, find=self.stems.find)

    def __len__(self) -> int:
        """Number of images."""
        return self._count

    @property
    def memory_bytes(self) -> int:
        """The size of the columns in bytes."""
        return sum(stored_bytes(column) for column in self.columns.values())

    def find(self, stem: bytes) -> int:
        """The index of the image of a stem, from 0 in the order of the stems' bytes; -1 if there is no such image."""
        return self.stems.find(stem)

    def stem(self, index: int) -> bytes:
        """The stem of an image, UTF-8."""
        return self.stems[index]

    def name_parts(self, start: int, stop: int) -> Iterable[tuple[bytes, bytes, int, int]]:
        """What the names of many images' files are made of.

        Args:
            start: the first image's index.
            stop: the index after the last; may lie beyond the end.

        Returns:
            (stem, extension with its dot, whether it has an annotation, whether it has siblings) of each.
        """
        exts = [f".{ext}".encode() for ext in self.facts.exts]
        flags = self._flags[start:stop].tolist()
        return zip(
            self.stems.between(start, stop),
            [exts[number] for number in self._exts[start:stop].tolist()],
            [flag & HAS_ANNOTATION for flag in flags],
            [flag & HAS_SIBLINGS for flag in flags],
            strict=True,
        )

    def ext(self, index: int) -> str:
        """The extension of an image, without the dot."""
        return self.facts.exts[self._exts[index]]

    def image(self, index: int) -> FileRecord:
        """Where an image's bytes lie."""
        return self.images.record(index)

    def annotation(self, index: int) -> FileRecord | None:
        """Where the bytes of an image's annotation lie; None if it has none."""
        return self.annotations.record(index) if self._flags[index] & HAS_ANNOTATION else None

    def image_info(self, index: int) -> tuple[int, int, int]:
        """Height, width (pixels after EXIF rotation) and number of channels of an image; 0 where unknown."""
        height, width, depth = self._sizes
        return height[index], width[index], depth[index]

    def orientation(self, index: int) -> int:
        """EXIF's number of how an image is turned to be shown, from 1 to 8; 1 where unknown."""
        return self._orientations[index]

    def has_annotation(self, index: int) -> bool:
        """Whether an image has an annotation."""
        return bool(self._flags[index] & HAS_ANNOTATION)

    def has_siblings(self, index: int) -> bool:
        """Whether an image has an annotation with something to render: objects, or a check by a person."""
        return bool(self._flags[index] & HAS_SIBLINGS)

    def having_siblings(self) -> Column:
        """The indices of the images that `has_siblings` is true of, in their order."""
        return np.flatnonzero(np.asarray(self._flags) & HAS_SIBLINGS)

    def store_of(self, index: int) -> str:
        """URL of the store that holds the blobs of an image and its annotation."""
        origins = self.facts.origins
        return origins[self._origins[index]].store if origins else self.store

    @property
    def stores(self) -> tuple[str, ...]:
        """URLs of all stores that hold blobs."""
        origins = self.facts.origins
        return tuple(dict.fromkeys(origin.store for origin in origins)) if origins else (self.store,)

    def origin_of(self, index: int) -> tuple[str, bytes]:
        """The dataset that an image comes from, and its stem there."""
        origins, stem = self.facts.origins, self.stem(index)
        if not origins:
            return self.dataset_id, stem
        dataset_id = origins[self._origins[index]].dataset_id
        return dataset_id, original_stem(stem, dataset_id.encode())

    def first(self, count: int) -> Listing:
        """The listing of the first images alone, with the same facts and indexes. Columns are not copied.

        Args:
            count: of the images; there may be fewer.
        """
        if count >= len(self):
            return self
        columns = dict(self.columns)
        for name in _BY_IMAGE:
            columns[name] = columns[name][:count]
        for name in _ORDERS:
            columns[name] = columns[name][columns[name] < count]
        part = Listing(self.facts, columns, files=self.files)
        # Extents hold files of the other images too, and are checked as a whole.
        part.look_up_members(self._listing_of or (lambda _: self))
        return part

    def look_up_members(self, listing_of: Callable[[Origin], Listing | None]) -> None:
        """Have `members` of a selection, or of a part, name all files of its datasets, and not only those in it.

        Args:
            listing_of: gives the listing of a dataset, None if it is not at hand; does not wait.
        """
        self._listing_of = cache(listing_of)

    @property
    def large_digests(self) -> dict[str, str]:
        """MD5 of each large file to the digests of its extents, end to end, in hexadecimal."""
        pairs = zip(self._large.texts(), self._digests.texts(), strict=True)
        return {md5.hex(): digests.hex() for md5, digests in pairs}

    def extent_digest(self, md5: str, start: int) -> str:
        """What is known of one extent of a large file.

        Args:
            md5: of the file.
            start: of the extent in the file, in bytes.

        Returns:
            `imgsyncfs.blob_layout.extent_digest` in hexadecimal; ``""`` if it is not known.
        """
        place = self._large.find(bytes.fromhex(md5)) if len(self._large) else -1
        return digest_at(self._digests[place], start).hex() if place >= 0 else ""

    def members(self, blob: str, start: int, stop: int) -> list[tuple[int, int, str]]:
        """The files of this listing that lie wholly in a part of a blob.

        Args:
            blob: its name.
            start: the first byte of the part.
            stop: the byte after the last.

        Returns:
            (offset in the blob, byte count, MD5 or ``""``) of each image, then of each annotation, by offset.
        """
        found = self.images.members(blob, start, stop) + self.annotations.members(blob, start, stop)
        if self._listing_of is None:
            return found
        listings = filter(None, map(self._listing_of, self._origins_in(blob)))
        return [
            *dict.fromkeys([*found, *(each for listing in listings for each in listing.members(blob, start, stop))])
        ]

    def _origins_in(self, blob: str) -> list[Origin]:
        """The datasets whose images or annotations are in a blob, as far as this selection knows."""
        if not self.facts.origins:
            return [Origin(self.dataset_id, self.store, self.key)]
        name = blob.encode()
        numbers: set[int] = set()
        for files in (self.images, self.annotations):
            for number, text in enumerate(files.texts["blob"].texts()):
                if text == name:
                    numbers.update(np.unique(self.columns["origin"][files.columns["blob"] == number]).tolist())
        return [self.facts.origins[number] for number in sorted(numbers)]

    def shadowed(self, suffix: bytes) -> frozenset[int]:
        """The images whose sibling would bear the name of a real file, or one that is too long: it is not shown.

        Args:
            suffix: what a sibling's name has after the stem, with its dot, for example ``.labelme.json``.

        Returns:
            Indices of these images; mostly there are none.
        """
        inner, _, ext = suffix.decode().rpartition(".")
        # A real file of that name has this ext, and a stem that is the image's own or ends in the rest of the suffix.
        real = np.zeros(self._count, np.bool_)
        if ext in self.facts.exts:
            real |= self.columns["ext"] == self.facts.exts.index(ext)
        if ext == ANNOTATION_EXT:
            real |= (self.columns["flags"] & HAS_ANNOTATION) != 0
        too_long = self.stems.longer_than(LONGEST_FILE_NAME_BYTES - len(suffix))
        if not inner:
            return frozenset([*np.flatnonzero(real).tolist(), *too_long])
        end = inner.encode()
        owners = (self.find(self.stem(index)[: -len(end)]) for index in self.stems.ending_in(end) if real[index])
        return frozenset([*(owner for owner in owners if owner >= 0), *too_long])

    def __repr__(self) -> str:
        return f"Listing({self.dataset_id!r}, revision={self.revision}, images={len(self)})"
