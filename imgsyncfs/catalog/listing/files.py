"""The files of one kind, images or annotations, in a listing: where each one's bytes lie.

A loose blob's name is mostly made of its file's name and digest (``<dataset>/<stem>.<12 hex of md5>.<ext>``). So blob
names are kept as templates, each once, with a mark where the stem and the digest stand; a name that has nothing of
them is its own template, as a pack's is. A NUL cannot be in any of these names, so it makes the marks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from imgsyncfs.blob_layout import is_pack
from imgsyncfs.catalog.listing.columns import Column, TextTable, join_digests

COLUMNS = ("byte_count", "md5_upper", "md5_lower", "blob", "blob_offset", "etag", "modified_at", "order")
TEXTS = ("blob", "etag")

NAME_MARK = b"\0name"
DIGEST_MARK = b"\0md5"
DIGEST_DIGITS = 12

FILES_A_PACK = 8
"""From this number of files in a blob on, its name is parsed once, and not for each file."""

_SLASH, _DOT = b"/."


class FileRecord(NamedTuple):
    """Where the bytes of one file lie. A tuple: a frozen dataclass takes twice as long to make.

    Attributes:
        blob: name of the blob, relative to the store.
        offset: where in the blob the file begins, in bytes.
        byte_count: length of the file in bytes.
        md5: lower-case hex digest of the file; ``""`` if unknown.
        etag: the store's mark of the blob's content; ``""`` for blobs that are never overwritten.
        modified_at: when the content last changed, Unix seconds.
    """

    blob: str
    offset: int
    byte_count: int
    md5: str
    etag: str
    modified_at: int


class FileTable:
    """The files of one kind. Immutable; any number of threads may read it.

    Args:
        columns: by the names in `COLUMNS`. ``blob`` and ``etag`` are indices into the texts, ``blob`` one beyond them
            where there is no file; ``order`` has the indices of the files that there are, by blob and offset, and is
            empty if they all are there and in that order anyway.
        texts: by the names in `TEXTS`.
        epoch: what is added to each ``modified_at``.
        stem: the stem of the file at an index.
        find: the index of a stem, or -1.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        texts: Mapping[str, TextTable],
        *,
        epoch: int,
        stem: Callable[[int], bytes],
        find: Callable[[bytes], int],
    ) -> None:
        self.columns = columns
        self.texts = texts
        self.epoch = epoch
        self._stem = stem
        self._find = find
        self._byte_counts = columns["byte_count"].data
        self._upper = columns["md5_upper"].data
        self._lower = columns["md5_lower"].data
        self._blobs = columns["blob"].data
        self._offsets = columns["blob_offset"].data
        self._etags = columns["etag"].data
        self._times = columns["modified_at"].data
        self._order = columns["order"].data

    def stem(self, index: int) -> bytes:
        """The stem of the file at an index."""
        return self._stem(index)

    def record(self, index: int) -> FileRecord:
        """The file at an index."""
        md5 = f"{self._upper[index]:016x}{self._lower[index]:016x}" if self._has_digest(index) else ""
        return FileRecord(
            blob=self._blob(index, md5),
            offset=self._offsets[index],
            byte_count=self._byte_counts[index],
            md5=md5,
            etag=self.texts["etag"][self._etags[index]].decode(),
            modified_at=self._times[index] + self.epoch,
        )

    def size_and_time(self, index: int) -> tuple[int, int]:
        """(byte count, Unix seconds of the last change) of the file at an index: all that `stat` needs."""
        return self._byte_counts[index], self._times[index] + self.epoch

    def place_in_pack(self, index: int) -> tuple[str, int, int] | None:
        """(pack, offset in it, byte count) of the file at an index; None if it lies in a blob of its own.

        A tenth of what `record` takes: reading a file whose extent is open needs no more.
        """
        pack = self._packs.get(self._blobs[index])
        return None if pack is None else (pack, self._offsets[index], self._byte_counts[index])

    def members(self, blob: str, start: int, stop: int) -> list[tuple[int, int, str]]:
        """The files that lie wholly in a part of a blob; see `imgsyncfs.catalog.listing.table.Listing.members`."""
        found: list[tuple[int, int, str]] = []
        name = blob.encode()
        template = self._own_templates.get(name)
        if template is not None:
            found += self._in_template(template, start, stop)
        for prefix_end in range(len(name) + 1) if self._stem_templates else ():
            for number, tail in self._stem_templates.get(name[:prefix_end], ()):
                digits = DIGEST_DIGITS - len(DIGEST_MARK) if DIGEST_MARK in tail else 0
                index = self._find(name[prefix_end : len(name) - len(tail) - digits])
                if index >= 0 and self._blobs[index] == number:
                    record = self.record(index)
                    if record.blob == blob and start <= record.offset < stop:
                        found.append((record.offset, record.byte_count, record.md5))
        return sorted(entry for entry in found if entry[0] + entry[1] <= stop)

    def _in_template(self, number: int, start: int, stop: int) -> list[tuple[int, int, str]]:
        blobs, offsets, order = self._blobs, self._offsets, self._order
        # Without an order of their own, the files are in this order.
        places = order if len(order) else range(len(blobs))
        low, high = (
            bisect_left(places, (number, bound), key=lambda index: (blobs[index], offsets[index]))
            for bound in (start, stop)
        )
        chosen = self.columns["order"][low:high] if len(order) else np.arange(low, high)
        digests = join_digests(self.columns["md5_upper"][chosen], self.columns["md5_lower"][chosen])
        starts, lengths = self.columns["blob_offset"][chosen].tolist(), self.columns["byte_count"][chosen].tolist()
        return list(zip(starts, lengths, digests, strict=True))

    def _blob(self, index: int, md5: str) -> str:
        template = self.texts["blob"][self._blobs[index]]
        if NAME_MARK in template:
            template = expand_template(template, self._stem(index), md5.encode())
        return template.decode()

    def _has_digest(self, index: int) -> bool:
        return bool(self._upper[index] or self._lower[index])

    @cached_property
    def _packs(self) -> dict[int, str]:
        """Template to blob name, for packs."""
        names = ((number, text.decode()) for text, number in self._own_templates.items())
        return {number: name for number, name in names if is_pack(name)}

    @cached_property
    def _own_templates(self) -> dict[bytes, int]:
        """Blob name to template, for those without marks."""
        return {text: number for number, text in enumerate(self.texts["blob"].texts()) if NAME_MARK not in text}

    @cached_property
    def _stem_templates(self) -> dict[bytes, list[tuple[int, bytes]]]:
        """What stands before the stem, to (template, what stands after it), for those with marks."""
        templates: dict[bytes, list[tuple[int, bytes]]] = {}
        for number, text in enumerate(self.texts["blob"].texts()):
            prefix, mark, tail = text.partition(NAME_MARK)
            if mark:
                templates.setdefault(prefix, []).append((number, tail))
        return templates


