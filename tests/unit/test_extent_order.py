"""The order in which extents follow each other: each once, whole files, in the order of reading."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.blob_layout import EXTENT_BYTES, SEAL_BYTES, WHOLE_BLOB_BYTES
from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.rows import DatasetRow, ImageRow
from imgsyncfs.fetching.extent_order import ExtentOrder

DATASET = DatasetRow("original_20200207_rgb_rbbox", "2.0.0", "", (), (), (), 0, "", "file:///data", 7, 1_600_000_000)
LARGE = WHOLE_BLOB_BYTES + EXTENT_BYTES + 1
PACKS = ("a/images-1.pack", "a/images-2.pack")


def image(name: str, blob: str, offset: int, byte_count: int) -> ImageRow:
    return ImageRow(name, "jpg", 480, 640, 3, byte_count, "", blob, offset, 0, "", 1_500_000_000)


def listing_of(images: list[ImageRow]) -> Listing:
    return build_listing(DATASET, images, [])


def packed(count: int, *, byte_count: int, backwards: bool = False) -> list[ImageRow]:
    """Files that were packed in the order of their names, or in the opposite one; none crosses an extent's end."""
    in_extent = EXTENT_BYTES // byte_count
    images = []
    for place in range(count):
        offset = place // in_extent * EXTENT_BYTES + place % in_extent * byte_count
        number = count - 1 - place if backwards else place
        images.append(image(f"p{number:04}", PACKS[0], offset, byte_count))
    return images


def test_loose_files_follow_in_the_order_of_their_names() -> None:
    order = ExtentOrder(listing_of([image(name, f"a/{name}.jpg", 0, 1000) for name in "cab"]).images)

    assert [*order] == [(0, 0), (1, 0), (2, 0)]


def test_a_large_file_is_gone_through_piece_by_piece_before_the_next_file() -> None:
    order = ExtentOrder(listing_of([image("a", "a.jpg", 0, LARGE), image("b", "b.jpg", 0, 5)]).images)

    assert [*order] == [
        (0, 0),
        (0, EXTENT_BYTES),
        (0, 2 * EXTENT_BYTES),
        (0, 3 * EXTENT_BYTES),
        (1, 0),
    ]


def test_an_extent_is_as_long_as_its_blob_and_the_last_of_a_large_one_as_what_is_left() -> None:
    order = ExtentOrder(listing_of([image("a", "a.jpg", 0, LARGE), image("b", "b.jpg", 0, 5)]).images)

    assert [order.known_bytes(place) for place in order] == [EXTENT_BYTES] * 3 + [1, 5]


def test_the_last_extent_of_a_pack_ends_with_its_last_file_and_a_seal() -> None:
    order = ExtentOrder(listing_of([*packed(50, byte_count=100_000), image("q", PACKS[1], 7, 100)]).images)

    assert [order.known_bytes(place) for place in order] == [EXTENT_BYTES, 9 * 100_000 + SEAL_BYTES, 107 + SEAL_BYTES]


def test_an_extent_of_a_pack_is_whole_though_few_of_its_files_are_in_the_dataset() -> None:
    order = ExtentOrder(
        listing_of([one for one in packed(50, byte_count=100_000) if one.name in ("p0003", "p0042")]).images
    )

    assert [order.known_bytes(place) for place in order] == [EXTENT_BYTES, 2 * 100_000 + SEAL_BYTES]


def test_a_pack_is_gone_through_extent_by_extent() -> None:
    order = ExtentOrder(listing_of(packed(100, byte_count=100_000)).images)

    assert [*order] == [(0, 0), (41, 0), (82, 0)]
    assert order.place(81, 99_999) == (41, 0)


def test_files_packed_in_another_order_than_their_names_follow_as_they_were_packed() -> None:
    order = ExtentOrder(listing_of(packed(100, byte_count=100_000, backwards=True)).images)

    assert [index for index, _ in order] == [99, 58, 17]


def test_the_second_pack_follows_the_first() -> None:
    images = [image(f"p{number}", PACKS[number], 0, 10) for number in range(2)]

    assert [*ExtentOrder(listing_of(images).images)] == [(0, 0), (1, 0)]


def test_beside_an_extent_lie_the_others_of_its_group_that_hold_files() -> None:
    order = ExtentOrder(listing_of(packed(41 * 6, byte_count=100_000)).images)
    places = list(order)

    assert order.beside(places[1], 2) == [places[0]]
    assert order.beside(places[1], 4) == [places[0], places[2], places[3]]
    assert order.beside(places[5], 4) == [places[4]]


def test_beside_a_loose_blob_lies_nothing() -> None:
    order = ExtentOrder(listing_of([image(name, f"a/{name}.jpg", 0, 1000) for name in "ab"]).images)

    assert order.beside(order.place(0, 0), 4) == []


def test_a_dataset_without_images_has_no_extents() -> None:
    assert list(ExtentOrder(listing_of([]).images)) == []


def test_images_that_nobody_has_annotated_have_no_extents_of_annotations() -> None:
    assert list(ExtentOrder(listing_of(packed(3, byte_count=1000)).annotations)) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["loose", *PACKS]), st.integers(0, 5), st.sampled_from([1, 5000, EXTENT_BYTES, LARGE])
        ),
        max_size=30,
    )
)
def test_every_byte_lies_in_exactly_one_extent_of_the_order(files: list[tuple[str, int, int]]) -> None:
    images = []
    for number, (blob, extent, byte_count) in enumerate(files):
        if blob == "loose":
            images.append(image(f"{number:03}", f"a/{number}.jpg", 0, byte_count))
        else:
            images.append(image(f"{number:03}", blob, extent * EXTENT_BYTES, min(byte_count, EXTENT_BYTES)))
    listing = listing_of(images)
    order = ExtentOrder(listing.images)

    places = list(order)

    assert len(set(places)) == len(places)
    for index, row in enumerate(images):
        for offset in {0, row.byte_count - 1}:
            place = order.place(index, offset)
            assert place in places
            first = images[place[0]]
            start = first.blob_offset + place[1]
            end = (
                start - start % EXTENT_BYTES + EXTENT_BYTES
                if order.is_packed(place)
                else start + max(1, order.byte_count(place))
            )
            assert first.blob == row.blob
            assert start <= row.blob_offset + offset < end
            assert order.is_packed(place) == (row.blob in PACKS)
