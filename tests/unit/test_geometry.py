"""Rotated boxes turn the way roLabelImg turns them, and masks are COCO's."""

from __future__ import annotations

import contextlib
import csv
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.annotation_strategies import compress_counts, unhurried
from support.places import SAMPLES

from imgsyncfs.annotations.geometry import (
    boxes_from_corners,
    check_run_length,
    clockwise_corners,
    corners,
    decode_run_length,
    decompress_counts,
    encode_run_length,
    mask_bounds,
    rectangle_deviation,
    reduce_angle,
)
from imgsyncfs.errors import AnnotationError

IMAGE_CENTRE = 1440

# What pycocotools 2.0 gives for `disc()` and `notched()`.
DISC = (
    "Tgm0m0Z8:F:H6I8I6K4K6K4L4L4L4L4L4M2M4M2M4M2N2M4M2N2N2M4M2N2N2N2N2N2N2N2N2O0O2N2N2N2O0O2N2N2O0O2N2O0O2N2O0O2O0O2O0O"
    "2O0O2O0O2O0O2O000O2O0O2O000O2O00000O2O000O2O0000000O2O0000000O2O00000000000000000000000000000000000000000000000000"
    "000001N100000001N100000001N10001N1000001N10001N101N10001N101N101N101N101N101N101N2N101N2N101N2N2N101N2N2N2N101N2N"
    "2N2N2N2N2N2N2N3L3N2N2N3L3N2N3L3N3L3N3L4L4L4L4L4L5J5L5J7H7J8F:F]Um0"
)
NOTCHED = "jU1n0n0000000000000000000ASOOm0`000000000000000000000000000000000000000000000000000000000ZS1SOcmN"

boxes = st.tuples(
    st.floats(-4000, 4000), st.floats(-4000, 4000), st.floats(1, 3000), st.floats(1, 3000), st.floats(-10, 10)
)
small_masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9))


def disc() -> np.ndarray:
    """A disc of radius 100 in an image of 300 x 400."""
    y, x = np.mgrid[:300, :400]
    return np.asarray((y - 150) ** 2 + (x - 200) ** 2 < 100**2)


def notched() -> np.ndarray:
    """A rectangle with a hole, and one pixel in the last column."""
    mask = np.zeros((60, 80), dtype=np.bool_)
    mask[10:40, 20:60] = True
    mask[25, 30] = False
    mask[0, 79] = True
    return mask


def test_an_upright_box_has_its_width_along_x_and_its_top_left_corner_first() -> None:
    assert corners([(10, 20, 6, 4, 0)]).tolist() == [[[7, 18], [13, 18], [13, 22], [7, 22]]]


def test_a_quarter_of_a_turn_goes_clockwise_on_screen() -> None:
    np.testing.assert_allclose(
        corners([(0, 0, 6, 4, math.pi / 2)])[0], [[2, -3], [2, 3], [-2, 3], [-2, -3]], atol=1e-12
    )


def test_the_23_fisheye_boxes_point_at_the_centre_of_their_image() -> None:
    with (SAMPLES / "fisheye_00079.csv").open() as table:
        rows = [[float(row[name]) for name in "xywha"] for row in csv.DictReader(table)]
    assert len(rows) == 23
    found = corners(rows)
    along = found[:, 1] - found[:, 0]
    towards = IMAGE_CENTRE - found.mean(axis=1)
    missed = (along[:, 0] * towards[:, 1] - along[:, 1] * towards[:, 0]) / np.hypot(along[:, 0], along[:, 1])
    assert np.abs(missed).max() < 0.01
    np.testing.assert_allclose(boxes_from_corners(found), rows, atol=1e-9)


@given(st.lists(boxes, max_size=5))
@unhurried
def test_a_box_comes_back_from_its_corners_with_its_angle_reduced(given_boxes: list[tuple[float, ...]]) -> None:
    expected = np.array(given_boxes).reshape(-1, 5)
    found = boxes_from_corners(corners(given_boxes))
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1e-6)
    assert ((found[:, 4] >= 0) & (found[:, 4] < math.pi)).all()
    # Half a turn is no turn: compare as directions of twice the angle.
    np.testing.assert_allclose(np.exp(2j * found[:, 4]), np.exp(2j * expected[:, 4]), atol=1e-5)


@given(boxes)
@unhurried
def test_a_box_turned_by_half_a_turn_has_the_same_corners_from_the_opposite_one(box: tuple[float, ...]) -> None:
    x, y, w, h, a = box
    turned = corners([(x, y, w, h, a + math.pi)])[0]
    np.testing.assert_allclose(np.roll(turned, 2, axis=0), corners([box])[0], atol=1e-6)


@given(boxes)
@unhurried
def test_width_and_height_swapped_and_a_quarter_of_a_turn_is_the_same_box(box: tuple[float, ...]) -> None:
    x, y, w, h, a = box
    swapped = corners([(x, y, h, w, a + math.pi / 2)])[0]
    np.testing.assert_allclose(np.roll(swapped, 1, axis=0), corners([box])[0], atol=1e-6)


@given(boxes, st.integers(0, 3))
@unhurried
def test_corners_given_anticlockwise_are_turned_round(box: tuple[float, ...], first: int) -> None:
    anticlockwise = np.roll(corners([box])[0][::-1], first, axis=0)
    found = clockwise_corners([anticlockwise])
    assert rectangle_deviation(found)[0] < 1e-6
    assert sorted(map(tuple, found[0].tolist())) == sorted(map(tuple, anticlockwise.tolist()))
    assert {tuple(found[0, 0]), tuple(found[0, 1])} == {tuple(anticlockwise[0]), tuple(anticlockwise[1])}
    np.testing.assert_array_equal(clockwise_corners(found), found)


