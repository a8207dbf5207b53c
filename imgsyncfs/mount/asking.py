"""Ask a mount for one of its control files, without waiting for longer than one cares to.

A mount may be dead, or hang. Whoever reads from one that hangs waits in the kernel, and sometimes not even SIGKILL ends
that. So a process of its own reads, which is left behind if there is no answer in time.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imgsyncfs.library.nodes import CONTROL_NAME

ANSWER_SECONDS = 5.0
"""How long to wait for a mount that only says how it is doing: milliseconds, if it is not stopped."""

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
"""What the kernel answers when nobody is behind a mount any more."""


@dataclass(frozen=True)
class Answer:
    """What came of reading a file of a mount.

    Attributes:
        content: of the file.
        fault: why it could not be read, in the system's words; empty if it could.
        is_late: whether the mount did not answer in time.
    """

    content: bytes = b""
    fault: str = ""
    is_late: bool = False

    @property
    def is_dead(self) -> bool:
        """Whether nobody is behind the mount any more."""
        return self.fault in map(os.strerror, _DEAD)


def ask(mountpoints: Sequence[Path], name: bytes, *, seconds: float) -> list[Answer]:
    """Read a control file of mounts, all at once.

    Args:
        mountpoints: absolute paths.
        name: of the file in ``.imgsyncfs``.
        seconds: how long to wait for all of them.
    """
    deadline = time.monotonic() + seconds
    asked = [
        subprocess.Popen(
            ["cat", mountpoint / os.fsdecode(CONTROL_NAME) / os.fsdecode(name)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )
        for mountpoint in mountpoints
    ]
    return [_answer(process, deadline) for process in asked]


def _answer(process: subprocess.Popen[bytes], deadline: float) -> Answer:
    try:
        content, complaint = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        return Answer(is_late=True)
    if process.returncode != 0:
        fault = complaint.decode(errors="replace").strip().rpartition(": ")[2]
        return Answer(fault=fault or "it cannot be read")
    return Answer(content)
