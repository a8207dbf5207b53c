"""One annotation from any format to any other, and what a tool dropped put back."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from lxml import etree
from support.annotation_strategies import house_annotations, unhurried
from support.places import SAMPLES

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    dump_annotation,
)
from imgsyncfs.errors import AnnotationError, FormatError
from imgsyncfs.formats.registry import CONVERTIBLE, FORMATS, HOUSE, ImageInfo, Loss, get_format
from imgsyncfs.tools.convert.conversion import convert_annotation, is_as_rendered, recognize

IMAGE = ImageInfo("original_20200207_fisheye_rbbox", "00079", "jpg", 2880, 2880, 3)
MIXED = Annotation(
    label_checked=1,
    height=2880,
    width=2880,
    depth=3,
    ext="jpg",
    labels=(
        ObjectLabel(
            "rbbox",
            (
                RotatedBox("person", 1433.5394123, 1151.9007, 206.441, 383.9458, 1.548375, {"id": 1}),
                RotatedBox("person", 800, 700.25, 100, 200, 0.25 + 6.283185307, {"id": 2}),
            ),
        ),
        ObjectLabel("bbox", (BoundingBox("face", 10.4, 20.5, 30.25, 40, {"score": 0.5}),)),
        ObjectLabel("poly", (Polygon("arm", ((1, 2), (30, 4.5), (5, 60))),)),
        ClassificationLabel("Gender", "Female"),
        RegressionLabel("Age", 42),
    ),
    extra={"camera": 7},
)


def saved_anew(name: str, content: bytes) -> bytes:
    """What is left of a file when a tool that knows nothing of this project saves it."""
    if name == "labelme":
        document = orjson.loads(content)
        document.pop("imgsyncfs")
        for shape in document["shapes"]:
            shape.pop("imgsyncfs")
        return orjson.dumps(document)
    root = etree.fromstring(content)
    for element in root.findall(".//imgsyncfs"):
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)
    return etree.tostring(root)


@pytest.mark.parametrize("target", ["labelme", "rolabelimg", "xanylabeling"])
@given(annotation=house_annotations)
@unhurried
def test_to_a_tool_and_back_loses_nothing(target: str, annotation: Annotation) -> None:
    full = replace(annotation, height=480, width=640, depth=3, ext="jpg")
    there = convert_annotation(dump_annotation(full), to=target, image=IMAGE)
    assert convert_annotation(there.content, to="imagesynchronizer").content == dump_annotation(full)


@given(annotation=house_annotations)
@unhurried
def test_from_one_tool_to_the_other_loses_nothing(annotation: Annotation) -> None:
    full = replace(annotation, height=480, width=640, depth=3, ext="jpg")
    there = convert_annotation(dump_annotation(full), to="labelme", image=IMAGE)
    other = convert_annotation(there.content, to="rolabelimg", image=IMAGE)
    assert convert_annotation(other.content, to="imagesynchronizer", image=IMAGE).content == dump_annotation(full)


@pytest.mark.parametrize("name", ["labelme", "rolabelimg"])
@given(annotation=house_annotations)
@unhurried
def test_what_a_tool_dropped_comes_back_from_the_original(name: str, annotation: Annotation) -> None:
    content = FORMATS[name].render(annotation, IMAGE).content
    said = FORMATS[name].parse(FORMATS[name].reattached(saved_anew(name, content), annotation, IMAGE))
    # Boxes that lie on each other may change places: nobody sees the difference.
    assert replace(said, labels=(), label_checked=0) == replace(annotation, labels=(), label_checked=0)
    assert len(said.labels) == len(annotation.labels)
    for one, other in zip(said.labels, annotation.labels, strict=True):
        if isinstance(one, ObjectLabel) and isinstance(other, ObjectLabel):
            assert len(one.objects) == len(other.objects)
        else:
            assert one == other


@pytest.mark.parametrize("name", ["labelme", "rolabelimg"])
def test_a_dropped_original_comes_back_exactly_and_edits_stay(name: str) -> None:
    bare = saved_anew(name, FORMATS[name].render(MIXED, IMAGE).content)
    assert FORMATS[name].parse(bare) != MIXED
    assert FORMATS[name].parse(FORMATS[name].reattached(bare, MIXED, IMAGE)) == MIXED
    renamed = bare.replace(b"person", b"dog", 1)
    said = FORMATS[name].parse(FORMATS[name].reattached(renamed, MIXED, IMAGE))
    before = MIXED.labels[0]
    assert isinstance(before, ObjectLabel)
    changed = replace(before, objects=(replace(before.objects[0], class_name="dog"), *before.objects[1:]))
    assert said == replace(MIXED, labels=(changed, *MIXED.labels[1:]))


def test_a_moved_box_is_not_taken_for_the_original() -> None:
    bare = saved_anew("rolabelimg", FORMATS["rolabelimg"].render(MIXED, IMAGE).content)
    moved = bare.replace(b"<cx>800.0000</cx>", b"<cx>800.0100</cx>")
    assert moved != bare
    said = FORMATS["rolabelimg"].parse(FORMATS["rolabelimg"].reattached(moved, MIXED, IMAGE)).labels[0]
    assert isinstance(said, ObjectLabel)
    box = said.objects[1]
    assert isinstance(box, RotatedBox)
    assert box.x == 800.01


def test_a_file_that_still_carries_everything_is_left_alone() -> None:
    for known in FORMATS.values():
        content = known.render(MIXED, IMAGE).content
        if known.name != "dota":  # its files carry nothing
            assert known.reattached(content, replace(MIXED, labels=()), IMAGE) is content


@pytest.mark.parametrize("name", ["labelme", "rolabelimg"])
def test_what_travels_along_of_another_annotation_is_not_mixed_with_this_one(name: str) -> None:
    content = FORMATS[name].render(replace(MIXED, extra={"camera": 8}), IMAGE).content
    if name == "labelme":
        document = orjson.loads(content)
        document["shapes"][0].pop("imgsyncfs")
        content = orjson.dumps(document)
    else:
        root = etree.fromstring(content)
        for element in root.findall("object"):
            element.remove(element.findall("imgsyncfs")[0])
        content = etree.tostring(root)
    said = FORMATS[name].parse(FORMATS[name].reattached(content, MIXED, IMAGE))
    assert said.extra["camera"] == 8
    boxes = said.labels[0]
    assert isinstance(boxes, ObjectLabel)
    assert {"id": 1} not in [box.extra for box in boxes.objects]


@pytest.mark.parametrize("name", ["labelme", "rolabelimg"])
@given(annotation=house_annotations)
@unhurried
def test_a_rendering_is_told_from_what_a_tool_saved(name: str, annotation: Annotation) -> None:
    content = FORMATS[name].render(annotation, IMAGE).content
    assert is_as_rendered(name, content)
    assert not is_as_rendered(name, saved_anew(name, content))


def test_the_sample_annotations_are_the_same_bytes_in_their_own_format() -> None:
    for path in sorted(SAMPLES.glob("*.json")):
        assert convert_annotation(path.read_bytes(), to="ImageSynchronizer").content == path.read_bytes()


def test_what_a_format_does_not_show_is_told() -> None:
    losses = convert_annotation(dump_annotation(MIXED), to="rolabelimg_xml", image=IMAGE).losses
    assert {(loss.what, loss.count) for loss in losses} == {
        ("polygons", 1),
        ("classifications", 1),
        ("regression values", 1),
    }
    assert all(isinstance(loss, Loss) and loss.reason for loss in losses)


def test_sizes_come_from_the_annotation_and_where_it_says_none_from_the_image() -> None:
    content = dump_annotation(replace(MIXED, width=None))
    document = orjson.loads(convert_annotation(content, to="labelme", image=replace(IMAGE, height=1, width=9)).content)
    assert (document["imageHeight"], document["imageWidth"]) == (2880, 9)


def test_a_file_of_labelmes_names_its_image_and_a_house_annotation_needs_one() -> None:
    there = convert_annotation(dump_annotation(MIXED), to="labelme", image=IMAGE)
    assert b"<filename>00079</filename>" in convert_annotation(there.content, to="rolabelimg").content
    with pytest.raises(FormatError, match="image"):
        convert_annotation(dump_annotation(MIXED), to="labelme")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("labelme", "labelme"),
        ("labelme_json", "labelme"),
        ("RoLabelImg", "rolabelimg"),
        ("rolabelimg_xml", "rolabelimg"),
        ("rolabelme_xml", "rolabelimg"),
        ("imagesynchronizer", HOUSE),
    ],
)
def test_a_target_is_found_by_all_of_its_names(name: str, target: str) -> None:
    assert get_format(name, among=CONVERTIBLE).name == target


def test_an_unknown_target_is_named_with_those_there_are_the_near_one_first() -> None:
    with pytest.raises(FormatError, match="'imagesynchroniser'.*use one of imagesynchronizer, .*labelme"):
        get_format("imagesynchroniser", among=CONVERTIBLE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "anno_version"),
        (b'{"a": 1}', "anno_version"),
        (b'{"shapes": []}', "imagePath"),
        (b"<html/>", "annotation"),
        (b"\x89PNG\r\n", "JSON"),
    ],
)
def test_what_is_no_annotation_is_refused_with_what_is_missing(content: bytes, words: str) -> None:
    with pytest.raises(AnnotationError, match=words):
        recognize(content)
