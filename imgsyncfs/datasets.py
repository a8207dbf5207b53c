"""A catalog's datasets as typed objects: what `imgsyncfs.api` hands out.

All objects may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from imgsyncfs.annotations.house_format import Annotation, parse_annotation
from imgsyncfs.catalog.dataset_table import matching
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.files import FileTable
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.subscriptions import find_datasets
from imgsyncfs.errors import AnnotationError, CatalogMissing, ConfigurationError
from imgsyncfs.library.library import Library
from imgsyncfs.workers.threads import map_in_order

READING_THREADS = 8
"""How many images an iteration reads at once: a store that answers in 20 ms then gives 400 loose blobs a second and not
50."""


class LabelledImage(NamedTuple):
    """One image of a dataset.

    Attributes:
        name: the file's stem; `Dataset.file_name` has it with its extension.
        image: the image file's bytes, as published.
        annotation: its labels in the dataset's label version; None if there are none, not even empty ones.
    """

    name: str
    image: bytes
    annotation: Annotation | None


class LibraryReader:
    """Reads from a library, and refuses to when that is closed.

    Args:
        library: an open one; closed by `close`.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._closed = False

    @property
    def library(self) -> Library:
        """The library.

        Raises:
            ConfigurationError: it is closed.
        """
        if self._closed:
            raise ConfigurationError("This catalog is closed; read within its with block, or connect again.")
        return self._library

    def listing(self, dataset_id: str) -> Listing:
        """The files of a dataset; see `imgsyncfs.catalog.mirror.CatalogMirror.listing`."""
        return self.library.mirror.listing(dataset_id)

    def read(self, listing: Listing, files: FileTable, index: int) -> bytes:
        """A whole file; see `imgsyncfs.fetching.contents.ContentReader.read_whole`."""
        return self.library.contents.read_whole(listing, files, index)

    def close(self) -> None:
        """Close the library; nothing is read any more."""
        self._closed = True
        self._library.close()


@dataclass(frozen=True)
class Dataset:
    """One dataset; its files are listed when they are first asked for, and stay those of that revision.

    ``len(dataset)`` is the number of its images, ``name in dataset`` says whether it has one, ``dataset[name]`` reads
    one, and iterating reads all of them.

    Attributes:
        row: what the catalog says of it: `label_version`, `image_type`, `classes`, `size`, `note`, …
    """

    row: DatasetRow
    _reader: LibraryReader = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The dataset's id, for example ``original_20200207_fisheye_rbbox``."""
        return self.row.dataset_id

    @property
    def names(self) -> Iterator[str]:
        """The stems of its images, in the catalog's order; reads no blob."""
        listing = self._listing
        return (listing.stem(index).decode() for index in range(len(listing)))

    def __len__(self) -> int:
        return len(self._listing)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._listing.find(name.encode(errors="surrogatepass")) >= 0

    def __iter__(self) -> Iterator[LabelledImage]:
        """Read all images with their annotations, in the catalog's order and a little ahead.

        Raises:
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: an annotation does not parse. This ends the iteration; to go on all the same, go over
                `names` and read ``dataset[name]`` one by one.
        """
        return map_in_order(self._read, range(len(self._listing)), threads=READING_THREADS)

    def __getitem__(self, name: str) -> LabelledImage:
        """Read one image with its annotation.

        Args:
            name: the image's stem.

        Raises:
            CatalogMissing: there is no such image.
            StoreError: bytes cannot be had, or are not what the catalog says.
            AnnotationError: the annotation does not parse.
        """
        return self._read(self._index(name))

    def image(self, name: str) -> bytes:
        """Read an image alone; see `__getitem__`."""
        listing = self._listing
        return self._reader.read(listing, listing.images, self._index(name))

    def annotation(self, name: str) -> Annotation | None:
        """Read an annotation alone, None if the image has none; see `__getitem__`."""
        return self._annotation(self._index(name))

    def file_name(self, name: str) -> str:
        """The image's file name: its stem with its extension.

        Raises:
            CatalogMissing: there is no such image.
        """
        return f"{name}.{self._listing.ext(self._index(name))}"

    @cached_property
    def _listing(self) -> Listing:
        return self._reader.listing(self.id)

    def _index(self, name: str) -> int:
        index = self._listing.find(name.encode(errors="surrogatepass"))
        if index < 0:
            raise CatalogMissing(
                f"There is no image {name!r} in the dataset {self.id}; dataset.names gives those there are, "
                "without their extensions."
            )
        return index

    def _read(self, index: int) -> LabelledImage:
        listing = self._listing
        image = self._reader.read(listing, listing.images, index)
        return LabelledImage(listing.stem(index).decode(), image, self._annotation(index))

    def _annotation(self, index: int) -> Annotation | None:
        listing = self._listing
        if not listing.has_annotation(index):
            return None
        try:
            return parse_annotation(self._reader.read(listing, listing.annotations, index))
        except AnnotationError as error:
            raise AnnotationError(
                f"{self.id}/{listing.stem(index).decode()}.json: {error}; mend the annotation and publish it again"
            ) from error


@dataclass(frozen=True)
class Datasets:
    """Some of a catalog's datasets, in the order of their ids or as `of` was asked for them.

    ``len(datasets)`` is their number, iterating gives each `Dataset`, and so does ``datasets[dataset_id]``.
    """

    _by_id: Mapping[str, Dataset]

    @property
    def ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self._by_id.values())

    def __contains__(self, dataset_id: object) -> bool:
        return dataset_id in self._by_id

    def __getitem__(self, dataset_id: str) -> Dataset:
        """The dataset of an id.

        Raises:
            ConfigurationError: there is none; the message names near ones.
        """
        find_datasets(self._rows, [dataset_id])
        return self._by_id[dataset_id]

    def select(self, *conditions: str) -> Datasets:
        """The datasets that meet every condition.

        Args:
            conditions: each ``COLUMN=VALUE``, for example ``image_type=fisheye360`` or ``source=original``; a
                list-valued column such as ``class`` matches by any of its values.

        Raises:
            ConfigurationError: a condition is not of that form, or its column is unknown.
        """
        return self.of(row.dataset_id for row in matching(self._rows, conditions))

    def of(self, dataset_ids: Iterable[str]) -> Datasets:
        """The datasets of these ids, in the order given.

        Raises:
            ConfigurationError: one is unknown; the message names near ones.
        """
        found = find_datasets(self._rows, list(dataset_ids))
        return Datasets({row.dataset_id: self._by_id[row.dataset_id] for row in found})

    def __repr__(self) -> str:
        return f"Datasets({', '.join(self.ids)})"

    @property
    def _rows(self) -> list[DatasetRow]:
        return [dataset.row for dataset in self]
