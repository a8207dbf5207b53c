"""Readahead: a reader that goes through a dataset in order finds the next extents in the cache.

Misses in order start it; misses at random do not. The extents fetched ahead of a reader are its window. It doubles
each time the reader has used up half of it, up to `MOST_AHEAD` extents and `BYTES_AHEAD` bytes. Annotations in blobs of
their own are fetched ahead from the first one on: a look at one sibling is mostly the beginning of `ls -l`.

A reader that misses many extents of a packed dataset at random is reading all of it, in an epoch of a training for
instance. Each of its misses then fetches extents beside it in the same request, more of them the more misses there
were. This is done only where the cache can hold the whole dataset, so that they are still there when they are wanted.

An extent that is open never comes here, and one that is found on disk costs a look-up of its place.

Threads: `Readahead._lock` guards everything; it is held for dictionary operations and look-ups in a listing, some tens
of microseconds. No other lock is taken while it is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cachetools import FIFOCache

from imgsyncfs.blob_layout import EXTENT_BYTES, PACK_BYTES
from imgsyncfs.fetching.extent_order import ExtentOrder, Place

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing.files import FileTable

MOST_AHEAD = 128
"""Extents ahead of a reader: at 20 ms of latency, some 1,000 small blobs a second for one reader."""

BYTES_AHEAD = 16 * EXTENT_BYTES
"""Bytes ahead of a reader: a quarter of a second of a store's bandwidth, in four requests of four extents."""

CACHE_SHARE_AHEAD = 8
"""A window is at most this part of the cache, or it would evict itself."""

RUN = 3
PACKED_RUN = 2
"""Misses in a row that count as reading in order. A random one among 3,000 files continues a row of `MOST_REMEMBERED`
in one case of two hundred. Packs have few extents, and readers mostly want all of them."""

SMALL_BYTES = PACK_BYTES
"""In a dataset of up to this size one miss less is enough: there are few extents to wait for, and it is a quarter of a
second's work to fetch all of them."""

FIRST_WINDOW = 4
FIRST_BULK_WINDOW = 16

MOST_REMEMBERED = 16
"""Misses remembered: as many readers may go through a dataset side by side, each taking every n-th file."""

BUSY_MISSES = 4
VERY_BUSY_MISSES = 8
BUSY_SECONDS = 10.0
"""Random misses within this time from which on each one brings two extents, and four."""

MOST_UNREAD = 4096
"""Extents fetched ahead that no reader has come to yet; older ones were skipped."""


@dataclass
class _Window:
    """The extents ahead of one reader, counted from where it began."""

    following: Place | None
    extents: int
    issued: int = 0
    passed: int = 0


