"""Match the objects of a file that a tool saved with the objects that it was rendered from.

roLabelImg writes its files anew, and so do labelme's oldest version and other programs: then the exact values, and
everything that the tool does not show, are gone from the file. `Format.reattached` puts them back from the annotation
that the file was rendered from: an object that is shown where that annotation's object would be shown is that object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import floor, isfinite
from typing import NamedTuple

_UNMOVED_PIXELS = 0.005
"""Tools compute a box anew from its corners; a hand moves nothing by less."""


class Outline(NamedTuple):
    """What a file shows of an object: the kind of shape, the class, and all numbers in order, in pixels."""

    kind: str
    name: str
    numbers: tuple[float, ...]


def matched(found: Sequence[Outline], rendered: Sequence[Outline]) -> dict[int, int]:
    """Match the objects of a saved file with the objects that were rendered.

    Args:
        found: objects that carry no original.
        rendered: objects whose originals no other object of the file carries.

    Returns:
        For an index in `found`, the index in `rendered` of the object within 0.005 pixels; each is used once, and
        objects of the same class are matched first.
    """
    cells: defaultdict[tuple[str, int, int], list[int]] = defaultdict(list)
    for index, outline in enumerate(rendered):
        cells[_cell(outline)].append(index)
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for same_class in (True, False):
        for index, outline in enumerate(found):
            if index in matches:
                continue
            for origin in _near_indices(outline, cells):
                other = rendered[origin]
                if origin not in taken and (other.name == outline.name or not same_class) and _is_near(outline, other):
                    matches[index] = origin
                    taken.add(origin)
                    break
    return matches


def _cell(outline: Outline, step: int = 0) -> tuple[str, int, int]:
    """A key that outlines share which may be near each other: comparing all with all takes too long for thousands."""
    first = outline.numbers[0] if outline.numbers and isfinite(outline.numbers[0]) else 0.0
    return outline.kind, len(outline.numbers), floor(first) + step


def _near_indices(outline: Outline, cells: Mapping[tuple[str, int, int], list[int]]) -> list[int]:
    return [index for step in (-1, 0, 1) for index in cells.get(_cell(outline, step), ())]


def _is_near(one: Outline, other: Outline) -> bool:
    return all(abs(a - b) <= _UNMOVED_PIXELS for a, b in zip(one.numbers, other.numbers, strict=True))
