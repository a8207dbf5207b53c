"""Check large files of which the catalog has one MD5 and no digests of extents: indexed ones, and older publishes.

Where the store makes digests of ranges, such a file is checked when all of it is in the cache. Where it does not, all
of it is read before the first extent is handed on, unless it is very large. When a file has been found right, the
digests of its extents are kept in the cache, and each extent is checked alone. When it has been found wrong, no extent
is handed on before all of the file has been read again.

Threads: `WholeChecks._lock` guards the findings and the table of files that are being read; it is held for dictionary
operations only. A thread that needs a file which another one is reading waits for that, up to the timeout.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from cachetools import LRUCache

from imgsyncfs.blob_layout import EXTENT_BYTES, digest_at, extent_digest
from imgsyncfs.cache import CacheWriter
from imgsyncfs.errors import BlobChanged, StoreError
from imgsyncfs.fetching.extent import Extent
from imgsyncfs.stores.buffers import KeptBuffers
from imgsyncfs.stores.contract import Store

READ_FIRST_BYTES = 256 << 20
"""Up to this length a file is read whole before its first extent is handed on, which takes a second at most."""

AGAIN_SECONDS = 30.0
"""A file found wrong is read again for a reader after this time."""

MOST_KNOWN = 4096


class WholeChecks:
    """Checks whole files. Any number of threads may use it.

    Args:
        cache: where extents and findings are kept.
        timeout: seconds to wait for another thread that is reading a file.
        clock: tells the time in Unix seconds.
    """

    def __init__(self, cache: CacheWriter, *, timeout: float, clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._timeout = timeout
        self._clock = clock
        self._buffers = KeptBuffers()
        self._lock = threading.Lock()
        # By the name in the cache: the digests of all extents, or b"" and when the file was found to be wrong.
        self._known: LRUCache[str, tuple[bytes, float]] = LRUCache(MOST_KNOWN)
        self._reading: dict[str, Future[bytes]] = {}

    def digest(self, extent: Extent, store: Store) -> str:
        """The digest of an extent of a file that was found right.

        Args:
            extent: which one.
            store: where the file is.

        Returns:
            The digest in hexadecimal; ``""`` if the file is checked when all of it is in the cache, or never.

        Raises:
            BlobChanged: the file's MD5 is not the catalog's.
            StoreError: it cannot be read.
        """
        if extent.whole is None:
            return ""
        known = self._find(extent)
        if known is None and (store.has_range_digests or extent.whole[0] > READ_FIRST_BYTES):
            return ""
        digests, since = known or (b"", 0.0)
        if not digests:
            if self._clock() < since + AGAIN_SECONDS:
                raise _wrong(extent)
            digests = self._read_once(extent, store)
        return digest_at(digests, extent.start).hex()

    def check(self, extent: Extent) -> None:
        """Check the file that an extent is a part of, if all of it is in the cache and it was not checked before.

        Args:
            extent: one that was just kept.

        Raises:
            BlobChanged: its MD5 is not the catalog's. Nothing of it is in the cache then.
        """
        if extent.whole is None or self._find(extent) is not None:
            return
        keys = extent.keys_of_whole()
        if self._cache.holds_all(keys):
            self._take(extent, map(self._cache.get, keys))

    def _find(self, extent: Extent) -> tuple[bytes, float] | None:
        """The finding about a file, of this process or another."""
        with self._lock:
            known = self._known.get(extent.digests_key)
        if known is not None:
            return known
        content = self._cache.get(extent.digests_key)
        if content is None:
            return None
        return (b"", float(content[len(_WRONG) :])) if content.startswith(_WRONG) else (content, 0.0)

    def _read_once(self, extent: Extent, store: Store) -> bytes:
        """Read all of a file, or wait for the thread that does; returns the digests of its extents."""
        key = extent.digests_key
        with self._lock:
            reading = self._reading.get(key)
            first = reading is None
            if reading is None:
                reading = self._reading[key] = Future()
        if not first:
            try:
                return reading.result(self._timeout)
            except FutureTimeoutError:
                raise StoreError(
                    f"Blob {extent.blob} in {extent.store} is still being checked after {self._timeout:g} s; read it "
                    "again in a while, or raise the timeout.",
                    option="timeout",
                ) from None
        try:
            with self._buffers.borrow(EXTENT_BYTES) as buffer:
                reading.set_result(self._take(extent, _contents(extent, store, buffer)))
        except BaseException as error:
            reading.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._reading[key]
        return reading.result()

    def _take(self, extent: Extent, contents: Iterable[bytes | memoryview | None]) -> bytes:
        """Check a file extent by extent, and keep the finding.

        Args:
            extent: one of them.
            contents: of all extents, in order; None for one that the cache no longer has.

        Returns:
            The digests of its extents; empty, and there is no finding, if one is gone.

        Raises:
            BlobChanged: its MD5 is another.
        """
        whole = hashlib.md5(usedforsecurity=False)
        digests = bytearray()
        for content in contents:
            if content is None:
                return b""
            whole.update(content)
            digests += extent_digest(content)
        is_right = extent.whole is not None and whole.hexdigest() == extent.whole[1]
        known = (bytes(digests), 0.0) if is_right else (b"", self._clock())
        with self._lock:
            self._known[extent.digests_key] = known
        # For the other workers, and for later.
        self._cache.remove([extent.digests_key])
        self._cache.put(extent.digests_key, known[0] or _WRONG + str(known[1]).encode())
        if not is_right:
            self._cache.remove(extent.keys_of_whole())
            raise _wrong(extent)
        return known[0]


def _contents(extent: Extent, store: Store, buffer: memoryview) -> Iterator[memoryview]:
    byte_count = extent.whole[0] if extent.whole else 0
    for start in range(0, byte_count, EXTENT_BYTES):
        part = buffer[: min(EXTENT_BYTES, byte_count - start)]
        count, _ = store.read_checked(extent.blob, part, start, etag=extent.etag)
        yield part[:count]


_WRONG = b"wrong since "
"""Longer than a digest, and no multiple of one: it cannot be taken for digests."""


def _wrong(extent: Extent) -> BlobChanged:
    return BlobChanged(
        f"Blob {extent.blob} in {extent.store} has other content than the catalog says (its MD5 differs); publish or "
        "index it again."
    )
