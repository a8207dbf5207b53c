"""Tables of datasets, kept in the cache: a query over all annotations need not read them again each time.

They are the documents of the view ``table``, which mounts take from the same folder and keep there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgsyncfs.cache.documents import DocumentsFolder, KeptDocument
from imgsyncfs.errors import CacheError
from imgsyncfs.library.documents import compose_document, document_name, facts_digest
from imgsyncfs.library.library import Library
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.table import TableView
from imgsyncfs.settings.limits import CacheLimits
from imgsyncfs.workers.progress import Progress


def saved_tables(
    library: Library, dataset_ids: Sequence[str], document: bytes, *, progress: Progress
) -> Iterator[KeptDocument]:
    """The tables of datasets; those that are not kept yet are written.

    Args:
        library: of the datasets.
        dataset_ids: which; one that is named twice has one table.
        document: name of the table, one of the documents of `TableView`.
        progress: is told of images that are read.

    Returns:
        A table for each dataset, in any order. It can be read as long as the caller has it, or a mapping of it: whoever
        needs room may remove its name at any time.

    Raises:
        CacheError: a table cannot be kept.
        CatalogError: a listing cannot be read.
        ConfigurationError: pyarrow is not installed.
        StoreError: an annotation cannot be read.
    """
    settings = library.settings
    folder = DocumentsFolder(Path(settings.cache_dir), CacheLimits(settings.cache_size, settings.keep_free))
    missing: list[tuple[str, ViewFiles]] = []
    for dataset_id in dict.fromkeys(dataset_ids):
        files = library.view_files(dataset_id, TableView())
        found = folder.find(_name(files, document))
        if found is None:
            missing.append((dataset_id, files))
        else:
            yield found
    if missing:
        name = document.decode().partition(".")[0]
        progress.phase(f"Reading {name}", sum(len(files.listing) for _, files in missing), "images")
    for dataset_id, files in missing:
        try:
            yield _written(folder, files, document, progress)
        except (OSError, CacheError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CacheError(
                f"{document.decode()} of {dataset_id} cannot be kept ({reason}); see to the disk of the cache, or make "
                "the cache larger.",
                option="cache_size",
            ) from error


def _name(files: ViewFiles, document: bytes) -> str:
    return document_name(files.listing, TableView.name, facts_digest(files.facts), file=document.decode())


def _written(folder: DocumentsFolder, files: ViewFiles, document: bytes, progress: Progress) -> KeptDocument:
    told = 0

    def advance(count: int) -> None:
        nonlocal told
        told += count
        progress.advance(count)

    new = folder.new()
    chosen = next(each for each in files.documents if each.name == document)
    with os.fdopen(os.dup(new.descriptor), "wb") as target:
        compose_document(files, chosen, target, view=TableView.name, most_bytes=folder.most_bytes, advance=advance)
    # The table of images needs no annotations.
    progress.advance(len(files.listing) - told)
    return folder.keep(new, _name(files, document))
