"""Where settings and secrets come from: options, the environment, the config file.

An option wins over the environment, the environment over the config file. Secrets come from the environment, the config
file or a prompt, never from an option: the arguments of a command are there for everyone on the machine to read.

The config file is TOML::

    catalog = "mssql://reader@example.database.windows.net/datasets"
    password = "…"
    cache_dir = "/var/cache/imgsyncfs"
    cache_size = "100G"
    keep_free = "5%"
    allow_stores = ["azure://account/container", "file:///srv/images"]

    [stores."azure://account/container"]
    sas_token = "…"          # or connection_string, account_key, endpoint
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.private_folders import path_fault, status_fault
from imgsyncfs.settings.values import expanded_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SYSTEM_CONFIG = Path("/etc/imgsyncfs/config.toml")

CATALOG_VARIABLE = "IMGSYNCFS_CATALOG"
PASSWORD_VARIABLE = "IMGSYNCFS_PASSWORD"  # noqa: S105  # the variable's name, not its value
CONFIG_VARIABLE = "IMGSYNCFS_CONFIG"
CACHE_VARIABLE = "IMGSYNCFS_CACHE_DIR"

_KNOWN = {"catalog", "password", "cache_dir", "cache_size", "keep_free", "allow_stores", "stores"}


@dataclass(frozen=True)
class Configuration:
    """What the environment and the config file say.

    Attributes:
        catalog: the catalog's URL, or None.
        password: for the catalog, or None.
        cache_dir: folder of the disk cache.
        cache_size: most that it takes up, as written, for example ``20G``; None if not given.
        keep_free: how much of its disk to leave free, as written, for example ``5%``; None if not given.
        allow_stores: URLs of stores that datasets may lie in, beside the catalog's own.
        stores: the config file's section: store URL to credentials.
    """

    catalog: str | None
    password: str | None = field(repr=False)
    cache_dir: Path
    stores: Mapping[str, Mapping[str, str]] = field(repr=False)
    cache_size: str | None = None
    keep_free: str | None = None
    allow_stores: tuple[str, ...] = ()

    def allowing(self, urls: Iterable[str]) -> Configuration:
        """The same with more stores that datasets may lie in."""
        return replace(self, allow_stores=(*self.allow_stores, *urls))

    @property
    def allowed_stores(self) -> tuple[str, ...]:
        """What may be read beside the catalog's own store; a section with credentials allows its store as well."""
        return (*self.allow_stores, *self.stores)


def user_config_path() -> Path:
    """Where a user's own config file lies, for example ``~/.config/imgsyncfs/config.toml``."""
    return Path(platformdirs.user_config_dir("imgsyncfs")) / "config.toml"


def load_configuration(path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Read the config file and the environment.

    Args:
        path: a config file that must be there; None looks at ``IMGSYNCFS_CONFIG``, the user's and the system's.
        environment: variables.

    Raises:
        ConfigurationError: the file is missing, is no TOML, has an unknown key or a wrong value, or holds secrets
            others may read; or somebody else may change it.
    """
    values = _read_config(path, environment)
    cache_dir = environment.get(CACHE_VARIABLE) or values.get("cache_dir") or platformdirs.user_cache_dir("imgsyncfs")
    return Configuration(
        catalog=environment.get(CATALOG_VARIABLE) or values.get("catalog"),
        password=environment.get(PASSWORD_VARIABLE) or values.get("password"),
        cache_dir=expanded_path(cache_dir),
        stores=values.get("stores", {}),
        cache_size=_as_written(values, "cache_size"),
        keep_free=_as_written(values, "keep_free"),
        allow_stores=tuple(values.get("allow_stores", ())),
    )


def _as_written(values: Mapping[str, Any], name: str) -> str | None:
    """A size: TOML has numbers as well as texts for it."""
    return str(values[name]) if name in values else None


def _read_config(path: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    named = path or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    candidates = [named] if named else [user_config_path(), SYSTEM_CONFIG]
    for candidate in candidates:
        try:
            # One that is not there is no matter, wherever it would be.
            candidate.stat()
            _check_safe(candidate, path_fault(candidate))
            with candidate.open("rb") as file:
                status = os.fstat(file.fileno())
                _check_safe(candidate, status_fault(candidate, status))
                content = file.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigurationError(f"The config file {candidate} cannot be read: {error.strerror}.") from error
        return _parse_config(candidate, content, status.st_mode)
    if named:
        raise ConfigurationError(
            f"There is no config file {named}; check its path, and {CONFIG_VARIABLE}.", option="config"
        )
    return {}


def _check_safe(path: Path, fault: str | None) -> None:
    if fault is not None:
        raise ConfigurationError(f"The config file {path} is not safe to use: {fault}; correct that, or move it.")


def _parse_config(path: Path, content: bytes, mode: int) -> dict[str, Any]:
    try:
        values: dict[str, Any] = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The config file {path} is no valid TOML: {error}.") from error
    unknown = values.keys() - _KNOWN
    if unknown:
        raise ConfigurationError(
            f"The config file {path} has the unknown key {min(unknown)!r}; known are {', '.join(sorted(_KNOWN))}."
        )
    allow_stores = values.get("allow_stores", [])
    if not isinstance(allow_stores, list) or not all(isinstance(url, str) for url in allow_stores):
        raise ConfigurationError(
            f'In the config file {path}, allow_stores is no list of texts; write for example ["file:///srv/images"].'
        )
    if ("password" in values or "stores" in values) and mode & stat.S_IROTH:
        raise ConfigurationError(f"The config file {path} holds secrets and everyone may read it; run: chmod o= {path}")
    return values
