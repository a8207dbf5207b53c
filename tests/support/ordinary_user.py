"""Run a program as an ordinary user where the tests run as root.

Root's ``/dev/fuse`` and Python may be for root alone: the ordinary user gets a mount namespace in which they are for
all, as on a machine of users.
"""

from __future__ import annotations

import os
import sys

from support.places import REPOSITORY

NOBODY = 65534

AS_NOBODY = f"""
set -eu
needed=("$1" "$2" "$3"); shift 3
as_nobody=(setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --)
mount -t tmpfs -o mode=0755 none /mnt
for place in "${{!needed[@]}}"; do
    mkdir "/mnt/$place"
    mount --bind "${{needed[place]}}" "/mnt/$place"
done
for folder in "${{needed[@]}}"; do
    # Somewhere on the way to it only root passes: what lies there is put away, and what is needed put back.
    "${{as_nobody[@]}}" test -x "$folder" || mount -t tmpfs -o mode=0755 none "/$(cut -d/ -f2 <<<"$folder")"
done
for place in "${{!needed[@]}}"; do
    mkdir -p "${{needed[place]}}"
    mount --bind "/mnt/$place" "${{needed[place]}}"
done
mknod -m 0666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
mkdir /mnt/work
chown {NOBODY}:{NOBODY} /mnt/work
cd /mnt/work
export TMPDIR=$PWD HOME=$PWD
exec "${{as_nobody[@]}}" "$@" "$PWD"
"""
"""Arguments: the folders that Python, its environment and the repository lie in; a command, which gets a folder."""

PRIVATE = ("unshare", "--mount", "--propagation", "private")


def as_ordinary_user(script: str = AS_NOBODY) -> tuple[str, ...]:
    """What a command stands behind to be an ordinary user's; it gets a folder of theirs as its last argument.

    Args:
        script: `AS_NOBODY`, or a variant of it.
    """
    assert os.geteuid() == 0, "whoever is no root is an ordinary user already"
    return (*PRIVATE, "bash", "-c", script, "bash", sys.base_prefix, sys.prefix, str(REPOSITORY))
