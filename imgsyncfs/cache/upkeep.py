"""Look at a cache, empty it, check it. All of it works while mounts use the cache, and without any.

A reader goes on with what it has open; what it looks for and is gone, it fetches again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import diskcache

from imgsyncfs.cache.files import (
    SUFFIX,
    FileTags,
    content_tag,
    file_and_offset,
    is_file_name,
    open_file,
    remove_files,
    tagged_length,
)
from imgsyncfs.cache.preparation import prepare_cache
from imgsyncfs.cache.table import Entry, ExtentTable
from imgsyncfs.cache.unfinished import UnfinishedFiles, remove_leftovers, unfinished_names
from imgsyncfs.cache_limits import CacheLimits
from imgsyncfs.errors import CacheError
from imgsyncfs.progress import Progress

logger = logging.getLogger(__name__)

REMOVED_AT_ONCE = 256
"""Entries taken out in one transaction: others wait for it some milliseconds."""

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


def cache_content(folder: Path, group: Callable[[str], Group]) -> CacheContent[Group]:
    """See what a cache holds; reads no content.

    Args:
        folder: the cache's.
        group: the group that a key's entry belongs to.

    Raises:
        CacheError: the cache cannot be read.
    """
    groups: dict[Group, tuple[int, int]] = {}
    if not folder.is_dir():
        return CacheContent(0, None, groups)
    with _opened(folder) as table:
        for key, tag in table.tags():
            name = group(key)
            count, byte_count = groups.get(name, (0, 0))
            groups[name] = (count + 1, byte_count + tagged_length(tag))
        return CacheContent(table.volume(), table.limits, groups)


def clear_cache(folder: Path, *, chosen: Chosen | None = None, progress: Progress) -> tuple[int, int]:
    """Remove entries.

    Args:
        folder: the cache's.
        chosen: which ones; None removes all, and whatever killed writers have left.
        progress: is told of entries.

    Returns:
        (entries, bytes of content) removed.

    Raises:
        CacheError: the cache cannot be written.
    """
    if not folder.is_dir():
        return 0, 0
    # Throws away one whose database is damaged: to clear it is the way out.
    prepare_cache(folder, check=True)
    count = byte_count = 0
    with _opened(folder) as table, contextlib.closing(UnfinishedFiles(folder)) as unfinished:
        progress.phase("Clearing", len(table), "extents")
        entries = table.entries(contents=False)
        while portion := list(islice(entries, REMOVED_AT_ONCE)):
            going = [entry for entry in portion if chosen is None or chosen(entry.key)]
            removed = _remove(folder, table, unfinished, going)
            count += len(removed)
            byte_count += sum(map(_length, removed))
            progress.advance(len(portion))
        if chosen is None:
            _remove_orphans(folder, table)
        table.shorten_log()
    return count, byte_count


def verify_cache(folder: Path, *, chosen: Chosen | None = None, progress: Progress) -> CacheCheck:
    """Read entries and compare their lengths and digests; remove what is damaged, and files that no entry leads to.

    Args:
        folder: the cache's.
        chosen: which entries; None checks all, and looks for files without an entry.
        progress: is told of bytes.

    Raises:
        CacheError: the cache cannot be read, or its database is damaged.
    """
    if not folder.is_dir():
        return CacheCheck(0, 0, 0, 0)
    count = byte_count = damaged = orphans = 0
    file_tags = FileTags()
    with _opened(folder) as table, contextlib.closing(UnfinishedFiles(folder)) as unfinished:
        table.check()
        tags = (tag for key, tag in table.tags() if chosen is None or chosen(key))
        progress.phase("Checking", sum(map(tagged_length, tags)), "bytes")
        for entry in table.entries(contents=True):
            if chosen is not None and not chosen(entry.key):
                continue
            if not _is_sound(folder, entry, file_tags):
                damaged += len(_remove(folder, table, unfinished, [entry]))
            count += 1
            byte_count += _length(entry)
            progress.advance(_length(entry))
        if chosen is None:
            orphans = _remove_orphans(folder, table)
    return CacheCheck(count, byte_count, damaged, orphans)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[ExtentTable]:
    try:
        with contextlib.closing(ExtentTable(folder)) as table:
            yield table
    except diskcache.Timeout as error:
        raise CacheError(
            f"The cache in {folder} is busy; try again when the mounts that use it have less to do."
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise CacheError(
            f"The cache in {folder} cannot be used ({error}); if it is damaged, clear it with: imgsyncfs cache clear"
        ) from error


def _remove(folder: Path, table: ExtentTable, unfinished: UnfinishedFiles, entries: Sequence[Entry]) -> list[Entry]:
    """Remove entries and their files; return those that were still there."""
    if not entries:
        return []
    with table.writing():
        removed, freed = table.remove(entries)
        files = {file.name: file.key for file in freed}
        unfinished.add(files)
    remove_files(folder, files)
    unfinished.finish(files)
    return removed


def _remove_orphans(folder: Path, table: ExtentTable) -> int:
    """Remove files that no entry leads to; return how many there were beside those that writers had put down."""
    remove_leftovers(folder, leads_to=table.leads_to)
    # In this order: a file that a writer makes meanwhile is not among those found, or stands in the writer's log, or
    # has an entry by the time that entries are looked at.
    found = {name for path in folder.rglob(f"*{SUFFIX}") if is_file_name(name := path.relative_to(folder).as_posix())}
    found -= unfinished_names(folder)
    found.difference_update(table.filenames())
    return remove_files(folder, found)


def _is_sound(folder: Path, entry: Entry, tags: FileTags) -> bool:
    if entry.filename is None:
        return isinstance(entry.content, bytes) and content_tag(entry.content) == entry.tag
    try:
        file, offset = file_and_offset(entry.filename)
        descriptor = open_file(folder, file)
        if descriptor is None:
            return False
        try:
            return tags.of(descriptor, offset or 0, None if offset is None else _length(entry)) == entry.tag
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.warning("A cached extent cannot be read: %s (%s)", entry.key, error)
        return False


def _length(entry: Entry) -> int:
    return tagged_length(entry.tag)
