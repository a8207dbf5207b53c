"""From options, the environment and the config file to a library's settings: one way, for commands and the Python API.

An option wins over the environment, the environment over the config file, and that over the defaults here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imgsyncfs.catalog.url import SqliteUrl, parse_catalog_url
from imgsyncfs.errors import ConfigurationError
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, get_format
from imgsyncfs.settings.config_file import Configuration
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.settings.limits import parse_limits
from imgsyncfs.settings.private_folders import cache_folder
from imgsyncfs.settings.values import parse_seconds, utf8
from imgsyncfs.stores.allowed import check_allowances
from imgsyncfs.stores.credentials import ENVIRONMENT, environment_section
from imgsyncfs.workers.environment import log_in_section

DEFAULT_TIMEOUT = "30"

NO_CATALOG = (
    "No catalog was given; add --catalog URL (in Python: connect(URL)), or set IMGSYNCFS_CATALOG. "
    "To try imgsyncfs out, make one with: imgsyncfs demo DIR"
)


def catalog_url(configuration: Configuration) -> str:
    """The catalog's URL; a path within it is made absolute, since processes of their own open it.

    Raises:
        ConfigurationError: none was given, or it makes no sense.
    """
    url = configuration.catalog
    if not url:
        raise ConfigurationError(NO_CATALOG)
    parsed = parse_catalog_url(url)
    return f"sqlite://{parsed.path}" if isinstance(parsed, SqliteUrl) else url


def store_sections(configuration: Configuration) -> dict[str, dict[str, str]]:
    """Store URL to credentials, for processes that do not have our environment."""
    sections = {url: dict(section) for url, section in configuration.stores.items()}
    others = environment_section()
    return {**sections, ENVIRONMENT: others} if others else sections


def library_settings(configuration: Configuration, options: Mapping[str, str | None]) -> LibrarySettings:
    """Put together the settings of a library.

    Args:
        configuration: what the environment and the config file say.
        options: ``siblings``, ``cache_dir``, ``cache_size``, ``keep_free``, ``timeout`` and ``subscription`` as users
            write them, and the flag ``offline``, None or absent where not given; others are ignored.

    Raises:
        CacheError: somebody else may change the cache folder.
        ConfigurationError: an option makes no sense.
        FormatError: a sibling's format is unknown.
    """
    configuration = configuration.with_secrets()
    given = {name: value for name, value in options.items() if value is not None}
    check_allowances(configuration.allow_stores)
    siblings = given.get("siblings", ",".join(DEFAULT_SIBLINGS)).replace(":", ",").split(",")
    cache_dir = cache_folder(Path(given.get("cache_dir") or configuration.cache_dir))
    # Processes of their own are told of these.
    utf8(str(cache_dir), "The cache folder", option="cache_dir")
    utf8(given.get("subscription", ""), "The subscription", option="subscription")
    for store in configuration.allowed_stores:
        utf8(store, "The allowed store")
    limits = parse_limits(
        given.get("cache_size", configuration.cache_size),
        given.get("keep_free", configuration.keep_free),
        cache_dir=cache_dir,
    )
    return LibrarySettings(
        catalog=catalog_url(configuration),
        password=configuration.password,
        stores=store_sections(configuration),
        cache_dir=str(cache_dir),
        cache_size=limits.size_limit,
        keep_free=limits.keep_free,
        timeout=parse_seconds(given.get("timeout", DEFAULT_TIMEOUT), option="timeout"),
        siblings=tuple(dict.fromkeys(get_format(name).name for name in siblings if name and name != "none")),
        subscription=given.get("subscription"),
        allowed_stores=configuration.allowed_stores,
        offline="offline" in given,
        config=str(configuration.path.absolute()) if configuration.path else "",
        profile=configuration.profile,
        log_in=log_in_section(),
    )
