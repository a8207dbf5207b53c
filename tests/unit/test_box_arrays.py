"""The objects of an annotation as arrays, and the order of classes."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
from hypothesis import given
from support.annotation_strategies import house_annotations
from support.places import SAMPLES

from imgsyncfs.annotations.box_arrays import BoxArrays, box_arrays
from imgsyncfs.annotations.geometry import corners, encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
    parse_annotation,
)


def arrays(*objects: LabelledObject) -> BoxArrays:
    """Of an annotation that has each object in a label of its own."""
    return box_arrays(Annotation(labels=tuple(ObjectLabel("any", (item,)) for item in objects)))


def mask_of(rows: slice, columns: slice) -> Mask:
    drawn = np.zeros((30, 40), dtype=np.bool_)
    drawn[rows, columns] = True
    return Mask("region", (30, 40), tuple(encode_run_length(drawn)))


def test_an_object_of_any_kind_has_a_row_in_the_annotations_order() -> None:
    found = arrays(
        BoundingBox("box", 1.5, 2, 20.25, 21),
        RotatedBox("turned", 10, 20, 8, 4, pi / 2),
        Polygon("outline", ((5, 6), (9, 2), (7, 11))),
        mask_of(slice(3, 7), slice(10, 15)),
    )
    assert found.class_names == ("box", "turned", "outline", "region")
    assert found.xyxy == pytest.approx(np.array([(1.5, 2, 20.25, 21), (8, 16, 12, 24), (5, 2, 9, 11), (10, 3, 15, 7)]))
    assert found.xywhr[1].tolist() == [10, 20, 8, 4, pi / 2]
    assert found.xywhr[[0, 2, 3]].tolist() == [[10.875, 11.5, 18.75, 19, 0], [7, 6.5, 4, 9, 0], [12.5, 5, 5, 4, 0]]


def test_a_rotated_box_has_the_upright_one_around_its_corners() -> None:
    found = box_arrays(parse_annotation((SAMPLES / "rbbox.json").read_bytes()))
    outlines = corners(found.xywhr)
    assert found.xyxy == pytest.approx(np.concatenate([outlines.min(axis=1), outlines.max(axis=1)], axis=1))


def test_an_angle_is_below_half_a_turn_and_a_size_is_not_negative() -> None:
    found = arrays(RotatedBox("a", 5, 5, 4, 2, -pi / 4), RotatedBox("a", 5, 5, -4, 2, 3 * pi + 0.5))
    assert found.xywhr == pytest.approx(np.array([(5, 5, 4, 2, 3 * pi / 4), (5, 5, 4, 2, 0.5)]))


def test_the_corners_of_a_box_may_be_given_in_any_order() -> None:
    assert arrays(BoundingBox("a", 9, 2, 3, 8)).xyxy.tolist() == [[3, 2, 9, 8]]


def test_no_annotation_and_one_without_objects_have_no_rows() -> None:
    for nothing in (None, Annotation(labels=(ObjectLabel("bbox"), ClassificationLabel("Gender", "Female")))):
        found = box_arrays(nothing)
        assert found.class_names == ()
        assert (found.xyxy.shape, found.xywhr.shape) == ((0, 4), (0, 5))


def test_boxes_within_an_image_end_where_it_does_and_rotated_ones_are_not_cut() -> None:
    found = arrays(BoundingBox("a", -3, 5, 50, 25), RotatedBox("b", 39, 29, 10, 10, 0)).within(40, 30)
    assert found.xyxy.tolist() == [[0, 5, 40, 25], [34, 24, 40, 30]]
    assert found.xywhr.tolist() == [[23.5, 15, 53, 20, 0], [39, 29, 10, 10, 0]]


@pytest.mark.parametrize(
    "nothing",
    [
        BoundingBox("a", 50, 5, 60, 25),
        BoundingBox("a", 5, 5, 5, 25),
        BoundingBox("a", 5, 5, 5 + 1e-9, 25),
        RotatedBox("a", 5, 5, 0, 0, 1),
        RotatedBox("a", 1e308, 1e308, 1e308, 1e308, 1),
        RotatedBox("a", 5, 5, 1e300, 1e300, 1),
        Polygon("a", ()),
        Polygon("a", ((3, 3),)),
        mask_of(slice(0, 0), slice(0, 0)),
    ],
)
def test_what_covers_nothing_of_an_image_is_not_within_it(nothing: LabelledObject) -> None:
    found = arrays(nothing, BoundingBox("b", 1, 2, 3, 4)).within(40, 30)
    assert found.class_names == ("b",)
    assert found.xyxy.tolist() == [[1, 2, 3, 4]]


@given(house_annotations)
def test_what_is_within_an_image_is_fit_for_a_detector_whatever_the_numbers(annotation: Annotation) -> None:
    found = box_arrays(annotation).within(640, 480)
    boxes, rotated = found.xyxy.astype(np.float32), found.xywhr.astype(np.float32)
    assert len(found.class_names) == len(boxes) == len(rotated)
    assert (boxes >= 0).all()
    assert (boxes <= (640, 480, 640, 480)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert np.isfinite(rotated).all()
    assert (rotated[:, 2:] >= 0).all()


def test_objects_of_some_classes_are_chosen() -> None:
    found = arrays(BoundingBox("a", 1, 2, 3, 4), BoundingBox("b", 5, 6, 7, 8), BoundingBox("a", 1, 1, 9, 9))
    assert found.of_classes(["a", "c"]).xyxy.tolist() == [[1, 2, 3, 4], [1, 1, 9, 9]]
    assert found.of_classes([]).class_names == ()
