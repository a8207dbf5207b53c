"""Listings on disk: saved beside the cache, mapped into memory when they are loaded.

A saved listing is a folder of two files. ``columns.npy`` (NumPy's format NPY 1.0, one array of uint8) has all columns
one after the other, each at a multiple of 64 bytes: one file for all columns, since a mount may hold thousands of
listings and the kernel allows a process 65,530 maps. ``meta.json`` has the place of each column, and everything else.

Nothing of it is trusted before version, length and the digests of both files have been checked, which takes 10 ms for a
million images: what a damaged file says is not even parsed, but for JSON. So a listing is saved without waiting for the
disk: one that a power cut left half written is found, and built again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import mmap
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.catalog.listing.columns import join_columns, take_column
from imgsyncfs.catalog.listing.table import ALL_COLUMNS, Listing, ListingFacts, Origin
from imgsyncfs.catalog.listing_folder import UNFINISHED
from imgsyncfs.errors import CacheError, ListingDamaged
from imgsyncfs.settings.private_folders import open_own_file

MAGIC = "imgsyncfs listing"
VERSION = 7

COLUMNS_FILE = "columns.npy"
META_FILE = "meta.json"
_META_LENGTH = struct.Struct("<Q")
_SEAL = re.compile(rb'{"meta_digest": "([0-9a-f]{16})", ')
"""How ``meta.json`` begins: with the digest of all that follows."""

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
        temporary = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _not_saved(folder, error) from error
    try:
        _write(listing, temporary)
        _put_in_place(temporary, folder)
    except OSError as error:
        raise _not_saved(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def listing_to_bytes(listing: Listing) -> bytes:
    """What `listing_from_bytes` makes a listing of again, in another process: for one that no disk has room for."""
    columns = io.BytesIO()
    meta = _write_to(listing, columns)
    return b"".join((_META_LENGTH.pack(len(meta)), meta, columns.getbuffer()))


def listing_from_bytes(content: bytes, *, name: str) -> Listing:
    """Put a listing into files in memory, and load it from there.

    Args:
        content: from `listing_to_bytes`.
        name: for messages.

    Raises:
        ListingDamaged: it is not what was sent.
        OSError: there is no memory for it.
    """
    (length,) = _META_LENGTH.unpack_from(content)
    begin = _META_LENGTH.size + length
    meta = _memory_file(memoryview(content)[_META_LENGTH.size : begin])
    try:
        columns = _memory_file(memoryview(content)[begin:])
    except OSError:
        os.close(meta)
        raise
    return map_listing(ListingFiles(meta, columns), name=name, is_checked=False)


def _memory_file(content: memoryview) -> int:
    descriptor = os.memfd_create("listing", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_listing(folder: Path) -> None:
    """Remove a saved listing, as far as that can be; one that may not be read is ours all the same."""
    with contextlib.suppress(OSError):
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink()
            return
        folder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def load_newest(folder: Path) -> Listing | None:
    """Load the listing of a dataset that was saved last.

    Args:
        folder: that of all its listings.

    Returns:
        The listing; None if there is none that can be used.
    """
    with contextlib.suppress(OSError):
        saved = [
            (entry.stat().st_mtime_ns, entry.name)
            for entry in folder.iterdir()
            if not entry.name.startswith(UNFINISHED)
        ]
        for _, name in sorted(saved, reverse=True):
            with contextlib.suppress(ListingDamaged):
                return load_listing(folder / name)
    return None


class ListingFiles:
    """The open files of a saved listing, from which another process can map it too. They may have been deleted.

    Args:
        meta: descriptor of ``meta.json``, taken over.
        columns: descriptor of ``columns.npy``, taken over.
    """

    def __init__(self, meta: int, columns: int) -> None:
        self.meta = meta
        self.columns = columns

    def __del__(self) -> None:
        os.close(self.meta)
        os.close(self.columns)


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
        return map_listing(open_listing_files(folder), name=str(folder), is_checked=False)
    except FileNotFoundError as error:
        raise _damaged(str(folder), "it is not there") from error
    except OSError as error:
        raise _damaged(str(folder), str(error)) from error


def open_listing_files(folder: Path) -> ListingFiles:
    """Open the files of a saved listing.

    Raises:
        OSError: one of them cannot be opened.
    """
    meta = open_own_file(folder / META_FILE)
    try:
        columns = open_own_file(folder / COLUMNS_FILE)
    except OSError:
        os.close(meta)
        raise
    return ListingFiles(meta, columns)


def map_listing(files: ListingFiles, *, name: str, is_checked: bool) -> Listing:
    """Map a saved listing from its open files.

    Args:
        files: kept open by the listing.
        name: for messages.
        is_checked: another process has compared the columns with their digest.

    Raises:
        ListingDamaged: it is of another version, or is not what was saved.
    """
    try:
        sealed = os.pread(files.meta, os.fstat(files.meta).st_size, 0)
        seal = _SEAL.match(sealed)
        if seal is None:
            raise _damaged(name, "it was saved by another version")
        if seal[1] != _digest(memoryview(sealed)[seal.end() :]):
            raise _damaged(name, f"its {META_FILE} has the wrong digest")
        meta = json.loads(sealed)
        if meta["magic"] != MAGIC or meta["version"] != VERSION:
            raise _damaged(name, "it was saved by another version")
        mapped = mmap.mmap(files.columns, 0, access=mmap.ACCESS_READ)
        content = np.frombuffer(mapped, np.uint8, count=meta["bytes"], offset=meta["start"])
        if not is_checked and xxhash.xxh3_64_hexdigest(content.data) != meta["digest"]:
            raise _damaged(name, "its columns have the wrong digest")
        columns = {column: take_column(content, meta["columns"][column]) for column in ALL_COLUMNS}
        return Listing(_facts(meta["facts"]), columns, files=files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(name, str(error) or type(error).__name__) from error


def _write(listing: Listing, folder: Path) -> None:
    with _opened(folder / COLUMNS_FILE) as columns:
        content = _write_to(listing, columns)
    with _opened(folder / META_FILE) as file:
        file.write(content)


def _write_to(listing: Listing, columns: BinaryIO) -> bytes:
    """Write a listing's columns; returns the content of the other file."""
    places, content = join_columns({name: listing.columns[name] for name in ALL_COLUMNS})
    np.save(columns, content, allow_pickle=False)
    start = columns.tell() - len(content)
    meta = {
        "magic": MAGIC,
        "version": VERSION,
        "start": start,
        "bytes": len(content),
        "digest": xxhash.xxh3_64_hexdigest(content.data),
        "columns": places,
        "facts": asdict(listing.facts),
    }
    # ASCII: a hidden name need not be valid UTF-8.
    said = json.dumps(meta, ensure_ascii=True).encode().removeprefix(b"{")
    return b'{"meta_digest": "%s", %s' % (_digest(said), said)


def _digest(content: bytes | memoryview) -> bytes:
    return xxhash.xxh3_64_hexdigest(content).encode()


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
            # One that may not be written cannot be moved either.
            folder.chmod(0o700)
            folder.rename(Path(old) / "old")


def _facts(values: Mapping[str, Any]) -> ListingFacts:
    return ListingFacts(
        **{
            **values,
            "exts": tuple(values["exts"]),
            "hidden": tuple((name, reason) for name, reason in values["hidden"]),
            "origins": tuple(Origin(*origin) for origin in values["origins"]),
            "choice": ClassChoice.from_fields(values["choice"]),
            "next_numbers": (int(values["next_numbers"][0]), int(values["next_numbers"][1])),
        }
    )


def _damaged(name: str, reason: str) -> ListingDamaged:
    return ListingDamaged(f"The saved listing {name} cannot be used: {reason}; it is built again from the catalog.")


def _not_saved(folder: Path, error: OSError) -> CacheError:
    return CacheError(
        f"The listing {folder} cannot be saved: {error.strerror}; make room or correct the folder's permissions, or "
        "choose another cache folder.",
        option="cache_dir",
    )
