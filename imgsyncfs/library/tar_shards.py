"""Tar files of a dataset's samples: where each byte of one comes from, known from the listing alone.

A sample is an image, its annotation and the number of its class, side by side: ``x.jpg``, ``x.json``, ``x.cls``.
Samples follow each other as their images lie in packs, so that whoever reads a tar file from its beginning reads the
packs in order. Headers are made when they are read, and so is where each member lies, one tar file at a time: of a
million images no more is kept than their order.

Threads: `TarShards._lock` guards what is kept, for dictionary operations.

webdataset takes what stands before the first dot of a name as the sample's key and the rest as the member's. A dot in a
stem is therefore written ``%2E`` and a percent sign ``%25``: `urllib.parse.unquote` of a key gives the stem.

Source: POSIX pax (ustar and its extended headers); webdataset's ``tariterators.base_plus_ext``.
"""

from __future__ import annotations

import itertools
import tarfile
import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from imgsyncfs.catalog.listing import Listing
from imgsyncfs.catalog.listing.columns import Column, TextTable, compact
from imgsyncfs.catalog.listing.table import HAS_ANNOTATION
from imgsyncfs.library.numbers import ANNOTATION, IMAGE
from imgsyncfs.library.rewritten_annotations import RewrittenAnnotations
from imgsyncfs.library.views.contract import Assembly, FilePart

BLOCK_BYTES = 512

END_BYTES = 2 * BLOCK_BYTES
"""Two blocks of zeros."""

_IMAGE, _ANNOTATION = 0, 1
"""Places of members in a sample; the class's number follows."""

ANNOTATION_SUFFIX = b".json"
CLASS_SUFFIX = b".cls"

KEPT_SHARDS = 64
"""Tar files of which it is kept where each member lies: readers of as many may take turns, at 24 bytes a sample."""

_NAME_BYTES = 100
_SIZE_PLACE, _SUM_PLACE, _SUM_BYTES = 124, 148, 8
_MOST_OCTAL = 8**11 - 1
"""The largest number in a header: a size of 8 GiB, or a time in the year 2242."""

_PLAIN = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
"""A header without name, size and time: a file of root's that all may read."""

_PLAIN_OWNER, _PLAIN_REST = _PLAIN[_NAME_BYTES:_SIZE_PLACE], _PLAIN[_SUM_PLACE + _SUM_BYTES :]
_PLAIN_SUM = sum(_PLAIN_OWNER) + sum(_PLAIN_REST) + sum(b" " * _SUM_BYTES)

_FIRST_NOT_ASCII = 0x80


def escaped(stem: bytes) -> bytes:
    """A stem without dots, from which `urllib.parse.unquote` makes the stem again."""
    return stem.replace(b"%", b"%25").replace(b".", b"%2E")


def member_header(name: bytes, byte_count: int, modified_at: int) -> bytes:
    """The header of a member: one block, or three and more where its name or its size does not fit into one.

    Args:
        name: UTF-8.
        byte_count: of the content.
        modified_at: Unix seconds; times that do not fit are the nearest one that does.
    """
    modified_at = max(0, min(modified_at, _MOST_OCTAL))
    if len(name) > _NAME_BYTES or byte_count > _MOST_OCTAL or not name.isascii():
        member = tarfile.TarInfo(name.decode())
        member.size, member.mtime = byte_count, modified_at
        return member.tobuf(tarfile.PAX_FORMAT)
    # A tenth of the time that it takes the library.
    numbers = b"%011o\0%011o\0" % (byte_count, modified_at)
    checksum = _PLAIN_SUM + sum(name) + sum(numbers)
    return b"%b%b%b%06o\0 %b" % (name.ljust(_NAME_BYTES, b"\0"), _PLAIN_OWNER, numbers, checksum, _PLAIN_REST)


def header_bytes(name_bytes: Column, is_ascii: Column, byte_counts: Column) -> Column:
    """The lengths of many headers; see `member_header`.

    Args:
        name_bytes: of the members' names, int64, shape (n,).
        is_ascii: whether the name has nothing but ASCII, shape (n,).
        byte_counts: of their contents, shape (n,).
    """
    sizes = byte_counts.astype(np.int64)
    path = np.where(is_ascii & (name_bytes <= _NAME_BYTES), 0, _record_bytes(len("path") + name_bytes))
    size = np.where(sizes <= _MOST_OCTAL, 0, _record_bytes(len("size") + _digits(sizes)))
    records = path + size
    return BLOCK_BYTES + np.where(records > 0, BLOCK_BYTES + _filled(records), 0)


