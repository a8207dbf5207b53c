"""Digests of the extents of a file that is too large to be fetched at once: each extent is checked when it comes.

The catalog's MD5 is of the whole file: it says nothing about one extent. `publish` sees the whole content and keeps a
digest of each extent as well. XXH3 finds damage at memory speed, as in the seals of packs; it keeps no one out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import xxhash

from imgsyncfs.blob_layout import EXTENT_BYTES, WHOLE_BLOB_BYTES

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
