"""The ``-o`` options of ``mount(8)`` and ``imgsyncfs mount``: ours, libfuse's, and other programs'.

Ours are the long options of the command with or without dashes (``cache-size`` or ``cache_size``). A list within an
option uses colons, because commas end it: ``siblings=labelme:rolabelimg``. A URL has colons itself: ``allow_store`` is
given once for each store, with ``%2C`` for a comma.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgsyncfs.errors import ConfigurationError, MountError
from imgsyncfs.mount.protocol import MOST_READ, MOST_REQUESTS, Limits
from imgsyncfs.settings.values import did_you_mean

OURS = frozenset(
    {
        "subscription", "siblings", "cache_dir", "cache_size", "keep_free", "allow_store", "refresh", "timeout",
        "config", "profile", "uid", "gid", "umask", "responders", "view",
    }
)  # fmt: skip

OUR_FLAGS = frozenset({"list_hidden", "offline"})

_FOR_FUSE = frozenset(
    {
        "allow_other", "allow_root", "auto_unmount", "max_background", "congestion_threshold", "max_readahead",
        "max_read", "nodev", "nosuid", "noexec", "noatime", "dev", "suid", "exec",
        "atime", "sync", "dirsync", "context", "fscontext", "defcontext", "rootcontext",
    }
)  # fmt: skip

FOR_KERNEL = frozenset(Limits.__dataclass_fields__)
"""Options that are no option of mounting: the kernel is told when it asks how the mount wants to be used."""

_FOR_OTHERS = frozenset(
    {"attr_timeout", "entry_timeout", "negative_timeout", "debug",
     "ro", "rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail",
     "async", "relatime", "norelatime", "strictatime", "nostrictatime", "diratime", "nodiratime", "lazytime",
     "nolazytime", "iversion", "noiversion", "mand", "nomand", "silent", "loud", "symfollow", "nosymfollow", "uhelper"}
)  # fmt: skip
"""For mount(8), systemd and fstab; the mount is read-only and keeps no access times, so these change nothing. mount(8)
itself adds ``rw`` when nobody said ``ro``. Nor do timeouts: the kernel keeps what it knows until it changes."""


_PREFIXES_FOR_OTHERS = ("x-", "X-", "comment")
"""``x-systemd.automount`` and the like: for programs that read fstab."""


@dataclass(frozen=True)
class MountOptions:
    """Options by whom they are for.

    Attributes:
        ours: name (with underscores) to value, but for ``allow_store``; a flag's value is empty.
        for_fuse: name to value, or to True for a flag.
        allow_stores: the values of ``allow_store``, which may be given several times.
    """

    ours: Mapping[str, str]
    for_fuse: Mapping[str, str | bool]
    allow_stores: tuple[str, ...]


def parse_mount_options(texts: tuple[str, ...]) -> MountOptions:
    """Sort ``-o`` options.

    Args:
        texts: each what followed one ``-o``: names and values separated by commas.

    Raises:
        ConfigurationError: an option is unknown or lacks its value.
        MountError: it is ``remount``.
    """
    ours: dict[str, str] = {}
    for_fuse: dict[str, str | bool] = {}
    allow_stores: list[str] = []
    for option in _separated(texts):
        written, equals, value = option.partition("=")
        name = written.replace("-", "_")
        if name in OURS:
            if not equals:
                raise ConfigurationError(f"The mount option {written} needs a value: {written}=…")
            if name == "allow_store":
                allow_stores.append(value)
            else:
                ours[name] = value
        elif name in OUR_FLAGS:
            if equals:
                raise ConfigurationError(f"The mount option {written} takes no value.")
            ours[name] = ""
        elif name in _FOR_FUSE:
            for_fuse[name] = value if equals else True
        elif name not in _FOR_OTHERS and not written.startswith(_PREFIXES_FOR_OTHERS):
            hint = did_you_mean(
                name, [*OURS, *OUR_FLAGS, *_FOR_FUSE], otherwise=f"known are {', '.join(sorted(OURS | OUR_FLAGS))}."
            )
            raise ConfigurationError(f"There is no mount option {written}; {hint}")
    return MountOptions(ours, for_fuse, tuple(allow_stores))


def _separated(texts: tuple[str, ...]) -> list[str]:
    """The single options.

    Raises:
        MountError: one is ``remount``, beside which mount(8) repeats what the kernel says of the mount.
    """
    options = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if "remount" in options:
        raise MountError(
            "A mount cannot be given other options while it is there (remount); end it with umount, and mount it again."
        )
    return options


def limits_of(options: Mapping[str, str | bool]) -> Limits:
    """What the kernel is told at the beginning.

    Raises:
        ConfigurationError: one of the options in `FOR_KERNEL` is no number, or beyond what the kernel takes.
    """
    given = {name: value for name, value in options.items() if name in FOR_KERNEL}
    for name, value in given.items():
        most = MOST_READ if name == "max_readahead" else MOST_REQUESTS
        if not isinstance(value, str) or not value.isdecimal() or not 0 < int(value) <= most:
            raise ConfigurationError(f"The mount option {name} takes a number from 1 to {most}: {name}=…")
    return Limits(**{name: int(value) for name, value in given.items() if isinstance(value, str)})
