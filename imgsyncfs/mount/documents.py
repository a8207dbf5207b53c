"""The coordinator's side of documents: they are taken from the cache, or a worker writes them; once for all who ask.

``LOSSES.txt`` says what a view does not show. Where other documents count that, it is put together from what is known
of them, and they are written if they were not; a worker counts what annotations of the view's format do not show.

Threads: each document that somebody waits for has a thread of its own, and so has each ``LOSSES.txt``, which waits for
documents: one that the cache has does not wait for one that is being written. Each worker writes one after the other.
`DocumentFlights._lock` guards the tables; it is held for dictionary operations only, and may be taken again by its
holder. `_start_lock` is held while the worker is started.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from imgsyncfs.cache.documents import DocumentsFolder, KeptDocument, NewDocument, write_document
from imgsyncfs.errors import CacheError, NotInCatalog
from imgsyncfs.formats.losses_file import losses_text
from imgsyncfs.library.documents import WRITER, document_name, document_record, losses_of
from imgsyncfs.library.error_log import LOSS
from imgsyncfs.library.library import Library
from imgsyncfs.mount.namespace import Namespace, Shown
from imgsyncfs.settings.limits import CacheLimits
from imgsyncfs.workers.pool import Answer, WorkerPool

logger = logging.getLogger(__name__)

WRITING_SECONDS = 3600.0
"""Until when a document must have been written: that of a million images takes minutes."""

WRITERS = 2
"""Documents that are written at once: one about some images need not wait for one about all of them."""

THREADS = 32
"""Documents that are waited for at once; as many ``LOSSES.txt``."""


class DocumentPart(NamedTuple):
    """A document in a view.

    Attributes:
        place: among those of the view.
        file: its path in the view.
    """

    place: int
    file: str


@dataclass(frozen=True)
class WantedDocument:
    """A document that somebody waits for.

    Attributes:
        number: of the dataset in the view.
        place: of the document among those of the view.
        file: its path in the view.
        is_losses: whether it is ``LOSSES.txt``.
        parts: the documents that count what is lost; for ``LOSSES.txt`` alone.
        counts_labels: whether annotations of the view's format are counted; likewise.
    """

    number: int
    place: int
    file: str
    is_losses: bool = False
    parts: tuple[DocumentPart, ...] = ()
    counts_labels: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from others."""
        return self.number, self.place


@dataclass(frozen=True)
class Writing:
    """A document that is being written, for ``status.json``.

    Attributes:
        view: name of the view.
        dataset: the dataset's id.
        file: the document's path in the view.
        images_done: how many images it has.
        images: how many it will have.
        since: when it was asked for, Unix seconds.
    """

    view: str
    dataset: str
    file: str
    images_done: int
    images: int
    since: float


