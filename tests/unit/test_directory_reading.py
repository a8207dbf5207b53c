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
from imgsyncfs.library.dataset_files import IMAGES_AT_ONCE, DatasetFiles, FileSources
from imgsyncfs.library.directory_positions import find_place
from imgsyncfs.library.nodes import FIRST_POSITION

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


def hash_of(stem: str) -> int:
    return sum(stem.encode())


SOURCES = FileSources(contents=NO_READER, renderer=NO_READER, siblings=tuple(FORMATS.values()))


class Directory:
    """A dataset's directory, as a responder shows it: at one revision, then at the next."""

    def __init__(self, listing: Listing) -> None:
        self.files = DatasetFiles(listing, SOURCES)
        self.earlier: Listing | None = None

    def turn_to(self, listing: Listing) -> None:
        self.earlier = self.files.listing
        self.files = DatasetFiles(listing, SOURCES)

    def from_position(self, position: int) -> Iterator[tuple[bytes, int]]:
        """(name, position after it) of each entry."""
        return ((name, after) for name, *_, after in self.files.entries_from(position, earlier=self.earlier))


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


def pieces(directory: Directory, sizes: Iterator[int]) -> Iterator[list[bytes]]:
    """Read a directory as the kernel does, so many entries at a time."""
    position = FIRST_POSITION
    while entries := list(islice(directory.from_position(position), next(sizes))):
        position = entries[-1][1]
        yield [name for name, _ in entries]


STEMS = st.sets(st.text("abé", min_size=1, max_size=4).map(lambda text: f"i{text}"), max_size=20)
SIZES = st.lists(st.integers(1, 7), min_size=200, max_size=200)


@given(STEMS, SIZES)
@FEW
def test_pieces_of_any_size_make_the_whole(stems: set[str], sizes: list[int]) -> None:
    directory = Directory(listing_of(stems, 1))
    assert [name for piece in pieces(directory, iter(sizes)) for name in piece] == names_of(stems)
    assert [name for name, _ in directory.from_position(FIRST_POSITION)] == names_of(stems)


def test_more_images_than_are_made_together_are_all_there_once() -> None:
    stems = {f"i{number:05d}" for number in range(3 * IMAGES_AT_ONCE + 1)}
    directory = Directory(listing_of(stems, 1))
    sizes = iter([IMAGES_AT_ONCE - 1] * len(names_of(stems)))
    assert [name for piece in pieces(directory, sizes) for name in piece] == names_of(stems)


@given(STEMS, STEMS, SIZES, st.integers(0, 10), st.integers(0, 2**21))
@FEW
def test_a_reader_sees_what_two_revisions_share_once_though_one_gives_way_to_the_other_meanwhile(
    old: set[str], new: set[str], sizes: list[int], turn: int, revision: int
) -> None:
    directory = Directory(listing_of(old, revision))
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
    directory = Directory(listing_of(old, 7))
    reader = pieces(directory, iter([place, 1000, 1]))
    before = next(reader)
    directory.turn_to(listing_of(new, 8))
    last = before[-1].split(b".")[0].decode()
    own = [name for name in names_of({last} & new) if name not in before]
    assert [name for piece in reader for name in piece] == own + names_of({stem for stem in new if stem > last})


@given(STEMS, st.integers(0, 100))
@FEW
def test_a_reader_that_is_two_revisions_behind_comes_to_an_end(stems: set[str], place: int) -> None:
    directory = Directory(listing_of({f"i{number}" for number in range(30)}, 1))
    position = list(directory.from_position(FIRST_POSITION))[place % 30][1]
    directory.turn_to(listing_of(stems, 2))
    directory.turn_to(listing_of(stems, 3))
    assert {name for name, _ in directory.from_position(position)} <= set(names_of(stems))


@pytest.mark.parametrize("stems", [set[str](), {"a"}, {"a", "b"}])
def test_beyond_the_last_position_there_is_nothing(stems: set[str]) -> None:
    directory = Directory(listing_of(stems, 1))
    last = max((after for _, after in directory.from_position(FIRST_POSITION)), default=FIRST_POSITION)
    assert stems == set() or list(directory.from_position(last)) == []
    assert list(directory.from_position(last + 1000)) == []


@given(STEMS)
@FEW
def test_each_entry_is_found_by_its_name_and_named_by_its_key(stems: set[str]) -> None:
    files = DatasetFiles(listing_of(stems, 1), SOURCES)
    for name, kind, image, _ in files.entries_from(FIRST_POSITION):
        key = files.find(name)
        assert key == (kind, image)
        assert files.has(key)
        assert files.name(key) == name


def test_a_position_at_the_end_of_the_revision_before_is_the_end_of_this_one() -> None:
    old, new = listing_of({"a"}, 1), listing_of({"a", "b"}, 2)
    *_, last = Directory(old).from_position(FIRST_POSITION)
    assert find_place(last[1] + 3, new, earlier=old, kinds=4)[0] == 2
