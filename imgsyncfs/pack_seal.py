"""The seal at the end of each extent of a pack: what `publish` wrote is told from anything else at memory speed.

A pack's files are described by their MD5 in the catalog; computing that for 4 MiB takes 6.5 ms, more than fetching and
keeping the extent. `publish` has compared the files with it already. So it ends each extent with a digest of the extent
that is checked in 0.35 ms, XXH3. The pack's name and the extent's place go into it, so that no pack passes for another.
Packs without seals, and extents whose seal does not fit, are checked by MD5.
"""

from __future__ import annotations

import xxhash

_MAGIC = b"imgseal1"
_FILLING = bytes(8)

SEAL_BYTES = len(_MAGIC) + len(_FILLING) + 16
"""Length of a seal: a mark, room for another digest one day, and the digest."""


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