def _record_bytes(content: Column) -> Column:
    """The lengths of extended headers' records, each of which begins with its own: ``12 path=x.jpg``, a line."""
    bare = content + len(" =\n")
    length = bare
    # The number of digits may grow with what it is added to.
    for _ in range(3):
        length = bare + _digits(length)
    return length


def _digits(numbers: Column) -> Column:
    powers = 10 ** np.arange(1, 19, dtype=np.int64)
    return np.searchsorted(powers, numbers, side="right") + 1


def _filled(byte_counts: Column) -> Column:
    """Byte counts of contents, with what fills their last blocks."""
    return -(-byte_counts // BLOCK_BYTES) * BLOCK_BYTES


def _name_facts(stems: TextTable) -> tuple[Column, Column]:
    """(length in bytes of each stem as it is written, whether it has nothing but ASCII)."""
    ends = stems.ends.astype(np.int64)
    lengths = np.diff(ends, prepend=0)
    content = stems.content
    written = np.flatnonzero((content == ord(".")) | (content == ord("%")))
    if len(written):
        lengths += 2 * np.bincount(np.searchsorted(ends, written, side="right"), minlength=len(ends))
    is_ascii = np.ones(len(ends), np.bool_)
    is_ascii[np.searchsorted(ends, np.flatnonzero(content >= _FIRST_NOT_ASCII), side="right")] = False
    return lengths, is_ascii


@dataclass(frozen=True)
class _Members:
    """One member of each image's sample.

    Attributes:
        byte_counts: of the contents.
        headers: lengths of the headers; 0 where there is no such member.
    """

    byte_counts: Column
    headers: Column

    @classmethod
    def of(cls, name_bytes: Column, is_ascii: Column, byte_counts: Column, present: Column | None = None) -> _Members:
        headers = header_bytes(name_bytes, is_ascii, byte_counts)
        return cls(byte_counts, compact(headers if present is None else np.where(present, headers, 0)))

    def tar_bytes(self, images: Column) -> Column:
        headers = self.headers[images].astype(np.int64)
        return np.where(headers > 0, headers + _filled(self.byte_counts[images].astype(np.int64)), 0)


class TarShards:
    """The samples of a dataset's revision, to be cut into tar files.

    Args:
        listing: the revision's.
        classes: the number of each image's class, by its index in the listing, below 0 where it has none; None if no
            image has one.
        rewritten: the annotations of a selection that gives classes other names. Which samples are in a tar file then
            follows from the stored ones, and how long it is from these: it may be a little longer than asked for.
    """

    def __init__(
        self, listing: Listing, classes: Column | None = None, rewritten: RewrittenAnnotations | None = None
    ) -> None:
        self._listing = listing
        self.rewritten = rewritten
        name_bytes, is_ascii = _name_facts(listing.stems)
        ext_bytes = np.array([1 + len(ext) for ext in listing.facts.exts] or [0])[listing.columns["ext"]]
        images = listing.images.columns["byte_count"]
        self._members = [_Members.of(name_bytes + ext_bytes, is_ascii, images)]
        has_annotation = (listing.columns["flags"] & HAS_ANNOTATION) != 0
        annotations = listing.annotations.columns["byte_count"]
        self._annotation_names = name_bytes + len(ANNOTATION_SUFFIX), is_ascii
        self._members.append(_Members.of(*self._annotation_names, annotations, has_annotation))
        self._is_estimate = rewritten is not None
        self._classes = classes
        if classes is not None:
            digits = compact(_digits(np.maximum(classes, 0)))
            self._members.append(_Members.of(name_bytes + len(CLASS_SUFFIX), is_ascii, digits, classes >= 0))
        self._headers = [members.headers.data for members in self._members]
        self._numbers = itertools.count()
        # By their numbers: they have this object, and would wait with it, and the listing, for the garbage collector.
        self._kept: LRUCache[int, memoryview] = LRUCache(KEPT_SHARDS)
        self._lock = threading.Lock()

    def cut(self, images: Column, shard_bytes: int) -> list[TarShard]:
        """Cut samples into tar files.

        Args:
            images: indices of the samples' images in the listing, in their order.
            shard_bytes: the greatest length of a tar file in bytes; one with a single sample may be longer.
        """
        ends = np.cumsum(self.member_bytes(images).sum(axis=1))
        shards: list[TarShard] = []
        start = 0
        while start < len(images):
            before = int(ends[start - 1]) if start else 0
            fitting = int(np.searchsorted(ends, before + shard_bytes - END_BYTES, side="right"))
            stop = max(start + 1, fitting)
            byte_count = int(ends[stop - 1]) - before + END_BYTES
            shards.append(TarShard(self, next(self._numbers), images[start:stop], byte_count))
            start = stop
        return shards

    def member_bytes(self, images: Column) -> Column:
        """The bytes that the members of samples take in a tar file, header and filling included; 0 where there is none.

        Args:
            images: indices of the samples' images, shape (n,).

        Returns:
            int64, shape (n, members of a sample).
        """
        return np.stack([members.tar_bytes(images) for members in self._members], axis=1)

    def starts(self, shard: TarShard) -> memoryview:
        """Where each member of each sample begins in a tar file, and at last where the last one ends."""
        if self._is_estimate and self.rewritten is not None and self.rewritten.is_here:
            lengths = self.rewritten.lengths
            self._members[_ANNOTATION] = _Members.of(*self._annotation_names, lengths, lengths > 0)
            self._headers = [members.headers.data for members in self._members]
            self._is_estimate = False
        with self._lock:
            starts = self._kept.get(shard.number)
        if starts is None:
            lengths = self.member_bytes(shard.images).reshape(-1)
            starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))).data
            with self._lock:
                self._kept[shard.number] = starts
        return starts

    def part_of(self, image: int, member: int, start: int, stop: int) -> tuple[bytes, FilePart | None, bytes]:
        """What a part of a member is made of.

        Args:
            image: index of the sample's image.
            member: its place in the sample.
            start: the first byte of the part in the tar file, counted from where the header begins.
            stop: the byte after the last.

        Returns:
            (what is before the content and, of one that is not stored, the content; the stored content; what is after)
        """
        listing, text = self._listing, b""
        if member == _IMAGE:
            kind, files = IMAGE, listing.images
        elif member == _ANNOTATION:
            kind, files = ANNOTATION, listing.annotations
        else:
            kind, files, text = 0, listing.images, self._class(image)
        byte_count, modified_at = files.size_and_time(image)
        if member == _ANNOTATION and self.rewritten is not None:
            text = self.rewritten.read(image)
        if text:
            byte_count = len(text)
        headers = self._headers[member][image]
        if headers <= start and stop <= headers + byte_count and not text:
            # The short way within the content, as every other read of an image is.
            return b"", FilePart(kind, image, start - headers, stop - start), b""
        before = b""
        if start < headers:
            before = member_header(self._name(image, member), byte_count, modified_at)
        after = stop - max(start, headers + byte_count)
        if text:
            before = (before or bytes(headers)) + text
            return before[start:stop], None, bytes(max(0, after))
        begin, end = max(0, start - headers), min(stop - headers, byte_count)
        stored = FilePart(kind, image, begin, end - begin) if begin < end else None
        return before[start:stop], stored, bytes(max(0, after))

    def _name(self, image: int, member: int) -> bytes:
        stem = escaped(self._listing.stem(image))
        if member == _IMAGE:
            return b"%b.%b" % (stem, self._listing.ext(image).encode())
        return stem + (ANNOTATION_SUFFIX if member == _ANNOTATION else CLASS_SUFFIX)

    def _class(self, image: int) -> bytes:
        return b"" if self._classes is None else b"%d" % self._classes[image]


