"""What all nodes of the namespace have: modes, attributes, positions in a directory."""

from __future__ import annotations

import stat
from typing import NamedTuple

DIRECTORY_MODE = stat.S_IFDIR | 0o555
FILE_MODE = stat.S_IFREG | 0o444
LINK_MODE = stat.S_IFLNK | 0o777

FIRST_POSITION = 2
"""The first position in a directory; those below are of ``.`` and ``..``."""


class Attributes(NamedTuple):
    """What `stat` shows.

    Attributes:
        mode: kind and permissions.
        size: length in bytes; exact, for rendered files too.
        modified_at: when the content last changed, Unix seconds.
    """

    mode: int
    size: int
    modified_at: int
