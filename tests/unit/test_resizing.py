"""Annotations for images that were made smaller."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.publishing import jpeg

from imgsyncfs.annotations.geometry import compress_counts, corners, decode_run_length, encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.annotations.resizing import Size, fitted_size, resized, resized_shape
from imgsyncfs.pictures.images import check_image
from imgsyncfs.pictures.kinds import ResizedPicture

sides = st.integers(1, 5000)
sizes = st.builds(Size, sides, sides)
places = st.floats(-100, 5000)
lengths = st.floats(0, 5000)
TOLERANCE = 1e-4
"""Pixels of the large image: six decimals of the smaller one, at most ten times as small here."""


def with_objects(kind: str, *objects: BoundingBox | RotatedBox | Polygon | Mask) -> Annotation:
    return Annotation(height=1, width=1, labels=(ObjectLabel(kind, objects),))


def objects_of(annotation: Annotation) -> tuple[BoundingBox | RotatedBox | Polygon | Mask, ...]:
    (label,) = annotation.labels
    assert isinstance(label, ObjectLabel)
    return label.objects


@given(sizes, st.integers(1, 2000))
def test_the_longest_side_is_as_long_as_asked_for_and_the_other_in_proportion(size: Size, longest: int) -> None:
    small = fitted_size(size, longest)
    if max(size) <= longest:
        assert small == size
        return
    assert max(small) == longest
    for side, other in zip(size, small, strict=True):
        assert other == max(1, other)
        assert other == pytest.approx(side * longest / max(size), abs=0.5 if other > 1 else 1)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("width", "height"), [(1001, 667), (333, 1999), (40, 30), (640, 641), (5000, 3)])
def test_a_picture_has_the_size_that_its_labels_are_for(width: int, height: int, orientation: int) -> None:
    content = jpeg(3, width=width, height=height, orientation=orientation)
    facts = check_image(content)
    picture = check_image(ResizedPicture(64).make(content, None))
    assert (picture.height, picture.width) == fitted_size(Size(facts.height, facts.width), 64)


@given(places, places, places, places, sizes.filter(lambda size: min(size) >= 10), st.integers(1, 10))
def test_boxes_and_polygons_scaled_and_back_are_where_they_were(
    x1: float, y1: float, x2: float, y2: float, before: Size, divisor: int
) -> None:
    after = Size(max(1, before.height // divisor), max(1, before.width // divisor))
    for kind, item in (
        ("bbox", BoundingBox("a", x1, y1, x2, y2)),
        ("poly", Polygon("a", ((x1, y1), (x2, y2), (x1, y2)))),
    ):
        small = resized(with_objects(kind, item), before, after)
        assert (small.height, small.width) == after
        (back,) = objects_of(resized(small, after, before))
        assert numbers_of(back) == pytest.approx(numbers_of(item), abs=TOLERANCE)


def numbers_of(item: object) -> list[float]:
    if isinstance(item, BoundingBox):
        return [item.x1, item.y1, item.x2, item.y2]
    assert isinstance(item, Polygon)
    return [number for point in item.points for number in point]


@given(places, places, lengths, lengths, st.floats(-10, 10), st.integers(10, 5000), st.integers(10, 2000))
def test_a_rotated_box_scaled_evenly_has_its_corners_scaled_and_its_angle_kept(
    x: float, y: float, w: float, h: float, a: float, side: int, longest: int
) -> None:
    before = Size(side, side)
    after = fitted_size(before, longest)
    (item,) = objects_of(resized(with_objects("rbbox", RotatedBox("a", x, y, w, h, a)), before, after))
    assert isinstance(item, RotatedBox)
    assert item.a == a
    scaled = corners([(x, y, w, h, a)])[0] * (after.width / before.width)
    assert corners([(item.x, item.y, item.w, item.h, item.a)])[0] == pytest.approx(scaled, abs=1e-5)


@given(
    st.floats(0, 1000), st.floats(0, 1000), lengths, lengths, st.floats(-10, 10), sizes.filter(lambda s: min(s) >= 500)
)
def test_where_the_sides_are_rounded_a_rotated_box_is_off_by_less_than_that(
    x: float, y: float, w: float, h: float, a: float, before: Size
) -> None:
    after = fitted_size(before, 640)
    (item,) = objects_of(resized(with_objects("rbbox", RotatedBox("a", x, y, w, h, a)), before, after))
    assert isinstance(item, RotatedBox)
    scaled = corners([(x, y, w, h, a)])[0] * (after.width / before.width, after.height / before.height)
    unevenness = abs(after.width / before.width - after.height / before.height)
    assert corners([(item.x, item.y, item.w, item.h, item.a)])[0] == pytest.approx(
        scaled, abs=unevenness * (w + h) + 1e-5
    )


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 80), st.booleans())
def test_a_mask_shows_at_each_pixel_what_the_large_one_shows_there(
    height: int, width: int, longest: int, as_text: bool
) -> None:
    generator = np.random.default_rng(height * 1000 + width)
    drawn = generator.random((height, width)) < 0.3
    counts = encode_run_length(drawn)
    item = Mask("a", (height, width), compress_counts(counts) if as_text else tuple(counts))
    before = Size(height, width)
    after = fitted_size(before, longest)
    (small,) = objects_of(resized(with_objects("seg", item), before, after))
    assert isinstance(small, Mask)
    assert small.size == after
    assert isinstance(small.counts, str) == as_text
    rows = [int((row + 0.5) * height / after.height) for row in range(after.height)]
    columns = [int((column + 0.5) * width / after.width) for column in range(after.width)]
    assert np.array_equal(decode_run_length(small.size, small.counts), drawn[np.ix_(rows, columns)])


def test_what_is_about_the_whole_image_or_unknown_stays() -> None:
    labels = (ClassificationLabel("Gender", "Female"), UnknownLabel({"label_type": "depth", "points": [[1, 2]]}))
    assert resized(Annotation(labels=labels), Size(100, 100), Size(10, 10)).labels == labels


def test_a_shape_of_labelmes_has_its_points_scaled_and_keeps_what_it_does_not_say_in_points() -> None:
    shape = {"shape_type": "line", "points": [[10, 20.5], [30, 40]], "label": "a"}
    assert resized_shape(shape, Size(100, 200), Size(50, 100)) == {**shape, "points": [[5, 10.25], [15, 20]]}
    odd = {"points": [[1, 2], ["x", 4]]}
    assert resized_shape(odd, Size(100, 200), Size(50, 100)) == odd
