"""What came from labelme or X-AnyLabeling goes back as it was, and what becomes of another kind is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from support.labelme_files import (
    BOX,
    IMAGE,
    LABELME,
    POLYGON,
    ROTATED,
    add,
    annotation_of,
    annotation_with,
    new_shape,
    objects_of,
    parsed,
    rendered,
    saved_by_labelme,
)

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ObjectLabel,
    Polygon,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.formats.registry import FORMATS, Reading
from imgsyncfs.formats.remarks import unseen_labels
from imgsyncfs.tools.convert.conversion import read_edited

SHAPES = [
    new_shape("point", (10.0, 10.0), label="nose", group_id=3),
    new_shape("circle", (20.0, 20.0), (25.0, 20.0), label="wheel"),
    new_shape("line", (1.0, 2.0), (3.0, 4.0), label="edge", attributes={"kept": True}),
    new_shape("linestrip", (1.0, 1.0), (10.0, 20.0), (30.0, 30.0), label="lane", flags={"dashed": True}),
    new_shape("points", (1.0, 1.0), (2.0, 2.0), label="dots", description="two"),
]
PERSON = new_shape("rectangle", (5.0, 5.0), (30.0, 40.0), label="person")
RECTANGLE = [(100.0, 100.0), (200.0, 150.0), (180.0, 190.0), (80.0, 140.0)]


def document_of(*shapes: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A file that labelme alone made."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "00079.jpg",
        "imageData": None,
        "imageHeight": 2880,
        "imageWidth": 2880,
        **keys,
    }


def read(document: dict[str, Any]) -> Reading:
    return LABELME.read(orjson.dumps(document))


def read_after_edit(annotation: Annotation, edit: Callable[[dict[str, Any]], object]) -> Reading:
    """An annotation after somebody edited its labelme file and saved it."""
    document = saved_by_labelme(rendered(annotation))
    edit(document)
    return read(document)


def kinds(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """What labelme shows of a file's shapes."""
    return [(shape["shape_type"], shape["label"], shape["points"]) for shape in document["shapes"]]


# Shapes that the house format has no object for.


def test_points_circles_and_lines_go_back_to_labelme_as_they_came() -> None:
    document = document_of(PERSON, *SHAPES)
    shown = rendered(parsed(document))
    assert kinds(shown) == kinds(document)
    for key in ("group_id", "description", "flags"):
        assert [shape[key] for shape in shown["shapes"]] == [shape[key] for shape in document["shapes"]]
    assert shown["shapes"][3]["attributes"] == {"kept": True}


def test_a_save_of_them_without_an_edit_is_none() -> None:
    annotation = parsed(document_of(PERSON, *SHAPES))
    assert parsed(saved_by_labelme(rendered(annotation))) == annotation


def test_an_edit_of_one_is_kept_and_the_others_stay() -> None:
    annotation = parsed(document_of(PERSON, *SHAPES))

    def edit(document: dict[str, Any]) -> None:
        document["shapes"][2]["points"] = [[21.0, 22.0], [26.0, 22.0]]
        del document["shapes"][4]
        document["shapes"].append(new_shape("point", (7.0, 7.0), label="ear"))

    found = read_after_edit(annotation, edit).annotation
    assert [kind[1:] for kind in kinds(rendered(found))] == [
        ("person", [[5, 5], [30, 40]]),
        ("nose", [[10, 10]]),
        ("wheel", [[21, 22], [26, 22]]),
        ("edge", [[1, 2], [3, 4]]),
        ("dots", [[1, 1], [2, 2]]),
        ("ear", [[7, 7]]),
    ]


def test_what_a_tool_dropped_from_them_comes_back_from_the_original() -> None:
    annotation = parsed(document_of(PERSON, *SHAPES))
    document = saved_by_labelme(rendered(annotation))
    del document["imgsyncfs"]
    for shape in document["shapes"]:
        del shape["imgsyncfs"]
        shape.pop("attributes", None)
    found = read_edited(LABELME, orjson.dumps(document), annotation, IMAGE).annotation
    assert [label for label in found.labels if isinstance(label, ObjectLabel)] == [annotation.labels[0]]
    assert kinds(rendered(found)) == kinds(document)


