"""All annotations as CVAT's XML: as CVAT wants it, and read back."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from math import pi, radians
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations, names, unhurried
from support.cvat_reader import read_strictly
from support.document_entries import (
    CLASSES,
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
from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally
from imgsyncfs.formats.dataset_documents.cvat import CvatDocument

ROUNDING = 2e-6


def read(content: bytes) -> list[Annotation]:
    return [each.reading.annotation for each in CvatDocument().read(content)]


def document(*elements: str, image: str = 'id="0" name="a.jpg" width="64" height="48"') -> bytes:
    """A document of another tool with one image."""
    return f'<?xml version="1.0"?><annotations><image {image}>{"".join(elements)}</image></annotations>'.encode()


def test_a_rotated_box_is_the_unturned_box_and_its_degrees_clockwise() -> None:
    content, _ = written(CvatDocument(), [entry(RotatedBox("face", 10, 20, 8, 4, pi / 6))])
    [image] = read_strictly(content)
    [shape] = image["shapes"]
    assert (shape["kind"], shape["edges"], shape["rotation"]) == ("box", [6, 18, 14, 22], 30)


def test_a_mask_is_the_runs_along_the_rows_of_what_it_covers() -> None:
    # Columns of a 2 x 3 mask: nothing, its lower pixel, both pixels.
    content, _ = written(CvatDocument(), [entry(Mask("face", (2, 3), (3, 3)))])
    [image] = read_strictly(content)
    assert image["shapes"] == [
        {"kind": "mask", "label": "face", "attributes": {}, "runs": [1, 3], "place": [1, 0, 2, 2]}
    ]


def test_classifications_are_tags_whose_labels_are_told_before_the_images() -> None:
    labels = (ClassificationLabel("Gender", "Female"), ClassificationLabel("person", "yes"))
    labelled = DocumentEntry(ImageInfo("dataset", "a", "jpg", 1, 1), "test", Annotation(label_checked=1, labels=labels))
    content, losses = written(CvatDocument(), [entry(BoundingBox("person", 1, 2, 3, 4)), labelled])
    assert losses == ()
    _, image = read_strictly(content)
    assert image["subset"] == "test"
    assert [(shape["kind"], shape["label"], shape["attributes"]) for shape in image["shapes"]] == [
        ("tag", "Gender", {"value": "Female"}),
        ("tag", "person", {"value": "yes"}),
    ]
    assert read(content)[1].labels == labels


def test_the_directory_of_images_is_no_part_of_their_names() -> None:
    beside = entry(name="b")
    below = replace(beside, image=replace(beside.image, path="images/a.jpg"))
    elsewhere = replace(beside, image=replace(beside.image, path="more/a.jpg"))
    content, _ = written(CvatDocument(), [beside, below, elsewhere])
    assert [image["name"] for image in read_strictly(content)] == ["b.jpg", "a.jpg", "more/a.jpg"]


def test_a_document_without_images_is_a_document() -> None:
    content, _ = written(CvatDocument(), [])
    assert read_strictly(content) == []
    assert read(content) == []


def test_each_split_is_a_subset_with_a_task() -> None:
    content, _ = written(CvatDocument(), [entry(name=split, split=split) for split in ("train", "test", "validation")])
    assert [image["subset"] for image in read_strictly(content)] == ["train", "test", "validation"]
    assert [each.split for each in CvatDocument().read(content)] == ["train", "test", "validation"]


def test_an_image_that_nobody_has_seen_is_there_to_be_labelled() -> None:
    content, losses = written(CvatDocument(), [DocumentEntry(ImageInfo("dataset", "a", "jpg", 3, 4), "train", None)])
    assert [image["name"] for image in read_strictly(content)] == ["a.jpg"]
    assert losses == ()


def test_what_is_not_shown_is_counted_by_kind() -> None:
    labels = (RegressionLabel("Age", 4),)
    _, losses = written(
        CvatDocument(),
        [
            DocumentEntry(ImageInfo("dataset", "a", "jpg"), "train", Annotation(labels=labels)),
            entry(Polygon("face", ((1, 1), (2, 2))), Mask("face", (2, 2), (4,)), BoundingBox("\x01", 0, 0, 1, 1)),
            entry(RotatedBox("face", 1.7e308, 0, 1.7e308, 1, 0), BoundingBox("unlisted", 0, 0, 1, 1)),
        ],
        [*CLASSES, "\x01"],
    )
    assert {loss.what: loss.count for loss in losses} == {
        "regression values": 1,
        "polygons of fewer than three points": 1,
        "masks that cover nothing": 1,
        "objects whose numbers are too large": 1,
        "objects of the class 'unlisted'": 1,
        "names with characters that XML cannot hold": 1,
    }


@unhurried
@given(st.lists(st.lists(shown_objects, max_size=4), max_size=3))
def test_what_is_written_is_read_back_within_rounding(items: list[list[LabelledObject]]) -> None:
    content, losses = written(CvatDocument(), [entry(*each, name=str(n)) for n, each in enumerate(items)])
    assert losses == ()
    assert [len(image["shapes"]) for image in read_strictly(content)] == list(map(len, items))
    found = list(CvatDocument().read(content))
    assert [(each.image.name, each.split) for each in found] == [(str(n), "train") for n in range(len(items))]
    for each, image in zip(items, found, strict=True):
        before, after = objects_of(entry(*each).annotation), objects_of(image.reading.annotation)
        assert [(type(item), item.class_name) for item in after] == [(type(item), item.class_name) for item in before]
        for one, other in zip(before, after, strict=True):
            assert is_same(one, other)


def is_same(one: LabelledObject, other: LabelledObject) -> bool:
    """Whether an object is the other one within rounding."""
    if isinstance(one, BoundingBox) and isinstance(other, BoundingBox):
        edges = [(each.x1, each.y1, each.x2, each.y2) for each in (one, other)]
        return bool(edges[1] == pytest.approx(edges[0], abs=ROUNDING))
    if isinstance(one, RotatedBox) and isinstance(other, RotatedBox):
        half_turns = (one.a - other.a) / pi
        return abs(half_turns - round(half_turns)) < 1e-6 and (other.x, other.y, other.w, other.h) == pytest.approx(
            (one.x, one.y, one.w, one.h), abs=ROUNDING
        )
    if isinstance(one, Polygon) and isinstance(other, Polygon):
        return bool(np.array(other.points) == pytest.approx(np.array(one.points), abs=ROUNDING))
    assert isinstance(one, Mask)
    assert isinstance(other, Mask)
    return np.array_equal(decode_run_length(other.size, other.counts), decode_run_length(one.size, one.counts))


@unhurried
@given(names, names, names)
def test_names_of_any_characters_make_a_document_that_cvat_takes(name: str, label: str, value: str) -> None:
    item = BoundingBox(name, 0, 0, 1, 1)
    labelled = entry(item, name=f"{name}x")
    assert labelled.annotation is not None
    labels = (*labelled.annotation.labels, ClassificationLabel(label, value))
    content, _ = written(
        CvatDocument(), [replace(labelled, annotation=replace(labelled.annotation, labels=labels))], [name]
    )
    [image] = read_strictly(content)
    assert len(image["shapes"]) == 2
    if f"{name}{label}{value}".isprintable() and name.strip() and label.strip():
        assert image["name"] == f"{name}x.jpg"
        assert read(content)[0].labels == labels


@unhurried
@given(st.lists(house_annotations, max_size=4))
def test_every_house_annotation_can_be_written_and_every_object_is_shown_or_counted(
    labelled: list[Annotation],
) -> None:
    entries = [
        DocumentEntry(ImageInfo("dataset", str(number), "jpg", 5, 5), "train", annotation)
        for number, annotation in enumerate(labelled)
    ]
    content, losses = written(CvatDocument(), entries)
    shown = sum(shape["kind"] != "tag" for image in read_strictly(content) for shape in image["shapes"])
    objects = sum(len(objects_of(each.annotation)) for each in entries)
    not_shown = ("objects ", "polygons ", "masks that")
    assert shown + sum(loss.count for loss in losses if loss.what.startswith(not_shown)) == objects


def test_ten_thousand_annotations_take_bounded_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        length = sum(map(len, CvatDocument(tmp_path).chunks(many_entries(10_000, objects=2), CLASSES, LossTally())))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length > 4_000_000
    assert peak < 3_500_000


# Documents of CVAT itself


def test_a_box_that_cvat_has_turned_is_a_rotated_box() -> None:
    box = '<box label="car" xtl="6.00" ytl="18.00" xbr="14.00" ybr="22.00" rotation="300.50" occluded="0" z_order="0"/>'
    [annotation] = read(document(box))
    assert objects_of(annotation) == [RotatedBox("car", 10, 20, 8, 4, radians(300.5))]


def test_the_corners_of_a_turned_box_are_where_cvat_draws_them() -> None:
    [annotation] = read(document('<box label="car" xtl="6" ytl="18" xbr="14" ybr="22" rotation="90"/>'))
    [box] = objects_of(annotation)
    assert isinstance(box, RotatedBox)
    assert corners([box.x, box.y, box.w, box.h, box.a])[0] == pytest.approx(
        np.array([[12, 16], [12, 24], [8, 24], [8, 16]])
    )


def test_a_mask_is_put_into_the_whole_image() -> None:
    [annotation] = read(
        document(
            '<mask label="car" rle="1, 3" left="1" top="0" width="2" height="2"/>',
            image='name="a" width="3" height="2"',
        )
    )
    assert objects_of(annotation) == [Mask("car", (2, 3), (3, 3))]


def test_tags_are_classifications_and_attributes_of_shapes_are_kept() -> None:
    [annotation] = read(
        document(
            '<tag label="cat"/>',
            '<tag label="person"><attribute name="gender">Female</attribute></tag>',
            '<polygon label="car" points="1,2;3,4;5,6"><attribute name="color">red</attribute></polygon>',
        )
    )
    polygon = Polygon("car", ((1, 2), (3, 4), (5, 6)), {"attributes": {"color": "red"}})
    assert objects_of(annotation) == [polygon]
    assert annotation.labels[1:] == (ClassificationLabel("tag", "cat"), ClassificationLabel("gender", "Female"))


def test_shapes_that_the_house_format_has_not_are_counted() -> None:
    [image] = CvatDocument().read(
        document('<polyline label="a" points="1,2;3,4"/>', "<!-- no shape -->", "<ellipse/>" * 2)
    )
    assert [(change.what, change.count) for change in image.reading.changes] == [("polylines", 1), ("ellipses", 2)]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"<annotations>", ""),
        (b"<annotation/>", ""),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><annotations><image name="&x;"/></annotations>', ""),
        (b"<annotations><track id='0'/></annotations>", "image[0]"),
        (document(image="id='0'"), "image[0].name"),
        (document('<box label="a" xtl="1" ytl="2" xbr="x" ybr="4"/>'), "image[0].box[0].xbr"),
        (document('<box xtl="1" ytl="2" xbr="3" ybr="4"/>'), "image[0].box[0].label"),
        (document('<polygon label="a" points="1,2;3"/>'), "image[0].polygon[0].points"),
        (document('<mask label="a" rle="1, 2" left="0" top="0" width="2" height="2"/>'), "image[0].mask[0].rle"),
        (document('<mask label="a" rle="4" left="63" top="0" width="2" height="2"/>'), "image[0].mask[0].rle"),
        (
            document('<mask label="a" rle="4" left="0" top="0" width="2000000" height="2000000"/>', image='name="a"'),
            "image[0].mask[0].rle",
        ),
    ],
)
def test_a_damaged_document_is_an_error_that_says_where(content: bytes, field: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        list(CvatDocument().read(content))
    assert caught.value.field == field
