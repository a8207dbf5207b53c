"""The requests that waited for long, counted: what a mount's readers call slow.

Threads: `SlowWaits._lock` guards everything; it is held for assignments only.
"""

from __future__ import annotations

import threading
from typing import Any

SLOW_SECONDS = 1.0
"""Far above what a fetch takes from a store that is well, readahead or not."""


class SlowWaits:
    """Counts requests that waited for `SLOW_SECONDS` and longer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._longest, self._path = 0.0, ""

    def note(self, seconds: float, path: str) -> None:
        """Note a request that waited for long.

        Args:
            seconds: until it was tried again, or refused.
            path: of the file or directory, within the mount.
        """
        with self._lock:
            self._count += 1
            if seconds > self._longest:
                self._longest, self._path = seconds, path

    def status(self) -> dict[str, Any]:
        """How many there were, and the longest one."""
        with self._lock:
            return {"count": self._count, "longest_seconds": round(self._longest, 3), "longest_path": self._path}
