"""The files of one revision of a dataset in a view: images where the tool expects them, and their annotations.

A directory of a view is named by its place in the layout. A revision's view never changes: the next revision has
another one, under a number of its own, and whoever has files of this one open reads on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imgsyncfs.errors import CacheError, CatalogError
from imgsyncfs.formats.losses_file import LOSSES_NAME
from imgsyncfs.formats.registry import CONVERTIBLE, HOUSE
from imgsyncfs.library.dataset_files import (
    ANNOTATION_SUFFIX,
    IMAGES_AT_ONCE,
    DatasetFiles,
    DirectoryEntry,
    FileKey,
    FileSources,
)
from imgsyncfs.library.nodes import FILE_MODE, FIRST_POSITION, Attributes
from imgsyncfs.library.numbers import ANNOTATION, DOCUMENT, FIRST_SIBLING
from imgsyncfs.library.rendered_alone import RenderingPlace
from imgsyncfs.library.views.contract import NOWHERE, Assembly, DatasetFacts, Document, FilePart, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.columns import Column

LABEL = FIRST_SIBLING
"""The kind of an annotation in a view's format."""

_LOSSES = LOSSES_NAME.encode()


class ViewFiles(DatasetFiles):
    """The files of a revision in a view.

    Attributes:
        facts: what the view depends on beside the listing.
        documents: the files about the dataset as a whole.
        may_lose: whether there is a ``LOSSES.txt`` when something is lost; else there is nothing to lose, or flat
            views embed it.
        counts_labels: whether what is lost is to be counted in annotations of the view's format, or in the layout
            itself; see `documents_of_losses` too.

    Args:
        listing: the revision's.
        view: the view.
        sources: where contents come from.
        facts: what the view depends on beside the listing.
        missing: the exception for a long document that has not been written, given its place; None: it cannot be had,
            and nobody is told what is lost.
        sizes: as for `DatasetFiles`, for one sibling.
        no_rendering: as for `DatasetFiles`.
    """

    def __init__(
        self,
        listing: Listing,
        view: View,
        sources: FileSources,
        *,
        facts: DatasetFacts | None = None,
        missing: Callable[[int], Exception] | None = None,
        sizes: memoryview | None = None,
        no_rendering: Callable[[RenderingPlace], Exception] | None = None,
    ) -> None:
        facts = facts or DatasetFacts()
        target = view.target
        self._shows_all_annotations = target is None
        # Written anew, since their bytes are other ones.
        if target is None and (listing.facts.choice or view.longest_side is not None):
            target = CONVERTIBLE[HOUSE]
        super().__init__(
            listing,
            sources,
            sizes=sizes,
            siblings={} if target is None else {LABEL: target},
            no_rendering=no_rendering,
        )
        self._view_name = view.name
        self._kind = ANNOTATION if target is None else LABEL
        self._suffix = ANNOTATION_SUFFIX if target is None else target.suffix.encode()
        self._classes = facts.classes
        self._missing = missing
        self.longest_side = view.longest_side
        self._written: dict[int, tuple[int, int]] = {}
        self._has_losses: bool | None = None
        self.facts = facts
        # As for `may_lose`.
        self._names_losses = view.name if view.has_splits else ""
        layout = view.layout(listing, facts)
        self._has_labels = view.has_labels
        self._layout = layout if view.has_labels else replace(layout, labels=layout.images)
        self.documents = tuple(view.documents(listing, self._layout, facts))
        self._by_name = {(each.directory, each.name): place for place, each in enumerate(self.documents)}
        self.counts_labels = (view.has_labels and view.target is not None) or bool(view.losses(listing, facts))
        self.may_lose = view.has_splits and (self.counts_labels or bool(self.documents_of_losses()))
        self._contents: dict[int, bytes] = {}
        self._kept_members: dict[int, Sequence[int] | Column] = {}
        self._children: list[dict[bytes, int]] = [{} for _ in self._layout.directories]
        for place, (parent, name) in enumerate(self._layout.directories):
            if place:
                self._children[parent][name] = place

    @property
    def classes(self) -> tuple[str, ...]:
        """The dataset's, in their order."""
        return self._classes

    @property
    def splits(self) -> Column | None:
        """The split of each image; see `DatasetFacts`."""
        return self.facts.splits

    @property
    def losses_place(self) -> int:
        """The place of ``LOSSES.txt``, behind those of `documents`."""
        return len(self.documents)

    def document(self, place: int) -> Document:
        """The document at a place; ``LOSSES.txt`` behind all others."""
        return Document(0, _LOSSES) if place == self.losses_place else self.documents[place]

    def documents_of_losses(self) -> list[int]:
        """The places of the long documents that count what is lost: of those about all images, else of all."""
        long = [place for place, document in enumerate(self.documents) if document.write is not None]
        about_all = [place for place in long if self.documents[place].split is None]
        return [place for place in about_all if self.documents[place].images is None] or about_all or long

    def path(self, place: int) -> str:
        """The path of a document within the dataset's directory."""
        document = self.document(place)
        above = self.directory_name(document.directory)
        return (above + b"/" + document.name if above else document.name).decode()

    def take_document(self, place: int, descriptor: int, *, length: int) -> None:
        """Take over a long document that was written.

        Args:
            place: its own.
            descriptor: of a file that begins with it; this object's from now on.
            length: of the document in bytes.
        """
        self.drop_document(place)
        self._written[place] = (descriptor, length)
        rewritten = self.document(place).rewritten
        if rewritten is not None:
            rewritten.take(descriptor, length)

    def has_document(self, place: int) -> bool:
        """Whether a long document that was written was taken over."""
        return place in self._written

    def drop_document(self, place: int) -> None:
        """Close a long document, so that it takes up no room; whoever looks at it has it written again."""
        if place in self._written:
            rewritten = self.document(place).rewritten
            if rewritten is not None:
                rewritten.drop()
            os.close(self._written.pop(place)[0])

    def note_losses(self, *, has_losses: bool) -> None:
        """Take over whether there is anything that the view does not show: whether there is a ``LOSSES.txt``."""
        self._has_losses = has_losses

    def __del__(self) -> None:
        for descriptor, _ in getattr(self, "_written", {}).values():
            os.close(descriptor)

    def parent(self, directory: int) -> int | None:
        """The place of the directory above; None if there is no such directory."""
        known = self._layout.directories
        return known[directory].parent if 0 <= directory < len(known) else None

    def child(self, directory: int, name: bytes) -> int | None:
        """The place of a directory in another one; None if there is none of this name."""
        return self._children[directory].get(name)

    def directory_name(self, directory: int) -> bytes:
        """Its path within the dataset's directory."""
        return self._layout.path(directory)

    def find(self, name: bytes, directory: int = 0) -> FileKey | None:
        """The file of a name in a directory; None if there is none. ``LOSSES.txt`` may be there; see `is_certain`."""
        listing, layout = self.listing, self._layout
        if name == _LOSSES and directory == 0 and self.may_lose:
            may_be = self._has_losses is not False and self._missing is not None
            return FileKey(DOCUMENT, self.losses_place) if may_be else None
        document = self._by_name.get((directory, name))
        if document is not None:
            return FileKey(DOCUMENT, document)
        if name.endswith(self._suffix):
            index = listing.find(name[: -len(self._suffix)])
            if index >= 0 and layout.label_directory(index) == directory and self.has_label(index):
                return FileKey(self._kind, index)
        stem, dot, ext = name.rpartition(b".")
        index = listing.find(stem) if dot else -1
        if index >= 0 and layout.image_directory(index) == directory and self._ext(index) == ext:
            return FileKey(self.image_kind, index)
        return None

    def has(self, key: FileKey) -> bool:
        """Whether there is such a file."""
        if key.kind == DOCUMENT:
            return key.image < len(self.documents) + self.may_lose
        if key.kind == self.image_kind:
            return self._layout.image_directory(key.image) != NOWHERE
        return key.kind == self._kind and self.has_label(key.image)

    def is_certain(self, key: FileKey) -> bool:
        """Whether a file that was found is there: nobody may know yet whether there is a ``LOSSES.txt``."""
        return key != (DOCUMENT, self.losses_place) or self._has_losses is not None

    def name(self, key: FileKey) -> bytes:
        """The name of a file in its directory."""
        if key.kind == DOCUMENT:
            return self.document(key.image).name
        stem = self.listing.stem(key.image)
        return b"%b.%b" % (stem, self._ext(key.image)) if key.kind == self.image_kind else stem + self._suffix

    def directory_of(self, key: FileKey) -> int:
        """The place of the directory that a file is in."""
        if key.kind == DOCUMENT:
            return self.document(key.image).directory
        if key.kind == self.image_kind:
            return self._layout.image_directory(key.image)
        return self._layout.label_directory(key.image)

    def attributes(self, key: FileKey) -> Attributes:
        """What `stat` shows; see `DatasetFiles.attributes`.

        Raises:
            FileNotFoundError: it is the ``LOSSES.txt`` of a view that shows all, which was not known before.
        """
        if key.kind == DOCUMENT:
            return Attributes(FILE_MODE, self._document_size(key.image), self.listing.facts.updated_at)
        return super().attributes(key)

    def modified_at(self, key: FileKey) -> int:
        """When the file's content last changed, Unix seconds; renders nothing."""
        return self.listing.facts.updated_at if key.kind == DOCUMENT else super().modified_at(key)

    def entries_from(
        self,
        position: int,
        *,
        earlier: Listing | None = None,  # noqa: ARG002 - a view has no other revision
        directory: int = 0,
    ) -> Iterator[DirectoryEntry]:
        """The files of a directory from a position on, after its directories (`directories_of`); reads no blob."""
        children = len(self._children[directory])
        documents = [number for number, each in enumerate(self.documents) if each.directory == directory]
        for number in range(max(0, position - FIRST_POSITION - children), len(documents)):
            after = FIRST_POSITION + children + number + 1
            yield self.documents[documents[number]].name, DOCUMENT, documents[number], after
        before = FIRST_POSITION + children + len(documents)
        if directory == 0 and self.may_lose:
            # Its position is there when it is not: it may come while somebody reads the directory.
            before += 1
            if self._has_losses and position < before:
                yield _LOSSES, DOCUMENT, self.losses_place, before
        rank, place = divmod(max(0, position - before), 2)
        members = self._members(directory)
        listing = self.listing
        for start in range(rank, len(members), IMAGES_AT_ONCE):
            for number, index in enumerate(map(int, members[start : start + IMAGES_AT_ONCE]), start):
                stem, after = listing.stem(index), before + 2 * number
                if not place and self._layout.image_directory(index) == directory:
                    yield b"%b.%b" % (stem, self._ext(index)), self.image_kind, index, after + 1
                if self._layout.label_directory(index) == directory and self.has_label(index):
                    yield stem + self._suffix, self._kind, index, after + 2
                place = 0

    def directories_of(self, directory: int, position: int) -> Iterator[tuple[bytes, int, int]]:
        """The directories in one from a position on: (name, place, the position after it)."""
        children = [*self._children[directory].items()]
        for place in range(max(0, position - FIRST_POSITION), len(children)):
            name, child = children[place]
            yield name, child, FIRST_POSITION + place + 1

    def read(self, key: FileKey, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; see `DatasetFiles.read`."""
        assembly = self.assembly(key)
        if assembly is not None:
            return b"".join(map(self._part, assembly.parts(offset, size)))
        if key.kind == DOCUMENT and self.document(key.image).make is None:
            descriptor, length = self._file(key.image)
            size = max(0, min(size, length - offset))
            content = os.pread(descriptor, size, offset)
            if len(content) < size:
                raise CacheError(f"{self.path(key.image)} was cut off in the cache; mount again, and it is made anew.")
            return content
        return super().read(key, offset, size)

    def assembly(self, key: FileKey) -> Assembly | None:
        """What a document is put together from when it is read; None for other files. Raises what `attributes` does."""
        return self._assembly(key.image) if key.kind == DOCUMENT else None

    def needed_document(self, place: int) -> int | None:
        """The place of the long document that one needs that is put together; None if it needs none."""
        document = self.document(place)
        if document.assembly is None or document.rewritten is None:
            return None
        return next(
            other
            for other, each in enumerate(self.documents)
            if each.write is not None and each.rewritten is document.rewritten
        )

    def _assembly(self, place: int) -> Assembly | None:
        document = self.document(place)
        if document.assembly is not None and document.rewritten is not None and not document.rewritten.is_here:
            needed = self.needed_document(place)
            if needed is not None:
                self._file(needed)
        return document.assembly

    def _part(self, part: bytes | FilePart) -> bytes:
        if isinstance(part, bytes):
            return part
        return super().read(FileKey(part.kind, part.image), part.offset, part.length)

    def _render(self, key: FileKey) -> bytes:
        if key.kind != DOCUMENT:
            return super()._render(key)
        content = self._contents.get(key.image)
        make = self.document(key.image).make
        if content is None:
            content = self._contents[key.image] = b"" if make is None else make()
        return content

    def _document_size(self, place: int) -> int:
        if place == self.losses_place and self._has_losses is False:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path(place))
        document = self.document(place)
        assembly = self._assembly(place)
        if assembly is not None:
            return assembly.byte_count
        return self._file(place)[1] if document.make is None else len(self._render(FileKey(DOCUMENT, place)))

    def _file(self, place: int) -> tuple[int, int]:
        """The file of a long document: its descriptor, and the document's length."""
        written = self._written.get(place)
        if written is None:
            missing = self._missing
            raise missing(place) if missing is not None else CatalogError(f"{self.path(place)} is in mounts alone.")
        return written

    def _ext(self, index: int) -> bytes:
        """The extension of what stands for an image, without the dot."""
        return self.listing.ext(index).encode()

    def has_label(self, index: int) -> bool:
        """Whether an image has an annotation of its own in the view."""
        if not self._has_labels:
            return False
        shows_all = self._shows_all_annotations
        return self.listing.has_annotation(index) if shows_all else self.listing.has_siblings(index)

    def _members(self, directory: int) -> Sequence[int] | Column:
        """The images of which a directory holds the image or the annotation, in the listing's order."""
        kept = self._kept_members.get(directory)
        if kept is None:
            kept = self._kept_members[directory] = _members(self._layout, directory, len(self.listing))
        return kept


def _members(layout: Layout, directory: int, count: int) -> Sequence[int] | Column:
    # Late, as above.
    import numpy as np

    chosen = np.zeros(count, np.bool_)
    for column in (layout.images, layout.labels):
        chosen |= directory == 0 if column is None else column == directory
    return range(count) if bool(chosen.all()) else np.flatnonzero(chosen)
