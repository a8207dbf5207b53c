"""Commands about mounts: mount, umount, status."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from imgsyncfs.cli.common import catalog_options, catalog_url, open_configured_catalog, open_configured_store
from imgsyncfs.config import Configuration, load_configuration
from imgsyncfs.daemon import MountSettings, run
from imgsyncfs.errors import CatalogUnreachable, MountError, StoreUnreachable
from imgsyncfs.formats import get_format
from imgsyncfs.launch import launch, wait_for_end
from imgsyncfs.mount_options import parse_mount_options, parse_seconds, parse_size
from imgsyncfs.mountpoint import absolute, check_mountpoint, check_system, mount_entry, unmount

logger = logging.getLogger(__name__)

END_SECONDS = 10.0
MOST_STORES_CHECKED = 8
"""A catalog may name a store for each dataset; a mount need not wait for all of them."""

DEFAULTS = {"siblings": "labelme,rolabelimg", "cache_size": "20G", "refresh": "60", "timeout": "30"}


def make_settings(
    configuration: Configuration, mountpoint: Path, given: dict[str, str | None], options: tuple[str, ...]
) -> MountSettings:
    """Put together what a mount is told.

    Args:
        configuration: catalog, secrets, cache folder.
        mountpoint: as the user wrote it.
        given: the command's own options, None where not given; they win over those in ``-o``.
        options: ``-o`` texts.

    Raises:
        ConfigurationError: an option makes no sense.
        FormatError: a sibling's format is unknown.
    """
    parsed = parse_mount_options(options)
    values = {**DEFAULTS, **parsed.ours, **{name: value for name, value in given.items() if value is not None}}
    names = [name for name in values["siblings"].replace(":", ",").split(",") if name and name != "none"]
    cache_dir = Path(values.get("cache_dir") or configuration.cache_dir).expanduser().absolute()
    return MountSettings(
        catalog=catalog_url(configuration),
        password=configuration.password,
        stores={url: dict(section) for url, section in configuration.stores.items()},
        mountpoint=str(absolute(mountpoint)),
        cache_dir=str(cache_dir),
        cache_size=parse_size(values["cache_size"]),
        refresh=parse_seconds(values["refresh"], option="--refresh"),
        timeout=parse_seconds(values["timeout"], option="--timeout"),
        siblings=tuple(dict.fromkeys(get_format(name).name for name in names)),
        options=dict(parsed.for_fuse),
        owner=(int(values.get("uid", os.getuid())), int(values.get("gid", os.getgid()))),
    )


def check_catalog(configuration: Configuration, timeout: float) -> Configuration:
    """See that the catalog and its stores can be read, so that what is wrong is told before anything is mounted.

    A catalog or a store that is merely away is no reason not to mount: what was read before is in the cache.

    Returns:
        The configuration, with the password if it was asked for.

    Raises:
        CatalogError: there is no such catalog, or it refuses us.
        StoreError: a store is missing, or refuses us.
    """
    try:
        catalog, configuration = open_configured_catalog(configuration, timeout=timeout)
        with catalog:
            catalog.check()
            urls = sorted({row.store for row in catalog.datasets()})[:MOST_STORES_CHECKED]
    except CatalogUnreachable as error:
        logger.warning("%s", error)
        return configuration

    def check(url: str) -> None:
        store = open_configured_store(url, configuration, timeout=timeout)
        try:
            store.check()
        except StoreUnreachable as error:
            logger.warning("%s", error)
        finally:
            store.close()

    with ThreadPoolExecutor(MOST_STORES_CHECKED) as executor:
        list(executor.map(check, urls))
    return configuration


def mount(settings: MountSettings, configuration: Configuration, *, foreground: bool = False) -> None:
    """Mount: check everything, then start the mount's process and wait until it can be used.

    Args:
        settings: what to mount, where and how.
        configuration: for the checks.
        foreground: answer from this process, until the mount ends.

    Raises:
        ImgsyncfsError: it cannot be mounted, and why.
    """
    check_system()
    check_mountpoint(Path(settings.mountpoint))
    configuration = check_catalog(configuration, settings.timeout)
    settings = replace(settings, password=configuration.password)
    if foreground:
        run(settings, ready=lambda: click.echo(f"Mounted at {settings.mountpoint}; Ctrl-C ends it.", err=True))
    else:
        launch(settings)


@click.command("mount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@catalog_options
@click.option("--siblings", metavar="LIST", help="Rendered files beside each image. [default: labelme,rolabelimg]")
@click.option("--cache-dir", metavar="DIR", help="Folder of the disk cache. [IMGSYNCFS_CACHE_DIR; ~/.cache/imgsyncfs]")
@click.option("--cache-size", metavar="SIZE", help="Most that the cache keeps. [default: 20G]")
@click.option("--refresh", metavar="SECONDS", help="How often the catalog is asked for changes. [default: 60]")
@click.option("--timeout", metavar="SECONDS", help="How long a read waits at most. [default: 30]")
@click.option("--foreground", is_flag=True, help="Stay, and end with Ctrl-C.")
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="As for mount(8), for example allow_other.")
def mount_command(
    *,
    mountpoint: Path,
    configuration: Configuration,
    foreground: bool,
    options: tuple[str, ...],
    **given: Any,
) -> None:
    """Mount the catalog at MOUNTPOINT, an empty directory."""
    settings = make_settings(configuration, mountpoint, given, options)
    mount(settings, configuration, foreground=foreground)
    if not foreground and sys.stdout.isatty():
        click.echo(f"Mounted at {mountpoint}; end it with: imgsyncfs umount {mountpoint}")


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
        raise MountError(f"The mount is gone, but its process has not ended; end it with: kill {process_id}")


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
        # A name that the kernel has not seen: it keeps what it knows about one that it has.
        content = (mountpoint / ".imgsyncfs" / f"status-{secrets.token_hex(8)}.json").read_bytes()
    except OSError as error:
        raise MountError(
            f"The mount at {mountpoint} does not answer ({error.strerror}); mount again, which clears a dead one."
        ) from error
    status: dict[str, Any] = orjson.loads(content)
    return status


@click.command("status")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what .imgsyncfs/status.json holds.")
def status_command(*, mountpoint: Path, as_json: bool) -> None:
    """Show how the mount at MOUNTPOINT is doing."""
    status = read_status(absolute(mountpoint))
    if as_json:
        click.echo(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())
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
        ("store", f"{store['requests']:,} requests, {store['bytes'] / 1e6:,.1f} MB, {store['failures']:,} failed"),
        *(("away", f"{url}: {reason}") for url, reason in store["away"].items()),
        ("errors", f"{status['errors']:,}; see {status['mountpoint']}/.imgsyncfs/errors.log"),
    ):
        table.add_row(name, value)
    Console().print(table)


def _local_time(seconds: int) -> str:
    return time.strftime("%F %T", time.localtime(seconds))


def configuration_for_helper(catalog: str, options: tuple[str, ...]) -> Configuration:
    """The configuration of a mount made by ``mount(8)``: as for the command, with ``-o config=FILE``.

    Raises:
        ConfigurationError: an option or the config file makes no sense.
    """
    config = parse_mount_options(options).ours.get("config")
    return replace(load_configuration(Path(config) if config else None), catalog=catalog)
