"""The layout of image classification: which directory each image is in, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.catalog import DatasetRow, ImageRow
from imgsyncfs.catalog.listing import ImageValues, Listing, build_listing, load_values, save_values
from imgsyncfs.catalog.rows import DatasetLabelsRow
from imgsyncfs.errors import ConfigurationError, ListingDamaged
from imgsyncfs.fetching.contents import ContentReader, ExtentSource
from imgsyncfs.formats.contract import Loss
from imgsyncfs.library.dataset_files import FileKey
from imgsyncfs.library.library import file_sources
from imgsyncfs.library.nodes import FIRST_POSITION
from imgsyncfs.library.numbers import IMAGE
from imgsyncfs.library.view_files import ViewFiles
from imgsyncfs.library.views.contract import NOWHERE, DatasetFacts
from imgsyncfs.library.views.image_folder import ImageFolderView, directory_name
from imgsyncfs.library.views.registry import VIEWS, check_shown, find_view, offered_views

SPLITS = {"a": 0, "b": 0, "c": 1, "d": 2, "e": 0}
GENDERS = {"a": "Male", "b": "Female", "c": "Male", "d": "Male"}


def listing_of(stems: str) -> Listing:
    row = DatasetRow("original_20200207_rgb_clf", "1.0.0", "rgb", (), (), (), 1, "", "file:///data", 1, 5)
    images = [ImageRow(stem, "jpg", 4, 3, 3, 10, "", "pack", 0, place, "", 7) for place, stem in enumerate(stems)]
    return build_listing(row, images, [])


def paths_in(values: Mapping[str, str]) -> dict[str, str]:
    """Where each image is that is in the view."""
    listing = listing_of("abcde")
    layout = ImageFolderView().layout(listing, facts_of(listing, values))
    places = {stem: layout.image_directory(index) for index, stem in enumerate("abcde")}
    return {stem: layout.path(place).decode() for stem, place in places.items() if place != NOWHERE}


def facts_of(listing: Listing, values: Mapping[str, str]) -> DatasetFacts:
    splits = np.array([SPLITS[stem.decode()] for stem in listing.stems.texts()], np.uint8)
    return DatasetFacts((), splits, ImageValues.of(listing, values))


def losses_of(values: Mapping[str, str], label_name: str | None = None) -> list[Loss]:
    listing = listing_of("abcde")
    return list(ImageFolderView(label_name).losses(listing, facts_of(listing, values)))


def test_an_image_is_in_the_directory_of_its_value_in_that_of_its_split() -> None:
    assert paths_in(GENDERS) == {"a": "train/Male", "b": "train/Female", "c": "valid/Male", "d": "test/Male"}


def test_there_is_no_directory_without_an_image() -> None:
    listing = listing_of("abcde")
    layout = ImageFolderView().layout(listing, facts_of(listing, {"b": "Female", "d": "Male", "e": ""}))
    assert [layout.path(place) for place in range(len(layout.directories))] == [
        b"", b"train", b"train/Female", b"test", b"test/Male",
    ]  # fmt: skip


def test_images_without_a_value_are_counted_as_not_shown() -> None:
    assert losses_of(GENDERS)[0].what == "images without a classification"
    first = losses_of({"a": "Male"}, "Gender")[0]
    assert (first.what, first.count) == ("images without a label Gender", 4)


def test_a_value_that_is_no_name_of_a_directory_gets_one_and_is_named() -> None:
    assert paths_in({"a": "cat/dog", "b": ".hidden", "e": "x"}) == {
        "a": "train/cat%2Fdog",
        "b": "train/%2Ehidden",
        "e": "train/x",
    }
    reasons = {loss.what: loss.reason for loss in losses_of({"a": "cat/dog", "b": ".hidden", "e": "x"})}
    assert reasons["images as those of 'cat/dog'"] == "no directory can bear that name; they are in cat%2Fdog"


def test_no_name_and_no_number_leads_to_an_image_that_is_not_in_the_view() -> None:
    listing = listing_of("abcde")
    sources = file_sources(ContentReader(cast("ExtentSource", None), lambda _: None), ())
    files = ViewFiles(listing, ImageFolderView(), sources, facts=facts_of(listing, {"a": "Male"}))
    male = next(place for name, place, _ in files.directories_of(1, FIRST_POSITION) if name == b"Male")
    assert files.find(b"a.jpg", male) == FileKey(IMAGE, 0)
    assert [name for name, *_ in files.entries_from(FIRST_POSITION, directory=male)] == [b"a.jpg"]
    assert all(files.find(b"e.jpg", directory) is None for directory in range(3))
    assert [files.has(FileKey(IMAGE, index)) for index in range(5)] == [True, False, False, False, False]


@pytest.mark.parametrize("value", ["", "x" * 256, "é" * 128])
def test_images_of_a_value_that_no_directory_can_bear_are_left_out_and_counted(value: str) -> None:
    assert paths_in({"a": value, "b": "x"}) == {"b": "train/x"}
    assert ("images of", 1) in {(loss.what[:9], loss.count) for loss in losses_of({"a": value, "b": "x"})}


def test_classes_that_a_split_lacks_are_told_since_readers_then_number_others() -> None:
    assert [(loss.what, loss.count) for loss in losses_of({**GENDERS, "e": "Male"})] == [
        ("classes in valid", 1),
        ("classes in test", 1),
    ]
    assert losses_of({"a": "x", "b": "x", "c": "x", "d": "x", "e": "x"}) == []


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.text("%/2Ff.\n", max_size=8))
def test_each_value_has_a_directory_of_its_own(value: str) -> None:
    name = directory_name(value)
    if name is None:
        assert not value or len(value.encode()) > 255 // 3
        return
    assert unquote(name.decode()) == value
    assert b"/" not in name
    assert not name.startswith(b".")
    assert 0 < len(name) <= 255


@given(
    st.sets(st.sampled_from("abcdefgh"), min_size=1),
    st.dictionaries(st.sampled_from("abcdefgh"), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
)
def test_values_of_images_are_the_same_in_another_process(stems: set[str], found: dict[str, str]) -> None:
    listing = listing_of("".join(sorted(stems)))
    facts = DatasetFacts(("person",), np.zeros(len(listing), np.uint8), ImageValues.of(listing, found))
    again = DatasetFacts.from_bytes(facts.to_bytes())
    assert again.classes == facts.classes
    assert again.values is not None
    assert again.splits is not None
    texts = ["", *again.values.values]
    known = {stem: texts[number] for stem, number in zip(sorted(stems), again.values.numbers.tolist(), strict=True)}
    assert known == {stem: found.get(stem, "") for stem in stems}


def test_values_that_were_saved_are_loaded_for_their_own_label_alone(tmp_path: Path) -> None:
    listing = listing_of("abcde")
    save_values(ImageValues.of(listing, GENDERS), tmp_path, "Gender")
    loaded = load_values(listing, tmp_path, "Gender")
    assert loaded is not None
    assert (loaded.values, loaded.numbers.tolist()) == (("Female", "Male"), [2, 1, 2, 2, 0])
    assert load_values(listing, tmp_path, "gender") is None
    assert load_values(listing, tmp_path, None) is None


def test_saved_values_that_are_damaged_are_not_used(tmp_path: Path) -> None:
    listing = listing_of("abcde")
    save_values(ImageValues.of(listing, GENDERS), tmp_path, None)
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[content.index(b"Female")] ^= 1
    path.write_bytes(content)
    assert load_values(listing, tmp_path, None) is None
    with pytest.raises(ListingDamaged, match="read again"):
        ImageValues.from_bytes(bytes(content))


LABELS = DatasetLabelsRow("d", "1.0.0", ["person"], {"": ["blurry"], "Gender": ["Male"], "a/b": ["x"]})
BOXES = DatasetLabelsRow("e", "1.0.0", ["person"], {})


def test_a_view_is_offered_for_each_label_that_can_be_a_name() -> None:
    assert set(offered_views([LABELS, BOXES])) - set(VIEWS) == {"imagefolder:Gender"}
    assert set(offered_views([])) == set(VIEWS)


def test_a_view_of_a_label_shows_the_datasets_that_have_it() -> None:
    view = find_view("imagefolder:Gender")
    assert (view.name, view.label_name) == ("imagefolder:Gender", "Gender")
    assert [view.shows(labels) for labels in (LABELS, BOXES, None)] == [True, False, False]
    assert [find_view("imagefolder").shows(labels) for labels in (LABELS, BOXES, None)] == [True, False, False]


@pytest.mark.parametrize("name", ["imagefolder:", "yolo:Gender", "nothing:Gender", "imagefolders"])
def test_a_view_that_there_is_not_is_told_with_those_there_are(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"There is no view .*imagefolder"):
        find_view(name)


def test_a_view_of_a_label_that_no_dataset_has_is_refused_with_near_ones() -> None:
    check_shown(find_view("imagefolder:Gender"), {"d": LABELS})
    check_shown(find_view("imagefolder"), {})
    with pytest.raises(ConfigurationError, match="No dataset has the label 'gender'.*Gender"):
        check_shown(find_view("imagefolder:gender"), {"d": LABELS, "e": BOXES})
    with pytest.raises(ConfigurationError, match="imgsyncfs init"):
        check_shown(find_view("imagefolder:Gender"), {})
