"""Documents in the cache folder: files about whole datasets that took long to write, and are the same for every mount.

Each is a file under a name that says all that its bytes depend on. Its end says how long the document is, what else is
known of it, and a digest of both: it is compared before a document is used, and one that does not match is removed. A
file gets its name when it is complete; before that it has none, and goes with its writer.

Documents have room of their own beside the extents, a share of the cache's limit: those that were used least recently
are removed to make room. Whoever has one open sees that (`KeptDocument.is_removed`) and lets go of it: a file takes up
room until the last descriptor is closed.

Threads and processes: any number, without a lock. A file is never changed after it has its name, but for its times.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import xxhash

from imgsyncfs.cache.files import disk_bytes
from imgsyncfs.errors import CacheError
from imgsyncfs.settings.limits import CacheLimits, disk_space
from imgsyncfs.settings.private_folders import check_own_folder, make_own_folder, open_own_file, own_file_fault
from imgsyncfs.workers.progress import Progress

logger = logging.getLogger(__name__)

DOCUMENTS_FOLDER = "documents"

SHARE = 4
"""Documents take up one part in so many of the cache's limit, beside the extents."""

SUFFIX = ".document"

_UNFINISHED = ".unfinished-"
"""Begins the name of a file that is being written where the disk makes none without a name."""

ABANDONED_SECONDS = 3600.0
"""An unfinished file that nobody has written to for so long was left by a writer that was killed."""

CHUNK_BYTES = 1 << 20

MOST_TRIES = 3
"""After as many times that a name was taken by what is of no use, something is wrong with the folder."""

_MAGIC = b"imgsync1"

_END = struct.Struct("<8sQQ16s")
"""What a file ends with: the magic, the length of the document, the length of the record, the digest of both."""


@dataclass(frozen=True)
class DocumentsCheck:
    """What a check of documents found.

    Attributes:
        documents: how many were read.
        byte_count: what they take up of the disk.
        damaged: those that were not what was written; removed.
    """

    documents: int
    byte_count: int
    damaged: int


@dataclass(frozen=True)
class KeptDocument:
    """A document that is open.

    Attributes:
        descriptor: of the file, which begins with the document; closed with this object.
        length: of the document in bytes.
        record: what else is known of it; JSON-able.
    """

    descriptor: int = field(repr=False)
    length: int
    record: dict[str, Any]

    def is_removed(self) -> bool:
        """Whether its file has no name any more: somebody made room, or emptied the cache."""
        return os.fstat(self.descriptor).st_nlink == 0

    def content(self) -> bytes:
        """The whole document."""
        return os.pread(self.descriptor, self.length, 0)

    def __del__(self) -> None:
        os.close(self.descriptor)


class NewDocument:
    """A file to write a document into; gone with this object unless it was kept.

    Attributes:
        descriptor: of the file, for reading and writing.
        path: of the file where the disk makes none without a name.
    """

    def __init__(self, descriptor: int, path: Path | None) -> None:
        self.descriptor = descriptor
        self.path = path

    def __del__(self) -> None:
        os.close(self.descriptor)
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def write_document(target: BinaryIO, chunks: Iterable[bytes], record: Callable[[], dict[str, Any]]) -> int:
    """Write a document with what a file of it ends with.

    Args:
        target: the file, empty.
        chunks: the document.
        record: gives what else is to be known of it, JSON-able; called when the chunks have ended.

    Returns:
        The document's length in bytes.

    Raises:
        OSError: the file cannot be written.
    """
    digest = xxhash.xxh3_128()
    length = 0
    for chunk in chunks:
        digest.update(chunk)
        target.write(chunk)
        length += len(chunk)
    encoded = orjson.dumps(record())
    digest.update(encoded)
    target.write(encoded + _END.pack(_MAGIC, length, len(encoded), digest.digest()))
    return length


