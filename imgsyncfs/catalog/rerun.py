"""Writing that others were in the way of is done once more: what was undone for them can be done again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from imgsyncfs.catalog.fault_kinds import DuplicateRow
from imgsyncfs.errors import CatalogConflict, CatalogNotReady, CatalogSessionEnded

logger = logging.getLogger(__name__)

ATTEMPTS = 5
PAUSE_SECONDS = 0.2
"""Before the second attempt, at most; doubled with each."""


def until_done(
    write: Callable[[Callable[[int], None]], int], progress: Callable[[int], None], *, seconds: float
) -> int:
    """Write, and again where a deadlock, a lost session or a server that was busy for a moment has undone it.

    Args:
        write: one transaction, which compares with what is there: done twice it changes nothing more. It is given what
            it tells of its progress.
        progress: is told how many more are done, once for all attempts.
        seconds: no attempt begins later than that.

    Returns:
        What the last attempt has returned.

    Raises:
        CatalogError: it cannot be done.
    """
    told = _ToldOnce(progress)
    deadline = time.monotonic() + seconds
    for attempt in range(ATTEMPTS - 1):
        try:
            return write(told.more)
        except DuplicateRow:
            # Somebody else published the dataset for the first time just then. Now it is there, and can be locked.
            if attempt:
                raise
        except (CatalogConflict, CatalogNotReady, CatalogSessionEnded) as error:
            # Whether what was lost with the session was committed is seen by comparing again.
            if time.monotonic() > deadline:
                raise
            logger.info("The catalog is written once more: %s", error)
            time.sleep(random.uniform(0.5, 1.0) * 2**attempt * PAUSE_SECONDS)  # noqa: S311  # no secret
        told.begin_anew()
    return write(told.more)


class _ToldOnce:
    """Progress of what may be begun anew: what was told once is not told again.

    Args:
        progress: is told how many more are done.
    """

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress
        self._done = self._told = 0

    def begin_anew(self) -> None:
        """Nothing is done any more."""
        self._done = 0

    def more(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._done > self._told:
            self._progress(self._done - self._told)
            self._told = self._done
