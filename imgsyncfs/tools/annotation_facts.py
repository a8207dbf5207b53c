"""Facts about an annotation for the catalog and for reports."""

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
    """Facts about a house annotation.

    Attributes:
        byte_count: length of the JSON.
        md5: its digest, in hexadecimal.
        label_checked: 1 if a person has checked the labels, else 0.
        object_count: number of objects, classifications, values and unknown labels.
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
    """Describe an annotation whose JSON is `content`."""
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
    """Restore facts from decoded JSON."""
    return AnnotationFacts(**{**document, "classes": tuple(document["classes"])})


def size_warnings(annotation: Annotation, image: ImageFacts, name: str) -> tuple[str, ...]:
    """Warn if an annotation was made for an image of another size; an annotation without a size fits any image."""
    width = image.width if annotation.width is None else annotation.width
    height = image.height if annotation.height is None else annotation.height
    if (width, height) == (image.width, image.height):
        return ()
    warning = f"{name} is made for {width} x {height} pixels, its image has {image.width} x {image.height}"
    return (f"{warning}; the labels may not fit",)
