"""All annotations as one COCO document: as pycocotools reads it, and read back."""

from __future__ import annotations

import contextlib
import io
import time
import tracemalloc
from math import degrees, pi
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from support.annotation_strategies import house_annotations, unhurried
from support.document_entries import (
    CLASSES,
    HEIGHT,
    WIDTH,
    entry,
    many_entries,
    objects_of,
    shown_objects,
    written,
)

from imgsyncfs.annotations.geometry import corners, decode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    Polygon,
    RegressionLabel,
    RotatedBox,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.coco import CocoDocument
from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally

ROUNDING = 2e-6
"""Pixels: half of the last decimal, and what sums of such numbers add."""


def pixels(item: LabelledObject) -> Any:
    """What an object covers, as numbers that can be compared."""
    if isinstance(item, BoundingBox):
        return [item.x1, item.y1, item.x2, item.y2]
    if isinstance(item, RotatedBox):
        # Half a turn makes no other box: the corners then begin with another one.
        found = corners([item.x, item.y, item.w, item.h, item.a])[0]
        return sorted(map(tuple, found.round(4).tolist()))
    if isinstance(item, Polygon):
        return [number for point in item.points for number in point]
    return decode_run_length(item.size, item.counts).astype(int).ravel().tolist()


def opened(content: bytes, folder: Path) -> COCO:
    """The document as pycocotools reads it from a file."""
    path = folder / "instances.json"
    path.write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def shown(*items: LabelledObject) -> list[dict[str, Any]]:
    content, _ = written(CocoDocument(), [entry(*items)])
    found: list[dict[str, Any]] = orjson.loads(content)["annotations"]
    return found


def test_ids_begin_with_one_and_categories_stand_in_the_order_of_the_classes() -> None:
    box = BoundingBox("face", 1, 2, 3, 4)
    content, losses = written(CocoDocument(), [entry(box, box, name="a"), entry(box, name="b")], ["person", "face"])
    document = orjson.loads(content)
    assert losses == ()
    assert [(each["id"], each["name"]) for each in document["categories"]] == [(1, "person"), (2, "face")]
    assert all(each["supercategory"] not in {"none", ""} for each in document["categories"])
    assert [(each["id"], each["file_name"]) for each in document["images"]] == [(1, "a.jpg"), (2, "b.jpg")]
    assert [(each["id"], each["image_id"], each["category_id"]) for each in document["annotations"]] == [
        (1, 1, 2),
        (2, 1, 2),
        (3, 2, 2),
    ]


def test_a_bounding_box_is_its_corner_and_size() -> None:
    [found] = shown(BoundingBox("face", 1.5, 2, 4, 10))
    assert (found["bbox"], found["area"], found["segmentation"]) == ([1.5, 2.0, 2.5, 8.0], 20.0, [])


def test_a_rotated_box_is_its_corners_the_box_around_and_the_angle() -> None:
    [found] = shown(RotatedBox("face", 10, 20, 8, 4, pi / 2))
    assert found["bbox"] == [8, 16, 4, 8]
    assert found["segmentation"] == [[12, 16, 12, 24, 8, 24, 8, 16]]
    assert (found["area"], found["attributes"]) == (32, {"rotation": 90.0})


def test_an_image_lies_where_its_path_says() -> None:
    image = ImageInfo("dataset", "a", "jpg", HEIGHT, WIDTH, path="train/a.jpg")
    content, _ = written(CocoDocument(), [DocumentEntry(image, "train", Annotation(label_checked=1))])
    assert orjson.loads(content)["images"] == [{"id": 1, "file_name": "train/a.jpg", "height": HEIGHT, "width": WIDTH}]


def test_an_image_seen_and_empty_is_listed_and_one_that_nobody_has_seen_is_counted() -> None:
    unseen = [entry(name="b", checked=0), DocumentEntry(ImageInfo("dataset", "c", "jpg"), "train", None)]
    content, [loss] = written(CocoDocument(), [entry(name="a"), *unseen])
    assert [each["file_name"] for each in orjson.loads(content)["images"]] == ["a.jpg"]
    assert (loss.what, loss.count) == ("images that nobody has looked at", 2)


