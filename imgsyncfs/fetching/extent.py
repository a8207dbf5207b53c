"""An extent: where it lies, and what the catalog says of its content. Knows no way of fetching."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from imgsyncfs.blob_layout import EXTENT_BYTES, LOOSE_FILE_BYTES, extent_digest, has_seal, is_pack
from imgsyncfs.errors import BlobChanged

Member = tuple[int, int, str]
"""A file that lies whole in an extent: offset in the blob, length, MD5 (empty if unknown)."""


class Extent(NamedTuple):
    """The unit that is fetched and cached. A tuple, since one is made for each small blob that is read.

    Attributes:
        store: the store's URL.
        blob: the blob's name in the store.
        start: position of the extent in the blob, in bytes.
        length: bytes; None for as many as there are, up to `imgsyncfs.blob_layout.EXTENT_BYTES`.
        version: tells this content from another that had the same blob name; part of the cache key.
        etag: the blob must still have it; empty where a digest says more.
        members: gives the files that lie whole in the extent, which are verified when it comes. A function, since a
            pack's extent has many and they are needed only when it is fetched.
        digest: `imgsyncfs.blob_layout.extent_digest` of the content in hexadecimal; ``""`` if it is not known.
        whole: (length, MD5) of the file that the extent is a part of, if it can be checked only as a whole.
    """

    store: str
    blob: str
    start: int
    length: int | None
    version: str = ""
    etag: str = ""
    members: Callable[[], tuple[Member, ...]] = tuple
    digest: str = ""
    whole: tuple[int, str] | None = None

    @property
    def key(self) -> str:
        """The name of this extent in the cache."""
        return extent_key(self.store, self.blob, self.start, self.version)

    @property
    def most_bytes(self) -> int:
        """The length in bytes, or the most that it can be."""
        return EXTENT_BYTES if self.length is None else self.length

    @property
    def is_small_blob(self) -> bool:
        """Whether it is all of a small blob."""
        return self.length is not None and self.length < LOOSE_FILE_BYTES and self.start == 0

    @property
    def can_be_checked(self) -> bool:
        """Whether the content can be compared with what the catalog says; in a pack, mostly with its seal."""
        if self.digest or is_pack(self.blob):
            return True
        members = self.members()
        return bool(members) and all(md5 for _, _, md5 in members)

    @property
    def digests_key(self) -> str:
        """The name in the cache of the digests of all extents of the file, as found by reading all of it."""
        return f"{self.store}|{self.blob}|{self.version}|digests"

    def adjoins(self, other: Extent) -> bool:
        """Whether two extents follow each other, either way, and can come as one range."""
        return self.is_followed_by(other) or other.is_followed_by(self)

    def is_followed_by(self, other: Extent) -> bool:
        """Whether the other extent begins where this one ends, and both can come as one range.

        An extent that the catalog cannot check comes alone: a store gives digests of single extents.
        """
        return (
            other.start == self.start + EXTENT_BYTES
            and self.length in (None, EXTENT_BYTES)
            and (other.store, other.blob, other.etag) == (self.store, self.blob, self.etag)
            and self.can_be_checked
            and other.can_be_checked
        )

    def keys_of_whole(self) -> list[str]:
        """The names in the cache of all extents of the file that this is a part of; none if there is no `whole`."""
        byte_count = self.whole[0] if self.whole else 0
        starts = range(0, byte_count, EXTENT_BYTES)
        return [extent_key(self.store, self.blob, start, self.version) for start in starts]

    def to_fields(self) -> dict[str, Any]:
        """As JSON-able values. `dataclasses.asdict` would copy each member, 0.1 ms for a pack's extent."""
        return {**self._asdict(), "members": self.members()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Extent:
        """Back from `to_fields` by way of JSON."""
        whole = fields["whole"]
        members = tuple(tuple(member) for member in fields["members"])
        return cls(**{**fields, "members": lambda: members, "whole": tuple(whole) if whole else None})


def extent_key(store: str, blob: str, start: int, version: str = "") -> str:
    """The name of an extent in the cache; see `Extent`. A pack has no version."""
    return f"{store}|{blob}|{version}|{start}"


def cut_short(store: str, blob: str) -> BlobChanged:
    """Say that a blob ends before the catalog says it does."""
    return BlobChanged(f"Blob {blob} in {store} is shorter than the catalog says; publish or index it again.")


def verify_extent(extent: Extent, content: bytes | memoryview, *, digest: str = "") -> bool:
    """Compare an extent's content with what the catalog says of it.

    Args:
        extent: with what the catalog says.
        content: of the extent.
        digest: stands in for the extent's own, if that has none.

    Returns:
        Whether all of it was compared with something.

    Raises:
        BlobChanged: it or a file in it is cut short, or has another digest. No MD5 is computed where the seal of a
            pack's extent is unbroken: the content is what was published.
    """
    if extent.length is not None and len(content) != extent.length:
        raise cut_short(extent.store, extent.blob)
    expected = extent.digest or digest
    if expected:
        if extent_digest(content).hex() != expected:
            raise _other_content(extent, f"the digest of its extent at byte {extent.start} differs")
        return True
    sealed = is_pack(extent.blob) and has_seal(extent.blob, extent.start, content)
    members = extent.members()
    for offset, length, md5 in members:
        begin = offset - extent.start
        part = memoryview(content)[begin : begin + length]
        if len(part) < length:
            raise cut_short(extent.store, extent.blob)
        if md5 and not sealed and hashlib.md5(part, usedforsecurity=False).hexdigest() != md5:
            raise _other_content(extent, f"md5 differs at byte {offset}")
    return sealed or bool(members and all(md5 for _, _, md5 in members))


def _other_content(extent: Extent, reason: str) -> BlobChanged:
    return BlobChanged(
        f"Blob {extent.blob} in {extent.store} has other content than the catalog says ({reason}); publish or index "
        "it again."
    )
