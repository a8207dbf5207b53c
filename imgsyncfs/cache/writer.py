"""The side of the cache that adds and evicts extents; lives in worker processes.

The limit holds after every `CacheWriter.put_all`, and meanwhile but for the portion that each writer is about to add.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import diskcache

from imgsyncfs.blob_layout import EXTENT_BYTES, MEBIBYTE
from imgsyncfs.cache.files import (
    ExtentFiles,
    FreedFile,
    content_tag,
    file_and_offset,
    holds,
    new_name,
    part_name,
    room_on_disk,
    tagged_length,
)
from imgsyncfs.cache.folders import RefusedFile
from imgsyncfs.cache.spares import SpareFiles
from imgsyncfs.cache.table import INLINE_BYTES, Entry, ExtentTable
from imgsyncfs.cache.unfinished import UnfinishedFiles
from imgsyncfs.settings.limits import CacheLimits, disk_space

logger = logging.getLogger(__name__)

PORTION_BYTES = EXTENT_BYTES
"""What is added in one transaction: by so much each writer may be over the limit for a moment."""

MOST_SLACK = 2 * EXTENT_BYTES
"""So far below the limit (or a sixteenth of it) the table is kept: room for the spare files of two writers."""

SHARED_BYTES = 1 * MEBIBYTE
"""Extents that are kept together share files of up to this size, or of a sixteenth of the cache: so much is evicted at
once then. It is what a worker fetches together of small blobs."""

USED_AT_ONCE = 512
"""Uses noted in one transaction: it then takes some milliseconds."""

_FAULTS = (OSError, sqlite3.Error, diskcache.Timeout)

Item = tuple[str, bytes | memoryview]
"""Key and content of an extent."""


class _File(NamedTuple):
    """A file to be written.

    Attributes:
        name: within the cache's folder.
        spare: it is there, and is to be written anew.
        items: what it is to hold.
    """

    name: str
    spare: bool
    items: list[Item]


class CacheWriter:
    """Adds extents, and evicts what was used least recently to keep within limits. Any number of threads may use it.

    Args:
        folder: made by `prepare_cache`.
        size_limit: most bytes that the cache takes up on disk, database included.
        keep_free: bytes of the disk to leave free, whoever takes up the others.

    Raises:
        CacheError: the database is somebody else's.
        sqlite3.Error: the database cannot be opened.
    """

    def __init__(self, folder: Path, *, size_limit: int, keep_free: int = 0) -> None:
        self._folder = folder
        self._limits = CacheLimits(size_limit, keep_free)
        self._slack = min(MOST_SLACK, size_limit // 16)
        self._table = ExtentTable(folder, limits=self._limits)
        self._shared_bytes = min(SHARED_BYTES, self._slack)
        self._files = ExtentFiles(folder)
        self._spares = SpareFiles(self._files, most_bytes=self._slack // 2)
        self._unfinished = UnfinishedFiles(folder)

    def get(self, key: str) -> bytes | None:
        """An extent's content if it is there and undamaged; a damaged one is removed."""
        try:
            entry = self._table.find(key)
            if entry is None:
                return None
            content = entry.content if entry.filename is None else self._read_file(entry)
            if isinstance(content, bytes) and content_tag(content) == entry.tag:
                return content
            with self._table.writing():
                removed, freed = self._table.remove([entry])
            if removed:
                logger.warning("A cached extent is damaged and is removed: %s", key)
            self._files.remove(file.name for file in freed)
        except _FAULTS as error:
            logger.warning("The cache could not be read: %s", error)
        return None

    def holds_all(self, keys: Sequence[str]) -> bool:
        """Whether all of some extents are there; they are not looked at."""
        try:
            return self._table.count_keys(keys) == len(keys)
        except _FAULTS as error:
            logger.warning("The cache could not be read: %s", error)
            return False

    def remove(self, keys: Sequence[str]) -> None:
        """Remove extents; some may be gone already."""
        try:
            with self._table.writing():
                entries = filter(None, map(self._table.find, keys))
                _, freed = self._table.remove(entries)
            self._files.remove(file.name for file in freed)
        except _FAULTS as error:
            logger.warning("Extents could not be removed from the cache: %s", error)

    def put(self, key: str, content: bytes, *, used: Sequence[str] = (), spared: Collection[str] = ()) -> bool:
        """Keep one extent; see `put_all`."""
        return self.put_all([(key, content)], used=used, spared=spared)[0]

    def put_all(self, items: Sequence[Item], *, used: Sequence[str] = (), spared: Collection[str] = ()) -> list[bool]:
        """Keep extents, and evict what was used least recently until the limits hold.

        Args:
            items: key and content of each; up to 4 MiB of them are added in one transaction.
            used: keys of extents that were used since the last call, the oldest use first; noted before anything is
                evicted.
            spared: keys of extents not to be evicted, beside the items themselves: what is being read.

        Returns:
            For each item whether it is kept. It is not when there is no room on the disk, or the database is busy: its
            content is then used uncached.

        Raises:
            TypeError: a content is not bytes.
        """
        for _, content in items:
            if not isinstance(content, bytes | memoryview):
                raise TypeError(f"The cache keeps bytes, not {type(content).__name__}.")
        self.note_used(used[:-USED_AT_ONCE])
        used = used[-USED_AT_ONCE:]
        spared = {*spared, *(key for key, _ in items)}
        kept: list[bool] = []
        for portion in _portions(items):
            kept += [self._put_portion(portion, used, spared)] * len(portion)
            used = ()
        return kept

    def note_used(self, keys: Sequence[str]) -> None:
        """Say that extents were used just now, so that others are evicted before them.

        Args:
            keys: the oldest use first.
        """
        for start in range(0, len(keys), USED_AT_ONCE):
            try:
                with self._table.writing():
                    self._table.note_used(keys[start : start + USED_AT_ONCE])
            except _FAULTS as error:
                logger.warning("The cache could not note what was used: %s", error)

    def close(self) -> None:
        """Remove spare files and close the database."""
        self._spares.close()
        self._unfinished.close()
        self._files.close()
        self._table.close()

    def _read_file(self, entry: Entry) -> bytes | None:
        """What an entry's file holds of it; None if it cannot."""
        place = file_and_offset(entry.filename)
        if place is None:
            return None
        file, offset = place
        try:
            opened = self._files.open(file)
        except RefusedFile as error:
            logger.warning("A cached extent cannot be opened: %s (%s)", entry.key, error)
            return None
        if opened is None:
            return None
        try:
            length = tagged_length(entry.tag)
            return (
                os.pread(opened.descriptor, length, offset or 0) if holds(opened.byte_count, offset, length) else None
            )
        finally:
            os.close(opened.descriptor)

    def _put_portion(self, items: Sequence[Item], used: Sequence[str], spared: Collection[str]) -> bool:
        begun: dict[str, str] = {}
        # Two threads may have brought the same extent.
        contents = dict(items)
        try:
            if not self._has_room(sum(room_on_disk(len(content)) for _, content in items), spared):
                return False
            files = self._planned(contents)
            begun |= {file.name: file.items[0][0] for file in files}
            self._unfinished.add(begun)
            names = self._write(files)
            with self._table.writing():
                self._table.note_used(used)
                replaced = [
                    self._table.add(_entry(key, content, names.get(key)), length=len(content))
                    for key, content in contents.items()
                ]
                freed = [*filter(None, replaced), *self._keep_limit(spared)]
                self._unfinished.add({file.name: file.key for file in freed})
        except _FAULTS as error:
            logger.warning("Extents could not be kept in the cache: %s", error)
            self._files.remove(begun)
            self._unfinished.finish(begun)
            return False
        # What has become a spare file stays unfinished.
        self._unfinished.finish([*begun, *self._spares.offer(freed)])
        return True

    def _planned(self, contents: Mapping[str, bytes | memoryview]) -> list[_File]:
        """The files to write contents to; those that lie in the database are in none."""
        files: list[_File] = []
        room = 0
        for key, content in contents.items():
            if len(content) < INLINE_BYTES:
                continue
            byte_count = room_on_disk(len(content))
            if not files or byte_count > room:
                spare = self._spares.take()
                files.append(_File(spare or new_name(), spare is not None, []))
                room = self._shared_bytes
            files[-1].items.append((key, content))
            room -= byte_count
        return files

    def _write(self, files: Sequence[_File]) -> dict[str, str]:
        """Write files; return the table's name for where each key's content lies."""
        names: dict[str, str] = {}
        for file in files:
            self._files.write(file.name, [content for _, content in file.items], spare=file.spare)
            offset = 0
            for key, content in file.items:
                names[key] = part_name(file.name, offset) if len(file.items) > 1 else file.name
                offset += room_on_disk(len(content))
        return names

    def _has_room(self, byte_count: int, spared: Collection[str]) -> bool:
        """Whether so many bytes may be added; makes room on the disk if need be."""
        if byte_count > self._limits.size_limit:
            return False
        missing = self._missing(byte_count)
        if missing <= 0:
            return True
        with self._table.writing():
            freed = self._table.evict(missing + self._slack, spared=spared)
            self._unfinished.add({file.name: file.key for file in freed})
        names = [file.name for file in freed]
        self._files.remove(names)
        self._unfinished.finish(names)
        return self._missing(byte_count) <= 0

    def _missing(self, byte_count: int) -> int:
        """How many bytes the disk lacks to take in so many more and keep free what must be kept."""
        return self._limits.keep_free + byte_count - disk_space(self._folder).free

    def _keep_limit(self, spared: Collection[str]) -> list[FreedFile]:
        """Evict down to the limit, within a transaction."""
        excess = self._table.volume() - self._limits.size_limit + self._slack
        return self._table.evict(excess, spared=spared) if excess > 0 else []


def _portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut items into portions of up to `PORTION_BYTES`, or of one."""
    start = byte_count = 0
    for index, (_, content) in enumerate(items):
        if index > start and byte_count + len(content) > PORTION_BYTES:
            yield items[start:index]
            start, byte_count = index, 0
        byte_count += len(content)
    if start < len(items):
        yield items[start:]


def _entry(key: str, content: bytes | memoryview, name: str | None) -> Entry:
    return Entry(key, content_tag(content), name, bytes(content) if name is None else None)
