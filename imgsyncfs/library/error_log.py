"""The errors of a mount: the lines of ``.imgsyncfs/errors.log``.

One line for each cause: the same message within a minute is counted and not repeated, so that 10,000 reads of one
missing blob leave one line. Of messages that differ, as when 10,000 blobs are missing, the first `MOST_IN_MINUTE` of a
minute are kept, and then how many more there were. The log is bounded; the older half is dropped first.

Threads: `ErrorLog._lock` guards everything; it is held for dictionary operations only.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from imgsyncfs.errors import ImgsyncfsError

logger = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
MOST_LINES = 2000
MOST_IN_MINUTE = 200
"""Lines within `QUIET_SECONDS`: a mount's log on the disk grows by no more than this either."""

LOSS = "loss"
"""The kind of what a view does not show."""

CATALOG = "catalog"
"""The kind of what is odd in the catalog, and hidden."""

OTHER = "other"

INTERNAL = "internal"
"""The kind of what nobody expected: a fault of the mount's own."""

_NO_FAILURES = frozenset({LOSS, CATALOG})


def kind_of(error: type[Exception]) -> str:
    """What an exception is counted as: of `BlobMissing`, ``blob missing``."""
    if not issubclass(error, ImgsyncfsError):
        return INTERNAL
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", error.__name__.removesuffix("Error")).lower()


class ErrorLog:
    """Collects messages from any thread.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: deque[str] = deque()
        self._last: dict[str, float] = {}
        self._kinds: Counter[str] = Counter()
        self._failed_at: float | None = None
        self._minute = clock()
        self._in_minute = 0

    def report(self, message: str, *, cause: str = "", kind: str = OTHER) -> None:
        """Note that something went wrong.

        Args:
            message: a sentence that names the thing, the reason and the remedy; newlines are shown escaped.
            cause: what makes two messages the same; the message itself if empty.
            kind: what it is counted as.
        """
        key = cause or message
        now = self._clock()
        shown = message.encode("unicode_escape").decode() if not message.isprintable() else message
        lines: list[str] = []
        with self._lock:
            self._kinds[kind] += 1
            if kind not in _NO_FAILURES:
                self._failed_at = now
            last = self._last.get(key)
            if last is not None and now - last < QUIET_SECONDS:
                return
            if len(self._last) >= MOST_LINES:
                self._last = {known: when for known, when in self._last.items() if now - when < QUIET_SECONDS}
            if now - self._minute >= QUIET_SECONDS:
                left_out = self._in_minute - MOST_IN_MINUTE
                if left_out > 0:
                    lines.append(f"{left_out:,} more messages were left out; status.json counts them by kind.")
                self._minute, self._in_minute = now, 0
            self._in_minute += 1
            if self._in_minute <= MOST_IN_MINUTE:
                # What was left out is said when it comes again.
                self._last[key] = now
                lines.append(shown)
            written = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            self._lines += [f"{written} {line}\n" for line in lines]
            if len(self._lines) > MOST_LINES:
                for _ in range(MOST_LINES // 2):
                    self._lines.popleft()
        for line in lines:
            logger.warning("%s", line)

    def content(self) -> bytes:
        """The log as it stands, UTF-8."""
        with self._lock:
            return "".join(self._lines).encode(errors="backslashreplace")

    def count(self) -> int:
        """How many things went wrong, repetitions included."""
        with self._lock:
            return self._kinds.total()

    def kinds(self) -> dict[str, int]:
        """How many things of each kind went wrong, the most frequent first."""
        with self._lock:
            return dict(self._kinds.most_common())

    def has_failed_within(self, seconds: float) -> bool:
        """Whether something failed in the last seconds."""
        with self._lock:
            return self._failed_at is not None and self._clock() - self._failed_at < seconds