def test_what_is_not_shown_is_counted_by_kind() -> None:
    labels = (ClassificationLabel("Gender", "Female"), RegressionLabel("Age", 4, {"unit": "years"}))
    full = Annotation(label_checked=1, labels=labels, extra={"by": "me"})
    _, losses = written(
        CocoDocument(),
        [
            DocumentEntry(ImageInfo("dataset", "a", "jpg"), "train", full),
            entry(BoundingBox("face", 1, 1, 1, 5), Polygon("face", ((1, 1), (2, 2))), Mask("face", (2, 2), (4,))),
            entry(BoundingBox("face", -1.7e308, 0, 1.7e308, 1)),
            entry(BoundingBox("unlisted", 0, 0, 1, 1)),
        ],
        CLASSES,
    )
    assert {loss.what: loss.count for loss in losses} == {
        "classifications": 1,
        "regression values": 1,
        "keys that the house format does not know": 2,
        "objects without an area": 2,
        "polygons of fewer than three points": 1,
        "objects whose numbers are too large": 1,
        "objects of the class 'unlisted'": 1,
    }


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning:pycocotools")
@settings(unhurried, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(st.lists(shown_objects, max_size=4), max_size=3))
def test_pycocotools_reads_every_box_and_mask(items: list[list[LabelledObject]], tmp_path: Path) -> None:
    content, losses = written(CocoDocument(), [entry(*each, name=str(n)) for n, each in enumerate(items)])
    coco = opened(content, tmp_path)
    assert losses == ()
    assert len(coco.imgs) == len(items)
    assert len(coco.anns) == sum(map(len, items))
    for number, each in enumerate(items, 1):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        by_type = objects_of(entry(*each).annotation)
        assert [coco.cats[annotation["category_id"]]["name"] for annotation in found] == [
            item.class_name for item in by_type
        ]
        for annotation, item in zip(found, by_type, strict=True):
            if isinstance(item, Mask):
                drawn = decode_run_length(item.size, item.counts)
                assert np.array_equal(coco.annToMask(annotation).astype(bool), drawn)
                assert annotation["area"] == drawn.sum()
            elif isinstance(item, BoundingBox):
                x, y, w, h = annotation["bbox"]
                assert [x, y, x + w, y + h] == pytest.approx(pixels(item), abs=ROUNDING)
            elif isinstance(item, RotatedBox):
                outline = np.reshape(annotation["segmentation"], (4, 2))
                assert outline == pytest.approx(corners([item.x, item.y, item.w, item.h, item.a])[0], abs=ROUNDING)
                turns = (degrees(item.a) - annotation["attributes"]["rotation"]) / 180
                assert turns == pytest.approx(round(turns), abs=1e-7)
                assert coco.annToMask(annotation).shape == (HEIGHT, WIDTH)


@unhurried
@given(st.lists(shown_objects, max_size=5))
def test_what_is_written_is_read_back_within_rounding(items: list[LabelledObject]) -> None:
    content, _ = written(CocoDocument(), [entry(*items)])
    [found] = CocoDocument().read(content)
    assert found.reading.changes == ()
    assert (found.image.name, found.image.ext, found.image.path) == ("a", "jpg", "a.jpg")
    before, after = objects_of(entry(*items).annotation), objects_of(found.reading.annotation)
    assert [(type(item), item.class_name) for item in after] == [(type(item), item.class_name) for item in before]
    for one, other in zip(before, after, strict=True):
        if isinstance(one, RotatedBox):
            # A corner at the edge of a decimal may be sorted before or behind another one.
            assert np.abs(np.subtract(pixels(one), pixels(other))).max() < 2e-4 or _same_corners(one, other)
        else:
            assert pixels(other) == pytest.approx(pixels(one), abs=ROUNDING)


def _same_corners(one: LabelledObject, other: LabelledObject) -> bool:
    found = [np.array(pixels(each)) for each in (one, other)]
    return bool((np.abs(found[0][:, None] - found[1][None]).max(axis=2).min(axis=1) < 2e-4).all())


@unhurried
@given(st.lists(house_annotations, max_size=4))
def test_every_house_annotation_can_be_written_and_every_object_is_shown_or_counted(
    labelled: list[Annotation],
) -> None:
    entries = [
        DocumentEntry(ImageInfo("dataset", str(number), "jpg"), "train", annotation)
        for number, annotation in enumerate(labelled)
    ]
    content, losses = written(CocoDocument(), entries)
    found = orjson.loads(content)["annotations"]
    assert content.isascii()
    objects = sum(len(objects_of(each.annotation)) for each in entries)
    not_shown = ("objects ", "polygons ")
    assert len(found) + sum(loss.count for loss in losses if loss.what.startswith(not_shown)) == objects
    assert all(annotation["bbox"][2] > 0 and annotation["bbox"][3] > 0 for annotation in found)