class DocumentsFolder:
    """The documents of a cache.

    Args:
        cache_dir: the folder of the disk cache.
        limits: of the cache.
    """

    def __init__(self, cache_dir: Path, limits: CacheLimits) -> None:
        self.folder = cache_dir / DOCUMENTS_FOLDER
        self.most_bytes = limits.size_limit // SHARE
        self._keep_free = limits.keep_free

    def new(self) -> NewDocument:
        """Make a file to write a document into.

        Raises:
            CacheError: it cannot be made.
        """
        make_own_folder(self.folder)
        try:
            with suppress(OSError):
                flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                return NewDocument(os.open(self.folder, flags, 0o600), None)
            # Not every file system can make one without a name.
            descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self.folder)
        except OSError as error:
            raise CacheError(
                f"No file can be made in {self.folder} ({error.strerror}); make room, or see to its rights."
            ) from error
        return NewDocument(descriptor, Path(name))

    def find(self, name: str) -> KeptDocument | None:
        """The document of a name, which counts as used by that; None if there is none. A damaged one is removed."""
        found = _sound(self._path(name))
        if found is not None:
            with suppress(OSError):
                os.utime(found.descriptor)
        return found

    def keep(self, new: NewDocument, name: str) -> KeptDocument:
        """Give a document that was written its name.

        Returns:
            The document; that of another process if it has kept one under this name meanwhile.

        Raises:
            CacheError: it cannot be kept.
        """
        path = self._path(name)
        try:
            self.make_room(os.fstat(new.descriptor).st_size)
            for _ in range(MOST_TRIES):
                if _name(new, path):
                    return _opened(path)
                known = self.find(name)
                if known is not None:
                    return known
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        except (OSError, ValueError) as error:
            raise CacheError(
                f"A document cannot be kept in {self.folder} ({error}); make room on its disk, or see to its rights."
            ) from error

    def make_room(self, byte_count: int) -> None:
        """Remove what was used least recently, until so many bytes more keep within the limits.

        Raises:
            CacheError: they cannot, with nothing else there.
            OSError: the folder cannot be read.
        """
        if byte_count > self.most_bytes:
            raise too_long(self.most_bytes)
        found = sorted(_files(self.folder))
        excess = sum(each.byte_count for each in found) + disk_bytes(byte_count) - self.most_bytes
        excess = max(excess, self._keep_free - disk_space(self.folder).free)
        before = time.time() - ABANDONED_SECONDS
        for each in found:
            is_unfinished = each.path.name.startswith(_UNFINISHED)
            if each.used_at < before if is_unfinished else excess > 0:
                each.path.unlink(missing_ok=True)
                excess -= each.byte_count

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"


def too_long(most_bytes: int) -> CacheError:
    """The error for a document that is longer than all documents may be together."""
    return CacheError(
        f"It takes up more than {most_bytes / 1e6:,.0f} MB, the part of the cache's limit that is for such files; make "
        "the cache larger.",
        option="cache_size",
    )


def documents_volume(cache_dir: Path) -> tuple[int, int]:
    """How many documents a cache has, and how many bytes of the disk they take up.

    Raises:
        CacheError: the folder is not the user's alone.
    """
    folder = cache_dir / DOCUMENTS_FOLDER
    check_own_folder(folder)
    found = list(_files(folder))
    return len(found), sum(each.byte_count for each in found)


def clear_documents(cache_dir: Path, *, chosen: Callable[[dict[str, Any]], bool] | None = None) -> tuple[int, int]:
    """Remove documents.

    Args:
        cache_dir: the folder of the disk cache.
        chosen: which ones, by their records; None removes all, and what belongs to nothing.

    Returns:
        How many were removed, and how many bytes of the disk they took up.

    Raises:
        CacheError: one cannot be removed.
    """
    folder = cache_dir / DOCUMENTS_FOLDER
    check_own_folder(folder)
    removed = [each for each in _files(folder) if chosen is None or _is_meant(each.path, chosen)]
    try:
        for each in removed:
            each.path.unlink(missing_ok=True)
    except OSError as error:
        raise CacheError(f"A document of {folder} cannot be removed ({error}); see to its rights.") from error
    return len(removed), sum(each.byte_count for each in removed)


