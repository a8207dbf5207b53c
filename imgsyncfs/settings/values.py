"""Values as users write them: sizes, seconds, and names that are nearly right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from imgsyncfs.errors import ConfigurationError, printable

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST_SIZE = (1 << 63) - 1
"""More no file system and no database counts."""

_LONGEST_SECONDS = 1e9
"""Thirty years; clocks and locks overflow at some hundred."""


def did_you_mean(written: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The remedy for a name that there is not.

    Args:
        written: what was written.
        known: what there is.
        otherwise: the remedy if nothing is near. Without it all that there is gets listed, near names first.

    Returns:
        The end of a sentence: near names as a question, or the other remedy.
    """
    known = list(known)
    if not otherwise:
        near = difflib.get_close_matches(written, known, n=len(known))
        return f"use one of {', '.join(dict.fromkeys([*near, *known]))}."
    near = difflib.get_close_matches(written, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def parse_size(text: str) -> int:
    """A size such as ``20G``, ``500M`` or ``1048576`` in bytes; K, M, G and T are powers of 1024.

    Raises:
        ConfigurationError: it is not of that form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), flags=re.IGNORECASE)
    if match is None:
        raise ConfigurationError(f"{text!r} is no size; write a number and K, M, G or T, for example 20G.")
    size = float(match[1]) * _SIZES[match[2].upper()]
    if size > _LARGEST_SIZE:
        raise ConfigurationError(f"{text!r:.40} is more than any disk has; write a size such as 20G.")
    return int(size)


def expanded_path(path: str | Path) -> Path:
    """A path with a ``~`` at its beginning made the folder that it stands for.

    Raises:
        ConfigurationError: nobody knows that folder: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"{str(path)!r} begins with a user's folder, and there is no such user; write ./ before a name that begins "
            "with ~, or give the whole path."
        ) from error


def parse_seconds(text: str, *, option: str) -> float:
    """A number of seconds above 0, and up to `_LONGEST_SECONDS`.

    Raises:
        ConfigurationError: it is not one.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        most = f" and up to {_LONGEST_SECONDS:g}" if seconds > _LONGEST_SECONDS else ""
        raise ConfigurationError(f"{option} takes a number of seconds above 0{most}, not {text!r:.40}.", option=option)
    return seconds


def is_utf8(text: str) -> bool:
    """Whether a text can be written in UTF-8: arguments and names of files may hold bytes that cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def utf8(text: str, what: str, *, option: str = "") -> str:
    """A text as it was given, which other processes are to be told: they are told in UTF-8.

    Args:
        text: what was written.
        what: what it names, for the message.
        option: the parameter that it was given with.

    Raises:
        ConfigurationError: it holds bytes that are no UTF-8, as names of files may.
    """
    if not is_utf8(text):
        raise ConfigurationError(
            f"{what} {printable(text)} holds bytes that are no UTF-8; rename it, or choose another.", option=option
        )
    return text
