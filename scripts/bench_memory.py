"""What the machine has in memory when a pass begins.

Files that a contestant's bytes come from are there: the server's for those that ask it, the local ones for the others.
The server stands for one far away, whose disks are not compared. Linux may take files out of memory that nobody has
looked at for minutes ("DAMON"), and those who came first in a round then paid for reading them again.

Memory for what is read is there, too. A virtual machine may give free memory back to its host, some two seconds after
it was freed ("free page reporting"). A page that the host must provide again takes 5 to 13 microseconds here, one that
was used a moment ago takes one: 300 MB into files take 1.0 s and not 0.1. That would be added to whatever a contestant
does with what it reads, and the faster it is, the more it would count.

And nothing is left to be written that somebody else has made before.
"""

from __future__ import annotations

import os
from pathlib import Path

CHUNK_BYTES = 4 << 20


def prepare(folder: Path) -> None:
    """Have Linux write what is to be written, and hold the content of all files in and below a folder.

    Files that it holds already take next to no time.
    """
    os.sync()
    buffer = bytearray(CHUNK_BYTES)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def forget_pages(folder: Path) -> None:
    """Have Linux give up the content of all files in a folder; all of it is on the disk."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
