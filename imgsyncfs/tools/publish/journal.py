"""A journal of findings about inputs, kept so that `publish` and `index` go on where they stopped.

It lies on disk and maps a fingerprint, which changes with the input's content, to findings such as its digest and
size. It only saves work: a lost or damaged journal costs time, and nothing fails because of it.

Invariants: `_lock` guards `_unsaved` and `_cache`; it is held while the disk is written, never while a caller works.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import diskcache
import orjson

from imgsyncfs.cache import PlainDisk, check_database
from imgsyncfs.errors import CacheError
from imgsyncfs.settings.private_folders import make_own_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


logger = logging.getLogger(__name__)

MOST_BYTES = 1 << 30
"""Enough for the findings about some two million inputs."""

UNSAVED_FINDINGS = 256
UNSAVED_SECONDS = 1.0
"""Findings are saved this many at a time, and at the latest when this long has passed: each transaction costs 0.3 ms, a
third of what it takes to look at a small image. A process that is killed loses no more than that."""

_BUSY_SECONDS = 10.0

_NEVER_IN_FILES = 1 << 30

_FAULTS = (sqlite3.Error, diskcache.Timeout, OSError, CacheError)


class Journal:
    """A memory of findings in a folder. It may be used by several threads, and by several processes.

    Args:
        folder: where it lies, for the user alone; made if it is missing. A damaged one is thrown away.
        most_bytes: how large it may become, in bytes; the oldest findings go first.
        unsaved_seconds: how long findings may wait to be saved.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES, unsaved_seconds: float = UNSAVED_SECONDS) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._unsaved_seconds = unsaved_seconds
        self._lock = threading.Lock()
        self._unsaved: dict[str, bytes] = {}
        self._saved_at = time.monotonic()
        self._cache = self._open()

    def get(self, fingerprint: str) -> dict[str, Any] | None:
        """The findings about an input; None if there are none."""
        with self._lock:
            content = self._unsaved.get(fingerprint)
            if content is None and self._cache is not None:
                try:
                    content = self._cache.get(fingerprint)
                except _FAULTS as error:
                    self._recover(error)
        if content is None:
            return None
        try:
            findings = orjson.loads(content)
        except orjson.JSONDecodeError:
            findings = None
        if not isinstance(findings, dict):
            logger.warning("An entry of the journal %s is damaged; its input is looked at again.", self._folder)
            return None
        return findings

    def put(self, fingerprint: str, findings: Mapping[str, Any]) -> None:
        """Remember the findings about an input.

        Args:
            fingerprint: made of those of `imgsyncfs.tools.fingerprints`.
            findings: what JSON can say; named tuples come back as lists, as other tuples do.
        """
        content = orjson.dumps(dict(findings), default=tuple)
        with self._lock:
            self._unsaved[fingerprint] = content
            if len(self._unsaved) >= UNSAVED_FINDINGS or time.monotonic() - self._saved_at >= self._unsaved_seconds:
                self._save()

    def close(self) -> None:
        """Save the findings that are not saved yet, and close the files."""
        with self._lock:
            self._save()
            if self._cache is not None:
                self._cache.close()
                self._cache = None

    def __enter__(self) -> Journal:  # noqa: PYI034  # Self is in `typing` from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _save(self) -> None:
        unsaved, self._unsaved, self._saved_at = self._unsaved, {}, time.monotonic()
        if self._cache is None or not unsaved:
            return
        try:
            with self._cache.transact():
                for fingerprint, content in unsaved.items():
                    self._cache.set(fingerprint, content)
        except _FAULTS as error:
            self._recover(error)

    def _open(self) -> diskcache.Cache | None:
        for attempt in ("first", "last"):
            try:
                make_own_folder(self._folder)
                check_database(self._folder)
                return diskcache.Cache(
                    self._folder,
                    timeout=_BUSY_SECONDS,
                    disk=PlainDisk,
                    disk_min_file_size=_NEVER_IN_FILES,
                    size_limit=self._most_bytes,
                    eviction_policy="least-recently-stored",
                )
            except _FAULTS as error:
                if attempt == "first" and isinstance(error, sqlite3.Error):
                    self._throw_away(error)
                else:
                    logger.warning("Going on without the journal %s, which can't be used: %s.", self._folder, error)
        return None

    def _recover(self, error: Exception) -> None:
        # Among these are a full disk and one that is busy: what is there may still be good.
        passing = isinstance(error, sqlite3.OperationalError | OSError | diskcache.Timeout)
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if passing:
            logger.warning("Going on without the journal %s, which can't be used: %s.", self._folder, error)
        else:
            self._throw_away(error)
            self._cache = self._open()

    def _throw_away(self, error: Exception) -> None:
        logger.warning("The journal %s is damaged (%s); it is begun anew.", self._folder, error)
        # By name, for the folder could be one that holds other things as well.
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                (self._folder / f"{diskcache.core.DBNAME}{suffix}").unlink(missing_ok=True)
