"""What became of the extents of a job: put into words by a worker, taken apart by the daemon.

A worker tells of an extent as soon as it is here, so that its readers do not wait for the others of the job; what it
learns last goes with the answer. In words: ``extents``, numbers within the job; for each ``stored``, whether the cache
has it now, and ``lengths``, how many bytes of the payload are its content. That is there if the cache has it not, or if
it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from imgsyncfs.workers.frames import Tell


class ExtentOutcomes:
    """The worker's side. For one thread.

    Args:
        count: extents in the job.
        tell: sends outcomes ahead of others.
        inline: send all contents.
    """

    def __init__(self, count: int, tell: Tell, *, inline: bool) -> None:
        self._left = count
        self._tell = tell
        self._inline = inline
        self._rest: tuple[dict[str, Any], bytes] = ({"extents": [], "stored": [], "lengths": []}, b"")

    def add(self, numbers: Sequence[int], contents: Sequence[bytes | memoryview], stored: Sequence[bool]) -> None:
        """Tell what became of some extents, or keep it for the answer if they are the last.

        Args:
            numbers: of the extents in the job.
            contents: theirs; nobody looks at them afterwards.
            stored: whether the cache has them now.
        """
        sent = [content if self._inline or not kept else b"" for content, kept in zip(contents, stored, strict=True)]
        outcomes = {"extents": list(numbers), "stored": list(stored), "lengths": [len(content) for content in sent]}
        self._left -= len(numbers)
        if self._left:
            self._tell(outcomes, b"".join(sent))
        else:
            self._rest = outcomes, b"".join(sent)

    def rest(self) -> tuple[dict[str, Any], bytes]:
        """What goes with the answer: words, and contents."""
        return self._rest


class ExtentOutcome(NamedTuple):
    """What became of one extent.

    Attributes:
        number: in the job.
        stored: whether the cache has it now.
        content: its bytes; empty if they are in the cache and were not asked for.
    """

    number: int
    stored: bool
    content: bytes


def read_outcomes(words: Mapping[str, Any], payload: bytes) -> Iterator[ExtentOutcome]:
    """The daemon's side: what a worker said of extents."""
    start = 0
    for number, stored, length in zip(words["extents"], words["stored"], words["lengths"], strict=True):
        yield ExtentOutcome(number, stored, payload[start : start + length])
        start += length
