"""How boxes are distributed: counts by size, ratio of the sides, angle and centre, of each class.

Counts are kept in bins, so that their memory does not grow with the number of images. The edges of the bins are
numbers that every machine has alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from math import degrees, isfinite, pi
from typing import Any

from imgsyncfs.annotations.geometry import ANGLE_TOLERANCE
from imgsyncfs.annotations.house_format import BoundingBox, LabelledObject, Polygon, RotatedBox
from imgsyncfs.formats.dataset_documents.enclosing import enclosing_box

AREA_EDGES = tuple([1 << power for power in range(27)])
"""In pixels; sides of squares of these areas grow by the square root of 2."""

RATIO_EDGES = tuple([round(2 ** (power / 4), 4) for power in range(-12, 13)])
"""Of width to height: from 1/8 to 8."""

ANGLE_BINS = 18
"""Of 10 degrees each, from 0 to 180."""

CENTRE_BINS = 32
"""Across an image, and down."""

_RATIO_FIRST = len(AREA_EDGES) + 1
_ANGLE_FIRST = _RATIO_FIRST + len(RATIO_EDGES) + 1
_CENTRE_FIRST = _ANGLE_FIRST + ANGLE_BINS


class Distributions:
    """Counts of objects in bins, apart for each class and for checked and other images."""

    def __init__(self) -> None:
        self._counters: dict[tuple[int, bool], Counter[int]] = {}

    def add(
        self,
        item: LabelledObject,
        group: tuple[int, bool],
        size: tuple[int | None, int | None],
    ) -> None:
        """Count an object.

        Args:
            item: the object. Polygons and masks count as the upright boxes around them.
            group: the key of its class, and whether its image is checked.
            size: height and width of its image in pixels, None where unknown.
        """
        counter = self._counters.get(group)
        if counter is None:
            counter = self._counters[group] = Counter()
        if isinstance(item, RotatedBox):
            x, y, w, h = item.x, item.y, item.w, item.h
        elif isinstance(item, BoundingBox):
            w, h = item.x2 - item.x1, item.y2 - item.y1
            x, y = item.x1 + w / 2, item.y1 + h / 2
        else:
            left, top, w, h = enclosing_box(item, item.points if isinstance(item, Polygon) else ())
            x, y = left + w / 2, top + h / 2
        if not (w > 0 and h > 0 and isfinite(w) and isfinite(h)):
            return
        counter[bisect_right(AREA_EDGES, w * h)] += 1
        counter[_RATIO_FIRST + bisect_right(RATIO_EDGES, w / h)] += 1
        if isinstance(item, RotatedBox):
            angle = item.a % pi
            angle = 0.0 if angle > pi - ANGLE_TOLERANCE else angle
            counter[_ANGLE_FIRST + min(int(degrees(angle) / (180 / ANGLE_BINS)), ANGLE_BINS - 1)] += 1
        height, width = size
        if height and width and 0 <= x < width and 0 <= y < height:
            column, row = int(x / width * CENTRE_BINS), int(y / height * CENTRE_BINS)
            counter[_CENTRE_FIRST + row * CENTRE_BINS + column] += 1

    def counts(self) -> dict[str, Any]:
        """The counts, for JSON.

        Returns:
            ``groups``: [key of the class, whether checked, [bin, count, …]] each, and what the bins are: first the
            sizes, between ``areas``, then the ratios, between ``ratios``, each with one more bin below and one above;
            then ``angles`` bins of angles, then ``centres`` x ``centres`` of centres, row by row.
        """
        groups = [
            [key, int(is_checked), [value for pair in sorted(counter.items()) for value in pair]]
            for (key, is_checked), counter in sorted(self._counters.items())
        ]
        return {
            "areas": AREA_EDGES,
            "ratios": RATIO_EDGES,
            "angles": ANGLE_BINS,
            "centres": CENTRE_BINS,
            "groups": groups,
        }
