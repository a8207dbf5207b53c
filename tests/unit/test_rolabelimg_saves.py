"""roLabelImg's own save changes what nobody edited, and drops what it does not show: an annotation survives both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from support.annotation_strategies import bounding_boxes, house_annotations, rotated_boxes, unhurried
from support.rolabelimg_reader import RolabelimgShape, read_rolabelimg
from support.rolabelimg_saves import Edit, moved, saved_by_rolabelimg, turned, upright

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.formats.registry import FORMATS, ImageInfo, Reading
from imgsyncfs.tools.convert.conversion import read_edited

ROLABELIMG = FORMATS["rolabelimg"]
HEIGHT, WIDTH = 480, 640
IMAGE = ImageInfo("d", "a", "jpg", HEIGHT, WIDTH, 3)

LEFT = BoundingBox("left", 0, 10, 100.4, 50.6, {"score": 0.5})
INSIDE = BoundingBox("inside", 200.25, 100.5, 300, 200, {"id": 3})
FRONTAL = BoundingBox("p", 100, 100, 200, 200, {"pose": "Frontal", "truncated": 1, "difficult": 1})
ROTATED = RotatedBox("person", 163.48481055158132, 172.09704564282973, 139.637, 69.0946, 2.0484179884304785, {"id": 8})


def annotation_of(*labels: Any, label_checked: int = 0) -> Annotation:
    return Annotation(label_checked=label_checked, height=HEIGHT, width=WIDTH, depth=3, ext="jpg", labels=labels)


def boxes(*items: BoundingBox) -> Annotation:
    return annotation_of(ObjectLabel("bbox", items))


def read_after_save(annotation: Annotation, edit: Edit = lambda shapes: shapes, image: ImageInfo = IMAGE) -> Reading:
    """Render an annotation, save it in roLabelImg, and read it in the light of the annotation."""
    size = (image.height or 0, image.width or 0, 3)
    if image.orientation >= 5:
        size = (size[1], size[0], 3)
    saved = saved_by_rolabelimg(ROLABELIMG.render(annotation, image).content, size, edit)
    return read_edited(ROLABELIMG, saved, annotation, image)


def objects_of(reading: Reading, label: int = 0) -> tuple[LabelledObject, ...]:
    found = reading.annotation.labels[label]
    assert isinstance(found, ObjectLabel)
    return found.objects


within = st.floats(0, 470)


@given(
    st.lists(
        st.one_of(
            st.lists(bounding_boxes(within), max_size=3).map(lambda items: ObjectLabel("bbox", tuple(items))),
            st.lists(rotated_boxes(st.floats(5, 470), st.floats(-9, 9)), max_size=3).map(
                lambda items: ObjectLabel("rbbox", tuple(items))
            ),
        ),
        max_size=4,
    ),
    house_annotations,
)
@unhurried
def test_a_save_without_an_edit_is_none(shown: list[ObjectLabel], others: Annotation) -> None:
    hidden = [label for label in others.labels if not isinstance(label, ObjectLabel)]
    annotation = replace(annotation_of(*shown, *hidden, label_checked=others.label_checked), extra=others.extra)
    found = read_after_save(annotation).annotation
    assert replace(found, labels=()) == replace(annotation, labels=())
    assert len(found.labels) == len(annotation.labels)
    for one, other in zip(found.labels, annotation.labels, strict=True):
        # Boxes that lie on each other may change places: nobody sees the difference.
        if isinstance(one, ObjectLabel) and isinstance(other, ObjectLabel):
            assert len(one.objects) == len(other.objects)
        else:
            assert one == other


@pytest.mark.parametrize("item", [LEFT, INSIDE, FRONTAL, replace(LEFT, x1=0.4, y1=-3), replace(LEFT, x2=WIDTH)])
@pytest.mark.parametrize("label_checked", [0, 1])
def test_what_a_save_changes_at_the_edges_is_no_edit(item: BoundingBox, label_checked: int) -> None:
    annotation = replace(boxes(item, INSIDE), label_checked=label_checked)
    found = read_after_save(annotation)
    assert repr(found.annotation) == repr(annotation)
    assert found.changes == ()


def test_the_order_of_boxes_and_rotated_boxes_is_no_edit() -> None:
    annotation = annotation_of(
        ObjectLabel("rbbox", (ROTATED, replace(ROTATED, x=400))), ObjectLabel("bbox", (LEFT, INSIDE))
    )
    assert read_after_save(annotation).annotation == annotation


def test_a_save_keeps_what_rolabelimg_does_not_show_and_says_so() -> None:
    others = (
        ObjectLabel("seg", (Mask("m", (HEIGHT, WIDTH), (100, 50, HEIGHT * WIDTH - 150)),)),
        ObjectLabel("poly", (Polygon("area", ((1, 2), (30, 4), (20, 40)), {"id": 7}),)),
        ClassificationLabel("Gender", "Female"),
        RegressionLabel("Age", 42.5),
        UnknownLabel({"label_type": "kp", "data": [1, 2, 3]}),
    )
    annotation = replace(annotation_of(ObjectLabel("bbox", (LEFT,)), *others), extra={"camera": "c2"})
    found = read_after_save(annotation, lambda shapes: [*shapes, upright("new", 50, 60, 70, 80)])
    assert objects_of(found) == (LEFT, BoundingBox("new", 50, 60, 70, 80))
    assert found.annotation.labels[1:] == others
    assert found.annotation.extra == {"camera": "c2"}
    assert all(change.is_harmless for change in found.changes)
    assert {(change.what, change.count) for change in found.changes} == {
        ("masks", 1),
        ("polygons", 1),
        ("classifications", 1),
        ("regression values", 1),
        ("labels of unknown types", 1),
    }


def test_a_class_with_a_carriage_return_is_the_same_after_a_save() -> None:
    annotation = boxes(INSIDE, replace(INSIDE, class_name="one\rtwo\r\nthree"), replace(INSIDE, class_name="four"))
    assert read_after_save(annotation).annotation == annotation


def test_a_box_that_was_moved_keeps_its_other_keys_and_its_place() -> None:
    found = read_after_save(boxes(INSIDE, LEFT), lambda shapes: [moved(shapes[0], 40, 30), *shapes[1:]])
    one, other = objects_of(found)
    assert isinstance(one, BoundingBox)
    assert (one.x1, one.y1, one.x2, one.y2, one.extra) == (240, 130, 340, 230, {"id": 3})
    assert other == LEFT
    assert found.annotation.label_checked == 1
    assert found.changes == ()


def test_an_edge_at_the_first_pixel_stays_exact_when_another_edge_is_moved() -> None:
    def edit(shapes: Sequence[RolabelimgShape]) -> list[RolabelimgShape]:
        (shape,) = shapes
        left, top, right, bottom = *shape.corners[0], *shape.corners[2]
        return [upright(shape.label, left, top, right + 60, bottom)]

    (found,) = objects_of(read_after_save(boxes(LEFT), edit))
    assert found == BoundingBox("left", 0, 10, 160, 50.6, {"score": 0.5})


def test_a_box_that_was_turned_keeps_its_other_keys_and_its_size() -> None:
    annotation = annotation_of(ObjectLabel("rbbox", (replace(ROTATED, x=400, extra={"id": 1}), ROTATED)))
    found = read_after_save(annotation, lambda shapes: [shapes[0], turned(shapes[1], 0.5)])
    first, second = objects_of(found)
    assert first == replace(ROTATED, x=400, extra={"id": 1})
    assert isinstance(second, RotatedBox)
    assert (second.x, second.y, second.w, second.h) == (ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h)
    assert second.a == pytest.approx(ROTATED.a + 0.5, abs=1e-6)
    assert second.extra == {"id": 8}


def test_a_box_that_was_removed_stays_removed_and_one_drawn_elsewhere_is_new_and_the_loss_is_told() -> None:
    found = read_after_save(boxes(LEFT, INSIDE), lambda shapes: [shapes[0], upright("inside", 500, 300, 520, 400)])
    assert objects_of(found) == (LEFT, BoundingBox("inside", 500, 300, 520, 400))
    (change,) = found.changes
    assert (change.what, change.count, change.is_harmless) == ("objects drawn anew", 1, False)


def test_a_box_that_only_was_removed_is_no_loss() -> None:
    found = read_after_save(boxes(LEFT, INSIDE), lambda shapes: shapes[1:])
    assert objects_of(found) == (INSIDE,)
    assert found.changes == ()


def test_difficult_is_an_edit_since_rolabelimg_has_a_box_to_tick_for_it() -> None:
    found = read_after_save(boxes(INSIDE), lambda shapes: [replace(shapes[0], difficult=True)])
    assert objects_of(found) == (replace(INSIDE, extra={"id": 3, "difficult": 1}),)


def test_a_picture_of_four_channels_does_not_become_one_of_three() -> None:
    annotation = replace(boxes(INSIDE), depth=4)
    assert read_after_save(annotation, image=replace(IMAGE, depth=4)).annotation == annotation


def test_a_file_of_rolabelimgs_that_nobody_verified_is_unchecked() -> None:
    saved = saved_by_rolabelimg(ROLABELIMG.render(boxes(INSIDE), IMAGE).content, (HEIGHT, WIDTH, 3))
    assert b'verified="no"' in saved
    assert ROLABELIMG.parse(saved).label_checked == 0
    assert ROLABELIMG.parse(saved.replace(b'verified="no"', b'verified="yes"')).label_checked == 1


# Photos that EXIF turns: roLabelImg shows them as they are stored.

TURNED = [replace(IMAGE, orientation=orientation) for orientation in range(1, 9)]


def stored_place(image: ImageInfo, x: float, y: float) -> tuple[float, float]:
    """Where a point of the turned picture is stored, worked out as EXIF says it, by the first row and column."""
    right, bottom = WIDTH - x, HEIGHT - y
    return [(x, y), (right, y), (right, bottom), (x, bottom), (y, x), (y, right), (bottom, right), (bottom, x)][
        image.orientation - 1
    ]


@pytest.mark.parametrize("image", TURNED, ids=lambda image: str(image.orientation))
def test_boxes_are_drawn_where_the_stored_picture_shows_them(image: ImageInfo) -> None:
    annotation = annotation_of(
        ObjectLabel("bbox", (BoundingBox("p", 10, 20, 30, 60),)), ObjectLabel("rbbox", (ROTATED,))
    )
    content = ROLABELIMG.render(annotation, image).content
    upright_box, rotated = read_rolabelimg(content)
    assert sorted(upright_box.corners) == sorted(stored_place(image, x, y) for x in (10, 30) for y in (20, 60))
    expected = [
        stored_place(image, *corner)
        for corner in corners([(ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h, ROTATED.a)])[0].tolist()
    ]
    assert sorted(rotated.corners) == [pytest.approx(place, abs=1e-3) for place in sorted(expected)]
    sizes = [etree.fromstring(content).findtext(f"size/{side}") for side in ("height", "width")]
    assert sizes == (["640", "480"] if image.orientation >= 5 else ["480", "640"])


@pytest.mark.parametrize("image", TURNED, ids=lambda image: str(image.orientation))
def test_a_photo_that_is_turned_goes_there_and_back(image: ImageInfo) -> None:
    annotation = annotation_of(ObjectLabel("bbox", (LEFT, FRONTAL)), ObjectLabel("rbbox", (ROTATED,)))
    assert ROLABELIMG.parse(ROLABELIMG.render(annotation, image).content) == annotation
    assert read_after_save(annotation, image=image).annotation == annotation


@pytest.mark.parametrize("image", TURNED, ids=lambda image: str(image.orientation))
def test_a_new_file_of_rolabelimgs_is_read_into_the_turned_picture(image: ImageInfo) -> None:
    annotation = annotation_of(
        ObjectLabel("bbox", (BoundingBox("p", 10, 20, 30, 60),)), ObjectLabel("rbbox", (replace(ROTATED, extra={}),))
    )
    size = (WIDTH, HEIGHT, 3) if image.orientation >= 5 else (HEIGHT, WIDTH, 3)
    saved = saved_by_rolabelimg(ROLABELIMG.render(annotation, image).content, size)
    found = ROLABELIMG.read(saved, image=image).annotation
    (box,), (rotated,) = objects_of(Reading(found)), objects_of(Reading(found), 1)
    assert box == BoundingBox("p", 10, 20, 30, 60)
    assert isinstance(rotated, RotatedBox)
    assert (rotated.x, rotated.y, rotated.w, rotated.h) == pytest.approx(
        (ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h), abs=1e-4
    )
    assert math.isclose(math.sin(rotated.a - ROTATED.a), 0, abs_tol=1e-5)
    assert (found.height, found.width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("image", TURNED, ids=lambda image: str(image.orientation))
def test_a_file_of_labelimgs_is_of_the_turned_picture_already(image: ImageInfo) -> None:
    content = (
        b"<annotation><filename>a.jpg</filename><size><width>640</width><height>480</height><depth>3</depth></size>"
        b"<object><name>p</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        b"<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>60</ymax></bndbox></object></annotation>"
    )
    found = ROLABELIMG.read(content, image=image)
    assert objects_of(found) == (BoundingBox("p", 10, 20, 30, 60),)
