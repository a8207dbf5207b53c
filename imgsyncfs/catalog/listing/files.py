"""The files of one kind, images or annotations, in a listing: where each one's bytes lie.

A loose blob's name is mostly made of its file's name and digest (``<dataset>/<stem>.<12 hex of md5>.<ext>``). So blob
names are kept as templates, each once, with a mark where the stem and the digest stand; a name that has nothing of
them is its own template, as a pack's is. A NUL cannot be in any of these names, so it makes the marks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imgsyncfs.catalog.listing.columns import Column, TextTable, join_digests

NAME_MARK = "\0name"
DIGEST_MARK = "\0md5"
DIGEST_DIGITS = 12

COLUMNS = ("byte_count", "md5_upper", "md5_lower", "blob", "blob_offset", "etag", "modified_at", "order")
TEXTS = ("blob", "etag")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Where the bytes of one file lie.

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


def blob_template(blob: str, stem: str, md5: str) -> str:
    """Take stem and digest out of a blob's name. What is given is all that the result depends on.

    Args:
        blob: name of the blob, without NUL.
        stem: of the file; not empty.
        md5: of the file, or ``""``.

    Returns:
        The template: `expand_template` makes the name of it again, exactly.
    """
    start = blob.rfind(stem)
    end = start + len(stem)
    # A stem such as "7" is found by chance in other names: it must stand by itself.
    if start < 0 or (start and blob[start - 1] != "/") or (end < len(blob) and blob[end] != "."):
        return blob
    tail = blob[end:]
    digest = md5[:DIGEST_DIGITS]
    if digest and tail.startswith(digest, 1):
        tail = f".{DIGEST_MARK}{tail[1 + DIGEST_DIGITS :]}"
    return f"{blob[:start]}{NAME_MARK}{tail}"


def expand_template(template: str, stem: str, md5: str) -> str:
    """Make a blob's name of its template; see `blob_template`."""
    if "\0" not in template:
        return template
    return template.replace(DIGEST_MARK, md5[:DIGEST_DIGITS]).replace(NAME_MARK, stem)


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

    def members(self, blob: str, start: int, stop: int) -> list[tuple[int, int, str]]:
        """The files that lie wholly in a part of a blob; see `imgsyncfs.catalog.listing.table.Listing.members`."""
        found: list[tuple[int, int, str]] = []
        template = self._own_templates.get(blob)
        if template is not None:
            found += self._in_template(template, start, stop)
        for prefix_end in range(len(blob) + 1) if self._stem_templates else ():
            for number, tail in self._stem_templates.get(blob[:prefix_end], ()):
                digits = DIGEST_DIGITS - len(DIGEST_MARK) if DIGEST_MARK in tail else 0
                index = self._find(blob[prefix_end : len(blob) - len(tail) - digits].encode())
                if index >= 0 and self._blobs[index] == number:
                    record = self.record(index)
                    if record.blob == blob and start <= record.offset < stop:
                        found.append((record.offset, record.byte_count, record.md5))
        return sorted(entry for entry in found if entry[0] + entry[1] <= stop)

    def _in_template(self, number: int, start: int, stop: int) -> list[tuple[int, int, str]]:
        blobs, offsets, order = self._blobs, self._offsets, self._order
        if len(order):
            places = range(len(order))
            low = bisect_left(places, (number, start), key=lambda place: (blobs[order[place]], offsets[order[place]]))
            high = bisect_left(places, (number, stop), key=lambda place: (blobs[order[place]], offsets[order[place]]))
            chosen = self.columns["order"][low:high]
        else:
            places = range(len(blobs))
            low = bisect_left(places, (number, start), key=lambda place: (blobs[place], offsets[place]))
            high = bisect_left(places, (number, stop), key=lambda place: (blobs[place], offsets[place]))
            chosen = np.arange(low, high)
        digests = join_digests(self.columns["md5_upper"][chosen], self.columns["md5_lower"][chosen])
        starts, lengths = self.columns["blob_offset"][chosen].tolist(), self.columns["byte_count"][chosen].tolist()
        return list(zip(starts, lengths, digests, strict=True))

    def _blob(self, index: int, md5: str) -> str:
        template = self.texts["blob"][self._blobs[index]].decode()
        return expand_template(template, self._stem(index).decode(), md5) if "\0" in template else template

    def _has_digest(self, index: int) -> bool:
        return bool(self._upper[index] or self._lower[index])

    @cached_property
    def _own_templates(self) -> dict[str, int]:
        """Blob name to template, for those without marks."""
        table = self.texts["blob"]
        texts = ((table[number].decode(), number) for number in range(len(table)))
        return {text: number for text, number in texts if "\0" not in text}

    @cached_property
    def _stem_templates(self) -> dict[str, list[tuple[int, str]]]:
        """What stands before the stem, to (template, what stands after it), for those with marks."""
        table = self.texts["blob"]
        templates: dict[str, list[tuple[int, str]]] = {}
        for number in range(len(table)):
            prefix, mark, tail = table[number].decode().partition(NAME_MARK)
            if mark:
                templates.setdefault(prefix, []).append((number, tail))
        return templates
