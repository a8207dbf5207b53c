"""A systemd service that makes a mount and ends it (systemd.service(5))."""

from __future__ import annotations

import re
from collections.abc import Sequence

from imgsyncfs.errors import ConfigurationError

_PLAIN = re.compile(r"[\w/.:@=,+-]+", re.ASCII)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

STOP_SECONDS = 30
"""Of these `imgsyncfs.mount.ending.BUSY_SECONDS` wait for who uses the mount, and 5 for reads that have begun."""

_UNIT = """\
[Unit]
Description=imgsyncfs at {mountpoint}
{order}
[Service]
Type=notify
ExecStart={start}
ExecStop={stop}
KillMode=mixed
TimeoutStartSec={start_seconds}
TimeoutStopSec={stop_seconds}
Restart=on-failure
RestartSec=10

[Install]
WantedBy={wanted_by}
"""

_AFTER_NETWORK = """\
Wants=network-online.target
After=network-online.target
"""


def systemd_unit(
    command: Sequence[str], mountpoint: str, mount_options: Sequence[str], *, is_user: bool, start_seconds: int
) -> str:
    """The text of a unit.

    Args:
        command: what runs imgsyncfs: an absolute path, and arguments.
        mountpoint: an absolute path.
        mount_options: what ``imgsyncfs mount`` gets beside the mount point.
        is_user: for a user's own manager, which has no network-online.target.
        start_seconds: how long mounting may take.

    Raises:
        ConfigurationError: a word holds what no line of a unit can (a newline, for example).
    """
    start = [*command, "mount", "--foreground", *mount_options, mountpoint]
    return _UNIT.format(
        mountpoint=_checked(mountpoint).replace("%", "%%"),
        order="" if is_user else _AFTER_NETWORK,
        start=" ".join(map(quoted, start)),
        stop=" ".join(map(quoted, [*command, "umount", mountpoint])),
        start_seconds=start_seconds,
        stop_seconds=STOP_SECONDS,
        wanted_by="default.target" if is_user else "multi-user.target",
    )


def quoted(word: str) -> str:
    """One word of a unit's command line.

    Raises:
        ConfigurationError: it holds a control character.
    """
    if _PLAIN.fullmatch(_checked(word)):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _checked(word: str) -> str:
    if _CONTROL.search(word):
        raise ConfigurationError(f"A systemd unit cannot hold the control character in {word!r}; choose another name.")
    return word
