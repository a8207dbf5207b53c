"""Where settings and secrets come from: options, the environment, the config file with its profiles.

The command line wins over the environment, the environment over the profile, the profile over what the config file says
outside of all profiles, and that over what imgsyncfs does by itself. Secrets come from the environment, the config file
or what it refers to, or a prompt, never from an option: the arguments of a command are there for everyone to read.

The config file is TOML::

    catalog = "mssql://reader@example.database.windows.net/datasets"
    password = "…"           # or password_env, password_file, password_command
    cache_dir = "/var/cache/imgsyncfs"
    cache_size = "100G"
    keep_free = "5%"
    allow_stores = ["azure://account/container", "file:///srv/images"]
    default_profile = "work" # the profile to be used if none is named

    [stores."azure://account/container"]
    sas_token = "…"          # or connection_string, account_key, endpoint; also as sas_token_env and so on

    [profiles.work]          # all of the above again, for those who name this profile
    catalog = "postgresql://reader@db.example.com/datasets"
    password_command = ["pass", "show", "datasets"]
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.private_folders import path_fault, status_fault
from imgsyncfs.settings.secrets import SecretReference, find_reference, read_secret, read_secret_anew, references
from imgsyncfs.settings.values import did_you_mean, expanded_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SYSTEM_CONFIG = Path("/etc/imgsyncfs/config.toml")

CATALOG_VARIABLE = "IMGSYNCFS_CATALOG"
PASSWORD_VARIABLE = "IMGSYNCFS_PASSWORD"  # noqa: S105  # the variable's name, not its value
CONFIG_VARIABLE = "IMGSYNCFS_CONFIG"
CACHE_VARIABLE = "IMGSYNCFS_CACHE_DIR"
PROFILE_VARIABLE = "IMGSYNCFS_PROFILE"

STORE_SECRETS = ("connection_string", "account_key", "sas_token")

_IN_PROFILES = frozenset(
    {"catalog", "password", "cache_dir", "cache_size", "keep_free", "allow_stores", "stores"}
    | references(("password",))
)
_KNOWN = _IN_PROFILES | {"profiles", "default_profile"}


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
        path: of the config file that was read; None for none.
        profile: the profile that was used; empty for none.
        password_reference: where the password is, if it is not known yet; see `with_secrets`.
        is_password_of_environment: whether the password was given for this once, for whatever catalog.
    """

    catalog: str | None
    password: str | None = field(repr=False)
    cache_dir: Path
    stores: Mapping[str, Mapping[str, str]] = field(repr=False)
    cache_size: str | None = None
    keep_free: str | None = None
    allow_stores: tuple[str, ...] = ()
    path: Path | None = field(default=None, repr=False)
    profile: str = ""
    password_reference: SecretReference | None = None
    is_password_of_environment: bool = False

    def with_secrets(self) -> Configuration:
        """The same with the secrets that were referred to, which are read now.

        Raises:
            ConfigurationError: one cannot be read.
        """
        password = self.password
        if password is None and self.password_reference is not None and self._is_on_a_server:
            password = read_secret(self.password_reference)
        stores = {url: _with_secrets(url, section) for url, section in self.stores.items()}
        return replace(self, password=password, password_reference=None, stores=stores)

    def stores_anew(self, seconds: float) -> dict[str, dict[str, str]]:
        """The credentials of stores, with secrets that are read once more.

        Args:
            seconds: for each command.

        Raises:
            ConfigurationError: one cannot be read.
        """

        def read(reference: SecretReference) -> str:
            return read_secret_anew(reference, seconds=seconds)

        return {url: _with_secrets(url, section, read) for url, section in self.stores.items()}

    @property
    def _is_on_a_server(self) -> bool:
        """Whether the catalog may ask for a password, which a file does not."""
        return re.match(r"(?i)(?!sqlite:)\w+://|odbc:", self.catalog or "") is not None

    def at(self, catalog: str) -> Configuration:
        """The same for another catalog, which a profile's password is not told to."""
        if not self.profile or self.is_password_of_environment or catalog == self.catalog:
            return replace(self, catalog=catalog)
        return replace(self, catalog=catalog, password=None, password_reference=None)

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


