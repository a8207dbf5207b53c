"""Remove from a target folder what the catalog no longer has: only files that sync wrote and nobody changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from imgsyncfs.tools.sync.copying import is_as_left, look_at, remove_leftovers
from imgsyncfs.tools.sync.record import SyncRecord, refuse_link
from imgsyncfs.tools.sync.summary import Tally


def remove_gone_files(record: SyncRecord, folder: Path, tally: Tally, *, is_there: Callable[[str], bool]) -> None:
    """Remove the files of a dataset that the catalog no longer has.

    Args:
        record: says which files sync wrote.
        folder: the dataset's, in the target.
        tally: the dataset's; counts what is removed, and names what somebody changed and is kept.
        is_there: whether the catalog has a file.

    Raises:
        SyncError: the record cannot be used.
    """
    for name in record.names(tally.dataset_id):
        if is_there(name):
            continue
        try:
            _remove(record, folder / name, tally)
        except OSError as error:
            tally.fail(name, error.strerror or str(error))


def _remove(record: SyncRecord, path: Path, tally: Tally) -> None:
    name = path.name
    found = look_at(path)
    written = [entry for entry in record.entries(tally.dataset_id, name) if entry.written]
    if found is not None and written:
        if not is_as_left(found, written):
            tally.changed.append(name)
            return
        path.unlink()
        tally.removed += 1
    # A file that was there before sync came stays; it is its owner's alone from now on.
    record.forget(tally.dataset_id, name)


def remove_gone_dataset(record: SyncRecord, folder: Path, tally: Tally) -> None:
    """Remove the files of a dataset that the catalog no longer has at all, and its folder if nothing else is in it.

    Args:
        record: says which files sync wrote; forgets the dataset when it is gone.
        folder: the dataset's, in the target.
        tally: the dataset's.

    Raises:
        SyncError: the record cannot be used, or the folder is a link.
    """
    refuse_link(folder)
    remove_gone_files(record, folder, tally, is_there=lambda _: False)
    if next(record.names(tally.dataset_id), None) is None:
        record.forget_dataset(tally.dataset_id)
    # It may be gone, or hold what is its owner's.
    with contextlib.suppress(OSError):
        remove_leftovers(folder)
        folder.rmdir()
