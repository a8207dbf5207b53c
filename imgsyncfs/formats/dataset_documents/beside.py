"""Read an entry of a whole-dataset document beside the annotation that the document was probably written from.

Documents have no place to embed anything, as rows have none (`imgsyncfs.formats.rows`). The annotation is therefore
written and read again object by object: an object of the entry in the place of one of these is that object, exactly and
with all its keys; one that was moved, turned or resized keeps its keys; what the document does not show stays; and an
object that it would show and does not was removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from zlib import crc32

from imgsyncfs.annotations.geometry import compress_counts
from imgsyncfs.annotations.house_format import (
    OBJECT_LABEL_TYPES,
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
)
from imgsyncfs.formats.contract import Change, ImageInfo, Reading
from imgsyncfs.formats.dataset_documents.contract import (
    DatasetDocument,
    DocumentEntry,
    DocumentReading,
    LossTally,
)
from imgsyncfs.formats.dataset_documents.enclosing import enclosing_box, outlines
from imgsyncfs.formats.originals import (
    SHOWN_TOLERANCE,
    ImageSize,
    Outline,
    PlacedObject,
    RestoredObject,
    embedded_remainder,
    match_moved,
    match_outlines,
    placed_objects,
    read_remainder,
    reassemble,
    restored_bounding_box,
    restored_object,
    restored_rotated_box,
)
from imgsyncfs.formats.remarks import OBJECT_NAMES, count_changes

_SPLIT = "train"
_HIDDEN = "the document does not show them; they stay as they were"


def read_beside(
    document: DatasetDocument, found: DocumentReading, before: Annotation, image: ImageInfo, *, label_checked: int = 1
) -> Reading:
    """Read an entry in the light of the annotation that its document was probably written from.

    Args:
        document: the document's kind.
        found: what it says of an image.
        before: the annotation.
        image: the image that both belong to.
        label_checked: the value if anything was edited.

    Returns:
        The annotation with the edits, what the document does not show included; `before` itself if nothing was
        edited. And what changed its kind.

    Raises:
        AnnotationError: the annotation holds values that cannot be written at all.
    """
    said = found.reading.annotation
    classes = found.classes
    if classes is None:
        classes = tuple(dict.fromkeys(item.class_name for item in [*_objects(before), *_objects(said)]))
    losses = LossTally()
    shown = _shown(document, before, image, classes, losses)
    if shown is not None and shown.labels == said.labels:
        return Reading(before)
    placed = placed_objects(before)
    now = _outlines(_objects(said))
    rendered = [_alone(document, each, image, classes, now) for each in placed]
    visible = [(each, item) for each, item in zip(placed, rendered, strict=True) if item is not None]
    hidden = [each for each, item in zip(placed, rendered, strict=True) if item is None]
    objects = _restored(_objects(said), visible)
    remainder = read_remainder(embedded_remainder(before, hidden, ImageSize()))
    tags = _classifications(said.labels)
    removed, replaced, added = _edited_tags(remainder.annotation.labels, shown, tags)
    annotation = reassemble(
        remainder,
        objects,
        size=ImageSize(),
        label_checked=label_checked,
        removed=removed,
        replaced=replaced,
        added=added,
    )
    changes = [*found.reading.changes]
    if annotation.object_count > said.object_count:
        changes += [Change(loss.what, loss.count, _HIDDEN, True) for loss in losses.losses]
    changes += (each.change for each in objects if each.change is not None)
    return Reading(annotation, count_changes(changes))


def _shown(
    document: DatasetDocument, annotation: Annotation, image: ImageInfo, classes: Sequence[str], losses: LossTally
) -> Annotation | None:
    """What a document says of an annotation; None if it does not name the image."""
    content = b"".join(document.chunks([DocumentEntry(image, _SPLIT, annotation)], classes, losses))
    return next((entry.reading.annotation for entry in document.read(content)), None)


def _alone(
    document: DatasetDocument,
    placed: PlacedObject,
    image: ImageInfo,
    classes: Sequence[str],
    found: Sequence[Outline],
) -> LabelledObject | None:
    """One object as the document shows it; None if it does not.

    One of a class that the document does not list was either not shown or had its class renamed: it was shown if an
    object is found in its place.
    """
    is_listed = placed.item.class_name in classes
    annotation = Annotation(label_checked=1, labels=(ObjectLabel(placed.label_type, (placed.item,)),))
    listed = classes if is_listed else (*classes, placed.item.class_name)
    shown = _shown(document, annotation, image, listed, LossTally())
    item = next(iter(_objects(shown)), None) if shown is not None else None
    return item if item is not None and (is_listed or match_outlines(_outlines([item]), found)) else None


def _objects(annotation: Annotation) -> list[LabelledObject]:
    return [placed.item for placed in placed_objects(annotation)]


def _restored(
    found: Sequence[LabelledObject], visible: Sequence[tuple[PlacedObject, LabelledObject]]
) -> list[RestoredObject]:
    """The objects of an entry, each in the light of the one that it was written from, if there is one."""
    known = [item for _, item in visible]
    now, then = _outlines(found), _outlines(known)
    unmoved = match_outlines(now, then)
    others = [index for index in range(len(found)) if index not in unmoved]
    left = sorted(set(range(len(known))).difference(unmoved.values()))
    again = match_moved([now[index] for index in others], [then[origin] for origin in left])
    origins = {**unmoved, **{others[index]: left[origin] for index, origin in again.items()}}
    return [
        _restored_one(item, *visible[origins[index]], is_moved=index not in unmoved)
        if index in origins
        else restored_object(None, item, class_name=item.class_name, extra=item.extra)
        for index, item in enumerate(found)
    ]


def _restored_one(
    item: LabelledObject, original: PlacedObject, was: LabelledObject, *, is_moved: bool
) -> RestoredObject:
    source = original.item
    now = _moved(item, source, was) if is_moved else source
    extra = source.extra if item.extra == was.extra else {**source.extra, **item.extra}
    class_name = source.class_name if item.class_name == was.class_name else item.class_name
    restored = restored_object(original, now, class_name=class_name, extra=extra)
    if original.label_type == restored.label_type:
        return restored
    reason = f"they became {OBJECT_NAMES[restored.label_type]}"
    return restored._replace(change=Change(OBJECT_NAMES[original.label_type], 1, reason))


def _moved(item: LabelledObject, source: LabelledObject, was: LabelledObject) -> LabelledObject:
    """An object in its new place; numbers that were not edited are the original's."""
    if isinstance(item, BoundingBox) and isinstance(source, BoundingBox) and isinstance(was, BoundingBox):
        return restored_bounding_box((item.x1, item.y1, item.x2, item.y2), source, (was.x1, was.y1, was.x2, was.y2))
    if isinstance(item, RotatedBox) and isinstance(source, RotatedBox) and isinstance(was, RotatedBox):
        same_angle = abs(item.a - was.a) * max(abs(item.w), abs(item.h)) <= SHOWN_TOLERANCE
        return restored_rotated_box(
            (item.x, item.y, item.w, item.h, item.a), source, (was.x, was.y, was.w, was.h), same_angle=same_angle
        )
    if isinstance(item, Polygon) and isinstance(source, Polygon) and isinstance(was, Polygon):
        exact = dict(zip(was.points, source.points, strict=False))
        return replace(source, points=tuple([exact.get(point, point) for point in item.points]))
    return item


