"""The house format is read strictly where a wrong number would be shown, and loses nothing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from support.annotation_strategies import house_annotations, json_values, unhurried
from support.places import SAMPLES

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
    is_annotation,
    parse_annotation,
)
from imgsyncfs.errors import AnnotationError

BOX = {"class": "person", "x1": 1, "y1": 2.5, "x2": 3, "y2": 4}
ROTATED = {"class": "person", "x": 1, "y": 2, "w": 3, "h": 4, "a": 0.5}
POLYGON = {"class": "person", "points": [[1, 2], [3, 4.5], [5, 6]]}
MASK = {"class": "person", "rle": {"size": [2, 3], "counts": [1, 2, 3]}}


def document(*labels: Any, **others: Any) -> bytes:
    """A house annotation as JSON."""
    return orjson.dumps({"anno_version": "0.2.0", "label_checked": 1, "labels": labels, **others})


def objects(label_type: str, *items: Any) -> dict[str, Any]:
    """A label with these objects."""
    return {"label_type": label_type, "object": items}


def fault(content: bytes) -> AnnotationError:
    """The error that reading raises."""
    with pytest.raises(AnnotationError) as caught:
        parse_annotation(content)
    return caught.value


@pytest.mark.parametrize("name", ["bbox.json", "rbbox.json", "clf_reg.json"])
def test_the_users_own_samples_come_back_with_every_value_as_it_was(name: str) -> None:
    content = (SAMPLES / name).read_bytes()
    written = dump_annotation(parse_annotation(content))
    assert repr(orjson.loads(written)) == repr(orjson.loads(content))


def test_the_samples_become_typed_objects() -> None:
    box = parse_annotation((SAMPLES / "bbox.json").read_bytes())
    assert box.labels[0] == ObjectLabel(
        "bbox",
        (
            BoundingBox("person", 25.367088607594937, 182.74683544303798, 42.79746835443038, 200.31645569620252),
            BoundingBox("person", 88.0506329113924, 58.0, 128.0506329113924, 100.0),
        ),
    )
    rotated = parse_annotation((SAMPLES / "rbbox.json").read_bytes()).labels[0]
    assert isinstance(rotated, ObjectLabel)
    assert rotated.objects[0] == RotatedBox("person", 1433.5394, 1151.9007, 206.441, 383.9458, 1.548375)
    assert parse_annotation((SAMPLES / "clf_reg.json").read_bytes()) == Annotation(
        label_checked=1,
        height=264,
        width=263,
        depth=3,
        ext="jpg",
        labels=(
            ClassificationLabel("Gender", "Female"),
            ClassificationLabel("Emotion", "Happiness"),
            RegressionLabel("Age", 42),
        ),
    )


@given(house_annotations)
@unhurried
def test_reading_what_was_written_gives_the_same_annotation(annotation: Annotation) -> None:
    written = dump_annotation(annotation)
    again = parse_annotation(written)
    assert again == annotation
    assert dump_annotation(again) == written


@given(json_values)
@example({"labels": []})
@example({"anno_version": "0.2.0", "labels": [{"label_type": "bbox", "object": [{}]}]})
@unhurried
def test_any_other_json_is_refused_with_an_annotation_error(content: Any) -> None:
    fault(orjson.dumps(content))


def test_whole_numbers_and_floats_stay_what_they_are() -> None:
    label = parse_annotation(document(objects("bbox", BOX))).labels[0]
    assert isinstance(label, ObjectLabel)
    box = label.objects[0]
    assert isinstance(box, BoundingBox)
    assert [type(value) for value in (box.x1, box.y1, box.x2, box.y2)] == [int, float, int, int]


def test_unknown_keys_and_labels_are_kept_at_every_level() -> None:
    mask = {"class": "m", "iscrowd": 0, "rle": {"size": [1, 1], "counts": "01", "area": 1}}
    content = document(
        {**objects("seg", mask), "tool": "x"},
        {"label_type": "clf", "label_name": "Gender", "label": "Female", "score": 0.5},
        {"label_type": "keypoints", "object": [None, {"points": []}]},
        camera={"name": "left"},
    )
    annotation = parse_annotation(content)
    assert annotation.labels[0] == ObjectLabel(
        "seg", (Mask("m", (1, 1), "01", {"iscrowd": 0, "rle": {"area": 1}}),), {"tool": "x"}
    )
    assert annotation.labels[2] == UnknownLabel({"label_type": "keypoints", "object": [None, {"points": []}]})
    written = orjson.loads(dump_annotation(annotation))
    assert {key: value for key, value in written.items() if value is not None} == orjson.loads(content)


def test_everything_labelled_is_counted() -> None:
    content = document(
        objects("bbox", BOX, BOX),
        objects("poly"),
        {"label_type": "reg", "label_name": "Age", "label": 42},
        {"label_type": "other"},
    )
    assert parse_annotation(content).object_count == 4
    assert parse_annotation(document()).object_count == 0


def test_missing_sizes_and_extension_are_unknown() -> None:
    annotation = parse_annotation(document(height=None, width=300.0))
    assert (annotation.height, annotation.width, annotation.depth, annotation.ext) == (None, 300, None, None)
    assert type(annotation.width) is int


def test_a_byte_order_mark_is_taken() -> None:
    assert parse_annotation(b"\xef\xbb\xbf" + document()) == parse_annotation(document())


def test_a_mask_keeps_its_run_lengths_as_they_came() -> None:
    numbers = objects("seg", MASK, {"class": "p", "rle": {"size": [2, 3], "counts": "123"}})
    label = parse_annotation(document(numbers)).labels[0]
    assert isinstance(label, ObjectLabel)
    assert label.objects == (Mask("person", (2, 3), (1, 2, 3)), Mask("p", (2, 3), "123"))


@pytest.mark.parametrize(
    ("label", "field"),
    [
        (objects("rbbox", ROTATED, {**ROTATED, "w": None}), "labels[0].object[1].w"),
        (objects("rbbox", {**ROTATED, "a": True}), "labels[0].object[0].a"),
        (objects("bbox", {key: BOX[key] for key in ("class", "x1", "y1", "x2")}), "labels[0].object[0].y2"),
        (objects("bbox", {**BOX, "x1": "12"}), "labels[0].object[0].x1"),
        (objects("bbox", {**BOX, "class": 3}), "labels[0].object[0].class"),
        (objects("bbox", "box"), "labels[0].object[0]"),
        ({"label_type": "bbox"}, "labels[0].object"),
        (objects("poly", {"class": "p", "points": [[1, 2], [3]]}), "labels[0].object[0].points[1]"),
        (objects("poly", {"class": "p", "points": [[1, "2"]]}), "labels[0].object[0].points[0]"),
        (objects("poly", {"class": "p", "points": None}), "labels[0].object[0].points"),
        (objects("seg", {"class": "p", "rle": {"size": [2, 3], "counts": [1, 2]}}), "labels[0].object[0].rle.counts"),
        (objects("seg", {"class": "p", "rle": {"size": [2, 3], "counts": [-1, 7]}}), "labels[0].object[0].rle.counts"),
        (objects("seg", {"class": "p", "rle": {"size": [2, 3], "counts": "1~"}}), "labels[0].object[0].rle.counts"),
        (objects("seg", {"class": "p", "rle": {"size": [2, 3], "counts": "12"}}), "labels[0].object[0].rle.counts"),
        (objects("seg", {"class": "p", "rle": {"size": [2.5, 3], "counts": []}}), "labels[0].object[0].rle.size"),
        (objects("seg", {"class": "p", "rle": {"size": [2**40, 2**40], "counts": []}}), "labels[0].object[0].rle.size"),
        (objects("seg", {"class": "p", "rle": [1, 2]}), "labels[0].object[0].rle"),
        ({"label_type": "clf", "label_name": "Age", "label": 42}, "labels[0].label"),
        ({"label_type": "reg", "label_name": "Age", "label": "42"}, "labels[0].label"),
        ({"label_type": "reg", "label": 42}, "labels[0].label_name"),
        ({"object": []}, "labels[0].label_type"),
        ("bbox", "labels[0]"),
    ],
)
def test_what_would_show_wrong_is_refused_with_its_place(label: Any, field: str) -> None:
    error = fault(document(label))
    assert error.field == field
    assert str(error) == f"{field}: {error.reason}"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"labels": []}', "anno_version"),
        (b'{"anno_version": 2, "labels": []}', "anno_version"),
        (b'{"anno_version": "0.2.0"}', "labels"),
        (b'{"anno_version": "0.2.0", "labels": [], "height": -1}', "height"),
        (b'{"anno_version": "0.2.0", "labels": [], "width": 3.5}', "width"),
        (b'{"anno_version": "0.2.0", "labels": [], "label_checked": "yes"}', "label_checked"),
        (b'{"anno_version": "0.2.0", "labels": [], "ext": 3}', "ext"),
        (b"[]", ""),
        (b"", ""),
        (b'{"anno_version": ', ""),
        (b'{"anno_version": "\xff", "labels": []}', ""),
    ],
)
def test_a_document_that_is_no_annotation_is_refused(content: bytes, field: str) -> None:
    assert fault(content).field == field


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" + b"0" * 400])
def test_numbers_that_are_not_finite_are_refused(number: bytes) -> None:
    fault(document(objects("bbox", BOX)).replace(b"2.5", number))


def test_an_integer_beyond_64_bits_becomes_a_float() -> None:
    content = document(objects("bbox", BOX)).replace(b"2.5", b"123456789012345678901234567890")
    label = parse_annotation(content).labels[0]
    assert isinstance(label, ObjectLabel)
    assert isinstance(label.objects[0], BoundingBox)
    assert label.objects[0].y1 == 1.2345678901234568e29


def test_what_json_cannot_hold_is_told_when_it_is_written() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    for extra in ({"deep": deep}, {"large": 2**70}, {"surrogate": "\ud800"}):
        with pytest.raises(AnnotationError, match="JSON"):
            dump_annotation(Annotation(extra=extra))


def test_what_could_not_be_read_again_is_not_written() -> None:
    for label in (
        ObjectLabel("bbox", (BoundingBox("p", 1, 2, float("nan"), 4),)),
        ObjectLabel("bbox", (BoundingBox("p", 1, 2, 10**400, 4),)),
        ObjectLabel("bbox", (RotatedBox("p", 1, 2, 3, 4, 5),)),
        ObjectLabel("poly", (Polygon("p", ((1, float("inf")),)),)),
        ObjectLabel("poly", (Polygon("p", ((10**400, 1),)),)),
        ObjectLabel("seg", (Mask("p", (2, 3), (1,)),)),
    ):
        with pytest.raises(AnnotationError, match="object"):
            dump_annotation(Annotation(labels=(label,)))


def test_written_annotations_can_be_read_by_people() -> None:
    lines = dump_annotation(Annotation(labels=(ObjectLabel("poly", (Polygon("p", ((1, 2),)),)),))).decode().splitlines()
    assert lines[:2] == ["{", '  "anno_version": "0.2.0",']


def test_an_annotation_is_told_from_other_json() -> None:
    assert is_annotation(document())
    assert is_annotation(b"\xef\xbb\xbf " + document())
    assert is_annotation(b'{"anno_version": "0.2.0", "labels": [')
    assert not is_annotation(b'{"version": "5.5.0", "shapes": [], "extra": {"anno_version": "0.2.0"}}')
    assert not is_annotation(b'{"shapes": [{"anno_version": "0.2.0"}')
    assert not is_annotation(b'["anno_version"]')
    assert not is_annotation(b'"anno_version"')
    assert not is_annotation(b"")
