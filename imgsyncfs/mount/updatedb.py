"""What `updatedb`, the nightly indexer of ``locate``, would do to a mount: walk the whole catalog.

It passes over the types of file systems that ``PRUNEFS`` in its configuration names (updatedb.conf(5) of plocate and
mlocate). FUSE's are not among them by default.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

CONFIGURATION = Path("/etc/updatedb.conf")
FILE_SYSTEM = "fuse.imgsyncfs"

_PRUNEFS = re.compile(r'^\s*PRUNEFS\s*=\s*"([^"]*)"', re.MULTILINE)


def walks_mounts(configuration: Path = CONFIGURATION) -> bool:
    """Whether `updatedb` is there and would walk a mount."""
    try:
        text = configuration.read_text(errors="replace")
    except OSError:
        return False
    return not any(FILE_SYSTEM in match[1].split() for match in _PRUNEFS.finditer(text))


def hint(cache_dir: Path, configuration: Path = CONFIGURATION) -> str:
    """How to keep `updatedb` out of mounts; empty if it stays out, or this was said before.

    Args:
        cache_dir: where it is noted that this was said.
        configuration: of `updatedb`.
    """
    said = cache_dir / "updatedb-was-named"
    if said.exists() or not walks_mounts(configuration):
        return ""
    with contextlib.suppress(OSError):
        # It is said once more, then.
        said.touch()
    return (
        f"updatedb will walk this mount, the whole catalog; to keep it out, add {FILE_SYSTEM} to PRUNEFS in "
        f"{configuration}."
    )
