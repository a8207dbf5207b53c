"""The command mount, and what it shares with the helper of mount(8)."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from imgsyncfs.cli.common import (
    WAKE_SECONDS,
    allow_store_option,
    another_password,
    cache_options,
    catalog_options,
    tell_waking,
)
from imgsyncfs.errors import CacheFull, CatalogNotReady, CatalogRefused, ConfigurationError
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, FORMATS
from imgsyncfs.library.configuration import library_settings
from imgsyncfs.library.nodes import DEFAULT_UMASK
from imgsyncfs.library.views.registry import VIEWS, find_view
from imgsyncfs.mount import updatedb
from imgsyncfs.mount.ending import clear_if_dead
from imgsyncfs.mount.handed_device import check_handed_device, handed_device
from imgsyncfs.mount.launch import launch
from imgsyncfs.mount.mountpoint import absolute, check_libfuse, check_mountpoint, check_system
from imgsyncfs.mount.options import parse_mount_options
from imgsyncfs.mount.service_manager import tell_service_manager
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.settings.memory_cache import MEMORY_BYTES, in_memory
from imgsyncfs.settings.mount import MountSettings
from imgsyncfs.settings.values import parse_seconds, utf8

logger = logging.getLogger(__name__)

WAKE_PAUSE_SECONDS = 3.0
"""Between two starts of a mount whose database is waking up."""

DEFAULT_REFRESH = "60"

MOST_SLOTS = 64


def make_settings(
    configuration: Configuration, mountpoint: Path, given: dict[str, str | None], options: tuple[str, ...]
) -> MountSettings:
    """Put together the settings of a mount.

    Args:
        configuration: catalog, secrets, cache folder.
        mountpoint: as the user wrote it.
        given: the command's own options, None where not given; they win over those in ``-o``.
        options: ``-o`` texts.

    Raises:
        ConfigurationError: an option makes no sense.
        FormatError: a sibling's format is unknown.
    """
    if given.get("view") and given.get("siblings"):
        raise ConfigurationError("A view has its own annotations; leave out --siblings, or --view.")
    parsed = parse_mount_options(options)
    values = {
        "refresh": DEFAULT_REFRESH,
        **parsed.ours,
        **{name: value for name, value in given.items() if value is not None},
    }
    return MountSettings(
        library=library_settings(configuration.allowing(parsed.allow_stores), values),
        mountpoint=utf8(str(_place(mountpoint)), "The mount point"),
        refresh=parse_seconds(values["refresh"], option="--refresh"),
        options=dict(parsed.for_fuse),
        umask=_umask(values),
        list_hidden="list_hidden" in values,
        view=find_view(values["view"]).name if values.get("view") else "",
        responders=_responders(values),
        owner=(_owner_id(values, "uid", os.getuid()), _owner_id(values, "gid", os.getgid())),
    )


def _place(mountpoint: Path) -> Path:
    """Where to mount: an absolute path, or the descriptor that was handed over."""
    return absolute(mountpoint) if handed_device(str(mountpoint)) is None else mountpoint


MOST_RESPONDERS = 8


def _responders(values: Mapping[str, str]) -> int:
    """How many processes answer the kernel: one for each core, from two to eight, if nobody said."""
    given = values.get("responders", str(min(MOST_RESPONDERS, max(2, len(os.sched_getaffinity(0))))))
    if not given.isdecimal() or not 1 <= int(given) <= MOST_SLOTS:
        raise ConfigurationError(f"--responders takes a number from 1 to {MOST_SLOTS}, not {given!r}.")
    return int(given)


def _umask(values: Mapping[str, str]) -> int:
    given = values.get("umask", f"{DEFAULT_UMASK:o}")
    if not re.fullmatch("0?[0-7]{1,3}", given):
        raise ConfigurationError(f"--umask takes an octal number such as 022 or 077, not {given!r}.")
    return int(given, 8)


def _owner_id(values: Mapping[str, str], option: str, default: int) -> int:
    given = values.get(option, str(default))
    if not given.isdecimal():
        raise ConfigurationError(f"The mount option {option} takes a number, not {given!r}; `id` shows them.")
    return int(given)


def mount(settings: MountSettings, *, foreground: bool = False) -> None:
    """Mount: start the mount's process and wait until it can be used. Asks for a password that is missing.

    The process itself sees whether catalog and stores can be read, so that they are asked once.

    Args:
        settings: what to mount, where and how.
        foreground: answer from this process, until the mount ends.

    Raises:
        ImgsyncfsError: it cannot be mounted, and why.
    """
    handed = handed_device(settings.mountpoint)
    if handed is None:
        check_system(settings.options)
        clear_if_dead(Path(settings.mountpoint))
        check_mountpoint(Path(settings.mountpoint))
    else:
        check_libfuse()
        check_handed_device(handed)
    start = _stay if foreground else _launch
    try:
        _start_when_awake(start, settings)
    except CatalogRefused:
        password = another_password(settings.library.password)
        if password is None:
            raise
        _start_when_awake(start, replace(settings, library=replace(settings.library, password=password)))


def _start_when_awake(start: Callable[[MountSettings], None], settings: MountSettings) -> None:
    """Mount as soon as the database is awake, which no mount waits for that has saved what the database says."""
    began = time.monotonic()
    while True:
        try:
            _start_with_some_cache(start, settings)
        except CatalogNotReady:
            waited = time.monotonic() - began
            if waited + WAKE_PAUSE_SECONDS > WAKE_SECONDS:
                raise
        else:
            return
        tell_waking(waited)
        time.sleep(WAKE_PAUSE_SECONDS)


def _start_with_some_cache(start: Callable[[MountSettings], None], settings: MountSettings) -> None:
    """Mount with a cache in memory if there is no room for one on its disk."""
    try:
        start(settings)
    except CacheFull as error:
        logger.warning("%s The mount keeps up to %d MB in memory instead, until it ends.", error, MEMORY_BYTES >> 20)
        start(in_memory(settings))


def _launch(settings: MountSettings) -> None:
    for warning in launch(settings):
        logger.warning("%s", warning)
    if hint := updatedb.hint(Path(settings.library.cache_dir)):
        click.echo(hint, err=True)


def _stay(settings: MountSettings) -> None:
    # Late: most mounts do without.
    from imgsyncfs.mount.process import serve_mount

    def ready(warnings: Sequence[str]) -> None:
        for warning in warnings:
            logger.warning("%s", warning)
        click.echo(f"Mounted at {settings.mountpoint}; Ctrl-C ends it.", err=True)
        tell_service_manager("READY=1", f"STATUS=Mounted at {settings.mountpoint}")

    serve_mount(settings, ready=ready, ending=lambda: tell_service_manager("STOPPING=1", "STATUS=The mount ends"))


@click.command("mount")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@catalog_options
@allow_store_option
@click.option("--subscription", metavar="NAME", help="Show only the datasets of this subscription.")
@click.option(
    "--siblings",
    metavar="LIST",
    help=f"Rendered files beside each image: {','.join(FORMATS)}. [default: {','.join(DEFAULT_SIBLINGS)}]",
)
@click.option("--view", metavar="VIEW", help=f"Show the layout of a tool: {', '.join(VIEWS)}.")
@cache_options
@click.option("--refresh", metavar="SECONDS", help="How often the catalog is asked for changes. [default: 60]")
@click.option("--timeout", metavar="SECONDS", help="How long a read waits at most. [default: 30]")
@click.option("--umask", metavar="OCTAL", help="Permissions that nobody has. [default: 022]")
@click.option("--list-hidden", is_flag=True, help="List .views, .by, .subscriptions and .imgsyncfs in the root, too.")
@click.option(
    "--offline", is_flag=True, help="Ask neither database nor store: show what is saved, read what is cached."
)
@click.option("--responders", metavar="N", help="Processes that answer. [default: one for each core, 2 to 8]")
@click.option("--foreground", is_flag=True, help="Stay, and end with Ctrl-C.")
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="As for mount(8), for example allow_other.")
def mount_command(
    *,
    mountpoint: Path,
    configuration: Configuration,
    foreground: bool,
    list_hidden: bool,
    offline: bool,
    options: tuple[str, ...],
    **given: Any,
) -> None:
    """Mount the catalog at MOUNTPOINT, an empty directory."""
    for name in parse_mount_options(options).ours.keys() & {"config", "profile"}:
        raise ConfigurationError(f"The option -o {name} is for mount(8); write --{name} instead.")
    flags = {"list_hidden": list_hidden, "offline": offline}
    options = (*options, *(name for name, given_flag in flags.items() if given_flag))
    settings = make_settings(configuration, mountpoint, given, options)
    mount(settings, foreground=foreground)
    if not foreground and sys.stdout.isatty():
        click.echo(f"Mounted at {mountpoint}; end it with: imgsyncfs umount {mountpoint}")
