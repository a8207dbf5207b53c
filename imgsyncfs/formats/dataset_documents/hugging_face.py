"""The file ``metadata.jsonl`` of one split, for Hugging Face's ``load_dataset("imagefolder")``: a line for each image.

``objects`` has a ``bbox`` [x, y, w, h] for each object, its class's number in ``categories`` and its name in ``names``.
Each line has the same keys, and an image without objects empty lists: otherwise columns would differ in type. An image
that nobody has looked at has ``label_checked`` 0, and a line all the same: images without one make loading fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite

from imgsyncfs.annotations.house_format import BoundingBox, LabelledObject, Mask, ObjectLabel, RotatedBox
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.dataset_documents.contract import (
    DatasetDocument,
    DocumentEntry,
    LossTally,
    hidden_class,
    in_chunks,
)
from imgsyncfs.formats.dataset_documents.enclosing import enclosing_box, outlines

DECIMALS = 6

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


def _hidden(box: Sequence[float]) -> tuple[str, str] | None:
    if not all(map(isfinite, box)):
        return _NOT_FINITE
    return None if min(round(value, DECIMALS) for value in box[2:]) > 0 else _NO_AREA


def _plural(item: LabelledObject) -> str:
    if isinstance(item, RotatedBox):
        return "rotated boxes"
    return "masks" if isinstance(item, Mask) else "polygons"
