"""What commands share: options, opening a catalog or a store, and how results are told.

What opens catalogs and stores or draws tables is imported where it is used: `mount` should not wait for it.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from imgsyncfs.errors import (
    CatalogError,
    CatalogRefused,
    CatalogUnreachable,
    ConfigurationError,
    StoreError,
    printable,
)
from imgsyncfs.library.configuration import catalog_url, library_settings
from imgsyncfs.settings.config_file import Configuration, load_configuration
from imgsyncfs.stores.allowed import check_allowances
from imgsyncfs.stores.credentials import store_credentials

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from imgsyncfs.catalog import Catalog
    from imgsyncfs.library.library import Library
    from imgsyncfs.settings.library import LibrarySettings
    from imgsyncfs.stores.contract import Store
    from imgsyncfs.tools.pairing import LeftOut
    from imgsyncfs.tools.tally import KindCount

logger = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

LEFT_OUT_STATUS = 3
"""Exit status when the rest was done but something was left out: a script should notice."""

WAKE_SECONDS = 90.0
"""How long a database is waited for that says that it will be ready soon: one that sleeps takes up to a minute."""

PIPE_COLUMNS = 250
"""A pipe has no width; 80 columns would cut ids and paths that a script is about to read."""


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several of click's options as one decorator, in the order in which help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


cache_options = with_options(
    click.option(
        "--cache-dir", metavar="DIR", help="Folder of the disk cache. [IMGSYNCFS_CACHE_DIR; ~/.cache/imgsyncfs]"
    ),
    click.option("--cache-size", metavar="SIZE", help="Most that the cache keeps. [default: 20G]"),
    click.option("--keep-free", metavar="SHARE", help="How much of the cache's disk stays free. [default: 5%]"),
)
"""The options of whatever reads through the disk cache."""


def catalog_options(command: Command) -> Command:
    """Add ``--catalog``, ``--profile`` and ``--config``; the command gets a `Configuration` as ``configuration``."""

    @click.option(
        "--catalog", metavar="URL", help="The catalog: a path to an SQLite file, or a URL. [IMGSYNCFS_CATALOG]"
    )
    @click.option(
        "--profile", metavar="NAME", help="A profile of the config file; see: imgsyncfs profile. [IMGSYNCFS_PROFILE]"
    )
    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A config file instead of the usual ones. [IMGSYNCFS_CONFIG]",
    )
    @functools.wraps(command)
    def wrapped(*arguments: Any, catalog: str | None, profile: str | None, config: Path | None, **options: Any) -> Any:
        configuration = load_configuration(config, profile=profile)
        if catalog:
            configuration = configuration.at(catalog)
        return command(*arguments, configuration=configuration, **options)

    return wrapped  # type: ignore[return-value]  # the same but for the options that click adds


def allow_store_option(command: Command) -> Command:
    """Add ``--allow-store`` to a command with `catalog_options`; its ``configuration`` has the stores."""

    @click.option(
        "--allow-store",
        "allow_stores",
        metavar="URL",
        multiple=True,
        help="Let datasets lie in this store, or below it, beside the catalog's own; may be given several times.",
    )
    @functools.wraps(command)
    def wrapped(*arguments: Any, configuration: Configuration, allow_stores: tuple[str, ...], **options: Any) -> Any:
        configuration = configuration.allowing(allow_stores)
        check_allowances(configuration.allow_stores)
        return command(*arguments, configuration=configuration, **options)

    return wrapped  # type: ignore[return-value]  # the same but for the options that click adds


def open_configured_catalog(
    configuration: Configuration, *, create: bool = False, timeout: float = 30.0
) -> tuple[Catalog, Configuration]:
    """Open the catalog; ask for the password when it is refused and someone is there to ask.

    Args:
        configuration: URL, and the password if one is known.
        create: make the database if it can be made (an SQLite file).
        timeout: seconds for each answer of the database.

    Returns:
        The catalog, and the configuration with the password that opened it.

    Raises:
        CatalogError: it cannot be opened.
        ConfigurationError: the URL makes no sense.
    """
    from imgsyncfs.catalog import open_catalog

    url = catalog_url(configuration)
    configuration = configuration.with_secrets()

    def opened(configuration: Configuration) -> Catalog:
        return open_catalog(
            url,
            password=configuration.password,
            timeout=timeout,
            create=create,
            patience=WAKE_SECONDS,
            waiting=tell_waking,
        )

    try:
        return opened(configuration), configuration
    except CatalogRefused:
        password = another_password(configuration.password)
        if password is None:
            raise
    configuration = replace(configuration, password=password)
    return opened(configuration), configuration


def _leave_mark(configuration: Configuration) -> None:
    """Mark a catalog on a server as changed, if its store keeps marks and we may write there."""
    from imgsyncfs.catalog.url import SqliteUrl, parse_catalog_url
    from imgsyncfs.library.change_watch import SECONDS_BETWEEN, leave_mark
    from imgsyncfs.stores.opening import open_store

    if isinstance(parse_catalog_url(catalog_url(configuration)), SqliteUrl):
        return
    try:
        catalog, configuration = open_configured_catalog(configuration)
        with catalog:
            url, catalog_id = catalog.default_store(), catalog.identity()
            if catalog.is_read_only():
                # Whoever changes its datasets leaves no mark, so that the database has to be asked each time.
                return
        with closing(open_store(url, credentials=store_credentials(url, configuration.stores))) as store:
            leave_mark(store, catalog_id)
    except (CatalogError, StoreError, ConfigurationError) as error:
        logger.warning(
            "Mounts of other machines may show this only in %.0f minutes, or after `imgsyncfs refresh` there: %s",
            SECONDS_BETWEEN / 60,
            error,
        )


def tell_waking(seconds: float) -> None:
    """Say for how long a database has been waited for."""
    click.echo(f"The database is waking up ({seconds:.0f} s) …", err=True)


def checked_settings(configuration: Configuration, given: dict[str, str | None]) -> LibrarySettings:
    """Put together a library's settings from options, None where not given; ask for a password that is missing.

    Raises:
        ConfigurationError: an option makes no sense.
        FormatError: a sibling's format is unknown.
        CatalogError: there is no such catalog, or it refuses us.
    """
    settings = library_settings(configuration, given)
    try:
        catalog, configuration = open_configured_catalog(configuration, timeout=settings.timeout)
        with catalog:
            catalog.check()
    except CatalogUnreachable as error:
        # What was read before is in the cache: the library knows whether that will do.
        logger.warning("%s", error)
    return library_settings(configuration, given)


def chosen_datasets(library: Library, dataset_ids: Sequence[str], subscription: str | None) -> Sequence[str]:
    """The ids of the datasets that were asked for: those named, or a subscription's, or all.

    Raises:
        ConfigurationError: there is no such subscription.
    """
    from imgsyncfs.catalog.subscriptions import find_subscription, members

    shown = [row.dataset_id for row in library.datasets.values()]
    if subscription is not None:
        table = library.mirror.table
        chosen = {
            row.dataset_id for row in members(find_subscription(table.subscriptions, subscription), table.rows.values())
        }
        return [dataset_id for dataset_id in shown if dataset_id in chosen]
    return dataset_ids or shown


def another_password(known: str | None) -> str | None:
    """Ask for the password of a catalog that refused us; None if one was given already, or nobody is there to ask."""
    if known or not sys.stdin.isatty():
        return None
    password: str = click.prompt("Password for the catalog", hide_input=True)
    return password


def open_configured_store(url: str, configuration: Configuration, *, timeout: float = 30.0) -> Store:
    """Open a store with the credentials that the environment or the config file has for it.

    Raises:
        ConfigurationError: the URL or the credentials make no sense.
    """
    from imgsyncfs.stores.opening import open_store

    return open_store(url, credentials=store_credentials(url, configuration.with_secrets().stores), timeout=timeout)


def table_console() -> Console:
    """A console for tables on standard output, wide enough where that is a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)


