"""The channel to the kernel: libfuse mounts, the kernel's first request is answered, libfuse unmounts.

fusepy loads libfuse 2.9; of its low-level interface (``fuse_lowlevel.h``, ``fuse_common.h``) three functions and one
structure are used, which do what only libfuse can: mount as an ordinary user by way of fusermount, and sort the mount
options by whether they are the kernel's or fusermount's.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import fuse

from imgsyncfs.errors import MountError
from imgsyncfs.mount.handed_device import handed_device
from imgsyncfs.mount.mountpoint import mount_entry
from imgsyncfs.mount.protocol import REQUEST_BYTES, Limits, init_answer

logger = logging.getLogger(__name__)

_LIBFUSE = fuse._libfuse  # noqa: SLF001  # fusepy has no other name for the library that it loaded


class _Arguments(ctypes.Structure):
    """struct fuse_args: argc, argv, and whether libfuse allocated them (``fuse_opt.h``)."""

    _fields_ = (
        ("argc", ctypes.c_int),
        ("argv", ctypes.POINTER(ctypes.c_char_p)),
        ("allocated", ctypes.c_int),
    )


_LIBFUSE.fuse_mount.argtypes = [ctypes.c_char_p, ctypes.POINTER(_Arguments)]
_LIBFUSE.fuse_mount.restype = ctypes.c_void_p
_LIBFUSE.fuse_chan_fd.argtypes = [ctypes.c_void_p]
_LIBFUSE.fuse_unmount.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
_LIBFUSE.fuse_unmount.restype = None


class Channel:
    """A mount, and the device that its requests come from.

    Args:
        mountpoint: an empty directory, a trigger of autofs, or ``/dev/fd/N`` for a device that somebody else has
            mounted, and unmounts.
        options: for libfuse and the kernel, name to value, or to True for a flag.
        limits: what the kernel is told.

    Raises:
        MountError: it could not be mounted; libfuse has said why on standard error.
    """

    def __init__(self, mountpoint: Path, options: Mapping[str, str | bool], limits: Limits) -> None:
        self._mountpoint = mountpoint
        handed = handed_device(str(mountpoint))
        below = mount_entry(mountpoint)
        if below is not None and below.is_trigger:
            # Without it libfuse looks into the place, and that waits until something is mounted.
            options = {**options, "nonempty": True}
        self._channel = None if handed is not None else _mount(mountpoint, options)
        self._entry = mount_entry(mountpoint)
        self.device: int = handed if handed is not None else _LIBFUSE.fuse_chan_fd(self._channel)
        """The descriptor of ``/dev/fuse``."""
        os.set_inheritable(self.device, False)
        try:
            message, self.flags = init_answer(os.read(self.device, REQUEST_BYTES), limits)
            os.write(self.device, message)
        except OSError as error:
            self.close()
            raise MountError(
                f"{mountpoint} could not be mounted: {error.strerror}; Linux 5.3 or newer is needed."
            ) from error
        os.set_blocking(self.device, False)

    def close(self) -> None:
        """Unmount, if that has not happened yet; whoever still uses the mount gets errors.

        libfuse unmounts whatever is at the place. Another namespace may have had this mount for longer, and another
        mount be there by now.
        """
        channel, self._channel = self._channel, None
        if channel and mount_entry(self._mountpoint) == self._entry:
            _LIBFUSE.fuse_unmount(os.fsencode(self._mountpoint), channel)


def _mount(mountpoint: Path, options: Mapping[str, str | bool]) -> int:
    """Have libfuse mount; returns its channel.

    Raises:
        MountError: it refused.
    """
    words = [b"imgsyncfs"]
    for name, value in options.items():
        words += [b"-o", os.fsencode(name if value is True else f"{name}={value}")]
    arguments = _Arguments(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None), 0)
    channel: int | None = _LIBFUSE.fuse_mount(os.fsencode(mountpoint), ctypes.byref(arguments))
    if not channel:
        raise MountError(f"{mountpoint} could not be mounted: libfuse refused.")
    return channel
