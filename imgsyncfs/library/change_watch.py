"""Whether a catalog has changed, seen by a mark in its store: no database need be awake for that.

Whoever changes a catalog leaves a mark (`leave_mark`) in the catalog's own store, if that keeps marks. A mount looks at
the mark at each refresh, which is one HEAD, and asks the database where it has changed; and now and then all the same:
for what was written by hand, or by somebody who may not write to the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from imgsyncfs.stores.contract import MARKS_FOLDER, Store

SECONDS_BETWEEN = 75 * 60.0
"""Longer than the hour after which a serverless database goes to sleep as it comes (Azure SQL's auto-pause delay)."""


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
        clock: Unix seconds.
    """

    def __init__(self, look: Callable[[], str], *, clock: Callable[[], float] = time.time) -> None:
        self._look = look
        self._clock = clock
        self._seen = self._asked = ""
        self._asked_at = 0.0

    def is_due(self) -> bool:
        """Whether to ask: the mark has changed, there is none, or nobody has asked for long."""
        self._seen = self._look()
        since = self._clock() - self._asked_at
        return not self._seen or self._seen != self._asked or not 0 <= since < SECONDS_BETWEEN

    def note_asked(self) -> None:
        """Note that the database was asked, after the last look, and has answered."""
        self._asked, self._asked_at = self._seen, self._clock()
