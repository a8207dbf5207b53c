"""DOTA's files: what a strict reader takes, house to DOTA to house, edits, and rows from elsewhere."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import bounding_boxes, coordinates, house_annotations, rotated_boxes, unhurried
from support.dota_reader import read_dota
from support.labelme_files import BOX, IMAGE, MASK, POLYGON, ROTATED, annotation_of, annotation_with, objects_of
from support.places import SAMPLES

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    ObjectLabel,
    Polygon,
    RotatedBox,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, FORMATS, Change, Loss, recognize_format

DOTA = FORMATS["dota"]
QUADRANGLE = Polygon("sign board", ((1, 2), (30, 4.5), (28, 60), (0.125, 50)), {"id": 3, "difficult": 1})
MIXED = replace(
    annotation_of(
        *annotation_with(BOX).labels,
        *annotation_with(ROTATED).labels,
        ObjectLabel("poly", (QUADRANGLE, POLYGON)),
        *annotation_with(MASK).labels,
        ClassificationLabel("Gender", "Female"),
    ),
    extra={"camera": 7},
)


def fisheye_boxes() -> tuple[RotatedBox, ...]:
    """The people of the users' own table."""
    with (SAMPLES / "fisheye_00079.csv").open() as table:
        return tuple(
            RotatedBox("person", *(float(row[key]) for key in "xywha"))  # type: ignore[arg-type]  # five of them
            for row in csv.DictReader(table)
        )


def read_beside(content: bytes, original: Annotation) -> Annotation:
    """A file, read beside the annotation that it was rendered from."""
    return DOTA.parse(DOTA.reattached(content, original, IMAGE))


@given(annotation=house_annotations)
@unhurried
def test_a_strict_reader_takes_every_file(annotation: Annotation) -> None:
    rendered = DOTA.render(annotation, IMAGE)
    hidden = sum(loss.count for loss in rendered.losses if loss.what in ("polygons", "masks", "rotated boxes"))
    shown = sum(len(label.objects) for label in annotation.labels if isinstance(label, ObjectLabel)) - hidden
    assert len(read_dota(rendered.content)) == shown


@given(annotation=house_annotations)
@unhurried
def test_beside_its_original_an_unedited_file_is_the_same_annotation(annotation: Annotation) -> None:
    said = read_beside(DOTA.render(annotation, IMAGE).content, annotation)
    # Outlines that lie on each other may change places: nobody sees the difference.
    assert replace(said, labels=(), label_checked=0) == replace(annotation, labels=(), label_checked=0)
    assert len(said.labels) == len(annotation.labels)
    for one, other in zip(said.labels, annotation.labels, strict=True):
        if isinstance(one, ObjectLabel) and isinstance(other, ObjectLabel):
            assert len(one.objects) == len(other.objects)
        else:
            assert one == other


def test_beside_its_original_every_number_and_key_comes_back() -> None:
    assert read_beside(DOTA.render(MIXED, IMAGE).content, MIXED) == MIXED


@given(st.lists(rotated_boxes(coordinates, st.floats(-10, 10)), max_size=5))
@unhurried
def test_rotated_boxes_come_back_by_their_corners(boxes: list[RotatedBox]) -> None:
    wide = [replace(box, w=abs(box.w) + 5, h=abs(box.h) + 5) for box in boxes]
    content = DOTA.render(annotation_of(ObjectLabel("rbbox", tuple(wide))), IMAGE).content
    said = [item for label in DOTA.parse(content).labels if isinstance(label, ObjectLabel) for item in label.objects]
    assert len(said) == len(wide)
    for one, other in zip(said, wide, strict=True):
        assert isinstance(one, RotatedBox)
        assert (one.x, one.y, one.w, one.h) == pytest.approx((other.x, other.y, other.w, other.h), abs=2e-6)
        assert 0 <= one.a < 3.14159266


@given(st.lists(bounding_boxes(coordinates), max_size=5))
@unhurried
def test_corners_of_upright_boxes_are_exact(boxes: list[BoundingBox]) -> None:
    content = DOTA.render(annotation_of(ObjectLabel("bbox", tuple(boxes))), IMAGE).content
    assert [(row.corners[0], row.corners[2]) for row in read_dota(content)] == [
        ((min(box.x1, box.x2), min(box.y1, box.y2)), (max(box.x1, box.x2), max(box.y1, box.y2))) for box in boxes
    ]


def test_people_under_a_fisheye_lens_keep_the_order_of_their_corners() -> None:
    boxes = fisheye_boxes()
    content = DOTA.render(annotation_of(ObjectLabel("rbbox", boxes)), IMAGE).content
    for row, box in zip(read_dota(content), boxes, strict=True):
        assert np.array(row.corners) == pytest.approx(corners([(box.x, box.y, box.w, box.h, box.a)])[0], abs=1e-6)
    for item, box in zip(objects_of(DOTA.parse(content)), boxes, strict=True):
        assert isinstance(item, RotatedBox)
        assert (item.x, item.y, item.w, item.h, item.a) == pytest.approx((box.x, box.y, box.w, box.h, box.a), abs=1e-5)


def test_what_has_not_four_corners_is_counted() -> None:
    assert DOTA.render(MIXED, IMAGE).losses == (
        Loss("classifications", 1, "DOTA has no place for words about an image"),
        Loss("class names with blanks", 1, "fields have blanks between them, so these became '-'"),
        Loss("polygons", 1, "DOTA has boxes of four corners only"),
        Loss("masks", 1, "DOTA has boxes of four corners only"),
    )


