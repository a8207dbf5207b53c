"""The worker processes behind a library.

They are forked from a template, which is started before anything else; the catalog's is asked for the table of datasets
at once. An interpreter needs some tenths of a second to start, while this process imports its own modules. So this
module imports little.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imgsyncfs.cache import extents_folder, prepare_cache
from imgsyncfs.library.modules import CATALOG_MODULES, FETCH_MODULES
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.settings.private_folders import make_own_folder
from imgsyncfs.workers.forking import Template
from imgsyncfs.workers.pool import WorkerPool
from imgsyncfs.workers.trial import Trial

LISTINGS_FOLDER = "catalogs"
"""The folder, within the cache folder, of saved tables and listings."""

FETCH_PROCESSES = min(8, max(2, len(os.sched_getaffinity(0))))
"""One for each core, within limits: a store can be read by two side by side, and more than eight only wait for it."""

FETCH_THREADS = 16
"""Jobs that one worker runs at a time: at 20 ms of latency, 800 answers a second."""

CATALOG_THREADS = 2
"""A listing of a million rows must not keep the refresh waiting."""


@dataclass(frozen=True)
class LibraryWorkers:
    """The processes, coming up.

    Attributes:
        template: what they are forked from.
        catalog: one that runs `imgsyncfs.catalog.worker.CatalogReader`.
        fetch: one that runs `imgsyncfs.fetching.worker.ExtentFetcher`; the others of `FETCH_PROCESSES` are forked
            later, when the template has imported what the catalog's stores need.
        table: the first question, for the table of datasets.
        remark: a sentence on a cache that had to be begun anew; empty if it had not.
    """

    template: Template
    catalog: WorkerPool
    fetch: WorkerPool
    table: Trial
    remark: str = ""


def start_workers(settings: LibrarySettings, stack: ExitStack, template: Template | None = None) -> LibraryWorkers:
    """Start a library's processes, and make its cache folder ready for them.

    Args:
        settings: of the library.
        stack: at its end the processes are ended.
        template: of the caller's, if it has started one ahead with `CATALOG_MODULES`.

    Raises:
        CacheError: the cache folder cannot be used, or somebody else may change it.
    """
    if template is None:
        template = stack.enter_context(closing(Template(CATALOG_MODULES)))
    catalog = WorkerPool(
        "imgsyncfs.catalog.worker:CatalogReader",
        {
            "url": settings.catalog,
            "password": settings.password,
            "timeout": settings.timeout,
            "offline": settings.offline,
            "log_in": settings.log_in,
        },
        count=1,
        threads=CATALOG_THREADS,
        template=template,
    )
    stack.callback(catalog.close)
    table = Trial(partial(catalog.submit, {"question": "datasets", "known": ""}))
    template.import_ahead(FETCH_MODULES)
    cache_dir = Path(settings.cache_dir)
    for folder in (cache_dir, cache_dir / LISTINGS_FOLDER):
        make_own_folder(folder)
    extents = extents_folder(cache_dir)
    remark = prepare_cache(extents)
    fetch = WorkerPool(
        "imgsyncfs.fetching.worker:ExtentFetcher",
        {
            "cache_folder": str(extents),
            "size_limit": settings.cache_size,
            "keep_free": settings.keep_free,
            "timeout": settings.timeout,
            "stores": settings.stores,
            "config": settings.config,
            "profile": settings.profile,
            "allowed_stores": settings.allowed_stores,
            "offline": settings.offline,
            "log_in": settings.log_in,
        },
        count=1,
        threads=FETCH_THREADS,
        template=template,
    )
    stack.callback(fetch.close)
    return LibraryWorkers(template, catalog, fetch, table, remark)
