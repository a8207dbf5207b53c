"""What the catalog and the one who publishes want to know about an annotation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgsyncfs.annotations.house_format import ClassificationLabel, ObjectLabel
from imgsyncfs.blob_layout import cut_into_extents, extent_digests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.tools.images import ImageFacts


@dataclass(frozen=True, slots=True)
class AnnotationFacts:
    """What a house annotation is.

    Attributes:
        byte_count: length of the JSON.
        md5: its digest, in hexadecimal.
        label_checked: 1 if a person has checked the labels, else 0.
        object_count: number of labelled things.
        classes: classes of the objects and names of the classifications, each once, in the order of the file.
        extents: `imgsyncfs.blob_layout.extent_digests` of the JSON.
    """

    byte_count: int
    md5: str
    label_checked: int
    object_count: int
    classes: tuple[str, ...]
    extents: str = ""


def describe_annotation(annotation: Annotation, content: bytes) -> AnnotationFacts:
    """Say what an annotation is whose JSON is `content`."""
    classes: dict[str, None] = {}
    for label in annotation.labels:
        if isinstance(label, ObjectLabel):
            classes.update((item.class_name, None) for item in label.objects)
        elif isinstance(label, ClassificationLabel):
            classes[label.label_name] = None
    return AnnotationFacts(
        byte_count=len(content),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        label_checked=annotation.label_checked,
        object_count=annotation.object_count,
        classes=tuple(classes),
        extents=extent_digests(cut_into_extents(content), len(content)),
    )


def annotation_facts_from_json(document: Mapping[str, Any]) -> AnnotationFacts:
    """Make facts again from what JSON made of them."""
    return AnnotationFacts(**{**document, "classes": tuple(document["classes"])})


def size_warnings(annotation: Annotation, image: ImageFacts, name: str) -> tuple[str, ...]:
    """Say whether an annotation was made for an image of another size; nothing if it says no size."""
    width = image.width if annotation.width is None else annotation.width
    height = image.height if annotation.height is None else annotation.height
    if (width, height) == (image.width, image.height):
        return ()
    warning = f"{name} is made for {width} x {height} pixels, its image has {image.width} x {image.height}"
    return (f"{warning}; the labels may not fit",)
