"""A local folder as a store: each blob is a file.

The folder is its administrator's own, so symbolic links in it are followed wherever they lead. What comes from outside,
the blobs' names, can't leave it.

No time limit here: nothing ends a system call that hangs on a dead network disk. Whoever reads does so in a process
or thread that the rest doesn't wait for.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imgsyncfs.blob_names import blob_name_fault
from imgsyncfs.durable_files import sync_folder
from imgsyncfs.errors import (
    BlobChanged,
    BlobMissing,
    StoreError,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from imgsyncfs.store.content import Content, open_content
from imgsyncfs.store.contract import BlobInfo, RangeRead, check_blob_name, check_range
from imgsyncfs.store.local_files import make_folders, md5_of, read_range, read_range_into, take_name, write_file
from imgsyncfs.store_urls import parse_file_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imgsyncfs.store.parts import RangeInParts

logger = logging.getLogger(__name__)

_UNFINISHED_PREFIX = ".imgsyncfs-"
_UNFINISHED_SUFFIX = ".part"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


class LocalStore:
    """A folder whose files are the blobs; see `imgsyncfs.store.Store` for what the methods promise.

    Args:
        url: ``file:///absolute/path``, percent-encoded where a path holds odd characters.

    Raises:
        ConfigurationError: the URL names no absolute path on this machine.
    """

    def __init__(self, url: str) -> None:
        self._folder = parse_file_url(url)
        self.url = self._folder.as_uri()

    def check(self) -> None:
        """Return if the folder is there and may be read."""
        with self._translated(""), os.scandir(self._folder):
            pass

    def create(self) -> None:
        """Make the folder, and those above it, unless it is there."""
        with self._translated(""):
            make_folders(self._folder)

    def read(self, blob: str, offset: int = 0, length: int | None = None, *, etag: str = "") -> bytes:
        """Read a range of a blob."""
        check_range(offset, length)
        self._path(blob)
        if length == 0:
            return b""
        with self._opened(blob, offset, length, etag) as (descriptor, stop):
            content = read_range(descriptor, offset, stop)
        self._check_length(blob, len(content), stop - offset)
        return content

    def read_into(self, blob: str, room: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob into memory."""
        check_range(offset, len(room))
        self._path(blob)
        if not room:
            return 0
        with self._opened(blob, offset, len(room), etag) as (descriptor, stop):
            count = read_range_into(room[: stop - offset], descriptor, offset)
        self._check_length(blob, count, stop - offset)
        return count

    def read_parts(self, blob: str, parts: RangeInParts, *, etag: str = "") -> None:
        """Read a range of a blob part by part; each is looked at by itself, for it is handed over before the next."""
        check_range(parts.offset, parts.left)
        self._path(blob)
        if not parts.left:
            return
        with self._opened(blob, parts.offset, parts.left, etag) as (_, stop):
            parts.begin()
        while parts.offset < stop:
            part = parts.room[: stop - parts.offset]
            self._check_length(blob, self.read_into(blob, part, parts.offset, etag=etag), len(part))
            parts.advance(len(part))
        parts.end()

    def read_all_into(self, reads: Sequence[RangeRead]) -> list[int]:
        """Read several ranges into memory, one after the other."""
        return [self.read_into(read.blob, read.room, read.offset, etag=read.etag) for read in reads]

    def write(self, blob: str, content: bytes | Path, *, md5: str = "") -> BlobInfo:
        """Write a new blob under a temporary name, bring it to the disk, then give it its own name."""
        path = self._path(blob)
        with open_content(content) as opened, self._translated(blob, writing=True):
            if not self._is_there(blob, path, opened, md5):
                # Never the store itself: where its disk isn't mounted, a new folder would hide that.
                self._folder.stat()
                make_folders(path.parent)
                unfinished = path.parent / f"{_UNFINISHED_PREFIX}{uuid.uuid4().hex}{_UNFINISHED_SUFFIX}"
                try:
                    digest = write_file(unfinished, opened, md5)
                    if take_name(unfinished, path):
                        sync_folder(path.parent)
                        return _describe(blob, path.stat(), md5=digest)
                finally:
                    unfinished.unlink(missing_ok=True)
                if not self._is_there(blob, path, opened, digest):
                    raise self._changed(blob, "it came and went while it was written")
            return _describe(blob, path.stat(), md5=md5)

    def describe(self, blob: str) -> BlobInfo:
        """Say what a blob is."""
        path = self._path(blob)
        with self._translated(blob):
            return _describe(blob, _regular(path.stat()))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs whose names start with `prefix`, folder by folder."""
        inner = prefix.rpartition("/")[0]
        if inner:
            self._path(inner)
        self.check()
        yield from self._walk(inner, prefix, above=frozenset())

    def close(self) -> None:
        """Nothing is kept open."""

    def _walk(self, inner: str, prefix: str, *, above: frozenset[tuple[int, int]]) -> Iterator[BlobInfo]:
        folders = []
        # A folder that is removed while it is listed holds no blobs.
        with self._translated(inner), suppress(FileNotFoundError, NotADirectoryError):
            folder = self._folder / inner
            status = folder.stat()
            # A symbolic link to a folder above would be walked for ever.
            if (status.st_dev, status.st_ino) in above:
                return
            above |= {(status.st_dev, status.st_ino)}
            with os.scandir(folder) as entries:
                for entry in entries:
                    blob = f"{inner}/{entry.name}" if inner else entry.name
                    if _is_unfinished(entry.name) or not (blob.startswith(prefix) or prefix.startswith(f"{blob}/")):
                        continue
                    entry_status = self._status(blob, entry)
                    if entry_status and stat.S_ISDIR(entry_status.st_mode):
                        folders.append(blob)
                    elif entry_status and blob.startswith(prefix):
                        yield _describe(blob, entry_status)
        for blob in folders:
            yield from self._walk(blob, prefix, above=above)

    def _status(self, blob: str, entry: os.DirEntry[str]) -> os.stat_result | None:
        """What lies at an entry, through symbolic links; None, with a word in the log, if it can be no blob."""
        reason = blob_name_fault(blob)
        if not reason:
            try:
                status = entry.stat()
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                reason = "it is a broken link, or was removed just now"
            else:
                if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                    return status
                reason = "it is no regular file"
        logger.warning("%r in %s is left out: %s.", blob, self.url, reason)
        return None

    def _path(self, blob: str) -> Path:
        check_blob_name(blob, self.url)
        if "" in blob.split("/"):
            raise StoreError(
                f"Blob name {blob!r} cannot be used in {self.url}: nothing stands beside one of its slashes; "
                "publish it under another name."
            )
        return self._folder / blob

    @contextmanager
    def _opened(self, blob: str, offset: int, length: int | None, etag: str) -> Iterator[tuple[int, int]]:
        """Open a blob and say up to where to read."""
        with self._translated(blob):
            # A pipe in the folder would otherwise hang the reader until somebody writes to it.
            descriptor = os.open(self._path(blob), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                byte_count = _regular(os.fstat(descriptor)).st_size
                if offset and offset >= byte_count:
                    raise self._changed(blob, f"it ends at byte {byte_count}, before {offset}")
                yield descriptor, byte_count if length is None else min(offset + length, byte_count)
                # Afterwards: it may have been replaced before, and may have been overwritten meanwhile.
                self._check_etag(blob, os.fstat(descriptor), etag)
            finally:
                os.close(descriptor)

    def _check_length(self, blob: str, byte_count: int, expected: int) -> None:
        if byte_count < expected:
            raise self._changed(blob, "it became shorter while it was read")

    def _is_there(self, blob: str, path: Path, content: Content, md5: str) -> bool:
        """Whether the blob is there as it should be; raises BlobChanged if another one has its name."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != content.byte_count or (md5 and md5_of(path) != md5):
            raise self._changed(blob, "another one has that name, with other content")
        return True

    def _check_etag(self, blob: str, status: os.stat_result, etag: str) -> None:
        if etag and _etag(status) != etag:
            raise self._changed(blob, "its etag is another one")

    def _changed(self, blob: str, reason: str) -> BlobChanged:
        return BlobChanged(
            f"Blob {blob} in {self.url} is not what it should be: {reason}; publish or index its dataset again."
        )

    @contextmanager
    def _translated(self, blob: str, *, writing: bool = False) -> Iterator[None]:
        """Turn what the operating system says into the words of `imgsyncfs.errors`."""
        try:
            yield
        except OSError as error:
            raise self._translate(error, blob, writing=writing) from error

    def _translate(self, error: OSError, blob: str, *, writing: bool) -> StoreError:
        thing = f"Blob {blob} in {self.url}" if blob else f"Store {self.url}"
        if error.errno in _FULL:
            return StoreError(f"{thing} was not written because the disk is full; free some space and run it again.")
        if error.errno in _REFUSED:
            action, place = ("written", (self._folder / blob).parent) if writing else ("read", self._folder / blob)
            return StoreRefused(f"{thing} may not be {action} ({error.strerror}); check the permissions of {place}.")
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            return StoreError(f"{thing} cannot be opened: too many files are open; raise the limit with `ulimit -n`.")
        if error.errno in _NOT_THERE and (not blob or not self._folder.is_dir()):
            return StoreMissing(
                f"Store {self.url} is not there ({error.strerror}); check the path, and that its disk is mounted."
            )
        if error.errno in _NOT_THERE and not writing:
            return BlobMissing(
                f"Blob {blob} is missing in {self.url}; bring it back, or publish or index its dataset again."
            )
        if error.errno in _NOT_THERE or isinstance(error, FileExistsError):
            return StoreError(
                f"{thing} cannot be written ({error.strerror}); choose another name, or move away what has it."
            )
        return StoreUnreachable(
            f"{thing} cannot be reached ({error.strerror or error}); check its disk or network connection."
        )


def _is_unfinished(name: str) -> bool:
    return name.startswith(_UNFINISHED_PREFIX) and name.endswith(_UNFINISHED_SUFFIX)


def _regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "no regular file")
    return status


def _etag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _describe(blob: str, status: os.stat_result, *, md5: str = "") -> BlobInfo:
    return BlobInfo(blob, status.st_size, md5, _etag(status), int(status.st_mtime))
