"""The command ``imgsyncfs``. This module gathers the commands and turns errors into one sentence and an exit status."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings

import click

from imgsyncfs import __version__
from imgsyncfs.errors import ImgsyncfsError, printable
from imgsyncfs.settings.values import did_you_mean

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


_COMMANDS = {
    "demo": ("publish_commands:demo_command", "Make a small catalog to try things out."),
    "init": ("catalog_commands:init_command", "Make a catalog: its tables, and the store."),
    "publish": ("publish_commands:publish_command", "Publish a folder as a dataset."),
    "index": ("publish_commands:index_command", "Catalogue as a dataset what lies in a store."),
    "datasets": ("catalog_commands:datasets_command", "List the datasets of the catalog."),
    "split": ("split_command:split_command", "Say how a dataset is divided into train, validation and test."),
    "subscribe": ("catalog_commands:subscribe_command", "Keep a choice of datasets under a name."),
    "unsubscribe": ("catalog_commands:unsubscribe_command", "Forget a subscription."),
    "subscriptions": ("catalog_commands:subscriptions_command", "List subscriptions and their datasets."),
    "select": ("selection_commands:select_command", "Keep a choice of images under a name."),
    "selections": ("selection_commands:selections_command", "List selections and what is in them."),
    "sync": ("sync_commands:sync_command", "Copy datasets to plain folders."),
    "convert": ("convert_commands:convert_command", "Convert annotations between formats."),
    "query": ("query_command:query_command", "Run SQL over all annotations."),
    "preview": ("preview_commands:preview_command", "Draw annotations into their images."),
    "mount": ("mount_commands:mount_command", "Mount the catalog at an empty directory."),
    "prefetch": ("sync_commands:prefetch_command", "Bring datasets into the disk cache."),
    "pin": ("pin_commands:pin_command", "Bring datasets into the disk cache, and keep them there."),
    "unpin": ("pin_commands:unpin_command", "Let go of datasets that are kept in the disk cache."),
    "umount": ("mounted_commands:umount_command", "End a mount."),
    "refresh": ("mounted_commands:refresh_command", "Have a mount show now what the catalog says."),
    "status": ("status_command:status_command", "Show how a mount is doing."),
    "install-helper": ("system_commands:install_helper_command", "Have mount(8) and /etc/fstab find imgsyncfs."),
    "systemd-unit": ("system_commands:systemd_unit_command", "Print a systemd service that mounts a catalog."),
    "check": ("check_command:check_command", "Look whether all is there that a mount needs."),
    "profile": ("profile_commands:profile_command", "Keep settings under names."),
    "completion": ("completion_command:completion_command", "Print what makes a shell complete commands."),
    "cache": ("cache_commands:cache_command", "Look at the disk cache, empty it, or check it."),
}
"""Where each command is and what it does, in the order in which a newcomer meets them. Imported when it is used: all of
them together take half a second of CPU, with the image libraries and drivers that most do not need."""


_REMEDIES = {
    "amount": "--amount N",
    "cache_dir": "--cache-dir DIR",
    "cache_size": "raise --cache-size",
    "config": "--config FILE",
    "drawn": "--drawn",
    "layout": "--from NAME",
    "output": "add --output DIR",
    "profile": "--profile NAME",
    "timeout": "--timeout SECONDS",
    "where": "--where COLUMN=VALUE",
}
"""What a command says of an error's remedy: `imgsyncfs.errors.ImgsyncfsError.option` to its option here."""


class _Commands(click.Group):
    """Finds the commands that `_COMMANDS` lists."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"imgsyncfs.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], _COMMANDS, otherwise="`imgsyncfs --help` lists all.")
            ctx.fail(f"There is no command {args[0]}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # likewise
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


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
    # What is wrong with an image is told in imgsyncfs's own words.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


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
        # A message may name what a catalog, store or folder holds, which a terminal must not take for a command.
        told = "\n".join(map(printable, _told(error).split("\n")))
        click.echo(f"imgsyncfs: {told}", err=True)
        sys.exit(1)


def _told(error: ImgsyncfsError) -> str:
    """An error's message, with the option of this command line that its remedy is about."""
    remedy = _REMEDIES.get(error.option)
    return f"{str(error).rstrip('.')}: {remedy}." if remedy else str(error)