class DocumentFlights:
    """Has documents brought.

    Args:
        library: the catalog's datasets.
        namespace: says what a number stands for, and hands documents to the responders.
    """

    def __init__(self, library: Library, namespace: Namespace) -> None:
        self._library = library
        self._namespace = namespace
        settings = library.settings
        self._folder = DocumentsFolder(Path(settings.cache_dir), CacheLimits(settings.cache_size, settings.keep_free))
        self._lock = threading.RLock()
        self._start_lock = threading.Lock()
        self._flights: dict[tuple[int, int], Future[KeptDocument]] = {}
        self._writing: dict[tuple[int, int], Writing] = {}
        self._written = self._taken = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="document")
        self._losses_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="losses")
        self._writers: WorkerPool | None = None

    def tidy(self) -> None:
        """Remove what killed writers have left, and what is more than the limit that this mount was told."""
        try:
            self._folder.make_room(0)
        except OSError as error:
            logger.warning("The documents in the cache could not be looked through: %s", error)

    def start(self, wanted: WantedDocument) -> Future[KeptDocument]:
        """Have a document brought to the responders; does not wait. Done when they have it."""
        with self._lock:
            flight = self._flights.get(wanted.key)
            if flight is None:
                threads = self._losses_threads if wanted.is_losses else self._threads
                flight = self._flights[wanted.key] = threads.submit(self._bring, wanted)
                flight.add_done_callback(lambda _: self._land(wanted.key))
        return flight

    def progress(self, wanted: WantedDocument) -> str:
        """How far a document is, or that which it waits for, as a part of a sentence."""
        parts = [(wanted.number, part.place) for part in wanted.parts]
        with self._lock:
            writing = next(filter(None, map(self._writing.get, [wanted.key, *parts])), None)
        if writing is None:
            return "it waits for the cache's disk"
        file = "" if writing.file == wanted.file else f"{writing.file} has "
        return f"{file}{writing.images_done:,} of {writing.images:,} images after {time.time() - writing.since:,.0f} s"

    def status(self) -> dict[str, Any]:
        """How many were written and taken from the cache, those that are being written, and by which process."""
        with self._lock:
            writing = sorted(self._writing.values(), key=lambda each: each.since)
            counts = {"written": self._written, "from_cache": self._taken}
        return {
            **counts,
            "writing": [{**asdict(each), "since": int(each.since)} for each in writing],
            "process_ids": [] if self._writers is None else self._writers.process_ids(),
        }

    def close(self) -> None:
        """End the threads and the worker; what they do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._losses_threads.shutdown(wait=False, cancel_futures=True)
        if self._writers is not None:
            self._writers.close()

    def _land(self, key: tuple[int, int]) -> None:
        with self._lock:
            self._flights.pop(key, None)

    def _bring(self, wanted: WantedDocument) -> KeptDocument:
        shown = self._namespace.shown(wanted.number)
        if shown is None:
            raise NotInCatalog("The dataset is no longer in the catalog.")
        document = self._found(wanted, shown)
        losses = losses_of(document)
        if not wanted.is_losses:
            for loss in losses:
                what = f"The view {shown.view} of {shown.dataset_id} does not show {loss.count} {loss.what}"
                self._library.errors.report(f"{what}: {loss.reason}.", cause=f"{what}: {loss.reason}", kind=LOSS)
        if document.length or not wanted.is_losses:
            self._namespace.take_document(wanted.number, wanted.place, document)
        if losses or wanted.is_losses:
            self._namespace.note_losses(wanted.number, has_losses=bool(losses))
        return document

    def _found(self, wanted: WantedDocument, shown: Shown) -> KeptDocument:
        """Take a document from the cache, or have it made."""
        name = document_name(shown.listing, shown.view, shown.facts, file=wanted.file)
        document = self._folder.find(name)
        if document is None:
            document = self._put_together(wanted, shown, name) if wanted.parts else self._write(wanted, shown, name)
            # Others may have been removed to make room for it.
            self._namespace.drop_removed_documents()
        else:
            with self._lock:
                self._taken += 1
        return document

    def _put_together(self, wanted: WantedDocument, shown: Shown, name: str) -> KeptDocument:
        """Make ``LOSSES.txt`` of what is known of the documents that count what is lost."""
        flights = [self.start(WantedDocument(wanted.number, part.place, part.file)) for part in wanted.parts]
        losses = [loss for flight in flights for loss in losses_of(flight.result())]
        if wanted.counts_labels:
            losses += losses_of(self._found(replace(wanted, file=f"{wanted.file}: labels", parts=()), shown))
        new = self._folder.new()
        with io.FileIO(os.dup(new.descriptor), "wb") as target:
            content = losses_text(shown.view, shown.dataset_id, losses)
            write_document(target, [content], lambda: document_record(shown.dataset_id, shown.view, losses))
        return self._folder.keep(new, name)

    def _write(self, wanted: WantedDocument, shown: Shown, name: str) -> KeptDocument:
        """Have the worker write a document."""
        new = self._folder.new()
        job = {
            "dataset": shown.dataset_id,
            "listing": shown.listing.key,
            "view": shown.view,
            "facts": shown.facts,
            "place": wanted.place,
            "target": f"/proc/{os.getpid()}/fd/{new.descriptor}",
            "most_bytes": self._folder.most_bytes,
        }
        with self._lock:
            self._writing[wanted.key] = Writing(
                shown.view, shown.dataset_id, wanted.file, 0, len(shown.listing), time.time()
            )
        try:
            writers = self._started()
            answer = writers.submit(job, lambda part: self._note(wanted, new, part))
            answer.result(WRITING_SECONDS)
        except FutureTimeoutError:
            writers.give_up(answer)
            raise CacheError(
                f"{wanted.file} could not be written within {WRITING_SECONDS / 60:.0f} minutes; look whether the store "
                "answers quickly enough."
            ) from None
        finally:
            with self._lock:
                del self._writing[wanted.key]
        with self._lock:
            self._written += 1
        return self._folder.keep(new, name)

    def _note(self, wanted: WantedDocument, new: NewDocument, part: Answer) -> None:
        """Note how far a document is, and make room for it. Runs on the worker's listening thread."""
        told, _ = part
        with self._lock:
            writing = self._writing.get(wanted.key)
            if writing is not None:
                self._writing[wanted.key] = replace(writing, images_done=told["done"], images=told["all"])
        try:
            self._folder.make_room(os.fstat(new.descriptor).st_size)
        except (OSError, CacheError) as error:
            # What comes of it the worker tells, or who keeps the document.
            logger.warning("There is no room for a document: %s", error)
        self._namespace.drop_removed_documents()

    def _started(self) -> WorkerPool:
        with self._start_lock:
            if self._writers is None:
                settings = asdict(self._library.settings)
                self._writers = WorkerPool(WRITER, settings, count=WRITERS, threads=1, template=self._library.template)
            return self._writers
