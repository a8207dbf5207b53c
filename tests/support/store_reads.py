"""Reads of a store that only tests need."""

from __future__ import annotations

from imgsyncfs.stores.contract import Store

MOST_BYTES = 16 << 20
"""No blob of the tests is longer."""


def read_whole(store: Store, blob: str, *, etag: str = "") -> bytes:
    return store.read(blob, 0, MOST_BYTES, etag=etag)