def _outlines(items: Sequence[LabelledObject]) -> list[Outline]:
    return [_outline(item, points) for item, points in zip(items, outlines(items), strict=True)]


def _outline(item: LabelledObject, points: Sequence[Sequence[float]]) -> Outline:
    box = enclosing_box(item, points)
    numbers = tuple([float(number) for point in points for number in point])
    if isinstance(item, Mask):
        # Masks in one place differ in their run lengths.
        counts = item.counts if isinstance(item.counts, str) else compress_counts(item.counts)
        numbers = (*box, float(crc32(counts.encode())))
    size = (box.w, box.h)
    if isinstance(item, RotatedBox):
        size = (abs(item.w), abs(item.h))
    return Outline(
        OBJECT_LABEL_TYPES[type(item)], item.class_name, numbers, (box.x + box.w / 2, box.y + box.h / 2, *size)
    )


def _classifications(labels: Iterable[Label]) -> list[ClassificationLabel]:
    return [label for label in labels if isinstance(label, ClassificationLabel)]


def _edited_tags(
    labels: Sequence[Label], shown: Annotation | None, said: Sequence[ClassificationLabel]
) -> tuple[set[int], dict[int, Label], list[Label]]:
    """Which classifications were removed and replaced, by their indices, and which were added."""
    before = _classifications(shown.labels) if shown is not None else []
    if before == [*said] or (not before and not said):
        return set(), {}, []
    new = Counter((tag.label_name, tag.label) for tag in said)
    gone: list[int] = []
    for index, (place, label) in enumerate(_places(labels)):
        key = (
            (before[index].label_name, before[index].label) if index < len(before) else (label.label_name, label.label)
        )
        if new[key] > 0:
            new[key] -= 1
        else:
            gone.append(place)
    added = [ClassificationLabel(name, text) for (name, text), count in new.items() for _ in range(count)]
    replaced: dict[int, Label] = {}
    for place, label in _places(labels):
        again = next((tag for tag in added if place in gone and tag.label_name == label.label_name), None)
        if again is not None:
            replaced[place] = replace(label, label=again.label)
            added.remove(again)
    return {place for place in gone if place not in replaced}, replaced, [*added]


def _places(labels: Sequence[Label]) -> list[tuple[int, ClassificationLabel]]:
    return [(place, label) for place, label in enumerate(labels) if isinstance(label, ClassificationLabel)]
