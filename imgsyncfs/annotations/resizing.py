"""Annotations for images that were made smaller: the same labels, in the pixels of the smaller image.

The two sides of an image are rounded to whole pixels each, so their factors differ a little. A rotated box then becomes
a rhomboid by a hair; it is given as the rotated box whose sides are as long, and whose angle is that of its width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import atan2, cos, hypot, sin
from typing import Any, NamedTuple

import numpy as np

from imgsyncfs.annotations.geometry import compress_counts, decode_run_length, encode_run_length, mask_bounds
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
)

_DECIMALS = 6
_ANGLE_DECIMALS = 9
"""Behind the last that processors agree on, and far below what a pixel shows."""


class Size(NamedTuple):
    """Of an image, in pixels."""

    height: int
    width: int


def fitted_size(size: Size, longest_side: int) -> Size:
    """The size of an image that is made smaller; one that is small enough keeps its size.

    Args:
        size: of the image, each side at least one pixel.
        longest_side: of the smaller image, in pixels.
    """
    longest = max(size)
    if longest <= longest_side:
        return size
    height, width = (max(1, (2 * side * longest_side + longest) // (2 * longest)) for side in size)
    return Size(height, width)


def resized(annotation: Annotation, before: Size, after: Size) -> Annotation:
    """An annotation in the pixels of an image that was made smaller, or larger.

    Labels about the whole image stay, and so do those of unknown types.

    Args:
        annotation: in pixels of the image as it was.
        before: size of the image as it was.
        after: its size now.
    """
    scale = _Scale(before, after)
    return replace(
        annotation,
        height=after.height,
        width=after.width,
        labels=tuple([_label(label, scale) for label in annotation.labels]) if after != before else annotation.labels,
    )


class _Scale(NamedTuple):
    before: Size
    after: Size

    @property
    def x(self) -> float:
        return self.after.width / self.before.width

    @property
    def y(self) -> float:
        return self.after.height / self.before.height

    def point(self, x: float, y: float) -> tuple[float, float]:
        return round(x * self.x, _DECIMALS), round(y * self.y, _DECIMALS)

    def size(self, size: tuple[int, int]) -> Size:
        """Of a mask, which may not have the image's."""
        if size == self.before:
            return self.after
        return Size(max(1, round(size[0] * self.y)), max(1, round(size[1] * self.x)))


def _label(label: Label, scale: _Scale) -> Label:
    if isinstance(label, ObjectLabel):
        return replace(label, objects=tuple([_object(item, scale) for item in label.objects]))
    return label


def _object(item: LabelledObject, scale: _Scale) -> LabelledObject:
    if isinstance(item, BoundingBox):
        (x1, y1), (x2, y2) = scale.point(item.x1, item.y1), scale.point(item.x2, item.y2)
        return replace(item, x1=x1, y1=y1, x2=x2, y2=y2)
    if isinstance(item, RotatedBox):
        return _rotated_box(item, scale)
    if isinstance(item, Polygon):
        return replace(item, points=tuple([scale.point(x, y) for x, y in item.points]))
    return _mask(item, scale)


def _rotated_box(item: RotatedBox, scale: _Scale) -> RotatedBox:
    x, y = scale.point(item.x, item.y)
    cosine, sine = cos(item.a), sin(item.a)
    turned = atan2(sine * scale.y, cosine * scale.x) - atan2(sine, cosine)
    return replace(
        item,
        x=x,
        y=y,
        w=round(item.w * hypot(cosine * scale.x, sine * scale.y), _DECIMALS),
        h=round(item.h * hypot(sine * scale.x, cosine * scale.y), _DECIMALS),
        a=round(item.a + turned, _ANGLE_DECIMALS) if scale.x != scale.y else item.a,
    )


def _mask(item: Mask, scale: _Scale) -> Mask:
    """Each pixel shows what the pixel shows that its centre lies in."""
    after = scale.size(item.size)
    bounds = mask_bounds(item.size, item.counts)
    drawn = np.zeros(after, np.bool_)
    if bounds is not None:
        x1, y1, x2, y2 = bounds
        rows, columns = _sources(item.size[0], after.height), _sources(item.size[1], after.width)
        top, bottom = np.searchsorted(rows, [y1, y2 + 1])
        left, right = np.searchsorted(columns, [x1, x2 + 1])
        covered = decode_run_length(item.size, item.counts, bounds=bounds)
        drawn[top:bottom, left:right] = covered[np.ix_(rows[top:bottom] - y1, columns[left:right] - x1)]
    counts = encode_run_length(drawn)
    shown: tuple[int, ...] | str = compress_counts(counts) if isinstance(item.counts, str) else tuple(counts)
    return replace(item, size=(after.height, after.width), counts=shown)


def _sources(before: int, after: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The pixel that each pixel of a smaller side is taken from."""
    return (2 * np.arange(after, dtype=np.int64) + 1) * before // (2 * after)


def resized_shape(shape: Mapping[str, Any], before: Size, after: Size) -> dict[str, Any]:
    """A shape of labelme's, whose ``points`` are in pixels; see `resized`. What is no point stays."""
    scale = _Scale(before, after)
    points = shape.get("points")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        return dict(shape)
    return {**shape, "points": [list(scale.point(*point)) for point in points]}


def _is_point(content: object) -> bool:
    return isinstance(content, list) and len(content) == 2 and all(type(each) in {int, float} for each in content)
