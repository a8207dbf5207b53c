"""Secrets by reference: an environment variable, a private file, or a command that prints one.

A config file that names them holds none itself. They are read when they are needed, once in each process.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from imgsyncfs.errors import ConfigurationError
from imgsyncfs.settings.private_folders import path_fault, status_fault
from imgsyncfs.settings.values import expanded_path

COMMAND_SECONDS = 120.0
"""For a command that asks somebody for a passphrase."""

LONGEST_FILE = 64 << 10
_OTHERS = 0o077

VARIABLE, FILE, COMMAND = "_env", "_file", "_command"
"""What follows the name of a secret's key in a config file, in the key of its reference."""


@dataclass(frozen=True)
class SecretReference:
    """Where a secret is.

    Attributes:
        key: in the config file, for example ``password_command``.
        value: the variable's name, the file's path, or the command's words.
    """

    key: str
    value: tuple[str, ...]

    def __str__(self) -> str:
        kind = {VARIABLE: "variable", FILE: "file", COMMAND: "command"}[_suffix(self.key)]
        return f"{kind} {shlex.join(self.value)}"


def references(names: Iterable[str]) -> frozenset[str]:
    """The keys of references to secrets of these names."""
    return frozenset(name + suffix for name in names for suffix in (VARIABLE, FILE, COMMAND))


def find_reference(values: Mapping[str, Any], name: str, *, where: str) -> SecretReference | None:
    """Find where a section of a config file says that a secret is.

    Args:
        values: the section.
        name: of the secret's own key; with it there is no reference.
        where: names the section in messages.

    Raises:
        ConfigurationError: the secret is said twice, or its reference is no text.
    """
    given = [key for key in (name, *sorted(references((name,)))) if key in values]
    if len(given) > 1:
        raise ConfigurationError(f"{where} has {' and '.join(given)}; keep one of them.")
    if not given or given == [name]:
        return None
    value = values[given[0]]
    if isinstance(value, str) and _suffix(given[0]) == COMMAND:
        value = shlex.split(value)
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise ConfigurationError(f"{where} has {given[0]} = {value!r}; write a text, or for a command its words.")
    return SecretReference(given[0], tuple(words))


@cache
def read_secret(reference: SecretReference) -> str:
    """Read a secret, once in this process; see `read_secret_anew`."""
    return read_secret_anew(reference)


def read_secret_anew(reference: SecretReference, *, seconds: float = COMMAND_SECONDS) -> str:
    """Read a secret, which may be another one than before.

    Args:
        reference: where it is.
        seconds: for a command.

    Returns:
        It, without the end of its line.

    Raises:
        ConfigurationError: it is not there, or others may read it, or its command fails.
    """
    suffix = _suffix(reference.key)
    if suffix == VARIABLE:
        return _of_variable(reference)
    if suffix == FILE:
        return _of_file(reference)
    return _of_command(reference, seconds)


def _of_variable(reference: SecretReference) -> str:
    value = os.environ.get(reference.value[0])
    if not value:
        raise ConfigurationError(
            f"The variable {reference.value[0]}, which {reference.key} names, is not set; set it, or correct the name."
        )
    return value


def _of_file(reference: SecretReference) -> str:
    path = expanded_path(reference.value[0])
    try:
        fault = path_fault(path)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            fault = fault or status_fault(path, status)
            if fault is None and status.st_mode & _OTHERS:
                raise ConfigurationError(f"Others may read {path}, which {reference.key} names; run: chmod 600 {path}")
            content = file.read(LONGEST_FILE)
    except OSError as error:
        raise ConfigurationError(
            f"The file {path}, which {reference.key} names, cannot be read: {error.strerror}."
        ) from error
    if fault is not None:
        raise ConfigurationError(f"The file {path}, which {reference.key} names, is not safe to use: {fault}; move it.")
    return _line(content, f"The file {path}, which {reference.key} names,")


def _of_command(reference: SecretReference, seconds: float) -> str:
    command = [str(expanded_path(reference.value[0])) if "/" in reference.value[0] else reference.value[0]]
    command += reference.value[1:]
    named = f"The command {shlex.join(command)}, which {reference.key} names,"
    try:
        # It may ask on the terminal, with which it speaks itself; what it prints is the secret.
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds, check=False)
    except OSError as error:
        raise ConfigurationError(f"{named} cannot be run: {error.strerror}.") from error
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{named} did not end within {seconds:g} s; run it by hand.") from None
    if done.returncode != 0:
        raise ConfigurationError(f"{named} ended with status {done.returncode}; run it by hand.")
    return _line(done.stdout, named)


def _line(content: bytes, named: str) -> str:
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        secret = ""
    if not secret or "\n" in secret:
        raise ConfigurationError(f"{named} gives no line of text; it must give the secret, and nothing else.")
    return secret


def _suffix(key: str) -> str:
    return next(suffix for suffix in (VARIABLE, FILE, COMMAND) if key.endswith(suffix))
