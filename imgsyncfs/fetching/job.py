"""A job: extents that a worker is asked for together, and the outcome of each, as both sides send them.

A worker sends the outcome of an extent as soon as it has come, so that its readers do not wait for the others of the
job; the last ones go with the answer. A message holds ``extents``, numbers within the job; for each ``stored``, whether
the cache has it now, and ``lengths``, how many bytes of the payload are its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from imgsyncfs.fetching.extent import Extent
from imgsyncfs.workers.frames import Send


@dataclass(frozen=True)
class Job:
    """Extents that a worker is asked for together.

    Attributes:
        extents: in the order of their numbers.
        own_store: URL of the catalog's own store.
        inline: send the contents back as well.
        background: no reader waits for one of them.
        used: keys of extents that were used since the last job, the oldest use first.
        pinned: keys of extents not to be evicted.
        arrived: numbers of the extents that have come; the coordinator's, on the worker's listening thread.
    """

    extents: Sequence[Extent]
    own_store: str
    inline: bool = False
    background: bool = False
    used: Sequence[str] = ()
    pinned: Sequence[str] = ()
    arrived: set[int] = field(default_factory=set)

    def to_fields(self) -> dict[str, Any]:
        """As JSON-able values, as far as a worker needs to know."""
        return {
            "extents": [extent.to_fields() for extent in self.extents],
            "own_store": self.own_store,
            "inline": self.inline,
            "used": self.used,
            "pinned": self.pinned,
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Job:
        """Back from `to_fields` by way of JSON."""
        return cls(**{**fields, "extents": [Extent.from_fields(each) for each in fields["extents"]]})


class Outcome(NamedTuple):
    """What became of one extent.

    Attributes:
        stored: whether the cache has it now.
        content: its bytes; empty if they are in the cache and were not asked for.
    """

    stored: bool
    content: bytes


class OutcomeSender:
    """The worker's side. For one thread.

    Args:
        job: whose outcomes they are.
        send: sends a message ahead of the answer.
    """

    def __init__(self, job: Job, send: Send) -> None:
        self._numbers = {extent.key: number for number, extent in enumerate(job.extents)}
        self._inline = job.inline
        self._left = len(job.extents)
        self._send = send
        self._last: tuple[dict[str, Any], bytes] = ({"extents": [], "stored": [], "lengths": []}, b"")

    def add(self, extents: Sequence[Extent], contents: Sequence[bytes | memoryview], stored: Sequence[bool]) -> None:
        """Send the outcomes of some extents, or keep them for the answer if they are the last.

        Args:
            extents: of the job.
            contents: theirs; not used after the call.
            stored: whether the cache has them now.
        """
        sent = [content if self._inline or not kept else b"" for content, kept in zip(contents, stored, strict=True)]
        message = {
            "extents": [self._numbers[extent.key] for extent in extents],
            "stored": list(stored),
            "lengths": [len(content) for content in sent],
        }
        self._left -= len(extents)
        if self._left:
            self._send(message, b"".join(sent))
        else:
            self._last = message, b"".join(sent)

    def last(self) -> tuple[dict[str, Any], bytes]:
        """The outcomes that go with the answer, and their contents."""
        return self._last


def read_outcomes(message: Mapping[str, Any], payload: bytes) -> Iterator[tuple[int, Outcome]]:
    """The coordinator's side: the number of each extent in the job, and its outcome."""
    start = 0
    for number, stored, length in zip(message["extents"], message["stored"], message["lengths"], strict=True):
        yield number, Outcome(stored, payload[start : start + length])
        start += length
