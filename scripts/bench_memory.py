"""Memory that the machine has at hand when a pass begins.

A virtual machine may give free memory back to its host, some two seconds after it was freed ("free page reporting").
A page that the host must provide again takes 5 to 13 microseconds here, one that was used a moment ago takes one:
300 MB into files take 1.0 s and not 0.1. That would be added to whatever a contestant does with what it reads, and the
faster it is, the more it would count.
"""

from __future__ import annotations

import os
from pathlib import Path

CHUNK_BYTES = 4 << 20


def put_at_hand(folder: Path, byte_count: int) -> None:
    """Use so much memory for the content of a file, and free it.

    Args:
        folder: where the file may be; on a disk, for memory of other kinds is not used again for files.
        byte_count: how much.
    """
    path = folder / "memory"
    content = os.urandom(CHUNK_BYTES)
    with path.open("wb", buffering=0) as file:
        for _ in range(-(-byte_count // CHUNK_BYTES)):
            file.write(content)
        file.truncate(0)