def test_a_corner_pulled_away_is_a_deviation_of_about_half_as_many_pixels() -> None:
    rectangle = corners([(100, 100, 50, 20, 0.3)])
    assert rectangle_deviation(rectangle)[0] < 1e-9
    rectangle[0, 3] += 7
    assert 2 < rectangle_deviation(rectangle)[0] < 5


@given(
    st.lists(st.tuples(st.floats(-8, 8), st.floats(-8, 8)), min_size=4, max_size=4),
    st.tuples(*[st.floats(-1, 1)] * 4, st.floats(-0.01, 0.01)),
)
@unhurried
def test_corners_that_are_no_rectangles_give_the_box_that_comes_nearest(
    pulled: list[tuple[float, float]], step: tuple[float, ...]
) -> None:
    shown = corners([(100, 100, 50, 30, 0.3)]) + np.array([pulled])
    found = boxes_from_corners(shown)

    def squares(boxes: npt.NDArray[np.float64]) -> float:
        return float(((corners(boxes) - shown) ** 2).sum())

    assert squares(found) <= squares(found + np.array([step])) + 1e-9


def test_a_box_without_a_width_keeps_its_angle() -> None:
    found = boxes_from_corners(corners([(5, 5, 0, 10, 0.7), (5, 5, 10, 0, 0.7)]))
    np.testing.assert_allclose(found, [(5, 5, 0, 10, 0.7), (5, 5, 10, 0, 0.7)], atol=1e-12)


@given(st.floats(-1e6, 1e6))
@unhurried
def test_an_angle_is_reduced_to_less_than_half_a_turn(angle: float) -> None:
    reduced = float(reduce_angle(angle))
    assert 0 <= reduced <= math.pi - 1e-6
    assert math.sin(angle - reduced) == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("angle", [math.pi, 2 * math.pi, -math.pi, 3.1415926, 3.141592, -1e-9, 0.0])
def test_an_angle_at_half_a_turn_is_none(angle: float) -> None:
    assert reduce_angle(angle) == 0


def test_an_angle_a_little_further_from_half_a_turn_stays() -> None:
    assert reduce_angle(3.14159) == 3.14159


def test_no_boxes_are_no_corners() -> None:
    assert corners([]).shape == (0, 4, 2)
    assert boxes_from_corners([]).shape == (0, 5)
    assert rectangle_deviation([]).shape == (0,)


def test_numbers_that_overflow_become_infinite_and_do_not_fail() -> None:
    assert not np.isfinite(corners([(1e308, 1e308, 1.7e308, 1.7e308, 0.5)])).all()


@pytest.mark.parametrize(("mask", "text"), [(disc(), DISC), (notched(), NOTCHED)])
def test_masks_are_written_and_read_as_pycocotools_does(mask: np.ndarray, text: str) -> None:
    counts = encode_run_length(mask)
    assert compress_counts(counts) == text
    assert decompress_counts(text).tolist() == counts
    np.testing.assert_array_equal(decode_run_length((mask.shape[0], mask.shape[1]), text), mask)


def test_runs_go_down_the_columns_and_begin_with_background() -> None:
    assert encode_run_length([[1, 0], [1, 1]]) == [0, 2, 1, 1]
    assert encode_run_length(np.zeros((2, 3))) == [6]
    assert encode_run_length(np.zeros((0, 3))) == []


@given(small_masks)
@unhurried
def test_a_mask_comes_back_from_its_run_lengths(mask: np.ndarray) -> None:
    size = (mask.shape[0], mask.shape[1])
    counts = encode_run_length(mask)
    assert sum(counts) == mask.size
    text = compress_counts(counts)
    np.testing.assert_array_equal(decode_run_length(size, counts), mask)
    np.testing.assert_array_equal(decode_run_length(size, text), mask)
    rows, columns = np.nonzero(mask)
    bounds = mask_bounds(size, text)
    if not len(rows):
        assert bounds is None
    else:
        assert bounds == (columns.min(), rows.min(), columns.max(), rows.max())
        part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        np.testing.assert_array_equal(decode_run_length(size, counts, bounds=bounds), part)


@given(st.lists(st.integers(0, 2**31), max_size=20))
@unhurried
def test_run_lengths_come_back_from_their_compressed_text(counts: list[int]) -> None:
    assert decompress_counts(compress_counts(counts)).tolist() == counts


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12) | st.text(max_size=6))
@unhurried
def test_any_text_is_read_as_run_lengths_or_refused(text: str) -> None:
    with contextlib.suppress(AnnotationError):
        assert (decompress_counts(text) >= 0).all()


@pytest.mark.parametrize("counts", [[5], [3, 4], [], "6P", "o", "6é"])
def test_run_lengths_that_do_not_fill_the_mask_are_refused(counts: list[int] | str) -> None:
    with pytest.raises(AnnotationError):
        check_run_length((2, 3), counts)
    with pytest.raises(AnnotationError):
        decode_run_length((2, 3), counts)


def test_the_bounds_of_a_large_mask_are_found_without_drawing_it() -> None:
    side = 1 << 14
    assert mask_bounds((side, side), [side * 5 + 3, 4, side * side - side * 5 - 7]) == (5, 3, 5, 6)