def load_configuration(
    path: Path | None = None, *, profile: str | None = None, environment: Mapping[str, str] = os.environ
) -> Configuration:
    """Read the config file and the environment.

    Args:
        path: a config file that must be there; None looks at ``IMGSYNCFS_CONFIG``, the user's and the system's.
        profile: name of a profile; None looks at ``IMGSYNCFS_PROFILE``, then at the file's ``default_profile``.
        environment: variables.

    Raises:
        ConfigurationError: the file is missing, is no TOML, has an unknown key or a wrong value, or holds secrets
            others may read; or somebody else may change it; or there is no such profile.
    """
    file = read_config_file(path, environment=environment)
    name = profile or environment.get(PROFILE_VARIABLE) or file.default_profile
    values = file.merged(name)
    cache_dir = environment.get(CACHE_VARIABLE) or values.get("cache_dir") or platformdirs.user_cache_dir("imgsyncfs")
    configuration = Configuration(
        catalog=values.get("catalog"),
        password=values.get("password"),
        cache_dir=expanded_path(cache_dir),
        stores=values.get("stores", {}),
        cache_size=_as_written(values, "cache_size"),
        keep_free=_as_written(values, "keep_free"),
        allow_stores=tuple(values.get("allow_stores", ())),
        path=file.path,
        profile=name,
        password_reference=find_reference(values, "password", where=f"The config file {file.path}"),
    )
    if environment.get(CATALOG_VARIABLE):
        configuration = configuration.at(environment[CATALOG_VARIABLE])
    if environment.get(PASSWORD_VARIABLE):
        configuration = replace(
            configuration,
            password=environment[PASSWORD_VARIABLE],
            password_reference=None,
            is_password_of_environment=True,
        )
    return configuration


@dataclass(frozen=True)
class ConfigFile:
    """What a config file says, checked.

    Attributes:
        path: of the file; None if there is none.
        values: all of it; may hold secrets.
    """

    path: Path | None
    values: Mapping[str, Any] = field(repr=False)

    @property
    def default_profile(self) -> str:
        """The profile to be used if none is named; empty for none."""
        return str(self.values.get("default_profile", ""))

    @property
    def profiles(self) -> Mapping[str, Mapping[str, Any]]:
        """The profiles by name."""
        profiles: Mapping[str, Mapping[str, Any]] = self.values.get("profiles", {})
        return profiles

    def merged(self, name: str) -> dict[str, Any]:
        """What holds under a profile: its own values, and those outside of all profiles where it has none.

        Args:
            name: of the profile; empty for none.

        Raises:
            ConfigurationError: there is no such profile.
        """
        common = {key: value for key, value in self.values.items() if key in _IN_PROFILES}
        if not name:
            return common
        if name not in self.profiles:
            where = f"the config file {self.path}" if self.path else f"{user_config_path()}, which is not there"
            remedy = did_you_mean(name, self.profiles) if self.profiles else "add it with: imgsyncfs profile add"
            raise ConfigurationError(f"There is no profile {name!r} in {where}; {remedy}", option="profile")
        own = self.profiles[name]
        if any(key in own for key in ("password", *references(("password",)))):
            common = {key: value for key, value in common.items() if not key.startswith("password")}
        return {**common, **own, "stores": {**common.get("stores", {}), **own.get("stores", {})}}


def _with_secrets(
    url: str, section: Mapping[str, Any], read: Callable[[SecretReference], str] = read_secret
) -> dict[str, str]:
    """A store's credentials with what they refer to."""
    found = dict(section)
    for name in STORE_SECRETS:
        reference = find_reference(section, name, where=f"The config file's section for {url}")
        if reference is not None:
            del found[reference.key]
            found[name] = read(reference)
    return found


def _as_written(values: Mapping[str, Any], name: str) -> str | None:
    """A size: TOML has numbers as well as texts for it."""
    return str(values[name]) if name in values else None


def read_config_file(path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> ConfigFile:
    """Read a config file; see `load_configuration`."""
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
        return ConfigFile(candidate, _parse_config(candidate, content, status.st_mode))
    if named:
        raise ConfigurationError(
            f"There is no config file {named}; check its path, and {CONFIG_VARIABLE}.", option="config"
        )
    return ConfigFile(None, {})


def _check_safe(path: Path, fault: str | None) -> None:
    if fault is not None:
        raise ConfigurationError(f"The config file {path} is not safe to use: {fault}; correct that, or move it.")


def _parse_config(path: Path, content: bytes, mode: int) -> dict[str, Any]:
    try:
        values: dict[str, Any] = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The config file {path} is no valid TOML: {error}.") from error
    _check_keys(path, values, _KNOWN, "")
    profiles = values.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(profile, dict) for profile in profiles.values()):
        raise ConfigurationError(f"In the config file {path}, profiles are no tables; write them as [profiles.work].")
    for name, profile in profiles.items():
        _check_keys(path, profile, _IN_PROFILES, f" in the profile {name!r}")
    sections = [values, *profiles.values()]
    for section in sections:
        allow_stores = section.get("allow_stores", [])
        if not isinstance(allow_stores, list) or not all(isinstance(url, str) for url in allow_stores):
            raise ConfigurationError(
                f"In the config file {path}, allow_stores is no list of texts; write for example "
                '["file:///srv/images"].'
            )
    if any("password" in section or "stores" in section for section in sections) and mode & stat.S_IROTH:
        raise ConfigurationError(f"The config file {path} holds secrets and everyone may read it; run: chmod o= {path}")
    return values


def _check_keys(path: Path, values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    unknown = values.keys() - set(known)
    if unknown:
        key = min(unknown)
        raise ConfigurationError(
            f"The config file {path} has the unknown key {key!r}{where}; {did_you_mean(key, sorted(known))}"
        )
