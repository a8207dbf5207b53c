"""Files of rows that have no place to embed anything: what they do not show comes from the annotation beside them.

`with_original` hands the annotation on that a file was rendered from (`Format.reattached`); `read_beside` then finds
each row's object: a row where an object was rendered is that object, one that was moved, turned or resized keeps the
object's keys and, where its outline allows, its kind; an object whose row is gone was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import hypot
from typing import NamedTuple

import orjson

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import (
    Annotation,
    LabelledObject,
    annotation_from_json,
    annotation_to_json,
    encode_json,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Change, Reading
from imgsyncfs.formats.originals import (
    EMBEDDED_NAME,
    ImageSize,
    Outline,
    RestoredObject,
    embedded_remainder,
    match_moved,
    match_outlines,
    placed_objects,
    read_remainder,
    reassemble,
    restored_object,
)
from imgsyncfs.formats.remarks import OBJECT_NAMES, count_changes

Points = tuple[tuple[float, float], ...]

_ORIGINAL = f"\n#{EMBEDDED_NAME} "
"""Begins the line in which the original is handed on; no file has it, since rows begin with numbers."""


class Row(NamedTuple):
    """One row of a file: an outline, in pixels, and what is said of it."""

    points: Points
    name: str
    is_difficult: bool = False


Moved = Callable[[Row, LabelledObject, LabelledObject, Row], LabelledObject]
"""The object of a row in its new place, given the row, the object that the row alone would be, the original, and the
row that this was rendered as."""


def is_difficult(item: LabelledObject) -> bool:
    """Whether an object says that it is difficult, as roLabelImg's objects do."""
    return item.extra.get("difficult") in (1, True, "1")


def with_original(content: bytes, original: Annotation) -> bytes:
    """Hand on the annotation that a file was probably rendered from."""
    return b"".join((content.rstrip(), _ORIGINAL.encode(), encode_json(annotation_to_json(original)), b"\n"))


def split_original(content: bytes) -> tuple[str, Annotation | None]:
    """Return the rows of a file, and the original if `with_original` has handed it on.

    Raises:
        AnnotationError: the file is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(encoding_fault(content) or "it is not UTF-8; save it as such") from error
    rows, separator, document = text.rpartition(_ORIGINAL)
    return (rows, annotation_from_json(orjson.loads(document))) if separator else (text, None)


def read_alone(
    rows: Sequence[Row], items: Sequence[LabelledObject], *, size: ImageSize, label_checked: int
) -> Annotation:
    """Read rows of a file of which nothing else is known.

    Args:
        rows: those of the file.
        items: the geometry that each of them shows.
        size: of the image, as far as it is known.
        label_checked: the value for the annotation.
    """
    objects = [_new_object(row, item) for row, item in zip(rows, items, strict=True)]
    return reassemble(None, objects, size=size, label_checked=label_checked)


def read_beside(
    rows: Sequence[Row],
    items: Sequence[LabelledObject],
    before: Annotation,
    rendered: Sequence[Row | None],
    *,
    moved: Moved,
    label_checked: int,
) -> Reading:
    """Read rows in the light of the annotation that their file was rendered from.

    Args:
        rows: those of the file.
        items: the geometry that each of them shows by itself.
        before: the annotation.
        rendered: for each of its objects the row that shows it; None for one that has none.
        moved: gives an object its new geometry.
        label_checked: the value if anything was edited.

    Returns:
        The annotation with the edits, what the file does not show included; and what changed its kind.
    """
    placed = placed_objects(before)
    shown = [(each, row) for each, row in zip(placed, rendered, strict=True) if row is not None]
    hidden = [each for each, row in zip(placed, rendered, strict=True) if row is None]
    found, known = [*map(_outline, rows)], [_outline(row) for _, row in shown]
    unmoved = match_outlines(found, known)
    others = [index for index in range(len(rows)) if index not in unmoved]
    left = sorted(set(range(len(known))).difference(unmoved.values()))
    again = match_moved([found[index] for index in others], [known[origin] for origin in left])
    origins = {**unmoved, **{others[index]: left[origin] for index, origin in again.items()}}
    objects: list[RestoredObject] = []
    for index, (row, item) in enumerate(zip(rows, items, strict=True)):
        if index not in origins:
            objects.append(_new_object(row, item))
            continue
        original, was = shown[origins[index]]
        source = original.item
        now = source if index in unmoved else moved(row, item, source, was)
        class_name = source.class_name if row.name == was.name else row.name
        extra = source.extra
        if row.is_difficult != was.is_difficult:
            extra = {**extra, "difficult": int(row.is_difficult)}
        restored = restored_object(original, now, class_name=class_name, extra=extra)
        objects.append(restored._replace(change=_change(original.label_type, restored.label_type)))
    remainder = read_remainder(embedded_remainder(before, hidden, ImageSize()))
    annotation = reassemble(remainder, objects, size=ImageSize(), label_checked=label_checked)
    return Reading(annotation, count_changes(each.change for each in objects if each.change is not None))


def _new_object(row: Row, item: LabelledObject) -> RestoredObject:
    return restored_object(None, item, class_name=row.name, extra={"difficult": 1} if row.is_difficult else {})


def _change(before: str, after: str) -> Change | None:
    return Change(OBJECT_NAMES[before], 1, f"they became {OBJECT_NAMES[after]}") if before != after else None


def _outline(row: Row) -> Outline:
    numbers = tuple([number for place in row.points for number in place])
    xs, ys = numbers[::2], numbers[1::2]
    if len(row.points) == 4:
        # Along its own sides: a turned box is as large as before.
        (x0, y0), (x1, y1), (x2, y2), _ = row.points
        sides = (hypot(x1 - x0, y1 - y0), hypot(x2 - x1, y2 - y1))
    else:
        sides = (max(xs) - min(xs), max(ys) - min(ys))
    centre = (min(xs) / 2 + max(xs) / 2, min(ys) / 2 + max(ys) / 2)
    return Outline("", row.name, numbers, (*centre, *sides))
