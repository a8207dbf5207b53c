"""The pixels of a picture as they are stored, before EXIF turns it: some tools show these, and write their coordinates.

Annotations are in the pixels of the turned picture. Source: EXIF 2.32, tag 0x0112.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi
from types import MappingProxyType

_TURNS: Mapping[int, tuple[bool, bool, bool]] = MappingProxyType(
    {
        1: (False, False, False),
        2: (False, True, False),
        3: (False, True, True),
        4: (False, False, True),
        5: (True, False, False),
        6: (True, False, True),
        7: (True, True, True),
        8: (True, True, False),
    }
)
"""From the turned picture to the stored one: whether x and y change places, and whether each then runs backwards."""


@dataclass(frozen=True)
class StoredFrame:
    """The stored pixels of a picture.

    Attributes:
        orientation: EXIF's number, from 1 (the picture is shown as it is stored) to 8.
        height: of the turned picture, in pixels.
        width: likewise.
    """

    orientation: int = 1
    height: float = 0.0
    width: float = 0.0

    @property
    def swaps_sides(self) -> bool:
        """Whether the stored picture is as wide as the turned one is high."""
        return _TURNS[self.orientation][0]

    def to_stored(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the turned picture is stored."""
        swaps, backwards_x, backwards_y = _TURNS[self.orientation]
        height, width = (self.width, self.height) if swaps else (self.height, self.width)
        x, y = (y, x) if swaps else (x, y)
        return width - x if backwards_x else x, height - y if backwards_y else y

    def to_turned(self, x: float, y: float) -> tuple[float, float]:
        """Where a stored point is in the turned picture."""
        swaps, backwards_x, backwards_y = _TURNS[self.orientation]
        height, width = (self.width, self.height) if swaps else (self.height, self.width)
        x, y = width - x if backwards_x else x, height - y if backwards_y else y
        return (y, x) if swaps else (x, y)

    def angle_to_stored(self, angle: float) -> float:
        """The angle of a direction of the turned picture, in radians; half a turn counts as none."""
        swaps, backwards_x, backwards_y = _TURNS[self.orientation]
        angle = pi / 2 - angle if swaps else angle
        return -angle if backwards_x != backwards_y else angle

    def angle_to_turned(self, angle: float) -> float:
        """The angle in the turned picture of a stored direction, in radians; half a turn counts as none."""
        swaps, backwards_x, backwards_y = _TURNS[self.orientation]
        angle = -angle if backwards_x != backwards_y else angle
        return pi / 2 - angle if swaps else angle


def stored_size(orientation: int, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """The (height, width) of a stored picture, given those of the turned one; and the other way round."""
    return (width, height) if _TURNS[orientation][0] else (height, width)
