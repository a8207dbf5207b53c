"""The files of one revision of a dataset: its images, their annotations, and the siblings rendered beside them.

A file is named by its kind and the index of its image in the listing. Nothing here changes but the sizes of siblings,
which are filled in as they are rendered.

Threads: any number may use one object; to render a sibling twice gives the same bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from imgsyncfs.cache import OpenExtent
from imgsyncfs.fetching.contents import ContentReader, Piece
from imgsyncfs.formats.registry import CONVERTIBLE, FORMATS, HOUSE, FormatDescription, Rendered
from imgsyncfs.library.directory_positions import find_place, first_position
from imgsyncfs.library.nodes import FILE_MODE, Attributes
from imgsyncfs.library.numbers import (
    ANNOTATION,
    DOCUMENT,
    FIRST_SIBLING,
    IMAGE,
    KIND_BITS,
    PICTURE,
    REWRITTEN,
    FileAddress,
    dataset_number,
)
from imgsyncfs.library.rendered_alone import QUICK_BYTES, RenderingPlace, TakesLong
from imgsyncfs.library.renderings import Renderer
from imgsyncfs.library.views.contract import Assembly

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import FileNumbers, Listing

ANNOTATION_EXT = b"json"
ANNOTATION_SUFFIX = b"." + ANNOTATION_EXT

IMAGES_AT_ONCE = 64
"""Images whose names are made together; the kernel takes some hundred entries at a time."""

SIZE_BYTES = 4


class FileKey(NamedTuple):
    """A file of a dataset's revision.

    Attributes:
        kind: as in `imgsyncfs.library.numbers`.
        image: index of its image in the listing.
    """

    kind: int
    image: int


DirectoryEntry = tuple[bytes, int, int, int]
"""An entry of a dataset's directory: the file's name, its kind and image as in `FileKey`, and the position from which
to go on reading after it (`imgsyncfs.library.directory_positions`). A plain tuple, since a listing has millions."""


@dataclass(frozen=True)
class FileSources:
    """Where all datasets' files come from.

    Attributes:
        contents: reads files of listings.
        renderer: renders siblings.
        siblings: the formats that stand beside each image, in order.
    """

    contents: ContentReader
    renderer: Renderer
    siblings: tuple[FormatDescription, ...]

    @cached_property
    def by_kind(self) -> dict[int, FormatDescription]:
        """The siblings' formats by the kind of file; a format has the same kind in every mount."""
        kinds = {name: FIRST_SIBLING + place for place, name in enumerate(FORMATS)}
        return {kinds[target.name]: target for target in self.siblings}


