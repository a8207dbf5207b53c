"""The C struct in which the kernel gets what `stat` shows, filled in one step.

fusepy has it as a ctypes structure; to set its fields one by one takes 1.8 microseconds, this 1.0.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import Any

import fuse

from imgsyncfs.library.nodes import Attributes

BLOCK_BYTES = 512
"""The unit of st_blocks."""

READ_BYTES = 128 * 1024
"""What the kernel asks for at a time; programs size their buffers by st_blksize."""

_FIELDS = (
    "st_mode",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_size",
    "st_blksize",
    "st_blocks",
    "st_atimespec",
    "st_mtimespec",
    "st_ctimespec",
)

_CODES = {4: "I", 8: "q", 16: "q8x"}
"""How `struct` writes a number, by its length in bytes; in a time, no nanoseconds follow the seconds."""


def _layout() -> tuple[struct.Struct, itemgetter[Any]]:
    """What writes `_FIELDS` where this platform has them, and what puts them in that order."""
    places = [(getattr(fuse.c_stat, name).offset, number) for number, name in enumerate(_FIELDS)]
    pattern, end = "=", 0
    for offset, number in sorted(places):
        byte_count = getattr(fuse.c_stat, _FIELDS[number]).size
        pattern += f"{offset - end}x{_CODES[byte_count]}"
        end = offset + byte_count
    return struct.Struct(pattern), itemgetter(*(number for _, number in sorted(places)))


_STRUCT, _IN_ORDER = _layout()


def write_status(buffer: Any, attributes: Attributes, owner: tuple[int, int]) -> None:
    """Fill the struct; what is not known is 0.

    Args:
        buffer: a `fuse.c_stat`.
        attributes: what to show.
        owner: (user id, group id).
    """
    mode, size, time = attributes
    values = (mode, 1, *owner, size, READ_BYTES, -(-size // BLOCK_BYTES), time, time, time)
    _STRUCT.pack_into(buffer, 0, *_IN_ORDER(values))
