"""Files about whole datasets in views, such as COCO's: written by a process of their own, since that takes a while.

To write one, all annotations of a dataset are read and worked out. The coordinator has no interpreter lock to spare for
that, and responders have readers who wait. So a worker opens the library for itself, reads through the same cache, and
writes into a file that the coordinator has made and that has no name: whoever dies leaves nothing behind.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from imgsyncfs.errors import AnnotationError, CacheError, CatalogError
from imgsyncfs.library.library import Library
from imgsyncfs.library.listed_annotations import shown_annotation
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.settings.private_folders import make_own_folder

if TYPE_CHECKING:
    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.formats.contract import Loss
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry
    from imgsyncfs.library.view_files import ViewFiles
    from imgsyncfs.library.views.contract import Document
    from imgsyncfs.workers.frames import Send

DOCUMENTS_FOLDER = "documents"

WRITER = "imgsyncfs.library.documents:DocumentWriter"
"""The handler of a pool that writes documents; its settings are those of the library."""

READING_THREADS = 8
"""Annotations that are read at once: a store that answers in 20 ms then gives 400 a second and not 50."""


def nameless_file(cache_dir: Path) -> int:
    """Make a file in the cache folder that goes with its last descriptor.

    Returns:
        A descriptor, for reading and writing.

    Raises:
        CacheError: it cannot be made.
    """
    folder = cache_dir / DOCUMENTS_FOLDER
    make_own_folder(folder)
    try:
        with suppress(OSError):
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        # Not every file system can make one without a name.
        descriptor, name = tempfile.mkstemp(dir=folder)
        Path(name).unlink()
    except OSError as error:
        raise CacheError(
            f"No file can be made in {folder} ({error.strerror}); make room, or see to its rights."
        ) from error
    return descriptor


class DocumentWriter:
    """Writes documents; see `imgsyncfs.workers.process.Handler`.

    Args:
        settings: fields of the `LibrarySettings`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = LibrarySettings.from_fields(settings)

    def handle(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:  # noqa: ARG002 - no parts
        """Write a document.

        Args:
            arguments: ``dataset``, ``listing``, its key, ``view``, ``place``, of the document in the view, and
                ``target``, a path of the file to write into.
            send: not used.

        Returns:
            ``losses``: (what, count, reason) of each kind of thing that the document does not show.

        Raises:
            CatalogError: the catalog has another revision by now.
            CacheError: the file cannot be written.
        """
        with Library(self._settings) as library:
            files = library.view_files(arguments["dataset"], find_view(arguments["view"]))
            if files.listing.key != arguments["listing"]:
                raise CatalogError(
                    f"The dataset {arguments['dataset']} was published again meanwhile; look again after the refresh."
                )
            document = files.documents[arguments["place"]]
            try:
                with Path(arguments["target"]).open("wb") as target:
                    losses = write_document(library, files, document, target)
            except OSError as error:
                raise CacheError(
                    f"{document.name.decode()} of {arguments['dataset']} cannot be written ({error.strerror}); make "
                    "room on the disk of the cache."
                ) from error
        return {"losses": [(loss.what, loss.count, loss.reason) for loss in losses]}, b""


def write_document(
    library: Library,
    files: ViewFiles,
    document: Document,
    target: BinaryIO,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Loss, ...]:
    """Write a long document.

    Args:
        library: that `files` are of.
        files: a dataset in the view.
        document: of the view.
        target: is written to.
        advance: is told of images that were read.

    Returns:
        What the document does not show.

    Raises:
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
        for entry in _entries(library, files, document, unreadable):
            yield entry
            advance(1)

    target.writelines(document.write(entries(), files.classes, losses))
    if unreadable:
        losses.add("annotations that do not parse", "mend them and publish again", len(unreadable))
    return losses.losses


def _entries(library: Library, files: ViewFiles, document: Document, unreadable: list[int]) -> Iterator[DocumentEntry]:
    """What a document is written from; images whose annotations do not parse are noted in `unreadable`."""
    # Late: numpy comes with them.
    from imgsyncfs.annotations.splits import Split
    from imgsyncfs.formats.contract import ImageInfo
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry
    from imgsyncfs.library.dataset_files import FileKey
    from imgsyncfs.library.numbers import IMAGE
    from imgsyncfs.workers.threads import map_in_order

    listing, splits = files.listing, files.splits
    chosen = [
        index
        for index in (range(len(listing)) if document.images is None else document.images)
        if document.split is None or (splits is not None and splits[index] == document.split)
    ]
    here = files.directory_name(document.directory).decode()

    def annotation_of(index: int) -> Annotation | None:
        if not listing.has_annotation(index):
            return None
        try:
            content = library.contents.read_whole(listing, listing.annotations, index)
            return shown_annotation(content, listing.facts.choice)
        except AnnotationError:
            unreadable.append(index)
            return None

    def entry(index: int) -> DocumentEntry:
        height, width, depth = listing.image_info(index)
        there = files.directory_name(files.directory_of(FileKey(IMAGE, index))).decode()
        name = files.name(FileKey(IMAGE, index)).decode()
        image = ImageInfo(
            listing.dataset_id,
            listing.stem(index).decode(),
            listing.ext(index),
            height or None,
            width or None,
            depth or None,
            listing.orientation(index),
            path="" if there == here else posixpath.join(posixpath.relpath(there or ".", here or "."), name),
        )
        split = "train" if splits is None else str(Split(int(splits[index])))
        return DocumentEntry(image, split, annotation_of(index))

    return iter(map_in_order(entry, chosen, threads=READING_THREADS))
