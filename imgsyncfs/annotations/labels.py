"""What can be labelled in an image, as typed, frozen objects: the words of the house format.

Pixel coordinates, x to the right, y down. Whatever the house format does not know travels in ``extra``. How these
objects are read and written is `imgsyncfs.annotations.house_format`'s job, which also gives all of these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

ANNO_VERSION = "0.2.0"


@dataclass(frozen=True)
class BoundingBox:
    """An upright box from its top left (x1, y1) to its bottom right (x2, y2), in pixels."""

    class_name: str
    x1: float
    y1: float
    x2: float
    y2: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RotatedBox:
    """A box around (x, y), w by h pixels, turned clockwise on screen by `a` radians."""

    class_name: str
    x: float
    y: float
    w: float
    h: float
    a: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Polygon:
    """A closed outline through `points`, each (x, y) in pixels."""

    class_name: str
    points: tuple[tuple[float, float], ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mask:
    """A region as COCO run lengths (column by column, starting with background).

    Attributes:
        class_name: what the region shows.
        size: (height, width) of the whole mask in pixels.
        counts: the run lengths, or COCO's compressed text of them; as they came.
        extra: unknown keys of the object; unknown keys of its ``rle`` stand under ``rle``.
    """

    class_name: str
    size: tuple[int, int]
    counts: tuple[int, ...] | str
    extra: Mapping[str, Any] = field(default_factory=dict)


LabelledObject: TypeAlias = BoundingBox | RotatedBox | Polygon | Mask

OBJECT_LABEL_TYPES: Mapping[type[LabelledObject], str] = MappingProxyType(
    {BoundingBox: "bbox", RotatedBox: "rbbox", Polygon: "poly", Mask: "seg"}
)
"""The type of the label that holds objects of a class."""


@dataclass(frozen=True)
class ObjectLabel:
    """Objects of one ``label_type``: bbox (`BoundingBox`), rbbox (`RotatedBox`), poly (`Polygon`) or seg (`Mask`)."""

    label_type: str
    objects: tuple[LabelledObject, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassificationLabel:
    """A word about the whole image (``clf``), such as Gender: Female."""

    label_name: str
    label: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RegressionLabel:
    """A number about the whole image (``reg``), such as Age: 42."""

    label_name: str
    label: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UnknownLabel:
    """A label of a type that is not known here, kept as it came."""

    content: Mapping[str, Any]


Label: TypeAlias = ObjectLabel | ClassificationLabel | RegressionLabel | UnknownLabel


@dataclass(frozen=True)
class Annotation:
    """Everything that is labelled in one image.

    Attributes:
        anno_version: version of the house format.
        label_checked: 1 when somebody has looked at the image, 0 when nobody has.
        height: of the image in pixels, None if unknown.
        width: as `height`.
        depth: of the image in channels, None if unknown.
        ext: the image file's extension without a dot, None if unknown.
        labels: in the file's order.
        extra: unknown keys.
    """

    anno_version: str = ANNO_VERSION
    label_checked: int = 0
    height: int | None = None
    width: int | None = None
    depth: int | None = None
    ext: str | None = None
    labels: tuple[Label, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def object_count(self) -> int:
        """How many things are labelled: objects, clf and reg entries, unknown labels."""
        return sum(len(label.objects) if isinstance(label, ObjectLabel) else 1 for label in self.labels)
