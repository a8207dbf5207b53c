"""Pascal VOC's files: what readers demand, house to VOC to house, and what labelImg leaves of them."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from lxml import etree
from support.annotation_strategies import house_annotations, unhurried
from support.labelme_files import BOX, IMAGE, MASK, POLYGON, ROTATED, annotation_of, annotation_with, objects_of
from support.voc_reader import read_voc

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, ClassificationLabel, RotatedBox
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, FORMATS, FormatDescription, Loss, recognize_format

VOC, ROLABELIMG = FORMATS["voc"], FORMATS["rolabelimg"]
BOXES = annotation_of(*annotation_with(BOX).labels, *annotation_with(ROTATED).labels)


def saved_by_labelimg(content: bytes) -> bytes:
    """What labelImg leaves of a file: upright boxes from pixel 1 on, and no element of others."""
    root = etree.fromstring(content)
    for element in root.findall(".//imgsyncfs") + root.findall(".//robndbox"):
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)
    for edge in (*root.iter("xmin"), *root.iter("ymin")):
        edge.text = str(max(1, int(edge.text or "")))
    return bytes(etree.tostring(root))


@pytest.mark.parametrize("reader", [VOC, ROLABELIMG])
@given(annotation=house_annotations)
@unhurried
def test_nothing_is_lost_on_the_way_there_and_back(reader: FormatDescription, annotation: Annotation) -> None:
    assert reader.parse(VOC.render(annotation, IMAGE).content) == annotation


@given(annotation=house_annotations)
@unhurried
def test_a_strict_reader_takes_every_file(annotation: Annotation) -> None:
    shown = read_voc(VOC.render(annotation, IMAGE).content)
    assert shown.file_name == "00079.jpg"


def test_the_elements_of_an_object_stand_in_the_order_of_voc() -> None:
    root = ET.fromstring(VOC.render(BOXES, IMAGE).content)
    assert [child.tag for child in root[:6]] == ["folder", "filename", "path", "source", "size", "segmented"]
    expected = ["name", "pose", "truncated", "difficult", "bndbox"]
    assert [[child.tag for child in element[:5]] for element in root.iter("object")] == [expected, expected]


def test_a_bounding_box_is_rounded_to_whole_pixels() -> None:
    (shown,) = read_voc(VOC.render(annotation_with(BOX), IMAGE).content).objects
    assert (shown.name, shown.box) == ("person", (10, 20, 30, 40))


@pytest.mark.parametrize("angle", [0, 0.3, 1.57, 2.9, 4])
def test_a_rotated_box_has_the_upright_one_around_it(angle: float) -> None:
    box = RotatedBox("person", 100, 200, 30, 50, angle)
    (shown,) = read_voc(VOC.render(annotation_with(box), IMAGE).content).objects
    places = corners([(100, 200, 30, 50, angle)])[0]
    assert shown.box == pytest.approx((*places.min(axis=0), *places.max(axis=0)), abs=0.501)


def test_what_readers_do_not_see_is_counted() -> None:
    labels = [label for item in (ROTATED, POLYGON, MASK) for label in annotation_with(item).labels]
    losses = VOC.render(annotation_of(*labels, ClassificationLabel("Gender", "Female")), IMAGE).losses
    turned = "readers of Pascal VOC see the upright boxes around them; they stand beside, as robndbox"
    assert losses == (
        Loss("classifications", 1, "Pascal VOC has no place for words about an image"),
        Loss("rotated boxes", 1, turned),
        Loss("polygons", 1, "Pascal VOC shows boxes only"),
        Loss("masks", 1, "Pascal VOC shows boxes only"),
    )


def test_a_turned_photo_is_shown_as_it_is_turned() -> None:
    content = VOC.render(annotation_with(BOX), replace(IMAGE, height=3000, width=4000, orientation=6)).content
    shown = read_voc(content)
    assert (shown.width, shown.height) == (4000, 3000)
    assert shown.objects[0].box == (10, 20, 30, 40)


@pytest.mark.parametrize("reader", [VOC, ROLABELIMG])
def test_what_labelimg_dropped_comes_back_from_the_original(reader: FormatDescription) -> None:
    near_edge = replace(ROTATED, x=20, y=30, w=60, h=30)
    annotation = annotation_of(*annotation_with(BOX).labels, *annotation_with(ROTATED, near_edge).labels)
    bare = saved_by_labelimg(VOC.render(annotation, IMAGE).content)
    assert reader.parse(reader.reattached(bare, annotation, IMAGE)) == annotation


def test_an_upright_box_that_labelimg_moved_is_no_rotated_one_any_more() -> None:
    bare = saved_by_labelimg(VOC.render(annotation_with(ROTATED), IMAGE).content)
    moved = bare.replace(b"<xmin>", b"<xmin>1")
    (item,) = objects_of(VOC.parse(VOC.reattached(moved, annotation_with(ROTATED), IMAGE)), 1)
    assert isinstance(item, BoundingBox)


def test_a_file_is_recognized_by_its_name_and_otherwise_as_rolabelimg_s() -> None:
    content = VOC.render(BOXES, IMAGE).content
    assert recognize_format(content, file_name="x.voc.xml") is VOC
    assert recognize_format(content, file_name="x.xml") is ROLABELIMG
    assert recognize_format(content) is ROLABELIMG


def test_it_stands_beside_images_only_where_somebody_asks_for_it() -> None:
    assert "voc" not in DEFAULT_SIBLINGS
