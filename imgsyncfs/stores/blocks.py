"""What is about to be written: bytes or a file, taken block by block so that memory stays bounded."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from imgsyncfs.errors import BlobChanged, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Content:
    """Content that is open for reading.

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
