"""What only labelme knows, and an annotation keeps for it: shapes without a house object, and the order of all shapes.

A circle, line, linestrip, point or group of points is a label of type ``labelme`` that holds the shape as it came. The
house format lists objects by their type, while labelme draws later shapes over earlier ones: where the order is not
the one of the annotation's labels, its extra key ``labelme`` has it under ``shapes``, as pairs of a type of label and
how many shapes of it follow each other. Source: the reader of labelme 7.1, which refuses a file for one bad shape.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import isfinite
from typing import Any

from imgsyncfs.annotations.house_format import Annotation, UnknownLabel
from imgsyncfs.formats.labelme_shapes import is_same_shape, shown_keys
from imgsyncfs.formats.originals import EMBEDDED_NAME, UNNAMED, Remainder
from imgsyncfs.formats.remarks import LABELME_LABEL, labelme_shape
from imgsyncfs.formats.shape_dialect import CHECKED_KEY, LABELME, ORDER_KEY, ShapeDialect

FAILED = "failed"


def render_label(index: int, label: UnknownLabel, dialect: ShapeDialect = LABELME) -> dict[str, Any] | None:
    """Return the shape that a label of type ``labelme`` holds, with what is embedded in it.

    Args:
        index: of the label in its annotation.
        label: of any unknown type.
        dialect: of the tool that is to show it.

    Returns:
        The shape; None if the label holds none that the tool takes.
    """
    kept = labelme_shape(label)
    if kept is None or not _is_taken(kept, dialect):
        return None
    shape = {
        "label": kept["label"] if kept["label"].strip() else UNNAMED,
        "points": kept["points"],
        "group_id": None,
        "description": "",
        "shape_type": kept["shape_type"],
        "flags": {},
    }
    shape |= shown_keys(kept, dialect)
    if dialect.has_difficult:
        shape["difficult"] = kept.get("difficult") is True
    shape[EMBEDDED_NAME] = {"at": (index, 0), "label_type": LABELME_LABEL}
    return shape


def is_embedded_label(content: Any) -> bool:
    """Whether what is embedded in a shape says that it was rendered from a label of type ``labelme``."""
    return isinstance(content, dict) and content.get("label_type") == LABELME_LABEL


def read_labels(
    remainder: Remainder | None, shapes: Iterable[Mapping[str, Any]], dialect: ShapeDialect = LABELME
) -> tuple[set[int], dict[int, UnknownLabel], list[UnknownLabel]]:
    """Read the shapes that are no objects.

    Args:
        remainder: what was embedded in the file.
        shapes: those of the file, in order.
        dialect: of the tool whose file it is.

    Returns:
        The indices of the remainder's labels whose shapes are gone, those whose shapes were edited with what takes
        their place, and the labels of shapes that are new.
    """
    labels = () if remainder is None else remainder.annotation.labels
    rendered = {
        index: shape
        for index, label in enumerate(labels)
        if isinstance(label, UnknownLabel) and (shape := render_label(index, label, dialect)) is not None
    }
    replaced: dict[int, UnknownLabel] = {}
    added: list[UnknownLabel] = []
    found: set[int] = set()
    for given in shapes:
        index = _origin(given)
        kept = {key: value for key, value in given.items() if key != EMBEDDED_NAME}
        if index not in rendered or index in found:
            added.append(UnknownLabel({"label_type": LABELME_LABEL, "shape": kept}))
            continue
        found.add(index)
        if not is_same_shape(given, rendered[index], dialect):
            before = labels[index]
            content = before.content if isinstance(before, UnknownLabel) else {}
            replaced[index] = UnknownLabel({**content, "shape": kept})
    return rendered.keys() - found, replaced, added


def drawing_positions(types: Sequence[str], annotation: Annotation) -> list[int]:
    """Return the order in which labelme is to draw an annotation's shapes.

    Args:
        types: the type of the label of each shape, in the order of the annotation's labels.
        annotation: may say another order; what it does not speak of comes last.

    Returns:
        Indices of `types`.
    """
    kept = _kept_order(annotation)
    if not kept:
        return [*range(len(types))]
    waiting: defaultdict[str, deque[int]] = defaultdict(deque)
    for position, label_type in enumerate(types):
        waiting[label_type].append(position)
    positions = []
    for label_type, count in kept:
        line = waiting[label_type]
        positions += [line.popleft() for _ in range(min(count, len(line)))]
    return positions + sorted(position for line in waiting.values() for position in line)


def with_drawing_order(annotation: Annotation, types: Sequence[str], found: Sequence[str]) -> Annotation:
    """Let an annotation say the order of its shapes that a file has, if it says another one.

    Args:
        annotation: the annotation.
        types: the type of the label of each of its shapes, in the order of its labels.
        found: these types in the file's order.
    """
    if [types[position] for position in drawing_positions(types, annotation)] == list(found):
        return annotation
    order = [[label_type, len(list(group))] for label_type, group in groupby(found)]
    return with_own_keys(annotation, {ORDER_KEY: order if list(found) != list(types) else None})


def with_own_keys(annotation: Annotation, keys: Mapping[str, Any]) -> Annotation:
    """Change what an annotation keeps for labelme under its extra key ``labelme``; None removes a key."""
    own = annotation.extra.get(LABELME_LABEL)
    changed = {**(own if isinstance(own, dict) else {}), **keys}
    changed = {key: value for key, value in changed.items() if value is not None}
    others = {key: value for key, value in annotation.extra.items() if key != LABELME_LABEL}
    return replace(annotation, extra={**others, LABELME_LABEL: changed} if changed else others)


def shown_mark(annotation: Annotation) -> bool | str:
    """What a file says of an annotation under ``checked``: whether it passed a check, or that it ``failed`` one."""
    own = annotation.extra.get(LABELME_LABEL)
    has_failed = isinstance(own, dict) and own.get(CHECKED_KEY) == FAILED
    return annotation.label_checked == 1 or (FAILED if has_failed else False)


def with_mark(annotation: Annotation, remainder: Remainder | None, mark: Any) -> Annotation:
    """Let an annotation say what its file says under ``checked``.

    Args:
        annotation: as it was read without that.
        remainder: what was embedded in the file.
        mark: as in `shown_mark`; anything else is no mark.
    """
    mark = mark if mark == FAILED else mark is True
    if remainder is not None and mark == shown_mark(remainder.annotation):
        return replace(annotation, label_checked=remainder.annotation.label_checked)
    has_failed = mark == FAILED
    if has_failed or shown_mark(replace(annotation, label_checked=0)) == FAILED:
        annotation = with_own_keys(annotation, {CHECKED_KEY: FAILED if has_failed else None})
    return replace(annotation, label_checked=int(mark is True))


def _kept_order(annotation: Annotation) -> list[tuple[str, int]]:
    own = annotation.extra.get(LABELME_LABEL)
    kept = own.get(ORDER_KEY) if isinstance(own, dict) else None
    if not isinstance(kept, list):
        return []
    pairs = [pair for pair in kept if isinstance(pair, list | tuple) and [*map(type, pair)] == [str, int]]
    return [(pair[0], pair[1]) for pair in pairs]


def _origin(shape: Mapping[str, Any]) -> int:
    embedded = shape.get(EMBEDDED_NAME)
    place = embedded.get("at") if isinstance(embedded, dict) and is_embedded_label(embedded) else None
    return place[0] if isinstance(place, list) and [*map(type, place)] == [int, int] else -1


def _is_taken(shape: Mapping[str, Any], dialect: ShapeDialect) -> bool:
    """Whether a tool takes a shape that a label holds; it may have been written by hand."""
    points, counts = shape.get("points"), dialect.point_counts.get(str(shape.get("shape_type")))
    return (
        isinstance(shape.get("label"), str)
        and counts is not None
        and isinstance(points, list)
        and len(points) in counts
        and all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)
