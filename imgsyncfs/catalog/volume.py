"""How many bytes the images of a catalog have together, for ``df``.

The database has to go through all images for that, so it is asked only when somebody wants to know, and again only when
the catalog has changed.

Threads: `CatalogVolume._lock` guards what is known and whether the database is being asked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from imgsyncfs.catalog.mirror import DatasetTable
from imgsyncfs.errors import CatalogError, WorkerLost
from imgsyncfs.workers.pool import Answer, WorkerPool

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""How long ``df`` waits; later ones see what came of it."""


class CatalogVolume:
    """The bytes of the images that are shown.

    Args:
        pool: workers that run `imgsyncfs.catalog.worker.CatalogReader`.
        table: gives the datasets as last seen.
    """

    def __init__(self, pool: WorkerPool, table: Callable[[], DatasetTable]) -> None:
        self._pool = pool
        self._table = table
        self._lock = threading.Lock()
        self._byte_counts: Mapping[str, int] = {}
        self._known = ""
        self._asked: Future[Answer] | None = None

    def total_bytes(self) -> int:
        """Of all datasets that are shown; what is known so far if the database takes longer than `WAIT_SECONDS`."""
        table = self._table()
        with self._lock:
            is_known = self._known == table.digest
            if not is_known and self._asked is None:
                self._asked = self._pool.submit({"question": "byte counts"})
            asked = self._asked
        if not is_known and asked is not None:
            self._take(asked, table.digest)
        with self._lock:
            return sum(self._byte_counts.get(dataset_id, 0) for dataset_id in table.shown)

    def _take(self, asked: Future[Answer], digest: str) -> None:
        try:
            result, _ = asked.result(WAIT_SECONDS)
        except FutureTimeoutError:
            return
        except (CatalogError, WorkerLost) as error:
            logger.warning("The size of the catalog is not known: %s", error)
            result = None
        with self._lock:
            if self._asked is asked:
                self._asked = None
                if result is not None:
                    self._byte_counts, self._known = result["byte_counts"], digest