def test_a_class_is_one_field() -> None:
    assert [(row.name, row.difficulty) for row in read_dota(DOTA.render(MIXED, IMAGE).content)] == [
        ("person", 0),
        ("person", 0),
        ("sign-board", 1),
    ]


def test_an_image_without_objects_has_an_empty_file() -> None:
    assert DOTA.render(annotation_of(), IMAGE).content == b""
    assert DOTA.parse(b"").labels == ()


@pytest.mark.parametrize("header", [b"", b"imagesource:GoogleEarth\ngsd:0.146\n", b"imagesource:\r\ngsd:null\r\n"])
def test_the_header_lines_of_dota_are_no_rows(header: bytes) -> None:
    (item,) = objects_of(DOTA.parse(header + b"0 0 10 0 10 5 0 5 small-vehicle 1\r\n"))
    assert item == RotatedBox("small-vehicle", 5, 2.5, 10, 5, 0, {"difficult": 1})


def test_corners_that_are_no_rectangle_s_are_a_polygon() -> None:
    (item,) = objects_of(DOTA.parse(b"0 0 10 0 14 9 0 5 kite 0\n"))
    assert item == Polygon("kite", ((0, 0), (10, 0), (14, 9), (0, 5)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 2 3 4\n", "line 1: a row has 10 fields"),
        (b"0 0 10 0 10 5 0 5 car 0\n\n0 0 x 0 10 5 0 5 car 0\n", "line 3: its first eight fields must be finite"),
        (b"0 0 10 0 10 nan 0 5 car 0\n", "line 1: its first eight fields must be finite"),
        (b"0 0 10 0 10 5 0 5 car easy\n", "line 1: its last field must be a digit"),
    ],
)
def test_a_damaged_row_is_named(content: bytes, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        DOTA.parse(content)


def test_a_renamed_row_changes_the_class_alone() -> None:
    content = DOTA.render(MIXED, IMAGE).content.replace(b"sign-board 1", b"sign 0")
    said = objects_of(read_beside(content, MIXED), 2)
    assert said == (replace(QUADRANGLE, class_name="sign", extra={"id": 3, "difficult": 0}), POLYGON)


def test_a_moved_box_stays_of_its_kind_and_keeps_its_keys() -> None:
    content = DOTA.render(annotation_with(BOX), IMAGE).content
    content = content.replace(b"30.25", b"40.25")
    assert objects_of(read_beside(content, annotation_with(BOX))) == (replace(BOX, x2=40.25),)


def test_a_turned_box_keeps_its_size_and_its_keys() -> None:
    places = corners([(1433.5394, 1151.9007, 206.441, 383.9458, 0.5)])[0].ravel().tolist()
    content = " ".join([*map(str, places), "person", "0\n"]).encode()
    (item,) = objects_of(read_beside(content, annotation_with(ROTATED)))
    assert isinstance(item, RotatedBox)
    assert replace(item, a=0, x=0, y=0) == replace(ROTATED, a=0, x=0, y=0)
    assert item.a == pytest.approx(0.5)


@pytest.mark.parametrize(("before", "kind"), [(BOX, BoundingBox), (ROTATED, RotatedBox)])
def test_a_new_upright_box_is_of_the_kind_of_the_others(before: BoundingBox | RotatedBox, kind: type) -> None:
    content = DOTA.render(annotation_with(before), IMAGE).content + b"500 500 900 500 900 800 500 800 dog 0\n"
    said = objects_of(read_beside(content, annotation_with(before)))
    assert [type(item) for item in said] == [kind, kind]


def test_a_rotated_box_whose_corners_are_no_rectangle_s_any_more_is_a_polygon_and_that_is_told() -> None:
    row = b"1300 1000 1500 1000 1600 1400 1300 1300 person 0\n"
    reading = DOTA.read(DOTA.reattached(row, annotation_with(ROTATED), IMAGE))
    assert reading.changes == (Change("rotated boxes", 1, "they became polygons"),)


def test_a_class_may_be_called_as_what_is_handed_on() -> None:
    annotation = annotation_with(replace(BOX, class_name="#imgsyncfs"))
    content = DOTA.render(annotation, IMAGE).content
    assert [row.name for row in read_dota(content)] == ["#imgsyncfs"]
    assert [item.class_name for item in objects_of(DOTA.parse(content))] == ["#imgsyncfs"]
    assert read_beside(content, annotation) == annotation


def test_a_removed_row_removes_its_object_and_nothing_else() -> None:
    content = DOTA.render(MIXED, IMAGE).content.split(b"\n", 1)[1]
    said = read_beside(content, MIXED)
    assert objects_of(said) == ()
    assert said.labels[1:] == MIXED.labels[1:]


def test_a_file_is_recognized_by_its_rows() -> None:
    content = DOTA.render(MIXED, IMAGE).content
    assert recognize_format(content) is DOTA
    assert recognize_format(b"imagesource:x\ngsd:1\n" + content) is DOTA


@pytest.mark.parametrize("content", [b"", b" \n", b"hello world\n", b"0 0.5 0.5 0.1 0.1\n", b"\xff\xfe"])
def test_other_text_is_not_recognized(content: bytes) -> None:
    assert recognize_format(content) is None


def test_an_empty_file_is_what_its_name_says() -> None:
    assert recognize_format(b"", file_name="x.dota.txt") is DOTA
    assert recognize_format(b"", file_name="x.json") is None


def test_it_stands_beside_images_only_where_somebody_asks_for_it() -> None:
    assert "dota" not in DEFAULT_SIBLINGS
