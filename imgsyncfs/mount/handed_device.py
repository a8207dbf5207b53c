"""``/dev/fd/N`` as a mount point: a descriptor of ``/dev/fuse`` that somebody else has mounted already.

So does libfuse 3 (``fuse_session_mount``). A container without privileges may not mount; whoever started it may, and
hands it the descriptor over. The mount is theirs to end.
"""

from __future__ import annotations

import os
import re
import stat

from imgsyncfs.errors import MountError

_WRITTEN = re.compile(r"/dev/fd/(\d{1,9})")

FUSE_DEVICE = (10, 229)
"""Major and minor number of ``/dev/fuse`` (the kernel's ``devices.txt``)."""


def handed_device(mountpoint: str) -> int | None:
    """The descriptor that a mount point stands for; None if it is a directory.

    Args:
        mountpoint: as the user wrote it.
    """
    written = _WRITTEN.fullmatch(mountpoint)
    return int(written[1]) if written else None


def check_handed_device(descriptor: int) -> None:
    """See that a descriptor is one of ``/dev/fuse``.

    Raises:
        MountError: it is not open, or is something else.
    """
    remedy = "open /dev/fuse, mount it with fd=N, and let this command inherit the descriptor"
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        raise MountError(f"The descriptor of /dev/fd/{descriptor} is not open; {remedy}.") from error
    if not stat.S_ISCHR(status.st_mode) or (os.major(status.st_rdev), os.minor(status.st_rdev)) != FUSE_DEVICE:
        raise MountError(f"/dev/fd/{descriptor} is not /dev/fuse; {remedy}.")
