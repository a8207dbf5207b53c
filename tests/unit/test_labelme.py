"""House annotations go to labelme and back without a loss."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.annotation_strategies import (
    house_annotations,
    unhurried,
)
from support.labelme_files import (
    BOX,
    COVERED,
    IMAGE,
    LABELME,
    MASK,
    POLYGON,
    annotation_of,
    annotation_with,
    edited,
    parsed,
    rendered,
    saved_by_labelme,
)
from support.places import SAMPLES

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
    parse_annotation,
)
from imgsyncfs.errors import AnnotationError, FormatError
from imgsyncfs.formats.registry import FORMATS, ImageInfo, Loss, get_format


@given(house_annotations)
@unhurried
def test_there_and_back_loses_nothing(annotation: Annotation) -> None:
    content = LABELME.render(annotation, IMAGE).content
    assert dump_annotation(LABELME.parse(content)) == dump_annotation(annotation)
    assert LABELME.render(annotation, IMAGE).content == content


@given(house_annotations, st.booleans())
@unhurried
def test_a_save_without_an_edit_loses_nothing(annotation: Annotation, drops_repeated_points: bool) -> None:
    document = saved_by_labelme(rendered(annotation), drops_repeated_points=drops_repeated_points)
    assert dump_annotation(parsed(document)) == dump_annotation(annotation)


@given(house_annotations)
@unhurried
def test_every_rendered_file_is_what_labelmes_strictest_reader_takes(annotation: Annotation) -> None:
    content = LABELME.render(annotation, IMAGE).content
    assert content.isascii()
    document = orjson.loads(content)
    assert isinstance(document["version"], str)
    assert document["imageData"] is None
    assert (document["imageHeight"], document["imageWidth"]) == (2880, 2880)
    assert document["imagePath"] == "00079.jpg"
    assert all(value is True for value in document["flags"].values())
    for shape in document["shapes"]:
        assert shape["label"]
        assert shape["points"]
        assert all(len(point) == 2 for point in shape["points"])
        assert np.isfinite(np.array(shape["points"], dtype=float)).all()
        assert shape["group_id"] is None or type(shape["group_id"]) is int
        assert type(shape["description"]) is str
        assert all(type(value) is bool for value in shape["flags"].values())
        if shape["shape_type"] in {"rectangle", "mask"}:
            (left, top), (right, bottom) = shape["points"]
            assert left <= right
            assert top <= bottom


def test_the_fisheye_boxes_are_polygons_through_their_corners() -> None:
    with (SAMPLES / "fisheye_00079.csv").open() as table:
        rows = [[float(row[name]) for name in "xywha"] for row in csv.DictReader(table)]
    document = rendered(annotation_with(*(RotatedBox("person", x, y, w, h, a) for x, y, w, h, a in rows)))
    assert {shape["shape_type"] for shape in document["shapes"]} == {"polygon"}
    np.testing.assert_allclose([shape["points"] for shape in document["shapes"]], corners(rows), atol=1e-6)


def test_each_object_is_the_shape_that_labelme_has_for_it() -> None:
    annotation = annotation_of(
        ObjectLabel("bbox", (BoundingBox("person", 30.25, 20, 10, 40),)),
        ObjectLabel("poly", (POLYGON,)),
        ObjectLabel("seg", (MASK,)),
    )
    box, polygon, mask = rendered(annotation)["shapes"]
    assert (box["shape_type"], box["points"]) == ("rectangle", [[10, 20], [30.25, 40]])
    assert (polygon["shape_type"], polygon["points"]) == ("polygon", [[1, 2], [30, 4.5], [5, 60]])
    assert (mask["shape_type"], mask["points"]) == ("mask", [[30, 10], [44, 19]])
    with Image.open(io.BytesIO(base64.b64decode(mask["mask"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), COVERED[10:20, 30:45])


def test_classifications_are_image_flags() -> None:
    document = rendered(parse_annotation((SAMPLES / "clf_reg.json").read_bytes()))
    assert document["flags"] == {"Gender: Female": True, "Emotion: Happiness": True}


def test_what_labelme_cannot_show_is_counted_and_named() -> None:
    annotation = annotation_of(
        ObjectLabel("poly", (POLYGON, Polygon("empty", ()))),
        ObjectLabel("seg", (MASK, Mask("none", (2, 3), (6,)))),
        ObjectLabel("rbbox", (RotatedBox("far", 1e308, 1e308, 1.7e308, 1.7e308, 0.5),)),
        RegressionLabel("Age", 42),
        RegressionLabel("Height", 1.8),
        UnknownLabel({"label_type": "keypoints"}),
    )
    losses = LABELME.render(annotation, IMAGE).losses
    assert {loss.what: loss.count for loss in losses} == {
        "polygons": 1,
        "masks": 1,
        "rotated boxes": 1,
        "regression values": 2,
        "labels of unknown types": 1,
    }
    assert all(isinstance(loss, Loss) and loss.reason for loss in losses)
    assert LABELME.render(annotation_with(BOX), IMAGE).losses == ()


def test_a_blank_class_name_is_shown_as_unnamed_and_comes_back_blank() -> None:
    annotation = annotation_with(BoundingBox("", 1, 2, 3, 4), BoundingBox(" ", 1, 2, 3, 4))
    assert [shape["label"] for shape in rendered(annotation)["shapes"]] == ["unnamed", "unnamed"]
    assert parsed(rendered(annotation)) == annotation


def test_names_beyond_ascii_are_escaped_and_come_back() -> None:
    annotation = annotation_with(BoundingBox("人😀\x01\x7f\u2028", 1, 2, 3, 4))
    content = LABELME.render(annotation, IMAGE).content
    assert rb"\u4eba\ud83d\ude00\u0001" in content
    assert LABELME.parse(content) == annotation


def test_the_catalogs_image_size_is_shown_and_the_annotations_comes_back() -> None:
    annotation = Annotation(label_checked=1, height=300, width=None, depth=None)
    image = ImageInfo("d", "a", "jpg", 480, 640, 3)
    document = rendered(annotation, image)
    assert (document["imageHeight"], document["imageWidth"]) == (480, 640)
    assert parsed(document) == annotation
    document["imageWidth"] = 641
    assert parsed(document).width == 641


def test_without_the_catalogs_size_the_annotations_is_shown_and_else_null() -> None:
    unknown = ImageInfo("d", "a", "jpg")
    assert rendered(Annotation(height=300, width=0), unknown)["imageHeight"] == 300
    assert rendered(Annotation(height=300, width=0), unknown)["imageWidth"] is None


@pytest.mark.parametrize(
    "own", [5, {"group_id": "3"}, {"group_id": True}, {"flags": {"a": 1}}, {"flags": 5}, {"label": ""}]
)
def test_what_labelme_would_choke_on_is_not_shown_and_comes_back(own: Any) -> None:
    annotation = annotation_with(BoundingBox("person", 1, 2, 3, 4, {"labelme": own}))
    shape = rendered(annotation)["shapes"][0]
    assert (shape["label"], shape["group_id"], shape["flags"]) == ("person", None, {})
    assert parsed(saved_by_labelme(rendered(annotation))) == annotation


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda document: document["shapes"][0].update(label=None), "shapes[0].label"),
        (lambda document: document["shapes"][0].update(shape_type=3), "shapes[0].shape_type"),
        (lambda document: document["shapes"][0].update(points=[]), "shapes[0].points"),
        (lambda document: document["shapes"][0].update(points=[[1, 2], [3]]), "shapes[0].points[1]"),
        (lambda document: document["shapes"][0].update(points=[[1, "2"]]), "shapes[0].points[0]"),
        (lambda document: document["shapes"][0].update(shape_type="mask"), "shapes[0].mask"),
        (lambda document: document["shapes"][0].update(shape_type="mask", mask="AAAA"), "shapes[0].mask"),
        (lambda document: document["shapes"].append(5), "shapes[1]"),
        (lambda document: document.update(shapes=None), "shapes"),
        (lambda document: document.update(flags=[1]), "flags"),
        (lambda document: document.update(imageHeight="tall"), "imageHeight"),
        (lambda document: document.update(imgsyncfs=5), "imgsyncfs"),
        (lambda document: document["shapes"][0].update(imgsyncfs={"at": 5}), "shapes[0].imgsyncfs"),
        (lambda document: document["shapes"][0]["imgsyncfs"].update(at=[0]), "shapes[0].imgsyncfs"),
        (lambda document: document["shapes"][0]["imgsyncfs"]["object"].update(x1=None), "shapes[0].imgsyncfs"),
        (lambda document: document["imgsyncfs"]["annotation"].update(labels=5), "imgsyncfs"),
        (lambda document: document["imgsyncfs"]["annotation"].update(labels=[{"label_type": []}]), "imgsyncfs"),
        (lambda document: document["shapes"][0]["imgsyncfs"].update(label_type=[]), "shapes[0].imgsyncfs"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(edit: Callable[[dict[str, Any]], None], field: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        edited(annotation_with(BOX), edit)
    assert caught.value.field == field


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"shapes": [{"label": "a", "points": [[NaN, 1]]}]}', b"\xff"])
def test_what_is_no_file_of_labelmes_is_refused(content: bytes) -> None:
    with pytest.raises(AnnotationError):
        LABELME.parse(content)


def test_labelmes_files_are_recognized() -> None:
    content = LABELME.render(annotation_with(BOX), IMAGE).content
    assert LABELME.recognizes(content)
    assert LABELME.recognizes(b"\xef\xbb\xbf\n" + content)
    assert not LABELME.recognizes(dump_annotation(annotation_with(BOX)))
    assert not LABELME.recognizes(FORMATS["rolabelimg"].render(annotation_with(BOX), IMAGE).content)


@pytest.mark.parametrize("name", ["labelme", "Labelme", "labelme_json"])
def test_a_format_is_found_by_its_names(name: str) -> None:
    assert get_format(name) is LABELME


def test_an_unknown_format_is_told_with_near_names_first() -> None:
    with pytest.raises(FormatError, match="'rolabelimge'; use one of rolabelimg, labelme"):
        get_format("rolabelimge")


@pytest.mark.parametrize(
    ("data", "content"), [(None, None), ("", None), ("aGVsbG8=", b"hello"), ("a", b"a"), (5, b"5")]
)
def test_an_embedded_image_is_known_even_if_it_is_damaged(data: object, content: bytes | None) -> None:
    file = orjson.dumps({"shapes": [], "imagePath": "", "imageData": data})
    assert LABELME.image_reference(file).embedded_content == content
