"""What publishing, fetching and caching agree on: how blobs are cut and checked.

An extent is the unit that is fetched and cached. A loose blob of up to `WHOLE_BLOB_BYTES` is one extent; all other
blobs are cut at multiples of `EXTENT_BYTES`. No file in a pack crosses such a multiple: a small file lies in exactly
one extent, and is read with one request and one descriptor.

The catalog has the MD5 of a pack's files. To compute it for 4 MiB takes 6.5 ms, longer than to fetch and keep the
extent. So `publish`, which has compared the files with it, ends each extent of a pack with a seal: an XXH3 digest of
the extent, checked in 0.35 ms. The pack's name and the extent's position go into the seal, so that no pack passes for
another. Packs without seals, and extents whose seal does not fit, are checked by MD5.

The catalog's MD5 of a large loose file is of the whole file. `publish` sees the whole content and keeps a digest of
each extent as well. XXH3 finds damage at the speed of memory; it is no protection against forgery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import xxhash

MEBIBYTE = 1 << 20

EXTENT_BYTES = 4 * MEBIBYTE
"""Large enough for full bandwidth in one ranged GET, small enough to be worth fetching for one small file."""

WHOLE_BLOB_BYTES = 8 * MEBIBYTE
"""Up to here a loose blob is fetched in one request: a second request costs more than the bytes."""

LOOSE_FILE_BYTES = 1 * MEBIBYTE
"""Files of this size and above are not packed: the padding before them could waste a quarter of an extent."""

PACK_BYTES = 64 * MEBIBYTE
"""A pack is closed at this size: an interrupted publish repeats at most as much."""

PACK_SUFFIX = ".pack"
"""The suffix of a pack's blob name; no image or annotation has it."""


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


_MAGIC = b"imgseal1"
_FILLING = bytes(8)

SEAL_BYTES = len(_MAGIC) + len(_FILLING) + 16
"""Length of a seal: a mark, eight bytes in reserve, and the digest."""


def make_seal(blob: str, start: int, content: bytes | memoryview) -> bytes:
    """The seal of an extent.

    Args:
        blob: name of the pack; what follows its last ``-`` is digested, which is a digest of the pack's table of files.
        start: position of the extent in the pack, in bytes.
        content: the extent's bytes before the seal.

    Returns:
        `SEAL_BYTES` bytes.
    """
    digest = xxhash.xxh3_128(f"{blob.rpartition('-')[2]} {start}\n".encode())
    digest.update(content)
    return _MAGIC + _FILLING + digest.digest()


def has_seal(blob: str, start: int, extent: bytes | memoryview) -> bool:
    """Whether an extent ends with the seal that belongs to it.

    Args:
        blob: as for `make_seal`.
        start: likewise.
        extent: all bytes of the extent.
    """
    seal = bytes(extent[-SEAL_BYTES:])
    if not seal.startswith(_MAGIC) or len(seal) < SEAL_BYTES:
        return False
    return make_seal(blob, start, memoryview(extent)[:-SEAL_BYTES]) == seal


DIGEST_BYTES = 16

_MD5 = re.compile(r"[0-9a-f]{32}")
_DIGESTS = re.compile(rf"(?:[0-9a-f]{{{2 * DIGEST_BYTES}}})+")


def extent_digest(content: bytes | memoryview) -> bytes:
    """The digest of one extent."""
    return xxhash.xxh3_128_digest(content)


def extent_digests(contents: Iterable[bytes | memoryview], byte_count: int) -> str:
    """The digests of all extents of a file.

    Args:
        contents: the extents, in order.
        byte_count: length of the file.

    Returns:
        In hexadecimal, end to end; ``""`` for a file that is fetched whole.
    """
    if byte_count <= WHOLE_BLOB_BYTES:
        return ""
    return b"".join(map(extent_digest, contents)).hex()


def cut_into_extents(content: bytes) -> Iterator[memoryview]:
    """The extents of a file's content."""
    view = memoryview(content)
    return (view[start : start + EXTENT_BYTES] for start in range(0, len(content), EXTENT_BYTES))


def are_extent_digests(value: object) -> bool:
    """Whether a value from a database is what `extent_digests` returns for a large file."""
    return isinstance(value, str) and _DIGESTS.fullmatch(value) is not None


def is_md5(value: object) -> bool:
    """Whether a value from a database is an MD5 in lower-case hexadecimal."""
    return isinstance(value, str) and _MD5.fullmatch(value) is not None


def digest_at(digests: bytes, start: int) -> bytes:
    """The digest of the extent that begins at a position.

    Args:
        digests: of all extents, end to end.
        start: of the extent in the file, in bytes: a multiple of `EXTENT_BYTES`.

    Returns:
        The digest; empty if there are too few.
    """
    place = start // EXTENT_BYTES * DIGEST_BYTES
    digest = digests[place : place + DIGEST_BYTES]
    return digest if len(digest) == DIGEST_BYTES else b""
