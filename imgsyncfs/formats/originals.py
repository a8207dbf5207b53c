"""What a format cannot say is embedded in its file, so that nothing is lost, and an edit made in a tool wins over it.

A rendered file holds, beside what the tool shows, two kinds of JSON under the name `EMBEDDED_NAME`, which the tools
ignore:

- in each object that is shown, its original: ``{"at": [label, position], "label_type": …, "object": …}``, the last
  exactly as in the house annotation;
- in the file, the remainder: ``{"annotation": …, "image": …}``, the house annotation with ``null`` in place of each
  object that is shown, and those image sizes that were shown though the annotation says otherwise.

A reader renders each original again and compares, number by number: what is shown as the original would be was not
touched, and the original's exact value comes back; what differs was edited, and the shown value comes back. What tool
and format call the same (rounding, the order of a rectangle's corners) is for the format to know.

A tool that writes files anew drops all this (roLabelImg, labelme's oldest version). `Format.reattached` puts it back
from the annotation that the file was rendered from: `match_outlines` finds the objects that are in the same place, and
`match_moved` those that were moved, turned or resized.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor, isfinite
from typing import Any, NamedTuple

import numpy as np

from imgsyncfs.annotations.geometry import reduce_angle
from imgsyncfs.annotations.house_format import (
    OBJECT_LABEL_TYPES,
    Annotation,
    BoundingBox,
    Label,
    LabelledObject,
    ObjectLabel,
    RotatedBox,
    annotation_from_json,
    annotation_to_json,
    label_to_json,
    object_from_json,
    object_to_json,
    without_known_keys,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Change, ImageInfo

EMBEDDED_NAME = "imgsyncfs"
UNNAMED = "unnamed"
"""Shown for a blank class name: tools reject an empty one."""

SHOWN_TOLERANCE = 5e-5
"""Half of the last digit that roLabelImg's files show; a hand moves nothing by less."""

_RELATIVE_TOLERANCE = 1e-12

_UNMOVED_PIXELS = 0.005
"""Tools compute a box anew from its corners; a hand moves nothing by less."""

_MOST_COMPARED = 1 << 22
"""Of objects that were moved, so many pairs are compared; in a file with more, they count as removed and drawn anew."""


class PlacedObject(NamedTuple):
    """An object and where it stands: the label's index, and its position among that label's objects."""

    label: int
    position: int
    label_type: str
    item: LabelledObject


@dataclass(frozen=True)
class Remainder:
    """An annotation without the objects that a file shows.

    Attributes:
        annotation: holds only the objects that the file does not show.
        shown: for each label, for each position, whether the object there is shown; empty for labels without objects.
        image: the sizes that were shown, where the annotation's differ.
        orientation: EXIF's number of how the picture is turned whose stored pixels the file shows; 1 if it is not.
    """

    annotation: Annotation
    shown: tuple[tuple[bool, ...], ...] = ()
    image: Mapping[str, int | None] = field(default_factory=dict)
    orientation: int = 1


