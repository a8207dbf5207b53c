"""Entries for whole-dataset documents, and documents written from them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from math import pi

import numpy as np
from hypothesis import strategies as st

from imgsyncfs.annotations.classes import class_names, class_order
from imgsyncfs.annotations.geometry import encode_run_length
from imgsyncfs.annotations.house_format import (
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
from imgsyncfs.formats.contract import ImageInfo, Loss
from imgsyncfs.formats.dataset_documents.contract import (
    DatasetDocument,
    DocumentEntry,
    LossTally,
    grouped_labels,
)
from support.annotation_strategies import compress_counts

CLASSES = ("person", "face", "人 & <car>")
HEIGHT, WIDTH = 48, 64

places = st.floats(-100, 4000)
sides = st.floats(0.01, 4000)
class_choice = st.sampled_from(CLASSES)
upright = st.builds(
    lambda name, x, y, w, h: BoundingBox(name, x, y, x + w, y + h), class_choice, places, places, sides, sides
)
rotated = st.builds(RotatedBox, class_choice, places, places, sides, sides, st.floats(-10, 10))
outlines = st.builds(
    lambda name, x, y, w, h, points: Polygon(name, ((x, y), (x + w, y), (x, y + h), *points)),
    class_choice,
    places,
    places,
    sides,
    sides,
    st.lists(st.tuples(places, places), max_size=5),
)


@st.composite
def covering_masks(draw: st.DrawFn) -> Mask:
    """Masks of the size `HEIGHT` x `WIDTH` that cover something."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    for _ in range(draw(st.integers(1, 3))):
        y, x = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
        mask[y : draw(st.integers(y + 1, HEIGHT)), x : draw(st.integers(x + 1, WIDTH))] = True
    counts = encode_run_length(mask)
    return Mask(draw(class_choice), (HEIGHT, WIDTH), tuple(counts) if draw(st.booleans()) else compress_counts(counts))


shown_objects: st.SearchStrategy[LabelledObject] = st.one_of(upright, rotated, outlines, covering_masks())
"""Objects that every format can show in one way or another."""


def entry(*items: LabelledObject, name: str = "a", checked: int = 1, split: str = "train") -> DocumentEntry:
    """An image with these objects."""
    annotation = Annotation(label_checked=checked, height=HEIGHT, width=WIDTH, ext="jpg", labels=grouped_labels(items))
    return DocumentEntry(ImageInfo("dataset", name, "jpg", HEIGHT, WIDTH), split, annotation)


def written(
    document: DatasetDocument, entries: Iterable[DocumentEntry], classes: Sequence[str] | None = None
) -> tuple[bytes, tuple[Loss, ...]]:
    """A document of these entries, and what it does not show."""
    entries = list(entries)
    if classes is None:
        found = {name for each in entries if each.annotation for name in class_names(each.annotation)}
        classes = class_order(CLASSES, found)
    losses = LossTally()
    content = b"".join(document.chunks(entries, classes, losses))
    return content, losses.losses


def objects_of(annotation: Annotation | None) -> list[LabelledObject]:
    """All objects of an annotation, in order."""
    assert annotation is not None
    return [item for label in annotation.labels if isinstance(label, ObjectLabel) for item in label.objects]


def many_entries(count: int, *, objects: int = 8) -> Iterator[DocumentEntry]:
    """Images of all kinds of labels, made one at a time as they are asked for; the same ones at each call."""
    chance = random.Random(16)
    mask = Mask(CLASSES[0], (HEIGHT, WIDTH), compress_counts([100, 20, 28, 20, HEIGHT * WIDTH - 168]))
    for number in range(count):
        items: list[LabelledObject] = []
        for place in range(objects):
            x, y, w, h = (chance.uniform(1, 1000) for _ in range(4))
            name = CLASSES[place % 3]
            if place % 8 == 7:
                items.append(mask)
            elif place % 8 == 6:
                items.append(Polygon(name, ((x, y), (x + w, y), (x + w, y + h), (x, y + h), (x - 1, y + h / 2))))
            elif place % 2:
                items.append(RotatedBox(name, x, y, w, h, chance.uniform(0, pi)))
            else:
                items.append(BoundingBox(name, x, y, x + w, y + h))
        labels: tuple[Label, ...] = (*grouped_labels(items), ClassificationLabel("Gender", "Female"))
        yield DocumentEntry(
            ImageInfo("dataset", f"image_{number:07}", "jpg", HEIGHT, WIDTH),
            "train",
            Annotation(label_checked=1, height=HEIGHT, width=WIDTH, ext="jpg", labels=labels),
        )
