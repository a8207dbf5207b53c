"""Make a cache folder ready: new, or as the last ones left it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import diskcache

from imgsyncfs.cache.files import FOLDERS, ExtentFiles
from imgsyncfs.cache.table import DATABASE_NAME, DATABASE_SUFFIXES, ExtentTable, check_database
from imgsyncfs.errors import CacheError
from imgsyncfs.settings.private_folders import make_own_folder

logger = logging.getLogger(__name__)


def extents_folder(cache_dir: Path) -> Path:
    """Where the extents lie within the folder of the disk cache, which holds listings and logs as well."""
    return cache_dir / "extents"


def prepare_cache(
    folder: Path, *, check: bool = False, open_table: Callable[[Path], ExtentTable] = ExtentTable
) -> None:
    """Make the cache folder, or throw away what is in one whose database is damaged.

    Args:
        folder: made with mode 0700, which it gets again if it holds a cache and has another one.
        check: read the whole database to see whether it is damaged; else only what shows at once is seen.
        open_table: opens the database of a folder.

    Raises:
        CacheError: the folder cannot be made or written, or is not the user's alone.
    """
    make_own_folder(folder)
    check_database(folder)
    try:
        _hide(folder)
        with contextlib.closing(ExtentFiles(folder)) as files:
            try:
                _prepare(files, check=check, open_table=open_table)
            except sqlite3.OperationalError:
                # Busy, or it cannot be opened: no reason to throw it away.
                raise
            except sqlite3.DatabaseError as error:
                logger.warning("The cache in %s is damaged (%s) and is made anew.", folder, error)
                _throw_away(files)
                _prepare(files, check=False, open_table=open_table)
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise CacheError(
            f"The cache folder {folder} cannot be used ({error}); choose another with --cache-dir."
        ) from error


def _hide(folder: Path) -> None:
    """Keep others from reading a cache: SQLite makes files that everyone may read. Nothing but a cache is touched."""
    if (folder / DATABASE_NAME).exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def _prepare(files: ExtentFiles, *, check: bool, open_table: Callable[[Path], ExtentTable]) -> None:
    files.make_folders()
    with contextlib.closing(open_table(files.folder)) as table:
        if check:
            table.check()


def _throw_away(files: ExtentFiles) -> None:
    """Remove the database and the files that it led to, by their names: the folder may hold other things as well."""
    for suffix in DATABASE_SUFFIXES:
        (files.folder / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
    for name in FOLDERS:
        files.remove(files.names(name))
