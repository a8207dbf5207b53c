"""The file ``metadata.jsonl`` of one split, for Hugging Face's ``load_dataset("imagefolder")``: a line for each image.

``objects`` has a ``bbox`` [x, y, w, h] for each object, its class's number in ``categories`` and its name in ``names``.
Each line has the same keys, and an image without objects empty lists: otherwise columns would differ in type. An image
that nobody has looked at has ``label_checked`` 0, and a line all the same: images without one make loading fail.

Read back, ``names`` are the classes; without them ``categories``, if these are texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import orjson

from imgsyncfs.annotations.classes import class_names
from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    LabelledObject,
    Mask,
    ObjectLabel,
    RotatedBox,
    within,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.contract import Reading
from imgsyncfs.formats.dataset_documents.contract import (
    DatasetDocument,
    DocumentEntry,
    DocumentReading,
    LossTally,
    grouped_labels,
    hidden_class,
    image_at,
    in_chunks,
)
from imgsyncfs.formats.dataset_documents.enclosing import enclosing_box, outlines

DECIMALS = 6

_SUM_DECIMALS = 9
"""Sums of written numbers are rounded to this, so that 0.1 + 0.2 is 0.3."""

_TITLE = "metadata.jsonl"
_UNSEEN = ("images that nobody has looked at", "they are listed without objects, with label_checked 0")
_NO_AREA = ("objects without an area", "trainers stop at them, so they are left out")
_NOT_FINITE = ("objects whose numbers are too large", "no double holds their sums")
_ENCLOSED = "they are shown as the upright boxes around them"


class HuggingFaceDocument(DatasetDocument):
    """Hugging Face's ``metadata.jsonl``; its entries are those of one split."""

    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
        """Write the document; see `DatasetDocument.chunks`."""
        numbers = {name: number for number, name in enumerate(classes)}
        return in_chunks(_line(entry, numbers, losses) for entry in entries)

    def read(self, content: bytes, *, label_checked: int = 1) -> Iterator[DocumentReading]:
        """Read a document back; see `DatasetDocument.read`."""
        readings = [
            within(partial(_read_line, label_checked=label_checked), line, f"line {number}")
            for number, line in enumerate(content.split(b"\n"), 1)
            if line.strip()
        ]
        # It lists no classes: those that no object has are taken for some that it does not show.
        classes = tuple(sorted({name for each in readings for name in class_names(each.reading.annotation)}))
        for each in readings:
            yield replace(each, classes=classes)


def _line(entry: DocumentEntry, numbers: dict[str, int], losses: LossTally) -> bytes:
    boxes: list[list[float]] = []
    names: list[str] = []
    if entry.is_unseen:
        losses.add(*_UNSEEN)
    if entry.annotation is not None:
        remarks: list[tuple[str, str]] = []
        items = [item for label in entry.annotation.labels if isinstance(label, ObjectLabel) for item in label.objects]
        for item, outline in zip(items, outlines(items), strict=True):
            box = enclosing_box(item, outline)
            hidden = hidden_class(item, numbers) or _hidden(box)
            if hidden is not None:
                remarks.append(hidden)
                continue
            boxes.append([round(value, DECIMALS) for value in box])
            names.append(item.class_name)
            if not isinstance(item, BoundingBox):
                remarks.append((_plural(item), _ENCLOSED))
        losses.add_annotation(entry.annotation, remarks, _TITLE)
    height, width = entry.size
    line = {
        "file_name": entry.file_name,
        "width": width or 0,
        "height": height or 0,
        "label_checked": entry.annotation.label_checked if entry.annotation is not None else 0,
        "objects": {"bbox": boxes, "categories": [numbers[name] for name in names], "names": names},
    }
    return encode_ascii_json(line) + b"\n"


def _read_line(line: bytes, *, label_checked: int) -> DocumentReading:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise AnnotationError(encoding_fault(line) or f"it is not valid JSON ({error}); export it again") from error
    if not isinstance(document, dict) or not isinstance(document.get("file_name"), str):
        raise AnnotationError("a line names the file_name of an image, this one does not")
    sides = (document.get(side) for side in ("height", "width"))
    image = image_at(document["file_name"], *(side if type(side) is int and side > 0 else None for side in sides))
    checked = document.get("label_checked", label_checked)
    annotation = Annotation(
        label_checked=checked if checked in (0, 1) else label_checked,
        height=image.height,
        width=image.width,
        ext=image.ext or None,
        labels=grouped_labels(_read_objects(document.get("objects") or {"bbox": []})),
    )
    return DocumentReading(image, Reading(annotation))


def _read_objects(objects: Any) -> list[LabelledObject]:
    boxes = objects.get("bbox") if isinstance(objects, dict) else None
    names = (objects.get("names") or objects.get("categories") or []) if isinstance(objects, dict) else []
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        raise AnnotationError("it must have lists bbox and names of one length", field="objects")
    if not all(isinstance(name, str) for name in names):
        raise AnnotationError("its categories are numbers, and nothing says their names; add names", field="objects")
    found: list[LabelledObject] = []
    for index, (box, name) in enumerate(zip(boxes, names, strict=True)):
        if not isinstance(box, list) or [*map(_is_number, box)] != [True] * 4:
            raise AnnotationError("it must be a list of 4 numbers", field=f"objects.bbox[{index}]")
        x, y, w, h = box
        found.append(BoundingBox(name, x, y, round(x + w, _SUM_DECIMALS), round(y + h, _SUM_DECIMALS)))
    return found


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _hidden(box: Sequence[float]) -> tuple[str, str] | None:
    if not all(map(isfinite, box)):
        return _NOT_FINITE
    return None if min(round(value, DECIMALS) for value in box[2:]) > 0 else _NO_AREA


def _plural(item: LabelledObject) -> str:
    if isinstance(item, RotatedBox):
        return "rotated boxes"
    return "masks" if isinstance(item, Mask) else "polygons"
