"""Files about whole datasets in views, such as COCO's: written by a process of their own, since that takes a while.

To write one, all annotations of a dataset are read and worked out. The coordinator has no interpreter lock to spare for
that, and responders have readers who wait. So a worker opens the library for itself, reads through the same cache, and
writes into a file that the coordinator has made (`imgsyncfs.cache.documents`): whoever dies leaves nothing behind.

``LOSSES.txt`` is such a document too, where a view has an annotation for each image: to count what these do not show,
all of them are rendered once.
"""

from __future__ import annotations

import importlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from imgsyncfs import __version__
from imgsyncfs.cache.documents import KeptDocument, too_long, write_document
from imgsyncfs.errors import AnnotationError, CacheError, CatalogError
from imgsyncfs.formats.contract import Loss
from imgsyncfs.formats.losses_file import losses_text
from imgsyncfs.library.document_entries import UNREADABLE, document_entries
from imgsyncfs.library.library import Library
from imgsyncfs.library.views.contract import DatasetFacts, Document, View
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.workers.limits import limit_memory, physical_memory

if TYPE_CHECKING:
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally
    from imgsyncfs.library.view_files import ViewFiles
    from imgsyncfs.workers.frames import Send

WRITER = "imgsyncfs.library.documents:DocumentWriter"
"""The handler of a pool that writes documents; its settings are those of the library."""

LEAST_MEMORY = 4 << 30
"""What a writer may take on any machine; on a large one half of what there is."""

PROGRESS_SECONDS = 0.3
"""How often the coordinator is told how far a document is."""

_OWN_PACKAGE = __name__.partition(".")[0]


def facts_digest(facts: DatasetFacts) -> str:
    """What tells the facts that a view depends on from others."""
    digest = blake2b(orjson.dumps(facts.classes), digest_size=16)
    if facts.splits is not None:
        digest.update(facts.splits.tobytes())
    if facts.values is not None:
        digest.update(facts.values.to_bytes())
    return digest.hexdigest()


def document_name(listing: Listing, view: str, facts: str, *, file: str) -> str:
    """The name of a document in the cache: another one whenever its content would be another.

    Args:
        listing: of the revision.
        view: name of the view.
        facts: their `facts_digest`.
        file: the document's path in the view.
    """
    parts = [__version__, _version_of(view), view, file, listing.dataset_id, listing.key, facts]
    return blake2b(orjson.dumps(parts), digest_size=20).hexdigest()


@cache
def _version_of(view: str) -> str:
    """What tells the documents of a view from those that another version of it wrote.

    The version of the package that it comes from is in it; if that has none, what nobody else has: nothing is found.
    """
    found = find_view(view)
    own = str(found.documents_version)
    package = type(found).__module__.partition(".")[0]
    if package == _OWN_PACKAGE:
        return own
    distributions = packages_distributions().get(package, [])
    versions = " ".join([f"{name} {version(name)}" for name in distributions])
    return f"{own} {versions or secrets.token_hex(16)}"


def document_record(dataset: str, view: str, losses: Iterable[Loss]) -> dict[str, Any]:
    """What is known of a document beside its content, JSON-able.

    Args:
        dataset: the dataset's id.
        view: name of the view.
        losses: what the document does not show.
    """
    return {"dataset": dataset, "view": view, "losses": [(loss.what, loss.count, loss.reason) for loss in losses]}


def losses_of(document: KeptDocument) -> list[Loss]:
    """What a document does not show, by its record."""
    return [Loss(what, count, reason) for what, count, reason in document.record["losses"]]


