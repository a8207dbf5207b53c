"""What all nodes of the namespace have: modes, attributes, positions in a directory."""

from __future__ import annotations

import stat
from typing import NamedTuple

DIRECTORY_MODE = stat.S_IFDIR | 0o777
FILE_MODE = stat.S_IFREG | 0o666
"""Less the mount's umask. Copies are to be edited and removed, so they are not to come out read-only; that the mount
is, the kernel sees to (``ro``)."""

LINK_MODE = stat.S_IFLNK | 0o777

DEFAULT_UMASK = 0o022

CONTROL_NAME = b".imgsyncfs"
REFRESH_NAME = b"refresh"
STATUS_NAME = b"status.json"
"""The directory of control files, the one that whoever wants the catalog to be asked reads, and how the mount is doing;
see `imgsyncfs.library.control_files`."""

FIRST_POSITION = 2
"""The first position in a directory; those below are of ``.`` and ``..``."""


class Owner(NamedTuple):
    """Whom all nodes belong to.

    Attributes:
        user: its id.
        group: its id.
        umask: the permissions that nobody has.
    """

    user: int
    group: int
    umask: int = DEFAULT_UMASK


class Attributes(NamedTuple):
    """What `stat` shows.

    Attributes:
        mode: kind and permissions, before the umask.
        size: length in bytes; exact, for rendered files too.
        modified_at: when the content last changed, Unix seconds.
    """

    mode: int
    size: int
    modified_at: int
