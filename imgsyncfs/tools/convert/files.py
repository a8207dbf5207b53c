"""Put files in place so that no reader sees half a file, and the previous content can be restored.

A new content is written under a temporary name in the same folder, brought to the disk, and renamed. Temporary names
begin with `TEMPORARY_PREFIX`; the next conversion removes what a killed process left (`remove_leftovers`).

Names are brought to the disk once a folder (`imgsyncfs.stores.local.sync_folder`), which halves the time: file
systems with a journal keep the order in which names were given, and only the order matters until the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from imgsyncfs.errors import ConvertError

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".imgsyncfs-convert-"

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links (exFAT, some network disks) answer, and what one answers at its limit."""


def replace_file(path: Path, content: bytes) -> None:
    """Give a file a new content, all of it at once, whether or not there was one.

    Raises:
        OSError: it cannot be written; then it is as before.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def keep_copy(path: Path, copy: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
    """Keep a copy of a file, so that the file may get another content.

    Args:
        path: the file.
        copy: the path of the copy, on the same disk; nothing is there yet.
        link: makes a hard link to the first path at the second.

    Raises:
        OSError: the copy cannot be made; then nothing has changed.
    """
    try:
        # The file itself, with its times and rights.
        link(path, copy)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        replace_file(copy, path.read_bytes())


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed. Call while holding `locked`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX):
                logger.info("Removing %s, which an interrupted conversion left", entry.path)
                Path(entry.path).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other conversions out of a folder while the block runs; the lock ends with the process, however it ends.

    Raises:
        ConvertError: another one is at work in it.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConvertError(f"Another conversion is at work in {folder}; wait until it has ended.") from None
        except OSError as error:
            # Network disks do not lock folders. What is in place is still never half a file.
            logger.info("%s cannot be locked (%s)", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)
