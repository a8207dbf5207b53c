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
from math import degrees, isfinite
from pathlib import Path
from typing import Any

from imgsyncfs.annotations.geometry import compress_counts, measure_mask, reduce_angle
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
from imgsyncfs.formats.dataset_documents.enclosing import Points, enclosing_box, mask_box, outlines

DECIMALS = 6

SUPERCATEGORY = "object"

IN_MEMORY_BYTES = 1 << 20
"""A longer part that has to wait goes to a file."""

_TITLE = "COCO"
_UNSEEN = ("images that nobody has looked at", "trainers would take them for background, so they are left out")
_NO_AREA = ("objects without an area", "trainers stop at them, so they are left out")
_NOT_FINITE = ("objects whose numbers are too large", "no double holds their sums")
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
        for entry in entries:
            if entry.is_unseen:
                losses.add(*_UNSEEN)
                continue
            image_id += 1
            height, width = entry.size
            image = {"id": image_id, "file_name": entry.file_name, "height": height or 0, "width": width or 0}
            yield (b"," if image_id > 1 else b"") + encode_ascii_json(image)
            found = _annotations(entry, numbers, losses, image_id=image_id, first_id=annotation_id)
            if found:
                annotations.write((b"," if annotation_id > 1 else b"") + _joined(found))
                annotation_id += len(found)


def _annotations(
    entry: DocumentEntry, numbers: dict[str, int], losses: LossTally, *, image_id: int, first_id: int
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if entry.annotation is None:
        return found
    hidden: list[tuple[str, str]] = []
    items = [item for label in entry.annotation.labels if isinstance(label, ObjectLabel) for item in label.objects]
    for item, outline in zip(items, outlines(items), strict=True):
        shown = hidden_class(item, numbers) or _shown(item, outline)
        if isinstance(shown, tuple):
            hidden.append(shown)
            continue
        shown["id"] = first_id + len(found)
        shown["image_id"] = image_id
        shown["category_id"] = numbers[item.class_name] + 1
        found.append(shown)
    losses.add_annotation(entry.annotation, hidden, _TITLE)
    return found


def _shown(item: LabelledObject, outline: Points) -> dict[str, Any] | tuple[str, str]:
    """What COCO says of an object, or (what, reason) of why it says nothing."""
    if isinstance(item, Mask):
        return _shown_mask(item)
    if isinstance(item, Polygon) and len(item.points) < 3:
        return _FEW_POINTS
    box = enclosing_box(item, outline)
    bbox = [round(value, DECIMALS) for value in box]
    segmentation: list[list[float]] = []
    if isinstance(item, BoundingBox):
        area = box.w * box.h
    else:
        segmentation = [[round(float(number), DECIMALS) for point in outline for number in point]]
        area = abs(float(item.w) * float(item.h)) if isinstance(item, RotatedBox) else _polygon_area(outline)
    # The edges of the box are numbers of the outline, or infinite.
    if not isfinite(sum(bbox)) or not isfinite(area):
        return _NOT_FINITE
    if not (bbox[2] > 0 and bbox[3] > 0 and (area > 0 or isinstance(item, Polygon))):
        return _NO_AREA
    shown = {"bbox": bbox, "area": round(area, DECIMALS), "segmentation": segmentation, "iscrowd": 0}
    if isinstance(item, RotatedBox):
        shown["attributes"] = {"rotation": round(degrees(float(reduce_angle(item.a))), DECIMALS)}
    return shown


def _shown_mask(item: Mask) -> dict[str, Any] | tuple[str, str]:
    bounds, area = measure_mask(item.size, item.counts)
    if bounds is None:
        return _NO_AREA
    counts = item.counts if isinstance(item.counts, str) else compress_counts(item.counts)
    segmentation = {"size": item.size, "counts": counts}
    return {"bbox": [*mask_box(bounds)], "area": area, "segmentation": segmentation, "iscrowd": 0}


def _polygon_area(points: Points) -> float:
    """The area within an outline; parts that it goes round in opposite directions count against each other."""
    # Relative to the first point, so that large coordinates cost no digits.
    x0, y0 = map(float, points[0])
    twice = 0.0
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        twice += (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return abs(twice) / 2


def _joined(annotations: list[dict[str, Any]]) -> bytes:
    return encode_ascii_json(annotations)[1:-1]
