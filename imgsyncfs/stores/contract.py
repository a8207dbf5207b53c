"""What every store can do, and the words it is said in.

Invariants that each store keeps:

- A blob is never overwritten: `Store.write` makes it whole or not at all.
- `Store.read_into` never reads fewer bytes than were asked for, except where the blob ends.
- One store is used by many threads at once.
- Only `imgsyncfs.errors` leaves a store, and no message holds a secret.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from imgsyncfs.errors import BlobChanged, BlobMissing, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from imgsyncfs.stores.buffers import RangeInParts

LONGEST_BLOB_NAME = 1024
"""Azure's limit on a blob's name, in characters; the local store keeps to it too, so that catalogs can move."""


MARKS_FOLDER = ".imgsyncfs/"
"""What begins the names of marks, which are no blobs of a catalog's; see `Store.mark`."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What a store says about one blob.

    Attributes:
        blob: the blob's name, relative to the store's folder or prefix, its parts joined by ``/``.
        byte_count: its length in bytes.
        md5: its MD5 digest as 32 lower-case hexadecimal digits; empty if the store does not know it.
        etag: changes whenever the blob's content does; `Store.read_into` takes it as a condition.
        modified_at: when the content last changed, in Unix seconds.
    """

    blob: str
    byte_count: int
    md5: str
    etag: str
    modified_at: int


@dataclass(frozen=True, slots=True)
class RangeRead:
    """A range of a blob to read into a buffer; the fields are what `Store.read_into` takes."""

    blob: str
    buffer: memoryview
    offset: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What is about to be written, open for reading: bytes or a file, block by block so that memory stays bounded.

    Attributes:
        stream: the bytes, from the beginning.
        byte_count: how many there are, in bytes.
        name: what a message calls it.
    """

    stream: BinaryIO
    byte_count: int
    name: str

    def blocks(self, block_bytes: int, *, md5: str) -> Iterator[tuple[bytes, str]]:
        """Yield the content in blocks, and check it on the way.

        Args:
            block_bytes: how long a block is, in bytes; the last may be shorter. Empty content is one empty block.
            md5: the digest that the whole must have; empty means whatever it has.

        Yields:
            (block, md5 of everything up to its end).

        Raises:
            BlobChanged: the file's length or digest is not what was said. It is raised before the last block is
                yielded, so that nobody completes a wrong blob.
            StoreError: the file cannot be read.
        """
        digest = hashlib.md5(usedforsecurity=False)
        left = self.byte_count
        while True:
            block = self._read(min(block_bytes, left))
            left -= len(block)
            digest.update(block)
            if not left and (self._read(1) or (md5 and digest.hexdigest() != md5)):
                break
            if left and len(block) < block_bytes:
                break
            yield block, digest.hexdigest()
            if not left:
                return
        raise BlobChanged(f"{self.name} is not what it was a moment ago (its length or md5 differs); publish it again.")

    def _read(self, byte_count: int) -> bytes:
        try:
            return self.stream.read(byte_count)
        except OSError as error:
            raise _unreadable(self.name, error) from error


