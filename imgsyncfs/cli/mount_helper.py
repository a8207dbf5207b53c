"""``mount.imgsyncfs``: what ``mount -t imgsyncfs CATALOG MOUNTPOINT -o OPTIONS`` and ``/etc/fstab`` run.

The calling convention is mount(8)'s "external helpers": ``mount.TYPE spec dir [-sfnv] [-N namespace] [-o options]
[-t type.subtype]``; exit status 0, 1 (wrong usage) or 32 (mount failure).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from imgsyncfs.cli.mount_commands import make_settings, mount
from imgsyncfs.errors import ConfigurationError, ImgsyncfsError
from imgsyncfs.mount.ending import clear_if_dead
from imgsyncfs.mount.local_mounts import source_name
from imgsyncfs.mount.mountpoint import FILESYSTEM_TYPE, mount_entry
from imgsyncfs.mount.options import parse_mount_options
from imgsyncfs.settings.config_file import load_configuration
from imgsyncfs.settings.mount import MountSettings

logger = logging.getLogger(__name__)

WRONG_USAGE = 1
NO_SOURCE = "none"
MOUNT_FAILURE = 32


@click.command(context_settings={"help_option_names": ["--help"]})
@click.argument("catalog")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="Options, separated by commas.")
@click.option("-s", "_sloppy", is_flag=True, help="Accepted and ignored.")
@click.option("-f", "fake", is_flag=True, help="Check, but do not mount.")
@click.option("-n", "_no_table", is_flag=True, help="Accepted and ignored.")
@click.option("-v", "verbose", is_flag=True, help="Tell more of what is done.")
@click.option("-N", "_namespace", help="Accepted and ignored.")
@click.option("-t", "_type", help="Accepted and ignored.")
def mount_helper(
    *,
    catalog: str,
    mountpoint: Path,
    options: tuple[str, ...],
    fake: bool,
    verbose: bool,
    **_ignored: object,
) -> None:
    """Mount CATALOG at MOUNTPOINT, as mount(8) and /etc/fstab ask; "none" stands for that of the profile."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="mount.imgsyncfs: %(message)s")
    ours = parse_mount_options(options).ours
    config = ours.get("config")
    configuration = load_configuration(Path(config) if config else None, profile=ours.get("profile"))
    if catalog != NO_SOURCE:
        configuration = configuration.at(catalog)
    settings = make_settings(configuration, mountpoint, {}, options)
    if fake:
        return
    clear_if_dead(Path(settings.mountpoint))
    if _is_mounted(settings):
        # `mount -a` runs this for every line whose source is written in another way than the system's table has it.
        logger.info("%s is mounted already.", settings.mountpoint)
    else:
        mount(settings)


def _is_mounted(settings: MountSettings) -> bool:
    """Whether the same catalog is mounted at the place."""
    entry = mount_entry(Path(settings.mountpoint))
    return entry is not None and (entry.filesystem_type, entry.source) == (
        FILESYSTEM_TYPE,
        source_name(settings.library.catalog),
    )


def main() -> None:
    """Run as a mount helper and exit with mount(8)'s statuses."""
    try:
        mount_helper(standalone_mode=False)
    except (click.ClickException, ConfigurationError) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"mount.imgsyncfs: {message}", err=True)
        sys.exit(WRONG_USAGE)
    except ImgsyncfsError as error:
        click.echo(f"mount.imgsyncfs: {error}", err=True)
        sys.exit(MOUNT_FAILURE)


if __name__ == "__main__":
    main()