class RestoredObject(NamedTuple):
    """An object read back.

    Attributes:
        original: what the object was rendered from, None for an object that was added.
        item: the object; the original's own if it was left as it was rendered.
        change: what there is to say about it if it is of another kind than it was; None if nothing.
    """

    original: PlacedObject | None
    item: LabelledObject
    change: Change | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether the object was left as it was rendered."""
        return self.original is not None and self.item is self.original.item

    @property
    def label_type(self) -> str:
        """The type of the label that the object belongs to."""
        return OBJECT_LABEL_TYPES[type(self.item)]


@dataclass(frozen=True)
class ImageSize:
    """The size of an image in pixels and channels; None where unknown."""

    height: int | None = None
    width: int | None = None
    depth: int | None = None


class Outline(NamedTuple):
    """What a file shows of an object: the kind of shape, the class, and all numbers in order, in pixels.

    `box` is (x, y, w, h) of a box around it: its centre and its size, along its own sides if it has such.
    """

    kind: str
    name: str
    numbers: tuple[float, ...]
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def placed_objects(annotation: Annotation) -> list[PlacedObject]:
    """List all objects of an annotation with their places, in order."""
    return [
        PlacedObject(index, position, label.label_type, item)
        for index, label in enumerate(annotation.labels)
        if isinstance(label, ObjectLabel)
        for position, item in enumerate(label.objects)
    ]


def embedded_object(placed: PlacedObject) -> dict[str, Any]:
    """Return the JSON to embed in an object."""
    return {
        "at": (placed.label, placed.position),
        "label_type": placed.label_type,
        "object": object_to_json(placed.item),
    }


def embedded_remainder(
    annotation: Annotation, hidden: Iterable[PlacedObject], size: ImageSize, *, orientation: int = 1
) -> dict[str, Any]:
    """Return the JSON to embed in a file.

    Args:
        annotation: what is rendered.
        hidden: the objects that are not shown.
        size: the image size that is shown.
        orientation: EXIF's number of how the picture is turned whose stored pixels the file shows.

    Returns:
        The remainder; `read_remainder` reads it.
    """
    places = {(each.label, each.position) for each in hidden}
    labels = []
    for index, label in enumerate(annotation.labels):
        if isinstance(label, ObjectLabel):
            objects = [
                object_to_json(item) if (index, position) in places else None
                for position, item in enumerate(label.objects)
            ]
            content = label_to_json(replace(label, objects=()))
            content["object"] = objects
            labels.append(content)
        else:
            labels.append(label_to_json(label))
    document = annotation_to_json(replace(annotation, labels=()))
    document["labels"] = labels
    sizes = {"height": size.height, "width": size.width, "depth": size.depth}
    remainder = {
        "annotation": document,
        "image": {name: shown for name, shown in sizes.items() if shown != document[name]},
    }
    return remainder if orientation == 1 else {**remainder, "orientation": orientation}


def shown_size(annotation: Annotation, image: ImageInfo) -> ImageSize:
    """Return the image size to show: the catalog's, else the annotation's, else none."""
    return ImageSize(
        height=image.height or annotation.height or None,
        width=image.width or annotation.width or None,
        depth=image.depth or annotation.depth or None,
    )


def read_embedded_object(content: Any) -> PlacedObject:
    """Read what `embedded_object` gave.

    Raises:
        AnnotationError: it is damaged; the field is relative to `content`.
    """
    if not isinstance(content, dict) or content.get("label_type") not in OBJECT_LABEL_TYPES.values():
        raise _damaged("it does not name a label type")
    place = content.get("at")
    if not isinstance(place, list) or [type(number) for number in place] != [int, int]:
        raise _damaged("'at' is no place in an annotation")
    try:
        item = object_from_json(content["label_type"], content.get("object"))
    except AnnotationError as error:
        raise _damaged(str(error)) from error
    return PlacedObject(place[0], place[1], content["label_type"], item)


def read_remainder(content: Any) -> Remainder:
    """Read what `embedded_remainder` gave.

    Raises:
        AnnotationError: it is damaged; the field is relative to `content`.
    """
    if not isinstance(content, dict) or not isinstance(content.get("annotation"), dict):
        raise _damaged("it holds no annotation")
    document = content["annotation"]
    if not isinstance(document.get("labels"), list):
        raise _damaged("its annotation has no labels")
    labels, shown = [], []
    for label in document["labels"]:
        objects = label.get("object") if isinstance(label, dict) else None
        if isinstance(objects, list) and label.get("label_type") in OBJECT_LABEL_TYPES.values():
            labels.append({**label, "object": [item for item in objects if item is not None]})
            shown.append(tuple(item is None for item in objects))
        else:
            labels.append(label)
            shown.append(())
    try:
        annotation = annotation_from_json({**document, "labels": labels})
    except AnnotationError as error:
        raise _damaged(str(error)) from error
    image, orientation = content.get("image"), content.get("orientation", 1)
    if type(orientation) is not int or not 1 <= orientation <= 8:
        raise _damaged("its orientation is none of EXIF's, from 1 to 8")
    return Remainder(annotation, tuple(shown), image if isinstance(image, dict) else {}, orientation)


def reassemble(
    remainder: Remainder | None,
    objects: Sequence[RestoredObject],
    *,
    size: ImageSize,
    label_checked: int,
    removed: Collection[int] = (),
    replaced: Mapping[int, Label] | None = None,
    added: Sequence[Label] = (),
) -> Annotation:
    """Put an annotation together again.

    Untouched and edited objects return to their places, copies of one to its place behind it; new ones go to the end
    of the first label of their type, which is made if there is none.

    Args:
        remainder: what was embedded in the file, None if nothing was.
        objects: the objects that the file shows, in order.
        size: the image size in the file; wins where it differs from the rendered size.
        label_checked: the value if there is no remainder, or if anything was edited.
        removed: indices of the remainder's labels that are gone from the file.
        replaced: labels that take the places of others, by the indices of these in the remainder.
        added: labels to put at the end.

    Returns:
        The annotation, without unknown keys of the file itself.
    """
    if remainder is None:
        start = Annotation(label_checked=label_checked, height=size.height, width=size.width, depth=size.depth)
        labels, _ = _place_objects(Remainder(start), objects)
        return replace(start, labels=(*labels, *added))
    labels, edited = _place_objects(remainder, objects)
    replaced = replaced or {}
    kept = [replaced.get(index, label) for index, label in enumerate(labels) if index not in removed]
    before = remainder.annotation
    edited = edited or bool(removed) or bool(replaced) or bool(added)
    return replace(
        before,
        label_checked=label_checked if edited else before.label_checked,
        height=_restored_size(remainder, "height", before.height, size.height),
        width=_restored_size(remainder, "width", before.width, size.width),
        depth=_restored_size(remainder, "depth", before.depth, size.depth),
        labels=(*kept, *added),
    )


def is_close(shown: float, rendered: float) -> bool:
    """Whether a number equals the rendered number, up to rounding."""
    return abs(shown - rendered) <= SHOWN_TOLERANCE + _RELATIVE_TOLERANCE * abs(rendered)


def restored_object(
    original: PlacedObject | None, item: LabelledObject, *, class_name: str, extra: Mapping[str, Any]
) -> RestoredObject:
    """Return an object with its class and its extra keys.

    Args:
        original: what the object was rendered from, None for an object that was added.
        item: has the geometry; the original's own if nothing was moved.
        class_name: of the object.
        extra: unknown keys; of another type than the object's if the tool has changed it.
    """
    label_type = OBJECT_LABEL_TYPES[type(item)]
    if original is not None and original.label_type != label_type:
        extra = without_known_keys(extra, label_type)
    if class_name != item.class_name or extra != item.extra:
        item = replace(item, class_name=class_name, extra=extra)
    return RestoredObject(original, item)


def restored_rotated_box(
    shown: Sequence[float], source: RotatedBox, rendered: Sequence[float], *, same_angle: bool
) -> RotatedBox:
    """Return a rotated box as the original has it where it is shown as rendered, else as shown.

    Args:
        shown: (x, y, w, h, a) in the file; the angle may be of any size.
        source: the original.
        rendered: (x, y, w, h, a) as the original is rendered.
        same_angle: whether the angles are the same, which the format can tell.

    Returns:
        `source` itself if nothing was moved.
    """
    same = [*map(is_close, shown[:4], rendered[:4]), same_angle]
    if all(same):
        return source
    exact = (source.x, source.y, source.w, source.h)
    x, y, w, h = (old if is_same else new for old, new, is_same in zip(exact, shown, same, strict=False))
    return replace(source, x=x, y=y, w=w, h=h, a=source.a if same_angle else reduce_angle(shown[4]).item())


def restored_bounding_box(
    shown: Sequence[float], source: LabelledObject | None, rendered: Sequence[float]
) -> BoundingBox:
    """Return a bounding box as the original has it where it is shown as rendered, else as shown.

    Args:
        shown: (left, top, right, bottom) in the file.
        source: the original. None, or an object of another type: there is nothing to restore.
        rendered: (left, top, right, bottom) as the original is rendered.

    Returns:
        `source` itself if nothing was moved.
    """
    left, top, right, bottom = shown
    if not isinstance(source, BoundingBox):
        return BoundingBox("", left, top, right, bottom)
    x1, x2 = _restored_edges(left, right, source.x1, source.x2, (rendered[0], rendered[2]))
    y1, y2 = _restored_edges(top, bottom, source.y1, source.y2, (rendered[1], rendered[3]))
    if (x1, y1, x2, y2) == (source.x1, source.y1, source.x2, source.y2):
        return source
    return replace(source, x1=x1, y1=y1, x2=x2, y2=y2)


def match_outlines(found: Sequence[Outline], rendered: Sequence[Outline]) -> dict[int, int]:
    """Match the objects of a saved file with the objects that were rendered.

    Args:
        found: objects without an original.
        rendered: objects whose originals are in no other object of the file.

    Returns:
        For an index in `found`, the index in `rendered` of the object within 0.005 pixels; each is used once, and
        objects of the same class are matched first.
    """
    cells: defaultdict[tuple[str, int, int], list[int]] = defaultdict(list)
    for index, outline in enumerate(rendered):
        cells[_cell(outline)].append(index)
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for same_class in (True, False):
        for index, outline in enumerate(found):
            if index in matches:
                continue
            for origin in _close_indices(outline, cells):
                other = rendered[origin]
                if (
                    origin not in taken
                    and (other.name == outline.name or not same_class)
                    and _is_same_place(outline, other)
                ):
                    matches[index] = origin
                    taken.add(origin)
                    break
    return matches


def match_moved(found: Sequence[Outline], rendered: Sequence[Outline]) -> dict[int, int]:
    """Match what `match_outlines` leaves over: objects that were moved, turned or resized.

    A move and a turn keep an object's size; a turned or resized object lies near to where it was. What is neither of
    the same size nor near is another object.

    Args:
        found: objects without an original, in a place where none was rendered.
        rendered: objects whose originals are nowhere else.

    Returns:
        For an index in `found`, the index in `rendered`; each is used once, and the likeliest are matched first:
        those of the same class, near, and as large.
    """
    if not found or not rendered or len(found) * len(rendered) > _MOST_COMPARED:
        return {}
    shown, before = (np.array([each.box for each in outlines]) for outlines in (found, rendered))
    kinds = np.array([[one.kind == other.kind for other in rendered] for one in found])
    names = np.array([[one.name == other.name for other in rendered] for one in found])
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(shown[:, None] - before[None])
        extent = np.maximum(shown[:, None, 2:].max(axis=2), before[None, :, 2:].max(axis=2)) + 1.0
        distance = np.hypot(difference[..., 0], difference[..., 1]) / extent
        growth = difference[..., 2:].sum(axis=2) / extent
    as_large = (difference[..., 2:] <= _UNMOVED_PIXELS).all(axis=2)
    cost = np.where(kinds & (as_large | (distance < 0.5)), distance + growth + ~names, np.inf)
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.argsort(cost, axis=None, kind="stable").tolist():
        index, origin = divmod(place, len(rendered))
        if not isfinite(cost[index, origin]):
            break
        if index not in matches and origin not in taken:
            matches[index] = origin
            taken.add(origin)
    return matches


def _restored_edges(
    low: float, high: float, one: float, two: float, rendered: tuple[float, float]
) -> tuple[float, float]:
    """The edges along one axis in the order of the original's `one` and `two`, of which either may be the larger."""
    same_low, same_high = is_close(low, rendered[0]), is_close(high, rendered[1])
    if one <= two:
        return one if same_low else low, two if same_high else high
    return one if same_high else high, two if same_low else low


