"""Remove from a target folder what the catalog no longer has, or has in another place: only what sync wrote.

What somebody changed is named and kept, and so is whatever else is in the folders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container
from pathlib import Path, PurePosixPath

from imgsyncfs.tools.sync.copying import is_as_left, look_at, remove_leftovers
from imgsyncfs.tools.sync.record import SyncRecord, refuse_link
from imgsyncfs.tools.sync.summary import Tally


def remove_files(record: SyncRecord, folder: Path, tally: Tally, *, is_gone: Callable[[str], bool]) -> None:
    """Remove files of a dataset.

    Args:
        record: says which files sync wrote.
        folder: the dataset's, in the target.
        tally: the dataset's; counts what is removed, and names what somebody changed and is kept.
        is_gone: whether the file at a path within the dataset is to be removed.

    Raises:
        SyncError: the record cannot be used, or a directory in the folder is a link.
    """
    checked: set[PurePosixPath] = set()
    for path in record.paths(tally.dataset_id):
        if is_gone(path):
            parents = [*PurePosixPath(path).parents][:-1]
            for parent in reversed(parents):
                if parent not in checked:
                    refuse_link(folder / parent)
                    checked.add(parent)
            remove_file(record, folder, path, tally)


def remove_file(record: SyncRecord, folder: Path, path: str, tally: Tally) -> None:
    """Remove one file of a dataset, if sync wrote it and nobody changed it; see `remove_files`."""
    try:
        found = look_at(folder / path)
        written = [entry for entry in record.entries(tally.dataset_id, path) if entry.written]
        if found is not None and written:
            if not is_as_left(found, written):
                tally.changed.append(path)
                return
            (folder / path).unlink()
            tally.removed += 1
    except OSError as error:
        tally.fail(path, error.strerror or str(error))
        return
    # A file that was there before sync came stays; it is its owner's alone from now on.
    record.forget(tally.dataset_id, path)


def remove_directories(record: SyncRecord, folder: Path, tally: Tally, *, keep: Container[str]) -> None:
    """Remove directories that sync used in a dataset's folder and that are empty now.

    Args:
        record: says which ones these are.
        folder: the dataset's, in the target.
        tally: the dataset's.
        keep: paths within the dataset of those that stay.
    """
    # Those within others come first.
    for path in reversed(record.directories(tally.dataset_id)):
        if path in keep:
            continue
        # It may be gone, or hold what is its owner's.
        with contextlib.suppress(OSError):
            refuse_link(folder / path)
            remove_leftovers(folder / path)
            (folder / path).rmdir()
        if look_at(folder / path) is None:
            record.forget_directory(tally.dataset_id, path)


def remove_gone_dataset(record: SyncRecord, folder: Path, tally: Tally) -> None:
    """Remove the files of a dataset that the catalog no longer has at all, and its folder if nothing else is in it.

    Args:
        record: says which files sync wrote; forgets the dataset when it is gone.
        folder: the dataset's, in the target.
        tally: the dataset's.

    Raises:
        SyncError: the record cannot be used, or the folder, or a directory in it, is a link.
    """
    refuse_link(folder)
    remove_files(record, folder, tally, is_gone=lambda _: True)
    remove_directories(record, folder, tally, keep=())
    if next(record.paths(tally.dataset_id), None) is None:
        record.forget_dataset(tally.dataset_id)
    # It may be gone, or hold what is its owner's.
    with contextlib.suppress(OSError):
        remove_leftovers(folder)
        folder.rmdir()