def test_the_same_entries_give_the_same_bytes() -> None:
    one, other = (written(CocoDocument(), many_entries(20))[0] for _ in range(2))
    assert one == other


# Documents of other tools

FOREIGN: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "train\\x.y.png", "height": HEIGHT, "width": WIDTH}],
    "categories": [{"id": 3, "name": "car"}],
    "annotations": [],
}


def foreign(*found: dict[str, Any]) -> bytes:
    return orjson.dumps({**FOREIGN, "annotations": [{"image_id": 7, "category_id": 3, **each} for each in found]})


def read_foreign(*found: dict[str, Any]) -> list[LabelledObject]:
    [image] = CocoDocument().read(foreign(*found))
    return objects_of(image.reading.annotation)


def test_a_box_that_cvat_has_turned_is_a_rotated_box() -> None:
    attributes = {"rotation": 90.0, "occluded": False}
    [box] = read_foreign({"bbox": [10, 20, 8, 4], "segmentation": [], "attributes": attributes})
    assert box == RotatedBox("car", 14, 22, 8, 4, pi / 2, {"attributes": {"occluded": False}})


def test_a_box_that_cvat_has_not_turned_is_a_bounding_box() -> None:
    assert read_foreign({"bbox": [0.1, 0.2, 0.2, 0.4], "attributes": {"rotation": 0.0}}) == [
        BoundingBox("car", 0.1, 0.2, 0.3, 0.6)
    ]


def test_a_crowd_keeps_its_run_lengths_and_its_mark() -> None:
    rle = {"size": [2, 2], "counts": [1, 2, 1]}
    assert read_foreign({"segmentation": rle, "iscrowd": 1}) == [Mask("car", (2, 2), (1, 2, 1), {"iscrowd": 1})]


def test_the_parts_of_a_polygon_become_objects_and_that_is_said() -> None:
    parts = [[0, 0, 1, 0, 1, 1], [5, 5, 6, 5, 6, 6]]
    [image] = CocoDocument().read(foreign({"segmentation": parts}, {"keypoints": [1, 2, 2]}))
    assert len(objects_of(image.reading.annotation)) == 2
    assert [(change.what, change.count) for change in image.reading.changes] == [
        ("polygons of several parts", 1),
        ("groups of keypoints", 1),
        ("annotations without box and segmentation", 1),
    ]


def test_a_windows_path_is_taken_apart() -> None:
    [image] = CocoDocument().read(orjson.dumps(FOREIGN))
    assert (image.image.name, image.image.ext, image.image.path) == ("x.y", "png", "train\\x.y.png")


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b"{}", "categories"),
        (orjson.dumps({**FOREIGN, "images": [{}]}), "images[0].id"),
        (orjson.dumps({**FOREIGN, "images": [{"id": 7}]}), "images[0].file_name"),
        (orjson.dumps({**FOREIGN, "annotations": [{"image_id": 8}]}), "annotations[0].image_id"),
        (foreign({"category_id": 4}), "annotations[0].category_id"),
        (foreign({"bbox": [1, 2, 3]}), "annotations[0].bbox"),
        (foreign({"bbox": [1, 2, "3", 4]}), "annotations[0].bbox"),
        (foreign({"segmentation": [[1, 2, 3]]}), "annotations[0].segmentation[0]"),
        (foreign({"segmentation": {"size": [2, 2], "counts": [1]}}), "annotations[0].rle.counts"),
    ],
)
def test_a_damaged_document_is_an_error_that_says_where(content: bytes, field: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        list(CocoDocument().read(content))
    assert caught.value.field == field


# Size


def test_ten_thousand_annotations_take_bounded_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        length = sum(map(len, CocoDocument(tmp_path).chunks(many_entries(10_000, objects=2), CLASSES, LossTally())))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length > 4_000_000
    # What may wait in memory, and its copy when it goes to a file.
    assert peak < 3_500_000


def test_ten_thousand_annotations_take_seconds(tmp_path: Path) -> None:
    entries = list(many_entries(10_000))
    started = time.process_time()
    for _ in CocoDocument(tmp_path).chunks(entries, CLASSES, LossTally()):
        pass
    assert time.process_time() - started < 12
