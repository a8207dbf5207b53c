"""The grammar of dataset ids, and which file names can be published and shown."""

from __future__ import annotations

import contextlib
import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import unhurried
from support.places import SAMPLES

from imgsyncfs.catalog.naming import (
    IMAGE_TYPES,
    LABEL_TYPES,
    SOURCES,
    DatasetName,
    file_name_fault,
    parse_dataset_name,
)
from imgsyncfs.errors import NamingError
from imgsyncfs.tools.pairing import LONGEST_STEM_BYTES, stem_fault

dates = st.dates().map(lambda date: date.strftime("%Y%m%d").rjust(8, "0"))
free_names = st.from_regex(r"[A-Za-z0-9-]{1,20}", fullmatch=True)
label_types = st.lists(st.sampled_from(LABEL_TYPES), min_size=1, unique=True).map(tuple)


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One to three names with '&' between."""
    return st.lists(parts, min_size=1, max_size=3).map("&".join)


dataset_names = st.one_of(
    st.builds(DatasetName, st.just("original"), joined(dates), st.sampled_from(IMAGE_TYPES), label_types),
    st.builds(DatasetName, st.just("opensource"), joined(free_names), st.sampled_from(IMAGE_TYPES), label_types),
)


@given(dataset_names)
@unhurried
def test_a_dataset_id_taken_apart_and_put_together_is_the_same(name: DatasetName) -> None:
    assert parse_dataset_name(str(name)) == name


def test_every_id_in_the_users_table_follows_the_grammar() -> None:
    with (SAMPLES / "datasets.csv").open() as table:
        ids = [row["dataset_id"] for row in csv.DictReader(table)]
    assert len(ids) == 22
    assert [str(parse_dataset_name(dataset_id)) for dataset_id in ids] == ids


def test_a_name_and_a_label_type_may_be_several() -> None:
    assert parse_dataset_name("opensource_imdbwiki&affectnet_rgb_clf&reg") == DatasetName(
        "opensource", "imdbwiki&affectnet", "rgb", ("clf", "reg")
    )
    assert parse_dataset_name("original_20200207&20200219_fisheye_rbbox").name == "20200207&20200219"


@pytest.mark.parametrize(
    ("dataset_id", "reason"),
    [
        ("", "parts"),
        ("original_20200207_fisheye", "3 parts"),
        ("original_20200207_fisheye_rbbox_v2", "5 parts"),
        ("private_20200207_rgb_bbox", f"'private' is unknown; use one of {', '.join(SOURCES)}"),
        ("original_20200230_rgb_bbox", "'20200230' is no date"),
        ("original_20200207&office_rgb_bbox", "'office' is no date"),
        ("original_2020027_rgb_bbox", "no date"),
        ("original_\uff12\uff10\uff12\uff10\uff10\uff12\uff10\uff17_rgb_bbox", "not allowed"),
        ("opensource__rgb_bbox", "not allowed"),
        ("opensource_a&_rgb_bbox", "not allowed"),
        ("opensource_wider face_rgb_bbox", "not allowed"),
        ("opensource_v1.0_rgb_bbox", "not allowed"),
        ("opensource_../etc_rgb_bbox", "not allowed"),
        ("opensource_face\n_rgb_bbox", "not allowed"),
        ("opensource_face_fisheye360_bbox", "'fisheye360' is unknown"),
        ("opensource_face_rgb_box", "'box' is unknown"),
        ("opensource_face_rgb_clf,reg", "'clf,reg' is unknown"),
        ("opensource_face_rgb_bbox&bbox", "twice"),
        (f"opensource_{'a' * 200}_rgb_bbox", "shorten"),
    ],
)
def test_an_id_that_breaks_the_grammar_is_refused_with_the_part_that_is_wrong(dataset_id: str, reason: str) -> None:
    with pytest.raises(NamingError) as caught:
        parse_dataset_name(dataset_id)
    assert reason in str(caught.value)
    assert repr(dataset_id) in str(caught.value)


@given(st.text())
@unhurried
def test_any_text_is_either_an_id_or_refused(text: str) -> None:
    with contextlib.suppress(NamingError):
        assert str(parse_dataset_name(text)) == text


@pytest.mark.parametrize("stem", ["00079", "a b", "人", "a.b", "x" * LONGEST_STEM_BYTES, "labelme", "a&b'c\"d"])
def test_ordinary_stems_can_be_published(stem: str) -> None:
    assert stem_fault(stem) is None


@pytest.mark.parametrize(
    ("stem", "reason"),
    [
        ("", "empty"),
        (".", "directory"),
        ("..", "directory"),
        ("a/b", "'/'"),
        ("a\0b", "NUL"),
        ("a\nb", "control character"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("a\udcffb", "UTF-8"),
        (".hidden", "dot"),
        ("a.labelme", ".labelme"),
        ("x" * (LONGEST_STEM_BYTES + 1), "shorten"),
        ("人" * 81, "243 bytes"),
    ],
)
def test_a_stem_that_cannot_be_published_is_told_why(stem: str, reason: str) -> None:
    assert reason in str(stem_fault(stem))


def test_the_longest_stem_leaves_room_for_the_longest_sibling() -> None:
    assert file_name_fault("x" * LONGEST_STEM_BYTES + ".labelme.json") is None
    assert file_name_fault("x" * (LONGEST_STEM_BYTES + 1) + ".labelme.json") is not None


@pytest.mark.parametrize("name", ["a\nb.jpg", ".hidden", "a.labelme", "x" * 255, "人" * 85])
def test_a_name_that_a_directory_can_hold_is_shown(name: str) -> None:
    assert file_name_fault(name) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\0", "\ud800", "x" * 256, "人" * 86])
def test_a_hostile_or_impossible_name_is_not_shown(name: str) -> None:
    assert file_name_fault(name) is not None
