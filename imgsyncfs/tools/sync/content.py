"""The bytes of a file to copy, wherever they come from: a blob, a rendering, a document, a text.

They are read once, in pieces, so that a file's size does not matter. What a file in a tool's format does not show is
known when its last piece has been read.

Threads: a content is read by one thread, which need not be the one that has made it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.errors import CatalogError
from imgsyncfs.formats.contract import Loss, Rendered
from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally
from imgsyncfs.library.dataset_files import DatasetFiles, FileKey
from imgsyncfs.library.document_entries import UNREADABLE, document_entries
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import Document

PIECE_BYTES = EXTENT_BYTES
"""A piece comes from one extent, with one request."""

Patiently: TypeAlias = Callable[[Callable[[], bytes]], bytes]
"""Calls what reads, and once more while a store cannot be reached for a moment."""


class Content(ABC):
    """The bytes of a file."""

    @abstractmethod
    def pieces(self, patiently: Patiently) -> Iterator[bytes]:
        """Read them.

        Raises:
            StoreError: they cannot be had.
            AnnotationError: an annotation that they are rendered from does not parse.
        """

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What the file does not show, complete when the pieces have ended. By default it shows all."""
        return ()


class StoredContent(Content):
    """A file that can be read from any place on.

    Args:
        files: those of its dataset.
        key: which of them it is.
    """

    def __init__(self, files: DatasetFiles, key: FileKey) -> None:
        self._files, self._key = files, key

    def pieces(self, patiently: Patiently) -> Iterator[bytes]:
        """Read them; see `Content.pieces`."""
        offset, length = 0, PIECE_BYTES
        while length == PIECE_BYTES:
            piece = patiently(partial(self._files.read, self._key, offset, PIECE_BYTES))
            length = len(piece)
            offset += length
            yield piece


class RenderedContent(Content):
    """An annotation in a tool's format.

    Args:
        files: those of its dataset.
        key: which of them it is.
    """

    def __init__(self, files: DatasetFiles, key: FileKey) -> None:
        self._files, self._key = files, key
        self._losses: tuple[Loss, ...] = ()

    def pieces(self, patiently: Patiently) -> Iterator[bytes]:
        """Render it, in one piece; see `Content.pieces`."""

        def render() -> bytes:
            rendered: Rendered = self._files.rendered(self._key)
            self._losses = rendered.losses
            return rendered.content

        yield patiently(render)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What it does not show."""
        return self._losses


class DocumentContent(Content):
    """A document that all annotations are read for.

    Args:
        files: of the dataset in the view.
        document: one of its long documents.
    """

    def __init__(self, files: ViewFiles, document: Document) -> None:
        self._files, self._document = files, document
        self._losses = LossTally()
        self.read_images = 0
        """How many images have been read, for whoever waits."""

    def pieces(self, patiently: Patiently) -> Iterator[bytes]:
        """Write it; see `Content.pieces`."""
        write = self._document.write
        if write is None:
            raise CatalogError(f"{self._document.name.decode()} is made when somebody looks at it.")
        self._losses, self.read_images = LossTally(), 0
        unreadable: list[int] = []
        yield from write(self._entries(unreadable, patiently), self._files.classes, self._losses)
        if unreadable:
            self._losses.add(*UNREADABLE, len(unreadable))

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What it does not show."""
        return self._losses.losses

    def _entries(self, unreadable: list[int], patiently: Patiently) -> Iterator[DocumentEntry]:
        for entry in document_entries(self._files, self._document, unreadable, patiently=patiently):
            yield entry
            self.read_images += 1


class TextContent(Content):
    """A short text.

    Args:
        text: all of it.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    def pieces(self, patiently: Patiently) -> Iterator[bytes]:  # noqa: ARG002 - it is at hand
        """Give it in one piece."""
        yield self._text
