"""What a reader gets for an exception, and what the log of errors says of it."""

from __future__ import annotations

import errno
import logging
from typing import Any

from imgsyncfs.errors import (
    AnnotationError,
    BlobChanged,
    BlobRefused,
    CatalogMissing,
    CatalogRefused,
    CatalogUnreachable,
    DatasetChanged,
    ImgsyncfsError,
    NotInCatalog,
    StoreNotAllowed,
    StoreRefused,
    StoreUnreachable,
)
from imgsyncfs.library.error_log import kind_of

logger = logging.getLogger(__name__)

_SAME_FOR_ALL = (StoreRefused, StoreUnreachable, CatalogMissing, CatalogRefused, CatalogUnreachable)
"""Errors that concern all files alike: reported once a minute, for the file that was read first."""


def error_number(error: BaseException, operation: str) -> int:
    """The errno that a reader gets for an exception.

    Args:
        error: what went wrong.
        operation: what the kernel asked for.
    """
    number = _error_number(error)
    # The C library takes ENOENT from reading a directory for its end: what is gone would look empty.
    return errno.ESTALE if (number, operation) == (errno.ENOENT, "readdir") else number


def _error_number(error: BaseException) -> int:
    if isinstance(error, (StoreRefused, BlobRefused, CatalogRefused)):
        return errno.EACCES
    if isinstance(error, (BlobChanged, DatasetChanged)):
        return errno.ESTALE
    if isinstance(error, NotInCatalog):
        return errno.ENOENT
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO


def error_report(error: Exception, path: str, operation: str) -> dict[str, Any] | None:
    """What the log of errors is to say.

    Args:
        error: what went wrong.
        path: of the file or directory, within the mount.
        operation: what the kernel asked for.

    Returns:
        ``message``; ``cause``, what makes two of them the same, empty for the message itself; ``kind``, what it is
        counted as; ``stale``, whether the catalog is to be asked at once. None for what is no fault of the mount: no
        such file, no directory.
    """
    said = {"kind": kind_of(type(error)), "stale": isinstance(error, (BlobChanged, DatasetChanged))}
    if isinstance(error, AnnotationError):
        return {"message": str(error), "cause": "", **said}
    if isinstance(error, StoreNotAllowed):
        # A line for each such store: one that is not allowed must not hide another.
        return {"message": f"{path}: {error}", "cause": str(error), **said}
    if isinstance(error, _SAME_FOR_ALL) and not isinstance(error, NotInCatalog):
        return {"message": f"{path}: {error}", "cause": type(error).__name__, **said}
    if isinstance(error, ImgsyncfsError):
        return {"message": f"{path}: {error}", "cause": str(error), **said}
    if isinstance(error, OSError) and error.errno in {errno.ESTALE, errno.ENOTDIR, errno.EINVAL, errno.ENOENT}:
        return None
    logger.error("%s %s failed", operation, path, exc_info=error)
    return {
        "message": f"{path}: {operation} failed: {error!r}; please report this with the mount's log.",
        "cause": "",
        **said,
    }
