"""House annotations go to roLabelImg and back without a loss, and an edit made there comes back as it was made."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from support.annotation_strategies import (
    bounding_boxes,
    coordinates,
    house_annotations,
    rotated_boxes,
    unhurried,
)
from support.places import SAMPLES
from support.rolabelimg_reader import is_verified, read_rolabelimg

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
)
from imgsyncfs.formats.registry import FORMATS, ImageInfo, get_format

ROLABELIMG = FORMATS["rolabelimg"]
IMAGE = ImageInfo("original_20200207_fisheye_rbbox", "00079", "jpg", 2880, 2880, 3)
BOX = BoundingBox("person", 10, 20.75, 30.25, 40, {"id": 7})
ROTATED = RotatedBox("person", 1433.53941, 1151.9007, 206.441, 383.9458, 1.548375 + 2 * math.pi, {"id": 8})
POLYGON = Polygon("arm", ((1, 2), (30, 4.5), (5, 60)))
MASK = Mask("hair", (2, 3), (1, 2, 3))

EXPECTED = """\
<annotation verified="yes">
  <folder>original_20200207_fisheye_rbbox</folder>
  <filename>00079</filename>
  <path>00079.jpg</path>
  <source>
    <database>Unknown</database>
  </source>
  <size>
    <width>2880</width>
    <height>2870</height>
    <depth>3</depth>
  </size>
  <segmented>0</segmented>
  <object>
    <type>bndbox</type>
    <name>person</name>
    <pose>Unspecified</pose>
    <truncated>0</truncated>
    <difficult>0</difficult>
    <bndbox>
      <xmin>10</xmin>
      <ymin>21</ymin>
      <xmax>30</xmax>
      <ymax>40</ymax>
    </bndbox>
  </object>
  <object>
    <type>robndbox</type>
    <name>person</name>
    <pose>Unspecified</pose>
    <truncated>0</truncated>
    <difficult>0</difficult>
    <robndbox>
      <cx>1433.5394</cx>
      <cy>1151.9007</cy>
      <w>206.4410</w>
      <h>383.9458</h>
      <angle>1.548375</angle>
    </robndbox>
  </object>
