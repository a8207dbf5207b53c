"""Lay small files end to end into packs.

Invariants:

- No file in a pack crosses a multiple of `EXTENT_BYTES`: where one would, zeros stand before it.
- Each extent ends with its seal (`imgsyncfs.blob_layout`), the last one right behind the last file.
- The same files in the same order give the same packs with the same names and bytes. A pack's name comes from its table
  of members (where each lies, its length and digest): a publish that is run again finds what it already uploaded.
- A pack holds neighbours: files that follow each other in the dataset.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO

from imgsyncfs.blob_layout import EXTENT_BYTES, PACK_BYTES, SEAL_BYTES, make_seal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class PackMember:
    """One file in a pack.

    Attributes:
        index: which of the files given to `plan_packs` it is.
        offset: where in the pack it begins, in bytes.
        byte_count: its length in bytes.
    """

    index: int
    offset: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that is planned, not yet written.

    Attributes:
        blob: its name in the store.
        members: in the order in which they lie there.
    """

    blob: str
    members: tuple[PackMember, ...]

    @property
    def byte_count(self) -> int:
        """Length of the pack in bytes."""
        return self.members[-1].offset + self.members[-1].byte_count + SEAL_BYTES


def plan_packs(
    files: Sequence[tuple[int, str]],
    *,
    prefix: str,
    extent_bytes: int = EXTENT_BYTES,
    pack_bytes: int = PACK_BYTES,
) -> list[Pack]:
    """Decide which file lies where.

    Args:
        files: length in bytes and md5 of each, in the dataset's order; each fits into an extent beside its seal.
        prefix: what the packs' names begin with, for example ``original_20200207_fisheye_rbbox/images``.
        extent_bytes: length of an extent.
        pack_bytes: greatest length of a pack, a multiple of `extent_bytes`.

    Returns:
        The packs; each file is in exactly one.
    """
    usable = extent_bytes - SEAL_BYTES
    packs = []
    members: list[PackMember] = []
    offset = 0
    for index, (byte_count, _) in enumerate(files):
        if byte_count > usable:
            raise ValueError(f"a file of {byte_count} bytes fits in no extent of {extent_bytes}")
        if offset % extent_bytes + byte_count > usable:
            offset += -offset % extent_bytes
        if offset + byte_count + SEAL_BYTES > pack_bytes:
            packs.append(_named(members, files, prefix))
            members, offset = [], 0
        members.append(PackMember(index, offset, byte_count))
        offset += byte_count
    if members:
        packs.append(_named(members, files, prefix))
    return packs


def write_pack(pack: Pack, read: Callable[[int], bytes], target: BinaryIO, *, extent_bytes: int = EXTENT_BYTES) -> str:
    """Write a pack's bytes, reading one member at a time.

    Args:
        pack: what to write.
        read: gives the content of the file with this index, and sees to it that it is what was planned.
        target: an empty file open for writing.
        extent_bytes: as for `plan_packs`.

    Returns:
        The md5 of the whole pack, in hexadecimal.
    """
    digest = hashlib.md5(usedforsecurity=False)
    last = pack.members[-1].offset // extent_bytes
    for number, members in groupby(pack.members, key=lambda member: member.offset // extent_bytes):
        start = number * extent_bytes
        content = bytearray()
        for member in members:
            content += bytes(member.offset - start - len(content))
            content += read(member.index)
        if number != last:
            content += bytes(extent_bytes - SEAL_BYTES - len(content))
        content += make_seal(pack.blob, start, memoryview(content).toreadonly())
        digest.update(content)
        target.write(content)
    return digest.hexdigest()


def _named(members: list[PackMember], files: Sequence[tuple[int, str]], prefix: str) -> Pack:
    # The seals are named too: a pack without them is another pack.
    table = "sealed\n" + "".join(
        f"{member.offset} {member.byte_count} {files[member.index][1]}\n" for member in members
    )
    return Pack(f"{prefix}-{hashlib.sha256(table.encode()).hexdigest()[:16]}.pack", tuple(members))
