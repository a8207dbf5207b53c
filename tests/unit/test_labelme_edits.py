"""What somebody draws or edits in labelme comes back as it was made, and the rest exactly as it was."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from support.annotation_strategies import (
    bounding_boxes,
    coordinates,
    polygons,
    rotated_boxes,
    unhurried,
)
from support.labelme_files import (
    BOX,
    COVERED,
    LABELME,
    MASK,
    POLYGON,
    ROTATED,
    add,
    annotation_of,
    annotation_with,
    edited,
    new_shape,
    objects_of,
    parsed,
    rendered,
    repacked,
    saved_by_labelme,
)
from support.places import SAMPLES

from imgsyncfs.annotations.geometry import corners, decode_run_length
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
    parse_annotation,
)


@given(st.one_of(bounding_boxes(coordinates), rotated_boxes(coordinates), polygons(coordinates)), st.integers(-50, 50))
@unhurried
def test_a_moved_shape_comes_back_where_it_is_shown_and_its_neighbours_stay_exact(
    item: LabelledObject, move: int
) -> None:
    assume(move != 0)
    assume(not isinstance(item, Polygon) or item.points)

    def edit(document: dict[str, Any]) -> None:
        document["shapes"][1]["points"] = [[x + move, y] for x, y in document["shapes"][1]["points"]]

    annotation = annotation_with(item, item, item)
    found = edited(annotation, edit)
    first, moved, last = objects_of(found)
    assert repr(first) == repr(last) == repr(item)
    assert type(moved) is type(item)
    shown = rendered(found)["shapes"][1]["points"]
    before = rendered(annotation)["shapes"][1]["points"]
    np.testing.assert_allclose(shown, np.add(before, (move, 0)), atol=1e-4)
    if isinstance(item, RotatedBox) and isinstance(moved, RotatedBox):
        assert (moved.y, moved.w, moved.h, moved.a) == (item.y, item.w, item.h, item.a)


def test_a_rectangle_dragged_by_its_top_left_keeps_the_exact_numbers_of_the_other_corner() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"][0] = [5.5, 6.5]

    assert repr(objects_of(edited(annotation_with(BOX), edit))[0]) == repr(
        BoundingBox("person", 5.5, 6.5, 30.25, 40, {"id": 7})
    )


@pytest.mark.parametrize("order", [((1, 1), (0, 0)), ((0, 1), (1, 0)), ((1, 0), (0, 1))])
def test_a_rectangle_may_start_at_any_corner(order: tuple[tuple[int, int], tuple[int, int]]) -> None:
    def edit(document: dict[str, Any]) -> None:
        points = document["shapes"][0]["points"]
        document["shapes"][0]["points"] = [[points[x][0], points[y][1]] for x, y in order]

    assert edited(annotation_with(BOX), edit) == annotation_with(BOX)


def test_a_turned_box_comes_back_turned_with_its_size() -> None:
    turned = RotatedBox("person", ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h, 0.4, {"id": 8})

    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"] = rendered(annotation_with(turned))["shapes"][0]["points"]

    (found,) = objects_of(edited(annotation_with(ROTATED), edit))
    assert isinstance(found, RotatedBox)
    assert (found.x, found.y, found.w, found.h) == (ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h)
    assert found.a == pytest.approx(0.4, abs=1e-6)


def test_a_rotated_box_whose_corners_no_longer_make_a_rectangle_is_a_polygon() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"][2] = [1300.0, 1300.0]

    found = edited(annotation_with(ROTATED, ROTATED), edit)
    assert objects_of(found) == (ROTATED,)
    (polygon,) = objects_of(found, 1)
    assert isinstance(polygon, Polygon)
    assert polygon.points[2] == (1300.0, 1300.0)
    assert (polygon.class_name, polygon.extra) == ("person", {"id": 8})


def test_an_unknown_key_that_the_new_type_knows_gives_way_to_its_own() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"].pop()

    box = RotatedBox("person", 100, 100, 50, 20, 0.3, {"points": "odd", "id": 8})
    (polygon,) = objects_of(edited(annotation_with(box), edit), 1)
    assert isinstance(polygon, Polygon)
    assert (len(polygon.points), polygon.extra) == (3, {"id": 8})


def test_a_rotated_box_with_a_point_added_is_a_polygon() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"].insert(1, [1600.0, 1100.0])

    (polygon,) = objects_of(edited(annotation_with(ROTATED), edit), 1)
    assert isinstance(polygon, Polygon)
    assert len(polygon.points) == 5


def test_a_corner_that_is_a_pixel_off_still_makes_a_rotated_box() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"][2][0] += 0.9

    (found,) = objects_of(edited(annotation_with(ROTATED), edit))
    assert isinstance(found, RotatedBox)
    assert found.x == pytest.approx(ROTATED.x + 0.225, abs=1e-3)


def test_a_polygons_untouched_points_keep_their_kind_of_number() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"][1] = [31.0, 5.0]

    (found,) = objects_of(edited(annotation_with(POLYGON), edit))
    assert isinstance(found, Polygon)
    assert repr(found.points) == "((1, 2), (31.0, 5.0), (5, 60))"


def test_a_renamed_shape_keeps_its_exact_numbers_and_unknown_keys() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["label"] = "child"

    (found,) = objects_of(edited(annotation_with(ROTATED), edit))
    assert isinstance(found, RotatedBox)
    assert found == RotatedBox("child", ROTATED.x, ROTATED.y, ROTATED.w, ROTATED.h, ROTATED.a, {"id": 8})


def test_a_removed_shape_stays_removed_and_the_others_keep_their_order() -> None:
    boxes = tuple(BoundingBox("person", index, index, index + 5, index + 5) for index in range(4))

    def edit(document: dict[str, Any]) -> None:
        del document["shapes"][1]
        document["shapes"].reverse()

    annotation = annotation_of(ObjectLabel("bbox", boxes), ObjectLabel("rbbox", (ROTATED,)))
    found = edited(annotation, edit)
    assert objects_of(found) == (boxes[0], boxes[2], boxes[3])
    assert objects_of(found, 1) == (ROTATED,)


def test_a_label_without_its_last_object_stays_as_an_empty_one() -> None:
    found = edited(annotation_with(BOX), lambda document: document["shapes"].clear())
    assert found == annotation_of(ObjectLabel("bbox", ()))


def test_a_copied_shape_follows_its_original() -> None:
    other = BoundingBox("person", 1, 2, 3, 4)

    def edit(document: dict[str, Any]) -> None:
        copy = orjson.loads(orjson.dumps(document["shapes"][0]))
        copy["points"] = [[x + 100, y] for x, y in copy["points"]]
        document["shapes"].append(copy)

    found = objects_of(edited(annotation_with(BOX, other), edit))
    assert found == (BOX, BoundingBox("person", 110, 20.5, 130.25, 40, {"id": 7}), other)


def test_a_shape_pasted_from_another_file_is_a_new_object() -> None:
    pasted = rendered(annotation_of(RegressionLabel("Age", 42), ObjectLabel("poly", (POLYGON,))))["shapes"][0]
    found = edited(annotation_with(BOX), lambda document: document["shapes"].append(pasted))
    assert objects_of(found) == (BOX,)
    assert objects_of(found, 1) == (POLYGON,)


def test_a_shape_pasted_over_the_place_of_one_that_is_not_shown_is_a_new_object() -> None:
    hidden, other = Polygon("none", ()), Polygon("leg", ((0, 0), (5, 5), (0, 9)))
    pasted = rendered(annotation_with(POLYGON))["shapes"][0]
    found = edited(annotation_with(hidden, other), lambda document: document["shapes"].append(pasted))
    assert objects_of(found) == (hidden, other, POLYGON)


def test_a_new_rectangle_is_a_bounding_box_at_the_end_of_its_label() -> None:
    found = edited(annotation_with(BOX), add(new_shape("rectangle", (9.5, 8), (3, 4))))
    assert objects_of(found) == (BOX, BoundingBox("dog", 3, 4, 9.5, 8))


SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))


def test_a_new_polygon_is_a_polygon() -> None:
    assert objects_of(edited(annotation_with(BOX), add(new_shape("polygon", *SQUARE))), 1) == (Polygon("dog", SQUARE),)


def test_a_new_polygon_with_four_right_angles_among_rotated_boxes_only_is_one_of_them() -> None:
    triangle = new_shape("polygon", (0, 0), (5, 5), (0, 9))
    found = edited(annotation_with(ROTATED), add(new_shape("polygon", *SQUARE[::-1]), triangle))
    assert objects_of(found) == (ROTATED, RotatedBox("dog", 5, 5, 10, 10, 0))
    assert objects_of(found, 1) == (Polygon("dog", ((0, 0), (5, 5), (0, 9))),)


def test_an_oriented_rectangle_is_a_rotated_box() -> None:
    box = RotatedBox("dog", 100, 50, 40, 20, 0.3)
    points = [(x, y) for x, y in corners([(100, 50, 40, 20, 0.3)])[0].tolist()]
    (found,) = objects_of(edited(annotation_of(), add(new_shape("oriented_rectangle", *points))))
    assert isinstance(found, RotatedBox)
    np.testing.assert_allclose(
        (found.x, found.y, found.w, found.h, found.a), (box.x, box.y, box.w, box.h, box.a), atol=1e-9
    )


@pytest.mark.parametrize(
    ("shape_type", "count"), [("circle", 2), ("line", 2), ("point", 1), ("linestrip", 3), ("points", 2), ("future", 4)]
)
def test_a_shape_that_the_house_format_has_no_object_for_is_kept_as_it_is(shape_type: str, count: int) -> None:
    shape = new_shape(shape_type, *((float(index), 1.5) for index in range(count)))
    found = edited(annotation_with(BOX), add(shape))
    assert objects_of(found) == (BOX,)
    assert found.labels[1] == UnknownLabel({"label_type": "labelme", "shape": shape})
    assert parsed(rendered(found)) == found


def test_a_new_mask_gets_the_images_size() -> None:
    text = repacked(rendered(annotation_with(MASK))["shapes"][0]["mask"])
    shape = new_shape("mask", (100.0, 200.0), (114.0, 209.0), mask=text)
    (found,) = objects_of(edited(annotation_of(), add(shape)))
    assert isinstance(found, Mask)
    assert found.size == (2880, 2880)
    drawn = decode_run_length(found.size, found.counts)
    np.testing.assert_array_equal(drawn[200:210, 100:115], COVERED[10:20, 30:45])
    assert drawn.sum() == COVERED.sum()


def test_a_mask_moved_beyond_the_edge_is_cut_off_there() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"] = [[-5.0, 45.0], [9.0, 54.0]]

    (found,) = objects_of(edited(annotation_with(MASK), edit))
    assert isinstance(found, Mask)
    expected = np.zeros_like(COVERED)
    expected[45:50, 0:10] = COVERED[10:15, 35:45]
    np.testing.assert_array_equal(decode_run_length(found.size, found.counts), expected)
    assert found.extra == {"id": 10}


def test_a_mask_painted_over_comes_back_as_painted() -> None:
    def edit(document: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        Image.fromarray(np.full((10, 15), 255, dtype=np.uint8)).save(buffer, "PNG")
        document["shapes"][0]["mask"] = base64.b64encode(buffer.getvalue()).decode()

    (found,) = objects_of(edited(annotation_with(MASK), edit))
    assert isinstance(found, Mask)
    assert decode_run_length(found.size, found.counts).sum() == 150


def test_a_flag_taken_away_removes_its_classification_and_a_new_one_adds_one() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["flags"] = {
            "Gender: Female": False,
            "Emotion: Happiness": True,
            "Weather: rain: heavy": True,
            "Old": True,
        }

    found = edited(parse_annotation((SAMPLES / "clf_reg.json").read_bytes()), edit)
    assert found.labels == (
        ClassificationLabel("Emotion", "Happiness"),
        RegressionLabel("Age", 42),
        ClassificationLabel("Weather", "rain: heavy"),
        ClassificationLabel("", "Old"),
    )


def test_what_labelme_says_of_a_shape_is_kept_and_shown_again() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0].update(
            group_id=3, description="left one", flags={"occluded": True, "cut": False}, attributes={"colour": "red"}
        )

    found = edited(annotation_with(BOX), edit)
    own = {"group_id": 3, "description": "left one", "flags": {"occluded": True}, "attributes": {"colour": "red"}}
    (box,) = objects_of(found)
    assert box == BoundingBox("person", 10, 20.5, 30.25, 40, {"id": 7, "labelme": own})
    shape = rendered(found)["shapes"][0]
    assert {key: shape[key] for key in own} == own
    assert parsed(saved_by_labelme(rendered(found))) == found


def test_unknown_keys_of_a_labelme_file_are_kept_and_shown_again() -> None:
    document = {"version": "3.16.2", "flags": {}, "shapes": [], "imagePath": "C:\\images\\a.b\\x.PNG", "imageData": "…"}
    found = parsed({**document, "lineColor": [0, 255, 0, 128], "fillColor": None})
    own = {"lineColor": [0, 255, 0, 128], "imagePath": "C:/images/a.b/x.PNG"}
    assert found == Annotation(label_checked=1, ext="PNG", extra={"labelme": own})
    assert rendered(found)["lineColor"] == [0, 255, 0, 128]


def test_a_file_that_labelme_alone_made_becomes_an_annotation() -> None:
    document = {
        "version": "4.5.13",
        "flags": {"Gender: Female": True, "blurry": False},
        "shapes": [
            {"label": "dog", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"},
            {"label": "cat", "points": [[1, 2], [3, 4], [5, 0]]},
            {"label": "dog", "points": [[5, 6], [7.5, 8]], "shape_type": "rectangle", "flags": None},
        ],
        "imagePath": "x.jpg",
        "imageData": None,
        "imageHeight": 20,
        "imageWidth": 30,
    }
    labels = (
        ObjectLabel("bbox", (BoundingBox("dog", 1, 2, 3, 4), BoundingBox("dog", 5, 6, 7.5, 8))),
        ObjectLabel("poly", (Polygon("cat", ((1, 2), (3, 4), (5, 0))),)),
        ClassificationLabel("Gender", "Female"),
    )
    content = orjson.dumps(document)
    order = {"labelme": {"shapes": [["bbox", 1], ["poly", 1], ["bbox", 1]]}}
    assert LABELME.parse(content) == Annotation(
        label_checked=1, height=20, width=30, ext="jpg", labels=labels, extra=order
    )
    assert LABELME.parse(content, label_checked=0).label_checked == 0


def test_shapes_without_their_files_frame_come_back_exact_and_in_their_order() -> None:
    document = rendered(annotation_of(ObjectLabel("rbbox", (ROTATED,)), ObjectLabel("bbox", (BOX, BOX))))
    del document["imgsyncfs"]
    document["shapes"].reverse()
    assert parsed(document).labels == (ObjectLabel("rbbox", (ROTATED,)), ObjectLabel("bbox", (BOX, BOX)))


def test_whoever_edits_an_unchecked_annotation_has_looked_at_it() -> None:
    unchecked = annotation_of(ObjectLabel("bbox", (BOX,)), label_checked=0)
    assert edited(unchecked, add()).label_checked == 0
    assert edited(unchecked, add(new_shape("rectangle", (0, 0), (5, 5)))).label_checked == 1
    assert edited(unchecked, lambda document: document["shapes"].clear()).label_checked == 1
