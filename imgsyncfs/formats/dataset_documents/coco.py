"""All annotations as one COCO document, for pycocotools, torchvision, RF-DETR and whoever else reads COCO.

Source: pycocotools (``coco.py``, ``mask.py``), RF-DETR's and supervision's readers.

- Ids begin with 1; categories stand in the classes' order. Their ``supercategory`` is not ``none``, which
  RF-DETR drops.
- A bounding box is a ``bbox`` [x, y, w, h] with an empty ``segmentation``.
- A rotated box has its four corners as ``segmentation``, the enclosing box as ``bbox``, and its angle in degrees,
  clockwise, in ``attributes.rotation``. The corners go round from the top left of the unturned box: nothing is lost.
- A polygon is a ``segmentation`` with its enclosing ``bbox``. One of two points would be taken for a box.
- A mask is COCO's compressed text, ``iscrowd`` 0.

Numbers are rounded to `DECIMALS`. Objects without an area are left out, since trainers stop at them; images at which
nobody has looked as well, since they would be taken for background. Pure ASCII: pycocotools opens files in the
locale's encoding.

The format wants all images before all annotations. Reading annotations is what takes time, so they are read once: what
belongs behind is kept in a temporary file meanwhile.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from imgsyncfs.annotations.geometry import compress_counts, corners, measure_mask, reduce_angle
from imgsyncfs.annotations.house_format import BoundingBox, LabelledObject, Mask, ObjectLabel, Polygon, RotatedBox
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.dataset_documents.coco_reading import read_coco
from imgsyncfs.formats.dataset_documents.contract import (
    DatasetDocument,
    DocumentEntry,
    DocumentReading,
    LossTally,
    hidden_class,
    in_chunks,
    read_in_chunks,
)
from imgsyncfs.formats.dataset_documents.enclosing import enclosing_box, mask_box, polygon_area

DECIMALS = 6

SUPERCATEGORY = "object"

IN_MEMORY_BYTES = 1 << 20
"""A longer part that has to wait goes to a file."""

ENTRIES_AT_ONCE = 64
"""Images whose rotated boxes are worked out together: numpy takes as long for a few boxes as for hundreds."""

_TITLE = "COCO"
_UNSEEN = ("images that nobody has looked at", "trainers would take them for background, so they are left out")
_NO_AREA = ("objects without an area", "trainers stop at them, so they are left out")
_NOT_FINITE = ("objects whose numbers are too large", "no double holds their sums")
_TURNED = (
    "images that EXIF turns",
    "coordinates are those of the turned picture, and readers that do not turn it (torchvision) show them elsewhere",
)
_FEW_POINTS = ("polygons of fewer than three points", f"{_TITLE} has no lines and points without names")


class CocoDocument(DatasetDocument):
    """COCO's ``instances.json``, or ``_annotations.coco.json``.

    Args:
        scratch: folder for a temporary file; None for the system's, which may be in memory.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch

    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
        """Write the document; see `DatasetDocument.chunks`."""
        numbers = {name: number for number, name in enumerate(classes)}
        with tempfile.SpooledTemporaryFile(
            IN_MEMORY_BYTES, dir=str(self._scratch) if self._scratch else None
        ) as annotations:
            yield from in_chunks(self._images(entries, numbers, losses, annotations))
            yield b'],"annotations":['
            annotations.seek(0)
            yield from read_in_chunks(annotations.read)
        yield b"]}\n"

    def read(self, content: bytes, *, label_checked: int = 1) -> Iterator[DocumentReading]:
        """Read a document back; see `DatasetDocument.read`."""
        return read_coco(content, label_checked=label_checked)

    def _images(
        self,
        entries: Iterable[DocumentEntry],
        numbers: dict[str, int],
        losses: LossTally,
        annotations: tempfile.SpooledTemporaryFile[bytes],
    ) -> Iterator[bytes]:
        """The document up to the last image; annotations are written into their file."""
        categories = [
            {"id": number + 1, "name": name, "supercategory": SUPERCATEGORY} for name, number in numbers.items()
        ]
        head = encode_ascii_json({"info": {"description": ""}, "licenses": [], "categories": categories})
        yield head[:-1] + b',"images":['
        image_id, annotation_id = 0, 1
        for batch in _batches(entries):
            seen = [entry for entry in batch if not entry.is_unseen]
            if len(seen) < len(batch):
                losses.add(*_UNSEEN, len(batch) - len(seen))
            objects = [_objects(entry) for entry in seen]
            turned = _turned_boxes([item for items in objects for item in items])
            for entry, items in zip(seen, objects, strict=True):
                image_id += 1
                height, width = entry.size
                image = {"id": image_id, "file_name": entry.file_name, "height": height or 0, "width": width or 0}
                yield (b"," if image_id > 1 else b"") + encode_ascii_json(image)
                found, hidden = _annotations(items, turned, numbers)
                _count_losses(entry, hidden, losses)
                for number, annotation in enumerate(found, annotation_id):
                    annotation["id"], annotation["image_id"] = number, image_id
                if found:
                    annotations.write((b"," if annotation_id > 1 else b"") + encode_ascii_json(found)[1:-1])
                    annotation_id += len(found)


