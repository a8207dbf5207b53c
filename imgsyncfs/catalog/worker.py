"""The worker's side of reading a catalog for a mount: the table of datasets, and listings, saved as files.

The coordinator never speaks SQL: turning a million rows into Python values would keep its interpreter lock busy for
seconds. For the same reason a large dataset's annotations are read by a second process while this one reads the images;
it is started for that and ends with it.

`imgsyncfs.catalog.listing` is imported when the first listing is read: it brings numpy, and a mount's start waits for
the table of datasets.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from imgsyncfs.catalog import Catalog, DatasetRow, SubscriptionRow, open_catalog
from imgsyncfs.catalog.listing_folder import listing_folder, remove_unfinished
from imgsyncfs.catalog.rows import DatasetLabelsRow, SelectionRow, SplitRow
from imgsyncfs.catalog.schema import DATASET_COLUMNS, DATASET_LABELS_COLUMNS, SPLIT_COLUMNS, SUBSCRIPTION_COLUMNS
from imgsyncfs.catalog.selections import MARK, class_choice, datasets_of, is_selection, selection_row, shown_labels
from imgsyncfs.catalog.url import SqliteUrl, parse_catalog_url
from imgsyncfs.errors import (
    CacheError,
    CatalogError,
    CatalogSessionEnded,
    CatalogUnreachable,
    DatasetChanged,
    ListingDamaged,
    WorkerLost,
)
from imgsyncfs.workers.environment import log_in_with
from imgsyncfs.workers.forking import Template
from imgsyncfs.workers.pool import WorkerPool
from imgsyncfs.workers.trial import say_begun, say_over

if TYPE_CHECKING:
    from imgsyncfs.catalog.listing import CollectedRows, Listing, ListingPart
    from imgsyncfs.catalog.selecting import SelectedImages
    from imgsyncfs.workers.frames import Send

logger = logging.getLogger(__name__)

LARGE_DATASET = 100_000
"""From this number of images on a second process pays: it takes 0.3 s to start."""

SELECTION_ATTEMPTS = 5

LONGEST_READING_SECONDS = 3600.0
"""Each answer of the database has its own time limit; this is for all annotations of the largest datasets."""


REST_SECONDS = 5.0
"""After so long without a job a session with a server is ended: a serverless database sleeps only without any."""


class _Held:
    """What one thread has opened.

    Args:
        rest_seconds: after so long without a job its session is ended.

    Attributes:
        catalog: None if nothing is.
        lock: held during a job, and while the session is ended after it.
        rest: ends the session in a while.
    """

    def __init__(self, rest_seconds: float) -> None:
        self._rest_seconds = rest_seconds
        self.catalog: Catalog | None = None
        self.lock = threading.Lock()
        self.rest: threading.Timer | None = None

    def rest_soon(self) -> None:
        """Have the session ended, unless another job comes."""
        if self.catalog is not None and self.catalog.has_session:
            self.rest = threading.Timer(self._rest_seconds, self._rest)
            self.rest.daemon = True
            self.rest.start()

    def stay(self) -> None:
        """Have the session not ended."""
        if self.rest is not None:
            self.rest.cancel()
            self.rest = None

    def _rest(self) -> None:
        if self.lock.acquire(blocking=False):
            try:
                if self.catalog is not None:
                    self.catalog.rest()
            except CatalogError as error:
                logger.debug("A session could not be ended: %s", error)
            finally:
                self.lock.release()


class CatalogReader:
    """Answers the coordinator's questions about a catalog; one connection a thread, and none for long in between.

    Args:
        settings: ``url``, ``password`` and ``timeout`` (seconds) of the catalog; whether it is ``offline``: not to be
            asked; and ``log_in``, see `imgsyncfs.workers.environment.log_in_section`. The last two may be absent.
        large_dataset: images from which on a second process reads the annotations.
        rest_seconds: after so long without a job a session with a server is ended.
    """

    def __init__(
        self, settings: dict[str, Any], *, large_dataset: int = LARGE_DATASET, rest_seconds: float = REST_SECONDS
    ) -> None:
        log_in_with(settings.get("log_in", {}))
        self._settings = settings
        self._large_dataset = large_dataset
        self._rest_seconds = rest_seconds
        self._read_lock = threading.Lock()
        self._read: tuple[str | None, str] = None, ""
        # These are a worker's own threads, which live as long as it does: a thread-local is safe here.
        self._local = threading.local()

    def handle(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:
        """Do one job.

        Args:
            arguments: ``question`` is "datasets" (with ``known``, the digest of the table the asker has), "listing"
                (with ``dataset``, or a selection with its mark, and ``folder``, that of all listings), "annotations"
                (with ``dataset`` and ``label_version``), "values" (with ``dataset``, ``folder``, its saved listing's,
                and ``label``, the name of a classification, None for the first of each image), "byte counts",
                "tidy" (with ``folder``, the catalog's: see `remove_unfinished`), or "nothing": be ready for a listing.
            send: is told, for "datasets", when the database is connected to, and when it has answered.

        Returns:
            For "datasets" the digest, and as JSON, unless the asker has it, the catalog's table: datasets,
            subscriptions, split rules, labels and selections column by column. For "listing" the path it was saved to,
            None if there is no such dataset; where it could not be saved, ``unsaved`` says why, and what
            `imgsyncfs.catalog.listing.listing_from_bytes` reads comes along. For "annotations" what
            `CollectedRows.from_bytes` reads, for "values" what `ImageValues.from_bytes` does. For "byte counts" those
            of the datasets' images.

        Raises:
            CatalogError: the catalog cannot be read.
        """
        held = self._held()
        held.stay()
        try:
            with held.lock:
                try:
                    return self._answer(arguments, send)
                except CatalogSessionEnded:
                    # In the middle of an answer: it is asked for once more.
                    self._disconnect()
                    return self._answer(arguments, send)
        except CatalogError:
            # The next job begins with a fresh connection: this one may be broken.
            self._disconnect()
            raise
        finally:
            held.rest_soon()

    def _held(self) -> _Held:
        if not hasattr(self._local, "held"):
            self._local.held = _Held(self._rest_seconds)
        held: _Held = self._local.held
        return held

    def _answer(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:
        """See `handle`."""
        question = arguments["question"]
        if question == "datasets":
            return self._datasets(arguments["known"], send)
        if question == "byte counts":
            return {"byte_counts": self._connect().byte_counts()}, b""
        if question == "nothing":
            importlib.import_module("imgsyncfs.catalog.listing")
            return {}, b""
        if question == "tidy":
            remove_unfinished(Path(arguments["folder"]))
            return {}, b""
        if question == "annotations":
            return self._annotations(arguments["dataset"], arguments["label_version"])
        if question == "values":
            return self._values(arguments["dataset"], Path(arguments["folder"]), arguments["label"])
        return self._listing(arguments["dataset"], Path(arguments["folder"]))

    def _datasets(self, known: str, send: Send) -> tuple[dict[str, Any], bytes]:
        # A file that is read slowly, on a busy machine, is no server that hangs.
        (say_over if isinstance(parse_catalog_url(self._settings["url"]), SqliteUrl) else say_begun)(send)
        catalog = self._connect()
        # Before the table: what changes in between is seen the next time.
        fingerprint = catalog.fingerprint()
        # What is long still comes, from a database that answers.
        say_over(send)
        with self._read_lock:
            if fingerprint is not None and known and self._read == (fingerprint, known):
                return {"digest": known}, b""
        found = catalog.table()
        table = {
            "catalog_id": found.catalog_id,
            "store": found.store,
            "datasets": _columns(found.datasets, DATASET_COLUMNS),
            "subscriptions": _columns(found.subscriptions, SUBSCRIPTION_COLUMNS),
            "split_rules": _columns(found.split_rules, SPLIT_COLUMNS),
            "dataset_labels": _columns(found.dataset_labels, DATASET_LABELS_COLUMNS),
            "selections": _columns(found.selections, [each.name for each in fields(SelectionRow)]),
            "faults": found.faults,
        }
        content = orjson.dumps(table)
        digest = hashlib.sha256(content).hexdigest()
        with self._read_lock:
            self._read = (fingerprint, digest)
        return {"digest": digest}, b"" if digest == known else content

    def _listing(self, dataset_id: str, folder: Path) -> tuple[dict[str, Any], bytes]:
        made = (self._save_selection if is_selection(dataset_id) else self._save_listing)(dataset_id, folder)
        if made is None:
            return {"path": None}, b""
        if not made.unsaved:
            return {"path": str(made.path)}, b""
        from imgsyncfs.catalog.listing import listing_to_bytes

        return {"path": str(made.path), "unsaved": made.unsaved}, listing_to_bytes(made.listing)

    def _save_listing(self, dataset_id: str, folder: Path) -> _MadeListing | None:
        """Read a listing and save it; None if there is no such dataset."""
        from imgsyncfs.catalog.listing import load_newest, numbered, read_listing

        with ExitStack() as stack:
            listing = read_listing(
                self._connect(), dataset_id, annotations_beside=lambda row: self._begin_annotations(row, stack)
            )
        if listing is None:
            return None
        own = listing_folder(folder, dataset_id)
        previous = load_newest(own)
        # Another process may have saved it meanwhile: who numbered it first has numbered it.
        if previous is not None and previous.key == listing.key:
            return _MadeListing(previous, own / listing.key)
        return _saved(numbered(listing, previous), own / listing.key)

    def _save_selection(self, marked: str, folder: Path) -> _MadeListing | None:
        """Bring the listing of a selection together and save it; see `_save_listing`."""
        from imgsyncfs.catalog.listing import join_listings, numbered
        from imgsyncfs.catalog.selecting import select_images

        catalog = self._connect()
        for _ in range(SELECTION_ATTEMPTS):
            table = catalog.table()
            selection = next((each for each in table.selections if MARK + each.name == marked), None)
            if selection is None:
                return None
            datasets = datasets_of(selection, table.datasets)
            labels = shown_labels(table.dataset_labels, table.datasets)
            row = selection_row(selection, datasets, labels, table.catalog_id)
            found = select_images(catalog, selection, table.datasets, table.dataset_labels)
            parts = self._parts(found, folder, table.catalog_id)
            if parts is not None:
                joined = join_listings(row, parts, catalog_id=table.catalog_id, choice=class_choice(selection))
                path = listing_folder(folder, marked) / joined.key
                # Numbers begin anew: the same annotation may be another one under other names of classes.
                return _saved(numbered(joined, None), path)
        raise CatalogError(
            f"Datasets of the selection {marked} were published again during each of {SELECTION_ATTEMPTS} attempts to "
            "read it; try again later."
        )

    def _parts(self, found: Sequence[SelectedImages], folder: Path, catalog_id: str) -> list[ListingPart] | None:
        """The parts of datasets' listings; None if one has been published again meanwhile."""
        import numpy as np

        from imgsyncfs.catalog.listing import ListingPart, chosen_indices, load_listing

        parts = []
        for each in found:
            key = each.row.listing_key(catalog_id)
            listing: Listing | None = None
            with suppress(ListingDamaged):
                listing = load_listing(listing_folder(folder, each.row.dataset_id) / key)
            if listing is None:
                made = self._save_listing(each.row.dataset_id, folder)
                listing = made.listing if made is not None else None
            if listing is None or listing.key != key:
                return None
            chosen = np.arange(len(listing))
            if each.names is not None:
                chosen = chosen_indices(listing, [name.encode() for name in each.names])
            parts.append(ListingPart(listing, chosen))
        return parts

    def _annotations(self, dataset: str, label_version: str) -> tuple[dict[str, Any], bytes]:
        from imgsyncfs.catalog.listing import collect_annotations

        return {}, collect_annotations(self._connect().annotation_portions(dataset, label_version)).to_bytes()

    def _values(self, dataset: str, folder: Path, label: str | None) -> tuple[dict[str, Any], bytes]:
        from imgsyncfs.catalog.listing import ImageValues, load_listing, read_listing, save_values

        again = DatasetChanged(f"The dataset {dataset} was published again just now; look again in a moment.")
        catalog = self._connect()
        try:
            listing = load_listing(folder)
        except ListingDamaged as error:
            # It may not have been saved for want of room. Values go by places alone, and files' numbers do not matter.
            read = read_listing(catalog, dataset)
            if read is None or read.key != folder.name:
                raise again from error
            listing = read

        def is_current() -> bool:
            row = catalog.dataset(dataset)
            return row is not None and row.listing_key(catalog.identity()) == listing.key

        found = catalog.image_values(dataset, listing.label_version, label) if is_current() else {}
        if not is_current():
            raise again
        values = ImageValues.of(listing, found)
        with suppress(OSError):
            # The next start may need the database then.
            save_values(values, folder, label)
        return {}, values.to_bytes()

    def _begin_annotations(self, row: DatasetRow, stack: ExitStack) -> Callable[[], CollectedRows] | None:
        """Have a process of its own collect a large dataset's annotations; see `read_listing`."""
        if row.size < self._large_dataset:
            return None
        template = Template()
        stack.callback(template.close)
        pool = WorkerPool(
            "imgsyncfs.catalog.worker:CatalogReader", self._settings, count=1, threads=1, template=template
        )
        stack.callback(pool.close)
        answer = pool.submit({"question": "annotations", "dataset": row.dataset_id, "label_version": row.label_version})

        def wait() -> CollectedRows:
            from imgsyncfs.catalog.listing import CollectedRows

            try:
                _, content = answer.result(LONGEST_READING_SECONDS)
            except WorkerLost as error:
                raise CatalogUnreachable(str(error)) from error
            except FutureTimeoutError:
                raise CatalogUnreachable(
                    f"The annotations of {row.dataset_id} were not read within {LONGEST_READING_SECONDS:g} s; check "
                    "the database."
                ) from None
            return CollectedRows.from_bytes(content)

        return wait

    def _connect(self) -> Catalog:
        held = self._held()
        if held.catalog is not None and held.catalog.is_stale():
            self._disconnect()
        if held.catalog is None:
            settings = self._settings
            if settings.get("offline"):
                raise CatalogUnreachable(
                    "The catalog is not asked, as this mount was made to be offline: what was saved is shown. Mount "
                    "without the option to see the rest."
                )
            held.catalog = open_catalog(settings["url"], password=settings["password"], timeout=settings["timeout"])
            held.catalog.check()
        return held.catalog

    def _disconnect(self) -> None:
        held = self._held()
        catalog, held.catalog = held.catalog, None
        if catalog is not None:
            catalog.close()


@dataclass(frozen=True)
class _MadeListing:
    """A listing as it was read from the catalog.

    Attributes:
        listing: it.
        path: where it was saved, or would have been.
        unsaved: why it could not be; empty if it was.
    """

    listing: Listing
    path: Path
    unsaved: str = ""


def _saved(listing: Listing, path: Path) -> _MadeListing:
    """Save a listing; a mount works without that as well."""
    from imgsyncfs.catalog.listing import save_listing

    try:
        save_listing(listing, path)
    except CacheError as error:
        return _MadeListing(listing, path, str(error))
    return _MadeListing(listing, path)


def _columns(
    rows: Sequence[DatasetRow | DatasetLabelsRow | SelectionRow | SplitRow | SubscriptionRow], names: Sequence[str]
) -> dict[str, list[Any]]:
    """Rows column by column: a third of the length, and of the time it takes to read them."""
    return {name: list(map(attrgetter(name), rows)) for name in names}
