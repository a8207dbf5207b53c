"""The folder of what is saved of a catalog: its table, the listings of its datasets, their numbers.

What is being written has a name of its own, and gets the right one when it is whole. A process that is killed meanwhile
leaves it behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import time
from pathlib import Path

LISTINGS = "listings"
"""The folder, within a catalog's, of all listings."""

UNFINISHED = "."
"""What the names of files and folders begin with that are being written."""

IN_FLIGHT_SECONDS = 600.0
"""What is younger may be about to be finished: a listing of millions of images takes minutes, on a slow disk."""


def listing_folder(folder: Path, dataset_id: str) -> Path:
    """The folder of the saved listings of a dataset, or of a selection, within that of all listings."""
    return folder / hashlib.sha256(dataset_id.encode(errors="surrogatepass")).hexdigest()[:32]


def remove_unfinished(folder: Path, *, older_than: float = IN_FLIGHT_SECONDS) -> None:
    """Remove what processes have left that were killed as they wrote.

    Args:
        folder: a catalog's; another process may write there.
        older_than: seconds since it was last written; what is younger stays.
    """
    before = time.time() - older_than
    for path in itertools.chain(
        folder.glob(f"{UNFINISHED}*"),
        folder.glob(f"{LISTINGS}/*/{UNFINISHED}*"),
        folder.glob(f"{LISTINGS}/*/[!{UNFINISHED}]*/{UNFINISHED}*"),
    ):
        # Somebody else may remove it as well.
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime > before:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
