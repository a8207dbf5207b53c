"""Extents on their way here: which one is wanted, and what comes of it. Knows no way of fetching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from imgsyncfs.blob_layout import LOOSE_FILE_BYTES
from imgsyncfs.fetching.requests import ExtentRequest, Member


class Wanted(NamedTuple):
    """An extent to be had.

    Attributes:
        request: which one; its `members` are filled in when it is fetched.
        members: gives what the catalog says lies in it.
    """

    request: ExtentRequest
    members: Callable[[], tuple[Member, ...]] = tuple


Arrival = tuple[bool, bytes]
"""Whether the cache has an extent now, and its content if it has not or if that was asked for."""


@dataclass(frozen=True)
class Flight:
    """An extent under way, and until when somebody waits for it.

    Attributes:
        wanted: which one.
        arrival: what will come of it.
        deadline: until when to wait, a time of `time.monotonic`.
    """

    wanted: Wanted
    arrival: Future[Arrival]
    deadline: float


def adjoin(one: Wanted, other: Wanted) -> bool:
    """Whether two extents follow each other in one blob."""
    return one.request.is_followed_by(other.request) or other.request.is_followed_by(one.request)


def adjoining(wanted: Wanted, others: Sequence[Wanted], *, most: int) -> list[Wanted]:
    """Those of some extents that make one piece with one, in the order in which they join it.

    Args:
        wanted: the one.
        others: the others.
        most: so many at most.
    """
    piece = [wanted]
    left = list(others)
    while len(piece) <= most:
        joins = next((each for each in left if any(adjoin(one, each) for one in piece)), None)
        if joins is None:
            break
        left.remove(joins)
        piece.append(joins)
    return piece[1:]


def is_small(wanted: Wanted) -> bool:
    """Whether an extent is a small blob."""
    length = wanted.request.length
    return length is not None and length < LOOSE_FILE_BYTES and wanted.request.start == 0
