"""What a process may take: whatever it works on, it must not take the machine with it."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def limit(kind: int, most: int) -> None:
    """Lower a limit of this process (``resource.RLIMIT_…``); one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def limit_memory(byte_count: int) -> None:
    """Let this process take so much memory beside what it has; what needs more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + byte_count)
