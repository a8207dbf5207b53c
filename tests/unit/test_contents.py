"""Reading files of a dataset out of extents, wherever in blobs they lie."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.cache import OpenExtent
from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.rows import DatasetRow, ImageRow
from imgsyncfs.errors import BlobChanged
from imgsyncfs.fetching.contents import ContentReader, ExtentSource, extents_of
from imgsyncfs.fetching.extent import Extent, extent_key

STORE = "file:///data"
PACK = "d/images-1.pack"
PACK_BYTES = 2 * EXTENT_BYTES + 1000
CONTENT = random.Random(0).randbytes(PACK_BYTES)
STARTS = range(0, PACK_BYTES, EXTENT_BYTES)


@dataclass
class Extents(ExtentSource):
    """Has extents of a pack in the cache, some of them open.

    Attributes:
        extents: by their key.
        opened_keys: of those that are open.
        looked_up: keys of those that were looked for in the cache.
    """

    extents: dict[str, OpenExtent]
    opened_keys: set[str]
    looked_up: list[str] = field(default_factory=list)

    def opened(self, key: str) -> OpenExtent | None:
        return self.extents.get(key) if key in self.opened_keys else None

    def kept(self, key: str) -> OpenExtent | None:
        return self.extents.get(key)

    def bring(self, extent: Extent, *_: object) -> OpenExtent:
        self.looked_up.append(extent.key)
        return self.extents[extent.key]


def listing_of(*places: tuple[int, int]) -> Listing:
    """Images that lie in the pack, each at (offset, byte count)."""
    row = DatasetRow("d", "1.0.0", "", (), (), (), len(places), "", STORE, 1, 1)
    images = [
        ImageRow(f"i{number:03}", "jpg", 4, 3, 3, byte_count, "", PACK, offset, 0, "", 1)
        for number, (offset, byte_count) in enumerate(places)
    ]
    return build_listing(row, images, [])


def in_memory(content: bytes) -> OpenExtent:
    return OpenExtent(content=content, length=len(content))


def on_disk(content: bytes, folder: Path) -> OpenExtent:
    """An extent that lies somewhere within a file."""
    descriptor = os.open(folder, os.O_RDWR | os.O_TMPFILE)
    os.write(descriptor, b"before" + content + b"after")
    return OpenExtent(descriptor=descriptor, length=len(content), start=6)


def reader_of(extents: dict[int, OpenExtent], *, opened: set[int]) -> tuple[ContentReader, Extents]:
    source = Extents(
        {extent_key(STORE, PACK, start): extent for start, extent in extents.items()},
        {extent_key(STORE, PACK, start) for start in opened},
    )
    return ContentReader(source, lambda _: None), source


@pytest.fixture(scope="module")
def all_extents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[int, OpenExtent]]:
    """The pack's extents, in memory and on disk."""
    folder = tmp_path_factory.mktemp("extents")
    parts = {start: CONTENT[start : start + EXTENT_BYTES] for start in STARTS}
    return [
        {start: in_memory(part) for start, part in parts.items()},
        {start: on_disk(part, folder) for start, part in parts.items()},
    ]


NEAR_A_BORDER = st.sampled_from(STARTS).flatmap(lambda start: st.integers(max(0, start - 2000), start + 900))


@given(
    begin=NEAR_A_BORDER,
    byte_count=st.integers(0, 3000),
    offset=st.integers(0, 3100),
    size=st.integers(0, 3100),
    opened=st.sets(st.sampled_from(STARTS)),
    kind=st.sampled_from([0, 1]),
)
@settings(max_examples=examples(80))
def test_any_part_of_a_packed_file_is_what_lies_there_even_across_the_border_of_two_extents(
    all_extents: list[dict[int, OpenExtent]],
    begin: int,
    byte_count: int,
    offset: int,
    size: int,
    opened: set[int],
    kind: int,
) -> None:
    byte_count = min(byte_count, PACK_BYTES - begin)
    listing = listing_of((begin, byte_count))
    reader, _ = reader_of(all_extents[kind], opened=opened)
    right = CONTENT[begin : begin + byte_count][offset : offset + size]
    buffer = bytearray(size)

    assert reader.read(listing, listing.images, 0, offset, size) == right
    assert reader.read_into(listing, listing.images, 0, offset, memoryview(buffer)) == len(right)
    assert buffer == right + bytes(size - len(right))


@given(st.lists(st.tuples(NEAR_A_BORDER, st.integers(0, 3000)), max_size=6))
@settings(max_examples=examples(80))
def test_the_extents_of_files_are_those_that_reading_them_brings_each_once(places: list[tuple[int, int]]) -> None:
    listing = listing_of(*((begin, min(byte_count, PACK_BYTES - begin)) for begin, byte_count in places))
    parts = {start: in_memory(CONTENT[start : start + EXTENT_BYTES]) for start in STARTS}
    reader, source = reader_of(parts, opened=set())
    for index in range(len(listing)):
        reader.read_whole(listing, listing.images, index)
    found = [extent.key for extent in extents_of(listing, listing.images, range(len(listing)))]
    assert sorted(found) == sorted(set(source.looked_up))


def test_a_large_blob_has_all_its_extents() -> None:
    row = DatasetRow("d", "1.0.0", "", (), (), (), 1, "", STORE, 1, 1)
    byte_count = 4 * EXTENT_BYTES + 5
    listing = build_listing(row, [ImageRow("i", "tif", 4, 3, 3, byte_count, "", "d/i.tif", 0, 0, "e", 1)], [])
    found = extents_of(listing, listing.images, [0, 0])
    assert [(extent.start, extent.length) for extent in found] == [
        *((start * EXTENT_BYTES, EXTENT_BYTES) for start in range(4)),
        (4 * EXTENT_BYTES, 5),
    ]


def test_what_lies_in_an_open_extent_is_not_looked_up() -> None:
    listing = listing_of((100, 50))
    reader, extents = reader_of({0: in_memory(CONTENT[:EXTENT_BYTES])}, opened={0})

    assert reader.read_whole(listing, listing.images, 0) == CONTENT[100:150]
    assert extents.looked_up == []


@pytest.mark.parametrize("opened", [set(), {0}])
def test_a_file_that_its_blob_has_no_longer_in_full_is_an_error_and_never_short(opened: set[int]) -> None:
    listing = listing_of((100, 50))
    reader, _ = reader_of({0: in_memory(CONTENT[:120])}, opened=opened)

    with pytest.raises(BlobChanged, match=PACK):
        reader.read_whole(listing, listing.images, 0)
    with pytest.raises(BlobChanged, match=PACK):
        reader.read_into(listing, listing.images, 0, 0, memoryview(bytearray(50)))


def test_an_extent_whose_file_was_cut_meanwhile_is_an_error_and_never_short(tmp_path: Path) -> None:
    path = tmp_path / "extent"
    path.write_bytes(CONTENT[:1000])
    extent = OpenExtent(descriptor=os.open(path, os.O_RDONLY), length=1000)
    listing = listing_of((100, 50))
    reader, _ = reader_of({0: extent}, opened={0})
    os.truncate(path, 120)

    with pytest.raises(BlobChanged, match=PACK):
        reader.read_whole(listing, listing.images, 0)
    with pytest.raises(BlobChanged, match=PACK):
        reader.read_into(listing, listing.images, 0, 0, memoryview(bytearray(50)))
