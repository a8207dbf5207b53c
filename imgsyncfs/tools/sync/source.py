"""What there is to copy of a dataset: its files in the order of copying, each with what tells its versions apart.

Images and annotations come first, documents about all of them after that: whoever finds a document finds what it names.

Knows nothing of the folder that they are copied to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, md5

import numpy as np
import orjson

from imgsyncfs import __version__
from imgsyncfs.catalog.listing import FileRecord, Listing
from imgsyncfs.catalog.listing.columns import Column
from imgsyncfs.formats.contract import Loss
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.dataset_files import ANNOTATION_SUFFIX, DatasetFiles, FileKey
from imgsyncfs.library.library import Library
from imgsyncfs.library.nodes import FIRST_POSITION
from imgsyncfs.library.numbers import ANNOTATION, DOCUMENT, IMAGE, REWRITTEN
from imgsyncfs.library.pictures import picture_key
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import View
from imgsyncfs.tools.sync.content import Content, DocumentContent, RenderedContent, StoredContent, TextContent

REGIONS = 4
"""Files are copied from this number of places of a dataset by turns. Neighbours lie in one extent, so that in order
all threads would wait for the same one; this way up to eight are on their way, those of annotations included."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that can be copied.

    Attributes:
        directory: the path of the directory that it is in, within the dataset's; empty for that itself.
        name: its own name.
        version: another one whenever the content is another; known without reading anything.
        md5: digest of the content; empty where nobody knows it without reading.
        byte_count: its length; None where nobody knows it without reading.
        modified_at: when the content last changed, Unix seconds.
        content: gives its bytes.
        position: of its image, or of a document, among those of the dataset.
        is_document: whether it is about the dataset as a whole.
    """

    directory: str
    name: str
    version: str
    md5: str
    byte_count: int | None
    modified_at: int
    content: Content
    position: int = 0
    is_document: bool = False

    @property
    def path(self) -> str:
        """Its path within the dataset's directory, with slashes."""
        return f"{self.directory}/{self.name}" if self.directory else self.name


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
        ConfigurationError: the dataset's split rule cannot be used.
    """

    def __init__(self, library: Library, dataset_id: str, *, amount: int | None, view: View | None = None) -> None:
        self._files = library.files(dataset_id, view=view, amount=amount)
        # What else there is in the catalog is not to be taken for gone.
        self._all = self._files if amount is None else library.files(dataset_id, view=view)
        self._listing: Listing = self._files.listing
        self._view = view

    @property
    def dataset_id(self) -> str:
        """The dataset."""
        return self._listing.dataset_id

    @property
    def store(self) -> str:
        """URL of the store that holds it."""
        return self._listing.store

    @cached_property
    def names_losses(self) -> str:
        """Name of the view if its files do not tell what they do not show; else empty."""
        view, files = self._view, self._files
        if view is None or not isinstance(files, ViewFiles):
            return ""
        has_losses = view.has_splits or self.layout_losses or any(document.write for document in files.documents)
        return view.name if has_losses else ""

    @cached_property
    def layout_losses(self) -> tuple[Loss, ...]:
        """What the view's layout has no place for, whatever is in its files."""
        view, files = self._view, self._files
        return tuple(view.losses(files.listing, files.facts)) if view and isinstance(files, ViewFiles) else ()

    @cached_property
    def directories(self) -> tuple[str, ...]:
        """The directories in the dataset's, each after the one that it is in."""
        return tuple(_directories(self._files))

    def __iter__(self) -> Iterator[SourceFile]:
        """Images and annotations, in an order that keeps several extents on their way. Reads no blob."""
        images = len(self._listing)
        stride = -(-images // REGIONS)
        for step in range(stride):
            for index in range(step, images, stride):
                yield from self._files_of(index)

    def file_count(self) -> int:
        """How many images and annotations there are."""
        return sum(1 for _ in self)

    def documents(self) -> Iterator[SourceFile]:
        """The files about the dataset as a whole. Reads no blob."""
        files = self._files
        if not isinstance(files, ViewFiles):
            return
        for place, document in enumerate(files.documents):
            key = FileKey(DOCUMENT, place)
            name = document.name.decode()
            is_long = document.write is not None
            needed = files.needed_document(place)
            if needed is not None and not files.has_document(needed):
                _bring(files, needed)
            yield SourceFile(
                *self._place(key),
                f"{name} {self._version}",
                "",
                None if is_long else files.attributes(key).size,
                files.modified_at(key),
                DocumentContent(files, document) if is_long else StoredContent(files, key),
                place,
                is_document=True,
            )

    def text(self, name: str, content: bytes) -> SourceFile:
        """A file of this content in the dataset's directory."""
        digest = md5(content, usedforsecurity=False).hexdigest()
        return SourceFile("", name, digest, digest, len(content), self._listing.updated_at, TextContent(content))

    def images_in(self, document: SourceFile) -> int:
        """How many images a document is about."""
        files = self._files
        if not isinstance(files, ViewFiles):
            return len(self._listing)
        split = files.documents[document.position].split
        if split is None or files.splits is None:
            return len(self._listing)
        return int(np.count_nonzero(files.splits == split))

    def most_bytes(self, block_bytes: int) -> int:
        """An upper bound, quick to find, of the space that images and annotations take on a disk.

        Args:
            block_bytes: of the disk.
        """
        listing = self._listing
        return _disk_bytes(listing.images.columns["byte_count"], block_bytes) + _disk_bytes(
            listing.annotations.columns["byte_count"], block_bytes
        )

    def has(self, path: str) -> bool:
        """Whether the dataset has a file at a path, beyond the amount too, or could have it as a sibling."""
        files = self._all
        directory, name = _found(files, path)
        if directory is None:
            return False
        if files.find(name, directory) is not None:
            return True
        suffixes = (target.suffix.encode() for target in FORMATS.values())
        return any(
            name.endswith(suffix) and files.find(name.removesuffix(suffix) + ANNOTATION_SUFFIX, directory) is not None
            for suffix in suffixes
        )

    def has_elsewhere(self, path: str) -> bool:
        """Whether a file that was in a directory is in another one now, as images are whose split has changed.

        A directory that the view does not have is none that anything could have moved from: it is another view's.
        """
        files = self._all
        directory, name = _found(files, path)
        if directory is None or files.find(name, directory) is not None:
            return False
        others = (_found(files, f"{each}/")[0] for each in ("", *_directories(files)))
        return any(other is not None and files.find(name, other) is not None for other in others)

    @cached_property
    def _version(self) -> str:
        """Tells documents of one state of the dataset from those of another."""
        files, view = self._files, self._view
        digest = blake2b(digest_size=16)
        digest.update(self._classes.encode())
        if isinstance(files, ViewFiles) and files.splits is not None:
            digest.update(files.splits.tobytes())
        name = view.name if view is not None else ""
        return f"{name} {__version__} {self._listing.key} {len(self._listing)} {digest.hexdigest()}"

    @cached_property
    def _classes(self) -> str:
        files = self._files
        names = orjson.dumps(files.classes) if isinstance(files, ViewFiles) else b""
        return blake2b(names, digest_size=16).hexdigest()

    def _files_of(self, index: int) -> Iterator[SourceFile]:
        """An image, its annotation, and their siblings."""
        listing, files = self._listing, self._files
        image = FileKey(files.image_kind, index)
        if files.has(image):
            yield self._image(image)
        annotation = listing.annotation(index)
        if annotation is None:
            return
        if files.has(FileKey(ANNOTATION, index)):
            yield self._stored(FileKey(ANNOTATION, index), annotation)
        elif files.has(FileKey(REWRITTEN, index)):
            yield self._rewritten(FileKey(REWRITTEN, index), annotation)
        if not listing.has_siblings(index):
            return
        for kind, target in files.siblings.items():
            key = FileKey(kind, index)
            # A real file of that name comes with the image that it belongs to.
            if files.has(key):
                version = f"{target.name} {__version__} {self._shape(index)} {_version(annotation, listing)}"
                content = RenderedContent(files, key)
                yield SourceFile(*self._place(key), version, "", None, annotation.modified_at, content, index)

    def _shape(self, index: int) -> str:
        """What a rendered annotation depends on beside the stored one."""
        listing = self._listing
        shape = "x".join(map(str, listing.image_info(index)))
        # Copies of images that are shown as they are stored keep the version that they have.
        if (orientation := listing.orientation(index)) != 1:
            shape += f" turned {orientation}"
        # Trainers' layouts may have numbers in place of classes.
        if self.names_losses:
            shape += f" {self._classes}"
        if listing.facts.choice:
            shape += f" {listing.facts.choice.digest}"
        return shape

    def _rewritten(self, key: FileKey, annotation: FileRecord) -> SourceFile:
        """An annotation with the names for classes that a selection gives them."""
        version = f"{__version__} {self._listing.facts.choice.digest} {_version(annotation, self._listing)}"
        content = RenderedContent(self._files, key)
        return SourceFile(*self._place(key), version, "", None, annotation.modified_at, content, key.image)

    def _image(self, key: FileKey) -> SourceFile:
        if key.kind == IMAGE:
            return self._stored(key, self._listing.image(key.image))
        picture = self._view.picture if self._view is not None else None
        version = "" if picture is None else picture_key(picture, self._listing, key.image)
        time = self._files.modified_at(key)
        return SourceFile(*self._place(key), version, "", None, time, StoredContent(self._files, key), key.image)

    def _stored(self, key: FileKey, record: FileRecord) -> SourceFile:
        version, content = _version(record, self._listing), StoredContent(self._files, key)
        return SourceFile(
            *self._place(key), version, record.md5, record.byte_count, record.modified_at, content, key.image
        )

    def _place(self, key: FileKey) -> tuple[str, str]:
        files = self._files
        return files.directory_name(files.directory_of(key)).decode(), files.name(key).decode()


def _directories(files: DatasetFiles, directory: int = 0, path: str = "") -> Iterator[str]:
    for name, place, _ in files.directories_of(directory, FIRST_POSITION):
        own = path + name.decode()
        yield own
        yield from _directories(files, place, f"{own}/")


def _found(files: DatasetFiles, path: str) -> tuple[int | None, bytes]:
    """The place of a path's directory, None if there is none, and the file's own name."""
    *parents, name = path.encode().split(b"/")
    directory: int | None = 0
    for parent in filter(None, parents):
        directory = files.child(directory, parent) if directory is not None else None
    return directory, name


def _version(record: FileRecord, listing: Listing) -> str:
    if record.md5:
        return record.md5
    # Without a digest there mostly is an etag, which is another one after each write.
    place = f"{record.blob} {record.offset} {record.byte_count} {record.etag} {record.modified_at}"
    return place if record.etag else f"{place} {listing.catalog_id}"


def _disk_bytes(byte_counts: Column, block_bytes: int) -> int:
    # Each file's last block is half empty on the average, and must be counted whole.
    return int((-(-byte_counts.astype(np.int64) // block_bytes)).sum()) * block_bytes


def _bring(files: ViewFiles, place: int) -> None:
    """Write a document that others need, to be there as long as the files are."""
    with tempfile.TemporaryFile() as target:
        length = sum(map(target.write, DocumentContent(files, files.document(place)).pieces(lambda read: read())))
        target.flush()
        files.take_document(place, os.dup(target.fileno()), length=length)
