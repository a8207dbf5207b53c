"""What there is to copy of a dataset: its files in the order of copying, each with what tells its versions apart.

Knows nothing of the folder that they are copied to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from imgsyncfs import __version__
from imgsyncfs.catalog.listing import FileRecord, Listing
from imgsyncfs.catalog.listing.columns import Column
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.dataset_files import ANNOTATION_SUFFIX, DatasetFiles, FileKey
from imgsyncfs.library.library import Library
from imgsyncfs.library.numbers import ANNOTATION, IMAGE
from imgsyncfs.library.views.contract import View

REGIONS = 4
"""Files are copied from this number of places of a dataset by turns. Neighbours lie in one extent, so that in order
all threads would wait for the same one; this way up to eight are on their way, those of annotations included."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that can be copied.

    Attributes:
        name: in its dataset's directory.
        version: another one whenever the content is another; known without reading anything.
        md5: digest of the content; empty where nobody knows it without reading.
        byte_count: its length; None where nobody knows it without reading.
        modified_at: when the content last changed, Unix seconds.
        files: those of its dataset.
        key: which of them it is.
    """

    name: str
    version: str
    md5: str
    byte_count: int | None
    modified_at: int
    files: DatasetFiles
    key: FileKey

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes of the content; see `DatasetFiles.read`."""
        return self.files.read(self.key, offset, size)


class DatasetSource:
    """The files of one dataset, at the revision that the catalog has now.

    Args:
        library: the catalog's datasets.
        dataset_id: the dataset.
        amount: how many images to take with what belongs to them; None for all. They are the first by name: neighbours
            by name lie in the same few extents, while images spread over the dataset would cost 4 MiB each.
        view: the layout to copy; None for the directory's own.

    Raises:
        CatalogError: the listing cannot be read.
    """

    def __init__(self, library: Library, dataset_id: str, *, amount: int | None, view: View | None = None) -> None:
        self._contents = library.files(dataset_id, view=view)
        self._listing: Listing = self._contents.listing
        self._images = len(self._listing) if amount is None else min(amount, len(self._listing))

    @property
    def dataset_id(self) -> str:
        """The dataset."""
        return self._listing.dataset_id

    @property
    def store(self) -> str:
        """URL of the store that holds it."""
        return self._listing.store

    def __iter__(self) -> Iterator[SourceFile]:
        """The files, in an order that keeps several extents on their way. Reads no blob."""
        stride = -(-self._images // REGIONS)
        for step in range(stride):
            for index in range(step, self._images, stride):
                yield from self._files(index)

    def file_count(self) -> int:
        """How many files there are."""
        return sum(1 for _ in self)

    def most_bytes(self, block_bytes: int) -> int:
        """An upper bound, quick to find, of the space that images and annotations take on a disk.

        Args:
            block_bytes: of the disk.
        """
        listing, images = self._listing, self._images
        return _disk_bytes(listing.images.columns["byte_count"][:images], block_bytes) + _disk_bytes(
            listing.annotations.columns["byte_count"][:images], block_bytes
        )

    def has(self, name: str) -> bool:
        """Whether the dataset has a file of that name, beyond the amount too, or could have it as a sibling."""
        encoded = name.encode()
        if self._contents.find(encoded) is not None:
            return True
        suffixes = (target.suffix.encode() for target in FORMATS.values())
        return any(
            encoded.endswith(suffix)
            and self._contents.find(encoded.removesuffix(suffix) + ANNOTATION_SUFFIX) is not None
            for suffix in suffixes
        )

    def _files(self, index: int) -> Iterator[SourceFile]:
        """An image, its annotation, and their siblings."""
        listing = self._listing
        yield self._stored(FileKey(IMAGE, index), listing.image(index))
        annotation = listing.annotation(index)
        if annotation is None:
            return
        if self._contents.has(FileKey(ANNOTATION, index)):
            yield self._stored(FileKey(ANNOTATION, index), annotation)
        if not listing.has_siblings(index):
            return
        for kind, target in self._contents.siblings.items():
            key = FileKey(kind, index)
            # A real file of that name comes with the image that it belongs to.
            if self._contents.has(key):
                shape = "x".join(map(str, listing.image_info(index)))
                # Copies of images that are shown as they are stored keep the version that they have.
                if (orientation := listing.orientation(index)) != 1:
                    shape += f" turned {orientation}"
                version = f"{target.name} {__version__} {shape} {_version(annotation, listing)}"
                name = self._contents.name(key).decode()
                yield SourceFile(name, version, "", None, annotation.modified_at, self._contents, key)

    def _stored(self, key: FileKey, record: FileRecord) -> SourceFile:
        version = _version(record, self._listing)
        name = self._contents.name(key).decode()
        return SourceFile(name, version, record.md5, record.byte_count, record.modified_at, self._contents, key)


def _version(record: FileRecord, listing: Listing) -> str:
    if record.md5:
        return record.md5
    # Without a digest there mostly is an etag, which is another one after each write.
    place = f"{record.blob} {record.offset} {record.byte_count} {record.etag} {record.modified_at}"
    return place if record.etag else f"{place} {listing.catalog_id}"


def _disk_bytes(byte_counts: Column, block_bytes: int) -> int:
    # Each file's last block is half empty on the average, and must be counted whole.
    return int((-(-byte_counts.astype(np.int64) // block_bytes)).sum()) * block_bytes
