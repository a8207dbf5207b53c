"""A catalog's datasets with everything behind them: cache, workers, listings, renderings.

The packages are put together here alone. The mount (`imgsyncfs.mount.daemon`), the Python API and the tools use it.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from imgsyncfs.cache import CacheReader, VerifiedExtents, extents_folder
from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.mirror import CatalogMirror
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.catalog.selections import MARK, find_selection, is_selection
from imgsyncfs.catalog.subscriptions import find_datasets
from imgsyncfs.catalog.url import ServerUrl, SqliteUrl, parse_catalog_url
from imgsyncfs.catalog.volume import CatalogVolume
from imgsyncfs.errors import NotInCatalog, StoreNotAllowed
from imgsyncfs.fetching.contents import ContentReader, FetchedExtents
from imgsyncfs.fetching.fetcher import Fetcher
from imgsyncfs.fetching.readahead import Readahead
from imgsyncfs.formats.registry import get_format
from imgsyncfs.library.change_watch import ChangeWatch, mark_name
from imgsyncfs.library.dataset_facts import facts_for
from imgsyncfs.library.dataset_files import DatasetFiles, FileSources
from imgsyncfs.library.error_log import CATALOG, ErrorLog, kind_of
from imgsyncfs.library.kept_renderings import KeptRenderings
from imgsyncfs.library.picture_files import files_in_view
from imgsyncfs.library.processes import FETCH_PROCESSES, LISTINGS_FOLDER, LibraryWorkers, start_workers
from imgsyncfs.library.renderings import Renderer
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import View
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.stores.allowed import allowed_stores, check_allowed, is_allowed, refusals
from imgsyncfs.stores.urls import store_modules

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

MOST_STORES_OPENED = 8
"""Stores that a worker opens ahead of the first read: to import the Azure SDK takes half a second."""


class Library:
    """The datasets of a catalog. A context manager: at its end, its processes have ended.

    Args:
        settings: what to open and how.
        workers: its processes if they were started ahead. The caller then ends them, and calls
            `start_other_workers` when nobody waits for the library any more.
        verified: extents that were verified lately; None unless other processes are to know them.

    Raises:
        CatalogError: the catalog cannot be read, and was never read before.
        CacheError: the cache folder cannot be used.
    """

    def __init__(
        self,
        settings: LibrarySettings,
        *,
        workers: LibraryWorkers | None = None,
        verified: VerifiedExtents | None = None,
    ) -> None:
        self.settings = settings
        self.errors = ErrorLog()
        self._entries: Mapping[bytes, DatasetRow] = MappingProxyType({})
        self._hidden: list[str] = []
        with ExitStack() as stack:
            self._open(stack, workers, verified)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack, workers: LibraryWorkers | None, verified: VerifiedExtents | None) -> None:
        settings = self.settings
        started_ahead = workers is not None
        workers = workers or start_workers(settings, stack)
        self.template, self.catalog_pool, self.fetch_pool = workers.template, workers.catalog, workers.fetch
        self.cache = CacheReader(extents_folder(Path(settings.cache_dir)), verified=verified)
        stack.callback(self.cache.close)
        self.fetcher = Fetcher(self.cache, self.fetch_pool, timeout=settings.timeout, own_store=lambda: self.own_store)
        identity = catalog_identity(settings.catalog)
        self.mirror = CatalogMirror(
            self.catalog_pool,
            Path(settings.cache_dir) / LISTINGS_FOLDER / hashlib.sha256(identity.encode()).hexdigest()[:32],
            timeout=settings.timeout,
            report=partial(self.errors.report, kind=CATALOG),
            subscription=settings.subscription,
        )
        if workers.remark:
            self.errors.report(workers.remark)
        self.cache_remark = workers.remark
        self.mirror.start(workers.table)
        self.volume = CatalogVolume(self.catalog_pool, lambda: self.mirror.table)
        self.extents = FetchedExtents(self.fetcher, Readahead(cache_bytes=settings.cache_size))
        self.contents = ContentReader(self.extents, self.check_store)
        self.sources = file_sources(self.contents, settings.siblings)
        url = parse_catalog_url(settings.catalog)
        self.watch = ChangeWatch(self._change_mark, may_sleep=isinstance(url, ServerUrl) and url.may_sleep)
        self.take_over()
        if not started_ahead:
            self.start_other_workers()

    def _change_mark(self) -> str:
        """The etag of the mark of changes; a file is asked itself, which wakes nobody."""
        catalog_id = self.mirror.table.catalog_id
        if not catalog_id or isinstance(parse_catalog_url(self.settings.catalog), SqliteUrl):
            return ""
        return self.fetcher.mark_etag(mark_name(catalog_id))

    @property
    def datasets(self) -> Mapping[bytes, DatasetRow]:
        """Name of each dataset that is shown to its row; replaced whole by `take_over`."""
        return self._entries

    def files(self, dataset_id: str, *, view: View | None = None, amount: int | None = None) -> DatasetFiles:
        """The files of a dataset, at the revision that the catalog had last.

        Args:
            dataset_id: which one.
            view: the layout; None for the dataset's own directory, with the library's siblings.
            amount: how many images, the first by name; None for all.

        Raises:
            CatalogError: the listing cannot be read.
            ConfigurationError: the dataset's split rule cannot be used.
        """
        if view is not None:
            return self.view_files(dataset_id, view, amount=amount)
        return DatasetFiles(self._listing(dataset_id, amount), self.sources)

    def view_files(self, dataset_id: str, view: View, *, amount: int | None = None) -> ViewFiles:
        """The files of a dataset in a view; see `files`."""
        listing = self._listing(dataset_id, amount)
        row = self.row(dataset_id)
        if row is None:
            raise NotInCatalog(f"There is no dataset {dataset_id} in the catalog.")
        facts = facts_for(view, listing, row, self.mirror)
        return files_in_view(listing, view, self.sources, facts=facts)

    def _listing(self, dataset_id: str, amount: int | None) -> Listing:
        listing = self.mirror.listing(dataset_id)
        return listing if amount is None else listing.first(amount)

    @property
    def rows(self) -> Mapping[str, DatasetRow]:
        """Dataset id to the catalog's row, as last read, of the datasets to show; hidden ones too."""
        return self.mirror.table.shown

    @property
    def selections(self) -> Mapping[bytes, DatasetRow]:
        """Each selection's name, with its mark, to its row as a dataset."""
        return {row.dataset_id.encode(): row for row in self.mirror.table.selected.values()}

    def entry(self, dataset_id: str) -> DatasetRow | None:
        """The row of a dataset, or of a selection with its mark, that has a directory; None if there is none."""
        name = dataset_id.encode(errors="surrogatepass")
        return self.datasets.get(name) or self.mirror.table.selected.get(dataset_id)

    def row(self, dataset_id: str) -> DatasetRow | None:
        """The row of a dataset to show, or of a selection with its mark; None if there is none."""
        table = self.mirror.table
        return table.shown.get(dataset_id) or table.selected.get(dataset_id)

    def find(self, dataset_ids: Iterable[str]) -> list[DatasetRow]:
        """The rows of datasets that have directories, and of selections with their mark, each once, in their order.

        Raises:
            ConfigurationError: one is unknown; the message names near ones.
        """
        table = self.mirror.table
        found = []
        for each in dict.fromkeys(dataset_ids):
            if is_selection(each):
                found.append(table.selected[MARK + find_selection(table.selections, each).name])
            else:
                found += find_datasets(self._entries.values(), [each])
        return found

    @property
    def faults(self) -> list[str]:
        """A sentence for each dataset or subscription of the catalog that cannot be shown, or not as it is."""
        return [*self.mirror.table.faults, *self._hidden]

    @property
    def own_store(self) -> str:
        """URL of the catalog's own store; empty before the catalog has answered."""
        return self.mirror.table.store

    @property
    def stores(self) -> dict[str, list[str]]:
        """URLs of the stores of the shown datasets that may be read, with the ids of the datasets in each."""
        allowed = self.allowed
        stores: dict[str, list[str]] = {}
        for row in self.rows.values():
            if is_allowed(row.store, allowed):
                stores.setdefault(row.store, []).append(row.dataset_id)
        return stores

    @property
    def refusals(self) -> list[str]:
        """A sentence on each store of shown datasets that may not be read."""
        return refusals(self.rows.values(), self.allowed)

    def check_store(self, url: str) -> None:
        """Refuse a store that may not be read.

        Raises:
            StoreNotAllowed: it is neither the catalog's own nor allowed.
            ConfigurationError: the URL makes no sense.
        """
        check_allowed(url, self.allowed)

    @property
    def allowed(self) -> tuple[str, ...]:
        """URLs of the stores that may be read: the catalog's own, and those that were allowed."""
        return allowed_stores(self.own_store, self.settings.allowed_stores)

    def start_other_workers(self) -> None:
        """Start the processes that only heavy use needs."""
        stores = [*self.stores]
        self.template.import_ahead(store_modules(stores))
        first = {"open": stores[:MOST_STORES_OPENED], "own_store": self.own_store}
        self.fetch_pool.grow(FETCH_PROCESSES, first=first)
        self.fetch_pool.submit({"remove_orphans": True})
        self.mirror.tidy()

    def import_ahead(self) -> None:
        """Import the modules that a start leaves out and a first reader would wait for, 0.3 s here and in a worker."""
        self.catalog_pool.submit({"question": "nothing"})
        threading.Thread(target=importlib.import_module, args=("imgsyncfs.catalog.listing",), daemon=True).start()

    def take_over(self) -> None:
        """Take over the datasets of the catalog's newest table."""
        entries: dict[bytes, DatasetRow] = {}
        hidden: list[str] = []
        for row in self.rows.values():
            fault = _directory_fault(row)
            if fault:
                hidden.append(f"The dataset {row.dataset_id!r} is hidden: {fault}; correct its id in the catalog.")
                self.errors.report(hidden[-1], kind=CATALOG)
            else:
                entries[row.dataset_id.encode()] = row
        for refusal in self.refusals:
            self.errors.report(refusal, kind=kind_of(StoreNotAllowed))
        self._entries = MappingProxyType(entries)
        self._hidden = hidden

    def close(self) -> None:
        """End the processes and close the cache."""
        self._stack.close()

    def __enter__(self) -> Library:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def file_sources(
    contents: ContentReader,
    siblings: Iterable[str],
    kept: KeptRenderings | None = None,
    report_loss: Callable[[str, str], None] = lambda _, __: None,
    *,
    is_limited: bool = False,
) -> FileSources:
    """Where files of datasets come from, with the formats of these names beside each image.

    Args:
        contents: reads blobs.
        siblings: names of formats.
        kept: where renderings are kept; None for this process alone.
        report_loss: told what a view does not show; see `Renderer`.
        is_limited: leave to others what takes long to render; likewise.
    """
    renderer = Renderer(contents, kept or KeptRenderings(), report_loss, is_limited=is_limited)
    return FileSources(contents, renderer, tuple(get_format(name) for name in siblings))


def _directory_fault(row: DatasetRow) -> str | None:
    fault = file_name_fault(row.dataset_id)
    if fault is None and row.dataset_id.startswith("."):
        fault = "names that begin with a dot are imgsyncfs's own"
    return fault
