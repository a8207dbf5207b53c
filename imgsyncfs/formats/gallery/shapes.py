"""What the gallery draws of some images, as a script: a page opened from disk may load scripts, and no other data.

The script calls ``imgsyncfsGallery.shapes`` with ``first``, the number of its first image, ``images``, and ``classes``,
[name, colour] each. An image is [file name, width, height, state, objects, values]; width and height are 0 where
unknown, the state is one of `State`. An object is [kind, place of its class, …]:

====  =====================================================================
kind  what follows
====  =====================================================================
b     x1, y1, x2, y2 of an upright box
r     x, y, w, h, a of a rotated box, as in the house format
p     [x, y, …] of a polygon
m     x, y, scale, height, width, run lengths of a mask; see `mask_shape`
l     [x, y, …] of an open line
d     [x, y, …] of points
c     x, y, radius of a circle
====  =====================================================================

The last three are labelme's own. A value is [name, text or number]: a classification, a regression, or a label of an
unknown type. Pixels are rounded to `DECIMALS`, angles to `ANGLE_DECIMALS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from math import hypot, isfinite
from typing import Any

import numpy as np

from imgsyncfs.annotations.class_colours import class_colour
from imgsyncfs.annotations.geometry import compress_counts, decode_run_length, encode_run_length, mask_bounds
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    UnknownLabel,
    encode_json,
)
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally, in_chunks
from imgsyncfs.formats.remarks import labelme_shape

DECIMALS = 2
ANGLE_DECIMALS = 6

MASK_SIDE = 512
"""A mask of more pixels along a side is shown coarser: a page of many large ones would take gigabytes."""

MOST_VALUE_LETTERS = 200

_OPEN_SHAPES = ("line", "linestrip")
_POINT_SHAPES = ("point", "points")


class State(IntEnum):
    """Whether somebody has looked at an image."""

    UNLABELLED = 0
    UNCHECKED = 1
    CHECKED = 2

    @classmethod
    def of(cls, annotation: Annotation | None) -> State:
        """The state of an image with this annotation."""
        if annotation is None:
            return cls.UNLABELLED
        return cls.CHECKED if annotation.label_checked == 1 else cls.UNCHECKED


class GalleryShapes(DatasetDocument):
    """The script with what is drawn of a run of images.

    Args:
        first: number of the first image, from 0.
    """

    def __init__(self, first: int) -> None:
        self._first = first

    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:  # noqa: ARG002 - all classes are shown, and all labels
        """Write the script; see `DatasetDocument.chunks`."""
        places: dict[str, int] = {}
        yield b'imgsyncfsGallery.shapes({"first":%d,"images":[' % self._first
        yield from in_chunks(
            (b",\n" if number else b"\n") + encode_ascii_json(image_row(entry, places))
            for number, entry in enumerate(entries)
        )
        table = [[name, css_colour(name)] for name in places]
        yield b'\n],"classes":%b});\n' % encode_ascii_json(table)


def css_colour(class_name: str) -> str:
    """The colour of a class as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(class_name))


def image_row(entry: DocumentEntry, places: dict[str, int]) -> list[Any]:
    """What is shown of an image.

    Args:
        entry: the image.
        places: of the classes; those that come up first are added.
    """
    height, width = entry.size
    labels = () if entry.annotation is None else entry.annotation.labels
    objects: list[list[Any]] = []
    values: list[list[Any]] = []
    for label in labels:
        if isinstance(label, ObjectLabel):
            objects += [_object(item, places) for item in label.objects]
        elif isinstance(label, UnknownLabel):
            drawn = foreign_shape(label)
            if drawn is None:
                values.append(_unknown(label))
            else:
                kind, name, *rest = drawn
                objects.append([kind, _place(name, places), *rest])
        else:
            values.append([label.label_name, _value(label)])
    return [entry.image.file_name, width or 0, height or 0, int(State.of(entry.annotation)), objects, values]


def mask_shape(mask: Mask) -> list[Any]:
    """The numbers that draw a mask: of the part that it covers, reduced to `MASK_SIDE` if that is larger.

    Returns:
        x and y of the part's top left pixel, how many pixels wide and high a cell is, height and width of the part in
        cells, and COCO's compressed text of its run lengths. A cell is covered if any of its pixels is. 0 for height
        and width if the mask covers nothing.
    """
    bounds = mask_bounds(mask.size, mask.counts)
    if bounds is None:
        return [0, 0, 1, 0, 0, ""]
    covered = decode_run_length(mask.size, mask.counts, bounds=bounds)
    scale = -(-max(covered.shape) // MASK_SIDE)
    if scale > 1:
        height, width = covered.shape
        padded = np.pad(covered, ((0, -height % scale), (0, -width % scale)))
        covered = np.any(padded.reshape(padded.shape[0] // scale, scale, -1, scale), axis=(1, 3))
    height, width = covered.shape
    return [bounds[0], bounds[1], scale, height, width, compress_counts(encode_run_length(covered))]


def foreign_shape(label: UnknownLabel) -> list[Any] | None:
    """What is drawn of a shape that labelme alone knows: its kind, its class's name, and its numbers.

    Returns:
        None if the label holds no shape that can be drawn.
    """
    shape = labelme_shape(label)
    if shape is None:
        return None
    points = _points(shape)
    if not points:
        return None
    kind, name = shape.get("shape_type"), shape.get("label")
    name = name if isinstance(name, str) else ""
    if kind == "circle" and len(points) >= 2:
        (x, y), (far_x, far_y) = points[:2]
        radius = hypot(far_x - x, far_y - y)
        return ["c", name, *_rounded((x, y, radius))] if isfinite(radius) else None
    flat = _rounded(value for point in points for value in point)
    if kind in _POINT_SHAPES or len(points) == 1:
        return ["d", name, flat]
    return ["l" if kind in _OPEN_SHAPES else "p", name, flat]


def _object(item: LabelledObject, places: dict[str, int]) -> list[Any]:
    place = _place(item.class_name, places)
    if isinstance(item, BoundingBox):
        return ["b", place, *_rounded((item.x1, item.y1, item.x2, item.y2))]
    if isinstance(item, Polygon):
        return ["p", place, _rounded(value for point in item.points for value in point)]
    if isinstance(item, Mask):
        return ["m", place, *mask_shape(item)]
    return ["r", place, *_rounded((item.x, item.y, item.w, item.h)), round(item.a, ANGLE_DECIMALS)]


def _place(name: str, places: dict[str, int]) -> int:
    return places.setdefault(name, len(places))


def _value(label: ClassificationLabel | RegressionLabel) -> str | float:
    return label.label[:MOST_VALUE_LETTERS] if isinstance(label, ClassificationLabel) else label.label


def _unknown(label: UnknownLabel) -> list[str]:
    kind = label.content.get("label_type")
    rest = {key: value for key, value in label.content.items() if key != "label_type"}
    text = encode_json(rest).decode() if rest else ""
    return [kind if isinstance(kind, str) else "label", text[:MOST_VALUE_LETTERS]]


def _points(shape: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The points of a shape that may have been written by hand; none if they cannot be drawn."""
    points = shape.get("points")
    try:
        found = [(float(x), float(y)) for x, y in points or ()]
    except (TypeError, ValueError, OverflowError):
        return []
    return found if all(isfinite(x) and isfinite(y) for x, y in found) else []


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, DECIMALS) for value in values]
