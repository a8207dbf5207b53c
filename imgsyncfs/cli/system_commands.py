"""The commands install-helper and systemd-unit: how the machine itself makes and ends a mount."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click

from imgsyncfs.catalog.url import SqliteUrl, parse_catalog_url
from imgsyncfs.cli.mount_commands import make_settings
from imgsyncfs.errors import ConfigurationError, MountError
from imgsyncfs.mount.launch import START_SECONDS
from imgsyncfs.mount.mountpoint import absolute
from imgsyncfs.mount.systemd_unit import systemd_unit
from imgsyncfs.settings.config_file import load_configuration, read_config_file

HELPER = "mount.imgsyncfs"

LINKS = (HELPER, "mount.fuse.imgsyncfs")
"""What mount(8) looks for, for ``-t imgsyncfs`` and ``-t fuse.imgsyncfs``."""


@click.command("install-helper")
@click.option("--remove", is_flag=True, help="Remove it.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/sbin",
    show_default=True,
    help="Where mount(8) looks for helpers.",
)
def install_helper_command(*, remove: bool, folder: Path) -> None:
    """Have `mount -t imgsyncfs` and /etc/fstab find this installation of imgsyncfs."""
    program = _program(HELPER)
    for link in (folder / name for name in LINKS):
        if not _may_be_replaced(link):
            raise MountError(f"{link} is another program's; move it away first.")
        try:
            if remove:
                link.unlink(missing_ok=True)
            else:
                _link(link, program)
        except PermissionError as error:
            words = ["sudo", str(_program("imgsyncfs")), "install-helper", *(["--remove"] if remove else [])]
            raise MountError(f"You may not write to {folder}; run: {' '.join(words)}") from error
        click.echo(f"{link} is {'removed' if remove else f'a link to {program}'}.")
    owner = program.stat().st_uid
    if not remove and owner not in {0, os.geteuid()}:
        click.echo(f"{program} belongs to user {owner}, who so decides what root runs when it mounts.", err=True)


def _may_be_replaced(link: Path) -> bool:
    """Whether a place is free, or holds what this command once put there."""
    return link.readlink().name == HELPER if link.is_symlink() else not link.exists()


def _link(link: Path, program: Path) -> None:
    """Make a link, in one step where there is another one."""
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(program)
    fresh.replace(link)


def _program(name: str) -> Path:
    """A program of this installation.

    Raises:
        ConfigurationError: it was not installed with it.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigurationError(f"{beside} is not there; install imgsyncfs again with: pip install imgsyncfs")
    return Path(found).absolute()


@click.command("systemd-unit")
@click.argument("catalog")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--user", "is_user", is_flag=True, help="For `systemctl --user`, without root.")
@click.option(
    "-o", "options", metavar="OPTIONS", multiple=True, help="As for `imgsyncfs mount`, for example allow_other."
)
def systemd_unit_command(*, catalog: str, mountpoint: Path, is_user: bool, options: tuple[str, ...]) -> None:
    """Print a systemd service that mounts CATALOG, a URL or the name of a profile, at MOUNTPOINT.

    Passwords and keys stay out of it; it reads them where every mount does, from the config file.
    """
    place = absolute(mountpoint)
    # Mistakes are told now, and not when the machine starts.
    is_profile = catalog in read_config_file().profiles
    configuration = load_configuration(profile=catalog if is_profile else None)
    # What secrets are is no matter here: none is read.
    configuration = replace(configuration, password_reference=None, stores={})
    if not is_profile:
        configuration = replace(configuration, catalog=catalog)
    settings = make_settings(configuration, place, {}, options)
    words = ["--profile", catalog] if is_profile else _catalog_words(catalog)
    unit = systemd_unit(
        [str(_program("imgsyncfs"))],
        settings.mountpoint,
        [*words, *(word for text in options for word in ("-o", text))],
        is_user=is_user,
        start_seconds=round(2 * settings.library.timeout + START_SECONDS),
    )
    click.echo(unit, nl=False)


def _catalog_words(catalog: str) -> list[str]:
    """How the service's command names the catalog, wherever it runs."""
    url = parse_catalog_url(catalog)
    return ["--catalog", url.identity if isinstance(url, SqliteUrl) else catalog]
