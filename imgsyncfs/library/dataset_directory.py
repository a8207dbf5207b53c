"""One dataset as a directory: its images, their annotations, and the siblings rendered beside them.

A dataset changes by publishing a new revision. Files whose content changes must not do so under a reader: the kernel
asks for pages by path and does not say which revision the reader opened. So a changed file that the kernel may know
goes on being served from the old revision (it is *held*) until `imgsyncfs.mount.turnover` finds that nobody has it
open. The old blobs are still there, since blobs are never overwritten.

Threads: callbacks read `_current`, then `_held`, without a lock; `turn_to` writes them in the opposite order.
`_turn_lock` orders those who write.
"""

from __future__ import annotations

import array
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.fetching.contents import ContentReader
from imgsyncfs.formats.registry import FormatDescription
from imgsyncfs.library.directory_positions import find_place, first_position
from imgsyncfs.library.nodes import DIRECTORY_MODE, FILE_MODE, FIRST_POSITION, Attributes, Directory, File
from imgsyncfs.library.renderings import Renderer

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.files import FileTable

ANNOTATION_EXT = b"json"
ANNOTATION_SUFFIX = b"." + ANNOTATION_EXT

_IMAGE = 0
_ANNOTATION = 1
_FIRST_SIBLING = 2

IMAGES_AT_ONCE = 64
"""Images whose names are made together; the kernel takes some hundred entries at a time."""

MOST_REMEMBERED = 64
"""Files found last: the kernel asks for each by its path, once for `stat` and once for each read."""


@dataclass(frozen=True)
class DatasetSources:
    """The sources that all datasets' directories share.

    Attributes:
        load: the listing of a dataset; may wait for a worker, raises `CatalogError`.
        contents: reads files of listings.
        renderer: renders siblings.
        siblings: the formats that stand beside each image, in order.
    """

    load: Callable[[str], Listing]
    contents: ContentReader
    renderer: Renderer
    siblings: tuple[FormatDescription, ...]

    @cached_property
    def suffixes(self) -> tuple[bytes, ...]:
        """The suffixes of siblings' names, in the same order."""
        return tuple(target.suffix.encode() for target in self.siblings)


@dataclass
class _Revision:
    """A revision in use.

    Attributes:
        listing: its files.
        told: for images, annotations and each kind of sibling, which ones the kernel was told of.
        sizes: for each kind of sibling, the sizes of those rendered so far (0: not yet).
        shadowed: for each kind of sibling, the images beside which a real file has that name.
        found: stored files that were found last, by name; those that the kernel was told of only.
        all_told: take the kernel to know every file.
    """

    listing: Listing
    told: tuple[bytearray, ...]
    sizes: tuple[array.array[int], ...]
    shadowed: tuple[frozenset[int], ...]
    all_told: bool = False
    found: dict[bytes, StoredFile] = field(default_factory=dict)

    @classmethod
    def of(cls, listing: Listing, siblings: tuple[FormatDescription, ...], *, all_told: bool = False) -> _Revision:
        count = len(listing)
        told = tuple(bytearray(0 if all_told else count) for _ in range(_FIRST_SIBLING + len(siblings)))
        sizes = tuple(array.array("I", bytes(4 * count)) for _ in siblings)
        shadowed = tuple(listing.shadowed(target.suffix.encode()) for target in siblings)
        return cls(listing, told, sizes, shadowed, all_told)

    def was_told(self, kind: int, index: int) -> bool:
        return self.all_told or bool(self.told[kind][index])


