"""The command mount, and what it shares with the helper of mount(8)."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from imgsyncfs.cli.common import (
    LIBRARY_DEFAULTS,
    catalog_options,
    make_library_settings,
    open_configured_catalog,
    open_configured_store,
)
from imgsyncfs.config import Configuration, load_configuration
from imgsyncfs.errors import CatalogUnreachable, ConfigurationError, StoreUnreachable
from imgsyncfs.launch import launch
from imgsyncfs.library_settings import LibrarySettings
from imgsyncfs.mount_options import parse_mount_options, parse_seconds
from imgsyncfs.mount_settings import MountSettings
from imgsyncfs.mountpoint import absolute, check_mountpoint, check_system
from imgsyncfs.subscription import find_subscription, members

logger = logging.getLogger(__name__)

MOST_STORES_CHECKED = 8
"""A catalog may name a store for each dataset; a mount need not wait for all of them."""

DEFAULTS = {**LIBRARY_DEFAULTS, "refresh": "60"}


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
    return MountSettings(
        library=make_library_settings(configuration, values),
        mountpoint=str(absolute(mountpoint)),
        refresh=parse_seconds(values["refresh"], option="--refresh"),
        options=dict(parsed.for_fuse),
        owner=(_owner_id(values, "uid", os.getuid()), _owner_id(values, "gid", os.getgid())),
    )


def _owner_id(values: Mapping[str, str], option: str, default: int) -> int:
    given = values.get(option, str(default))
    if not given.isdecimal():
        raise ConfigurationError(f"The mount option {option} takes a number, not {given!r}; `id` shows them.")
    return int(given)


def check_catalog(configuration: Configuration, settings: LibrarySettings) -> Configuration:
    """See that the catalog and its stores can be read, so that what is wrong is told before anything is mounted.

    A catalog or a store that is merely away is no reason not to mount: what was read before is in the cache.

    Returns:
        The configuration, with the password if it was asked for.

    Raises:
        CatalogError: there is no such catalog, or it refuses us.
        StoreError: a store is missing, or refuses us.
    """
    try:
        catalog, configuration = open_configured_catalog(configuration, timeout=settings.timeout)
        with catalog:
            catalog.check()
            rows = catalog.datasets()
            if settings.subscription is not None:
                known = {row.name: row for row in catalog.subscriptions()}
                rows = members(find_subscription(known, settings.subscription), rows)
            urls = sorted({row.store for row in rows})[:MOST_STORES_CHECKED]
    except CatalogUnreachable as error:
        logger.warning("%s", error)
        return configuration

    def check(url: str) -> None:
        store = open_configured_store(url, configuration, timeout=settings.timeout)
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
    configuration = check_catalog(configuration, settings.library)
    settings = replace(settings, library=replace(settings.library, password=configuration.password))
    if foreground:
        # Late: it needs libfuse, which `check_system` has looked for only now.
        from imgsyncfs.daemon import run

        run(settings, ready=lambda: click.echo(f"Mounted at {settings.mountpoint}; Ctrl-C ends it.", err=True))
    else:
        launch(settings)


@click.command("mount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@catalog_options
@click.option("--subscription", metavar="NAME", help="Show only the datasets of this subscription.")
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


def configuration_for_helper(catalog: str, options: tuple[str, ...]) -> Configuration:
    """The configuration of a mount made by ``mount(8)``: as for the command, with ``-o config=FILE``.

    Raises:
        ConfigurationError: an option or the config file makes no sense.
    """
    config = parse_mount_options(options).ours.get("config")
    return replace(load_configuration(Path(config) if config else None), catalog=catalog)