class Sequences:
    """Which extents are being read in order, and what to fetch for that. Not locked.

    Args:
        order: of the extents.
        bulk: whether the first miss of a loose blob is enough.
        bytes_ahead: how far ahead of a reader to go.
        fits: whether the cache can hold all of them.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        order: ExtentOrder,
        *,
        bulk: bool,
        bytes_ahead: int = BYTES_AHEAD,
        fits: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._order = order
        self._bulk = bulk
        self._bytes_ahead = bytes_ahead
        self._fits = fits
        self._clock = clock
        self._missed: FIFOCache[Place, float] = FIFOCache(MOST_REMEMBERED)
        self._expected: FIFOCache[Place, int] = FIFOCache(MOST_REMEMBERED)
        self._unread: FIFOCache[Place, tuple[_Window, int]] = FIFOCache(MOST_UNREAD)

    @property
    def running(self) -> bool:
        """Whether extents were fetched ahead that no reader has come to yet."""
        return bool(self._unread)

    def reached(self, place: Place) -> list[Place]:
        """Note that a reader came to an extent that was there.

        Returns:
            The extents to fetch now.
        """
        unread = self._unread.pop(place, None)
        if unread is None:
            return []
        window, number = unread
        window.passed = max(window.passed, number)
        left = window.issued - window.passed
        if 2 * left > window.extents:
            return []
        window.extents *= 2
        return self._extend(window)

    def missed(self, place: Place) -> list[Place]:
        """Note that a reader came to an extent that was not there.

        Returns:
            The extents to fetch now, beside that one.
        """
        if place in self._unread:
            return self.reached(place)
        run = self._expected.pop(place, 0) + 1
        self._missed[place] = self._clock()
        following = self._order.following(place)
        # Readers side by side come to their extents in no strict order.
        while following is not None and following in self._missed:
            run += 1
            self._expected.pop(following, None)
            following = self._order.following(following)
        if following is None or following in self._unread:
            return self._beside(place)
        packed = self._order.is_packed(place)
        bulk = self._bulk and not packed
        needed = (PACKED_RUN if packed else RUN) - (self._order.total_bytes <= SMALL_BYTES)
        if bulk or run >= needed:
            return self._extend(_Window(following, FIRST_BULK_WINDOW if bulk else FIRST_WINDOW))
        self._expected[following] = run
        return self._beside(place)

    def _beside(self, place: Place) -> list[Place]:
        """The extents to fetch with a miss at random: mostly none."""
        if not self._fits:
            return []
        since = self._clock() - BUSY_SECONDS
        recent = sum(moment >= since for moment in self._missed.values())
        count = 1 if recent < BUSY_MISSES else 2 if recent < VERY_BUSY_MISSES else 4
        if count * EXTENT_BYTES > self._bytes_ahead:
            return []
        beside = self._order.beside(place, count) if count > 1 else []
        return [each for each in beside if each not in self._missed and each not in self._unread]

    def _extend(self, window: _Window) -> list[Place]:
        places: list[Place] = []
        while window.following is not None:
            place = window.following
            most = min(MOST_AHEAD, max(1, self._bytes_ahead // max(1, self._order.byte_count(place))))
            window.extents = min(window.extents, most)
            if window.issued - window.passed >= window.extents:
                break
            window.issued += 1
            if place not in self._unread:
                places.append(place)
            self._unread[place] = (window, window.issued)
            window.following = self._order.following(place)
        return places


@dataclass(frozen=True)
class _Track:
    order: ExtentOrder
    sequences: Sequences


class Readahead:
    """Readahead in all listings. It says what to fetch, and fetches nothing itself.

    Args:
        cache_bytes: what the cache can hold.
    """

    def __init__(self, *, cache_bytes: int) -> None:
        self._cache_bytes = cache_bytes
        self._bytes_ahead = min(cache_bytes // CACHE_SHARE_AHEAD, BYTES_AHEAD)
        self._lock = threading.Lock()
        self._tracks: WeakKeyDictionary[FileTable, _Track] = WeakKeyDictionary()

    @property
    def running(self) -> bool:
        """Whether extents were fetched ahead of readers that no reader has come to yet."""
        with self._lock:
            return any(track.sequences.running for track in self._tracks.values())

    def reached(self, files: FileTable, index: int, offset: int) -> list[Place]:
        """Note that a reader came to an extent that the cache had.

        Args:
            files: the images, or the annotations, of a listing.
            index: of the file.
            offset: position in it.

        Returns:
            The extents to fetch now.
        """
        with self._lock:
            track = self._tracks.get(files)
            if track is None or not track.sequences.running:
                return []
            return track.sequences.reached(track.order.place(index, offset))

    def missed(self, files: FileTable, index: int, offset: int, *, bulk: bool) -> list[Place]:
        """Note that a reader came to an extent that the cache did not have; as `reached`.

        Args:
            files: as above.
            index: as above.
            offset: as above.
            bulk: the files are annotations.
        """
        with self._lock:
            track = self._tracks.get(files)
            if track is None:
                order = ExtentOrder(files)
                fits = order.total_bytes <= self._cache_bytes
                sequences = Sequences(order, bulk=bulk, bytes_ahead=self._bytes_ahead, fits=fits)
                track = self._tracks[files] = _Track(order, sequences)
            return track.sequences.missed(track.order.place(index, offset))
