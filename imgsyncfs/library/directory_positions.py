"""Positions in a dataset's directory, from which the kernel goes on reading it.

A directory of millions of entries is read in pieces of some hundred. Between two pieces the directory may switch to a
new revision, in which files have other indices. So a position says which revision it belongs to, and a position of the
revision before is found again by name: a reader sees each file that both revisions have once. A reader that takes
longer, over two publishes, goes on at the same index, and may miss files or see some twice.

Positions are whole numbers below 2**60, and begin at `imgsyncfs.library.nodes.FIRST_POSITION`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsyncfs.library.nodes import FIRST_POSITION

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

_PLACE_BITS = 40


def first_position(listing: Listing) -> int:
    """The position of the first entry."""
    return (_mark(listing) << _PLACE_BITS) + FIRST_POSITION


def find_place(position: int, listing: Listing, *, earlier: Listing | None, kinds: int) -> tuple[int, int]:
    """Where to go on reading.

    Args:
        position: `first_position` plus ``index * kinds + kind`` of the next entry, for `listing` or an earlier one;
            `FIRST_POSITION` begins anew.
        listing: the listing in use.
        earlier: the one that was in use before, if there was one.
        kinds: how many entries an image has at most.

    Returns:
        (index of the image, number of its entry) in the listing; the index is at or beyond its end if there is no more.
    """
    if position == FIRST_POSITION:
        return 0, 0
    mark, place = divmod(position - FIRST_POSITION, 1 << _PLACE_BITS)
    index, kind = divmod(place, kinds)
    if mark == _mark(listing) or earlier is None or mark != _mark(earlier):
        return index, kind
    if index >= len(earlier):
        return len(listing), 0
    stem = earlier.stem(index)
    now = listing.stems.first_from(stem)
    return now, kind if now < len(listing) and listing.stem(now) == stem else 0


def _mark(listing: Listing) -> int:
    # Not the revision's number: a catalog that was restored from a backup may give it a second time.
    return int(listing.key[-5:], 16)
