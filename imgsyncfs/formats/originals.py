"""How what a format cannot say travels along in it, and how an edit made in a tool wins over it.

A rendered file holds, beside what the tool shows, two kinds of JSON under the name `CARRIED_NAME`, which the tools
ignore:

- each object that is shown carries its original: ``{"at": [label, position], "label_type": …, "object": …}``, the
  last exactly as in the house annotation;
- the file carries a frame: ``{"annotation": …, "image": …}``, the house annotation with ``null`` in place of each
  object that is shown, and those image sizes that were shown though the annotation says otherwise.

A reader renders each original again and compares: what is shown as the original would be is untouched, and the
original's exact values come back, number by number; what differs was edited, and the shown value comes back. What
tool and format call the same (rounding, the order of a rectangle's corners) is for the format to know. A tool that
writes files anew drops all this, and then what it wrote is all there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    Label,
    LabelledObject,
    ObjectLabel,
    annotation_from_json,
    annotation_to_json,
    label_to_json,
    object_from_json,
    object_to_json,
)
from imgsyncfs.annotations.labels import OBJECT_LABEL_TYPES
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import ImageInfo, Loss

CARRIED_NAME = "imgsyncfs"
UNNAMED = "unnamed"
"""Shown for a blank class name: tools reject an empty one."""

SHOWN_TOLERANCE = 5e-5
"""Half of the last digit that roLabelImg's files show; a hand moves nothing by less."""

_RELATIVE_TOLERANCE = 1e-12


class PlacedObject(NamedTuple):
    """An object and where it stands: the label's index, and its position among that label's objects."""

    label: int
    position: int
    label_type: str
    item: LabelledObject


@dataclass(frozen=True)
class Frame:
    """An annotation without the objects that a file shows.

    Attributes:
        annotation: holds only the objects that the file does not show.
        shown: for each label, for each position, whether the object there is shown; empty for labels without objects.
        image: the sizes that were shown, where the annotation's differ.
    """

    annotation: Annotation
    shown: tuple[tuple[bool, ...], ...] = ()
    image: Mapping[str, int | None] = field(default_factory=dict)


class RestoredObject(NamedTuple):
    """An object read back.

    Attributes:
        original: what the object was rendered from, None for an object that was added.
        item: the object.
        untouched: whether the object was left as it was rendered.
    """

    original: PlacedObject | None
    item: LabelledObject
    untouched: bool

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


def placed_objects(annotation: Annotation) -> list[PlacedObject]:
    """List all objects of an annotation with their places, in order."""
    return [
        PlacedObject(index, position, label.label_type, item)
        for index, label in enumerate(annotation.labels)
        if isinstance(label, ObjectLabel)
        for position, item in enumerate(label.objects)
    ]


def carried_object(placed: PlacedObject) -> dict[str, Any]:
    """Give the JSON that an object carries."""
    return {
        "at": (placed.label, placed.position),
        "label_type": placed.label_type,
        "object": object_to_json(placed.item),
    }


