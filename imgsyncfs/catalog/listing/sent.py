"""A listing for a process that is being started: it gets the open files, and so this revision and no later one.

The catalog keeps one revision, and so do saved listings. Whoever counts on the places of images in a listing, as a data
loader that sends indices to its workers, must not have one process read another revision than the others.
"""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

from imgsyncfs.catalog.listing.saved import ListingFiles, map_listing
from imgsyncfs.catalog.listing.table import Listing

SentFiles = tuple[Any, Any]
"""Descriptors as `multiprocessing` sends them."""


def sent_files(listing: Listing) -> SentFiles | None:
    """The open files of a listing, to be pickled for a process that is spawned, or started by a fork server.

    Args:
        listing: one that was loaded.

    Returns:
        What `received_listing` takes in that process; None if none is being started.
    """
    if listing.files is None or get_spawning_popen() is None:
        return None
    return DupFd(listing.files.meta), DupFd(listing.files.columns)


def received_listing(files: SentFiles, *, name: str) -> Listing:
    """Map a listing from the files that were sent to this process; once.

    Args:
        files: out of the pickle.
        name: for messages.

    Raises:
        ListingDamaged: it is not what was saved.
    """
    meta, columns = files
    return map_listing(ListingFiles(meta.detach(), columns.detach()), name=name, is_checked=False)
