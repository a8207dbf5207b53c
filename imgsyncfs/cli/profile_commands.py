"""The command profile: named sets of settings in the config file."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.config_file import (
    CONFIG_VARIABLE,
    STORE_SECRETS,
    ConfigFile,
    read_config_file,
    user_config_path,
)
from imgsyncfs.settings.secrets import find_reference

HIDDEN = "(not shown)"


@click.group("profile")
def profile_command() -> None:
    """Keep settings under names: catalog, password, cache. Commands take one with --profile NAME."""


@profile_command.command("add")
@click.argument("name")
@click.option("--catalog", metavar="URL", required=True, help="The catalog: a path to an SQLite file, or a URL.")
@click.option("--password-env", metavar="NAME", help="The variable that holds the password.")
@click.option("--password-file", metavar="FILE", help="The file that holds the password; only you may read it.")
@click.option(
    "--password-command", metavar="COMMAND", help="What prints the password, for example 'pass show datasets'."
)
@click.option("--cache-dir", metavar="DIR", help="Folder of the disk cache.")
@click.option("--cache-size", metavar="SIZE", help="Most that the cache keeps.")
def add_command(*, name: str, **given: str | None) -> None:
    """Add the profile NAME to the config file, which is made if it is not there."""
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if "password_command" in values:
        values["password_command"] = shlex.split(values["password_command"])
    if not name or not name.isprintable():
        raise ConfigurationError(f"A profile cannot be named {name!r}; use letters that can be printed.")
    find_reference(values, "password", where="The new profile")
    file = read_config_file()
    path = file.path or Path(os.environ.get(CONFIG_VARIABLE) or user_config_path())
    if name in file.profiles:
        raise ConfigurationError(f"The config file {path} has the profile {name!r} already; change it there.")
    lines = [f"[profiles.{json.dumps(name, ensure_ascii=False)}]", *(f"{key} = {_toml(values[key])}" for key in values)]
    before = path.read_text() if file.path else f"default_profile = {_toml(name)}\n"
    _write(path, before.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")
    click.echo(f"Added the profile {name} to {path}; try it with: imgsyncfs datasets --profile {shlex.quote(name)}")


@profile_command.command("list")
def list_command() -> None:
    """List the profiles of the config file; a star marks the one that is used if none is named."""
    file = read_config_file()
    if not file.profiles:
        click.echo("There are no profiles; add one with: imgsyncfs profile add NAME --catalog URL", err=True)
    for name, values in sorted(file.profiles.items()):
        mark = "*" if name == file.default_profile else " "
        click.echo(f"{mark} {name}\t{values.get('catalog', file.values.get('catalog', ''))}")


@profile_command.command("show")
@click.argument("name")
def show_command(*, name: str) -> None:
    """Show what holds under the profile NAME, and where each of it is from. Secrets are neither read nor shown."""
    file = read_config_file()
    values = file.merged(name)
    for key, value in sorted(values.items()):
        if key != "stores":
            click.echo(f"{key}\t{_shown(key, value)}\t{_origin(file, name, key)}")
    for url, section in sorted(values["stores"].items()):
        own = "the profile" if url in file.profiles[name].get("stores", {}) else "the config file"
        for key, value in sorted(section.items()):
            click.echo(f"stores.{url}.{key}\t{_shown(key, value)}\t{own}")


def _shown(key: str, value: object) -> str:
    if key in {"password", *STORE_SECRETS}:
        return HIDDEN
    return shlex.join(value) if isinstance(value, list) else str(value)


def _origin(file: ConfigFile, name: str, key: str) -> str:
    variable = {
        "catalog": "IMGSYNCFS_CATALOG",
        "password": "IMGSYNCFS_PASSWORD",
        "cache_dir": "IMGSYNCFS_CACHE_DIR",
    }.get(key)
    origin = "the profile" if key in file.profiles[name] else "the config file"
    return f"{variable}, which wins over {origin}" if variable and os.environ.get(variable) else origin


def _toml(value: str | list[str] | Mapping[str, Any]) -> str:
    """A text or a list of texts; TOML writes these as JSON does."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(path: Path, content: str) -> None:
    """Put a config file in its place, whole, for its owner alone."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
