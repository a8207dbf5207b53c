"""Commands about a mount that is there: umount, status, refresh. They need neither catalog nor formats."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from imgsyncfs.cli.common import echo_json
from imgsyncfs.errors import MountError
from imgsyncfs.library.nodes import STATUS_NAME
from imgsyncfs.mount.asking import ANSWER_SECONDS, ask
from imgsyncfs.mount.ending import end_by_force, hangs, is_stopped, our_entry, process_of, unmount
from imgsyncfs.mount.launch import wait_for_end
from imgsyncfs.mount.local_mounts import refresh_mounts
from imgsyncfs.mount.mountpoint import FILESYSTEM_TYPE, absolute, mount_entries

UNVERIFIED = "{:,} extents: neither the catalog nor the store has a digest of them"

END_SECONDS = 30.0
"""How long the processes behind a mount may take to end: well below a second, on a machine that is not overloaded."""


@click.command("umount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--lazy", is_flag=True, help="Detach at once, even if it is in use; what is open goes on being read.")
@click.option("--force", is_flag=True, help="End it even if it hangs: whoever waits for it gets an error.")
def umount_command(*, mountpoint: Path, lazy: bool, force: bool) -> None:
    """End the mount at MOUNTPOINT, and wait until its process has ended."""
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
    if not wait_for_end(process_id, END_SECONDS):
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


@click.command("status")
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what .imgsyncfs/status.json holds.")
def status_command(*, mountpoint: Path | None, as_json: bool) -> None:
    """Show how the mount at MOUNTPOINT is doing, or which mounts there are on this machine."""
    if mountpoint is None:
        _list_mounts(as_json=as_json)
        return
    status = read_status(absolute(mountpoint))
    if as_json:
        echo_json(status)
        return
    table = Table(show_header=False, box=None)
    catalog, cache, store = status["catalog"], status["cache"], status["store"]
    read_at = _local_time(catalog["read_at"]) if catalog["read_at"] else "not since the mount"
    for name, value in (
        ("mounted at", status["mountpoint"]),
        ("process", f"{status['process_id']}, since {_local_time(status['mounted_at'])}"),
        ("catalog", catalog["url"]),
        ("", f"{catalog['datasets']:,} datasets, {catalog['images']:,} images"),
        ("last read", f"{read_at}{'; ' + catalog['trouble'] if catalog['trouble'] else ''}"),
        ("cache", f"{cache['folder']}: {cache['bytes'] / 1e6:,.1f} MB of {cache['size_limit'] / 1e9:,.1f} GB"),
        ("", f"{cache['hits']:,} hits, {cache['misses']:,} misses, {cache['damaged']:,} damaged"),
        *([("", cache["trouble"])] if cache["trouble"] else []),
        ("store", f"{store['requests']:,} requests, {store['bytes'] / 1e6:,.1f} MB, {store['failures']:,} failed"),
        *([("unverified", UNVERIFIED.format(store["unverified"]))] if store["unverified"] else []),
        *(("writing", _writing(document)) for document in status["documents"]["writing"]),
        *(("away", f"{url}: {reason}") for url, reason in store["away"].items()),
        ("errors", f"{status['errors']:,}; see {status['mountpoint']}/.imgsyncfs/errors.log"),
    ):
        table.add_row(name, value)
    Console().print(table)


def _writing(document: dict[str, Any]) -> str:
    """How far a document is."""
    file = f".views/{document['view']}/{document['dataset']}/{document['file']}"
    since = max(0, int(time.time()) - document["since"])
    return f"{file}: {document['images_done']:,} of {document['images']:,} images after {since:,} s"


def _list_mounts(*, as_json: bool) -> None:
    """Name all mounts; none is asked, since one may hang."""
    entries = [entry for entry in mount_entries() if entry.filesystem_type == FILESYSTEM_TYPE]
    if as_json:
        echo_json([{"mountpoint": str(entry.mountpoint), "catalog": entry.source} for entry in entries])
        return
    for entry in entries:
        click.echo(f"{entry.mountpoint}\t{entry.source}")
    if not entries:
        click.echo("Nothing is mounted on this machine; mount a catalog with: imgsyncfs mount MOUNTPOINT", err=True)


def _local_time(seconds: int) -> str:
    return time.strftime("%F %T", time.localtime(seconds))
