"""The annotations of a selection that gives classes other names, all in one file, to be put into tar files.

How long they are is known only when they have been rendered. So they are a document of the view, which is written once
and kept like others: the house annotations one after the other, as the selection's directory has them (a stream of
JSON, which jq reads), of those images that have one; ``null`` stands for one that cannot be read.

Lines in the first column are the beginning of an annotation, its end, or that ``null``: so they are found again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgsyncfs.annotations.house_format import dump_annotation
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.columns import Column
from imgsyncfs.catalog.listing.table import HAS_ANNOTATION
from imgsyncfs.errors import AnnotationError, CacheError

if TYPE_CHECKING:
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally

REWRITTEN_NAME = b"annotations.jsonstream"

_UNREADABLE = b"null\n"
_LAST_LINES = (ord("}"), _UNREADABLE[0])
PIECE_BYTES = 16 << 20


class RewrittenAnnotations:
    """Where in the document the annotation of each image is, once that has been written.

    Not for several threads at once.

    Args:
        listing: the selection's.
    """

    def __init__(self, listing: Listing) -> None:
        self._annotated = (listing.columns["flags"] & HAS_ANNOTATION) != 0
        self._descriptor = -1
        self._starts: Column | None = None
        self.lengths: Column = np.zeros(len(listing), np.int64)
        """Of each image's annotation, in bytes; 0 where there is none that can be read, or nothing is known yet."""

    @property
    def is_here(self) -> bool:
        """Whether annotations can be read."""
        return self._descriptor >= 0

    def take(self, descriptor: int, length: int) -> None:
        """Take over the document.

        Args:
            descriptor: of a file that begins with it; to be open until `drop`.
            length: of the document in bytes.

        Raises:
            CacheError: it is about other images.
        """
        # Of the same revision it is the same whenever it is written.
        if self._starts is None:
            ends = annotation_ends(descriptor, length)
            images = np.flatnonzero(self._annotated)
            if len(ends) != len(images):
                raise CacheError(
                    f"{REWRITTEN_NAME.decode()} in the cache has {len(ends):,} annotations, and the selection "
                    f"{len(images):,}; clear the cache: imgsyncfs cache clear"
                )
            lengths = np.diff(ends, prepend=0)
            starts = np.zeros_like(self.lengths)
            starts[images] = ends - lengths
            self.lengths[images] = np.where(lengths > len(_UNREADABLE), lengths, 0)
            self._starts = starts
        self._descriptor = descriptor

    def drop(self) -> None:
        """Let go of the document; what is known of it stays."""
        self._descriptor = -1

    def read(self, image: int) -> bytes:
        """The annotation of an image, by its index in the listing."""
        length = int(self.lengths[image])
        if self._starts is None or not length:
            return b""
        content = os.pread(self._descriptor, length, int(self._starts[image]))
        if len(content) < length:
            raise CacheError(f"{REWRITTEN_NAME.decode()} was cut off in the cache; mount again, and it is made anew.")
        return content


def rewritten_chunks(
    listing: Listing, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally
) -> Iterator[bytes]:
    """Write the document.

    Args:
        listing: the selection's.
        entries: of all its images, in its order.
        classes: not used.
        losses: is told of annotations that cannot be written.
    """
    del classes
    for index, entry in enumerate(entries):
        if entry.annotation is not None:
            try:
                yield dump_annotation(entry.annotation)
                continue
            except AnnotationError:
                losses.add("annotations that cannot be written", "they hold values that the format does not know")
        if listing.has_annotation(index):
            yield _UNREADABLE


def annotation_ends(descriptor: int, length: int, *, piece_bytes: int = PIECE_BYTES) -> Column:
    """Where each annotation of the document ends.

    Args:
        descriptor: of a file that begins with it.
        length: of the document in bytes.
        piece_bytes: how much is looked at at once.

    Returns:
        Offsets in bytes, of the byte after each.
    """
    found = []
    is_last = _begins_last_line(descriptor, 0)
    for offset in range(0, length, piece_bytes):
        piece = np.frombuffer(os.pread(descriptor, min(piece_bytes, length - offset), offset), np.uint8)
        breaks = np.flatnonzero(piece == ord("\n"))
        # The line that a break ends begins behind the break before, perhaps in the piece before.
        firsts = np.isin(piece[np.minimum(breaks[:-1] + 1, len(piece) - 1)], _LAST_LINES)
        lasts = np.concatenate(([is_last], firsts)) if len(breaks) else np.zeros(0, np.bool_)
        found.append(offset + breaks[lasts] + 1)
        if len(breaks):
            is_last = _begins_last_line(descriptor, offset + int(breaks[-1]) + 1)
    return np.concatenate([np.zeros(0, np.int64), *found])


def _begins_last_line(descriptor: int, offset: int) -> bool:
    """Whether the line at an offset is the last one of an annotation."""
    first = os.pread(descriptor, 1, offset)
    return bool(first) and first[0] in _LAST_LINES
