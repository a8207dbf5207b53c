"""What is said about an annotation on its way into a format or out of one: losses, changes of kind, unseen labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from imgsyncfs.annotations.house_format import (
    ClassificationLabel,
    Label,
    RegressionLabel,
    UnknownLabel,
)
from imgsyncfs.formats.contract import Change, Loss

LABELME_LABEL = "labelme"
"""The type of a label that holds a shape of labelme's for which the house format has no object."""

OBJECT_NAMES: Mapping[str, str] = MappingProxyType(
    {"bbox": "bounding boxes", "rbbox": "rotated boxes", "poly": "polygons", "seg": "masks"}
)
"""What the objects of labels are called, by the type of these."""

_SHAPE_NAMES: Mapping[str, str] = MappingProxyType(
    {"point": "points", "points": "groups of points", "circle": "circles", "line": "lines", "linestrip": "linestrips"}
)
_UNSEEN = "they are kept for labelme as they are, and no trainer sees them"
_UNKNOWN = "they are kept as they are, and no trainer sees them"


def labelme_shape(label: Label) -> Mapping[str, Any] | None:
    """The shape of labelme's that a label holds; None for any other label."""
    if isinstance(label, UnknownLabel) and label.content.get("label_type") == LABELME_LABEL:
        shape = label.content.get("shape")
        return shape if isinstance(shape, dict) else None
    return None


def shape_name(shape: Mapping[str, Any]) -> str:
    """What shapes of this type are called, in the plural."""
    shape_type = shape.get("shape_type")
    return _SHAPE_NAMES.get(str(shape_type), f"shapes of type {str(shape_type)!r:.40}")


def count_losses(
    labels: Iterable[Label],
    hidden: Iterable[tuple[str, str]],
    tool: str,
    *,
    shows_classifications: bool,
    shown: Collection[int] = (),
) -> tuple[Loss, ...]:
    """Count what a file does not show.

    Args:
        labels: the annotation's.
        hidden: (what, reason) of each object that is not shown.
        tool: the tool's name.
        shows_classifications: whether the tool has a place for them.
        shown: indices of labels that hold no objects and are shown all the same.
    """
    found: list[tuple[str, str]] = []
    for index, label in enumerate(labels):
        if index in shown:
            continue
        shape = labelme_shape(label)
        if shape is not None:
            found.append((shape_name(shape), f"{tool} cannot show them"))
        elif isinstance(label, UnknownLabel):
            found.append(("labels of unknown types", "nothing is known of how to show them"))
        elif isinstance(label, RegressionLabel):
            found.append(("regression values", f"{tool} has no place for numbers about an image"))
        elif isinstance(label, ClassificationLabel) and not shows_classifications:
            found.append(("classifications", f"{tool} has no place for words about an image"))
    return tuple([Loss(what, count, reason) for (what, reason), count in Counter([*found, *hidden]).items()])


def count_changes(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Add up changes of the same kind, in the order in which they first appear."""
    counts: dict[Change, int] = {}
    for change in changes:
        kind = Change(change.what, 0, change.reason, change.is_harmless)
        counts[kind] = counts.get(kind, 0) + change.count
    return tuple([Change(kind.what, count, kind.reason, kind.is_harmless) for kind, count in counts.items()])


def unseen_labels(labels: Iterable[Label]) -> tuple[Change, ...]:
    """Count the labels that no trainer sees."""
    found = []
    for label in labels:
        shape = labelme_shape(label)
        if shape is not None:
            found.append(Change(shape_name(shape), 1, _UNSEEN))
        elif isinstance(label, UnknownLabel):
            found.append(Change(f"labels of type {str(label.content.get('label_type'))!r:.40}", 1, _UNKNOWN))
    return count_changes(found)
