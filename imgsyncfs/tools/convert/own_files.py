"""Files that a conversion writes beside others, and may write again: those that it wrote and nobody changed since.

A document or a text of numbers does not say who wrote it. So the folder has a record of what was written, or was there
and said the same; what is not in it, or is no longer as it was, is somebody's work, and stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgsyncfs.errors import ConvertError
from imgsyncfs.tools.convert.reconciliation import FileUnusable
from imgsyncfs.tools.convert.writing import TEMPORARY_PREFIX

RECORD_FILE = ".imgsyncfs-converted-1.db"
"""The number is the layout's; another layout has another number and begins anew."""

_BESIDE_RECORD = ("-wal", "-shm", "-journal")
"""What follows the record's name in the names of files that SQLite keeps while it writes."""

_SCHEMA = "CREATE TABLE IF NOT EXISTS written (path TEXT, md5 TEXT, PRIMARY KEY (path, md5)) WITHOUT ROWID"

_PIECE_BYTES = 1 << 20

_OTHERS = "it says something else, and was edited or comes from elsewhere; remove it to have it made anew"


class OwnFiles:
    """Writes files, and knows them again. A context manager.

    Args:
        folder: has the record. Call while holding `imgsyncfs.tools.convert.writing.locked` of it.

    Raises:
        ConvertError: the record cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._record = folder / RECORD_FILE
        if self._record.is_symlink():
            raise ConvertError(f"{self._record} is a link, and a record would be written where it leads; remove it.")
        with self._faults():
            self._connection = sqlite3.connect(self._record, isolation_level=None)
            # An entry that a power cut takes costs a question; bringing each one to the disk would cost more.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_SCHEMA)

    def write_short(self, path: Path, content: bytes) -> bool:
        """Write a file whose content is at hand; see `write`."""
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                self._note(path, hashlib.md5(content, usedforsecurity=False).hexdigest())
                return False
        return self.write(path, [content])

    def write(self, path: Path, chunks: Iterable[bytes]) -> bool:
        """Write a file, all of it at once.

        Args:
            path: in the folder, or in a folder beside.
            chunks: its content.

        Returns:
            Whether anything was written: False if the file is there and says this.

        Raises:
            FileUnusable: another one is there, and is not ours; it stays.
            OSError: it cannot be written; then it is as before.
        """
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with temporary.open("xb") as stream:
                for chunk in chunks:
                    digest.update(chunk)
                    stream.write(chunk)
                stream.flush()
                before, now = _digest_of(path), digest.hexdigest()
                if before is not None and before != now and not self._is_own(path, before):
                    raise FileUnusable(path, _OTHERS)
                # Noted first, and what was noted before stays until then: however this ends, the file is known.
                self._note(path, now)
                if before != now:
                    os.fsync(stream.fileno())
                    temporary.replace(path)
                self._execute("DELETE FROM written WHERE path = ? AND md5 <> ?", self._name(path), now)
                return before != now
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def remove(self, path: Path) -> bool:
        """Remove a file that there is nothing to write into any more, if it is ours; returns whether it was removed.

        Raises:
            FileUnusable: another one is there, and is not ours; it stays.
        """
        before = _digest_of(path)
        if before is not None and not self._is_own(path, before):
            raise FileUnusable(path, _OTHERS)
        if before is not None:
            path.unlink()
            self._execute("DELETE FROM written WHERE path = ?", self._name(path))
        return before is not None

    def __enter__(self) -> OwnFiles:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(self, *error: object) -> None:
        with self._faults():
            self._connection.close()

    def _note(self, path: Path, md5: str) -> None:
        """Note that a file is written, or says the same already: then it can be made again, whoever wrote it."""
        self._execute("INSERT OR IGNORE INTO written VALUES (?, ?)", self._name(path), md5)

    def _is_own(self, path: Path, md5: str) -> bool:
        return bool(self._execute("SELECT 1 FROM written WHERE path = ? AND md5 = ?", self._name(path), md5))

    def _execute(self, sql: str, *parameters: str) -> list[Any]:
        with self._faults():
            return self._connection.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ConvertError(
                f"The record {self._record} cannot be used ({error}); see to the disk, or remove it: then files that "
                "were written earlier are taken for somebody's."
            ) from error

    def _name(self, path: Path) -> str:
        return _recorded_name(os.path.relpath(path, self._folder))


@dataclass(frozen=True)
class WrittenFiles:
    """What conversions left in a folder.

    Attributes:
        own: names of files that are as they were written, and of those that are for conversions alone.
        edited: names of files that were written, and are no longer as they were.
        fault: why the record cannot be used, to be read after its name; empty if it can, or there is none.
    """

    own: frozenset[str] = frozenset()
    edited: frozenset[str] = frozenset()
    fault: str = ""


def written_files(names: Collection[str], read: Callable[[str], bytes]) -> WrittenFiles:
    """Tell the files of a folder that a conversion wrote from all others; writes nothing there.

    Args:
        names: of the folder's files.
        read: gives the content of one.

    Returns:
        What was found; where the record cannot be used, no file but itself is known.

    Raises:
        Whatever `read` raises.
    """
    kept = {name for name in names if name.startswith(TEMPORARY_PREFIX)}
    if RECORD_FILE not in names:
        return WrittenFiles(frozenset(kept))
    try:
        recorded = _recorded({suffix: read(RECORD_FILE + suffix) for suffix in _copied(names)})
    except sqlite3.Error as error:
        fault = f"the record of what `imgsyncfs convert` wrote cannot be used ({error}); remove it, and convert again"
        return WrittenFiles(frozenset(kept), fault=fault)
    kept.update(RECORD_FILE + suffix for suffix in ("", *_BESIDE_RECORD))
    own, edited = set[str](), set[str]()
    for name in names:
        digests = recorded.get(_recorded_name(name))
        if digests is not None:
            digest = hashlib.md5(read(name), usedforsecurity=False).hexdigest()
            (own if digest in digests else edited).add(name)
    return WrittenFiles(frozenset(own | kept), frozenset(edited))


def _copied(names: Collection[str]) -> list[str]:
    """What follows the record's name in the names of the files that have its entries."""
    return [suffix for suffix in ("", "-wal") if RECORD_FILE + suffix in names]


def _recorded(parts: dict[str, bytes]) -> dict[str, set[str]]:
    """The digests of each path in a record.

    Args:
        parts: content by what follows the record's name. Read where they lie, SQLite would write beside them.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        for suffix, content in parts.items():
            (Path(folder) / (RECORD_FILE + suffix)).write_bytes(content)
        recorded: dict[str, set[str]] = {}
        with contextlib.closing(sqlite3.connect(Path(folder) / RECORD_FILE)) as connection:
            for path, md5 in connection.execute("SELECT path, md5 FROM written"):
                recorded.setdefault(str(path), set()).add(str(md5))
    return recorded


def _recorded_name(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _digest_of(path: Path) -> str | None:
    """The digest of a file; None if there is none."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return None
    return digest.hexdigest()