class TarShard(Assembly):
    """A tar file of some samples.

    Args:
        shards: all of them.
        number: of this one among them.
        images: indices of its samples' images.
        byte_count: its length.
    """

    def __init__(self, shards: TarShards, number: int, images: Column, byte_count: int) -> None:
        self._shards = shards
        self.number = number
        self.images = images
        self._images = images.data
        self._byte_count = byte_count

    @property
    def byte_count(self) -> int:
        """Its length in bytes."""
        if self._shards.rewritten is None:
            return self._byte_count
        return int(self._shards.starts(self)[-1]) + END_BYTES

    def parts(self, offset: int, size: int) -> Iterator[bytes | FilePart]:
        """What it is made of from an offset on; see `Assembly.parts`."""
        starts, images = self._shards.starts(self), self._images
        end = min(offset + size, self.byte_count)
        last = len(starts) - 1
        members = last // len(images)
        place = bisect_right(starts, offset) - 1
        made = b""
        while offset < end and place < last:
            start, stop = starts[place], min(end, starts[place + 1])
            # There is no such member where none begins after the one before.
            if offset < stop:
                before, stored, after = self._shards.part_of(
                    images[place // members], place % members, offset - start, stop - start
                )
                made += before
                if stored is not None:
                    if made:
                        yield made
                    yield stored
                    made = b""
                made += after
                offset = stop
            place += 1
        made += bytes(max(0, end - offset))
        if made:
            yield made
