"""Single objects as labelme's shapes.

A bounding box is a ``rectangle``, a rotated box a ``polygon`` through its corners (top left, top right, bottom right,
bottom left), a polygon a ``polygon``, a mask a ``mask`` (labelme 5.4 and later). Source: the readers of labelme 4.0
to 6.3.

labelme's own ``group_id``, ``description``, true ``flags`` and unknown keys of a shape live in the object's extra key
``labelme``, and are shown again from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imgsyncfs.annotations.geometry import corners, decode_run_length, mask_bounds
from imgsyncfs.annotations.house_format import BoundingBox, LabelledObject, Mask, Polygon, RotatedBox
from imgsyncfs.formats.mask_image import encode_mask_image
from imgsyncfs.formats.originals import CARRIED_NAME, UNNAMED

EXTRA_NAME = "labelme"

SHAPE_KEYS = frozenset({"label", "points", "group_id", "description", "shape_type", "flags", "mask", CARRIED_NAME})

_CORNER_DECIMALS = 6
"""Sines may differ in their last digit from one processor to the next; what is shown must not."""

_LARGEST_ROUNDED = 1e9
"""Beyond this a double has no six decimals to be rounded to."""


def shapes_of(objects: Sequence[LabelledObject]) -> list[dict[str, Any] | None]:
    """Give the shapes that show these objects, all in one go.

    Args:
        objects: of any types.

    Returns:
        For each object its shape, without what it carries; None for one that labelme cannot show (`why_hidden` says
        why).

    Raises:
        AnnotationError: a mask's run lengths are damaged.
    """
    boxes = [(item.x, item.y, item.w, item.h, item.a) for item in objects if isinstance(item, RotatedBox)]
    quadrangles = iter(_rounded_corners(boxes))
    return [_shape_of(item, next(quadrangles) if isinstance(item, RotatedBox) else None) for item in objects]


def why_hidden(item: LabelledObject) -> tuple[str, str]:
    """Say (what, reason) of an object for which `shapes_of` gave None."""
    if isinstance(item, Polygon):
        return "polygons", "labelme refuses a polygon without points"
    if isinstance(item, Mask):
        return "masks", "labelme has no mask without pixels"
    return "rotated boxes", "their corners lie beyond the largest number"


def own_keys(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a shape says that the house format has no place for; empty if nothing."""
    own = {key: value for key, value in shape.items() if key not in SHAPE_KEYS and value is not None}
    if shape.get("group_id") is not None:
        own["group_id"] = shape["group_id"]
    if shape.get("description"):
        own["description"] = shape["description"]
    flags = shape.get("flags")
    true_flags = {name: True for name, value in flags.items() if value is True} if isinstance(flags, dict) else {}
    return {**own, "flags": true_flags} if true_flags else own


def _rounded_corners(boxes: Sequence[tuple[float, ...]]) -> list[list[list[float]] | None]:
    if not boxes:
        return []
    exact = corners(boxes)
    large = np.abs(exact) > _LARGEST_ROUNDED
    rounded = np.where(large, exact, np.round(np.where(large, 0.0, exact), _CORNER_DECIMALS))
    if np.isfinite(rounded).all():
        return rounded.tolist()  # type: ignore[no-any-return]  # numpy types it as Any
    return [points.tolist() if np.isfinite(points).all() else None for points in rounded]


def _shape_of(item: LabelledObject, quadrangle: list[list[float]] | None) -> dict[str, Any] | None:
    if isinstance(item, BoundingBox):
        low = (min(item.x1, item.x2), min(item.y1, item.y2))
        high = (max(item.x1, item.x2), max(item.y1, item.y2))
        return _shape(item, "rectangle", (low, high))
    if isinstance(item, RotatedBox):
        return _shape(item, "polygon", quadrangle) if quadrangle is not None else None
    if isinstance(item, Polygon):
        return _shape(item, "polygon", item.points) if item.points else None
    bounds = mask_bounds(item.size, item.counts)
    if bounds is None:
        return None
    x1, y1, x2, y2 = bounds
    shape = _shape(item, "mask", ((x1, y1), (x2, y2)))
    shape["mask"] = encode_mask_image(decode_run_length(item.size, item.counts, bounds=bounds))
    return shape


def _shape(item: LabelledObject, shape_type: str, points: Sequence[Sequence[float]]) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "label": item.class_name if item.class_name.strip() else UNNAMED,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
        "flags": {},
    }
    own = item.extra.get(EXTRA_NAME)
    if isinstance(own, dict):
        _show_own_keys(shape, own)
    return shape


def _show_own_keys(shape: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Add only what labelme's readers take: one bad shape makes them refuse the whole file."""
    shape.update({key: value for key, value in own.items() if key not in SHAPE_KEYS})
    if type(own.get("group_id")) is int:
        shape["group_id"] = own["group_id"]
    if isinstance(own.get("description"), str):
        shape["description"] = own["description"]
    if isinstance(own.get("flags"), dict):
        shape["flags"] = {name: True for name, value in own["flags"].items() if value is True}
