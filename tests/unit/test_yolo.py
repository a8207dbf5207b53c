"""YOLO's labels: what ultralytics takes, house to YOLO to house within six decimals, and what is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations, unhurried
from support.labelme_files import BOX, MASK, POLYGON, ROTATED, annotation_of, annotation_with, objects_of
from support.yolo_reader import read_yolo

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Format
from imgsyncfs.formats.registry import FORMATS, NUMBERED_FORMATS, Change, ImageInfo, Loss, Reading
from imgsyncfs.formats.yolo import YoloFormat, YoloObbFormat, YoloSegFormat

CLASSES = ("face", "person", "arm", "hair")
IMAGE = ImageInfo("d", "x", "jpg", 480, 640, 3, classes=CLASSES)
DETECT, OBB, SEGMENT = YoloFormat(), YoloObbFormat(), YoloSegFormat()
ALL = pytest.mark.parametrize("known", [DETECT, OBB, SEGMENT])
HALF_A_DIGIT = 0.6e-6 * 640

inside_x, inside_y = st.floats(0, 640), st.floats(0, 480)


def shown(known: Format, *objects: LabelledObject, image: ImageInfo = IMAGE) -> list[str]:
    """The rows of objects, each of them split no further."""
    labels = [label for item in objects for label in annotation_with(item).labels]
    return known.render(annotation_of(*labels), image).content.decode().splitlines()


def losses(known: Format, *objects: LabelledObject) -> dict[str, int]:
    """How many of which things a file does not show."""
    labels = [label for item in objects for label in annotation_with(item).labels]
    return {loss.what: loss.count for loss in known.render(annotation_of(*labels), IMAGE).losses}


@ALL
@given(annotation=house_annotations)
@unhurried
def test_ultralytics_drops_no_picture(known: Format, annotation: Annotation) -> None:
    names = {item.class_name for label in annotation.labels if isinstance(label, ObjectLabel) for item in label.objects}
    content = known.render(annotation, replace(IMAGE, classes=tuple(sorted(names)))).content
    assert len(read_yolo(content, len(names))) == content.count(b"\n")


@given(x1=inside_x, y1=inside_y, x2=inside_x, y2=inside_y)
@unhurried
def test_a_bounding_box_inside_comes_back(x1: float, y1: float, x2: float, y2: float) -> None:
    assume(abs(x1 - x2) > 1 and abs(y1 - y2) > 1)
    rendered = DETECT.render(annotation_with(BoundingBox("person", x1, y1, x2, y2)), IMAGE)
    assert rendered.losses == ()
    (item,) = objects_of(DETECT.read(rendered.content, image=IMAGE).annotation)
    assert isinstance(item, BoundingBox)
    expected = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    assert (item.x1, item.y1, item.x2, item.y2) == pytest.approx(expected, abs=2 * HALF_A_DIGIT)
    assert item.class_name == "person"


@given(
    x=st.floats(200, 400), y=st.floats(200, 280), w=st.floats(20, 200), h=st.floats(20, 200), a=st.floats(0.001, 3.14)
)
@unhurried
def test_an_oriented_box_inside_comes_back(x: float, y: float, w: float, h: float, a: float) -> None:
    rendered = OBB.render(annotation_with(RotatedBox("arm", x, y, w, h, a)), IMAGE)
    assert rendered.losses == ()
    (item,) = objects_of(OBB.read(rendered.content, image=IMAGE).annotation)
    assert isinstance(item, RotatedBox)
    assert (item.x, item.y, item.w, item.h) == pytest.approx((x, y, w, h), abs=4 * HALF_A_DIGIT)
    assert item.a == pytest.approx(a, abs=1e-4)


@given(points=st.lists(st.tuples(inside_x, inside_y), min_size=3, max_size=9))
@unhurried
def test_an_outline_inside_comes_back(points: list[tuple[float, float]]) -> None:
    assume(all(max(axis) - min(axis) > 1 for axis in zip(*points, strict=True)) and points[0] != points[-1])
    rendered = SEGMENT.render(annotation_with(Polygon("arm", tuple(points))), IMAGE)
    assert rendered.losses == ()
    (item,) = objects_of(SEGMENT.read(rendered.content, image=IMAGE).annotation)
    assert isinstance(item, Polygon)
    for one, other in zip(item.points, points, strict=True):
        assert one == pytest.approx(other, abs=HALF_A_DIGIT)


MIXED = annotation_of(
    ObjectLabel("bbox", (BOX, BoundingBox("face", 700, 20, 500, -30, {"id": 1}))),
    ObjectLabel("rbbox", (RotatedBox("person", 320, 240, 64, 48, 0.5 + 6.283185307, {"id": 2}),)),
    ObjectLabel("poly", (Polygon("arm", ((1, 2), (30, 4.5), (5, 60)), {"id": 3}), POLYGON)),
    ObjectLabel("seg", (MASK,)),
    ClassificationLabel("Gender", "Female"),
    RegressionLabel("Age", 42),
)
MIXED = replace(MIXED, height=480, width=640, extra={"camera": 7})


def read_beside(known: Format, content: bytes, original: Annotation) -> Reading:
    """A file, read beside the annotation that it was rendered from."""
    return known.read(known.reattached(content, original, IMAGE), image=IMAGE)


@ALL
def test_beside_its_original_an_unedited_file_changes_nothing(known: Format) -> None:
    assert read_beside(known, known.render(MIXED, IMAGE).content, MIXED) == Reading(MIXED)


@ALL
@given(annotation=house_annotations)
@unhurried
def test_beside_its_original_no_object_and_no_key_is_lost(known: Format, annotation: Annotation) -> None:
    annotation = replace(annotation, height=480, width=640)
    said = read_beside(known, known.render(annotation, IMAGE).content, annotation).annotation
    # Outlines that lie on each other may change places: nobody sees the difference.
    assert replace(said, labels=(), label_checked=0) == replace(annotation, labels=(), label_checked=0)
    assert said.object_count == annotation.object_count


@ALL
def test_beside_its_original_a_removed_row_removes_its_object_alone(known: Format) -> None:
    content = known.render(MIXED, IMAGE).content.split(b"\n", 1)[1]
    said = read_beside(known, content, MIXED).annotation
    assert said.labels[1:] == MIXED.labels[1:]
    assert len(objects_of(said)) == 1


def test_beside_its_original_a_moved_box_keeps_its_keys_and_its_other_edges() -> None:
    content = b"1 0.031250 0.063021 0.031250 0.040625\n"
    reading = read_beside(DETECT, content, replace(annotation_with(BOX), height=480, width=640))
    (item,) = objects_of(reading.annotation)
    assert isinstance(item, BoundingBox)
    assert (item.x1, item.extra) == (10, BOX.extra)
    assert item.x2 == pytest.approx(30)
    assert reading.changes == ()


def test_beside_its_original_a_turned_box_keeps_its_kind_and_its_keys() -> None:
    before = replace(annotation_with(RotatedBox("person", 320, 240, 64, 48, 0.5, {"id": 2})), height=480, width=640)
    turned = replace(annotation_with(RotatedBox("person", 320, 240, 64, 48, 0.9)), height=480, width=640)
    (item,) = objects_of(read_beside(OBB, OBB.render(turned, IMAGE).content, before).annotation)
    assert isinstance(item, RotatedBox)
    assert item.a == pytest.approx(0.9, abs=1e-4)
    assert item.extra == {"id": 2}


def test_beside_its_original_a_moved_point_leaves_the_others_exact() -> None:
    before = replace(annotation_with(Polygon("arm", ((1, 2), (30, 4.5), (5, 60)), {"id": 3})), height=480, width=640)
    content = SEGMENT.render(before, IMAGE).content.replace(b" 0.046875 0.009375 ", b" 0.05 0.01 ")
    (item,) = objects_of(read_beside(SEGMENT, content, before).annotation)
    assert item == Polygon("arm", ((1, 2), (32, 4.8), (5, 60)), {"id": 3})


def test_beside_its_original_a_rotated_box_that_detect_moves_becomes_upright_and_that_is_told() -> None:
    before = replace(annotation_with(RotatedBox("person", 320, 240, 64, 48, 0.5, {"id": 2})), height=480, width=640)
    content = DETECT.render(before, IMAGE).content.replace(b"1 0.500000", b"1 0.510000")
    reading = read_beside(DETECT, content, before)
    assert reading.changes == (Change("rotated boxes", 1, "they became bounding boxes"),)


@ALL
def test_an_image_without_objects_has_an_empty_file(known: Format) -> None:
    assert known.render(annotation_of(), IMAGE).content == b""
    assert known.read(b"", image=IMAGE).annotation.labels == ()


def test_a_class_has_the_number_that_the_dataset_gives_it() -> None:
    box = BoundingBox("arm", 64, 48, 128, 96)
    assert shown(DETECT, box) == ["2 0.150000 0.150000 0.100000 0.100000"]
    assert shown(DETECT, box, image=replace(IMAGE, classes=("arm",))) == ["0 0.150000 0.150000 0.100000 0.100000"]


@ALL
def test_objects_of_other_classes_are_counted(known: Format) -> None:
    assert losses(known, replace(BOX, class_name="dog")) == {"bounding boxes of other classes": 1}


def test_a_rotated_box_is_an_upright_one_to_detect_and_counted() -> None:
    box = RotatedBox("person", 320, 240, 64, 48, 1.5707963267948966)
    assert shown(DETECT, box) == ["1 0.500000 0.500000 0.075000 0.133333"]
    assert losses(DETECT, box, replace(POLYGON, points=((1, 2), (30, 4), (5, 60))), MASK) == {
        "rotated boxes": 1,
        "polygons": 1,
        "masks": 1,
    }


def test_the_box_of_a_mask_reaches_around_its_last_pixel() -> None:
    (item,) = objects_of(DETECT.read("\n".join(shown(DETECT, MASK)).encode(), image=IMAGE).annotation)
    assert isinstance(item, BoundingBox)
    assert (item.x1, item.y1, item.x2, item.y2) == pytest.approx((30, 10, 45, 20), abs=1e-3)


def test_the_corners_of_an_oriented_box_keep_their_order() -> None:
    box = RotatedBox("person", 320, 240, 64, 48, 0.5)
    (row,) = read_yolo(OBB.render(annotation_with(box), IMAGE).content, len(CLASSES))
    expected = corners([(320, 240, 64, 48, 0.5)])[0] / (640, 480)
    for one, other in zip(row[1], expected, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_what_an_oriented_box_is_not_is_counted() -> None:
    assert losses(OBB, POLYGON, MASK) == {"polygons": 1, "masks": 1}


def test_boxes_are_outlines_to_segment_and_masks_are_counted() -> None:
    assert len(shown(SEGMENT, replace(BOX, x2=300), RotatedBox("arm", 320, 240, 64, 48, 0.5), POLYGON)) == 3
    assert losses(SEGMENT, MASK, Polygon("arm", ((0, 0), (9, 9)))) == {"masks": 1, "polygons": 1}


@ALL
def test_what_reaches_beyond_the_picture_is_cut_and_counted(known: Format) -> None:
    box = BoundingBox("face", -64, 48, 64, 96)
    (row,) = read_yolo(known.render(annotation_with(box), IMAGE).content, len(CLASSES))
    assert row[1][0] == ((0.05, 0.15) if known is DETECT else (0.0, 0.1))
    assert losses(known, box) == {"bounding boxes that reach beyond the picture": 1}


@ALL
@pytest.mark.parametrize("box", [(-9, 0, -1, 9), (641, 0, 700, 9), (0, -9, 9, 0), (0, 480, 9, 500)])
def test_what_lies_outside_the_picture_is_left_out_and_counted(known: Format, box: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    item = BoundingBox("face", left, top, right, bottom)
    assert shown(known, item) == []
    assert losses(known, item) == {"bounding boxes outside the picture": 1}


@ALL
def test_what_has_no_area_is_left_out_and_counted(known: Format) -> None:
    assert shown(known, BoundingBox("face", 5, 5, 5, 9)) == []
    assert losses(known, BoundingBox("face", 5, 5, 5, 9)) == {"bounding boxes without an area": 1}


@ALL
def test_a_picture_of_unknown_size_cannot_be_labelled(known: Format) -> None:
    annotation = replace(annotation_with(BOX), height=None, width=None)
    with pytest.raises(AnnotationError, match="needs the picture's size"):
        known.render(annotation, ImageInfo("d", "x", "jpg", classes=CLASSES))
    with pytest.raises(AnnotationError, match="needs the picture's size"):
        known.read(b"", image=None)


@pytest.mark.parametrize(
    ("known", "content", "message"),
    [
        (DETECT, b"0 0.5 0.5 0.1\n", "line 1: it has 4 fields; a box has class"),
        (DETECT, b"\n0 0 0 1 0 1 1 0 1\n", "line 2: it has 9 fields; a box has class"),
        (OBB, b"0 0.5 0.5 0.1 0.1\n", "line 1: it has 5 fields; an oriented box has a class and four corners"),
        (SEGMENT, b"0 0.5 0.5 0.1 0.1\n", "line 1: it has 5 fields; an outline has a class and three points"),
        (DETECT, b"4 0.5 0.5 0.1 0.1\n", "line 1: it is of class 4, and the dataset has 4 classes"),
        (DETECT, b"face 0.5 0.5 0.1 0.1\n", "line 1: a row is a class's number and finite numbers"),
        (DETECT, b"0 0.5 nan 0.1 0.1\n", "line 1: a row is a class's number and finite numbers"),
    ],
)
def test_a_damaged_row_is_named(known: Format, content: bytes, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        known.read(content, image=IMAGE)


def test_reading_takes_a_byte_order_mark_and_windows_line_ends() -> None:
    content = b"\xef\xbb\xbf1 0.5 0.5 0.1 0.1\r\n"
    (item,) = objects_of(DETECT.read(content, image=IMAGE).annotation)
    assert isinstance(item, BoundingBox)
    assert (item.x1, item.y1, item.x2, item.y2) == pytest.approx((288, 216, 352, 264))


def test_words_about_the_picture_are_counted() -> None:
    annotation = annotation_with(ROTATED)
    labels = FORMATS["labelme"].parse(b'{"shapes": [], "imagePath": "", "flags": {"indoor": true}}').labels
    assert Loss("classifications", 1, "YOLO has no place for words about an image") in (
        OBB.render(replace(annotation, labels=labels), IMAGE).losses
    )


def test_they_are_no_formats_to_convert_to_since_a_file_alone_does_not_know_its_classes() -> None:
    assert not FORMATS.keys() & NUMBERED_FORMATS.keys()


@pytest.mark.parametrize(("name", "columns"), [("yolo", 5), ("yolo-obb", 9), ("yolo-seg", 9)])
def test_views_find_them_by_their_names(name: str, columns: int) -> None:
    known = NUMBERED_FORMATS[name].in_view()
    content = known.render(replace(annotation_with(BOX), height=480, width=640), IMAGE).content
    assert known.suffix == ".txt"
    assert len(content.split()) == columns
    assert len(objects_of(known.read(content, image=IMAGE).annotation)) == 1
