"""The command ``imgsyncfs``. This module gathers the commands and turns errors into one sentence and an exit status."""

from __future__ import annotations

import logging
import sys

import click

from imgsyncfs import __version__
from imgsyncfs.cli.catalog_commands import datasets_command, demo_command, init_command
from imgsyncfs.cli.mount_commands import mount_command, status_command, umount_command
from imgsyncfs.cli.publish_commands import index_command, publish_command
from imgsyncfs.errors import ImgsyncfsError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


class _Commands(click.Group):
    """Lists commands in the order in which a newcomer meets them, and not by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Tell more of what is done, on standard error.")
def cli(*, verbose: bool) -> None:
    """Mount a catalog of image datasets as plain directories.

    The catalog is given with --catalog URL, in IMGSYNCFS_CATALOG, or in the config file. A URL is a path to an SQLite
    file, sqlite:///PATH, postgresql://USER@HOST/DATABASE, mssql://USER@HOST/DATABASE or odbc:CONNECTION-STRING. The
    password comes from IMGSYNCFS_PASSWORD, the config file or a prompt.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    # The SDK logs every request at this level.
    logging.getLogger("azure").setLevel(logging.WARNING)


for _command in (
    demo_command,
    init_command,
    publish_command,
    index_command,
    datasets_command,
    mount_command,
    umount_command,
    status_command,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit: 0 done, 1 could not (with one sentence why), 2 wrong usage, 130 interrupted."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except ImgsyncfsError as error:
        click.echo(f"imgsyncfs: {error}", err=True)
        sys.exit(1)
