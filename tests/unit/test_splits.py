"""Splits of images: stable for ever, whatever else is in a dataset."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import unhurried

from imgsyncfs.annotations.splits import (
    LONGEST_STEM,
    Split,
    SplitRule,
    group_hash,
    group_of,
    make_rule,
    split_stems,
    splitter,
)
from imgsyncfs.errors import ConfigurationError

stems = st.one_of(st.from_regex(r"(cam|人)[0-9]?_[0-9]{1,6}", fullmatch=True), st.text(max_size=20))
weights = st.tuples(*[st.integers(0, 100)] * 3).filter(any)

SLOW_EXPRESSIONS = [r".*.*.*x", r"^.*.*.*.*x", r"^[ab]*[ab]*[ab]*[ab]*c", r"^(?:a|a)(?:a|a)(?:a|a)a*a*c"]
"""What is taken, and takes longest over a name of the letter a."""


@pytest.mark.parametrize(
    ("group", "number"),
    [
        ("", 0xE4A6A0577479B2B4),
        ("cam1_2", 0x0BD92232E25F7A55),
        ("original_20200207_fisheye_rbbox_0", 0xF76DE43DD5CD91BA),
        ("人", 0x12C9D0A7E69DC15B),
    ],
)
def test_the_hash_of_a_group_is_for_ever(group: str, number: int) -> None:
    assert group_hash(group) == number


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("original_20200207_fisheye_rbbox_00079", Split.TEST),
        ("cam1_00279", Split.TRAIN),
        ("cam1_01279", Split.VALIDATION),
        ("cam2_00100", Split.TEST),
        ("00000", Split.TRAIN),
        ("人", Split.TRAIN),
        ("img_205", Split.VALIDATION),
    ],
)
def test_the_split_of_a_name_is_for_ever(stem: str, split: Split) -> None:
    assert splitter(SplitRule())(stem) is split


@pytest.mark.parametrize(
    ("stem", "group"),
    [
        ("cam1_00279", "cam1_2"),
        ("cam1_279", "cam1_2"),
        ("cam1_00079", "cam1_0"),
        ("cam1_9", "cam1_0"),
        ("00079", "0"),
        ("12345", "123"),
        ("portrait", "portrait"),
        ("2020-a", "2020-a"),
        ("x\u0663", "x\u0663"),
        ("", ""),
    ],
)
def test_a_hundred_numbers_make_a_group(stem: str, group: str) -> None:
    assert group_of(stem) == group


@pytest.mark.parametrize(
    ("expression", "stem", "split_as"),
    [
        (r"^(cam\d+)_", "cam7_left_0001", "cam7"),
        (r"\d{8}", "a_20200207_b", "20200207"),
        (r"(?:cam|eye)(\d+)", "eye12_x", "12"),
        (r"^(cam\d+)_", "other_0001", "other_0001"),
        (r"^cam(\d)?", "cam_1", "cam_1"),
        (r"x*", "aaa", "aaa"),
    ],
)
def test_an_expression_says_the_group_and_names_without_a_match_are_their_own(
    expression: str, stem: str, split_as: str
) -> None:
    rule = make_rule("1/1/1", expression)
    assert splitter(rule)(stem) is splitter(make_rule("1/1/1", "^.*$"))(split_as)


@unhurried
@given(st.lists(stems, max_size=30), st.lists(stems, max_size=30), weights)
def test_images_that_are_added_move_no_other(known: list[str], added: list[str], shares: tuple[int, int, int]) -> None:
    rule = SplitRule(shares)
    assert split_stems(rule, [*added, *known])[len(added) :] == split_stems(rule, known)


@unhurried
@given(st.lists(stems, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(names: list[str], chance: random.Random) -> None:
    shuffled = chance.sample(names, len(names))
    assert dict(zip(shuffled, split_stems(SplitRule(), shuffled), strict=True)) == dict(
        zip(names, split_stems(SplitRule(), names), strict=True)
    )


@unhurried
@given(st.lists(stems, min_size=2, max_size=30), weights)
def test_a_group_never_stands_on_two_sides(names: list[str], shares: tuple[int, int, int]) -> None:
    sides: dict[str, set[Split]] = {}
    for name, split in zip(names, split_stems(SplitRule(shares), names), strict=True):
        sides.setdefault(group_of(name), set()).add(split)
    assert all(len(each) == 1 for each in sides.values())


@pytest.mark.parametrize("shares", [(80, 10, 10), (1, 1, 1), (0, 1, 0), (7, 0, 3), (1, 10**6, 1)])
def test_many_groups_come_near_to_the_weights(shares: tuple[int, int, int]) -> None:
    splits = split_stems(SplitRule(shares), (f"group{number}_" for number in range(20_000)))
    for split, share in zip(Split, shares, strict=True):
        assert splits.count(split) / len(splits) == pytest.approx(share / sum(shares), abs=0.012)


def test_weights_of_the_same_proportion_divide_alike() -> None:
    names = [f"cam_{number}00" for number in range(1000)]
    assert split_stems(SplitRule((8, 1, 1)), names) == split_stems(SplitRule((80, 10, 10)), names)


def test_more_weight_for_training_moves_images_into_it_only() -> None:
    names = [f"cam_{number}00" for number in range(1000)]
    before, after = split_stems(SplitRule((80, 10, 10)), names), split_stems(SplitRule((90, 5, 5)), names)
    assert all(new is Split.TRAIN for old, new in zip(before, after, strict=True) if old is Split.TRAIN)


def test_a_million_names_take_seconds() -> None:
    started = time.process_time()
    split_stems(SplitRule(), (f"original_20200207_fisheye_rbbox_{number:07}" for number in range(1_000_000)))
    assert time.process_time() - started < 8


@pytest.mark.parametrize("text", ["80/10/10", " 8 / 1 / 1 ", "0/1/0", "1000000/0/0"])
def test_weights_are_three_whole_numbers(text: str) -> None:
    assert make_rule(text).weights_text == text.replace(" ", "")


@pytest.mark.parametrize(
    "text", ["", "80/20", "80/10/10/0", "0/0/0", "-1/1/1", "0.8/0.1/0.1", "a/b/c", "\u0661/1/1", "9999999999/0/0"]
)
def test_other_weights_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"80/10/10"):
        make_rule(text)


@pytest.mark.parametrize(
    "expression",
    [
        *("(a+)+", "(a|a)*", "(a*)*b", "(?:a?){30}", "((a+)?)+", "a**", "a*+", "a{2}{3}", "^*", "(){200}"),
        *(r"(a)\1", "(?=a)", "(?!a)", "(?<=a)", "(?>a)", "(?i)a", "(?#a)", "(?(1)a|b)", "(a)(?P=x)", r"\b", r"\Z"),
        *("[[:alpha:]]", "[a--b]", "[a&&b]", "[a||b]", "(?P<1>a)"),
        *(".*.*.*.*x", "^.*.*.*.*.*x", "a?" * 33, "|" * 40, "(a|b)" * 36, "a{256}", "a{1,256}"),
        *("(a", "a)", "[a", "a\\", "a{,3}", "{2}", "x" * 201),
    ],
)
def test_an_expression_that_could_take_for_ever_or_is_none_is_refused(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot say the group"):
        make_rule("8/1/1", expression)


@pytest.mark.parametrize("expression", SLOW_EXPRESSIONS)
def test_the_slowest_expression_that_is_taken_takes_seconds_over_a_name(expression: str) -> None:
    split_of = splitter(make_rule("8/1/1", expression))
    started = time.process_time()
    split_of("a" * LONGEST_STEM)
    assert time.process_time() - started < 15


def test_an_expression_that_is_slow_over_many_names_is_given_up() -> None:
    rule = make_rule("8/1/1", ".*.*.*x")
    with pytest.raises(ConfigurationError, match="too long"):
        split_stems(rule, (f"{number:a>{LONGEST_STEM}}" for number in range(1_000_000)))
