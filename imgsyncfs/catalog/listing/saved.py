"""Listings on disk: saved beside the cache, mapped into memory when they are loaded.

A saved listing is a folder of two files. ``columns.npy`` (NumPy's format NPY 1.0, one array of uint8) has all columns
one after the other, each at a multiple of 64 bytes: one file for all columns, since a mount may hold thousands of
listings and the kernel allows a process 65,530 maps. ``meta.json`` has the place of each column, and everything else.

Nothing of it is trusted before version, lengths and the digest of the columns have been checked, which takes 10 ms for
a million images. So a listing is saved without waiting for the disk: one that a power cut left half written is found,
and built again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from imgsyncfs.catalog.listing.columns import join_columns, take_column
from imgsyncfs.catalog.listing.table import ALL_COLUMNS, Listing, ListingFacts
from imgsyncfs.errors import CacheError, ListingDamaged

MAGIC = "imgsyncfs listing"
VERSION = 2

COLUMNS_FILE = "columns.npy"
META_FILE = "meta.json"

MOST_TRIES = 100
"""How often other processes that save the same listing may interfere; each of them has saved it then."""


def save_listing(listing: Listing, folder: Path) -> None:
    """Save a listing. A process that loads it meanwhile gets the one before or this one.

    Args:
        listing: what to save.
        folder: is made, with its parents; what it held is replaced.

    Raises:
        CacheError: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _not_saved(folder, error) from error
    try:
        _write(listing, temporary)
        _put_in_place(temporary, folder)
    except OSError as error:
        raise _not_saved(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_listing(folder: Path) -> Listing:
    """Load a saved listing; its columns are mapped, not read.

    Args:
        folder: what it was saved to. The files may be deleted while the listing is in use.

    Returns:
        The listing.

    Raises:
        ListingDamaged: it is not there, is of another version, or is not what was saved.
    """
    try:
        meta = json.loads((folder / META_FILE).read_bytes())
        if meta["magic"] != MAGIC or meta["version"] != VERSION:
            raise _damaged(folder, "it was saved by another version")
        content = np.load(folder / COLUMNS_FILE, mmap_mode="r", allow_pickle=False)
        if content.dtype != np.uint8 or content.shape != (meta["bytes"],):
            raise _damaged(folder, "its columns have the wrong length")
        if xxhash.xxh3_64_hexdigest(content.data) != meta["digest"]:
            raise _damaged(folder, "its columns have the wrong digest")
        plain = np.asarray(content)
        columns = {name: take_column(plain, meta["columns"][name]) for name in ALL_COLUMNS}
        return Listing(_facts(meta["facts"]), columns)
    except FileNotFoundError as error:
        raise _damaged(folder, "it is not there") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise _damaged(folder, str(error) or type(error).__name__) from error


def _write(listing: Listing, folder: Path) -> None:
    places, content = join_columns({name: listing.columns[name] for name in ALL_COLUMNS})
    with _opened(folder / COLUMNS_FILE) as file:
        np.save(file, content, allow_pickle=False)
    meta = {
        "magic": MAGIC,
        "version": VERSION,
        "bytes": len(content),
        "digest": xxhash.xxh3_64_hexdigest(content.data),
        "columns": places,
        "facts": asdict(listing.facts),
    }
    with _opened(folder / META_FILE) as file:
        # ASCII: a hidden name need not be valid UTF-8.
        file.write(json.dumps(meta, ensure_ascii=True, indent=1).encode())


def _opened(path: Path) -> BinaryIO:
    # Path.open takes no opener.
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _put_in_place(temporary: Path, folder: Path) -> None:
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not tries_left:
                raise
        else:
            return
        # A folder cannot take the place of another in one step; whoever loads between the two builds the listing anew.
        with (
            tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as old,
            contextlib.suppress(FileNotFoundError),  # somebody else saves it as well
        ):
            folder.rename(Path(old) / "old")


def _facts(values: Mapping[str, Any]) -> ListingFacts:
    return ListingFacts(
        **{
            **values,
            "exts": tuple(values["exts"]),
            "hidden": tuple((name, reason) for name, reason in values["hidden"]),
        }
    )


def _damaged(folder: Path, reason: str) -> ListingDamaged:
    return ListingDamaged(f"The saved listing {folder} cannot be used: {reason}; it is built again from the catalog.")


def _not_saved(folder: Path, error: OSError) -> CacheError:
    return CacheError(
        f"The listing {folder} cannot be saved: {error.strerror}; make room or correct the folder's permissions, or "
        "choose another with --cache-dir."
    )
