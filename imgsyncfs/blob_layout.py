"""The sizes that publishing, fetching and caching agree on.

An extent is the unit that is fetched and cached. A loose blob of up to `WHOLE_BLOB_BYTES` is one extent; anything else
is cut at multiples of `EXTENT_BYTES`. Packs are laid out so that no file in them crosses such a multiple: a small file
lies in exactly one extent, and is read with one request and one descriptor.
"""

from __future__ import annotations

MEBIBYTE = 1 << 20

EXTENT_BYTES = 4 * MEBIBYTE
"""One ranged GET of this size runs at 250-310 MB/s through the Azure SDK; one of 100 kB at 40 MB/s."""

WHOLE_BLOB_BYTES = 8 * MEBIBYTE
"""Up to here a loose blob is fetched in one request: a second request costs more than the bytes."""

LOOSE_FILE_BYTES = 1 * MEBIBYTE
"""Files of this size and above are not packed: the padding before them could waste a quarter of an extent."""

PACK_BYTES = 64 * MEBIBYTE
"""A pack is closed at this size, so that an interrupted publish repeats at most this much."""

PACK_SUFFIX = ".pack"
"""What tells a pack's blob name from a loose file's; no image or annotation ends like this."""


def extent_range(offset: int, blob_bytes: int | None) -> tuple[int, int | None]:
    """Say which extent of a blob holds a byte.

    Args:
        offset: position in the blob, in bytes.
        blob_bytes: the blob's length for a loose blob, None for a pack (whose length the catalog does not hold).

    Returns:
        (start, length) of the extent in bytes; a length of None means up to `EXTENT_BYTES`, as much as there is.
    """
    if blob_bytes is not None and blob_bytes <= WHOLE_BLOB_BYTES:
        return 0, blob_bytes
    start = offset - offset % EXTENT_BYTES
    if blob_bytes is None:
        return start, None
    return start, min(EXTENT_BYTES, blob_bytes - start)


def is_pack(blob: str) -> bool:
    """Whether a blob is a pack: many small files laid end to end."""
    return blob.endswith(PACK_SUFFIX)
