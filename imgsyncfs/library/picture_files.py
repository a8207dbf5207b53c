"""The files of one revision of a dataset in a view that shows pictures in place of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from imgsyncfs.cache import OpenExtent
from imgsyncfs.fetching.contents import Piece
from imgsyncfs.library.dataset_files import FileKey, FileSources, sizes_of
from imgsyncfs.library.kept_renderings import KeptRenderings
from imgsyncfs.library.nodes import FILE_MODE, Attributes
from imgsyncfs.library.numbers import PICTURE
from imgsyncfs.library.pictures import make_picture, picture_key, read_parts
from imgsyncfs.library.rendered_alone import RenderingPlace
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import DatasetFacts, View
from imgsyncfs.pictures.kinds import PICTURE_EXT, PictureKind

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing


MOST_SIZES = 3
"""Kinds of files in a view whose lengths are known only when they have been made: annotations in the view's format,
those of a selection, and pictures."""


class PictureFiles(ViewFiles):
    """The files of a revision in a view with pictures.

    The length of a picture is known when it has been made. It is then kept for good: made again, it is the same.

    Args:
        listing: as for `ViewFiles`.
        view: the view; it has pictures.
        sources: as for `ViewFiles`.
        facts: as for `ViewFiles`.
        missing: as for `ViewFiles`.
        no_picture: the exception for a picture that the cache does not have, given the index of its image; None: it is
            made here.
        sizes: as for `DatasetFiles`, for `MOST_SIZES` siblings.
        no_rendering: as for `DatasetFiles`.
    """

    image_kind = PICTURE

    def __init__(
        self,
        listing: Listing,
        view: View,
        sources: FileSources,
        *,
        facts: DatasetFacts | None = None,
        missing: Callable[[int], Exception] | None = None,
        no_picture: Callable[[int], Exception] | None = None,
        sizes: memoryview | None = None,
        no_rendering: Callable[[RenderingPlace], Exception] | None = None,
    ) -> None:
        super().__init__(listing, view, sources, facts=facts, missing=missing, sizes=sizes, no_rendering=no_rendering)
        kind = view.picture
        if kind is None:
            raise AssertionError(f"{view.name} has no pictures")
        self._picture: PictureKind = kind
        self._no_picture = no_picture
        self._picture_sizes = sizes_of(listing, sizes, place=MOST_SIZES - 1)
        self._made = KeptRenderings()

    def attributes(self, key: FileKey) -> Attributes:
        """What `stat` shows; the first look at a picture makes it.

        Raises:
            StoreError: the image or the annotation cannot be read.
            PreviewError: the image cannot be shown.
            AnnotationError: the annotation does not parse.
        """
        if key.kind != PICTURE:
            return super().attributes(key)
        size = self._picture_sizes[key.image]
        if not size:
            kept = self._kept(key.image)
            size = kept.length if kept is not None else len(self._make(key.image))
            self._picture_sizes[key.image] = size
        return Attributes(FILE_MODE, size, self.modified_at(key))

    def modified_at(self, key: FileKey) -> int:
        """When the image, or the annotation that is shown with it, last changed, Unix seconds."""
        if key.kind != PICTURE:
            return super().modified_at(key)
        listing, index = self.listing, key.image
        time = listing.images.size_and_time(index)[1]
        if self._picture.shows_annotation and listing.has_annotation(index):
            time = max(time, listing.annotations.size_and_time(index)[1])
        return time

    def read(self, key: FileKey, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; raises what `attributes` raises."""
        if key.kind != PICTURE:
            return super().read(key, offset, size)
        kept = self._kept(key.image)
        return kept.read(offset, size) if kept is not None else self._make(key.image)[offset : offset + size]

    def read_into(self, key: FileKey, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with the bytes from `offset` on; see `read`."""
        if key.kind != PICTURE:
            return super().read_into(key, offset, buffer)
        content = self.read(key, offset, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def piece(self, key: FileKey, offset: int, size: int) -> Piece | None:
        """Where a part of a file lies, if that is in one extent."""
        if key.kind != PICTURE:
            return super().piece(key, offset, size)
        kept = self._kept(key.image)
        size = 0 if kept is None else min(size, kept.length - offset)
        return Piece(kept, offset, size) if kept is not None and size > 0 else None

    def _ext(self, index: int) -> bytes:  # noqa: ARG002 - as it is for all
        return PICTURE_EXT.encode()

    def _kept(self, index: int) -> OpenExtent | None:
        extents = self._sources.contents.extents
        key = picture_key(self._picture, self.listing, index)
        return extents.opened(key) or extents.kept(key)

    def _make(self, index: int) -> bytes:
        if self._no_picture is not None:
            raise self._no_picture(index)
        name = str(index)
        made = self._made.get(name)
        if made is None:
            parts = read_parts(self._picture, self._sources.contents, self.listing, index)
            made = make_picture(self._picture, parts)
            self._made.put(name, made)
        return made


def files_in_view(
    listing: Listing,
    view: View,
    sources: FileSources,
    *,
    facts: DatasetFacts | None = None,
    missing: Callable[[int], Exception] | None = None,
    no_picture: Callable[[int], Exception] | None = None,
    sizes: memoryview | None = None,
    no_rendering: Callable[[RenderingPlace], Exception] | None = None,
) -> ViewFiles:
    """The files of a revision in any view; the arguments are those of `PictureFiles`."""
    if view.picture is None:
        return ViewFiles(listing, view, sources, facts=facts, missing=missing, sizes=sizes, no_rendering=no_rendering)
    return PictureFiles(
        listing,
        view,
        sources,
        facts=facts,
        missing=missing,
        no_picture=no_picture,
        sizes=sizes,
        no_rendering=no_rendering,
    )