</annotation>
"""


def annotation_of(*labels: Label, label_checked: int = 1) -> Annotation:
    """An annotation of the image."""
    return Annotation(label_checked=label_checked, height=2880, width=2880, depth=3, ext="jpg", labels=labels)


def annotation_with(*objects: LabelledObject) -> Annotation:
    """An annotation with one label that holds these objects, all of one type."""
    return annotation_of(ObjectLabel("bbox" if isinstance(objects[0], BoundingBox) else "rbbox", objects))


def rendered(annotation: Annotation, image: ImageInfo = IMAGE) -> bytes:
    """The roLabelImg file of an annotation."""
    return ROLABELIMG.render(annotation, image).content


def edited(annotation: Annotation, *edits: tuple[str, str]) -> Annotation:
    """An annotation after texts of its file were replaced by others, each once."""
    content = rendered(annotation).decode()
    for before, after in edits:
        assert before in content
        content = content.replace(before, after, 1)
    return ROLABELIMG.parse(content.encode())


def objects_of(annotation: Annotation, label: int = 0) -> tuple[LabelledObject, ...]:
    """The objects of one label."""
    found = annotation.labels[label]
    assert isinstance(found, ObjectLabel)
    return found.objects


def without_what_travels_along(content: bytes) -> bytes:
    """What roLabelImg keeps of a file: it knows nothing of our elements."""
    root = etree.fromstring(content, etree.XMLParser(remove_blank_text=True))
    for element in root.findall(".//imgsyncfs"):
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)
    return etree.tostring(root, pretty_print=True)


@given(house_annotations)
@unhurried
def test_there_and_back_loses_nothing(annotation: Annotation) -> None:
    content = rendered(annotation)
    assert dump_annotation(ROLABELIMG.parse(content)) == dump_annotation(annotation)
    assert rendered(annotation) == content


@given(house_annotations)
@unhurried
def test_a_file_that_another_program_wrote_anew_in_full_loses_nothing(annotation: Annotation) -> None:
    root = etree.fromstring(rendered(annotation), etree.XMLParser(remove_blank_text=True))
    content = etree.tostring(root, xml_declaration=True, encoding="UTF-16")
    assert isinstance(content, bytes)
    assert dump_annotation(ROLABELIMG.parse(content)) == dump_annotation(annotation)


@given(house_annotations)
@unhurried
def test_every_rendered_file_is_what_rolabelimgs_strict_reader_takes(annotation: Annotation) -> None:
    shapes = read_rolabelimg(rendered(annotation))
    boxes = [item for label in annotation.labels if isinstance(label, ObjectLabel) for item in label.objects]
    upright = [item for item in boxes if isinstance(item, BoundingBox)]
    rotated = [item for item in boxes if isinstance(item, RotatedBox)]
    assert [shape.is_rotated for shape in shapes] == [False] * len(upright) + [True] * len(rotated)
    assert all(0 <= shape.angle < math.pi for shape in shapes)


@given(st.lists(rotated_boxes(coordinates, st.floats(-10, 10)), max_size=4).map(tuple))
@unhurried
def test_the_corners_that_rolabelimg_draws_are_those_of_the_boxes(boxes: tuple[RotatedBox, ...]) -> None:
    shapes = read_rolabelimg(rendered(annotation_of(ObjectLabel("rbbox", boxes))))
    for shape, box in zip(shapes, boxes, strict=True):
        wanted = corners([(box.x, box.y, box.w, box.h, box.a)])[0]
        turned = min(np.abs(np.roll(wanted, turn, axis=0) - shape.corners).max() for turn in (0, 2))
        assert turned <= 0.01


@given(st.lists(bounding_boxes(coordinates), max_size=4).map(tuple))
@unhurried
def test_what_rolabelimg_keeps_of_an_upright_box_is_it_in_whole_pixels(boxes: tuple[BoundingBox, ...]) -> None:
    content = without_what_travels_along(rendered(annotation_of(ObjectLabel("bbox", boxes))))
    found = [
        item for label in ROLABELIMG.parse(content).labels if isinstance(label, ObjectLabel) for item in label.objects
    ]
    for item, box in zip(found, boxes, strict=True):
        assert isinstance(item, BoundingBox)
        wanted = sorted((box.x1, box.x2)) + sorted((box.y1, box.y2))
        np.testing.assert_allclose((item.x1, item.x2, item.y1, item.y2), wanted, atol=0.5)


def test_a_file_is_written_as_rolabelimg_writes_it_but_for_what_travels_along() -> None:
    annotation = annotation_of(ObjectLabel("rbbox", (ROTATED,)), ObjectLabel("bbox", (BOX,)))
    content = rendered(annotation, ImageInfo(IMAGE.dataset, IMAGE.name, "jpg", 2870, 2880, 3))
    kept = [line for line in content.decode().splitlines(keepends=True) if "imgsyncfs" not in line]
    assert "".join(kept) == EXPECTED


def test_the_fisheye_boxes_have_the_same_numbers() -> None:
    with (SAMPLES / "fisheye_00079.csv").open() as table:
        rows = [[float(row[name]) for name in "xywha"] for row in csv.DictReader(table)]
    content = rendered(annotation_with(*(RotatedBox("person", x, y, w, h, a) for x, y, w, h, a in rows)))
    shown = [
        [float(element.findtext(name) or "") for name in ("cx", "cy", "w", "h", "angle")]
        for element in etree.fromstring(content).iter("robndbox")
    ]
    assert shown == rows


def test_the_order_of_labels_and_objects_comes_back() -> None:
    annotation = annotation_of(
        ObjectLabel("rbbox", (ROTATED, ROTATED)), ObjectLabel("bbox", (BOX,)), ObjectLabel("poly", (POLYGON,))
    )
    assert ROLABELIMG.parse(rendered(annotation)) == annotation


def test_what_rolabelimg_cannot_show_is_counted_and_named() -> None:
    annotation = annotation_of(
        ObjectLabel("bbox", (BOX,)),
        ObjectLabel("poly", (POLYGON, POLYGON)),
        ObjectLabel("seg", (MASK,)),
        ClassificationLabel("Gender", "Female"),
        RegressionLabel("Age", 42),
        UnknownLabel({"label_type": "keypoints"}),
    )
    losses = ROLABELIMG.render(annotation, IMAGE).losses
    assert {loss.what: loss.count for loss in losses} == {
        "polygons": 2,
        "masks": 1,
        "classifications": 1,
        "regression values": 1,
        "labels of unknown types": 1,
    }
    assert all(loss.reason for loss in losses)
    assert ROLABELIMG.render(annotation_with(BOX), IMAGE).losses == ()


def test_a_checked_annotation_is_verified_and_an_unchecked_one_is_not() -> None:
    assert is_verified(rendered(annotation_of()))
    assert not is_verified(rendered(annotation_of(label_checked=0)))


def test_an_angle_just_below_half_a_turn_is_none() -> None:
    shapes = read_rolabelimg(
        rendered(annotation_with(RotatedBox("p", 1, 2, 3, 4, -1e-9), RotatedBox("p", 1, 2, 3, 4, 3.14159)))
    )
    assert [shape.angle for shape in shapes] == [0, 3.14159]


@pytest.mark.parametrize(
    "name", ["a & <b>", "人😀", "tab\there", "\r\n", "\x00\x01\x1f", "\ufffe\uffff", "]]>", "", "  "]
)
def test_any_class_name_is_shown_and_comes_back(name: str) -> None:
    annotation = annotation_with(BoundingBox(name, 1, 2, 3, 4))
    content = rendered(annotation)
    assert read_rolabelimg(content)[0].label
    assert ROLABELIMG.parse(content) == annotation


def test_characters_that_xml_cannot_hold_are_replaced_and_blank_names_are_unnamed() -> None:
    annotation = annotation_with(BoundingBox("a\x01b", 1, 2, 3, 4), BoundingBox("", 1, 2, 3, 4))
    assert [shape.label for shape in read_rolabelimg(rendered(annotation))] == ["a\ufffdb", "unnamed"]


def test_huge_numbers_are_rendered_and_come_back() -> None:
    annotation = annotation_of(
        ObjectLabel("bbox", (BoundingBox("far", -1.7e308, 2**63, 1.7e308, 1e20),)),
        ObjectLabel("rbbox", (RotatedBox("far", 1e308, 1e308, 1.7e308, 1.7e308, 1e300),)),
    )
    content = rendered(annotation)
    assert len(read_rolabelimg(content)) == 2
    assert ROLABELIMG.parse(content) == annotation


def test_an_annotation_of_more_than_ten_million_characters_can_be_read_again() -> None:
    annotation = annotation_of(UnknownLabel({"label_type": "blob", "text": "<" * 11_000_000}))
    assert ROLABELIMG.parse(rendered(annotation)) == annotation


def test_after_a_save_of_rolabelimg_what_it_shows_is_left() -> None:
    annotation = annotation_of(
        ObjectLabel("bbox", (BOX,)), ObjectLabel("rbbox", (ROTATED,)), RegressionLabel("Age", 42)
    )
    found = ROLABELIMG.parse(without_what_travels_along(rendered(annotation)))
    assert found == annotation_of(
        ObjectLabel("bbox", (BoundingBox("person", 10, 21, 30, 40),)),
        ObjectLabel("rbbox", (RotatedBox("person", 1433.5394, 1151.9007, 206.441, 383.9458, 1.548375),)),
    )


def test_a_moved_edge_comes_back_and_the_other_edges_stay_exact() -> None:
    found = edited(annotation_with(BOX, BOX), ("<ymin>21</ymin>", "<ymin>22</ymin>"))
    assert repr(objects_of(found)) == repr((BoundingBox("person", 10, 22.0, 30.25, 40, {"id": 7}), BOX))


def test_a_turned_box_comes_back_turned_and_otherwise_exact() -> None:
    found = edited(annotation_with(ROTATED, ROTATED), ("<angle>1.548375</angle>", "<angle>4.000000</angle>"))
    turned, other = objects_of(found)
    assert isinstance(turned, RotatedBox)
    assert turned == RotatedBox("person", ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h, 4 - math.pi, {"id": 8})
    assert repr(other) == repr(ROTATED)


@pytest.mark.parametrize("name", ["cx", "cy", "w", "h"])
def test_a_change_of_the_last_digit_is_an_edit(name: str) -> None:
    field = {"cx": "x", "cy": "y"}.get(name, name)
    before = f"{getattr(ROTATED, field):.4f}"
    after = f"{float(before) + 0.0001:.4f}"
    (found,) = objects_of(edited(annotation_with(ROTATED), (f"<{name}>{before}<", f"<{name}>{after}<")))
    assert isinstance(found, RotatedBox)
    assert {**vars(found), field: None} == {**vars(ROTATED), field: None}
    assert getattr(found, field) == float(after)


def test_an_inverted_box_keeps_its_order_when_an_edge_moves() -> None:
    inverted = BoundingBox("person", 30.25, 40, 10, 20.75)
    (found,) = objects_of(edited(annotation_with(inverted), ("<xmax>30</xmax>", "<xmax>35</xmax>")))
    assert found == BoundingBox("person", 35.0, 40, 10, 20.75)


def test_a_renamed_box_keeps_its_exact_numbers() -> None:
    (found,) = objects_of(edited(annotation_with(ROTATED), ("<name>person</name>", "<name> child </name>")))
    assert found == RotatedBox("child", ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h, ROTATED.a, {"id": 8})


def test_a_removed_box_stays_removed_and_one_added_comes_to_the_end() -> None:
    content = rendered(annotation_of(ObjectLabel("bbox", (BOX, BoundingBox("dog", 1, 2, 3, 4))), label_checked=0))
    root = etree.fromstring(content)
    root.remove(root.findall("object")[0])
    root.append(
        etree.fromstring(
            "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax><ymax>8</ymax></bndbox></object>"
        )
    )
    found = ROLABELIMG.parse(etree.tostring(root))
    assert objects_of(found) == (BoundingBox("dog", 1, 2, 3, 4), BoundingBox("cat", 5, 6, 7, 8))
    assert found.label_checked == 1


def test_verifying_an_image_marks_it_as_checked_and_taking_that_back_as_unchecked() -> None:
    unchecked, checked = annotation_of(label_checked=0), annotation_of()
    assert edited(unchecked, ('verified="no"', 'verified="yes"')) == checked
    assert edited(checked, ('verified="yes"', 'verified="no"')) == unchecked


def test_difficult_truncated_and_pose_are_shown_and_an_edit_of_them_is_kept() -> None:
    box = BoundingBox("person", 1, 2, 3, 4, {"difficult": 1, "pose": "Left"})
    assert read_rolabelimg(rendered(annotation_with(box)))[0].difficult
    (found,) = objects_of(
        edited(
            annotation_with(box),
            ("<difficult>1</difficult>", "<difficult>0</difficult>"),
            ("<truncated>0</truncated>", "<truncated>1</truncated>"),
        )
    )
    assert found == BoundingBox("person", 1, 2, 3, 4, {"difficult": 0, "pose": "Left", "truncated": 1})


def test_another_size_in_the_file_wins_and_the_one_that_was_rendered_does_not() -> None:
    annotation = Annotation(label_checked=1, height=300, width=None, depth=1)
    content = rendered(annotation, ImageInfo("d", "a", "jpg", 480, 640))
    assert b"<width>640</width>\n    <height>480</height>\n    <depth>1</depth>" in content
    assert ROLABELIMG.parse(content) == annotation
    assert ROLABELIMG.parse(content.replace(b">640<", b">641<")).width == 641
    assert b"<width>0</width>" in rendered(annotation, ImageInfo("d", "a", "jpg"))


def test_rolabelimgs_files_are_recognized() -> None:
    content = rendered(annotation_with(BOX))
    assert ROLABELIMG.recognizes(content)
    assert ROLABELIMG.recognizes(b'\xef\xbb\xbf<?xml version="1.0"?>\n' + content)
    assert not ROLABELIMG.recognizes(dump_annotation(annotation_with(BOX)))
    assert not ROLABELIMG.recognizes(b"<html></html>")


@pytest.mark.parametrize("name", ["rolabelimg", "roLabelImg", "rolabelimg_xml", "rolabelme_xml"])
def test_the_format_is_found_by_its_names(name: str) -> None:
    assert get_format(name) is ROLABELIMG
