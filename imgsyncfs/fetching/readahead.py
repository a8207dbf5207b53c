"""Readahead: a reader that goes through a dataset in order finds the next extents here already.

Extents that are missed one after the other start it; those missed at random don't. What is fetched ahead of a reader
is its window: it doubles each time the reader has used up half of it, up to `MOST_AHEAD` extents and `BYTES_AHEAD`
bytes. Annotations that lie in blobs of their own are fetched ahead from the first one on: a look at one sibling is
mostly the beginning of `ls -l`.

One who misses many extents of a packed dataset at random is reading all of it, in an epoch of a training for instance.
Then such a miss takes those beside it along, in the same request, the more the more there were: they will be wanted as
well, and are still here then, for this is done only where the cache can hold the whole dataset.

An extent that is in memory already never comes here, and one that is found on disk costs one look into a dictionary.

Threads: `Readahead._lock` guards everything; it is held for dictionary operations and look-ups in a listing, some tens
of microseconds. No other lock is taken meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakKeyDictionary

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.fetching.extent_order import PACKED, ExtentOrder, ExtentPlace

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing.files import FileTable

MOST_AHEAD = 128
"""Extents ahead of a reader. A store that answers in 20 ms then gives one reader some 1,000 small blobs a second, with
what `imgsyncfs.fetching.queue.MOST_BACKGROUND` lets go out at a time."""

BYTES_AHEAD = 16 * EXTENT_BYTES
"""Bytes ahead of a reader: a quarter of a second of what one store gives, in four requests of four extents."""

CACHE_SHARE_AHEAD = 8
"""What is fetched ahead of a reader is at most this part of the cache, or it would push itself out."""

RUN = 3
PACKED_RUN = 2
"""So many extents in a row are no accident. Among `MOST_REMEMBERED` of 3,000, a random one continues a row in one case
of two hundred, and twice in one of forty thousand. Packs have few extents, which readers mostly want all."""

FIRST_WINDOW = 4
FIRST_BULK_WINDOW = 16

MOST_REMEMBERED = 16
"""Misses that are remembered: as many readers may go through a dataset side by side, each taking every n-th file."""

BUSY_MISSES = 4
VERY_BUSY_MISSES = 8
BUSY_SECONDS = 10.0
"""So many misses within this time, at random, are those of somebody who reads everything. They bring two extents each,
and four after twice as many."""

MOST_OWNED = 4096
"""Places fetched ahead that nobody came to yet; older ones were jumped over."""


Value = TypeVar("Value")


@dataclass
class _Window:
    """What is fetched ahead of one reader, counted in extents from where it began."""

    following: ExtentPlace | None
    extents: int
    issued: int = 0
    passed: int = 0


class Order(Protocol):
    """What `Sequences` asks of `imgsyncfs.fetching.extent_order.ExtentOrder`."""

    def following(self, place: ExtentPlace) -> ExtentPlace | None:
        """The extent after one, None after the last."""

    def beside(self, place: ExtentPlace, count: int) -> list[ExtentPlace]:
        """What may come along in the same request, which then has so many extents at most."""

    def byte_count(self, place: ExtentPlace) -> int:
        """Length of an extent in bytes."""


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
        order: Order,
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
        self._missed: OrderedDict[ExtentPlace, float] = OrderedDict()
        self._expected: OrderedDict[ExtentPlace, int] = OrderedDict()
        self._owned: OrderedDict[ExtentPlace, tuple[_Window, int]] = OrderedDict()

    @property
    def running(self) -> bool:
        """Whether anything was fetched ahead that nobody came to yet."""
        return bool(self._owned)

    def reached(self, place: ExtentPlace) -> list[ExtentPlace]:
        """Tell that a reader came to an extent that was there.

        Returns:
            What to fetch now.
        """
        owned = self._owned.pop(place, None)
        if owned is None:
            return []
        window, number = owned
        window.passed = max(window.passed, number)
        left = window.issued - window.passed
        if 2 * left > window.extents:
            return []
        window.extents *= 2
        return self._extend(window)

    def missed(self, place: ExtentPlace) -> list[ExtentPlace]:
        """Tell that a reader came to an extent that was not there.

        Returns:
            What to fetch now, beside that one.
        """
        if place in self._owned:
            return self.reached(place)
        run = self._expected.pop(place, 0) + 1
        _remember(self._missed, place, self._clock(), most=MOST_REMEMBERED)
        following = self._order.following(place)
        # Readers side by side come to their extents in no strict order.
        while following is not None and following in self._missed:
            run += 1
            self._expected.pop(following, None)
            following = self._order.following(following)
        if following is None or following in self._owned:
            return self._beside(place)
        bulk = self._bulk and place.file != PACKED
        if bulk or run >= (PACKED_RUN if place.file == PACKED else RUN):
            return self._extend(_Window(following, FIRST_BULK_WINDOW if bulk else FIRST_WINDOW))
        _remember(self._expected, following, run, most=MOST_REMEMBERED)
        return self._beside(place)

    def _beside(self, place: ExtentPlace) -> list[ExtentPlace]:
        """What to take along with a miss at random: mostly nothing."""
        if not self._fits:
            return []
        since = self._clock() - BUSY_SECONDS
        recent = sum(moment >= since for moment in self._missed.values())
        count = 1 if recent < BUSY_MISSES else 2 if recent < VERY_BUSY_MISSES else 4
        if count * EXTENT_BYTES > self._bytes_ahead:
            return []
        beside = self._order.beside(place, count) if count > 1 else []
        return [each for each in beside if each not in self._missed and each not in self._owned]

    def _extend(self, window: _Window) -> list[ExtentPlace]:
        places: list[ExtentPlace] = []
        while window.following is not None:
            place = window.following
            most = min(MOST_AHEAD, max(1, self._bytes_ahead // max(1, self._order.byte_count(place))))
            window.extents = min(window.extents, most)
            if window.issued - window.passed >= window.extents:
                break
            window.issued += 1
            if place not in self._owned:
                places.append(place)
            _remember(self._owned, place, (window, window.issued), most=MOST_OWNED)
            window.following = self._order.following(place)
        return places


@dataclass(frozen=True)
class _Track:
    order: ExtentOrder
    sequences: Sequences


class Readahead:
    """Readahead in all listings. It says what to fetch, and fetches nothing itself.

    Files are told and named as (index in the listing, position in the file in bytes).

    Args:
        cache_bytes: what the cache can hold.
    """

    def __init__(self, *, cache_bytes: int) -> None:
        self._cache_bytes = cache_bytes
        self._bytes_ahead = min(cache_bytes // CACHE_SHARE_AHEAD, BYTES_AHEAD)
        self._lock = threading.Lock()
        self._tracks: WeakKeyDictionary[FileTable, _Track] = WeakKeyDictionary()

    def reached(self, files: FileTable, index: int, offset: int) -> list[tuple[int, int]]:
        """Tell that a reader came to an extent that the cache had.

        Args:
            files: the images, or the annotations, of a listing.
            index: of the file.
            offset: position in it.

        Returns:
            A file and a position in each extent to fetch now.
        """
        with self._lock:
            track = self._tracks.get(files)
            if track is None or not track.sequences.running:
                return []
            return _files(track.order, track.sequences.reached(track.order.place(index, offset)))

    def missed(self, files: FileTable, index: int, offset: int, *, bulk: bool) -> list[tuple[int, int]]:
        """Tell that a reader came to an extent that the cache had not; as `reached`.

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
            return _files(track.order, track.sequences.missed(track.order.place(index, offset)))


def _files(order: ExtentOrder, places: list[ExtentPlace]) -> list[tuple[int, int]]:
    return [(order.first_file(place), 0 if place.file == PACKED else place.start) for place in places]


def _remember(table: OrderedDict[ExtentPlace, Value], place: ExtentPlace, value: Value, *, most: int) -> None:
    table[place] = value
    if len(table) > most:
        table.popitem(last=False)
