"""Readahead: what is read in order is fetched ahead, within bounds; what is read at random is not."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.catalog.listing import build_listing
from imgsyncfs.catalog.rows import DatasetRow, ImageRow
from imgsyncfs.fetching.extent_order import ExtentOrder, Place
from imgsyncfs.fetching.readahead import BYTES_AHEAD, FIRST_BULK_WINDOW, MOST_AHEAD, Sequences

COUNT = 3000
BLOB_BYTES = 100_000


def order_of(places: list[tuple[str, int, int]]) -> ExtentOrder:
    """The order of files that lie at these places: blob, offset, length."""
    row = DatasetRow("d", "1.0.0", "", (), (), (), len(places), "", "file:///data", 1, 1)
    images = [
        ImageRow(f"{number:04}", "jpg", 4, 3, 3, byte_count, "", blob, offset, 0, "", 1)
        for number, (blob, offset, byte_count) in enumerate(places)
    ]
    return ExtentOrder(build_listing(row, images, []).images)


@functools.cache
def loose_order(count: int, byte_count: int) -> ExtentOrder:
    return order_of([(f"{number:04}.jpg", 0, byte_count) for number in range(count)])


@functools.cache
def pack_order() -> ExtentOrder:
    """Packs of 16 extents with a file each."""
    return order_of([(f"{blob:02}.pack", n * EXTENT_BYTES, 2 * BLOB_BYTES) for blob in range(40) for n in range(16)])


def loose(*, count: int = COUNT, byte_count: int = BLOB_BYTES, bulk: bool = False) -> Sequences:
    """Loose files, an extent each."""
    return Sequences(loose_order(count, byte_count), bulk=bulk)


def pack(blob: int, number: int) -> Place:
    """An extent of a pack."""
    return 16 * blob + number, 0


class Reader:
    """Reads extents; whatever was to be fetched ahead is there at once."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences
        self.here: set[Place] = set()
        self.missed = 0
        self.most_ahead = 0

    def read(self, number: int) -> list[int]:
        """Read one; say which ones are fetched ahead because of it."""
        wanted = (number, 0)
        if wanted in self.here:
            ahead = self.sequences.reached(wanted)
        else:
            self.missed += 1
            ahead = self.sequences.missed(wanted)
        self.here.update([wanted, *ahead])
        self.most_ahead = max(self.most_ahead, sum(index > number for index, _ in self.here))
        return [index for index, _ in ahead]


def test_one_who_reads_in_order_waits_for_the_first_three_only() -> None:
    reader = Reader(loose())

    for number in range(COUNT):
        reader.read(number)

    assert reader.missed == 3


def test_the_window_doubles_up_to_its_bound() -> None:
    reader = Reader(loose())

    windows = [len(ahead) for number in range(400) if (ahead := reader.read(number))]

    assert windows[:3] == [4, 6, 12]
    assert reader.most_ahead == MOST_AHEAD


def test_no_more_is_fetched_ahead_than_the_bytes_allow() -> None:
    reader = Reader(loose(byte_count=EXTENT_BYTES))

    for number in range(200):
        reader.read(number)

    assert reader.most_ahead == BYTES_AHEAD // EXTENT_BYTES


def test_one_who_reads_at_random_fetches_nothing_ahead() -> None:
    reader = Reader(loose())
    numbers = list(range(COUNT))
    random.Random(7).shuffle(numbers)

    ahead = sum(len(reader.read(number)) for number in numbers[:500])

    assert ahead == 0


def test_eight_readers_side_by_side_are_one_in_order() -> None:
    reader = Reader(loose())
    rounds = [list(range(first, first + 8)) for first in range(0, COUNT, 8)]

    for numbers in rounds:
        random.Random(numbers[0]).shuffle(numbers)
        for number in numbers:
            reader.read(number)

    assert reader.missed <= 16


