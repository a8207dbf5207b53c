"""A local folder as a store: each blob is a file.

Whoever may write into the folder decides what lies there, and nothing about other folders of whoever reads: everything
is opened beneath the folder (`imgsyncfs.stores.beneath`), so that no link leads a reader or a writer out of it. Links
within it are followed, and so are those in the folder's own path, which its owner chose.

The folder is opened anew for each operation: a descriptor that is kept would keep its disk from being unmounted.

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
from typing import TYPE_CHECKING

from imgsyncfs.errors import (
    BlobChanged,
    BlobMissing,
    BlobRefused,
    StoreError,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from imgsyncfs.stores.beneath import LinkLeadsOut, open_beneath
from imgsyncfs.stores.blob_names import blob_name_fault
from imgsyncfs.stores.blocks import Content, open_content
from imgsyncfs.stores.contract import BlobInfo, Store, check_blob_name, check_range
from imgsyncfs.stores.local_files import (
    make_folders,
    md5_of,
    open_made_folder,
    read_range_into,
    sync_open_folder,
    take_name,
    write_file,
)
from imgsyncfs.stores.urls import parse_file_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_UNFINISHED_PREFIX = ".imgsyncfs-"
_UNFINISHED_SUFFIX = ".part"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


class LocalStore(Store):
    """A folder whose files are the blobs; see `imgsyncfs.stores.contract.Store` for what the methods promise.

    Args:
        url: ``file:///absolute/path``, percent-encoded where a path holds odd characters.
        within: URL of a folder above that no link in the store's own path may lead out of; empty if there is none.

    Raises:
        ConfigurationError: the URL names no absolute path on this machine.
    """

    def __init__(self, url: str, *, within: str = "") -> None:
        self._folder = parse_file_url(url)
        self._url = self._folder.as_uri()
        self._path = str(self._folder)
        above = parse_file_url(within) if within else self._folder
        self._above = str(above)
        self._inner = str(self._folder.relative_to(above))

    @property
    def url(self) -> str:
        """The folder's URL."""
        return self._url

    @property
    def is_cheap_to_read(self) -> bool:
        """No network lies between, and the file system keeps no digest."""
        return True

    def check(self) -> None:
        """Return if the folder is there and may be read."""
        with self._translated(""):
            descriptor = self._open(".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.scandir(descriptor).close()
            finally:
                os.close(descriptor)

    def create(self) -> None:
        """Make the folder, and those above it, unless it is there."""
        with self._translated(""):
            make_folders(self._folder)

    def read_into(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob into a buffer."""
        check_range(offset, len(buffer))
        self._check_name(blob)
        if not buffer:
            return 0
        with self._opened(blob, offset, len(buffer), etag) as (descriptor, stop):
            count = read_range_into(buffer[: stop - offset], descriptor, offset)
        if count < stop - offset:
            raise self._changed(blob, "it became shorter while it was read")
        return count

    def write(self, blob: str, content: bytes | Path, *, md5: str = "") -> BlobInfo:
        """Write a new blob under a temporary name, bring it to the disk, then give it its own name."""
        self._check_name(blob)
        with open_content(content) as opened, self._translated(blob, writing=True):
            status = self._found(blob, opened, md5)
            if status is None:
                status, md5 = self._written(blob, opened, md5)
            return _describe(blob, status, md5=md5)

    def describe(self, blob: str) -> BlobInfo:
        """Say what a blob is."""
        self._check_name(blob)
        with self._translated(blob):
            return _describe(blob, _regular(self._status(blob)))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs whose names start with `prefix`, folder by folder."""
        inner = prefix.rpartition("/")[0]
        if inner:
            self._check_name(inner)
        self.check()
        yield from self._walk(inner, prefix, above=frozenset())

    def _open(self, name: str, flags: int) -> int:
        """Open something beneath the folder."""
        root = self._open_root()
        try:
            return open_beneath(root, self._path, name, flags)
        finally:
            os.close(root)

    def _open_root(self) -> int:
        above = os.open(self._above, _FOLDER)
        if self._inner == ".":
            return above
        try:
            return open_beneath(above, self._above, self._inner, _FOLDER)
        except LinkLeadsOut as error:
            raise StoreRefused(
                f"Store {self.url} is not used: a link in its path leads out of {self._above}, the folder that is "
                "allowed; name the folder that the link leads to, and allow that one."
            ) from error
        finally:
            os.close(above)

    def _status(self, name: str) -> os.stat_result:
        """What lies at a name, through the links on the way."""
        descriptor = self._open(name, os.O_PATH)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _written(self, blob: str, content: Content, md5: str) -> tuple[os.stat_result, str]:
        """Write a blob that is not there, and say what it is: its status and md5, as far as that is known."""
        inner, _, name = blob.rpartition("/")
        unfinished = f"{_UNFINISHED_PREFIX}{uuid.uuid4().hex}{_UNFINISHED_SUFFIX}"
        # Never the store itself: where its disk isn't mounted, a new folder would hide that.
        root = self._open_root()
        try:
            folder = open_made_folder(root, self._path, inner or ".")
        finally:
            os.close(root)
        try:
            digest = write_file(folder, unfinished, content, md5)
            if take_name(folder, unfinished, name):
                sync_open_folder(folder)
                return os.stat(name, dir_fd=folder, follow_symlinks=False), digest
        finally:
            with suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=folder)
            os.close(folder)
        status = self._found(blob, content, digest)
        if status is None:
            raise self._changed(blob, "it came and went while it was written")
        return status, md5

    def _walk(self, inner: str, prefix: str, *, above: frozenset[tuple[int, int]]) -> Iterator[BlobInfo]:
        folders = []
        # A folder that is removed while it is listed holds no blobs.
        with self._translated(inner), suppress(FileNotFoundError, NotADirectoryError):
            descriptor = self._open(inner or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                status = os.fstat(descriptor)
                # A symbolic link to a folder above would be walked for ever.
                if (status.st_dev, status.st_ino) in above:
                    return
                above |= {(status.st_dev, status.st_ino)}
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        blob = f"{inner}/{entry.name}" if inner else entry.name
                        if _is_unfinished(entry.name) or not (blob.startswith(prefix) or prefix.startswith(f"{blob}/")):
                            continue
                        entry_status = self._entry_status(blob, entry)
                        if entry_status and stat.S_ISDIR(entry_status.st_mode):
                            folders.append(blob)
                        elif entry_status and blob.startswith(prefix):
                            yield _describe(blob, entry_status)
            finally:
                os.close(descriptor)
        for blob in folders:
            yield from self._walk(blob, prefix, above=above)

    def _entry_status(self, blob: str, entry: os.DirEntry[str]) -> os.stat_result | None:
        """What lies at an entry, through symbolic links; None, with a word in the log, if it can be no blob."""
        reason = blob_name_fault(blob)
        if not reason:
            try:
                status = self._status(blob) if entry.is_symlink() else entry.stat(follow_symlinks=False)
            except LinkLeadsOut:
                reason = "a link leads out of the store's folder"
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

    def _check_name(self, blob: str) -> None:
        check_blob_name(blob, self.url)
        if "" in blob.split("/"):
            raise StoreError(
                f"Blob name {blob!r} cannot be used in {self.url}: nothing stands beside one of its slashes; "
                "publish it under another name."
            )

    @contextmanager
    def _opened(self, blob: str, offset: int, length: int, etag: str) -> Iterator[tuple[int, int]]:
        """Open a blob and say up to where to read."""
        with self._translated(blob):
            # A pipe in the folder would otherwise hang the reader until somebody writes to it.
            descriptor = self._open(blob, os.O_RDONLY | os.O_NONBLOCK)
            try:
                byte_count = _regular(os.fstat(descriptor)).st_size
                if offset and offset >= byte_count:
                    raise self._changed(blob, f"it ends at byte {byte_count}, before {offset}")
                yield descriptor, min(offset + length, byte_count)
                # Afterwards: it may have been replaced before, and may have been overwritten meanwhile.
                self._check_etag(blob, os.fstat(descriptor), etag)
            finally:
                os.close(descriptor)

    def _found(self, blob: str, content: Content, md5: str) -> os.stat_result | None:
        """The blob if it is there as it should be, else None; raises BlobChanged if another one has its name."""
        try:
            status = self._status(blob)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != content.byte_count or not self._has(blob, md5):
            raise self._changed(blob, "another one has that name, with other content")
        return status

    def _has(self, blob: str, md5: str) -> bool:
        """Whether a blob has a digest; an empty one is any."""
        if not md5:
            return True
        descriptor = self._open(blob, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return md5_of(descriptor) == md5
        finally:
            os.close(descriptor)

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
        if isinstance(error, LinkLeadsOut):
            return BlobRefused(
                f"{thing} is not used: a link in its path leads out of the store's folder; put the file itself there, "
                "or make a store of the folder that the link leads to, and allow that one."
            )
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