def test_one_that_labelme_would_refuse_is_a_loss_and_the_file_opens() -> None:
    bad = [new_shape("circle", (1.0, 1.0)), new_shape("cuboid", (1.0, 1.0), (2.0, 2.0))]
    annotation = annotation_of(*(UnknownLabel({"label_type": "labelme", "shape": shape}) for shape in bad))
    made = LABELME.render(annotation, IMAGE)
    assert orjson.loads(made.content)["shapes"] == []
    assert {(loss.what, loss.count) for loss in made.losses} == {("circles", 1), ("shapes of type 'cuboid'", 1)}
    assert LABELME.parse(made.content) == annotation


def test_other_formats_name_them_as_a_loss() -> None:
    losses = FORMATS["rolabelimg"].render(parsed(document_of(*SHAPES)), IMAGE).losses
    assert [(loss.what, loss.count) for loss in losses] == [
        ("points", 1), ("circles", 1), ("lines", 1), ("linestrips", 1), ("groups of points", 1),
    ]  # fmt: skip


def test_labels_that_no_trainer_sees_are_counted_by_kind() -> None:
    annotation = parsed(document_of(PERSON, *SHAPES, SHAPES[0]))
    labels = (*annotation.labels, UnknownLabel({"label_type": "kp", "data": [1]}))
    counts = {change.what: change.count for change in unseen_labels(labels)}
    assert counts == {
        "points": 2, "circles": 1, "lines": 1, "linestrips": 1, "groups of points": 1, "labels of type 'kp'": 1,
    }  # fmt: skip


# The order of shapes.


def test_the_order_of_shapes_of_different_types_comes_back() -> None:
    polygon = new_shape("polygon", (1.0, 1.0), (9.0, 1.0), (5.0, 9.0))
    document = document_of(PERSON, polygon, SHAPES[0], PERSON, SHAPES[1], polygon)
    annotation = parsed(document)
    assert kinds(rendered(annotation)) == kinds(document)
    assert parsed(saved_by_labelme(rendered(annotation))) == annotation


def test_the_order_stays_when_shapes_are_added_and_removed() -> None:
    polygon = new_shape("polygon", (1.0, 1.0), (9.0, 1.0), (5.0, 9.0))
    annotation = parsed(document_of(PERSON, polygon, PERSON, SHAPES[0]))

    def edit(document: dict[str, Any]) -> None:
        del document["shapes"][0]
        document["shapes"] += [polygon, PERSON]

    found = read_after_edit(annotation, edit).annotation
    types = [shape["shape_type"] for shape in rendered(found)["shapes"]]
    assert types == ["polygon", "rectangle", "point", "polygon", "rectangle"]


def test_shapes_put_in_another_order_are_drawn_in_that() -> None:
    annotation = annotation_of(ObjectLabel("bbox", (BOX, BOX)), ObjectLabel("poly", (POLYGON,)))
    found = read_after_edit(annotation, lambda document: document["shapes"].insert(0, document["shapes"].pop()))
    assert [shape["shape_type"] for shape in rendered(found.annotation)["shapes"]] == [
        "polygon",
        "rectangle",
        "rectangle",
    ]
    assert found.annotation.labels == annotation.labels


def test_an_order_that_was_written_by_hand_does_no_harm() -> None:
    for order in ([["bbox", 9], ["seg", 1], ["poly", -1]], "odd", [[1, 2]], [["poly"]], None):
        annotation = annotation_of(ObjectLabel("bbox", (BOX,)), ObjectLabel("poly", (POLYGON,)))
        annotation = Annotation(**{**vars(annotation), "extra": {"labelme": {"shapes": order}}})
        assert sorted(shape["shape_type"] for shape in rendered(annotation)["shapes"]) == ["polygon", "rectangle"]
        assert parsed(rendered(annotation)) == annotation


# Rotated boxes of other tools.


@pytest.mark.parametrize("shape_type", ["rotation", "oriented_rectangle"])
@pytest.mark.parametrize("points", [RECTANGLE, RECTANGLE[:1] + RECTANGLE[:0:-1]])
def test_a_rotated_box_of_another_tool_is_one(shape_type: str, points: list[tuple[float, float]]) -> None:
    shape = new_shape(shape_type, *points, label="p", direction=0.4636476, difficult=False, attributes={"kept": 1})
    found = read(document_of(shape))
    (box,) = objects_of(found.annotation)
    assert isinstance(box, RotatedBox)
    assert sorted(map(tuple, corners([(box.x, box.y, box.w, box.h, box.a)])[0].tolist())) == [
        pytest.approx(point) for point in sorted(RECTANGLE)
    ]
    assert box.class_name == "p"
    assert box.extra["labelme"]["attributes"] == {"kept": 1}
    assert found.changes == ()


