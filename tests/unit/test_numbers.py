"""Node numbers: what they say, and that a file keeps its own exactly as long as its content."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.catalog.listing import (
    FileNumbers,
    Listing,
    build_listing,
    continues,
    load_listing,
    load_newest,
    numbered,
    save_listing,
)
from imgsyncfs.catalog.listing.table import ANNOTATION_PREFIX, IMAGE_PREFIX
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.library.dataset_files import FileKey, NodeNumbers
from imgsyncfs.library.dataset_numbers import DatasetNumbers, Place
from imgsyncfs.library.numbers import (
    ANNOTATION,
    CONTROL,
    FIRST_SIBLING,
    IMAGE,
    MOST_DATASETS,
    MOST_FILES,
    NAMED,
    ROOT,
    address,
    dataset_number,
    file_number,
    named_number,
)

FEW = settings(max_examples=examples(80))

CONTENTS = st.dictionaries(st.sampled_from("abcdefghij"), st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=10)
"""Stem to what stands for the content of the image and of the annotation, which is not there at 0."""


def listing_of(
    contents: dict[str, tuple[int, int]], revision: int = 1, *, orientations: dict[str, int] | None = None
) -> Listing:
    row = DatasetRow("d", "1.0.0", "", (), (), (), len(contents), "", "file:///data", revision, 1)
    images = [
        ImageRow(stem, "jpg", 4, 3, 3, 10, f"{image:032x}", "pack", 0, 0, "", 1)
        for stem, (image, _) in contents.items()
    ]
    annotations = [
        AnnotationRow(stem, 1, 1, 20, f"{annotation:032x}", "labels", 0, "", 1)
        for stem, (_, annotation) in contents.items()
        if annotation
    ]
    return build_listing(row, images, annotations, orientations=orientations)


def numbers_of(listing: Listing) -> dict[tuple[str, int], int]:
    """(stem, kind) to number of each file that there is."""
    numbers = {}
    for index in range(len(listing)):
        stem = listing.stem(index).decode()
        numbers[stem, IMAGE] = FileNumbers.of(listing, IMAGE_PREFIX).number(index)
        if listing.has_annotation(index):
            numbers[stem, ANNOTATION] = FileNumbers.of(listing, ANNOTATION_PREFIX).number(index)
    return numbers


@given(st.lists(CONTENTS, min_size=1, max_size=6))
@FEW
def test_a_file_keeps_its_number_as_long_as_its_content_and_no_other_file_ever_gets_it(
    revisions: list[dict[str, tuple[int, int]]],
) -> None:
    given_before: dict[tuple[int, int], tuple[str, int]] = {}
    previous: Listing | None = None
    before: dict[str, tuple[int, int]] = {}
    for revision, contents in enumerate(revisions, 1):
        listing = numbered(listing_of(contents, revision), previous)
        now = numbers_of(listing)
        for (stem, kind), number in now.items():
            content = contents[stem][kind - IMAGE]
            kept = previous is not None and stem in before and before[stem][kind - IMAGE] == content
            if kept:
                assert previous is not None
                assert number == numbers_of(previous)[stem, kind]
            else:
                assert (kind, number) not in given_before
            given_before[kind, number] = (stem, content)
        assert previous is None or continues(listing, previous)
        previous, before = listing, contents


def test_an_annotation_whose_image_is_turned_otherwise_gets_a_new_number_and_all_else_keeps_its_own() -> None:
    contents = {"a": (1, 1), "b": (2, 2)}
    before = numbered(listing_of(contents), None)
    now = numbered(listing_of(contents, 2, orientations={"a": 6}), before)
    old, new = numbers_of(before), numbers_of(now)
    assert {file for file, number in new.items() if number != old[file]} == {("a", ANNOTATION)}
    assert new["a", ANNOTATION] not in old.values()
    assert continues(now, before)


@given(st.lists(CONTENTS, min_size=1, max_size=4))
@FEW
def test_a_file_is_found_by_its_number_and_others_are_not(revisions: list[dict[str, tuple[int, int]]]) -> None:
    listing: Listing | None = None
    for revision, contents in enumerate(revisions, 1):
        listing = numbered(listing_of(contents, revision), listing)
    assert listing is not None
    for prefix in (IMAGE_PREFIX, ANNOTATION_PREFIX):
        numbers = FileNumbers.of(listing, prefix)
        known = [numbers.number(index) for index in range(len(listing))]
        assert known == numbers.all().tolist()
        assert [numbers.index(number) for number in known] == list(range(len(listing)))
        assert {numbers.index(number) for number in range(60) if number not in known} <= {-1}


def test_listings_that_were_numbered_apart_do_not_continue_each_other() -> None:
    first = numbered(listing_of({"a": (1, 1)}), None)
    one = numbered(listing_of({"a": (1, 1), "b": (1, 1)}, 2), first)
    other = numbered(listing_of({"a": (1, 1), "c": (2, 2)}, 3), first)
    assert continues(one, first)
    assert continues(other, first)
    assert not continues(other, one)
    assert not continues(numbered(listing_of({"a": (1, 1)}), None), first)
    assert not continues(listing_of({"a": (1, 1)}), listing_of({"a": (1, 1)}))


def test_numbers_are_saved_with_a_listing_and_go_on_from_there(tmp_path: Path) -> None:
    first = numbered(listing_of({"a": (1, 1), "b": (1, 1)}), None)
    save_listing(first, tmp_path / "1")
    saved = load_newest(tmp_path)
    assert saved is not None
    second = numbered(listing_of({"a": (2, 1), "b": (1, 1)}, 2), saved)
    save_listing(second, tmp_path / "2")
    loaded = load_listing(tmp_path / "2")
    assert numbers_of(loaded) == {("a", IMAGE): 2, ("b", IMAGE): 1, ("a", ANNOTATION): 0, ("b", ANNOTATION): 1}
    assert loaded.facts.next_numbers == (3, 2)


def test_a_million_files_of_which_few_have_changed_take_few_runs() -> None:
    first = numbered(listing_of({f"{number:04d}": (1, 1) for number in range(2000)}), None)
    second = numbered(listing_of({f"{number:04d}": (1 + (number == 999), 1) for number in range(2000)}, 2), first)
    assert len(second.columns[IMAGE_PREFIX + "run_starts"]) == 3
    assert len(second.columns[ANNOTATION_PREFIX + "run_starts"]) == 1


@given(st.integers(1, MOST_DATASETS), st.integers(0, MOST_FILES - 1), st.integers(1, 63))
@FEW
def test_a_number_says_where_its_node_is(dataset: int, file: int, kind: int) -> None:
    number = file_number(dataset, file, kind)
    assert address(number) == (dataset, file, kind)
    assert 0 < number < NAMED
    assert number not in {ROOT, dataset_number(dataset)}


@given(st.binary(max_size=20), st.binary(max_size=20), st.booleans())
@FEW
def test_named_nodes_have_numbers_of_their_own(path: bytes, content: bytes, is_control: bool) -> None:
    number = named_number(path, content, is_control=is_control)
    assert number == named_number(path, content, is_control=is_control)
    assert bool(number & CONTROL) == is_control
    assert NAMED <= number < 1 << 63
    assert number != named_number(path, content + b"x", is_control=is_control)


def test_a_sibling_has_the_file_number_of_its_annotation() -> None:
    first = numbered(listing_of({"a": (1, 1)}), None)
    second = numbered(listing_of({"a": (1, 2)}, 2), first)
    before, after = NodeNumbers(5, first), NodeNumbers(5, second)
    assert before.number(IMAGE, 0) == after.number(IMAGE, 0)
    assert before.number(FIRST_SIBLING, 0) != after.number(FIRST_SIBLING, 0)
    assert after.key(address(after.number(FIRST_SIBLING, 0))) == FileKey(FIRST_SIBLING, 0)
    assert after.key(address(before.number(FIRST_SIBLING, 0))) is None


def test_datasets_keep_their_numbers_from_mount_to_mount(tmp_path: Path) -> None:
    first = DatasetNumbers(tmp_path / "numbers.json")
    assert first.of(["b", "a"]) == [1, 2]
    first.save()
    again = DatasetNumbers(tmp_path / "numbers.json")
    assert again.of(["c", "a", "b"]) == [3, 2, 1]
    assert again.renew("a") == 4
    again.save()
    assert DatasetNumbers(tmp_path / "numbers.json").of(["a"]) == [4]


def test_a_number_of_the_last_mount_says_which_directory_it_was(tmp_path: Path) -> None:
    first = DatasetNumbers(tmp_path / "numbers.json")
    places = [Place("a"), Place("a", "yolo"), Place("@chosen"), Place("b", "imagefolder:Gender")]
    numbers = first.of(place.name for place in places)
    first.save()
    again = DatasetNumbers(tmp_path / "numbers.json")
    assert [Place.of(again.name(number)) for number in numbers] == places
    assert again.name(9) == ""


def test_a_number_that_was_given_up_is_given_again_by_a_later_mount_and_not_by_this_one(tmp_path: Path) -> None:
    numbers = DatasetNumbers(tmp_path / "numbers.json")
    assert numbers.of(["a", "b"]) == [1, 2]
    assert (numbers.renew("a"), numbers.renew("a")) == (3, 4)
    assert numbers.of(["c"]) == [5]
    numbers.save()
    later = DatasetNumbers(tmp_path / "numbers.json")
    assert later.of(["a", "b", "c", "d", "e", "f"]) == [4, 2, 5, 1, 3, 6]


def test_damaged_numbers_of_datasets_are_given_anew(tmp_path: Path) -> None:
    for content in (b"", b"[1]", b'{"a": 1, "b": 1}', b'{"a": 0}', b'{"a": "x"}'):
        (tmp_path / "numbers.json").write_bytes(content)
        assert DatasetNumbers(tmp_path / "numbers.json").of(["a"]) == [1]
