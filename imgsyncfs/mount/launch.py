"""Start the process behind a mount, and wait until the mount can be used."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from imgsyncfs.errors import CacheError, CacheFull, MountError
from imgsyncfs.mount.handed_device import handed_device
from imgsyncfs.settings.mount import MountSettings
from imgsyncfs.settings.private_folders import has_no_room, make_own_folder, own_file_fault
from imgsyncfs.workers.environment import started_environment
from imgsyncfs.workers.frames import read_frame, write_frame
from imgsyncfs.workers.pool import restore_error

START_SECONDS = 30.0
"""Beside the timeouts for catalog and stores: an interpreter starts in tenths of a second, on a busy machine in
seconds."""

LOG_BYTES = 1 << 20


def log_path(settings: MountSettings) -> Path:
    """Where a mount in the background writes its log."""
    place = hashlib.sha256(settings.mountpoint.encode(errors="surrogateescape")).hexdigest()[:16]
    return Path(settings.library.cache_dir) / "logs" / f"{place}.log"


def launch(settings: MountSettings) -> list[str]:
    """Mount in the background.

    Args:
        settings: what to mount, where and how; the place has been checked.

    Returns:
        Warnings: a catalog or a store cannot be reached.

    Raises:
        ImgsyncfsError: it could not be mounted, and why.
    """
    path = log_path(settings)
    handed = handed_device(settings.mountpoint)
    for folder in (path.parent.parent, path.parent):
        make_own_folder(folder)
    try:
        with _open_log(path) as log:
            before = os.fstat(log.fileno()).st_size
            daemon = subprocess.Popen(
                # The mount point is there for whoever looks through the list of processes.
                [sys.executable, "-m", "imgsyncfs.mount.process", settings.mountpoint],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=started_environment(),
                pass_fds=() if handed is None else (handed,),
                cwd="/",
            )
    except OSError as error:
        kind = CacheFull if has_no_room(error) else MountError
        raise kind(
            f"The cache folder {settings.library.cache_dir} cannot be used ({error}); choose another.",
            option="cache_dir",
        ) from error
    assert daemon.stdin is not None  # noqa: S101  # Popen was given PIPE
    assert daemon.stdout is not None  # noqa: S101  # likewise
    with daemon.stdin as stdin, daemon.stdout as stdout:
        write_frame(stdin, settings.to_frame())  # type: ignore[arg-type]  # IO[bytes] is a BinaryIO here
        if not _readable(stdout, 2 * settings.library.timeout + START_SECONDS):
            daemon.kill()
            raise MountError(f"The mount did not come up in time; its log is {path}.")
        try:
            frame = read_frame(stdout)  # type: ignore[arg-type]  # IO[bytes] likewise
        except ValueError as error:
            daemon.kill()
            raise MountError(f"The mount's process said what makes no sense ({error}); its log is {path}.") from error
    if frame is None:
        raise MountError(f"The mount's process ended without a word; its log is {path}.{_last_words(path, before)}")
    if "error" in frame[0]:
        error_raised = restore_error(frame[0]["error"])
        if isinstance(error_raised, MountError):
            raise MountError(f"{error_raised}{_last_words(path, before)}")
        raise error_raised
    if handed is None:
        # The kernel's first question waits until the daemon answers.
        os.stat(settings.mountpoint)  # noqa: PTH116  # a Path would do the same
    warnings: list[str] = frame[0]["warnings"]
    return warnings


def _open_log(path: Path) -> IO[bytes]:
    """Open a mount's log to add to it; a log that has become long is begun anew.

    Raises:
        CacheError: what is there is a link, or somebody else's file.
        OSError: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        fault = own_file_fault(path, status)
        if fault is not None:
            raise CacheError(f"The mount's log cannot be written: {fault}; remove it.")
        if status.st_size > LOG_BYTES:
            path.unlink()
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def _readable(stream: IO[bytes], seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _last_words(path: Path, start: int) -> str:
    """What libfuse and fusermount said: the log's lines from a position on that are not the daemon's own."""
    with path.open("rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    said = [line for line in lines if line.startswith(("fuse", "mount"))]
    return f" ({'; '.join(said)})" if said else ""


def wait_for_end(process_id: int, seconds: float) -> bool:
    """Wait until a process has ended.

    Args:
        process_id: of the daemon; it need not be a child.
        seconds: at most.

    Returns:
        Whether it has.
    """
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    except OSError:
        return _poll_end(process_id, seconds)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            return bool(selector.select(seconds))
    finally:
        os.close(descriptor)


def _poll_end(process_id: int, seconds: float) -> bool:
    """For kernels without pidfd_open (before 5.3)."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{process_id}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