def cell(value: str) -> Text:
    """What a table shows of a text from a catalog, store or folder: no markup, and nothing that a terminal would do."""
    from rich.text import Text

    return Text(printable(value))


def echo_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def counted(count: int, thing: str) -> str:
    """A number with what it counts, for example ``2,000 files``; the thing is given in the singular."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def echo_some(lines: Sequence[str], count: int) -> None:
    """Print the first ones of `count` lines on standard error, and how many there are beyond them."""
    for line in lines:
        click.echo(f"  {printable(line)}", err=True)
    if count > len(lines):
        click.echo(f"  and {count - len(lines):,} more", err=True)


def echo_kinds(what: str, kinds: Sequence[KindCount]) -> None:
    """Print counts of kinds of things on standard error, each with the files that they are in."""
    for kind in kinds:
        named = [name if count == 1 else f"{name}: {count:,}" for name, count in kind.files.items()]
        more = ["…"] if kind.file_count > len(named) else []
        files = f"{counted(kind.file_count, 'file')} ({', '.join(named + more)})"
        click.echo(printable(f"{what}: {kind.count:,} {kind.what} in {files}: {kind.reason}."), err=True)


strict_option = click.option(
    "--strict", is_flag=True, help="Refuse labels that change their kind, or that no trainer sees."
)


from_option = click.option(
    "--from",
    "layout",
    metavar="NAME",
    help="The folder's layout: yolo, yolo-obb, yolo-seg, coco, cvat, hf, voc, dota, labelme, xanylabeling, rolabelimg "
    "or imagesynchronizer. [default: recognized]",
)


def exit_if_left_out(left_out: Sequence[LeftOut], count: int) -> None:
    """Name the files that were left out, if there are any, and exit with `LEFT_OUT_STATUS`.

    Args:
        left_out: all of them, or the first ones.
        count: of them all.
    """
    if not count:
        return
    click.echo(f"Left out: {count:,} files", err=True)
    echo_some([f"{entry.path}: {entry.reason}" for entry in left_out], count)
    sys.exit(LEFT_OUT_STATUS)


def tell_mounts(configuration: Configuration) -> None:
    """Have the mounts of a catalog that has just changed show it, those of this machine, and say which do.

    Those of other machines see it at their next refresh, by a mark in the catalog's store.
    """
    # Late: only few commands change a catalog.
    from imgsyncfs.mount.local_mounts import mounts_of, refresh_mounts

    _leave_mark(configuration)
    for each in refresh_mounts(mounts_of(catalog_url(configuration))):
        if each.trouble:
            click.echo(
                f"Note: the mount at {each.mountpoint} shows it after its next refresh: {each.trouble}.", err=True
            )
        else:
            click.echo(f"The mount at {each.mountpoint} shows it.")
