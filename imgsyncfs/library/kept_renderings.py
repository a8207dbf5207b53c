"""Rendered files that are kept for the read that mostly follows a look: in this process, or for several of them.

Responders share theirs: whoever is asked for the size of a sibling is seldom the one who is asked for its bytes.
"""

from __future__ import annotations

import struct
import threading

import xxhash
from cachetools import LRUCache

KEPT_BYTES = 16 << 20

_HEADER = struct.Struct("<16sQQ")
"""Digest of the name, length of the content, digest of the content."""

_PLACE_BYTES = 32 << 10
_PLACES = 512

SHARED_BYTES = _PLACES * _PLACE_BYTES
"""Only what is written to takes up memory: a rendering of some boxes a page or two of its place."""


class KeptRenderings:
    """The renderings that were used last, in memory of this process, up to `KEPT_BYTES`. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: LRUCache[str, bytes] = LRUCache(KEPT_BYTES, getsizeof=len)

    def get(self, name: str) -> bytes | None:
        """What is kept under a name; None if there is nothing."""
        with self._lock:
            return self._kept.get(name)

    def put(self, name: str, content: bytes) -> None:
        """Keep a rendering, unless it is too large."""
        if len(content) <= KEPT_BYTES:
            with self._lock:
                self._kept[name] = content


class SharedRenderings(KeptRenderings):
    """Renderings in memory that several processes share; those too large for a place of it are kept by each alone.

    No lock: what was half written, or is being replaced, does not fit its digest and is not used.

    Args:
        memory: `SHARED_BYTES` of it, all 0 at first.
    """

    def __init__(self, memory: memoryview) -> None:
        super().__init__()
        self._memory = memory

    def get(self, name: str) -> bytes | None:
        """As above."""
        digest = xxhash.xxh3_128_digest(name.encode())
        start = _start(digest)
        its_digest, length, content_digest = _HEADER.unpack_from(self._memory, start)
        if its_digest == digest and length <= _PLACE_BYTES - _HEADER.size:
            begin = start + _HEADER.size
            content = bytes(self._memory[begin : begin + length])
            if xxhash.xxh3_64_intdigest(content) == content_digest:
                return content
        return super().get(name)

    def put(self, name: str, content: bytes) -> None:
        """As above."""
        if len(content) > _PLACE_BYTES - _HEADER.size:
            super().put(name, content)
            return
        digest = xxhash.xxh3_128_digest(name.encode())
        start = _start(digest)
        begin = start + _HEADER.size
        self._memory[begin : begin + len(content)] = content
        _HEADER.pack_into(self._memory, start, digest, len(content), xxhash.xxh3_64_intdigest(content))


def _start(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little") % _PLACES * _PLACE_BYTES
