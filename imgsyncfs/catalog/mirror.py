"""What a mount knows of its catalog: the table of datasets and the listings, kept beside the cache.

Both are saved, so that a mount starts and works without the database. A worker process reads the database
(`imgsyncfs.catalog.worker`); here its files are opened.

Threads: `CatalogMirror._lock` guards the table and the listings being loaded; it is held for dictionary operations
only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from imgsyncfs.annotations.splits import SplitRule
from imgsyncfs.catalog.listing_folder import LISTINGS, UNFINISHED, listing_folder
from imgsyncfs.catalog.rows import DatasetLabelsRow, DatasetRow, SelectionRow, SplitRow, SubscriptionRow
from imgsyncfs.catalog.selections import datasets_of, selection_labels, selection_row
from imgsyncfs.catalog.subscriptions import find_subscription, members, subscription_fault
from imgsyncfs.errors import (
    CatalogError,
    CatalogMissing,
    CatalogUnreachable,
    ImgsyncfsError,
    ListingDamaged,
    NotInCatalog,
    WorkerLost,
)
from imgsyncfs.settings.private_folders import read_own_file
from imgsyncfs.workers.pool import Answer, WorkerPool
from imgsyncfs.workers.trial import Trial

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import ImageValues, Listing

logger = logging.getLogger(__name__)

Row = TypeVar("Row", DatasetRow, DatasetLabelsRow, SelectionRow, SplitRow, SubscriptionRow)

START_SECONDS = 1.0
"""How long a database may take to be connected to and to answer before a start goes by what was saved; it is waited for
beside that."""

_LISTING_KEY = re.compile(r"\d+(-[0-9a-f]{32})?", re.ASCII)
"""Names of saved listings, those of earlier versions among them."""


_NO_SPLIT_RULES: dict[str, list[Any]] = {each.name: [] for each in fields(SplitRow)}
_NO_SELECTIONS: dict[str, list[Any]] = {each.name: [] for each in fields(SelectionRow)}
_NO_LABELS: dict[str, list[Any]] = {each.name: [] for each in fields(DatasetLabelsRow)}


@dataclass(frozen=True)
class DatasetTable:
    """The catalog's datasets and subscriptions at one moment.

    Attributes:
        rows: dataset id to row, in the order of ids.
        shown: those of them that a mount shows; all, unless it shows one subscription.
        subscriptions: name to subscription.
        faults: a sentence for each row that cannot be used, or not as it is.
        catalog_id: identity of the catalog.
        digest: of all that; two tables with the same digest are the same.
        updated_at: when the last of the datasets that are shown was published, Unix seconds; 0 if there is none.
        read_at: when the database last confirmed it, Unix seconds; 0 if it is a saved one.
        store: URL of the catalog's own store.
        split_rules: dataset id to split rule, of the datasets that have one of their own.
        labels: dataset id to what its annotations say, of its label version; of the datasets of which that is known.
        selections: name to selection.
        selected: the rows of the selections as datasets, by their ids.
    """

    rows: Mapping[str, DatasetRow]
    shown: Mapping[str, DatasetRow]
    subscriptions: Mapping[str, SubscriptionRow]
    faults: Sequence[str]
    catalog_id: str
    digest: str
    updated_at: int
    read_at: float
    store: str
    split_rules: Mapping[str, SplitRow] = field(default_factory=dict)
    labels: Mapping[str, DatasetLabelsRow] = field(default_factory=dict)
    selections: Mapping[str, SelectionRow] = field(default_factory=dict)
    selected: Mapping[str, DatasetRow] = field(default_factory=dict)

    def row(self, dataset_id: str) -> DatasetRow | None:
        """The row of a dataset, or of a selection with its mark; None if there is none."""
        return self.rows.get(dataset_id) or self.selected.get(dataset_id)

    def split_rule(self, dataset_id: str) -> SplitRule:
        """The split rule of a dataset; raises `ConfigurationError` if it has one of its own that cannot be used."""
        row = self.split_rules.get(dataset_id)
        return row.rule if row is not None else SplitRule()


class CatalogMirror:
    """The coordinator's side of a catalog.

    Args:
        pool: workers that run `imgsyncfs.catalog.worker.CatalogReader`.
        folder: where the table and the listings of this catalog are saved.
        timeout: seconds that one question may take.
        report: told of rows that are hidden, once a listing: (message).
        subscription: show only the datasets of the subscription of this name.
    """

    def __init__(
        self,
        pool: WorkerPool,
        folder: Path,
        *,
        timeout: float,
        report: Callable[[str], None],
        subscription: str | None = None,
    ) -> None:
        self._pool = pool
        self._folder = folder
        self._timeout = timeout
        self._report = report
        self._lock = threading.Lock()
        self._subscription = subscription
        self._table = DatasetTable({}, {}, {}, (), "", "", 0, 0.0, "")
        self._loading: dict[str, Future[Listing]] = {}
        self._unsaved: set[str] = set()
        self._trouble = ""
        self._late: Future[Answer] | None = None

    @property
    def _saved_table_path(self) -> Path:
        return self._folder / "datasets.json"

    def start(self, first: Trial | None = None) -> None:
        """Read the table, or take the saved one if the database cannot be reached, or its file is away.

        A database that hangs is not waited for where there is a saved table; `when_late` tells when it has answered.

        Args:
            first: the question for the table, if it was asked already.

        Raises:
            CatalogError: there is neither.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if first is not None and self._saved_table_path.exists() and first.hangs(START_SECONDS, most=self._timeout):
            saved = self._read_saved_table()
            if saved is not None:
                self._late = first.answer
                self._trouble = f"The catalog did not answer within {START_SECONDS:g} s; it is asked again."
                self._report(f"{self._trouble} The mount starts from what it saw last.")
                self._put(saved)
                return
        try:
            self._refresh(self._ask_for_table() if first is None else first.answer)
        except (CatalogUnreachable, CatalogMissing) as error:
            saved = self._read_saved_table()
            if saved is None:
                raise
            self._report(f"{error} The mount starts from what it saw last.")
            self._put(saved)

    def when_late(self, call: Callable[[], None]) -> None:
        """Have something called when the first question, which was not waited for, has been answered after all."""
        late, self._late = self._late, None
        if late is not None:
            late.add_done_callback(lambda _: call())

    @property
    def folder(self) -> Path:
        """Where the table and the listings of this catalog are saved."""
        return self._folder

    @property
    def table(self) -> DatasetTable:
        """The datasets as last seen."""
        with self._lock:
            return self._table

    @property
    def trouble(self) -> str:
        """Why the last refresh failed; empty if it did not."""
        with self._lock:
            return self._trouble

    def tidy(self) -> None:
        """Have what killed processes have left in the folder removed; does not wait for that."""
        self._pool.submit({"question": "tidy", "folder": str(self._folder)})

    def refresh(self, *, surely: bool = False) -> bool:
        """Ask the database whether datasets have changed.

        Args:
            surely: have it send the table, whatever its fingerprint says.

        Returns:
            Whether anything has.

        Raises:
            CatalogError: the database cannot be read; what was known stays.
            ConfigurationError: the subscription that is shown is not there (any more); likewise.
        """
        return self._refresh(self._ask_for_table(surely=surely))

    def confirm(self) -> None:
        """Take the table for confirmed: the database need not be asked."""
        with self._lock:
            self._table = replace(self._table, read_at=time.time())

    def _ask_for_table(self, *, surely: bool = False) -> Future[Answer]:
        return self._pool.submit({"question": "datasets", "known": "" if surely else self.table.digest})

    def _refresh(self, answer: Future[Answer]) -> bool:
        try:
            result, content = self._wait(answer)
        except CatalogError as error:
            with self._lock:
                self._trouble = str(error)
            raise
        is_another = bool(content) and result["digest"] != self.table.digest
        table = self._parse(content, result["digest"], time.time()) if is_another else None
        with self._lock:
            self._trouble = ""
            if table is None:
                self._table = replace(self._table, read_at=time.time())
                return False
        self._put(table)
        self._save_table(content)
        return True

    def _put(self, table: DatasetTable) -> None:
        with self._lock:
            self._table = table
        for fault in table.faults:
            self._report(fault)

    def listing(self, dataset_id: str) -> Listing:
        """The listing of a dataset's revision as the table has it, or a later one.

        Raises:
            CatalogError: it is not saved, and the database cannot be read; or the dataset is gone.
        """
        with self._lock:
            table = self._table
            future = self._loading.get(dataset_id)
            first = future is None
            if future is None:
                future = self._loading[dataset_id] = Future()
        if first:
            try:
                self._begin_loading(future, dataset_id, table)
            except BaseException as error:
                # Or everybody who looks from now on would wait for an outcome that never comes.
                self._end_loading(future, dataset_id, error)
                raise
        try:
            return future.result(self._timeout)
        except FutureTimeoutError:
            raise self.too_late(dataset_id) from None

    def image_values(self, listing: Listing, label_name: str | None) -> ImageValues:
        """The value of a classification of each image of a listing.

        Args:
            listing: from `listing`.
            label_name: of the classification; None for the first of each image.

        Raises:
            CatalogError: it is not saved, and the database cannot be read, or has another revision by now.
        """
        # Late, as above.
        from imgsyncfs.catalog.listing import ImageValues, join_values, load_values

        if listing.facts.origins:
            ids = [origin.dataset_id for origin in listing.facts.origins]
            parts = [(each, self.image_values(each, label_name)) for each in map(self.listing, ids)]
            return join_values(listing, parts)
        folder = self._listings_folder(listing.dataset_id) / listing.key
        saved = load_values(listing, folder, label_name)
        if saved is not None:
            return saved
        question = {"question": "values", "dataset": listing.dataset_id, "folder": str(folder), "label": label_name}
        _, content = self._wait(self._pool.submit(question))
        return ImageValues.from_bytes(content)

    def _listings_folder(self, dataset_id: str) -> Path:
        return listing_folder(self._folder / LISTINGS, dataset_id)

    def too_late(self, dataset_id: str) -> CatalogUnreachable:
        """What somebody is told who has waited for a listing as long as the timeout."""
        return CatalogUnreachable(
            f"The listing of {dataset_id} did not come within {self._timeout:g} s; it is still being read, so look "
            "again in a while, or raise the timeout.",
            option="timeout",
        )

    def _begin_loading(self, future: Future[Listing], dataset_id: str, table: DatasetTable) -> None:
        """Load the saved listing, or have a worker read one. That goes on when those who asked have given up."""
        folder = self._listings_folder(dataset_id)
        row = table.row(dataset_id)
        saved = _load_saved(folder / row.listing_key(table.catalog_id)) if row is not None else None
        if saved is not None:
            self._look_up_members(saved)
            self._end_loading(future, dataset_id, saved)
            return

        def finish(answer: Future[Answer]) -> None:
            """Take over what the worker read. Runs on its listening thread."""
            try:
                listing = self._take_listing(dataset_id, folder, answer)
            except Exception as error:
                if not isinstance(error, ImgsyncfsError):
                    logger.exception("The listing of %s could not be taken over.", dataset_id)
                outcome: Listing | Exception = error
            else:
                outcome = listing
            self._end_loading(future, dataset_id, outcome)

        question = {"question": "listing", "dataset": dataset_id, "folder": str(self._folder / LISTINGS)}
        self._pool.submit(question).add_done_callback(finish)

    def _end_loading(self, future: Future[Listing], dataset_id: str, outcome: Listing | BaseException) -> None:
        with self._lock:
            self._loading.pop(dataset_id, None)
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _take_listing(self, dataset_id: str, folder: Path, answer: Future[Answer]) -> Listing:
        try:
            result, content = answer.result()
        except WorkerLost as error:
            raise CatalogUnreachable(str(error)) from error
        if result["path"] is None:
            raise NotInCatalog(f"Dataset {dataset_id} is no longer in the catalog.")
        # Late, as above.
        from imgsyncfs.catalog.listing import listing_from_bytes, load_listing

        unsaved = result.get("unsaved", "")
        self._note_unsaved(dataset_id, unsaved)
        listing = listing_from_bytes(content, name=dataset_id) if unsaved else load_listing(Path(result["path"]))
        self._look_up_members(listing)
        for name, reason in listing.hidden:
            self._report(f"{dataset_id}: the row {name!r} is hidden: {reason}; correct it in the catalog.")
        if not unsaved:
            for other in folder.iterdir():
                if other.name != listing.key and _LISTING_KEY.fullmatch(other.name):
                    # Mapped ones stay readable for those who have them. No link is followed out of the folder.
                    shutil.rmtree(other, ignore_errors=True)
        return listing

    def _note_unsaved(self, dataset_id: str, reason: str) -> None:
        with self._lock:
            self._unsaved.discard(dataset_id)
            if reason:
                self._unsaved.add(dataset_id)
        if reason:
            self._report(f"{reason} Until then {dataset_id} is listed from memory.")

    def unsaved(self) -> int:
        """How many listings could not be saved, and are in memory alone."""
        with self._lock:
            return len(self._unsaved)

    def _look_up_members(self, listing: Listing) -> None:
        """Have a selection's extents compared with all that the catalog says of them."""
        if listing.facts.origins:
            folder = self._folder / LISTINGS
            listing.look_up_members(lambda origin: _load_saved(listing_folder(folder, origin.dataset_id) / origin.key))

    def _wait(self, answer: Future[Answer]) -> Answer:
        try:
            return answer.result(self._timeout)
        except FutureTimeoutError:
            raise CatalogUnreachable(
                f"The catalog did not answer within {self._timeout:g} s; check the database, or raise the timeout.",
                option="timeout",
            ) from None
        except WorkerLost as error:
            raise CatalogUnreachable(str(error)) from error

    def _parse(self, content: bytes, digest: str, read_at: float) -> DatasetTable:
        table = orjson.loads(content)
        faults = list(table["faults"])
        rows = {row.dataset_id: row for row in _made(DatasetRow, table["datasets"])}
        subscriptions = {row.name: row for row in _made(SubscriptionRow, table["subscriptions"])}
        # A table that an earlier version saved has none, and no labels.
        split_rules = {row.dataset_id: row for row in _made(SplitRow, table.get("split_rules") or _NO_SPLIT_RULES)}
        labels = {
            row.dataset_id: row
            for row in _made(DatasetLabelsRow, table.get("dataset_labels") or _NO_LABELS)
            if row.dataset_id in rows and rows[row.dataset_id].label_version == row.label_version
        }
        selections = {row.name: row for row in _made(SelectionRow, table.get("selections") or _NO_SELECTIONS)}
        selected = {}
        for each in selections.values():
            datasets = datasets_of(each, rows.values())
            selected_row = selection_row(each, datasets, labels, table["catalog_id"])
            selected[selected_row.dataset_id] = selected_row
            labels[selected_row.dataset_id] = selection_labels(selected_row, datasets, labels)
        shown = rows
        if self._subscription is not None:
            chosen = find_subscription(subscriptions, self._subscription)
            shown = {row.dataset_id: row for row in members(chosen, rows.values())}
        faults += filter(None, map(subscription_fault, subscriptions.values()))
        updated_at = max((row.updated_at for row in shown.values()), default=0)
        return DatasetTable(
            rows,
            shown,
            subscriptions,
            tuple(faults),
            table["catalog_id"],
            digest,
            updated_at,
            read_at,
            table["store"],
            split_rules,
            labels,
            selections,
            selected,
        )

    def _save_table(self, content: bytes) -> None:
        temporary = self._folder / f"{UNFINISHED}datasets.json.{threading.get_native_id()}"
        try:
            temporary.write_bytes(b"%b\n%b" % (_digest(content), content))
            temporary.replace(self._folder / "datasets.json")
        except OSError as error:
            self._report(f"The table of datasets could not be saved ({error}); the next mount needs the database.")

    def _read_saved_table(self) -> DatasetTable | None:
        try:
            content = read_own_file(self._saved_table_path)
            # One that an earlier version saved has no digest.
            if not content.startswith(b"{"):
                digest, _, content = content.partition(b"\n")
                if digest != _digest(content):
                    logger.warning("The saved table of datasets is damaged and not used.")
                    return None
            return self._parse(content, _digest(content).decode(), 0.0)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("The saved table of datasets is damaged and not used: %s", error)
            return None


def _digest(content: bytes) -> bytes:
    """The digest of a table of datasets, as `imgsyncfs.catalog.worker` has it."""
    return hashlib.sha256(content).hexdigest().encode()


def _made(kind: type[Row], columns: dict[str, list[Any]]) -> Iterator[Row]:
    """The rows of a table that is given column by column, by the fields' names and in their order.

    Raises:
        ValueError: a column is missing or too much, or they differ in length.
    """
    if [each.name for each in fields(kind)] != list(columns) or len({len(each) for each in columns.values()}) != 1:
        raise ValueError(f"its columns are {', '.join(columns)}")
    lists = (map(tuple, values) if values and isinstance(values[0], list) else values for values in columns.values())
    return map(kind, *lists)


def _load_saved(path: Path) -> Listing | None:
    # Late, as above.
    from imgsyncfs.catalog.listing import load_listing, remove_listing

    try:
        return load_listing(path)
    except ListingDamaged as error:
        if os.path.lexists(path):
            logger.warning("%s", error)
            remove_listing(path)
        return None
