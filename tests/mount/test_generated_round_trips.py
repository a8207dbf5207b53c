"""House to each format that can be read, and back, for generated annotations of all label types.

Without the annotations that the files were written from: what comes back is what the files hold, to their rounding.
With ``IMGSYNCFS_GENERATED_IMAGES=10000`` it takes half a minute, and so is not in the layer that is to end within one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import orjson
import pytest
from support.document_entries import written
from support.generated_dataset import CLASSES, COUNT, HEIGHT, WIDTH, named_annotations
from support.house_boxes import HouseObject, mask_pixels, objects_of

from imgsyncfs.annotations.house_format import Annotation, annotation_to_json, parse_annotation
from imgsyncfs.formats.contract import Format, ImageInfo
from imgsyncfs.formats.dataset_documents.coco import CocoDocument
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry
from imgsyncfs.formats.dataset_documents.cvat import CvatDocument
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS

pytestmark = pytest.mark.timeout(60 + COUNT / 25)

Shown = Sequence[tuple[str, str, Sequence[tuple[float, float]]]]
"""Label type, class and outline of each object."""


@cache
def generated() -> tuple[tuple[ImageInfo, Annotation], ...]:
    """The images that have an annotation."""
    return tuple(
        (
            ImageInfo("dataset", name, "jpg", HEIGHT, WIDTH, 3, classes=CLASSES),
            parse_annotation(orjson.dumps(content)),
        )
        for name, content in named_annotations()
        if content is not None
    )


def objects_in(annotation: Annotation) -> tuple[HouseObject, ...]:
    """Its objects, placed otherwise than the project does it."""
    return objects_of(annotation_to_json(annotation))


def check(found: Annotation, expected: Shown, rounding: float) -> None:
    seen = objects_in(found)
    assert [(item.label_type, item.name) for item in seen] == [(kind, name) for kind, name, _ in expected]
    for item, (_, _, outline) in zip(seen, expected, strict=True):
        # Half a turn leaves a box where it is.
        turned = (outline, [*outline[2:], *outline[:2]])
        assert any(len(item.outline) == len(each) and np.allclose(item.outline, each, atol=rounding) for each in turned)


@pytest.mark.parametrize("known", [FORMATS[name] for name in ("labelme", "xanylabeling", "rolabelimg", "voc")])
def test_formats_that_embed_what_they_do_not_show_give_the_same_annotation(known: Format) -> None:
    for image, annotation in generated():
        assert known.parse(known.render(annotation, image).content) == annotation


def in_dota(annotation: Annotation) -> Shown:
    return [
        ("rbbox" if item.label_type == "bbox" else item.label_type, item.name.replace(" ", "-"), item.outline)
        for item in objects_in(annotation)
        if item.label_type != "seg" and len(item.outline) == 4
    ]


def in_yolo(annotation: Annotation) -> Shown:
    return [("bbox", item.name, upright(item)) for item in objects_in(annotation)]


def upright(item: HouseObject) -> list[tuple[float, float]]:
    left, top, right, bottom = item.edges
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def in_yolo_obb(annotation: Annotation) -> Shown:
    return [
        ("poly" if item.label_type == "poly" else "rbbox", item.name, item.outline)
        for item in objects_in(annotation)
        if item.label_type != "seg" and len(item.outline) == 4
    ]


def in_yolo_seg(annotation: Annotation) -> Shown:
    return [("poly", item.name, item.outline) for item in objects_in(annotation) if item.label_type != "seg"]


def is_inside(annotation: Annotation) -> bool:
    """Whether no object reaches beyond the picture: its corners would be cut, and a box be no rectangle any more."""
    return all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for item in objects_in(annotation) for x, y in item.outline)


@pytest.mark.parametrize(
    ("known", "shown", "rounding"),
    [
        (FORMATS["dota"], in_dota, 1e-9),
        (NUMBERED_FORMATS["yolo"], in_yolo, 1e-4),
        (NUMBERED_FORMATS["yolo-obb"], in_yolo_obb, 1e-4),
        (NUMBERED_FORMATS["yolo-seg"], in_yolo_seg, 1e-4),
    ],
    ids=["dota", "yolo", "yolo-obb", "yolo-seg"],
)
def test_formats_of_rows_give_back_what_they_show(
    known: Format, shown: Callable[[Annotation], Shown], rounding: float
) -> None:
    seen = 0
    for image, annotation in generated():
        if is_inside(annotation):
            seen += 1
            found = known.read(known.render(annotation, image).content, image=image).annotation
            check(found, shown(annotation), rounding)
    assert seen > COUNT / 2


def masks_in(annotation: Annotation) -> list[bytes]:
    return [mask_pixels(item.content["rle"]).tobytes() for item in objects_in(annotation) if item.label_type == "seg"]


def entries() -> Iterator[DocumentEntry]:
    for image, annotation in generated():
        yield DocumentEntry(image, "train", annotation)


@pytest.mark.parametrize("document", [CocoDocument(), CvatDocument()], ids=["coco", "cvat"])
def test_documents_give_back_every_object_of_every_image(document: DatasetDocument) -> None:
    content, _ = written(document, entries(), CLASSES)
    found = {each.image.name: each.reading.annotation for each in document.read(content)}
    looked_at = 0
    for image, annotation in generated():
        if annotation.label_checked or annotation.object_count:
            looked_at += 1
            expected = [(item.label_type, item.name, item.outline) for item in objects_in(annotation)]
            check(found[image.name], expected, 2e-6)
            assert masks_in(found[image.name]) == masks_in(annotation)
    assert looked_at > COUNT / 2