class Store(ABC):
    """A place where blobs lie.

    A store implements the abstract methods; the others are made of these, and a store overrides what it can do with
    fewer requests.

    Every method that asks the store something may raise `StoreMissing`, `StoreRefused` and `StoreUnreachable`; every
    method that takes a blob's name raises `StoreError` for an impossible one
    (`blob_name_fault`).
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """The store's URL in its plainest form: equal for equal places, and without secrets."""

    @property
    def has_range_digests(self) -> bool:
        """Whether the store can send a digest with each range; see `read_checked`."""
        return False

    @property
    def is_cheap_to_read(self) -> bool:
        """Whether a blob may be read whole only to compute its digest."""
        return False

    @abstractmethod
    def check(self) -> None:
        """Return if the folder or container is there and may be read; it asks at most twice, for a person waits."""

    def check_writable(self, folder: str) -> None:  # noqa: B027  # whatever cannot tell says so at the first blob
        """Return if blobs may be written below a folder of the store, as far as that can be told without writing any.

        Args:
            folder: the first part of the blobs' names, without a slash.

        Raises:
            StoreRefused: they may not.
        """

    @abstractmethod
    def create(self) -> None:
        """Make the folder or container unless it is there already."""

    @abstractmethod
    def read_into(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob into a buffer, in one request.

        Args:
            blob: the blob's name.
            buffer: where to, one byte an item; its length is the range's. An empty one gives 0 and asks nobody.
            offset: where to start, in bytes; at least 0.
            etag: read only if the blob still has this etag; empty means whatever is there.

        Returns:
            The number of bytes read: the buffer's length, less only where the blob ends.

        Raises:
            BlobMissing: there is no such blob.
            BlobChanged: its etag is another one, or the blob ends at or before `offset` (an empty blob is read from 0).
        """

    def read(self, blob: str, offset: int, length: int, *, etag: str = "") -> bytes:
        """Read a range of a blob.

        Args:
            blob: the blob's name.
            offset: as for `read_into`.
            length: how many bytes, at least 0.
            etag: as for `read_into`.

        Returns:
            The bytes: `length` of them, fewer only where the blob ends.

        Raises:
            BlobMissing: as `read_into`.
            BlobChanged: likewise.
        """
        check_range(offset, length)
        buffer = bytearray(length)
        with memoryview(buffer) as view:
            count = self.read_into(blob, view, offset, etag=etag)
        return bytes(memoryview(buffer)[:count])

    def read_checked(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        """Read a range of a blob into a buffer, and compare it with a digest that the store makes of what it sends.

        For content of which nothing else is known: it finds damage done on the way, and not in the store.

        Args:
            blob: the blob's name.
            buffer: as for `read_into`.
            offset: likewise.
            etag: likewise.

        Returns:
            The number of bytes, as `read_into`; and whether they were compared. A store may make no digests.

        Raises:
            BlobMissing: as `read_into`.
            BlobChanged: likewise.
            StoreError: it arrived damaged again and again.
        """
        return self.read_into(blob, buffer, offset, etag=etag), False

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "") -> None:
        """Read a range of a blob part by part into one buffer.

        Args:
            blob: the blob's name.
            parts: which range, and what takes it. It has been received whole afterwards, or as far as the blob goes.
            etag: as for `read_into`.

        Raises:
            BlobMissing: as `read_into`; parts may have been taken before.
            BlobChanged: likewise.
        """
        check_range(parts.offset, parts.left)
        if not parts.left:
            return
        info = self.describe(blob)
        etag, stop = etag or info.etag, min(parts.offset + parts.left, info.byte_count)
        parts.begin()
        while True:
            part = parts.free[: max(1, stop - parts.offset)]
            parts.advance(self.read_into(blob, part, parts.offset, etag=etag))
            if parts.offset >= stop:
                break
        parts.end()

    def read_all_into(self, reads: Sequence[RangeRead], *, answered: Callable[[], None] = lambda: None) -> list[int]:
        """Read several ranges into their buffers, with a request each; several may be under way at once.

        Args:
            reads: the ranges.
            answered: called whenever an answer begins, which says how far the store is.

        Returns:
            The number of bytes of each, as `read_into`.

        Raises:
            BlobMissing: as `read_into`, for the first range that it is true of; the buffers' content is undefined then.
            BlobChanged: likewise.
        """
        counts = []
        for read in reads:
            counts.append(self.read_into(read.blob, read.buffer, read.offset, etag=read.etag))
            answered()
        return counts

    @abstractmethod
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

    @abstractmethod
    def describe(self, blob: str) -> BlobInfo:
        """Describe a blob without reading it.

        Raises:
            BlobMissing: there is no such blob.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs whose names start with `prefix`, as they come and in no order.

        Args:
            prefix: any text, not only whole folders; empty means every blob.
        """

    def clock_skew(self) -> float | None:
        """How far the store's clock is ahead of ours, in seconds; None for one without a clock of its own.

        Raises:
            StoreError: it cannot be asked.
        """
        return None

    def mark(self, name: str) -> bool:  # noqa: ARG002  # for stores that keep marks
        """Leave a mark, over the one that is there: whoever describes it sees another etag than before.

        Args:
            name: begins with `MARKS_FOLDER`. `list` gives no marks.

        Returns:
            Whether this store keeps marks.

        Raises:
            StoreError: it cannot be written.
        """
        return False

    def close(self) -> None:  # noqa: B027  # a store that keeps no connections has nothing to do
        """Close all connections; the store cannot be used afterwards."""


def blob_name_fault(blob: str) -> str | None:
    """Say why a text cannot be a blob's name in any store; None if it can.

    A name with ``.`` or ``..`` in it would be another blob's by the time it is a path or a URL, perhaps one outside the
    store. Limits: "Naming and Referencing Containers, Blobs, and Metadata", Azure Storage REST API.
    """
    if not blob:
        return "it is empty"
    if len(blob) > LONGEST_BLOB_NAME:
        return f"it is longer than {LONGEST_BLOB_NAME} characters"
    if "\0" in blob:
        return "it holds a NUL character"
    if not {".", ".."}.isdisjoint(blob.split("/")):
        return "it has '.' or '..' between its slashes"
    try:
        blob.encode()
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    return None


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


def check_range(offset: int, length: int) -> None:
    """Refuse a range that no caller means.

    Raises:
        ValueError: a negative number.
    """
    if offset < 0 or length < 0:
        raise ValueError(f"A range starts at 0 or later and has 0 bytes or more, not {length} bytes from {offset}.")


def blob_missing(blob: str, url: str) -> BlobMissing:
    """The exception for a blob that is not there."""
    return BlobMissing(
        f"Blob {blob} is missing in {url}; bring it back (undelete it, where the store keeps what is deleted), or "
        "publish or index its dataset again."
    )


def blob_changed(blob: str, url: str, reason: str) -> BlobChanged:
    """The exception for a blob that is not what the catalog, or its writer, says."""
    return BlobChanged(f"Blob {blob} in {url} is not what it should be: {reason}; publish or index its dataset again.")


@contextmanager
def open_content(content: bytes | Path) -> Iterator[Content]:
    """Open what `Store.write` was given.

    Raises:
        StoreError: the file cannot be read.
    """
    if isinstance(content, bytes):
        yield Content(io.BytesIO(content), len(content), "The content")
        return
    name = f"File {content}"
    try:
        stream = content.open("rb")
    except OSError as error:
        raise _unreadable(name, error) from error
    with stream:
        yield Content(stream, os.fstat(stream.fileno()).st_size, name)


def _unreadable(name: str, error: OSError) -> StoreError:
    return StoreError(f"{name} cannot be read: {error.strerror}; check that it is there and that you may read it.")