class DocumentWriter:
    """Writes documents; see `imgsyncfs.workers.process.Handler`.

    Its process gets a limit of memory: how much a document takes depends on what somebody has published.

    Args:
        settings: fields of the `LibrarySettings`.
        most_memory: what it may take beside what the process has before, in bytes.
    """

    def __init__(self, settings: dict[str, Any], *, most_memory: int | None = None) -> None:
        self._settings = LibrarySettings.from_fields(settings)
        self._most_memory = most_memory or max(LEAST_MEMORY, physical_memory() // 2)
        # What is imported is not what is written; numpy comes with it.
        importlib.import_module("imgsyncfs.formats.dataset_documents.contract")
        limit_memory(self._most_memory)

    def handle(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:
        """Write a document.

        Args:
            arguments: ``dataset``, ``listing``, its key, ``view``, ``facts``, their digest, ``place``, of the document
                in the view, ``target``, a path of the file to write into, and ``most_bytes``, what it may take up.
            send: gets ``done`` and ``all``, numbers of images, a few times a second.

        Returns:
            Nothing; the file has a `document_record`.

        Raises:
            CatalogError: the catalog has another revision by now.
            CacheError: the file cannot be written, or takes up too much, on the disk or in memory.
        """
        try:
            self._write(arguments, send)
        except MemoryError:
            raise CacheError(
                f"The documents of {arguments['dataset']} in the view {arguments['view']} take more than "
                f"{self._most_memory / (1 << 30):.1f} GiB of memory to write; look for annotations that are far too "
                "long, or select fewer images with: imgsyncfs select"
            ) from None
        return {}, b""

    def _write(self, arguments: dict[str, Any], send: Send) -> None:
        # Late: numpy comes with it.
        from imgsyncfs.formats.dataset_documents.contract import LossTally

        losses = LossTally()
        unreadable: list[int] = []
        dataset, view = arguments["dataset"], find_view(arguments["view"])
        with Library(self._settings) as library:
            files = library.view_files(dataset, view)
            if files.listing.key != arguments["listing"] or facts_digest(files.facts) != arguments["facts"]:
                raise CatalogError(f"The dataset {dataset} has changed meanwhile; look again after the refresh.")
            document = files.document(arguments["place"])
            entries = _told(document_entries(files, document, unreadable), _count(files, document), send)
            if document.write is not None:
                chunks = document.write(entries, files.classes, losses)
            elif arguments["place"] == files.losses_place:
                chunks = _label_losses(files, view, entries, losses, unreadable)
            else:
                raise CatalogError(f"{document.name.decode()} is made when somebody looks at it.")
            try:
                with Path(arguments["target"]).open("wb") as target:
                    write_document(
                        target,
                        _limited(_all_told(chunks, losses, unreadable), arguments["most_bytes"]),
                        lambda: document_record(dataset, view.name, losses.losses),
                    )
            except OSError as error:
                raise CacheError(
                    f"{document.name.decode()} of {dataset} cannot be written ({error.strerror}); make room on the "
                    "disk of the cache."
                ) from error


def compose_document(
    files: ViewFiles,
    document: Document,
    target: BinaryIO,
    *,
    view: str,
    most_bytes: int,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a long document without a mount, in this process.

    Args:
        files: a dataset in the view.
        document: of the view.
        target: the file, empty; it has a `document_record` then.
        view: name of the view.
        most_bytes: what the document may take up.
        advance: is told of images that were read.

    Raises:
        CacheError: it takes up more.
        CatalogError: it is a short one.
        ConfigurationError: something that is needed to write it is not installed.
        OSError: it cannot be written.
        StoreError: an annotation cannot be read.
    """
    # Late: numpy comes with it.
    from imgsyncfs.formats.dataset_documents.contract import LossTally

    if document.write is None:
        raise CatalogError(f"{document.name.decode()} is made when somebody looks at it.")
    losses = LossTally()
    unreadable: list[int] = []

    def entries() -> Iterator[DocumentEntry]:
        for entry in document_entries(files, document, unreadable):
            yield entry
            advance(1)

    chunks = _all_told(document.write(entries(), files.classes, losses), losses, unreadable)
    write_document(
        target,
        _limited(chunks, most_bytes),
        lambda: document_record(files.listing.dataset_id, view, losses.losses),
    )


def _count(files: ViewFiles, document: Document) -> int:
    """How many images a document is about."""
    if document.images is not None:
        return len(document.images)
    if document.split is None or files.splits is None:
        return len(files.listing)
    return int((files.splits == document.split).sum())


def _told(entries: Iterator[DocumentEntry], count: int, send: Send) -> Iterator[DocumentEntry]:
    """Pass entries on, and tell now and then how many there were."""
    due = 0.0
    for done, entry in enumerate(entries):
        now = time.monotonic()
        if now >= due:
            send({"done": done, "all": count}, b"")
            due = now + PROGRESS_SECONDS
        yield entry


def _all_told(chunks: Iterator[bytes], losses: LossTally, unreadable: list[int]) -> Iterator[bytes]:
    """Pass chunks on; when they have ended, the annotations that could not be read are among the losses."""
    yield from chunks
    if unreadable:
        losses.add(*UNREADABLE, len(unreadable))
        unreadable.clear()


def _limited(chunks: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > most_bytes:
            raise too_long(most_bytes)
        yield chunk


def _label_losses(
    files: ViewFiles, view: View, entries: Iterator[DocumentEntry], losses: LossTally, unreadable: list[int]
) -> Iterator[bytes]:
    """``LOSSES.txt`` of a view with an annotation for each image, in one chunk; empty if nothing is lost."""
    target = view.target
    for loss in view.losses(files.listing, files.facts):
        losses.add(loss.what, loss.reason, loss.count)
    for index, entry in enumerate(entries if view.has_labels and target is not None else ()):
        if target is not None and entry.annotation is not None and files.has_label(index):
            image = replace(entry.image, path="", classes=files.classes)
            try:
                rendered = target.render(entry.annotation, image)
            except AnnotationError:
                losses.add("annotations that cannot be written", "they hold values that the format does not know")
                continue
            for loss in rendered.losses:
                losses.add(loss.what, loss.reason, loss.count)
    # Before the text is made.
    yield from _all_told(iter(()), losses, unreadable)
    yield losses_text(view.name, files.listing.dataset_id, losses.losses)
