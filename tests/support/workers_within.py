"""A library's workers within this process: jobs are done at once, by the handlers that worker processes run.

For tests that make tens of thousands of steps, each the same when it is made again.
"""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from imgsyncfs.cache import extents_folder, prepare_cache
from imgsyncfs.catalog.worker import CatalogReader
from imgsyncfs.errors import ImgsyncfsError
from imgsyncfs.fetching.worker import ExtentFetcher
from imgsyncfs.library.processes import LISTINGS_FOLDER, LibraryWorkers
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.settings.private_folders import make_own_folder
from imgsyncfs.workers.forking import Template
from imgsyncfs.workers.pool import Answer, OnPart, WorkerPool, restore_error
from imgsyncfs.workers.process import Handler, describe_error
from imgsyncfs.workers.trial import Trial


class PoolWithoutProcesses(WorkerPool):
    """Does jobs where they are submitted; what goes to and fro is JSON, as it is between processes."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def submit(self, arguments: dict[str, Any], on_part: OnPart | None = None) -> Future[Answer]:
        """Do a job; an exception that is none of the project's is a fault of the test's subject, and is raised."""
        answer: Future[Answer] = Future()

        def send(part: dict[str, Any], payload: bytes) -> None:
            if on_part is not None:
                on_part((_sent(part), bytes(payload)))

        try:
            result, payload = self._handler.handle(_sent(arguments), send)
        except ImgsyncfsError as error:
            answer.set_exception(restore_error(describe_error(error)))
        else:
            answer.set_result((_sent(result), bytes(payload)))
        return answer

    def grow(self, count: int, *, first: dict[str, Any]) -> None:
        """There are no processes."""

    def close(self) -> None:
        """Nothing runs."""


class _NoTemplate(Template):
    """Forks nothing."""

    def __init__(self) -> None:
        """Start nothing."""

    def import_ahead(self, modules: object) -> None:
        """All is imported."""


def workers_within(settings: LibrarySettings) -> LibraryWorkers:
    """Workers for a library with these settings; makes its cache folder ready, as `start_workers` does."""
    catalog = PoolWithoutProcesses(
        CatalogReader({"url": settings.catalog, "password": settings.password, "timeout": settings.timeout})
    )
    table = Trial(partial(catalog.submit, {"question": "datasets", "known": ""}))
    cache_dir = Path(settings.cache_dir)
    for folder in (cache_dir, cache_dir / LISTINGS_FOLDER):
        make_own_folder(folder)
    prepare_cache(extents_folder(cache_dir))
    fetch = PoolWithoutProcesses(
        ExtentFetcher(
            {
                "cache_folder": str(extents_folder(cache_dir)),
                "size_limit": settings.cache_size,
                "keep_free": settings.keep_free,
                "timeout": settings.timeout,
                "stores": settings.stores,
                "allowed_stores": settings.allowed_stores,
            }
        )
    )
    return LibraryWorkers(_NoTemplate(), catalog, fetch, table)


def _sent(fields: dict[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(fields))
