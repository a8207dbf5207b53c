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
import hashlib
import logging
import os
import stat
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from imgsyncfs.blob_layout import MEBIBYTE
from imgsyncfs.errors import BlobRefused, StoreError, StoreMissing, StoreRefused, StoreUnreachable
from imgsyncfs.stores.beneath import LinkLeadsOut, open_beneath
from imgsyncfs.stores.contract import (
    BlobInfo,
    Content,
    Store,
    blob_changed,
    blob_missing,
    blob_name_fault,
    check_blob_name,
    check_range,
    open_content,
)
from imgsyncfs.stores.urls import parse_file_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

COPY_BYTES = 1 * MEBIBYTE

_UNFINISHED_PREFIX = ".imgsyncfs-"
_UNFINISHED_SUFFIX = ".part"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_LINKLESS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
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
        with self._translated(""), _closing(self._open(".", os.O_RDONLY | os.O_DIRECTORY)) as descriptor:
            os.scandir(descriptor).close()

    def create(self) -> None:
        """Make the folder, and those above it, unless it is there."""
        with self._translated(""):
            _make_folders(self._folder)

    def read_into(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> int:
        """Read a range of a blob into a buffer."""
        check_range(offset, len(buffer))
        self._check_name(blob)
        if not buffer:
            return 0
        with self._opened(blob, offset, len(buffer), etag) as (descriptor, stop):
            count = _read_range_into(buffer[: stop - offset], descriptor, offset)
        if count < stop - offset:
            raise blob_changed(blob, self.url, "it became shorter while it was read")
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
        """Describe a blob."""
        self._check_name(blob)
        with self._translated(blob):
            return _describe(blob, _regular(self._status(blob)))

    def check_writable(self, folder: str) -> None:
        """Ask the operating system."""
        self.check()
        place = self._folder / folder
        place = place if place.is_dir() else self._folder
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            raise StoreRefused(
                f"Store {self.url} may not be written; have its owner give you the right to write to {place}, or "
                "publish as another user."
            )

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs whose names start with `prefix`, folder by folder."""
        inner = prefix.rpartition("/")[0]
        if inner:
            self._check_name(inner)
        self.check()
        yield from self._walk(inner, prefix, above=frozenset())

    def _open(self, name: str, flags: int) -> int:
        """Open something beneath the folder."""
        with _closing(self._open_root()) as root:
            return open_beneath(root, self._path, name, flags)

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
        with _closing(self._open(name, os.O_PATH)) as descriptor:
            return os.fstat(descriptor)

    def _written(self, blob: str, content: Content, md5: str) -> tuple[os.stat_result, str]:
        """Write a blob that is not there, and say what it is: its status and md5, as far as that is known."""
        inner, _, name = blob.rpartition("/")
        unfinished = f"{_UNFINISHED_PREFIX}{uuid.uuid4().hex}{_UNFINISHED_SUFFIX}"
        # Never the store itself: where its disk isn't mounted, a new folder would hide that.
        with _closing(self._open_root()) as root:
            opened = _open_made_folder(root, self._path, inner or ".")
        with _closing(opened) as folder:
            try:
                digest = _write_file(folder, unfinished, content, md5)
                if _take_name(folder, unfinished, name):
                    _sync_open_folder(folder)
                    return os.stat(name, dir_fd=folder, follow_symlinks=False), digest
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(unfinished, dir_fd=folder)
        status = self._found(blob, content, digest)
        if status is None:
            raise blob_changed(blob, self.url, "it came and went while it was written")
        return status, md5

    def _walk(self, inner: str, prefix: str, *, above: frozenset[tuple[int, int]]) -> Iterator[BlobInfo]:
        folders = []
        # A folder that is removed while it is listed holds no blobs.
        with (
            self._translated(inner),
            suppress(FileNotFoundError, NotADirectoryError),
            _closing(self._open(inner or ".", os.O_RDONLY | os.O_DIRECTORY)) as descriptor,
        ):
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
        # A pipe in the folder would otherwise hang the reader until somebody writes to it.
        flags = os.O_RDONLY | os.O_NONBLOCK
        with self._translated(blob), _closing(self._open(blob, flags)) as descriptor:
            byte_count = _regular(os.fstat(descriptor)).st_size
            if offset and offset >= byte_count:
                raise blob_changed(blob, self.url, f"it ends at byte {byte_count}, before {offset}")
            yield descriptor, min(offset + length, byte_count)
            # Afterwards: it may have been replaced before, and may have been overwritten meanwhile.
            if etag and _etag(os.fstat(descriptor)) != etag:
                raise blob_changed(blob, self.url, "its etag is another one")

    def _found(self, blob: str, content: Content, md5: str) -> os.stat_result | None:
        """The blob if it is there as it should be, else None; raises BlobChanged if another one has its name."""
        try:
            status = self._status(blob)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode) or status.st_size != content.byte_count or not self._has(blob, md5):
            raise blob_changed(blob, self.url, "another one has that name, with other content")
        return status

    def _has(self, blob: str, md5: str) -> bool:
        """Whether a blob has a digest; an empty one is any."""
        if not md5:
            return True
        with _closing(self._open(blob, os.O_RDONLY | os.O_NONBLOCK)) as descriptor:
            return _md5_of(descriptor) == md5

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
            return blob_missing(blob, self.url)
        if error.errno in _NOT_THERE or isinstance(error, FileExistsError):
            return StoreError(
                f"{thing} cannot be written ({error.strerror}); choose another name, or move away what has it."
            )
        return StoreUnreachable(
            f"{thing} cannot be reached ({error.strerror or error}); check its disk or network connection."
        )


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    with _closing(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        _sync_open_folder(descriptor)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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


def _read_range_into(buffer: memoryview, descriptor: int, start: int) -> int:
    """Read a range of an open file into a buffer; returns the number of bytes, less where the file ends."""
    received = 0
    while received < len(buffer):
        count = os.preadv(descriptor, [buffer[received:]], start + received)
        if not count:
            break
        received += count
    return received


def _md5_of(descriptor: int) -> str:
    """The MD5 digest of an open file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    position = 0
    while block := os.pread(descriptor, COPY_BYTES, position):
        digest.update(block)
        position += len(block)
    return digest.hexdigest()


def _write_file(folder: int, name: str, content: Content, md5: str) -> str:
    """Write a new file with the modes of the umask into an open folder, bring it to the disk, and return its md5."""
    digest = ""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o666, dir_fd=folder), "wb") as stream:  # noqa: PTH123  # a Path has no dir_fd
        for block, digest_so_far in content.blocks(COPY_BYTES, md5=md5):
            stream.write(block)
            digest = digest_so_far
        stream.flush()
        os.fsync(stream.fileno())
    return digest


