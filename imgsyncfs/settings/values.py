"""Values as users write them: sizes and seconds."""

from __future__ import annotations

import re

from imgsyncfs.errors import ConfigurationError

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


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
        raise ConfigurationError(f"{option} takes a number of seconds above 0, not {text!r}.")
    return seconds
