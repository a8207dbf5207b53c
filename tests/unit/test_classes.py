"""The order of a dataset's classes."""

from __future__ import annotations

from imgsyncfs.annotations.classes import class_names, class_order
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    ObjectLabel,
    Polygon,
)


def test_listed_classes_come_first_in_their_order_and_others_by_name() -> None:
    assert class_order(["person", "face"], ["car", "face", "bus"]) == ("person", "face", "bus", "car")


def test_a_class_that_no_object_has_keeps_its_place() -> None:
    assert class_order(["b", "a"], []) == ("b", "a")


def test_each_class_has_one_place() -> None:
    assert class_order(["a", "a"], ["b", "b", "a"]) == ("a", "b")


def test_the_classes_of_an_annotation_are_those_of_its_objects() -> None:
    labels = (
        ObjectLabel("bbox", (BoundingBox("person", 1, 2, 3, 4),)),
        ObjectLabel("poly", (Polygon("face", ()), Polygon("person", ()))),
        ClassificationLabel("Gender", "Female"),
    )
    assert class_names(Annotation(labels=labels)) == {"person", "face"}
