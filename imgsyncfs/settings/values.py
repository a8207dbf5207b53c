"""Values as users write them: sizes, seconds, and names that are nearly right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from imgsyncfs.errors import ConfigurationError

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


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
    return int(float(match[1]) * _SIZES[match[2].upper()])


def parse_seconds(text: str, *, option: str) -> float:
    """A number of seconds above 0.

    Raises:
        ConfigurationError: it is not one.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{option} takes a number of seconds above 0, not {text!r}.", option=option)
    return seconds
