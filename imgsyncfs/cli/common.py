"""What commands share: the catalog option, opening a catalog or a store, what a library is made with.

Catalog and stores are imported where they are opened: `mount` opens neither, and should not wait for them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgsyncfs.errors import CatalogRefused, ConfigurationError
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, get_format
from imgsyncfs.settings.config_file import Configuration, load_configuration
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.settings.limits import DEFAULT_CACHE_SIZE, DEFAULT_KEEP_FREE, parse_limits
from imgsyncfs.settings.private_folders import cache_folder
from imgsyncfs.settings.values import parse_seconds
from imgsyncfs.stores.allowed import check_allowances
from imgsyncfs.stores.credentials import store_credentials

if TYPE_CHECKING:
    from imgsyncfs.catalog import Catalog
    from imgsyncfs.stores.contract import Store

Command = TypeVar("Command", bound=Callable[..., Any])

LIBRARY_DEFAULTS = {
    "siblings": ",".join(DEFAULT_SIBLINGS),
    "cache_size": DEFAULT_CACHE_SIZE,
    "keep_free": DEFAULT_KEEP_FREE,
    "timeout": "30",
}

NO_CATALOG = (
    "No catalog was given; add --catalog URL, or set IMGSYNCFS_CATALOG. "
    "To try imgsyncfs out, make one with: imgsyncfs demo DIR"
)


def catalog_options(command: Command) -> Command:
    """Add ``--catalog`` and ``--config``; the command gets a `Configuration` as its argument ``configuration``."""

    @click.option(
        "--catalog", metavar="URL", help="The catalog: a path to an SQLite file, or a URL. [IMGSYNCFS_CATALOG]"
    )
    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A config file instead of the usual ones. [IMGSYNCFS_CONFIG]",
    )
    @functools.wraps(command)
    def wrapped(*arguments: Any, catalog: str | None, config: Path | None, **options: Any) -> Any:
        configuration = load_configuration(config)
        if catalog:
            configuration = replace(configuration, catalog=catalog)
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


def catalog_url(configuration: Configuration) -> str:
    """The catalog's URL; a path within it is made absolute, since the mount's process works elsewhere.

    Raises:
        ConfigurationError: none was given.
    """
    url = configuration.catalog
    if not url:
        raise ConfigurationError(NO_CATALOG)
    if "://" in url or url.startswith("odbc:"):
        return url
    path = Path(url.removeprefix("sqlite:")).expanduser().absolute()
    return f"sqlite://{path}"


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
    try:
        return open_catalog(url, password=configuration.password, timeout=timeout, create=create), configuration
    except CatalogRefused:
        if not may_ask_for_password(configuration.password):
            raise
    configuration = replace(configuration, password=ask_for_password())
    return open_catalog(url, password=configuration.password, timeout=timeout, create=create), configuration


def may_ask_for_password(known: str | None) -> bool:
    """Whether a catalog that refused us may be tried with another password: none was given, and someone is there."""
    return not known and sys.stdin.isatty()


def ask_for_password() -> str:
    """Ask whoever is at the terminal."""
    password: str = click.prompt("Password for the catalog", hide_input=True)
    return password


def open_configured_store(url: str, configuration: Configuration, *, timeout: float = 30.0) -> Store:
    """Open a store with the credentials that the environment or the config file has for it.

    Raises:
        ConfigurationError: the URL or the credentials make no sense.
    """
    from imgsyncfs.stores.opening import open_store

    return open_store(url, credentials=store_credentials(url, configuration.stores), timeout=timeout)


def library_defaults(configuration: Configuration) -> dict[str, str]:
    """What holds where no option was given: what the config file says, or else `LIBRARY_DEFAULTS`."""
    configured = {"cache_size": configuration.cache_size, "keep_free": configuration.keep_free}
    return {**LIBRARY_DEFAULTS, **{name: value for name, value in configured.items() if value is not None}}


def make_library_settings(configuration: Configuration, values: Mapping[str, str]) -> LibrarySettings:
    """Put together what a library is made with.

    Args:
        configuration: catalog, secrets, cache folder.
        values: options by name, those of `LIBRARY_DEFAULTS` among them; ``cache_dir`` and ``subscription`` if given.

    Raises:
        CacheError: somebody else may change the cache folder.
        ConfigurationError: an option makes no sense.
        FormatError: a sibling's format is unknown.
    """
    check_allowances(configuration.allow_stores)
    names = [name for name in values["siblings"].replace(":", ",").split(",") if name and name != "none"]
    cache_dir = cache_folder(Path(values.get("cache_dir") or configuration.cache_dir))
    limits = parse_limits(values["cache_size"], values["keep_free"], cache_dir=cache_dir)
    return LibrarySettings(
        catalog=catalog_url(configuration),
        password=configuration.password,
        stores={url: dict(section) for url, section in configuration.stores.items()},
        cache_dir=str(cache_dir),
        cache_size=limits.size_limit,
        keep_free=limits.keep_free,
        timeout=parse_seconds(values["timeout"], option="--timeout"),
        siblings=tuple(dict.fromkeys(get_format(name).name for name in names)),
        subscription=values.get("subscription"),
        allowed_stores=configuration.allowed_stores,
    )
