"""Make a cache folder ready: new, or as the last ones left it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from pathlib import Path

import diskcache

from imgsyncfs.cache.files import make_folders
from imgsyncfs.cache.table import ExtentTable
from imgsyncfs.cache.unfinished import remove_leftovers
from imgsyncfs.errors import CacheError

logger = logging.getLogger(__name__)


def extents_folder(cache_dir: Path) -> Path:
    """Where the extents lie within the folder of the disk cache, which holds listings and logs as well."""
    return cache_dir / "extents"


def prepare_cache(folder: Path, *, check: bool = False) -> None:
    """Make the cache folder, or throw away one whose database is damaged. Remove what killed writers have left.

    Args:
        folder: becomes mode 0700.
        check: read the whole database to see whether it is damaged; else only what shows at once is seen.

    Raises:
        CacheError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        try:
            _prepare(folder, check=check)
        except sqlite3.OperationalError:
            # Busy, or it cannot be opened: no reason to throw it away.
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("The cache in %s is damaged (%s) and is made anew.", folder, error)
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            _prepare(folder, check=False)
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise CacheError(
            f"The cache folder {folder} cannot be used ({error}); choose another with --cache-dir."
        ) from error


def _prepare(folder: Path, *, check: bool) -> None:
    make_folders(folder)
    with contextlib.closing(ExtentTable(folder)) as table:
        if check:
            table.check()
        remove_leftovers(folder, leads_to=table.leads_to)