def verify_documents(
    cache_dir: Path, *, chosen: Callable[[dict[str, Any]], bool] | None = None, progress: Progress
) -> DocumentsCheck:
    """Read documents and compare their digests; remove those that are damaged.

    Args:
        cache_dir: the folder of the disk cache.
        chosen: which ones, by their records; None checks all.
        progress: in bytes.

    Raises:
        CacheError: the folder is not the user's alone.
    """
    folder = cache_dir / DOCUMENTS_FOLDER
    check_own_folder(folder)
    found = [each for each in _files(folder) if each.path.suffix == SUFFIX]
    found = [each for each in found if chosen is None or _is_meant(each.path, chosen)]
    progress.phase("Checking documents", sum(each.byte_count for each in found), "bytes")
    damaged = 0
    for each in found:
        damaged += _sound(each.path) is None
        progress.advance(each.byte_count)
    return DocumentsCheck(len(found), sum(each.byte_count for each in found), damaged)


@dataclass(frozen=True, order=True)
class _File:
    used_at: float
    path: Path
    byte_count: int


def _files(folder: Path) -> Iterator[_File]:
    """The files of documents, complete or not."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.endswith(SUFFIX) or entry.name.startswith(_UNFINISHED):
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield _File(status.st_mtime, Path(entry.path), disk_bytes(status.st_size))


def _name(new: NewDocument, path: Path) -> bool:
    """Give a file its name; says whether it was free."""
    try:
        if new.path is None:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # With a folder's descriptor Python has the link followed, which leads to the file without a name.
                os.link(f"/proc/self/fd/{new.descriptor}", path.name, dst_dir_fd=folder)
            finally:
                os.close(folder)
        elif path.exists():
            return False
        else:
            # Not a second name: such a disk may have none of those either. Who comes at once replaces it by the same.
            new.path.rename(path)
    except FileExistsError:
        return False
    return True


def _sound(path: Path) -> KeptDocument | None:
    """Open a document if it is what was written; one that is not is removed."""
    try:
        return _opened(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("A kept document cannot be used: %s (%s)", path, error)
        if isinstance(error, ValueError) or error.errno == errno.EIO:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return None


def _opened(path: Path) -> KeptDocument:
    """Open a document and compare its digest.

    Raises:
        ValueError: it is damaged, or no file of the user's.
        OSError: it cannot be opened or read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link") from error
        raise
    try:
        length, record = _checked(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return KeptDocument(descriptor, length, record)


def _checked(path: Path, descriptor: int) -> tuple[int, dict[str, Any]]:
    fault = own_file_fault(path, os.fstat(descriptor))
    if fault is not None:
        raise ValueError(fault)
    size, length, record_length, expected = _end_of(descriptor)
    digest = xxhash.xxh3_128()
    for start in range(0, length, CHUNK_BYTES):
        digest.update(os.pread(descriptor, min(CHUNK_BYTES, length - start), start))
    encoded = os.pread(descriptor, record_length, length)
    digest.update(encoded)
    if digest.digest() != expected or os.fstat(descriptor).st_size != size:
        raise ValueError("its content is not what was written")
    return length, orjson.loads(encoded)


def _end_of(descriptor: int) -> tuple[int, int, int, bytes]:
    """(size of the file, length of the document, length of the record, digest)."""
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, _END.size, max(0, size - _END.size))
    magic, length, record_length, digest = _END.unpack(end) if len(end) == _END.size else (b"", 0, 0, b"")
    if magic != _MAGIC or length + record_length + _END.size != size:
        raise ValueError("it was cut off")
    return size, length, record_length, digest


def _is_meant(path: Path, chosen: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether a document is meant, by its record, which is not verified; one that has none belongs to nothing."""
    try:
        with os.fdopen(open_own_file(path), "rb") as stream:
            _, length, record_length, _ = _end_of(stream.fileno())
            record = orjson.loads(os.pread(stream.fileno(), record_length, length))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and chosen(record)
