"""What every store can do, and the words it is said in.

Invariants that each store keeps:

- A blob is never overwritten: `Store.write` makes it whole or not at all.
- `Store.read` never returns fewer bytes than were asked for, except where the blob ends.
- One store is used by many threads at once.
- Only `imgsyncfs.errors` leaves a store, and no message holds a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imgsyncfs.errors import StoreError
from imgsyncfs.stores.blob_names import LONGEST_BLOB_NAME, blob_name_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from imgsyncfs.stores.ranges import RangeInParts


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store says about one blob.

    Attributes:
        blob: the blob's name, relative to the store's folder or prefix, its parts joined by ``/``.
        byte_count: its length in bytes.
        md5: its MD5 digest as 32 lower-case hexadecimal digits; empty if the store does not know it.
        etag: changes whenever the blob's content does; `Store.read` takes it as a condition.
        modified_at: when the content last changed, in Unix seconds.
    """

    blob: str
    byte_count: int
    md5: str
    etag: str
    modified_at: int


@dataclass(frozen=True, slots=True)
class RangeRead:
    """A range of a blob to read into memory; the fields are what `Store.read_into` takes."""

    blob: str
    room: memoryview
    offset: int = 0
    etag: str = ""


class Store(Protocol):
    """A place where blobs lie.

    Every method that asks it something may raise `StoreMissing`, `StoreRefused` and `StoreUnreachable`; each that takes
    a blob's name raises `StoreError` for an impossible one (`imgsyncfs.stores.blob_names.blob_name_fault`).
    """

    @property
    def url(self) -> str:
        """The store's URL in its plainest form: equal for equal places, and without secrets."""

    @property
    def vouches_for_ranges(self) -> bool:
        """Whether it makes digests of the ranges that it sends; see `read_checked`."""

    def check(self) -> None:
        """Return if the folder or container is there and may be read; it asks at most twice, for a person waits."""

    def create(self) -> None:
        """Make the folder or container unless it is there already."""

    def read(self, blob: str, offset: int = 0, length: int | None = None, *, etag: str = "") -> bytes:
        """Read a range of a blob, in one request.

        Args:
            blob: the blob's name.
            offset: where to start, in bytes; at least 0.
            length: how many bytes, at least 0; None means up to the end. 0 gives no bytes and asks nobody.
            etag: read only if the blob still has this etag; empty means whatever is there.

        Returns:
            The bytes: `length` of them, fewer only where the blob ends.

        Raises:
            BlobMissing: there is no such blob.
            BlobChanged: its etag is another one, or the blob ends at or before `offset` (an empty blob is read from 0).
        """

    def read_into(self, blob: str, room: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob into memory, in one request: as `read`, without fresh memory and a copy.

        Args:
            blob: the blob's name.
            room: where to, one byte an item; as much is read.
            offset: where to start, in bytes; at least 0.
            etag: as for `read`.

        Returns:
            How many bytes: as many as there is room for, fewer only where the blob ends.

        Raises:
            BlobMissing: as `read`.
            BlobChanged: likewise.
        """

    def read_checked(self, blob: str, room: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        """Read a range of a blob into memory, and compare it with a digest that the store makes of what it sends.

        For content of which nothing else is known: it finds what was damaged on the way, and not in the store.

        Args:
            blob: the blob's name.
            room: as for `read_into`.
            offset: likewise.
            etag: as for `read`.

        Returns:
            How many bytes, as `read_into`; and whether they were compared. A store may make no digests.

        Raises:
            BlobMissing: as `read`.
            BlobChanged: likewise.
            StoreError: it arrived damaged again and again.
        """

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "") -> None:
        """Read a range of a blob part by part into the same memory, in one request.

        Args:
            blob: the blob's name.
            parts: which range, and what takes it. It has been received whole afterwards, or as far as the blob goes.
            etag: as for `read`.

        Raises:
            BlobMissing: as `read`; parts may have been taken before.
            BlobChanged: likewise.
        """

    def read_all_into(self, reads: Sequence[RangeRead]) -> list[int]:
        """Read several ranges into memory, with one request each; they may be sent before the first one is answered.

        Returns:
            How many bytes each has, as `read_into`.

        Raises:
            BlobMissing: as `read_into`, for the first that it is true of; what the others hold is undefined then.
            BlobChanged: likewise.
        """

    def write(self, blob: str, content: bytes | Path, *, md5: str = "") -> BlobInfo:
        """Write a new blob: whole or not at all, and never over another one.

        Args:
            blob: the blob's name.
            content: its bytes, or the file that holds them (streamed, so that memory stays bounded).
            md5: the digest that the content must have, in hexadecimal; empty means whatever it has.

        Returns:
            What is there now: the new blob, or the one that was there already if length and digest agree.

        Raises:
            BlobChanged: another blob has that name, or the content is not what `md5` says.
        """

    def describe(self, blob: str) -> BlobInfo:
        """Say what a blob is without reading it.

        Raises:
            BlobMissing: there is no such blob.
        """

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs whose names start with `prefix`, as they come and in no order.

        Args:
            prefix: any text, not only whole folders; empty means every blob.
        """

    def close(self) -> None:
        """Let go of connections; the store cannot be used afterwards."""


def check_blob_name(blob: str, url: str) -> None:
    """Refuse an impossible name before it reaches a path or a URL.

    Raises:
        StoreError: `blob_name_fault` finds one.
    """
    fault = blob_name_fault(blob)
    if fault:
        raise StoreError(
            f"Blob name {blob[:LONGEST_BLOB_NAME]!r} cannot be used in {url}: {fault}; publish it under another name."
        )


def check_range(offset: int, length: int | None) -> None:
    """Refuse a range that no caller means.

    Raises:
        ValueError: a negative number.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"A range starts at 0 or later and has 0 bytes or more, not {length} bytes from {offset}.")