def test_eight_readers_of_different_parts_are_each_in_order() -> None:
    reader = Reader(loose())

    for step in range(COUNT // 8):
        for part in range(8):
            reader.read(part * (COUNT // 8) + step)

    assert reader.missed <= 8 * 3


def test_the_first_look_at_a_loose_annotation_fetches_those_that_follow() -> None:
    assert Reader(loose(bulk=True)).read(100) == list(range(101, 101 + FIRST_BULK_WINDOW))


def test_the_first_look_at_a_packed_annotation_fetches_its_extent_alone() -> None:
    assert Sequences(pack_order(), bulk=True).missed(pack(0, 0)) == []


def test_a_pack_that_is_read_in_order_is_fetched_ahead() -> None:
    sequences = Sequences(pack_order(), bulk=False)

    ahead = [sequences.missed(pack(0, number)) for number in range(2)]

    assert ahead == [[], [pack(0, number) for number in range(2, 6)]]


def test_one_who_misses_a_few_packed_extents_at_random_gets_those_alone() -> None:
    sequences = Sequences(pack_order(), bulk=False)

    assert [sequences.missed(pack(blob, 4)) for blob in range(0, 6, 2)] == [[]] * 3


def test_one_who_misses_packed_extents_everywhere_gets_those_beside_them_as_well() -> None:
    sequences = Sequences(pack_order(), bulk=False)
    for blob in range(0, 6, 2):
        sequences.missed(pack(blob, 4))

    assert [sequences.missed(pack(20, 4)), sequences.missed(pack(30, 9))] == [[pack(20, 5)], [pack(30, 8)]]


def test_the_more_packed_extents_are_missed_the_more_come_with_each() -> None:
    sequences = Sequences(pack_order(), bulk=False)

    brought = [1 + len(sequences.missed(pack(blob, 5))) for blob in range(0, 20, 2)]

    assert brought == [1] * 3 + [2] * 4 + [4] * 3


def test_a_dataset_that_the_cache_cannot_hold_is_fetched_extent_by_extent() -> None:
    sequences = Sequences(pack_order(), bulk=False, fits=False)

    assert [sequences.missed(pack(blob, 4)) for blob in range(0, 40, 2)] == [[]] * 20


def test_misses_that_are_far_between_are_no_epoch() -> None:
    times = iter(range(0, 1000, 5))
    sequences = Sequences(pack_order(), bulk=False, clock=lambda: next(times))

    assert [sequences.missed(pack(blob, 4)) for blob in range(0, 40, 2)] == [[]] * 20


def test_nothing_is_fetched_beyond_the_last_file() -> None:
    reader = Reader(loose(count=6))

    assert [reader.read(number) for number in range(6)] == [[], [2, 3, 4, 5], [], [], [], []]


def test_in_a_small_packed_dataset_the_first_miss_fetches_what_follows() -> None:
    order = order_of([("0.pack", n * EXTENT_BYTES, BLOB_BYTES) for n in range(8)])
    assert Sequences(order, bulk=False).missed((2, 0)) == [(3, 0), (4, 0), (5, 0), (6, 0)]


def test_in_a_small_loose_dataset_the_second_miss_in_order_does() -> None:
    sequences = loose(count=300)
    assert sequences.missed((7, 0)) == []
    assert sequences.missed((8, 0)) == [(9, 0), (10, 0), (11, 0), (12, 0)]


def test_a_reader_who_jumps_ahead_within_the_window_goes_on_from_there() -> None:
    reader = Reader(loose())
    for number in range(20):
        reader.read(number)
    missed = reader.missed

    for number in range(22, 200, 3):
        reader.read(number)

    assert reader.missed == missed


@pytest.mark.parametrize("bulk", [False, True])
@given(numbers=st.lists(st.integers(0, 60), max_size=200))
def test_what_was_fetched_ahead_is_not_asked_for_again_before_a_reader_came_to_it(
    numbers: list[int], *, bulk: bool
) -> None:
    sequences = loose(count=61, bulk=bulk)
    waiting: set[int] = set()

    for number in numbers:
        tell = sequences.reached if number in waiting else sequences.missed
        waiting.discard(number)
        fetched = [index for index, _ in tell((number, 0))]
        assert not waiting & set(fetched)
        assert len(set(fetched)) == len(fetched)
        assert set(fetched) <= set(range(61))
        waiting.update(fetched)
