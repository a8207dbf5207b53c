"""Stores that are away. One that cannot be reached is asked again after a pause that doubles, and not by every reader.

Threads: `StoreBackoff._lock` guards the table; no other lock is taken while it is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
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


class StoreBackoff:
    """The stores that did not answer, and until when they are not asked.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}
        self._refusals: dict[str, str] = {}

    def reasons(self) -> dict[str, str]:
        """The stores that cannot be reached, refuse us or are missing, and why."""
        with self._lock:
            return {**self._refusals, **{store: pause.reason for store, pause in self._pauses.items()}}

    def is_unreachable(self, store: str) -> bool:
        """Whether a store did not answer last."""
        with self._lock:
            return store in self._pauses

    def admit(self, store: str) -> None:
        """Let a reader ask a store. After a pause one reader gets through, to probe it.

        Raises:
            StoreUnreachable: the pause is not over.
        """
        with self._lock:
            pause = self._pauses.get(store)
            if pause is None:
                return
            if pause.probing or self._clock() < pause.until:
                raise StoreUnreachable(f"{pause.reason} (it is asked again every {pause.seconds:g} s)")
            pause.probing = True

    def begin(self, store: str, reason: str) -> None:
        """Begin a pause for a store that did not answer; a longer one if this was the probe."""
        with self._lock:
            before = self._pauses.get(store)
            if before is None:
                seconds = FIRST_PAUSE_SECONDS
            elif before.probing:
                seconds = min(2 * before.seconds, LONGEST_PAUSE_SECONDS)
            else:
                # Many requests fail together; they are one failure.
                return
            self._pauses[store] = _Pause(seconds, self._clock() + seconds, reason)

    def release(self, store: str) -> None:
        """Let another reader probe a store: nothing has come of the probe."""
        with self._lock:
            if store in self._pauses:
                self._pauses[store].probing = False

    def refuse(self, store: str, reason: str) -> None:
        """Note that a store has answered, and that nothing can be read from it; readers go on asking it."""
        with self._lock:
            self._pauses.pop(store, None)
            self._refusals[store] = reason

    def end(self, store: str) -> None:
        """End the pause of a store that has answered."""
        with self._lock:
            self._pauses.pop(store, None)
            self._refusals.pop(store, None)