class DatasetFiles:
    """The files of one revision of a dataset.

    Args:
        listing: its listing.
        sources: where contents come from.
        sizes: room for the sizes of rendered siblings, shared with other processes: that of `sizes_length` bytes, all
            0 at first. None for room of its own.
        siblings: their formats by the kind of file; None for those of the sources.
        no_rendering: the exception for a file that takes long to render and that the cache does not have; None: all are
            rendered here.

    Attributes:
        image_kind: the kind of what stands for an image; see `imgsyncfs.library.numbers`.
        annotation_kind: likewise for its house annotation.
        longest_side: to which annotations are scaled, see `imgsyncfs.library.views.contract.View.longest_side`.
    """

    image_kind = IMAGE
    longest_side: int | None = None

    def __init__(
        self,
        listing: Listing,
        sources: FileSources,
        *,
        sizes: memoryview | None = None,
        siblings: Mapping[int, FormatDescription] | None = None,
        no_rendering: Callable[[RenderingPlace], Exception] | None = None,
    ) -> None:
        self._no_rendering = no_rendering
        self.listing = listing
        self._sources = sources
        self._classes: tuple[str, ...] = ()
        self._names_losses = ""
        self._view_name = ""
        self._siblings: dict[int, FormatDescription] = dict(sources.by_kind if siblings is None else siblings)
        # Annotations of a selection that renames classes are rendered as well.
        self.annotation_kind = REWRITTEN if listing.facts.choice else ANNOTATION
        if sizes is None:
            sizes = memoryview(mmap.mmap(-1, sizes_length(listing, len(self._siblings) + 1)))
        self._suffixes = [(target.suffix.encode(), kind) for kind, target in self._siblings.items()]
        self._sizes = {kind: sizes_of(listing, sizes, place=place) for place, kind in enumerate(self._siblings)}
        self._sizes[REWRITTEN] = sizes_of(listing, sizes, place=len(self._siblings))
        self._shadowed = {kind: listing.shadowed(suffix) for suffix, kind in self._suffixes}

    @property
    def siblings(self) -> Mapping[int, FormatDescription]:
        """The formats of the rendered files, by the kind of file."""
        return self._siblings

    def parent(self, directory: int) -> int | None:
        """The place of the directory above a directory; None if there is no such directory. The dataset's own is 0."""
        return None if directory else 0

    def child(self, directory: int, name: bytes) -> int | None:  # noqa: ARG002 - for views
        """The place of a directory in another one; None if there is none of this name."""
        return None

    def directory_name(self, directory: int) -> bytes:  # noqa: ARG002 - for views
        """The path of a directory within the dataset's; empty for that itself."""
        return b""

    def directory_of(self, key: FileKey) -> int:  # noqa: ARG002 - for views
        """The place of the directory that a file is in."""
        return 0

    def directories_of(self, directory: int, position: int) -> Iterator[tuple[bytes, int, int]]:  # noqa: ARG002 - for views
        """The directories in one from a position on: (name, place, the position after it)."""
        return iter(())

    def find(self, name: bytes, directory: int = 0) -> FileKey | None:  # noqa: ARG002 - for views
        """The file of a name in a directory; None if there is none."""
        listing = self.listing
        for suffix, kind in self._suffixes:
            if name.endswith(suffix):
                index = listing.find(name[: -len(suffix)])
                if index >= 0 and listing.has_siblings(index) and index not in self._shadowed[kind]:
                    return FileKey(kind, index)
        stem, dot, ext = name.rpartition(b".")
        index = listing.find(stem) if dot else -1
        if index < 0:
            return None
        if listing.ext(index).encode() == ext:
            return FileKey(IMAGE, index)
        if ext == ANNOTATION_EXT and listing.has_annotation(index):
            return FileKey(self.annotation_kind, index)
        return None

    def has(self, key: FileKey) -> bool:
        """Whether there is such a file."""
        kind, index = key
        if kind == IMAGE:
            return True
        if kind == self.annotation_kind:
            return self.listing.has_annotation(index)
        return kind in self._siblings and self.listing.has_siblings(index) and index not in self._shadowed[kind]

    def is_certain(self, key: FileKey) -> bool:  # noqa: ARG002 - for views
        """Whether a file that was found is there; else only its attributes tell."""
        return True

    def name(self, key: FileKey) -> bytes:
        """The name of a file."""
        stem = self.listing.stem(key.image)
        if key.kind == IMAGE:
            return b"%b.%b" % (stem, self.listing.ext(key.image).encode())
        is_annotation = key.kind in {ANNOTATION, REWRITTEN}
        return stem + (ANNOTATION_SUFFIX if is_annotation else self._siblings[key.kind].suffix.encode())

    def attributes(self, key: FileKey) -> Attributes:
        """What `stat` shows. Reads nothing of a stored file; the first look at a sibling renders it.

        Raises:
            StoreError: the annotation cannot be read.
            AnnotationError: it does not parse.
        """
        kind, index = key
        if kind == IMAGE:
            return Attributes(FILE_MODE, *self.listing.images.size_and_time(index))
        size, modified_at = self.listing.annotations.size_and_time(index)
        if kind != ANNOTATION:
            sizes = self._sizes[kind]
            size = sizes[index]
            if not size:
                content = self._content(key)
                size = content.length if isinstance(content, OpenExtent) else len(content)
                sizes[index] = size
        return Attributes(FILE_MODE, size, modified_at)

    def modified_at(self, key: FileKey) -> int:
        """When the file's content last changed, Unix seconds; renders nothing."""
        files = self.listing.images if key.kind == IMAGE else self.listing.annotations
        return files.size_and_time(key.image)[1]

    def read(self, key: FileKey, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, fewer only where the file ends; raises what `attributes` raises."""
        if key.kind >= FIRST_SIBLING:
            content = self._content(key)
            return content.read(offset, size) if isinstance(content, OpenExtent) else content[offset : offset + size]
        files = self.listing.images if key.kind == IMAGE else self.listing.annotations
        return self._sources.contents.read(self.listing, files, key.image, offset, size)

    def stored_annotation(self, index: int) -> bytes:
        """The house annotation of an image as it is stored, also where a selection shows another one.

        Raises:
            StoreError: it cannot be read.
        """
        return self._sources.contents.read_whole(self.listing, self.listing.annotations, index)

    def read_into(self, key: FileKey, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with the bytes from `offset` on; see `read`.

        Returns:
            How many bytes; fewer than the buffer takes only where the file ends.
        """
        if key.kind >= FIRST_SIBLING:
            content = self.read(key, offset, len(buffer))
            buffer[: len(content)] = content
            return len(content)
        files = self.listing.images if key.kind == IMAGE else self.listing.annotations
        return self._sources.contents.read_into(self.listing, files, key.image, offset, buffer)

    def rendered(self, key: FileKey) -> Rendered:
        """A sibling, rendered anew, with what it does not show; raises what `attributes` raises."""
        return self._sources.renderer.rendered(
            self.listing,
            key.image,
            self._target(key.kind),
            classes=self._classes,
            longest_side=self.longest_side,
        )

    def piece(self, key: FileKey, offset: int, size: int) -> Piece | None:
        """Where a part of a file lies, if that is in one extent; None for most that are rendered, too."""
        if key.kind >= FIRST_SIBLING:
            return self._piece_of_rendered(key, offset, size)
        files = self.listing.images if key.kind == IMAGE else self.listing.annotations
        return self._sources.contents.piece(self.listing, files, key.image, offset, size)

    def pieces(self, key: FileKey, offset: int, size: int) -> Iterable[Piece]:
        """Where a part of a stored file lies; raises what `attributes` raises."""
        files = self.listing.images if key.kind == IMAGE else self.listing.annotations
        return self._sources.contents.pieces(self.listing, files, key.image, offset, size)

    def assembly(self, key: FileKey) -> Assembly | None:  # noqa: ARG002 - for views
        """What a file is put together from when it is read; None for other files."""
        return None

    def entries_from(
        self,
        position: int,
        *,
        earlier: Listing | None = None,
        directory: int = 0,  # noqa: ARG002 - for views
    ) -> Iterator[DirectoryEntry]:
        """The files of a directory from a position on, after the directories in it; reads no blob.

        Args:
            position: one of those given with an entry, `FIRST_POSITION` for the beginning.
            earlier: the listing before, whose positions are found again by name.
            directory: its place.
        """
        listing = self.listing
        suffixes = ((ANNOTATION_SUFFIX, self.annotation_kind), *self._suffixes)
        kinds = 1 + len(suffixes)
        first, first_place = find_place(position, listing, earlier=earlier, kinds=kinds)
        after = first_position(listing) + first * kinds
        for start in range(first, len(listing), IMAGES_AT_ONCE):
            parts = listing.name_parts(start, start + IMAGES_AT_ONCE)
            for index, (stem, ext, annotated, rendered) in enumerate(parts, start):
                if not first_place:
                    yield stem + ext, IMAGE, index, after + 1
                if annotated:
                    for place, (suffix, kind) in enumerate(suffixes if rendered else suffixes[:1], 1):
                        if place >= first_place and (place == 1 or index not in self._shadowed[kind]):
                            yield stem + suffix, kind, index, after + place + 1
                after += kinds
                first_place = 0

    def _content(self, key: FileKey) -> bytes | OpenExtent:
        """What is rendered: here, or by another process, which has put it into the cache."""
        try:
            return self._render(key)
        except TakesLong:
            place = RenderingPlace(
                self.listing, key.image, self._target(key.kind), self._view_name, self._classes, self.longest_side
            )
            extents = self._sources.contents.extents
            found = extents.opened(place.key) or extents.kept(place.key)
            if found is None:
                if self._no_rendering is None:
                    raise
                raise self._no_rendering(place) from None
            return found

    def _piece_of_rendered(self, key: FileKey, offset: int, size: int) -> Piece | None:
        if self._no_rendering is None or self._sizes[key.kind][key.image] <= QUICK_BYTES:
            return None
        content = self._content(key)
        size = min(size, content.length - offset) if isinstance(content, OpenExtent) else 0
        return Piece(content, offset, size) if isinstance(content, OpenExtent) and size > 0 else None

    def _render(self, key: FileKey) -> bytes:
        return self._sources.renderer.render(
            self.listing,
            key.image,
            self._target(key.kind),
            classes=self._classes,
            longest_side=self.longest_side,
            view=self._names_losses,
        )

    def _target(self, kind: int) -> FormatDescription:
        """The format of a rendered file."""
        return CONVERTIBLE[HOUSE] if kind == REWRITTEN else self._siblings[kind]


def sizes_of(listing: Listing, sizes: memoryview | None, *, place: int) -> memoryview[int]:
    """The sizes of one sibling of each image, 0 where not known yet.

    Args:
        listing: of the images.
        sizes: room for those of all siblings; None for room of its own.
        place: of the sibling among them.
    """
    if sizes is None:
        return memoryview(mmap.mmap(-1, sizes_length(listing, 1))).cast("I")
    count = len(listing)
    return sizes.cast("I")[place * count : (place + 1) * count]


def sizes_length(listing: Listing, siblings: int) -> int:
    """How many bytes the sizes of all siblings of a listing take; at least those of one."""
    return SIZE_BYTES * max(1, len(listing) * siblings)


class NodeNumbers:
    """The node numbers of the files of one revision.

    Args:
        dataset: the dataset's number.
        listing: of the revision.
    """

    def __init__(self, dataset: int, listing: Listing) -> None:
        # Late: numpy comes with it.
        from imgsyncfs.catalog.listing import FileNumbers
        from imgsyncfs.catalog.listing.table import ANNOTATION_PREFIX, IMAGE_PREFIX

        self._directory = dataset_number(dataset)
        self._images: FileNumbers = FileNumbers.of(listing, IMAGE_PREFIX)
        self._annotations: FileNumbers = FileNumbers.of(listing, ANNOTATION_PREFIX)

    def number(self, kind: int, index: int) -> int:
        """The node number of a file. A sibling changes with its annotation, so it has the annotation's file number."""
        if kind == DOCUMENT:
            return self._directory | (index << KIND_BITS) | kind
        files = self._images if kind in {IMAGE, PICTURE} else self._annotations
        return self._directory | (files.number(index) << KIND_BITS) | kind

    def key(self, address: FileAddress) -> FileKey | None:
        """The file at an address of this dataset; None if this revision does not have it."""
        if address.kind == DOCUMENT:
            return FileKey(DOCUMENT, address.file)
        files = self._images if address.kind in {IMAGE, PICTURE} else self._annotations
        index = files.index(address.file)
        return FileKey(address.kind, index) if index >= 0 else None
