"""Whether to ask for the next request before sleeping: to wake up costs more than to answer.

It pays if the next request comes at once. Whether it does depends on what was answered: the READ of a file follows its
LOOKUP, but who decodes an image after reading it leaves the processor to others for a while. So the kinds of requests
are told apart, and each is as it was the last time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 100e-6
"""How long to ask before sleeping."""

SOON_SECONDS = 2 * POLL_SECONDS
"""A request that came within this time, of which waking up took a part, would have come to whoever asked on."""


class Polling:
    """Decides for one responder.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._followed_soon: set[int] = set()
        self._operation = 0
        self._answered = self._until = 0.0

    def note_request(self) -> None:
        """Note that a request has come."""
        if self._clock() - self._answered < SOON_SECONDS:
            self._followed_soon.add(self._operation)
        else:
            self._followed_soon.discard(self._operation)

    def note_answer(self, operation: int) -> None:
        """Note that a request for an operation was answered."""
        self._operation = operation
        self._answered = self._clock()
        self._until = self._answered + POLL_SECONDS if operation in self._followed_soon else 0.0

    def goes_on(self) -> bool:
        """Whether to ask once more."""
        return self._clock() < self._until
