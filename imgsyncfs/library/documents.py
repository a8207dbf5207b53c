"""Files about whole datasets in views, such as COCO's: written by a process of their own, since that takes a while.

To write one, all annotations of a dataset are read and worked out. The coordinator has no interpreter lock to spare for
that, and responders have readers who wait. So a worker opens the library for itself, reads through the same cache, and
writes into a file that the coordinator has made and that has no name: whoever dies leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsyncfs.errors import CacheError, CatalogError
from imgsyncfs.library.document_entries import UNREADABLE, document_entries
from imgsyncfs.library.library import Library
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.settings.private_folders import make_own_folder

if TYPE_CHECKING:
    from imgsyncfs.workers.frames import Send

DOCUMENTS_FOLDER = "documents"

WRITER = "imgsyncfs.library.documents:DocumentWriter"
"""The handler of a pool that writes documents; its settings are those of the library."""


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
        # Late: numpy comes with it.
        from imgsyncfs.formats.dataset_documents.contract import LossTally

        losses = LossTally()
        with Library(self._settings) as library:
            files = library.view_files(arguments["dataset"], find_view(arguments["view"]))
            if files.listing.key != arguments["listing"]:
                raise CatalogError(
                    f"The dataset {arguments['dataset']} was published again meanwhile; look again after the refresh."
                )
            document = files.documents[arguments["place"]]
            unreadable: list[int] = []
            write = document.write
            if write is None:
                raise CatalogError(f"{document.name.decode()} is made when somebody looks at it.")
            try:
                with Path(arguments["target"]).open("wb") as target:
                    entries = document_entries(files, document, unreadable)
                    target.writelines(write(entries, files.classes, losses))
            except OSError as error:
                raise CacheError(
                    f"{document.name.decode()} of {arguments['dataset']} cannot be written ({error.strerror}); make "
                    "room on the disk of the cache."
                ) from error
            if unreadable:
                losses.add(*UNREADABLE, len(unreadable))
        return {"losses": [(loss.what, loss.count, loss.reason) for loss in losses.losses]}, b""
