"""X-AnyLabeling's files: what its reader demands, house to X-AnyLabeling to house, edits, and how they are told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from support.annotation_strategies import house_annotations, unhurried
from support.labelme_files import (
    BOX,
    IMAGE,
    LABELME,
    MASK,
    POLYGON,
    ROTATED,
    annotation_of,
    annotation_with,
    objects_of,
)
from support.xanylabeling_tool import SHAPE_TYPES, saved_by_xanylabeling

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
)
from imgsyncfs.formats.registry import DEFAULT_SIBLINGS, FORMATS, Loss, get_format, recognize_format

XANYLABELING = FORMATS["xanylabeling"]
MIXED = replace(
    annotation_of(
        *annotation_with(BOX).labels,
        *annotation_with(ROTATED).labels,
        *annotation_with(POLYGON).labels,
        *annotation_with(MASK).labels,
        ClassificationLabel("Gender", "Female"),
        RegressionLabel("Age", 42),
        UnknownLabel(
            {"label_type": "labelme", "shape": {"label": "c", "points": [[1, 2], [3, 4]], "shape_type": "circle"}}
        ),
        UnknownLabel(
            {"label_type": "labelme", "shape": {"label": "p", "points": [[1, 2], [3, 4]], "shape_type": "points"}}
        ),
    ),
    extra={"camera": 7},
)


def rendered(annotation: Annotation) -> dict[str, Any]:
    """The file of an annotation, decoded."""
    return dict(orjson.loads(XANYLABELING.render(annotation, IMAGE).content))


def saved(annotation: Annotation, edit: Callable[[dict[str, Any]], None] | None = None) -> Annotation:
    """An annotation after somebody opened its file, edited it, and saved it."""
    document = orjson.loads(saved_by_xanylabeling(XANYLABELING.render(annotation, IMAGE).content))
    if edit is not None:
        edit(document)
    return XANYLABELING.parse(orjson.dumps(document))


def drawn(shape_type: str, *points: tuple[float, float], **others: Any) -> dict[str, Any]:
    """A shape as X-AnyLabeling saves one that was just drawn."""
    return {
        "label": "dog",
        "score": None,
        "points": [list(point) for point in points],
        "group_id": None,
        "description": "",
        "difficult": False,
        "shape_type": shape_type,
        "flags": {},
        "attributes": {},
        "kie_linking": [],
        **others,
    }


def drawn_file(*shapes: dict[str, Any], **others: Any) -> bytes:
    """A file that X-AnyLabeling made alone."""
    return orjson.dumps(
        {
            "version": "4.2.1",
            "flags": {},
            "checked": False,
            "shapes": shapes,
            "imagePath": "00079.jpg",
            "imageData": None,
            "imageHeight": 2880,
            "imageWidth": 2880,
            "description": "",
            **others,
        }
    )


@given(house_annotations)
@unhurried
def test_nothing_is_lost_on_the_way_there_and_back(annotation: Annotation) -> None:
    assert XANYLABELING.parse(XANYLABELING.render(annotation, IMAGE).content) == annotation


@given(house_annotations)
@unhurried
def test_what_the_tool_saves_unedited_is_the_same_annotation(annotation: Annotation) -> None:
    content = saved_by_xanylabeling(XANYLABELING.render(annotation, IMAGE).content)
    assert XANYLABELING.parse(content) == annotation


@given(house_annotations)
@unhurried
def test_each_shape_is_of_a_type_that_the_tool_has(annotation: Annotation) -> None:
    assert {shape["shape_type"] for shape in rendered(annotation)["shapes"]} <= SHAPE_TYPES


@given(house_annotations)
@unhurried
def test_from_labelme_and_back_loses_nothing(annotation: Annotation) -> None:
    there = XANYLABELING.render(LABELME.parse(LABELME.render(annotation, IMAGE).content), IMAGE)
    assert LABELME.parse(LABELME.render(XANYLABELING.parse(there.content), IMAGE).content) == annotation


@given(house_annotations)
@unhurried
def test_a_rendered_file_is_recognized_as_what_it_was_rendered_for(annotation: Annotation) -> None:
    for known in (XANYLABELING, LABELME):
        assert recognize_format(known.render(annotation, IMAGE).content) is known


def test_the_mark_of_a_check_is_the_third_key() -> None:
    assert list(rendered(MIXED))[:3] == ["version", "flags", "checked"]


@pytest.mark.parametrize("angle", [0, 0.25, 3, 4.5, 6.28, -0.5])
def test_a_rotated_box_is_a_rotation_whose_direction_is_that_of_its_first_edge(angle: float) -> None:
    shape = rendered(annotation_with(RotatedBox("person", 100, 200, 30, 50, angle)))["shapes"][0]
    (x0, y0), (x1, y1) = shape["points"][:2]
    assert shape["shape_type"] == "rotation"
    assert 0 <= shape["direction"] < 2 * math.pi
    assert shape["direction"] == pytest.approx(math.atan2(y1 - y0, x1 - x0) % (2 * math.pi), abs=1e-6)
    assert shape["points"] == corners([(100, 200, 30, 50, angle)])[0].round(6).tolist()


def test_a_bounding_box_has_four_corners() -> None:
    shape = rendered(annotation_with(BOX))["shapes"][0]
    assert (shape["shape_type"], shape["points"]) == (
        "rectangle",
        [[10, 20.5], [30.25, 20.5], [30.25, 40], [10, 40]],
    )


def test_what_it_cannot_show_is_counted_and_kept() -> None:
    assert XANYLABELING.render(MIXED, IMAGE).losses == (
        Loss("regression values", 1, "X-AnyLabeling has no place for numbers about an image"),
        Loss("groups of points", 1, "X-AnyLabeling cannot show them"),
        Loss("masks", 1, "X-AnyLabeling has no masks"),
    )
    assert saved(MIXED) == MIXED


def test_a_turned_box_is_turned_and_keeps_its_size_and_its_keys() -> None:
    def turn(document: dict[str, Any]) -> None:
        shape = document["shapes"][0]
        shape["points"] = corners([(1433.5394, 1151.9007, 206.441, 383.9458, 0.5)])[0].tolist()
        shape["direction"] = 0.5

    (item,) = objects_of(saved(annotation_with(ROTATED), turn))
    assert isinstance(item, RotatedBox)
    assert replace(item, a=0) == replace(ROTATED, a=0)
    assert item.a == pytest.approx(0.5)


def test_a_drawn_rotation_is_a_rotated_box() -> None:
    points = [tuple(point) for point in corners([(50, 60, 20, 10, 2.5)])[0].tolist()]
    (item,) = objects_of(XANYLABELING.parse(drawn_file(drawn("rotation", *points, direction=2.5))))
    assert isinstance(item, RotatedBox)
    assert (item.class_name, item.extra) == ("dog", {})
    assert (item.x, item.y, item.w, item.h, item.a) == pytest.approx((50, 60, 20, 10, 2.5))


def test_a_polygon_drawn_among_rotated_boxes_stays_one() -> None:
    square = drawn("polygon", (0, 0), (10, 0), (10, 10), (0, 10))
    annotation = saved(annotation_with(ROTATED), lambda document: document["shapes"].append(square))
    assert objects_of(annotation, 1) == (Polygon("dog", ((0, 0), (10, 0), (10, 10), (0, 10))),)


def test_a_quadrilateral_is_a_polygon_and_is_shown_as_a_quadrilateral_again() -> None:
    annotation = XANYLABELING.parse(drawn_file(drawn("quadrilateral", (0, 0), (10, 1), (12, 9), (0, 10))))
    (item,) = objects_of(annotation)
    assert isinstance(item, Polygon)
    assert item.points == ((0, 0), (10, 1), (12, 9), (0, 10))
    assert rendered(annotation)["shapes"][0]["shape_type"] == "quadrilateral"
    assert orjson.loads(LABELME.render(annotation, IMAGE).content)["shapes"][0]["shape_type"] == "polygon"


def test_a_cuboid_is_kept_and_shown_again() -> None:
    points = [(float(x), float(y)) for x, y in [(0, 0), (9, 0), (9, 9), (0, 9), (3, 3), (12, 3), (12, 12), (3, 12)]]
    shape = drawn("cuboid", *points, cuboid3d={"version": 1, "depth_vector": [3.0, 3.0]})
    annotation = XANYLABELING.parse(drawn_file(shape))
    again = rendered(annotation)["shapes"][0]
    assert {key: again[key] for key in ("shape_type", "points", "cuboid3d")} == {
        key: shape[key] for key in ("shape_type", "points", "cuboid3d")
    }
    assert saved(annotation) == annotation


@pytest.mark.parametrize(
    "keys",
    [
        {"score": 0.75},
        {"attributes": {"colour": "red"}},
        {"kie_linking": [[1, 2]]},
        {"group_id": 3, "description": "left"},
        {"difficult": True},
        {"review_status": "approved"},
    ],
)
def test_what_only_the_tool_knows_of_a_shape_comes_back(keys: dict[str, Any]) -> None:
    annotation = XANYLABELING.parse(drawn_file(drawn("rectangle", (0, 0), (9, 0), (9, 9), (0, 9), **keys)))
    shape = orjson.loads(saved_by_xanylabeling(XANYLABELING.render(annotation, IMAGE).content))["shapes"][0]
    assert {key: shape[key] for key in keys} == keys


def test_a_difficult_shape_is_a_difficult_object_to_rolabelimg_too() -> None:
    annotation = XANYLABELING.parse(drawn_file(drawn("rectangle", (0, 0), (9, 0), (9, 9), (0, 9), difficult=True)))
    assert objects_of(annotation)[0].extra == {"difficult": 1}
    assert b"<difficult>1<" in FORMATS["rolabelimg"].render(annotation, IMAGE).content


def test_a_shape_that_is_no_longer_difficult_says_so() -> None:
    box = replace(BOX, extra={"id": 7, "difficult": 1})
    annotation = saved(annotation_with(box), lambda document: document["shapes"][0].update(difficult=False))
    assert objects_of(annotation)[0].extra == {"id": 7, "difficult": 0}


@pytest.mark.parametrize(
    "keys",
    [
        {"attributes": "red"},
        {"kie_linking": [[1, 2.5]]},
        {"score": "high"},
        {"locked": True},
        {"group_id": "left"},
    ],
)
def test_keys_that_the_tool_does_not_take_stay_when_others_are_edited(keys: dict[str, Any]) -> None:
    box = replace(BOX, extra={"labelme": {**keys, "review_status": "pending"}})
    annotation = saved(annotation_with(box), lambda document: document["shapes"][0].update(review_status="approved"))
    assert objects_of(annotation)[0].extra == {"labelme": {**keys, "review_status": "approved"}}


def test_what_only_the_tool_knows_of_a_file_comes_back() -> None:
    annotation = XANYLABELING.parse(drawn_file(tags=["night"], description="at the door", own={"a": 1}))
    document = orjson.loads(saved_by_xanylabeling(XANYLABELING.render(annotation, IMAGE).content))
    assert (document["tags"], document["description"], document["own"]) == (["night"], "at the door", {"a": 1})


@pytest.mark.parametrize("keys", [{"tags": ["a", "a"]}, {"tags": "night"}, {"description": 7}])
def test_file_keys_that_the_tool_would_change_are_not_shown_to_it(keys: dict[str, Any]) -> None:
    annotation = replace(annotation_with(BOX), extra={"labelme": keys})
    assert not keys.keys() & rendered(annotation).keys()
    assert saved(annotation) == annotation


@pytest.mark.parametrize(("mark", "checked"), [(True, 1), (False, 0), ("failed", 0)])
def test_a_file_says_whether_it_was_checked(mark: bool | str, checked: int) -> None:
    annotation = XANYLABELING.parse(drawn_file(checked=mark))
    assert annotation.label_checked == checked
    assert rendered(annotation)["checked"] == mark


@pytest.mark.parametrize(("before", "mark", "after"), [(0, True, 1), (1, False, 0), (1, "failed", 0)])
def test_a_mark_that_is_set_in_the_tool_counts(before: int, mark: bool | str, after: int) -> None:
    annotation = replace(annotation_with(BOX), label_checked=before)
    assert saved(annotation, lambda document: document.update(checked=mark)).label_checked == after


def test_an_edit_checks_nothing_by_itself() -> None:
    annotation = replace(annotation_with(BOX), label_checked=0)
    edited = saved(annotation, lambda document: document["shapes"][0].update(label="cat"))
    assert edited.label_checked == 0
    assert objects_of(edited)[0].class_name == "cat"


def test_a_file_that_failed_and_passes_now_no_longer_says_that_it_failed() -> None:
    annotation = XANYLABELING.parse(drawn_file(checked="failed"))
    passed = saved(annotation, lambda document: document.update(checked=True))
    assert (passed.label_checked, passed.extra) == (1, {})


@pytest.mark.parametrize(
    "content",
    [
        drawn_file(),
        drawn_file(drawn("polygon", (0, 0), (9, 0), (9, 9))),
        drawn_file(drawn("rotation", (0, 0), (9, 0), (9, 9), (0, 9))).replace(b'"checked":false,', b""),
        drawn_file(drawn("quadrilateral", (0, 0), (9, 0), (9, 9), (0, 9))).replace(b'"checked":false,', b""),
        b"\xef\xbb\xbf" + drawn_file(),
        drawn_file()[:-1],
    ],
)
def test_its_own_files_are_recognized_before_labelme_s(content: bytes) -> None:
    assert recognize_format(content) is XANYLABELING


@pytest.mark.parametrize(
    "content",
    [
        drawn_file(drawn("polygon", (0, 0), (9, 0), (9, 9))).replace(b'"checked":false,', b""),
        drawn_file(drawn("mask", (0, 0), (9, 9), note="checked")).replace(b'"checked":false,', b""),
        b'{"shapes": [], "imagePath": "rotation"}',
        LABELME.render(replace(annotation_with(BOX), extra={"labelme": {"checked": True}}), IMAGE).content,
    ],
)
def test_labelme_s_files_stay_labelme_s(content: bytes) -> None:
    assert recognize_format(content) is LABELME


def test_labelme_s_reader_still_takes_its_files_where_their_name_says_so() -> None:
    content = drawn_file(drawn("rotation", (0, 0), (9, 0), (9, 9), (0, 9), direction=0.0))
    assert recognize_format(content, file_name="x.labelme.json") is LABELME
    assert objects_of(LABELME.parse(content)) == (
        RotatedBox("dog", 4.5, 4.5, 9, 9, 0, {"labelme": {"difficult": False, "attributes": {}, "kie_linking": []}}),
    )


def test_it_stands_beside_images_only_where_somebody_asks_for_it() -> None:
    assert "xanylabeling" not in DEFAULT_SIBLINGS
    assert get_format("X-AnyLabeling") is XANYLABELING


def test_a_box_with_its_corners_the_wrong_way_round_keeps_them() -> None:
    annotation = annotation_with(BoundingBox("person", 30, 40, 10, 20))
    assert dump_annotation(saved(annotation)) == dump_annotation(annotation)
