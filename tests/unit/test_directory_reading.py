"""Reading a dataset's directory piece by piece, while it may turn over to another revision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.dataset_directory import IMAGES_AT_ONCE, MOST_REMEMBERED, DatasetDirectory, DatasetSources
from imgsyncfs.library.directory_positions import find_place
from imgsyncfs.library.nodes import FILE_MODE, FIRST_POSITION

FEW = settings(max_examples=examples(60))
NO_READER: Any = None
"""Listing names reads no content."""


def listing_of(stems: set[str], revision: int) -> Listing:
    """A revision with these images: every second one has an annotation, every fourth one nothing to render."""
    row = DatasetRow("d", "1.0.0", "", (), (), (), len(stems), "", "file:///data", revision, 1)
    images = [ImageRow(stem, "jpg", 4, 3, 3, 10, "", "pack", 0, 0, "", 1) for stem in sorted(stems)]
    annotations = [
        AnnotationRow(stem, int(hash_of(stem) % 4 > 0), 0, 20, "", "labels", 0, "", 1)
        for stem in sorted(stems)
        if hash_of(stem) % 2 == 0
    ]
    return build_listing(row, images, annotations)


def listing_with_sizes(sizes: dict[str, int], revision: int) -> Listing:
    """A revision with these images, and no annotations."""
    row = DatasetRow("d", "1.0.0", "", (), (), (), len(sizes), "", "file:///data", revision, 1)
    images = [ImageRow(stem, "jpg", 4, 3, 3, size, "", "pack", 0, 0, "", 1) for stem, size in sorted(sizes.items())]
    return build_listing(row, images, [])


def hash_of(stem: str) -> int:
    return sum(stem.encode())


def directory_of(listing: Listing) -> DatasetDirectory:
    row = DatasetRow("d", "1.0.0", "", (), (), (), len(listing), "", "file:///data", listing.revision, 1)
    sources = DatasetSources(
        load=lambda _: listing, contents=NO_READER, renderer=NO_READER, siblings=tuple(FORMATS.values())
    )
    return DatasetDirectory(row, sources)


def names_of(stems: set[str]) -> list[bytes]:
    """What a directory of these images shows, in its order."""
    names = []
    for stem in sorted(stems, key=str.encode):
        names.append(f"{stem}.jpg".encode())
        if hash_of(stem) % 2 == 0:
            names.append(f"{stem}.json".encode())
            if hash_of(stem) % 4 > 0:
                names += [f"{stem}{target.suffix}".encode() for target in FORMATS.values()]
    return names


def pieces(directory: DatasetDirectory, sizes: Iterator[int]) -> Iterator[list[bytes]]:
    """Read a directory as the kernel does, so many entries at a time."""
    position = FIRST_POSITION
    while entries := list(islice(directory.children_from(position), next(sizes))):
        assert {mode for _, mode, _ in entries} == {FILE_MODE}
        position = entries[-1][2]
        yield [name for name, _, _ in entries]


STEMS = st.sets(st.text("abé", min_size=1, max_size=4).map(lambda text: f"i{text}"), max_size=20)
SIZES = st.lists(st.integers(1, 7), min_size=200, max_size=200)


@given(STEMS, SIZES)
@FEW
def test_pieces_of_any_size_make_the_whole(stems: set[str], sizes: list[int]) -> None:
    directory = directory_of(listing_of(stems, 1))
    assert [name for piece in pieces(directory, iter(sizes)) for name in piece] == names_of(stems)
    assert [name for name, _ in directory.children()] == names_of(stems)


def test_more_images_than_are_made_together_are_all_there_once() -> None:
    stems = {f"i{number:05d}" for number in range(3 * IMAGES_AT_ONCE + 1)}
    directory = directory_of(listing_of(stems, 1))
    sizes = iter([IMAGES_AT_ONCE - 1] * len(names_of(stems)))
    assert [name for piece in pieces(directory, sizes) for name in piece] == names_of(stems)


@given(STEMS, STEMS, SIZES, st.integers(0, 10), st.integers(0, 2**21))
@FEW
def test_a_reader_sees_what_two_revisions_share_once_though_one_gives_way_to_the_other_meanwhile(
    old: set[str], new: set[str], sizes: list[int], turn: int, revision: int
) -> None:
    directory = directory_of(listing_of(old, revision))
    seen: list[bytes] = []
    for number, piece in enumerate(pieces(directory, iter(sizes))):
        seen += piece
        if number == turn:
            directory.turn_to(listing_of(new, revision + 1))
    assert len(set(seen)) == len(seen)
    assert set(names_of(old & new)) <= set(seen) <= set(names_of(old | new))


@pytest.mark.parametrize("place", range(1, 10))
def test_a_reader_goes_on_behind_the_name_it_saw_last(place: int) -> None:
    old = {f"i{number}" for number in range(10)}
    new = {*old, "a", "b", "i33"} - {"i0", "i4"}
    directory = directory_of(listing_of(old, 7))
    reader = pieces(directory, iter([place, 1000, 1]))
    before = next(reader)
    directory.turn_to(listing_of(new, 8))
    last = before[-1].split(b".")[0].decode()
    own = [name for name in names_of({last} & new) if name not in before]
    assert [name for piece in reader for name in piece] == own + names_of({stem for stem in new if stem > last})


@given(STEMS, st.integers(0, 100))
@FEW
def test_a_reader_that_is_two_revisions_behind_comes_to_an_end(stems: set[str], place: int) -> None:
    directory = directory_of(listing_of({f"i{number}" for number in range(30)}, 1))
    position = list(directory.children_from(FIRST_POSITION))[place % 30][2]
    directory.turn_to(listing_of(stems, 2))
    directory.turn_to(listing_of(stems, 3))
    assert {name for name, _, _ in directory.children_from(position)} <= set(names_of(stems))


@pytest.mark.parametrize("stems", [set[str](), {"a"}, {"a", "b"}])
def test_beyond_the_last_position_there_is_nothing(stems: set[str]) -> None:
    directory = directory_of(listing_of(stems, 1))
    last = max((after for _, _, after in directory.children_from(FIRST_POSITION)), default=FIRST_POSITION)
    assert stems == set() or list(directory.children_from(last)) == []
    assert list(directory.children_from(last + 1000)) == []


def test_a_file_that_was_looked_at_stays_as_it_was_until_it_is_released() -> None:
    directory = directory_of(listing_of({"a"}, 1))
    before, after = directory.listing, listing_with_sizes({"a": 99}, 2)

    def size_now() -> int:
        found = directory.child(b"a.jpg")
        assert found is not None
        return found.attributes().size

    assert [size_now(), size_now()] == [before.image(0).byte_count] * 2
    assert directory.turn_to(after) == [b"a.jpg"]
    assert [size_now(), size_now()] == [before.image(0).byte_count] * 2
    directory.release(b"a.jpg")
    assert [size_now(), size_now()] == [99] * 2


def test_few_of_the_files_that_were_looked_at_are_remembered() -> None:
    stems = {f"image_{number:04}" for number in range(3 * MOST_REMEMBERED)}
    directory = directory_of(listing_of(stems, 1))
    names = [name for name in names_of(stems) if name.endswith(b".jpg")]

    kept = [directory.child(name) for name in names]

    again = [directory.child(name) for name in names]
    assert sum(one is other for one, other in zip(kept, again, strict=True)) <= MOST_REMEMBERED
    assert None not in again


def test_a_position_at_the_end_of_the_revision_before_is_the_end_of_this_one() -> None:
    old, new = listing_of({"a"}, 1), listing_of({"a", "b"}, 2)
    *_, last = directory_of(old).children_from(FIRST_POSITION)
    assert find_place(last[2] + 3, new, earlier=old, kinds=4)[0] == 2
