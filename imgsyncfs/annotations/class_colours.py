"""The colour of each class in pictures, previews and galleries.

It follows from the class's name alone, so that it is the same everywhere. All colours are light: black text is legible
on them, and so are they as lines with a dark rim, whatever lies below.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]

LEAST_LUMINANCE = 0.32
"""Black text has a contrast of 7:1 on this (WCAG's level AAA), with some room for rounding."""

_COMMON: Mapping[str, Colour] = MappingProxyType(
    {
        "person": (74, 222, 80),
        "face": (56, 198, 255),
        "person with face": (255, 200, 0),
        "head": (255, 123, 213),
        "hand": (255, 138, 60),
        "mask": (183, 156, 255),
        "face with mask": (47, 230, 208),
        "hand raised": (255, 143, 143),
        "car": (246, 255, 107),
        "truck": (198, 162, 122),
        "bus": (127, 166, 255),
        "bicycle": (184, 255, 60),
        "motorcycle": (255, 211, 168),
        "dog": (229, 168, 255),
        "cat": (157, 180, 200),
    }
)
"""Classes that often stand in one picture; a digest alone might give two of them nearly the same colour."""

_SATURATIONS = (0.95, 0.6)


def class_colour(class_name: str) -> Colour:
    """Give the colour of a class: (red, green, blue), 0 to 255."""
    return _COMMON.get(class_name) or _digest_colour(class_name)


def luminance(colour: Colour) -> float:
    """Give a colour's relative luminance, from 0 (black) to 1 (white), as WCAG 2.1 defines it for sRGB."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _digest_colour(class_name: str) -> Colour:
    digest = hashlib.blake2b(class_name.encode("utf-8", "surrogatepass"), digest_size=5).digest()
    hue = int.from_bytes(digest[:4], "big") / 2**32
    full = colorsys.hsv_to_rgb(hue, _SATURATIONS[digest[4] % len(_SATURATIONS)], 1.0)
    # Blue at full strength is dark: white is mixed in until the colour is light enough.
    mixtures = (_mixed(full, white / 20) for white in range(21))
    return next(colour for colour in mixtures if luminance(colour) >= LEAST_LUMINANCE)


def _mixed(colour: tuple[float, float, float], white: float) -> Colour:
    red, green, blue = (round(255 * (channel + (1 - channel) * white)) for channel in colour)
    return red, green, blue
