"""What is asked of a store: one extent, and what the catalog says of its content. Knows no way of fetching."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from imgsyncfs.blob_layout import EXTENT_BYTES, extent_digest, has_seal, is_pack
from imgsyncfs.errors import BlobChanged

Member = tuple[int, int, str]
"""A file that lies whole in an extent: offset in the blob, length, md5 (empty if unknown)."""


class ExtentRequest(NamedTuple):
    """One extent, and what is known of its content. A tuple, since one is made for each small blob that is read.

    Attributes:
        store: the store's URL.
        blob: the blob's name in it.
        start: position of the extent in the blob, in bytes.
        length: bytes; None for as much as there is, up to `imgsyncfs.blob_layout.EXTENT_BYTES`.
        version: what tells this content from another that had the same blob name; part of the cache key.
        etag: the store must still show this, or the blob has changed; empty where a digest says it better.
        members: files that lie whole in this extent; verified when it comes.
        digest: `imgsyncfs.blob_layout.extent_digest` of its content in hexadecimal; ``""`` if it is not known.
        whole: (length, MD5) of the file that this is a part of, if that can be checked only when all of it is here.
    """

    store: str
    blob: str
    start: int
    length: int | None
    version: str = ""
    etag: str = ""
    members: tuple[Member, ...] = ()
    digest: str = ""
    whole: tuple[int, str] | None = None

    @property
    def key(self) -> str:
        """The name of this extent in the cache."""
        return extent_key(self.store, self.blob, self.start, self.version)

    def is_followed_by(self, other: ExtentRequest) -> bool:
        """Whether the other extent begins where this one ends, in the same blob, and they may come as one range.

        What nothing here can check does not: a store gives digests of single extents.
        """
        return (
            self.can_be_checked
            and other.can_be_checked
            and other.start == self.start + EXTENT_BYTES
            and self.length in (None, EXTENT_BYTES)
            and (other.store, other.blob, other.etag) == (self.store, self.blob, self.etag)
        )

    @property
    def can_be_checked(self) -> bool:
        """Whether the content can be compared with what the catalog says; in a pack, mostly with its seal."""
        return bool(self.digest or is_pack(self.blob) or (self.members and all(md5 for _, _, md5 in self.members)))

    def keys_of_whole(self) -> list[str]:
        """The names in the cache of all extents of the file that this is a part of; none if there is no `whole`."""
        byte_count = self.whole[0] if self.whole else 0
        starts = range(0, byte_count, EXTENT_BYTES)
        return [extent_key(self.store, self.blob, start, self.version) for start in starts]

    @property
    def digests_key(self) -> str:
        """The name in the cache of what was found to be the digests of all extents of the file."""
        return f"{self.store}|{self.blob}|{self.version}|digests"

    def to_fields(self) -> dict[str, Any]:
        """As JSON-able values. `dataclasses.asdict` would copy each member, 0.1 ms for a pack's extent."""
        return self._asdict()

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ExtentRequest:
        """Back from `to_fields` by way of JSON."""
        whole = fields["whole"]
        members = tuple(tuple(member) for member in fields["members"])
        return cls(**{**fields, "members": members, "whole": tuple(whole) if whole else None})


def extent_key(store: str, blob: str, start: int, version: str = "") -> str:
    """The name of an extent in the cache; see `ExtentRequest`. There is no version of a pack."""
    return f"{store}|{blob}|{version}|{start}"


def cut_short(store: str, blob: str) -> BlobChanged:
    """Say that a blob ends before the catalog says it does."""
    return BlobChanged(f"Blob {blob} in {store} is shorter than the catalog says; publish or index it again.")


def verify_extent(request: ExtentRequest, content: bytes | memoryview, *, digest: str = "") -> bool:
    """Compare an extent's content with what the catalog says of it.

    Args:
        request: what the catalog says.
        content: of the extent.
        digest: stands in for the request's own, if that has none.

    Returns:
        Whether there was something to compare all of it with.

    Raises:
        BlobChanged: it or a file in it is cut short, or has another digest. No MD5 is computed where the seal of a
            pack's extent is unbroken: that is what was published.
    """
    if request.length is not None and len(content) != request.length:
        raise cut_short(request.store, request.blob)
    expected = request.digest or digest
    if expected:
        if extent_digest(content).hex() != expected:
            raise _other_content(request, f"the digest of its extent at byte {request.start} differs")
        return True
    sealed = is_pack(request.blob) and has_seal(request.blob, request.start, content)
    for offset, length, md5 in request.members:
        begin = offset - request.start
        part = memoryview(content)[begin : begin + length]
        if len(part) < length:
            raise cut_short(request.store, request.blob)
        if md5 and not sealed and hashlib.md5(part, usedforsecurity=False).hexdigest() != md5:
            raise _other_content(request, f"md5 differs at byte {offset}")
    return sealed or bool(request.members and all(md5 for _, _, md5 in request.members))


def _other_content(request: ExtentRequest, reason: str) -> BlobChanged:
    return BlobChanged(
        f"Blob {request.blob} in {request.store} has other content than the catalog says ({reason}); publish or index "
        "it again."
    )
