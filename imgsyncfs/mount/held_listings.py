"""The listings that the responders have, as the coordinator keeps them: the ones in use, and earlier ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imgsyncfs.cache.documents import KeptDocument
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.dataset_files import ANNOTATION_SUFFIX
from imgsyncfs.library.numbers import (
    ANNOTATION,
    FIRST_SIBLING,
    IMAGE,
    PICTURE,
    REWRITTEN,
    FileAddress,
    file_number,
)
from imgsyncfs.library.views.contract import DatasetFacts
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.mount import protocol
from imgsyncfs.pictures.kinds import PICTURE_EXT

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.mount.responders import State

ASKED_AT_ONCE = 20_000
"""Nodes that the kernel is asked for in one refresh, at some 5 microseconds each."""


@dataclass
class HeldListing:
    """A listing that the responders have.

    Attributes:
        listing: mapped.
        sizes: descriptor of the memory for the sizes of its siblings.
        view: name of the view that it is shown in; empty for the dataset's own directory.
        facts: descriptor of the memory with what its view depends on; below 0 without.
        documents: the long documents that were written, by their places in the view.
        has_losses: whether there is anything that the view does not show; None if nobody knows.
    """

    listing: Listing
    sizes: int
    view: str = ""
    facts: int = -1
    documents: dict[int, KeptDocument] = field(default_factory=dict)
    has_losses: bool | None = None

    def read_facts(self) -> DatasetFacts | None:
        """What its view depends on; None without a view."""
        if self.facts < 0:
            return None
        return DatasetFacts.from_bytes(os.pread(self.facts, os.fstat(self.facts).st_size, 0))

    def document_messages(self, dataset: int) -> list[State]:
        """What makes a responder take over the documents, and what is known of losses."""
        messages = [document_message(dataset, place, document) for place, document in self.documents.items()]
        if self.has_losses is not None:
            messages.append(losses_message(dataset, has_losses=self.has_losses))
        return messages

    def message(self, dataset: int, *, is_current: bool) -> State:
        """What makes a responder take it over."""
        files = self.listing.files
        if files is None:
            raise AssertionError("a listing that was not loaded from a file")
        header = {
            "listing": self.listing.key,
            "dataset": dataset,
            "view": self.view,
            "is_current": is_current,
        }
        facts = (self.facts,) if self.facts >= 0 else ()
        return header, (files.meta, files.columns, self.sizes, *facts)

    def __del__(self) -> None:
        for descriptor in (self.sizes, self.facts):
            if descriptor >= 0:
                os.close(descriptor)


def document_message(dataset: int, place: int, document: KeptDocument) -> State:
    """What makes a responder take over a document of a view."""
    return {"documents": dataset, "place": place, "length": document.length}, (document.descriptor,)


def losses_message(dataset: int, *, has_losses: bool) -> State:
    """What makes a responder know whether there is anything that a view does not show."""
    return {"documents": dataset, "has_losses": has_losses}, ()


@dataclass
class Retired:
    """A listing that was in use before, and the nodes that only it answers.

    Attributes:
        held: it.
        since: when it was replaced.
        unasked: nodes that the kernel has not been asked for yet.
        known: those that it knew when it was asked.
    """

    held: HeldListing
    since: float
    unasked: Iterator[int]
    known: list[int] = field(default_factory=list)

    def ask(self, device: int) -> bool:
        """Ask the kernel for a part of the nodes; says whether it knows one, or may."""
        self.known = [number for number in self.known if is_known(device, number)]
        for _, number in zip(range(ASKED_AT_ONCE), self.unasked, strict=False):
            if is_known(device, number):
                self.known.append(number)
        following = next(self.unasked, None)
        if following is None:
            return bool(self.known)
        if is_known(device, following):
            self.known.append(following)
        return True


@dataclass
class HeldDataset:
    """A dataset, in its own directory or in a view, whose listing the responders have."""

    number: int
    current: HeldListing
    facts: str = ""
    """Digest of what its view depends on beside the listing."""

    retired: list[Retired] = field(default_factory=list)
    nameless_since: float | None = None
    """Since when no name leads to it: it is no longer in the catalog, or has another number."""


class NumbersOf:
    """Node numbers of files of a listing that responders have."""

    def __init__(self, dataset: int, held: HeldListing, siblings: tuple[int, ...]) -> None:
        # Late: numpy comes with it.
        from imgsyncfs.catalog.listing import FileNumbers
        from imgsyncfs.catalog.listing.table import ANNOTATION_PREFIX, IMAGE_PREFIX

        self._dataset = dataset
        self._listing = listing = held.listing
        self._view = held.view
        self._siblings = siblings
        self._images = FileNumbers.of(listing, IMAGE_PREFIX)
        self._annotations = FileNumbers.of(listing, ANNOTATION_PREFIX)

    def name(self, place: FileAddress) -> bytes:
        """The name of a file; empty if the listing does not have it."""
        files = self._images if place.kind in {IMAGE, PICTURE} else self._annotations
        index = files.index(place.file)
        if index < 0:
            return b""
        stem = self._listing.stem(index)
        if place.kind == PICTURE:
            return b"%b.%b" % (stem, PICTURE_EXT.encode())
        if place.kind == IMAGE:
            return b"%b.%b" % (stem, self._listing.ext(index).encode())
        if place.kind in {ANNOTATION, REWRITTEN}:
            return stem + ANNOTATION_SUFFIX
        target = find_view(self._view).target if self._view else [*FORMATS.values()][place.kind - FIRST_SIBLING]
        return stem + (target.suffix.encode() if target is not None else b"")

    def all(self, images: Iterable[int], annotations: Iterable[int]) -> Iterator[int]:
        """Those of images, of annotations, and of what is rendered of these."""
        for index in images:
            yield file_number(self._dataset, self._images.number(index), IMAGE)
        for index in annotations:
            number = self._annotations.number(index)
            for kind in (ANNOTATION, REWRITTEN, *self._siblings):
                yield file_number(self._dataset, number, kind)


def is_known(device: int, number: int) -> bool:
    """Whether the kernel knows a node, or may: it refuses a notification for one that it has forgotten."""
    return protocol.write_quietly(device, protocol.attributes_notification(number))
