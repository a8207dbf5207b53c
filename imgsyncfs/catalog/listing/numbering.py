"""File numbers: a file keeps its number from revision to revision as long as its content is the same.

A mount makes node numbers of them, so that the kernel knows a file by its content: a file that has changed is another
file to it, and one that somebody has open stays what it was. Numbers are never used twice within a *lineage*, the
listings that were numbered one after the other. A listing that was numbered without its predecessor begins a new one.

Numbers follow the order of the stems where nothing has changed, so they are kept as runs: one for a new dataset, two
more for each file that has changed since.
"""

from __future__ import annotations

import secrets
from bisect import bisect_right
from dataclasses import replace
from functools import cached_property

import numpy as np

from imgsyncfs.catalog.listing.changes import unchanged
from imgsyncfs.catalog.listing.columns import Column, compact
from imgsyncfs.catalog.listing.table import ANNOTATION_PREFIX, IMAGE_PREFIX, RUN_NUMBERS, RUN_STARTS, Listing

LINEAGE_BYTES = 8


class FileNumbers:
    """The numbers of the images, or of the annotations, of a listing.

    Args:
        starts: the index at which each run begins, rising, shape (n,).
        numbers: the number of the file there; those after it follow, up to the next run. Shape (n,).
        count: length of the listing.
    """

    def __init__(self, starts: Column, numbers: Column, count: int) -> None:
        self._starts: list[int] = starts.tolist()
        self._numbers: list[int] = numbers.tolist()
        self._count = count
        self._offset: int | None = self._numbers[0] if len(self._numbers) == 1 else None

    @classmethod
    def of(cls, listing: Listing, prefix: str) -> FileNumbers:
        """Those of a listing.

        Args:
            listing: which one.
            prefix: `IMAGE_PREFIX` or `ANNOTATION_PREFIX`.
        """
        return cls(listing.columns[prefix + RUN_STARTS], listing.columns[prefix + RUN_NUMBERS], len(listing))

    def number(self, index: int) -> int:
        """The number of the file at an index."""
        if self._offset is not None:
            return self._offset + index
        run = bisect_right(self._starts, index) - 1
        return self._numbers[run] + index - self._starts[run]

    def index(self, number: int) -> int:
        """The index of the file with a number; -1 if there is none."""
        numbers, runs = self._by_number
        place = bisect_right(numbers, number) - 1
        if place < 0:
            return -1
        run = runs[place]
        index = self._starts[run] + number - self._numbers[run]
        end = self._starts[run + 1] if run + 1 < len(self._starts) else self._count
        return index if index < end else -1

    @cached_property
    def _by_number(self) -> tuple[list[int], list[int]]:
        """The first number of each run in rising order, and the runs in that order."""
        runs = sorted(range(len(self._numbers)), key=self._numbers.__getitem__)
        return [self._numbers[run] for run in runs], runs

    def all(self) -> Column:
        """The numbers of all files, int64, shape (count,)."""
        starts = np.array(self._starts, np.int64)
        lengths = np.diff(np.append(starts, self._count))
        return np.repeat(np.array(self._numbers, np.int64) - starts, lengths) + np.arange(self._count)


def numbered(listing: Listing, previous: Listing | None) -> Listing:
    """Number the files of a listing.

    Args:
        listing: a new one.
        previous: the one before it of the same dataset, numbered; None begins a lineage.

    Returns:
        The same listing with its numbers.
    """
    if previous is None or not previous.facts.lineage:
        return Listing(replace(listing.facts, lineage=secrets.token_hex(LINEAGE_BYTES)), listing.columns)
    columns = dict(listing.columns)
    following = []
    prefixes = (IMAGE_PREFIX, ANNOTATION_PREFIX)
    for prefix, next_number, (old, new) in zip(
        prefixes, previous.facts.next_numbers, unchanged(previous, listing), strict=True
    ):
        numbers = np.full(len(listing), -1, np.int64)
        numbers[new] = FileNumbers.of(previous, prefix).all()[old]
        fresh = np.flatnonzero(numbers < 0)
        numbers[fresh] = next_number + np.arange(len(fresh))
        columns[prefix + RUN_STARTS], columns[prefix + RUN_NUMBERS] = _runs(numbers)
        following.append(next_number + len(fresh))
    facts = replace(listing.facts, lineage=previous.facts.lineage, next_numbers=(following[0], following[1]))
    return Listing(facts, columns)


def continues(listing: Listing, previous: Listing) -> bool:
    """Whether a listing can take the place of another under the same node numbers.

    That is so if each file of it either has the number that it had, or one that the other listing has never given. It
    need not be: two processes may have numbered different successors of one listing.
    """
    if listing.facts.lineage != previous.facts.lineage or not listing.facts.lineage:
        return False
    for prefix, next_number, (old, new) in zip(
        (IMAGE_PREFIX, ANNOTATION_PREFIX), previous.facts.next_numbers, unchanged(previous, listing), strict=True
    ):
        before, now = FileNumbers.of(previous, prefix).all(), FileNumbers.of(listing, prefix).all()
        known = now < next_number
        known[new] &= now[new] != before[old]
        if bool(known.any()):
            return False
    return True


def _runs(numbers: Column) -> tuple[Column, Column]:
    if not len(numbers):
        return np.empty(0, np.uint8), np.empty(0, np.uint8)
    starts = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(np.diff(numbers) != 1) + 1))
    return compact(starts), compact(numbers[starts])
