"""Whether a catalog has changed, seen by a mark in its store: no database need be awake for that.

Whoever changes a catalog leaves a mark (`leave_mark`) in the catalog's own store, if that keeps marks. A mount looks at
the mark at each refresh, which is one HEAD, and asks the database where it has changed; and now and then all the same:
for what was written by hand, or by somebody who may not write to the store.

Where there is no mark, the database is asked at each refresh. One that goes to sleep when nobody asks, and costs less
then, is left alone while nobody reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from imgsyncfs.stores.contract import MARKS_FOLDER, Store

SECONDS_BETWEEN = 75 * 60.0
"""Longer than the hour after which a serverless database goes to sleep as it comes (Azure SQL's auto-pause delay)."""

IDLE_SECONDS = 10 * 60.0
"""After as long without a request, nobody reads."""


def mark_name(catalog_id: str) -> str:
    """Where the mark of a catalog lies in its store."""
    return f"{MARKS_FOLDER}changed-{catalog_id}"


def leave_mark(store: Store, catalog_id: str) -> bool:
    """Tell mounts of a catalog that it has changed; says whether its store keeps marks.

    Raises:
        StoreError: the mark cannot be written.
    """
    return bool(catalog_id) and store.mark(mark_name(catalog_id))


class ChangeWatch:
    """Decides whether a catalog's database is asked. Used by one thread.

    Args:
        look: looks at the mark; gives its etag, ``""`` if there is none or nobody may look.
        may_sleep: whether the database goes to sleep when nobody asks.
        clock: Unix seconds.
    """

    def __init__(
        self, look: Callable[[], str], *, may_sleep: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._look = look
        self._may_sleep = may_sleep
        self._clock = clock
        self._seen = self._asked = ""
        self._asked_at = 0.0
        self._requests = 0
        self._read_at = clock()

    def is_due(self, *, requests: int = 0) -> bool:
        """Whether to ask: the mark has changed, somebody reads and there is no mark, or nobody has asked for long.

        Args:
            requests: how many readers have sent so far.
        """
        self._seen = self._look()
        now = self._clock()
        if requests != self._requests:
            self._requests, self._read_at = requests, now
        if not 0 <= now - self._asked_at < SECONDS_BETWEEN:
            return True
        if self._seen:
            return self._seen != self._asked
        return not (self._may_sleep and now - self._read_at >= IDLE_SECONDS)

    def note_asked(self) -> None:
        """Note that the database was asked, after the last look, and has answered."""
        self._asked, self._asked_at = self._seen, self._clock()