def _take_name(folder: int, unfinished: str, name: str) -> bool:
    """Give a finished file of an open folder its name unless that is taken; says whether it got it."""
    try:
        os.link(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _LINKLESS:
            raise
        # A disk without hard links (exFAT, some network disks). Between the question and the renaming another writer
        # could come in; names say what is in a blob, so it would bring the same content.
        if _has(folder, name):
            return False
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    return True


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, each brought to the disk, so that no crash leaves rows without blobs."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def _open_made_folder(root: int, root_path: str, name: str) -> int:
    """Open a folder beneath another for reading; make it and those above it as `_make_folders` does."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    if name == ".":
        return open_beneath(root, root_path, name, flags)
    with suppress(FileNotFoundError):
        return open_beneath(root, root_path, name, flags)
    above, _, last = name.rpartition("/")
    with _closing(_open_made_folder(root, root_path, above or ".")) as parent:
        with suppress(FileExistsError):
            os.mkdir(last, dir_fd=parent)
        _sync_open_folder(parent)
    return open_beneath(root, root_path, name, flags)


def _has(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _sync_open_folder(descriptor: int) -> None:
    """Bring the names of a folder that is open for reading to the disk."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks can't do this for folders, and need it not.
        if error.errno != errno.EINVAL:
            raise
