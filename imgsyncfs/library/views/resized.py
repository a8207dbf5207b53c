"""Other views with smaller images: a trainer that makes them small anyway reads a tenth of the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgsyncfs.formats.contract import FormatDescription
from imgsyncfs.library.views.contract import DatasetFacts, Document, Layout, View
from imgsyncfs.pictures.kinds import PictureKind, ResizedPicture

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

SIDES = (640, 1280)
"""The longest sides that are offered, in pixels: those that detectors are trained with."""


class ResizedView(View):
    """A view with images made smaller, and its annotations with them.

    Args:
        view: the view.
        longest_side: of its images, in pixels.
        is_in_pixels: whether its annotations are; others are the same for smaller images.
    """

    def __init__(self, view: View, longest_side: int, *, is_in_pixels: bool = True) -> None:
        self._view = view
        self._is_in_pixels = is_in_pixels
        self._side = longest_side
        self.name = f"{view.name}-{longest_side}"
        self.has_splits = view.has_splits
        self.has_labels = view.has_labels

    @property
    def picture(self) -> PictureKind:
        """Smaller images."""
        return ResizedPicture(self._side)

    @property
    def longest_side(self) -> int | None:
        """See `View.longest_side`."""
        return self._side if self._is_in_pixels else None

    @property
    def target(self) -> FormatDescription | None:
        """As in the view."""
        return self._view.target

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:
        """As in the view."""
        return self._view.layout(listing, facts)

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:
        """As in the view."""
        return self._view.documents(listing, layout, facts)
