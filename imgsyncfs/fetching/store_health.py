"""A store that is away is given time: it is asked again after a pause that doubles, and not by every reader.

Threads: `StorePauses._lock` guards the table; no other lock is taken meanwhile.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from imgsyncfs.errors import StoreUnreachable

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


@dataclass
class _Pause:
    seconds: float
    until: float
    reason: str
    probing: bool = False


class StorePauses:
    """The stores that did not answer, and until when they are left alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}

    def reasons(self) -> dict[str, str]:
        """The stores that are away, and why."""
        with self._lock:
            return {store: pause.reason for store, pause in self._pauses.items()}

    def is_away(self, store: str) -> bool:
        """Whether a store did not answer last."""
        with self._lock:
            return store in self._pauses

    def admit(self, store: str) -> None:
        """Let a reader ask a store. When a pause is over, one reader gets through to see how it is.

        Raises:
            StoreUnreachable: it is being left alone.
        """
        with self._lock:
            pause = self._pauses.get(store)
            if pause is None:
                return
            if pause.probing or time.monotonic() < pause.until:
                raise StoreUnreachable(f"{pause.reason} (it is asked again every {pause.seconds:g} s)")
            pause.probing = True

    def begin(self, store: str, reason: str) -> None:
        """A store did not answer: leave it alone for a while, and longer if this was to see how it is."""
        with self._lock:
            before = self._pauses.get(store)
            if before is None:
                seconds = FIRST_PAUSE_SECONDS
            elif before.probing:
                seconds = min(2 * before.seconds, LONGEST_PAUSE_SECONDS)
            else:
                # Many requests fail together; that is one failure.
                return
            self._pauses[store] = _Pause(seconds, time.monotonic() + seconds, reason)

    def end(self, store: str) -> None:
        """A store has answered."""
        with self._lock:
            self._pauses.pop(store, None)
