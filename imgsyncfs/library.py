"""A catalog's datasets as directories, with everything behind them: cache, workers, listings, renderings.

The one place where the rooms are put together. The mount is a door to it (`imgsyncfs.daemon`), and so is whatever else
reads datasets without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType

from imgsyncfs.cache import CacheReader, prepare_cache
from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.contents import ContentReader
from imgsyncfs.dataset_directory import DatasetDirectory, DatasetSources
from imgsyncfs.error_log import ErrorLog
from imgsyncfs.fetch import FETCH_THREADS, Fetcher
from imgsyncfs.formats import get_format
from imgsyncfs.library_settings import LibrarySettings
from imgsyncfs.mirror import CatalogMirror
from imgsyncfs.naming import file_name_fault
from imgsyncfs.renderings import Renderer
from imgsyncfs.workers import WorkerPool

FETCH_PROCESSES = 2
"""Two SDK processes feed 4,400-7,400 reads a second; the machines this is made for have two cores."""

CATALOG_THREADS = 2
"""A listing of a million rows must not keep the refresh waiting."""


class Library:
    """The datasets of a catalog. A context manager: at its end, its processes have ended.

    Args:
        settings: what to open and how.

    Raises:
        CatalogError: the catalog cannot be read, and was never read before.
        CacheError: the cache folder cannot be used.
    """

    def __init__(self, settings: LibrarySettings) -> None:
        self.settings = settings
        self.errors = ErrorLog()
        self._entries: Mapping[bytes, DatasetDirectory] = MappingProxyType({})
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        settings = self.settings
        cache_dir = Path(settings.cache_dir)
        extents = cache_dir / "extents"
        prepare_cache(extents, size_limit=settings.cache_size)
        cache_dir.chmod(0o700)
        self.cache = CacheReader(extents)
        stack.callback(self.cache.close)
        self.catalog_pool = WorkerPool(
            "imgsyncfs.catalog.reader:CatalogReader",
            {"url": settings.catalog, "password": settings.password, "timeout": settings.timeout},
            count=1,
            threads=CATALOG_THREADS,
        )
        stack.callback(self.catalog_pool.close)
        self.fetch_pool = WorkerPool(
            "imgsyncfs.fetch:ExtentFetcher",
            {
                "cache_folder": str(extents),
                "size_limit": settings.cache_size,
                "timeout": settings.timeout,
                "stores": settings.stores,
            },
            count=FETCH_PROCESSES,
            threads=FETCH_THREADS,
        )
        stack.callback(self.fetch_pool.close)
        self.fetcher = Fetcher(self.cache, self.fetch_pool, timeout=settings.timeout)
        identity = catalog_identity(settings.catalog)
        self.mirror = CatalogMirror(
            self.catalog_pool,
            cache_dir / "catalogs" / hashlib.sha256(identity.encode()).hexdigest()[:32],
            timeout=settings.timeout,
            report=self.errors.report,
            subscription=settings.subscription,
        )
        self.mirror.start()
        self.contents = ContentReader(self.fetcher)
        self._sources = DatasetSources(
            load=self.mirror.listing,
            contents=self.contents,
            renderer=Renderer(self.contents),
            siblings=tuple(get_format(name) for name in settings.siblings),
        )
        self.take_over()

    @property
    def datasets(self) -> Mapping[bytes, DatasetDirectory]:
        """Directory name to directory; replaced whole by `take_over`."""
        return self._entries

    @property
    def rows(self) -> Mapping[str, DatasetRow]:
        """Dataset id to the catalog's row, as last read, of the datasets to show; hidden ones too."""
        return self.mirror.table.shown

    def take_over(self) -> None:
        """Make the table of directories anew from what the catalog said last, keeping those that are still there."""
        entries: dict[bytes, DatasetDirectory] = {}
        for row in self.rows.values():
            fault = _directory_fault(row)
            if fault:
                self.errors.report(f"The dataset {row.dataset_id!r} is hidden: {fault}; correct its id in the catalog.")
                continue
            name = row.dataset_id.encode()
            known = self._entries.get(name)
            if known is None:
                known = DatasetDirectory(row, self._sources)
            else:
                known.row = row
            entries[name] = known
        self._entries = MappingProxyType(entries)

    def close(self) -> None:
        """End the processes and close the cache."""
        self._stack.close()

    def __enter__(self) -> Library:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _directory_fault(row: DatasetRow) -> str | None:
    fault = file_name_fault(row.dataset_id)
    if fault is None and row.dataset_id.startswith("."):
        fault = "names that begin with a dot are imgsyncfs's own"
    return fault
