"""Make a cache folder ready, look at a cache, empty it, check it: while mounts use it, and without any.

A reader goes on with what it has open; what it looks for and is gone, it fetches again.

A writer that is killed between a file and the table leaves an orphan: a file that no entry leads to. A mount looks for
orphans once, soon after it has come up; `verify_cache` and `clear_cache` do so as well.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import stat
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import diskcache

from imgsyncfs.cache.extent import Entry, tagged_length
from imgsyncfs.cache.files import FOLDERS, ExtentFiles
from imgsyncfs.cache.table import DATABASE_NAME, DATABASE_SUFFIXES, ExtentTable, check_database, number_of_bytes
from imgsyncfs.errors import CacheError, CacheFull
from imgsyncfs.settings.limits import CacheLimits
from imgsyncfs.settings.private_folders import check_own_folder, has_no_room, make_own_folder
from imgsyncfs.stores.buffers import KeptBuffers
from imgsyncfs.workers.progress import Progress

logger = logging.getLogger(__name__)

REMOVED_AT_ONCE = 256
"""Entries taken out in one transaction: others wait for it some milliseconds."""

IN_FLIGHT_SECONDS = 60.0
"""A younger file may be one that a writer is about to add to the table."""

_SQL_FAULT = 1
"""SQLITE_ERROR: what a statement names is not there."""

Group = TypeVar("Group", bound=Hashable)

Chosen = Callable[[str], bool]
"""Whether an entry is meant, by its key."""


@dataclass(frozen=True)
class CacheContent(Generic[Group]):
    """What a cache holds.

    Attributes:
        byte_count: what it takes up of the disk, database included.
        limits: what the writer that was started last was told; None if there is no cache yet.
        groups: (entries, bytes of content) of each group of entries.
    """

    byte_count: int
    limits: CacheLimits | None
    groups: dict[Group, tuple[int, int]]


@dataclass(frozen=True)
class CacheCheck:
    """What a check found.

    Attributes:
        entries: how many were read.
        byte_count: of their content.
        damaged: entries whose content was not what was put, or was gone; removed.
        orphans: files that no entry led to; removed.
    """

    entries: int
    byte_count: int
    damaged: int
    orphans: int


def extents_folder(cache_dir: Path) -> Path:
    """Where the extents lie within the folder of the disk cache, which holds listings and logs as well."""
    return cache_dir / "extents"


def prepare_cache(folder: Path, *, check: bool = False) -> str:
    """Make the cache folder, or throw away what is in one whose database is damaged, or none of ours.

    Args:
        folder: made with mode 0700, which it gets again if it holds a cache and has another one.
        check: read the whole database to see whether it is damaged; else only what shows at once is seen.

    Returns:
        A sentence on what was thrown away, and why; empty if nothing was.

    Raises:
        CacheFull: its disk has no room.
        CacheError: the folder cannot be made or written, or is not the user's alone.
    """
    make_own_folder(folder)
    check_database(folder)
    try:
        _hide(folder)
        with contextlib.closing(ExtentFiles(folder)) as files:
            try:
                _prepare(files, check=check)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and not _is_none_of_ours(error):
                    # It cannot be opened: no reason to throw it away.
                    raise
                _throw_away(files)
                _prepare(files, check=False)
                return f"The cache in {folder} was damaged, or none of ours ({error}), and has been begun anew."
            return ""
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        kind = CacheFull if is_without_room(error) else CacheError
        raise kind(
            f"The cache folder {folder} cannot be used ({error}); choose another one.", option="cache_dir"
        ) from error


def _is_none_of_ours(error: sqlite3.OperationalError) -> bool:
    """Whether a database was opened, and its tables are others than a cache has."""
    # Python before 3.11 does not give SQLite's number.
    return getattr(error, "sqlite_errorcode", _SQL_FAULT) == _SQL_FAULT and any(
        said in str(error) for said in ("no such ", "has no column", "already another", "may not be ")
    )


def is_without_room(error: Exception) -> bool:
    """Whether an error of the cache says that its disk is full."""
    if isinstance(error, OSError):
        return has_no_room(error)
    # Python before 3.11 does not give SQLite's number (SQLITE_FULL).
    return isinstance(error, sqlite3.OperationalError) and "full" in str(error)


def cache_content(folder: Path, group: Callable[[str], Group]) -> CacheContent[Group]:
    """See what a cache holds; reads no content.

    Args:
        folder: the cache's.
        group: the group that a key's entry belongs to.

    Raises:
        CacheError: the cache cannot be read, or is somebody else's.
    """
    groups: dict[Group, tuple[int, int]] = {}
    check_own_folder(folder)
    if not folder.is_dir():
        return CacheContent(0, None, groups)
    with _opened(folder) as (table, _):
        for key, tag in table.tags():
            if not isinstance(key, str):
                continue
            name = group(key)
            count, byte_count = groups.get(name, (0, 0))
            groups[name] = (count + 1, byte_count + tagged_length(tag))
        return CacheContent(table.volume(), table.limits, groups)


def clear_cache(folder: Path, *, chosen: Chosen | None = None, progress: Progress) -> tuple[int, int]:
    """Remove entries, but for those that are pinned.

    Args:
        folder: the cache's.
        chosen: which ones; None removes all, and every file without an entry.
        progress: in entries.

    Returns:
        (entries, bytes of content) removed.

    Raises:
        CacheError: the cache cannot be written, or is somebody else's.
    """
    check_own_folder(folder)
    if not folder.is_dir():
        return 0, 0
    # Throws away one whose database is damaged: to clear it is the way out.
    if remark := prepare_cache(folder, check=True):
        logger.warning("%s", remark)
    count = byte_count = 0
    with _opened(folder) as (table, files):
        progress.phase("Clearing", table.entry_count(), "extents")
        entries = table.entries(contents=False)
        while portion := list(islice(entries, REMOVED_AT_ONCE)):
            going = [entry for entry in portion if _is_meant(entry.key, chosen) and not table.is_pinned(entry.key)]
            removed = _remove(files, table, going)
            count += len(removed)
            byte_count += sum(map(_length, removed))
            progress.advance(len(portion))
        if chosen is None:
            remove_orphans(files, table, older_than=0.0)
            table.add_up()
        table.shorten_log()
    return count, byte_count


def verify_cache(folder: Path, *, chosen: Chosen | None = None, progress: Progress) -> CacheCheck:
    """Read entries and compare their lengths and digests; remove what is damaged, and files that no entry leads to.

    Args:
        folder: the cache's.
        chosen: which entries; None checks all, and looks for files without an entry.
        progress: in bytes.

    Raises:
        CacheError: the cache cannot be read, its database is damaged, or it is somebody else's.
    """
    check_own_folder(folder)
    if not folder.is_dir():
        return CacheCheck(0, 0, 0, 0)
    count = byte_count = damaged = orphans = 0
    buffers = KeptBuffers()
    with _opened(folder) as (table, files):
        table.check()
        tags = (tag for key, tag in table.tags() if _is_meant(key, chosen))
        progress.phase("Checking", sum(map(tagged_length, tags)), "bytes")
        for entry in table.entries(contents=True):
            if not _is_meant(entry.key, chosen):
                continue
            if not _is_sound(files, entry, buffers):
                removed = _remove(files, table, [entry])
                for each in removed:
                    logger.warning("A cached extent is damaged and is removed: %s", each.key)
                damaged += len(removed)
            count += 1
            byte_count += _length(entry)
            progress.advance(_length(entry))
        if chosen is None:
            orphans = remove_orphans(files, table)
            table.add_up()
    return CacheCheck(count, byte_count, damaged, orphans)


def remove_orphans(files: ExtentFiles, table: ExtentTable, *, older_than: float = IN_FLIGHT_SECONDS) -> int:
    """Remove the files that no entry leads to.

    Other processes may write meanwhile: a file is found before the table is asked, so that one with an entry by then
    stays. One folder is done at a time: 200,000 entries take 0.7 s in all, and nobody waits for more than a sixteenth.

    Args:
        files: the cache's.
        table: the cache's.
        older_than: seconds since an orphan was last written; younger files stay.

    Returns:
        The number of files removed.

    Raises:
        OSError: a folder cannot be read or written.
        sqlite3.Error: the table cannot be read.
    """
    before = time.time() - older_than
    count = 0
    for folder in FOLDERS:
        found = files.names(folder)
        found -= table.filenames(folder)
        count += files.remove(name for name in found if files.modified_at(name) <= before)
    return count


def _is_meant(key: object, chosen: Chosen | None) -> bool:
    """Whether an entry is meant; one whose key is no text belongs to nothing that can be chosen."""
    return chosen is None or (isinstance(key, str) and chosen(key))


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[tuple[ExtentTable, ExtentFiles]]:
    with (
        table_faults(folder),
        contextlib.closing(ExtentTable(folder)) as table,
        contextlib.closing(ExtentFiles(folder)) as files,
    ):
        yield table, files


@contextlib.contextmanager
def table_faults(folder: Path) -> Iterator[None]:
    """Make a `CacheError` of what the cache's table, or its files, may raise.

    Args:
        folder: the cache's.
    """
    try:
        yield
    except diskcache.Timeout as error:
        raise CacheError(
            f"The cache in {folder} is busy; try again when the mounts that use it have less to do."
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise CacheError(
            f"The cache in {folder} cannot be used ({error}); if it is damaged, clear it with: imgsyncfs cache clear"
        ) from error


def _remove(files: ExtentFiles, table: ExtentTable, entries: Sequence[Entry]) -> list[Entry]:
    """Remove entries and their files; return those that were still there."""
    if not entries:
        return []
    with table.writing():
        removed, freed = table.remove(entries)
    files.remove(freed)
    return removed


def _is_sound(files: ExtentFiles, entry: Entry, buffers: KeptBuffers) -> bool:
    """Whether an entry's values are what a writer puts, and its content is what its tag says."""
    if not isinstance(entry.key, str) or entry.size != number_of_bytes(entry.size):
        return False
    try:
        extent = files.open(entry)
        return extent is not None and extent.matches(entry.tag, buffers)
    except OSError as error:
        logger.warning("A cached extent cannot be read: %s (%s)", entry.key, error)
        return False


def _length(entry: Entry) -> int:
    return tagged_length(entry.tag)


def _hide(folder: Path) -> None:
    """Keep others from reading a cache: SQLite makes files that everyone may read. Nothing but a cache is touched."""
    if (folder / DATABASE_NAME).exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def _prepare(files: ExtentFiles, *, check: bool) -> None:
    files.make_folders()
    with contextlib.closing(ExtentTable(files.folder)) as table:
        if check:
            table.check()


def _throw_away(files: ExtentFiles) -> None:
    """Remove the database and the files that it led to, by their names: the folder may hold other things as well."""
    for suffix in DATABASE_SUFFIXES:
        (files.folder / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
    for name in FOLDERS:
        files.remove(files.names(name))