def carried_frame(annotation: Annotation, hidden: Collection[tuple[int, int]], size: ImageSize) -> dict[str, Any]:
    """Give the JSON that a file carries.

    Args:
        annotation: what is rendered.
        hidden: (label, position) of each object that is not shown.
        size: the image size that is shown.

    Returns:
        A frame; `read_frame` reads it.
    """
    labels = []
    for index, label in enumerate(annotation.labels):
        if isinstance(label, ObjectLabel):
            objects = [
                object_to_json(item) if (index, position) in hidden else None
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
    return {
        "annotation": document,
        "image": {name: shown for name, shown in sizes.items() if shown != document[name]},
    }


def shown_size(annotation: Annotation, image: ImageInfo) -> ImageSize:
    """Decide which image size to show: the catalog's, else the annotation's, else none."""
    return ImageSize(
        height=image.height or annotation.height or None,
        width=image.width or annotation.width or None,
        depth=image.depth or annotation.depth or None,
    )


def read_carried_object(content: Any) -> PlacedObject:
    """Read what `carried_object` gave.

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


def read_frame(content: Any) -> Frame:
    """Read what `carried_frame` gave.

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
    image = content.get("image")
    return Frame(annotation, tuple(shown), image if isinstance(image, dict) else {})


def reassemble(
    frame: Frame | None,
    objects: Sequence[RestoredObject],
    *,
    size: ImageSize,
    label_checked: int,
    removed: Collection[int] = (),
    added: Sequence[Label] = (),
) -> Annotation:
    """Put an annotation together again.

    Untouched and edited objects return to their places, copies of one to its place behind it; new ones go to the end
    of the first label of their type, which is made if there is none.

    Args:
        frame: what the file carried, None if it carried nothing.
        objects: the objects that the file shows, in order.
        size: the image size in the file; wins where it differs from the rendered size.
        label_checked: the value if there is no frame, or if anything was edited.
        removed: indices of the frame's labels that are gone from the file.
        added: labels to put at the end.

    Returns:
        The annotation, without unknown keys of the file itself.
    """
    if frame is None:
        start = Annotation(label_checked=label_checked, height=size.height, width=size.width, depth=size.depth)
        labels, _ = _place_objects(Frame(start), objects)
        return replace(start, labels=(*labels, *added))
    labels, edited = _place_objects(frame, objects)
    kept = [label for index, label in enumerate(labels) if index not in removed]
    before = frame.annotation
    edited = edited or bool(removed) or bool(added)
    return replace(
        before,
        label_checked=label_checked if edited else before.label_checked,
        height=_restored_size(frame, "height", before.height, size.height),
        width=_restored_size(frame, "width", before.width, size.width),
        depth=_restored_size(frame, "depth", before.depth, size.depth),
        labels=(*kept, *added),
    )


def is_near(shown: float, rendered: float) -> bool:
    """Tell whether a number equals the rendered number, up to rounding."""
    return abs(shown - rendered) <= SHOWN_TOLERANCE + _RELATIVE_TOLERANCE * abs(rendered)


def restored_bounding_box(
    shown: Sequence[float], source: LabelledObject | None, rendered: Sequence[float]
) -> BoundingBox:
    """Give a bounding box as the original has it where it is shown as rendered, else as shown.

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


def count_losses(hidden: Iterable[tuple[str, str] | None]) -> tuple[Loss, ...]:
    """Count what is not shown, given (what, reason) of each thing, None for what is shown."""
    counts = Counter([each for each in hidden if each is not None])
    return tuple([Loss(what, count, reason) for (what, reason), count in counts.items()])


def _restored_edges(
    low: float, high: float, one: float, two: float, rendered: tuple[float, float]
) -> tuple[float, float]:
    """The edges along one axis in the order of the original's `one` and `two`, of which either may be the larger."""
    same_low, same_high = is_near(low, rendered[0]), is_near(high, rendered[1])
    if one <= two:
        return one if same_low else low, two if same_high else high
    return one if same_high else high, two if same_low else low


def _place_objects(frame: Frame, objects: Sequence[RestoredObject]) -> tuple[list[Label], bool]:
    """The frame's labels with the objects in their places, new labels behind; and whether anything was edited."""
    labels = list(frame.annotation.labels)
    slots: dict[int, list[list[LabelledObject]]] = {}
    for index, (label, shown) in enumerate(zip(labels, frame.shown, strict=True)):
        if isinstance(label, ObjectLabel):
            hidden = iter(label.objects)
            slots[index] = [[] if is_shown else [next(hidden)] for is_shown in shown]
    edited = False
    for restored in sorted(objects, key=_order):
        edited = edited or not restored.untouched
        home = _home(frame, restored)
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


def _home(frame: Frame, restored: RestoredObject) -> PlacedObject | None:
    """The original, if its place in this frame is one for this object; one pasted from another file has none."""
    original = restored.original
    if original is None or not 0 <= original.label < len(frame.shown):
        return None
    label, shown = frame.annotation.labels[original.label], frame.shown[original.label]
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


def _restored_size(frame: Frame, name: str, original: int | None, shown: int | None) -> int | None:
    rendered = frame.image.get(name, original)
    return original if shown is None or shown == rendered else shown


def _damaged(reason: str) -> AnnotationError:
    return AnnotationError(f"{reason}; remove {CARRIED_NAME!r} there to read what the file shows")
