"""Commands about a mount that is there: umount, refresh. They need neither catalog nor formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from imgsyncfs.errors import MountError
from imgsyncfs.mount.launch import wait_for_end
from imgsyncfs.mount.local_mounts import refresh_mounts
from imgsyncfs.mount.mountpoint import FILESYSTEM_TYPE, absolute, mount_entries, mount_entry, unmount

END_SECONDS = 30.0
"""How long the processes behind a mount may take to end: well below a second, on a machine that is not overloaded."""


@click.command("umount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--lazy", is_flag=True, help="Detach at once, even if it is in use.")
def umount_command(*, mountpoint: Path, lazy: bool) -> None:
    """End the mount at MOUNTPOINT, and wait until its process has ended."""
    place = absolute(mountpoint)
    try:
        process_id = read_status(place)["process_id"]
    except MountError:
        # A dead mount has no status; `unmount` knows what to do with that, and what to say otherwise.
        process_id = None
    unmount(place, lazy=lazy)
    if process_id is not None and not wait_for_end(process_id, END_SECONDS):
        raise MountError(
            "The mount is gone, but its process has not ended: a program that has a file of it open, or a container "
            f"that has the mount too, goes on using it. It ends with that, or with: kill {process_id}"
        )


def read_status(mountpoint: Path) -> dict[str, Any]:
    """What a mount says about itself, fresh.

    Args:
        mountpoint: an absolute path.

    Raises:
        MountError: nothing of ours is mounted there, or it does not answer.
    """
    entry = mount_entry(mountpoint)
    if entry is None:
        raise MountError(f"Nothing is mounted at {mountpoint}; mount it with: imgsyncfs mount {mountpoint}")
    try:
        content = (mountpoint / ".imgsyncfs" / "status.json").read_bytes()
    except OSError as error:
        raise MountError(
            f"The mount at {mountpoint} does not answer ({error.strerror}); mount again, which clears a dead one."
        ) from error
    status: dict[str, Any] = orjson.loads(content)
    return status


@click.command("refresh")
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
def refresh_command(*, mountpoint: Path | None) -> None:
    """Have the mount at MOUNTPOINT, or all of this machine, show now what the catalog says."""
    if mountpoint is None:
        places = [entry.mountpoint for entry in mount_entries() if entry.filesystem_type == FILESYSTEM_TYPE]
    else:
        places = [absolute(mountpoint)]
        if mount_entry(places[0]) is None:
            raise MountError(f"Nothing is mounted at {mountpoint}; mount it with: imgsyncfs mount {mountpoint}")
    if not places:
        click.echo("Nothing is mounted on this machine.")
    refreshed = refresh_mounts(places)
    for each in refreshed:
        if not each.trouble:
            click.echo(f"{each.mountpoint} shows what the catalog says.")
    failed = [f"{each.mountpoint} could not be refreshed: {each.trouble}" for each in refreshed if each.trouble]
    if failed:
        raise MountError("\n".join(failed))