def _annotations(
    items: Iterable[LabelledObject], turned: Iterator[dict[str, Any]], numbers: dict[str, int]
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """What COCO says of the objects of an image, without ids, and (what, reason) of each that is not shown."""
    found: list[dict[str, Any]] = []
    hidden: list[tuple[str, str]] = []
    for item in items:
        shown = _shown(item, turned)
        shown = hidden_class(item, numbers) or shown
        if isinstance(shown, tuple):
            hidden.append(shown)
        else:
            shown["category_id"] = numbers[item.class_name] + 1
            found.append(shown)
    return found, hidden


def _count_losses(entry: DocumentEntry, hidden: list[tuple[str, str]], losses: LossTally) -> None:
    if entry.annotation is not None:
        losses.add_annotation(entry.annotation, hidden, _TITLE)
    if entry.image.orientation != 1:
        losses.add(*_TURNED)


def _batches(entries: Iterable[DocumentEntry]) -> Iterator[list[DocumentEntry]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, ENTRIES_AT_ONCE)):
        yield batch


def _objects(entry: DocumentEntry) -> list[LabelledObject]:
    if entry.annotation is None:
        return []
    return [item for label in entry.annotation.labels if isinstance(label, ObjectLabel) for item in label.objects]


def _turned_boxes(items: Iterable[LabelledObject]) -> Iterator[dict[str, Any]]:
    """What COCO says of the rotated boxes among objects, in their order; numbers may be infinite or NaN."""
    boxes = np.array(
        [(item.x, item.y, item.w, item.h, item.a) for item in items if isinstance(item, RotatedBox)], dtype=np.float64
    ).reshape(-1, 5)
    with np.errstate(over="ignore", invalid="ignore"):
        points = corners(boxes).round(DECIMALS)
        first = points.min(axis=1, initial=np.inf)
        sizes = (points.max(axis=1, initial=-np.inf) - first).round(DECIMALS)
        areas = np.abs(boxes[:, 2] * boxes[:, 3]).round(DECIMALS)
        angles = np.degrees(reduce_angle(boxes[:, 4])).round(DECIMALS)
    parts = (np.hstack([first, sizes]), areas, points.reshape(-1, 8), angles)
    for bbox, area, outline, angle in zip(*(part.tolist() for part in parts), strict=True):
        yield {
            "bbox": bbox,
            "area": area,
            "segmentation": [outline],
            "iscrowd": 0,
            "attributes": {"rotation": angle},
        }


def _shown(item: LabelledObject, turned: Iterator[dict[str, Any]]) -> dict[str, Any] | tuple[str, str]:
    """What COCO says of an object, or (what, reason) of why it says nothing; a rotated box is the next of `turned`."""
    if isinstance(item, Mask):
        return _shown_mask(item)
    if isinstance(item, RotatedBox):
        shown = next(turned)
    elif isinstance(item, BoundingBox):
        shown = _shown_bounding_box(item)
    elif len(item.points) < 3:
        return _FEW_POINTS
    else:
        shown = _shown_polygon(item)
    bbox, area = shown["bbox"], shown["area"]
    # The edges of the box are numbers of the outline, or infinite.
    if not isfinite(sum(bbox)) or not isfinite(area):
        return _NOT_FINITE
    if not (bbox[2] > 0 and bbox[3] > 0 and (area > 0 or isinstance(item, Polygon))):
        return _NO_AREA
    return shown


def _shown_bounding_box(item: BoundingBox) -> dict[str, Any]:
    left, right = (item.x1, item.x2) if item.x1 <= item.x2 else (item.x2, item.x1)
    top, bottom = (item.y1, item.y2) if item.y1 <= item.y2 else (item.y2, item.y1)
    width, height = float(right) - float(left), float(bottom) - float(top)
    return {
        "bbox": [_rounded(left), _rounded(top), _rounded(width), _rounded(height)],
        "area": _rounded(width * height),
        "segmentation": [],
        "iscrowd": 0,
    }


def _shown_polygon(item: Polygon) -> dict[str, Any]:
    return {
        "bbox": [_rounded(value) for value in enclosing_box(item, item.points)],
        "area": _rounded(polygon_area(item.points)),
        "segmentation": [[_rounded(number) for point in item.points for number in point]],
        "iscrowd": 0,
    }


def _shown_mask(item: Mask) -> dict[str, Any] | tuple[str, str]:
    bounds, area = measure_mask(item.size, item.counts)
    if bounds is None:
        return _NO_AREA
    counts = item.counts if isinstance(item.counts, str) else compress_counts(item.counts)
    segmentation = {"size": item.size, "counts": counts}
    return {"bbox": [*mask_box(bounds)], "area": area, "segmentation": segmentation, "iscrowd": 0}


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