def test_the_angle_of_x_anylabelings_box_is_its_direction() -> None:
    shape = new_shape("rotation", *RECTANGLE, direction=0.4636476)
    (box,) = objects_of(read(document_of(shape)).annotation)
    assert isinstance(box, RotatedBox)
    assert box.a == pytest.approx(shape["direction"])
    assert "direction" not in box.extra.get("labelme", {})


@pytest.mark.parametrize("shape_type", ["rotation", "oriented_rectangle"])
def test_one_whose_corners_make_no_rectangle_becomes_a_polygon_and_is_named(shape_type: str) -> None:
    points = [*RECTANGLE[:3], (20.0, 300.0)]
    found = read(document_of(new_shape(shape_type, *points)))
    (polygon,) = objects_of(found.annotation)
    assert isinstance(polygon, Polygon)
    (change,) = found.changes
    assert (change.what, change.count, change.is_harmless) == ("rotated boxes", 1, False)


# Rotated boxes that were corrected in labelme.


def pull(corner: int, x: float, y: float) -> Callable[[dict[str, Any]], None]:
    """The edit that moves a corner of the first shape."""

    def edit(document: dict[str, Any]) -> None:
        before = document["shapes"][0]["points"][corner]
        document["shapes"][0]["points"][corner] = [before[0] + x, before[1] + y]

    return edit


def test_a_box_with_a_corner_moved_a_little_is_fitted_to_the_nearest_rectangle_and_that_is_said() -> None:
    found = read_after_edit(annotation_with(ROTATED, ROTATED), pull(2, 9, -6))
    fitted, other = objects_of(found.annotation)
    assert other == ROTATED
    assert isinstance(fitted, RotatedBox)
    assert fitted.extra == {"id": 8}
    np.testing.assert_allclose((fitted.x, fitted.y), (ROTATED.x + 9 / 4, ROTATED.y - 6 / 4), atol=1e-3)
    (change,) = found.changes
    assert (change.what, change.count, change.is_harmless) == ("rotated boxes with a corner moved", 1, True)


def test_a_box_with_a_corner_moved_far_becomes_a_polygon_and_that_is_said() -> None:
    found = read_after_edit(annotation_with(ROTATED, ROTATED), pull(2, 90, -60))
    assert objects_of(found.annotation) == (ROTATED,)
    (change,) = found.changes
    assert (change.what, change.count, change.is_harmless) == ("rotated boxes", 1, False)
    assert "became polygons" in change.reason


def test_moving_and_turning_a_whole_box_is_nothing_to_remark() -> None:
    turned = RotatedBox("person", ROTATED.x + 5, ROTATED.y, ROTATED.w, ROTATED.h, 0.4, {"id": 8})

    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"] = rendered(annotation_with(turned))["shapes"][0]["points"]

    assert read_after_edit(annotation_with(ROTATED), edit).changes == ()


def test_what_is_drawn_among_rotated_boxes_only_is_named() -> None:
    square = new_shape("polygon", (0, 0), (10, 0), (10, 10), (0, 10))
    triangle = new_shape("polygon", (0, 0), (5, 5), (0, 9))
    found = read_after_edit(annotation_with(ROTATED), add(square, triangle))
    assert [(change.what, change.count, change.is_harmless) for change in found.changes] == [
        ("polygons", 1, True),
        ("polygons", 1, False),
    ]


# Images that lie elsewhere.


@pytest.mark.parametrize(
    ("named", "kept"),
    [("..\\images\\a.jpg", "../images/a.jpg"), ("../images/a.jpg", "../images/a.jpg"), ("C:\\d\\a.jpg", "C:/d/a.jpg")],
)
def test_the_place_of_an_image_that_lies_apart_is_kept(named: str, kept: str) -> None:
    found = parsed(document_of(PERSON, imagePath=named))
    assert found.extra == {"labelme": {"imagePath": kept}}


@pytest.mark.parametrize("named", ["a.jpg", "./a.jpg", ""])
def test_an_image_that_lies_beside_needs_no_place(named: str) -> None:
    assert parsed(document_of(PERSON, imagePath=named)).extra == {}


def test_a_file_beside_its_image_names_it_whatever_the_annotation_says_of_another_place() -> None:
    annotation = Annotation(labels=(ObjectLabel("bbox", (BoundingBox("p", 1, 2, 3, 4),)),))
    away = Annotation(**{**vars(annotation), "extra": {"labelme": {"imagePath": "../images/a.jpg"}}})
    assert rendered(away)["imagePath"] == "00079.jpg"
