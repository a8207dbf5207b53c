"""All annotations as one ``annotations.xml``, CVAT for images 1.1.

Source: CVAT's documentation of the format, its reader and writer (``cvat/apps/dataset_manager/formats/cvat.py``), and
Datumaro's reader.

- A bounding box is a ``box``; a rotated box is the unturned ``box`` with ``rotation`` in degrees, clockwise, always
  there, from 0 on: so it stays a rotated box on the way back.
- A polygon is a ``polygon``, a mask a ``mask``: run lengths along the rows of the part that it covers, background
  first.
- A classification is a ``tag`` with an attribute ``value``.
- An image's name is its path within ``images``, the directory beside the document where CVAT's exports have them.
- It is the document of a project with a task for each split, which is the ``subset`` of its images: Datumaro reads
  only images of subsets that a project names.

Numbers are rounded to `DECIMALS`. Labels must be told before the images, and the tags among them are known only when
all annotations are read: the images are kept in a temporary file meanwhile.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgsyncfs.annotations.geometry import decode_run_length, mask_bounds, reduce_angle
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    ObjectLabel,
    RotatedBox,
)
from imgsyncfs.formats.dataset_documents.contract import (
    DatasetDocument,
    DocumentEntry,
    DocumentReading,
    LossTally,
    hidden_class,
    in_chunks,
    read_in_chunks,
)
from imgsyncfs.formats.dataset_documents.cvat_reading import TAG_VALUE, read_cvat
from imgsyncfs.formats.originals import UNNAMED
from imgsyncfs.formats.rolabelimg_boxes import escape_xml

DECIMALS = 6

IMAGES_DIRECTORY = "images/"
"""Where images lie seen from the document; no part of their names: Datumaro looks for them there by itself."""

IN_MEMORY_BYTES = 1 << 20
"""A longer part that has to wait goes to a file."""

_TITLE = "CVAT"
_TASKS = {"train": 1, "validation": 2, "test": 3}
"""Split to the id of its task."""

_NOTHING = ("masks that cover nothing", "CVAT has nothing to draw")
_NOT_FINITE = ("objects whose numbers are too large", "no double holds their sums")
_FEW_POINTS = ("polygons of fewer than three points", "CVAT refuses them")
_NAMES = ("names with characters that XML cannot hold", "U+FFFD stands for these")


class CvatDocument(DatasetDocument):
    """CVAT's ``annotations.xml``.

    Args:
        scratch: folder for a temporary file; None for the system's, which may be in memory.
    """

    lists_unseen = True

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch

    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
        """Write the document; see `DatasetDocument.chunks`."""
        numbers = {name: number for number, name in enumerate(classes)}
        tags: dict[str, None] = {}
        counts = Counter[str]()
        scratch = str(self._scratch) if self._scratch else None
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=scratch) as images:
            for number, entry in enumerate(entries):
                counts[entry.split] += 1
                images.write(_image(entry, number, numbers, tags, losses).encode())
            yield _head(classes, tags, counts, losses).encode()
            images.seek(0)
            yield from in_chunks(read_in_chunks(images.read))
        yield b"</annotations>\n"

    def read(self, content: bytes, *, label_checked: int = 1) -> Iterator[DocumentReading]:
        """Read a document back; see `DatasetDocument.read`."""
        return read_cvat(content, label_checked=label_checked)


def _head(classes: Sequence[str], tags: Iterable[str], counts: Mapping[str, int], losses: LossTally) -> str:
    attributes = (
        "<attributes><attribute>"
        f"<name>{TAG_VALUE}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values>"
        "</attribute></attributes>"
    )
    tagged = {_name(tag) for tag in tags}
    named = dict.fromkeys([*map(_name, classes), *sorted(tagged)])
    untrue = sum(escape_xml(name).count("\ufffd") != name.count("\ufffd") for name in (*classes, *tags))
    if untrue:
        losses.add(*_NAMES, untrue)
    shown = {_name(name) for name in classes}
    labels = "".join(
        f"        <label><name>{escape_xml(name)}</name><type>{'any' if name in shown else 'tag'}</type>"
        f"{attributes if name in tagged else '<attributes></attributes>'}</label>\n"
        for name in named
    )
    # A document without images has a task all the same: readers want one.
    tasks = "".join(
        f"        <task><id>{_TASKS[split]}</id><name>{split}</name><size>{counts.get(split, 0)}</size>"
        f"<mode>annotation</mode><subset>{split}</subset></task>\n"
        for split in _TASKS
        if counts.get(split) or (not counts and split == "train")
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <project>\n'
        f"      <labels>\n{labels}      </labels>\n      <tasks>\n{tasks}      </tasks>\n    </project>\n  </meta>\n"
    )


def _image(entry: DocumentEntry, number: int, numbers: dict[str, int], tags: dict[str, None], losses: LossTally) -> str:
    height, width = entry.size
    sides = f' width="{width}" height="{height}"' if width and height else ""
    place = f'subset="{entry.split}" task_id="{_TASKS[entry.split]}"'
    name = entry.file_name.removeprefix(IMAGES_DIRECTORY)
    opening = f'  <image id="{number}" name={_quoted(name)} {place}{sides}'
    if entry.annotation is None:
        return f"{opening}></image>\n"
    hidden: list[tuple[str, str]] = []
    elements: list[str] = []
    angles = _angles(entry.annotation)
    for label in entry.annotation.labels:
        if isinstance(label, ClassificationLabel):
            tags[label.label_name] = None
            elements.append(
                f'    <tag label={_quoted(_name(label.label_name))} source="manual">'
                f'<attribute name="{TAG_VALUE}">{escape_xml(label.label)}</attribute></tag>\n'
            )
        for item in label.objects if isinstance(label, ObjectLabel) else ():
            shown = _element(item, angles)
            shown = hidden_class(item, numbers) or shown
            if isinstance(shown, tuple):
                hidden.append(shown)
            else:
                elements.append(shown)
    losses.add_annotation(entry.annotation, hidden, _TITLE, shows_classifications=True)
    return f"{opening}>\n{''.join(elements)}  </image>\n"


def _angles(annotation: Annotation) -> Iterator[float]:
    """The degrees of the rotated boxes, in their order; numpy takes as long for one as for all."""
    angles = [
        item.a
        for label in annotation.labels
        if isinstance(label, ObjectLabel)
        for item in label.objects
        if isinstance(item, RotatedBox)
    ]
    return iter(np.degrees(reduce_angle(angles)).tolist() if angles else ())


def _element(item: LabelledObject, angles: Iterator[float]) -> str | tuple[str, str]:
    """The element of an object, or (what, reason) of why there is none; a rotated box has the next of `angles`."""
    if isinstance(item, BoundingBox):
        edges = [min(item.x1, item.x2), min(item.y1, item.y2), max(item.x1, item.x2), max(item.y1, item.y2)]
        return _box(item, edges)
    if isinstance(item, RotatedBox):
        x, y, w, h = float(item.x), float(item.y), abs(float(item.w)), abs(float(item.h))
        rotation = _number(next(angles))
        return _box(item, [x - w / 2, y - h / 2, x + w / 2, y + h / 2], f' rotation="{rotation}"')
    if isinstance(item, Mask):
        return _mask(item)
    if len(item.points) < 3:
        return _FEW_POINTS
    points = ";".join([f"{_number(x)},{_number(y)}" for x, y in item.points])
    return f'    <polygon {_shared(item)} points="{points}" z_order="0"></polygon>\n'


def _box(item: LabelledObject, edges: Sequence[float], rotation: str = "") -> str | tuple[str, str]:
    if not all(map(isfinite, edges)):
        return _NOT_FINITE
    left, top, right, bottom = map(_number, edges)
    return (
        f'    <box {_shared(item)} xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"{rotation} z_order="0"></box>\n'
    )


def _mask(item: Mask) -> str | tuple[str, str]:
    bounds = mask_bounds(item.size, item.counts)
    if bounds is None:
        return _NOTHING
    x1, y1, x2, y2 = bounds
    runs = ", ".join(map(str, _row_runs(decode_run_length(item.size, item.counts, bounds=bounds))))
    return (
        f'    <mask {_shared(item)} rle="{runs}" left="{x1}" top="{y1}" width="{x2 - x1 + 1}" height="{y2 - y1 + 1}" '
        'z_order="0"></mask>\n'
    )


def _row_runs(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of runs along the rows, background first."""
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    runs: list[int] = np.diff(edges).tolist()
    return [0, *runs] if flat[0] else runs


def _shared(item: LabelledObject) -> str:
    return f'label={_quoted(_name(item.class_name))} source="manual" occluded="0"'


def _name(name: str) -> str:
    """A label's name; CVAT has none without."""
    return name if name.strip() else UNNAMED


def _number(value: float) -> str:
    return repr(round(float(value), DECIMALS))


def _quoted(text: str) -> str:
    """An attribute's value; what an XML reader would take for a space is escaped as well."""
    return f'"{escape_xml(text).translate(_IN_ATTRIBUTES)}"'


_IN_ATTRIBUTES: Mapping[int, str] = {ord('"'): "&quot;", ord("\n"): "&#10;", ord("\t"): "&#9;"}