def _place_objects(remainder: Remainder, objects: Sequence[RestoredObject]) -> tuple[list[Label], bool]:
    """The remainder's labels with the objects in their places, new labels behind; and whether anything was edited."""
    labels = list(remainder.annotation.labels)
    slots: dict[int, list[list[LabelledObject]]] = {}
    for index, (label, shown) in enumerate(zip(labels, remainder.shown, strict=True)):
        if isinstance(label, ObjectLabel):
            hidden = iter(label.objects)
            slots[index] = [[] if is_shown else [next(hidden)] for is_shown in shown]
    edited = False
    for restored in sorted(objects, key=_order):
        edited = edited or not restored.is_untouched
        home = _home(remainder, restored)
        if home is not None:
            slots[home.label][home.position].append(restored.item)
            continue
        edited = True
        index = _first_of_type(labels, restored.label_type)
        if index == len(labels):
            labels.append(ObjectLabel(restored.label_type))
        slots.setdefault(index, []).append([restored.item])
    for index, positions in slots.items():
        label = labels[index]
        if isinstance(label, ObjectLabel):
            edited = edited or any(len(items) != 1 for items in positions)
            labels[index] = replace(label, objects=tuple([item for items in positions for item in items]))
    return labels, edited


def _order(restored: RestoredObject) -> tuple[float, float]:
    original = restored.original
    return (float("inf"), 0) if original is None else (original.label, original.position)


