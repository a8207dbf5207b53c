"""Extents from the cache, for a responder: what is not there it asks the coordinator for, and does not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imgsyncfs.cache import CacheReader, OpenExtent
from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.files import FileTable
from imgsyncfs.fetching.contents import ExtentSource
from imgsyncfs.fetching.extent import Extent


class NotHere(Exception):  # no error: the request waits
    """What a request needs is not in the cache, or not loaded.

    Args:
        wanted: header of the message to the coordinator.
        extent: key of the extent that it is; empty if it is something else.
    """

    def __init__(self, wanted: dict[str, Any], *, extent: str = "") -> None:
        super().__init__(wanted)
        self.wanted = wanted
        self.extent = extent


class CachedExtents(ExtentSource):
    """Extents from the cache; what is not there is the coordinator's.

    Args:
        cache: the reading side.
        reads_ahead: says whether the coordinator wants to know which extents are reached.
        tell: sends a message to the coordinator.
    """

    def __init__(
        self, cache: CacheReader, reads_ahead: Callable[[], bool], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.cache = cache
        self._reads_ahead = reads_ahead
        self._tell = tell

    def opened(self, key: str) -> OpenExtent | None:
        """The extent if it is open already."""
        return self.cache.opened(key)

    def kept(self, key: str) -> OpenExtent | None:
        """What the cache has under a key."""
        return self.cache.find(key)

    def bring(self, extent: Extent, listing: Listing, files: FileTable, index: int, offset: int) -> OpenExtent:
        """An extent that the cache has.

        Raises:
            NotHere: it has not.
        """
        opened = self.cache.find(extent.key)
        of = {"listing": listing.key, "dataset": listing.dataset_id}
        place = {"annotation": files is listing.annotations, "image": index, "offset": offset}
        if opened is None:
            raise NotHere({"want": "extents", **of, "places": [place]}, extent=extent.key)
        if self._reads_ahead():
            self._tell({"reached": {**of, **place}})
        return opened
