"""The errors of a mount: the lines of ``.imgsyncfs/errors.log``.

One line for each cause: the same message within a minute is counted and not repeated, so that 10,000 reads of one
missing blob leave one line. The log is bounded; the older half is dropped first.

Threads: `ErrorLog._lock` guards everything; it is held for dictionary operations only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

logger = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
MOST_LINES = 2000


class ErrorLog:
    """Collects messages from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[str] = deque()
        self._last: dict[str, float] = {}
        self._count = 0

    def report(self, message: str, *, cause: str = "") -> None:
        """Note that something went wrong.

        Args:
            message: a sentence that names the thing, the reason and the remedy; newlines are shown escaped.
            cause: what makes two messages the same; the message itself if empty.
        """
        key = cause or message
        now = time.monotonic()
        with self._lock:
            self._count += 1
            last = self._last.get(key)
            if last is not None and now - last < QUIET_SECONDS:
                return
            if len(self._last) >= MOST_LINES:
                self._last = {known: when for known, when in self._last.items() if now - when < QUIET_SECONDS}
            self._last[key] = now
            shown = message.encode("unicode_escape").decode() if not message.isprintable() else message
            self._lines.append(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {shown}\n")
            if len(self._lines) > MOST_LINES:
                for _ in range(MOST_LINES // 2):
                    self._lines.popleft()
        logger.warning("%s", shown)

    def content(self) -> bytes:
        """The log as it stands, UTF-8."""
        with self._lock:
            return "".join(self._lines).encode(errors="backslashreplace")

    def count(self) -> int:
        """How many things went wrong, repetitions included."""
        with self._lock:
            return self._count
