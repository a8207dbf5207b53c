"""Listings of selections: parts of several datasets' listings, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.catalog.listing import (
    Listing,
    ListingPart,
    build_listing,
    chosen_indices,
    join_listings,
    load_listing,
    numbered,
    save_listing,
)
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.fetching.contents import locate

ONE, OTHER = "original_20260101_rgb_bbox", "original_20260102_rgb_bbox"
SELECTION = DatasetRow("@people", "", "", (), (), (), 0, "", "", 1, 1_700_000_000, "digest")

stems = st.sampled_from([f"{ONE}_1", f"{ONE}_2", f"{OTHER}_1", "a", "b", f"{ONE}--a", "人"])


def dataset(dataset_id: str, store: str) -> DatasetRow:
    return DatasetRow(dataset_id, "1.0.0", "", (), (), (), 0, "", store, 3, 1_600_000_000)


@st.composite
def listings(draw: st.DrawFn, dataset_id: str) -> Listing:
    """Datasets with packed and loose files, annotated or not."""
    names = draw(st.lists(stems, unique=True, min_size=1, max_size=6))
    images, annotations, turned = [], [], {}
    for place, name in enumerate(names):
        md5 = f"{draw(st.integers(1, 99)):032x}"
        packed = draw(st.booleans())
        blob = f"{dataset_id}/images.pack" if packed else f"{dataset_id}/{name}.{md5[:12]}.jpg"
        ext = draw(st.sampled_from(["jpg", "png"]))
        images.append(ImageRow(name, ext, 30, 40, 3, 100, md5, blob, 100 * place * packed, place, "", 1_500 + place))
        if draw(st.booleans()):
            blob = f"{dataset_id}/annotations.pack" if packed else f"{dataset_id}/{name}.json"
            etag = draw(st.sampled_from(["", "e1"]))
            annotations.append(AnnotationRow(name, draw(st.integers(0, 1)), 0, 10, md5, blob, 10 * place, etag, 1_600))
        if draw(st.booleans()):
            turned[name] = 6
    row = dataset(dataset_id, f"file:///{dataset_id}")
    return build_listing(row, images, annotations, catalog_id="catalog", orientations=turned)


def joined(parts: Sequence[Listing]) -> Listing:
    return join_listings(SELECTION, [ListingPart(each, np.arange(len(each))) for each in parts], catalog_id="catalog")


@given(listings(ONE), listings(OTHER))
@settings(max_examples=examples(200))
def test_every_image_is_what_it_is_in_its_dataset(one: Listing, other: Listing) -> None:
    selection = joined([one, other])
    assert len(selection) == len(one) + len(other) - len(selection.hidden)
    datasets = {ONE: one, OTHER: other}
    for index in range(len(selection)):
        dataset_id, stem = selection.origin_of(index)
        listing = datasets[dataset_id]
        there = listing.find(stem)
        assert selection.store_of(index) == listing.store
        assert selection.image(index) == listing.image(there)
        assert selection.annotation(index) == listing.annotation(there)
        for one_of in ("ext", "image_info", "orientation", "has_annotation", "has_siblings"):
            assert getattr(selection, one_of)(index) == getattr(listing, one_of)(there)
        extents = [locate(each, each.images, place, 0) for each, place in ((selection, index), (listing, there))]
        assert extents[0].key == extents[1].key


@given(listings(ONE), listings(OTHER))
@settings(max_examples=examples(50))
def test_names_of_different_datasets_never_clash(one: Listing, other: Listing) -> None:
    selection = joined([one, other])
    assert selection.hidden == ()
    names = {selection.stem(index) for index in range(len(selection))}
    assert len(names) == len(selection) == len(one) + len(other)


def test_a_name_that_begins_with_the_id_of_its_dataset_stays() -> None:
    rows = [ImageRow(name, "jpg", 1, 1, 3, 1, "", "blob", 0, 0, "", 0) for name in (f"{ONE}_7", "seven")]
    selection = joined([build_listing(dataset(ONE, "file:///a"), rows, [])])
    assert [selection.stem(index).decode() for index in range(2)] == [f"{ONE}--seven", f"{ONE}_7"]


def test_a_selection_is_saved_and_loaded_with_the_datasets_of_its_images(tmp_path: Path) -> None:
    rows = [ImageRow(name, "jpg", 1, 1, 3, 1, "", "blob", 0, 0, "", 0) for name in ("a", "b")]
    parts = [build_listing(dataset(each, f"file:///{each}"), rows, []) for each in (ONE, OTHER)]
    selection = numbered(joined(parts), None)
    save_listing(selection, tmp_path / "saved")
    loaded = load_listing(tmp_path / "saved")
    assert loaded.facts == selection.facts
    assert [loaded.origin_of(index) for index in range(4)] == [selection.origin_of(index) for index in range(4)]
    assert loaded.stores == (f"file:///{ONE}", f"file:///{OTHER}")


def test_members_of_an_extent_are_those_of_the_dataset() -> None:
    pack = f"{ONE}/images.pack"
    rows = [
        ImageRow(f"i{place}", "jpg", 1, 1, 3, 10, f"{place:032x}", pack, 10 * place, place, "", 0) for place in range(4)
    ]
    listing = build_listing(dataset(ONE, "file:///a"), rows, [])
    part = ListingPart(listing, chosen_indices(listing, [b"i1", b"i3", b"none"]))
    selection = join_listings(SELECTION, [part], catalog_id="")
    assert len(selection.members(pack, 0, 100)) == 2
    selection.look_up_members(lambda origin: {ONE: listing}[origin.dataset_id])
    assert sorted(selection.members(pack, 0, 100)) == listing.members(pack, 0, 100)


@given(listings(ONE), st.integers(0, 12))
@settings(max_examples=examples(200))
def test_the_first_images_are_what_they_are_among_all(listing: Listing, count: int) -> None:
    part = listing.first(count)
    assert len(part) == min(count, len(listing))
    for index in range(len(part)):
        assert part.find(listing.stem(index)) == index
        for one_of in ("stem", "image", "annotation", "ext", "image_info", "orientation", "has_siblings"):
            assert getattr(part, one_of)(index) == getattr(listing, one_of)(index)
        # An extent is checked by all that lies in it.
        here, there = (locate(each, each.images, index, 0) for each in (part, listing))
        assert set(here.members()) == set(there.members())
    assert all(part.find(listing.stem(index)) == -1 for index in range(len(part), len(listing)))


def test_a_selection_of_nothing_is_empty() -> None:
    assert len(joined([])) == 0
    listing = build_listing(dataset(ONE, "file:///a"), [], [])
    assert len(joined([listing])) == 0
    assert replace(joined([listing]).facts, origins=()) == joined([]).facts
