"""Tables of datasets, saved beside the cache: a query over all annotations need not read them again each time.

A table is saved by the key of its listing, which no other revision has, and the one before it is removed. It takes
about 60 bytes an object. Nothing of it is trusted before the digest that was written last has been checked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

import orjson
import xxhash

from imgsyncfs.errors import CacheError
from imgsyncfs.formats.contract import Loss
from imgsyncfs.library.documents import compose_document
from imgsyncfs.library.library import Library
from imgsyncfs.library.processes import LISTINGS_FOLDER
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.table import TableView
from imgsyncfs.settings.private_folders import make_own_folder, open_own_file, read_own_file
from imgsyncfs.workers.progress import Progress

TABLES_VERSION = 1
"""Goes up when tables of the same revision get another content."""

TABLES_FOLDER = "tables"

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class SavedTable:
    """A table that is there to be read.

    Attributes:
        dataset_id: the dataset.
        path: of the Parquet file.
        losses: what it does not show.
    """

    dataset_id: str
    path: Path
    losses: tuple[Loss, ...]


def saved_tables(
    library: Library, dataset_ids: Sequence[str], document: bytes, *, progress: Progress
) -> list[SavedTable]:
    """The tables of datasets; those that are not saved yet are written first.

    Args:
        library: of the datasets.
        dataset_ids: which.
        document: name of the table, one of the documents of `TableView`.
        progress: is told of images that are read.

    Returns:
        A table for each dataset, in the order given. Another process may remove one after the next publish.

    Raises:
        CacheError: a table cannot be written.
        CatalogError: a listing cannot be read.
        ConfigurationError: pyarrow is not installed.
        StoreError: an annotation cannot be read.
    """
    found = {dataset_id: _Place(library, dataset_id, document) for dataset_id in dict.fromkeys(dataset_ids)}
    tables = {dataset_id: place.saved() for dataset_id, place in found.items()}
    missing = [place for dataset_id, place in found.items() if tables[dataset_id] is None]
    if missing:
        name = document.decode().partition(".")[0]
        progress.phase(f"Reading {name}", sum(len(place.files.listing) for place in missing), "images")
    for place in missing:
        tables[place.dataset_id] = place.write(progress)
    return [table for dataset_id in dataset_ids if (table := tables[dataset_id]) is not None]


def remove_tables(cache_dir: Path, dataset_id: str | None = None) -> None:
    """Remove the tables of a dataset, or all; they are written again when somebody needs them.

    Args:
        cache_dir: folder of the disk cache.
        dataset_id: the dataset; None for all.
    """
    for folder in (cache_dir / LISTINGS_FOLDER).glob(f"*/{TABLES_FOLDER}"):
        # No link is followed out of the folder.
        shutil.rmtree(folder if dataset_id is None else folder / _folder_name(dataset_id), ignore_errors=True)


class _Place:
    """Where a dataset's table is saved: ``<name>.parquet`` and, written after it, ``<name>.json`` with its digest."""

    def __init__(self, library: Library, dataset_id: str, document: bytes) -> None:
        self.dataset_id = dataset_id
        self.files: ViewFiles = library.view_files(dataset_id, TableView())
        self._library = library
        self._document = next(each for each in self.files.documents if each.name == document)
        self._dataset_folder = library.mirror.folder / TABLES_FOLDER / _folder_name(dataset_id)
        self._folder = self._dataset_folder / f"{self.files.listing.key}-{TABLES_VERSION}"
        self._path = self._folder / document.decode()

    def saved(self) -> SavedTable | None:
        """The table, if it is saved and undamaged."""
        try:
            facts = orjson.loads(read_own_file(self._path.with_suffix(".json")))
            with os.fdopen(open_own_file(self._path), "rb") as content:
                if facts["digest"] != _digest(content):
                    return None
            losses = [Loss(str(what), int(count), str(reason)) for what, count, reason in facts["losses"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return SavedTable(self.dataset_id, self._path, tuple(losses))

    def write(self, progress: Progress) -> SavedTable:
        """Write the table, in the place of those of other revisions."""
        make_own_folder(self._folder)
        try:
            descriptor, name = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(descriptor, "wb") as target:
                losses = self._write_into(target, Path(name), progress)
        except OSError as error:
            raise CacheError(
                f"{self._path.name} of {self.dataset_id} cannot be written ({error.strerror}); make room on the disk "
                "of the cache.",
                option="cache_dir",
            ) from error
        for other in self._dataset_folder.iterdir():
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        return SavedTable(self.dataset_id, self._path, losses)

    def _write_into(self, target: BinaryIO, temporary: Path, progress: Progress) -> tuple[Loss, ...]:
        told = 0

        def advance(count: int) -> None:
            nonlocal told
            told += count
            progress.advance(count)

        try:
            losses = compose_document(self.files, self._document, target, advance=advance)
            # The table of images needs no annotations.
            progress.advance(len(self.files.listing) - told)
            target.flush()
            with temporary.open("rb") as content:
                digest = _digest(content)
            facts = {"digest": digest, "losses": [astuple(loss) for loss in losses]}
            temporary.replace(self._path)
        finally:
            # Only where it was not moved.
            temporary.unlink(missing_ok=True)
        # Not before the table is there: a digest of another one is found, and the table written again.
        self._path.with_suffix(".json").write_bytes(orjson.dumps(facts))
        return losses


def _folder_name(dataset_id: str) -> str:
    return hashlib.sha256(dataset_id.encode(errors="surrogatepass")).hexdigest()[:32]


def _digest(content: BinaryIO) -> str:
    digest = xxhash.xxh3_128()
    while chunk := content.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