def _home(remainder: Remainder, restored: RestoredObject) -> PlacedObject | None:
    """The original, if its place in this remainder is one for this object; one pasted from another file has none."""
    original = restored.original
    if original is None or not 0 <= original.label < len(remainder.shown):
        return None
    label, shown = remainder.annotation.labels[original.label], remainder.shown[original.label]
    fits = (
        isinstance(label, ObjectLabel)
        and label.label_type == restored.label_type
        and 0 <= original.position < len(shown)
        and shown[original.position]
    )
    return original if fits else None


def _first_of_type(labels: Sequence[Label], label_type: str) -> int:
    for index, label in enumerate(labels):
        if isinstance(label, ObjectLabel) and label.label_type == label_type:
            return index
    return len(labels)


def _restored_size(remainder: Remainder, name: str, original: int | None, shown: int | None) -> int | None:
    rendered = remainder.image.get(name, original)
    return original if shown is None or shown == rendered else shown


def _damaged(reason: str) -> AnnotationError:
    return AnnotationError(f"{reason}; remove {EMBEDDED_NAME!r} there to read what the file shows")


def _cell(outline: Outline, step: int = 0) -> tuple[str, int, int]:
    """A key that outlines share which may be near each other: comparing all with all takes too long for thousands."""
    first = outline.numbers[0] if outline.numbers and isfinite(outline.numbers[0]) else 0.0
    return outline.kind, len(outline.numbers), floor(first) + step


def _close_indices(outline: Outline, cells: Mapping[tuple[str, int, int], list[int]]) -> list[int]:
    return [index for step in (-1, 0, 1) for index in cells.get(_cell(outline, step), ())]


def _is_same_place(one: Outline, other: Outline) -> bool:
    return all(abs(a - b) <= _UNMOVED_PIXELS for a, b in zip(one.numbers, other.numbers, strict=True))
