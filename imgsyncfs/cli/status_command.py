"""The command ``status``: how mounts are doing, once, over and over, or for Prometheus."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imgsyncfs.cli.common import echo_json
from imgsyncfs.cli.mounted_commands import read_status
from imgsyncfs.errors import ConfigurationError, MountError
from imgsyncfs.mount.mountpoint import FILESYSTEM_TYPE, absolute, mount_entries

UNVERIFIED = "{:,} extents: neither the catalog nor the store has a digest of them"

WATCH_SECONDS = 1.0

_COLOURS = {"well": "green", "offline": "yellow", "failing": "red"}


@click.command("status")
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what .imgsyncfs/status.json holds.")
@click.option("--watch", is_flag=True, help="Show it every second, with rates, until Ctrl-C; in a pipe, a line each.")
@click.option("--prometheus", is_flag=True, help="Print metrics; without MOUNTPOINT of all mounts.")
def status_command(*, mountpoint: Path | None, as_json: bool, watch: bool, prometheus: bool) -> None:
    """Show how the mount at MOUNTPOINT is doing, or which mounts there are on this machine."""
    if as_json + watch + prometheus > 1:
        raise ConfigurationError("--json, --watch and --prometheus exclude each other; give one of them.")
    if prometheus:
        _print_metrics([absolute(mountpoint)] if mountpoint is not None else _mountpoints())
    elif watch:
        _watch(absolute(mountpoint) if mountpoint is not None else _only_mountpoint())
    elif mountpoint is None:
        _list_mounts(as_json=as_json)
    elif as_json:
        echo_json(read_status(absolute(mountpoint)))
    else:
        Console().print(_status_table(_read(absolute(mountpoint))))


def _read(mountpoint: Path) -> dict[str, Any]:
    """What a mount says about itself; one that an earlier version has made says less."""
    return {"health": "", "slow": {"count": 0}, "errors_by_kind": {}, **read_status(mountpoint)}


def _status_table(status: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    catalog, cache, store = status["catalog"], status["cache"], status["store"]
    read_at = _local_time(catalog["read_at"]) if catalog["read_at"] else "not since the mount"
    for name, value in (
        ("mounted at", status["mountpoint"]),
        ("health", status["health"]),
        ("process", f"{status['process_id']}, since {_local_time(status['mounted_at'])}"),
        ("catalog", catalog["url"]),
        ("", f"{catalog['datasets']:,} datasets, {catalog['images']:,} images"),
        ("last read", f"{read_at}{'; ' + catalog['trouble'] if catalog['trouble'] else ''}"),
        ("cache", f"{cache['folder']}: {cache['bytes'] / 1e6:,.1f} MB of {cache['size_limit'] / 1e9:,.1f} GB"),
        ("", f"{cache['hits']:,} hits, {cache['misses']:,} misses, {cache['damaged']:,} damaged"),
        *([("", cache["trouble"])] if cache.get("trouble") else []),
        ("store", f"{store['requests']:,} requests, {store['bytes'] / 1e6:,.1f} MB, {store['failures']:,} failed"),
        *([("unverified", UNVERIFIED.format(store["unverified"]))] if store["unverified"] else []),
        *([("no room", f"{store['uncached']:,} extents were not kept")] if store["uncached"] else []),
        *(("writing", _writing(document)) for document in status["documents"]["writing"]),
        *(("away", f"{url}: {reason}") for url, reason in store["away"].items()),
        *([("slow", _slow(status["slow"]))] if status["slow"]["count"] else []),
        ("errors", f"{status['errors']:,}; see {status['mountpoint']}/.imgsyncfs/errors.log"),
        *(("", f"{count:,} {kind}") for kind, count in status["errors_by_kind"].items()),
    ):
        # Not as markup: nobody knows what the names of files and stores hold.
        table.add_row(name, Text(value, style=_COLOURS.get(value, "") if name == "health" else ""))
    return table


def _slow(slow: dict[str, Any]) -> str:
    return f"{slow['count']:,} waited for a second and longer, {slow['longest_path']} {slow['longest_seconds']:.1f} s"


def _writing(document: dict[str, Any]) -> str:
    """How far a document is."""
    file = f".views/{document['view']}/{document['dataset']}/{document['file']}"
    since = max(0, int(time.time()) - document["since"])
    return f"{file}: {document['images_done']:,} of {document['images']:,} images after {since:,} s"


# Over and over.


def _watch(mountpoint: Path) -> None:
    """Show how a mount is doing until Ctrl-C, or until it ends."""
    console = Console()
    snapshots = _snapshots(mountpoint)
    with suppress(KeyboardInterrupt):
        if not console.is_terminal:
            for status, rates in snapshots:
                told = ", ".join(f"{value:,.0f} {name}/s" for name, value in rates.items())
                click.echo(f"{_local_time(int(time.time()))} {status['health']}: {told}")
                sys.stdout.flush()
            return
        with Live(console=console, auto_refresh=False, transient=False) as live:
            for status, rates in snapshots:
                table = _status_table(status)
                for name, value in rates.items():
                    table.add_row(f"{name}/s", f"{value:,.1f}")
                table.add_row("waiting", f"{status['store']['waiting']:,} readers")
                live.update(table, refresh=True)


def _snapshots(mountpoint: Path) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """What a mount says about itself every second, and how fast its counts grow."""
    status, taken = _read(mountpoint), time.monotonic()
    before, rates = _counted(status), dict.fromkeys(_counted(status), 0.0)
    yield status, rates
    while True:
        time.sleep(WATCH_SECONDS)
        status, now = _read(mountpoint), time.monotonic()
        counted = _counted(status)
        # What was replaced counts from 0 again.
        rates = {name: max(0.0, (counted[name] - before[name]) / (now - taken)) for name in counted}
        before, taken = counted, now
        yield status, rates


def _counted(status: dict[str, Any]) -> dict[str, float]:
    """The counts of which people want to know how fast they grow."""
    return {
        "messages": status["responders"]["requests"],
        "hits": status["cache"]["hits"],
        "misses": status["cache"]["misses"],
        "store requests": status["store"]["requests"],
        "MB": status["store"]["bytes"] / 1e6,
        "errors": status["errors"],
    }


# All mounts.


def _mountpoints() -> list[Path]:
    return [entry.mountpoint for entry in mount_entries() if entry.filesystem_type == FILESYSTEM_TYPE]


def _only_mountpoint() -> Path:
    mountpoints = _mountpoints()
    if len(mountpoints) != 1:
        there = ", ".join(map(str, mountpoints)) or "none"
        raise MountError(f"Say which mount to watch: imgsyncfs status MOUNTPOINT --watch (there is {there}).")
    return mountpoints[0]


def _print_metrics(mountpoints: list[Path]) -> None:
    # Late: nothing else needs it.
    from imgsyncfs.cli.metrics import metrics_text

    statuses, failures = [], []
    for each in mountpoints:
        try:
            statuses.append(read_status(each))
        except MountError as error:
            failures.append(str(error))
    # A mount that hangs is one that Prometheus should hear of.
    click.echo(metrics_text(statuses, unanswered=len(failures)), nl=False)
    if failures:
        raise MountError("\n".join(failures))


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