class StoredFile(File):
    """An image or an annotation: bytes from a blob."""

    __slots__ = ("_contents", "_files", "_index", "_listing")

    def __init__(self, contents: ContentReader, listing: Listing, files: FileTable, index: int) -> None:
        self._contents = contents
        self._listing = listing
        self._files = files
        self._index = index

    def attributes(self) -> Attributes:
        """What `stat` shows; reads nothing."""
        return Attributes(FILE_MODE, *self._files.size_and_time(self._index))

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        return self._contents.read(self._listing, self._files, self._index, offset, size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with the bytes from `offset` on, without a copy in between."""
        return self._contents.read_into(self._listing, self._files, self._index, offset, buffer)


class SiblingFile(File):
    """An annotation in another format, rendered when it is first looked at."""

    __slots__ = ("_format", "_index", "_renderer", "_revision", "_sibling")

    def __init__(
        self, renderer: Renderer, revision: _Revision, index: int, sibling: int, target: FormatDescription
    ) -> None:
        self._renderer = renderer
        self._revision = revision
        self._index = index
        self._sibling = sibling
        self._format = target

    def attributes(self) -> Attributes:
        """What `stat` shows; the first time it renders."""
        listing = self._revision.listing
        sizes = self._revision.sizes[self._sibling]
        size = sizes[self._index]
        if not size:
            size = sizes[self._index] = len(self._renderer.render(listing, self._index, self._format))
        _, modified_at = listing.annotations.size_and_time(self._index)
        return Attributes(FILE_MODE, size, modified_at)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        return self._renderer.render(self._revision.listing, self._index, self._format)[offset : offset + size]


@dataclass
class DatasetDirectory(Directory):
    """The directory of one dataset. Its listing is loaded when it is first needed.

    Attributes:
        row: the dataset, as the catalog had it last.
        sources: where listings and contents come from.
    """

    is_large = True

    row: DatasetRow
    sources: DatasetSources
    _current: _Revision | None = None
    _earlier: Listing | None = None
    _held: dict[bytes, _Revision] = field(default_factory=dict)
    _turned: tuple[_Revision, _Revision, frozenset[bytes]] | None = None
    _turn_lock: threading.Lock = field(default_factory=threading.Lock)

    def attributes(self) -> Attributes:
        """What `stat` shows; loads no listing."""
        return Attributes(DIRECTORY_MODE, 0, self.row.updated_at)

    def child(self, name: bytes) -> File | None:
        """The file of that name, or None."""
        # The current revision first: `turn_to` holds files before it takes over, so whoever sees the new revision
        # here also sees what is held.
        current = self._current or self._loaded()
        revision = (self._held.get(name) if self._held else None) or current
        return revision.found.get(name) or self._find(revision, name)

    def children(self) -> Iterator[tuple[bytes, int]]:
        """(name, mode) of every file, siblings included; reads no blob."""
        return ((name, mode) for name, mode, _ in self.children_from(FIRST_POSITION))

    def children_from(self, position: int) -> Iterator[tuple[bytes, int, int]]:
        """(name, mode, position after it) of each file from a position on (`imgsyncfs.library.directory_positions`)."""
        revision, earlier = self._loaded(), self._earlier
        listing = revision.listing
        suffixes = (ANNOTATION_SUFFIX, *self.sources.suffixes)
        kinds = 1 + len(suffixes)
        first, first_kind = find_place(position, listing, earlier=earlier, kinds=kinds)
        after = first_position(listing) + first * kinds
        for start in range(first, len(listing), IMAGES_AT_ONCE):
            parts = listing.name_parts(start, start + IMAGES_AT_ONCE)
            for index, (stem, ext, annotated, rendered) in enumerate(parts, start):
                if not first_kind:
                    yield stem + ext, FILE_MODE, after + 1
                if annotated:
                    for kind, suffix in enumerate(suffixes if rendered else suffixes[:1], 1):
                        shown = kind == 1 or index not in revision.shadowed[kind - _FIRST_SIBLING]
                        if kind >= first_kind and shown:
                            yield stem + suffix, FILE_MODE, after + kind + 1
                after += kinds
                first_kind = 0

    @property
    def listing(self) -> Listing:
        """The listing in use; loaded if none was needed yet."""
        return self._loaded().listing

    @property
    def loaded_key(self) -> str | None:
        """The key of the listing in use, None if none was needed yet."""
        current = self._current
        return current.listing.key if current else None

    @property
    def held_names(self) -> Sequence[bytes]:
        """Files that are still served from an earlier revision."""
        return list(self._held)

    def turn_to(self, listing: Listing) -> list[bytes]:
        """Take over a new revision.

        Args:
            listing: the new revision's.

        Returns:
            The names of files that are held: changed or gone, and perhaps known to the kernel. `release` each when
            nobody has it open.
        """
        with self._turn_lock:
            before = self._current
            if before is None:
                return []
            same_files = listing.stems.equals(before.listing.stems)
            after = _Revision.of(listing, self.sources.siblings, all_told=before.all_told or not same_files)
            if same_files and not before.all_told:
                after.told = before.told
            names = [
                name for name, kind, index in self._changed(before.listing, listing) if before.was_told(kind, index)
            ]
            for name in names:
                # A file that is held already stays with the revision that its reader began with.
                self._held.setdefault(name, before)
            self._earlier = before.listing
            self._current = after
            self._turned = (before, after, frozenset(names))
            return names

    def late_names(self) -> list[bytes]:
        """Changed files that the kernel was told of by a callback that was under way while `turn_to` ran.

        They are not held; what the kernel keeps of them must be dropped all the same. Call once, a moment after
        `turn_to`.
        """
        with self._turn_lock:
            turned, self._turned = self._turned, None
        if turned is None:
            return []
        before, after, names = turned
        return [
            name
            for name, kind, index in self._changed(before.listing, after.listing)
            if name not in names and before.was_told(kind, index)
        ]

    def release(self, name: bytes) -> None:
        """Serve a held file from the current revision from now on."""
        self._held.pop(name, None)

    def _loaded(self) -> _Revision:
        current = self._current
        if current is None:
            listing = self.sources.load(self.row.dataset_id)
            with self._turn_lock:
                if self._current is None:
                    self._current = _Revision.of(listing, self.sources.siblings)
                current = self._current
        return current

    def _find(self, revision: _Revision, name: bytes) -> File | None:
        listing = revision.listing
        for number, suffix in enumerate(self.sources.suffixes):
            if name.endswith(suffix):
                index = listing.find(name[: -len(suffix)])
                if index >= 0 and listing.has_siblings(index) and index not in revision.shadowed[number]:
                    self._tell(revision, _FIRST_SIBLING + number, index)
                    target = self.sources.siblings[number]
                    return SiblingFile(self.sources.renderer, revision, index, number, target)
        stem, dot, ext = name.rpartition(b".")
        index = listing.find(stem) if dot else -1
        if index < 0:
            return None
        if listing.ext(index).encode() == ext:
            return self._stored(revision, name, _IMAGE, index)
        if ext == ANNOTATION_EXT and listing.has_annotation(index):
            return self._stored(revision, name, _ANNOTATION, index)
        return None

    def _stored(self, revision: _Revision, name: bytes, kind: int, index: int) -> StoredFile:
        listing, found = revision.listing, revision.found
        self._tell(revision, kind, index)
        file = StoredFile(
            self.sources.contents, listing, listing.images if kind == _IMAGE else listing.annotations, index
        )
        if len(found) >= MOST_REMEMBERED:
            found.clear()
        found[name] = file
        return file

    @staticmethod
    def _tell(revision: _Revision, kind: int, index: int) -> None:
        if not revision.all_told:
            revision.told[kind][index] = 1

    def _changed(self, before: Listing, after: Listing) -> Iterator[tuple[bytes, int, int]]:
        """(name, kind, index in the old listing) of every file that is no longer what it was."""
        # Late, as above.
        from imgsyncfs.catalog.listing import changed_files

        images, annotations = changed_files(before, after)
        for index in images:
            yield b"%b.%b" % (before.stem(index), before.ext(index).encode()), _IMAGE, index
        for index in annotations:
            stem = before.stem(index)
            yield stem + ANNOTATION_SUFFIX, _ANNOTATION, index
            for number, suffix in enumerate(self.sources.suffixes):
                yield stem + suffix, _FIRST_SIBLING + number, index
