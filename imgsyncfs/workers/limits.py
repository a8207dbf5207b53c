"""What a process may take: whatever it works on, it must not take the machine with it."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path


def limit(kind: int, most: int) -> None:
    """Lower a limit of this process (``resource.RLIMIT_…``); one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def limit_memory(byte_count: int) -> None:
    """Let this process take so much memory beside what it has; what needs more raises MemoryError.

    Only what it may write to counts (getrlimit(2), RLIMIT_DATA): threads reserve far more addresses than they use.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + byte_count)


def physical_memory() -> int:
    """The machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