def blob_template(blob: bytes, stem: bytes, md5: bytes) -> bytes:
    """Take stem and digest out of a blob's name. What is given is all that the result depends on.

    Args:
        blob: name of the blob, UTF-8, without NUL.
        stem: of the file; not empty.
        md5: of the file in lower-case hexadecimal, or empty.

    Returns:
        The template: `expand_template` makes the name of it again, exactly.
    """
    start = blob.rfind(stem)
    end = start + len(stem)
    # A stem such as "7" is found by chance in other names: it must stand by itself.
    if start < 0 or (start and blob[start - 1] != _SLASH) or (end < len(blob) and blob[end] != _DOT):
        return blob
    tail = blob[end:]
    digest = md5[:DIGEST_DIGITS]
    if digest and tail.startswith(digest, 1):
        tail = b".%b%b" % (DIGEST_MARK, tail[1 + DIGEST_DIGITS :])
    return b"%b%b%b" % (blob[:start], NAME_MARK, tail)


def blob_templates(blobs: Sequence[bytes], stems: Sequence[bytes], digests: Sequence[bytes]) -> Sequence[bytes]:
    """The template of each blob; see `blob_template`."""
    distinct = set(blobs)
    if len(distinct) <= len(blobs) // FILES_A_PACK and set[bytes]().union(*map(_parts, distinct)).isdisjoint(stems):
        return blobs
    return list(map(blob_template, blobs, stems, digests))


def _parts(blob: bytes) -> set[bytes]:
    """All that stands by itself in a blob's name: a stem that is none of these has no mark in it."""
    starts = [0, *(place + 1 for place, byte in enumerate(blob) if byte == _SLASH)]
    ends = [*(place for place, byte in enumerate(blob) if byte == _DOT), len(blob)]
    return {blob[start:end] for start in starts for end in ends if start < end}


def expand_template(template: bytes, stem: bytes, md5: bytes) -> bytes:
    """Make a blob's name of its template; see `blob_template`."""
    return template.replace(DIGEST_MARK, md5[:DIGEST_DIGITS]).replace(NAME_MARK, stem)
