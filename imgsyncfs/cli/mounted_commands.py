"""Commands about a mount that is there: umount, refresh. They need neither catalog nor formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from imgsyncfs.errors import MountError
from imgsyncfs.library.nodes import STATUS_NAME
from imgsyncfs.mount.asking import ANSWER_SECONDS, ask
from imgsyncfs.mount.ending import end_by_force, hangs, is_stopped, our_entry, process_of, unmount
from imgsyncfs.mount.launch import wait_for_end
from imgsyncfs.mount.local_mounts import refresh_mounts
from imgsyncfs.mount.mountpoint import FILESYSTEM_TYPE, absolute, mount_entries

END_SECONDS = 30.0
"""How long the processes behind a mount may take to end: well below a second, on a machine that is not overloaded."""

LAZY_SECONDS = 2.0
"""The same where it may go on for what is open."""


@click.command("umount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--lazy", is_flag=True, help="Detach at once, even if it is in use; what is open goes on being read.")
@click.option("--force", is_flag=True, help="End it even if it hangs: whoever waits for it gets an error.")
def umount_command(*, mountpoint: Path, lazy: bool, force: bool) -> None:
    """End the mount at MOUNTPOINT, and wait until its process has ended, or with --lazy goes on for what is open."""
    place = absolute(mountpoint)
    if force:
        end_by_force(place)
        return
    process_id = process_of(place)
    unmount(place, lazy=lazy)
    if process_id is None:
        return
    if is_stopped(process_id):
        raise MountError(
            f"The mount is gone, but its process {process_id} is stopped; end it with: kill -9 {process_id}"
        )
    if wait_for_end(process_id, LAZY_SECONDS if lazy else END_SECONDS):
        return
    if not lazy:
        raise MountError(
            "The mount is gone, but its process has not ended: a program that has a file of it open, or a container "
            f"that has the mount too, goes on using it. It ends with that, or with: kill {process_id}"
        )
    click.echo(
        f"{place} is detached. Its process {process_id} ends when no program or container uses it any more.",
        err=True,
    )


def read_status(mountpoint: Path) -> dict[str, Any]:
    """What a mount says about itself, fresh.

    Args:
        mountpoint: an absolute path.

    Raises:
        MountError: nothing of ours is mounted there, or it does not answer.
    """
    our_entry(mountpoint)
    [answer] = ask([mountpoint], STATUS_NAME, seconds=ANSWER_SECONDS)
    if answer.is_late:
        raise hangs(mountpoint)
    if answer.fault:
        raise MountError(
            f"The mount at {mountpoint} does not answer ({answer.fault}); mount again, which clears a dead one."
        )
    status: dict[str, Any] = orjson.loads(answer.content)
    return status


@click.command("refresh")
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
def refresh_command(*, mountpoint: Path | None) -> None:
    """Have the mount at MOUNTPOINT, or all of this machine, show now what the catalog says."""
    if mountpoint is None:
        places = [entry.mountpoint for entry in mount_entries() if entry.filesystem_type == FILESYSTEM_TYPE]
    else:
        places = [absolute(mountpoint)]
        our_entry(places[0])
    if not places:
        click.echo("Nothing is mounted on this machine.")
    refreshed = refresh_mounts(places)
    for each in refreshed:
        if not each.trouble:
            click.echo(f"{each.mountpoint} shows what the catalog says.")
    failed = [f"{each.mountpoint} could not be refreshed: {each.trouble}" for each in refreshed if each.trouble]
    if failed:
        raise MountError("\n".join(failed))
