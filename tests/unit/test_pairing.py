"""Which files belong together, by their names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.errors import printable
from imgsyncfs.tools.pairing import PairedNames, pair_names


def reasons(names: list[str]) -> dict[str, str]:
    return {entry.path: entry.reason for entry in pair_names(names)[1]}


def test_an_image_is_paired_with_its_annotations_the_most_trusted_first() -> None:
    pairs, left_out = pair_names(["a.xml", "a.labelme.json", "a.json", "a.JPG"])
    assert pairs == [PairedNames("a", "JPG", ("a.json", "a.labelme.json", "a.xml"))]
    assert left_out == []


def test_images_come_in_the_order_of_their_stems() -> None:
    pairs, _ = pair_names(["b.png", "a.1.png", "ä.png", "B.png", "a.png"])
    assert [pair.stem for pair in pairs] == ["B", "a", "a.1", "b", "ä"]


def test_two_images_with_one_stem_are_both_left_out_with_their_annotations() -> None:
    pairs, _ = pair_names(["a.jpg", "a.png", "a.json", "b.jpg"])
    assert [pair.stem for pair in pairs] == ["b"]
    found = reasons(["a.jpg", "a.png", "a.json", "b.jpg"])
    assert found.keys() == {"a.jpg", "a.png", "a.json"}
    assert "a.jpg, a.png" in found["a.jpg"]


def test_images_whose_names_differ_in_letter_case_are_two_images() -> None:
    assert [pair.stem for pair in pair_names(["A.jpg", "a.jpg"])[0]] == ["A", "a"]


def test_annotations_without_an_image_and_other_files_are_left_out() -> None:
    found = reasons(["a.jpg", "b.json", "notes.txt", "jpg", "c.JSON"])
    assert found.keys() == {"b.json", "notes.txt", "jpg", "c.JSON"}
    assert "no image of this name" in found["b.json"]
    assert "no image of this name" in found["c.JSON"]


def test_an_annotation_whose_name_ends_in_capitals_belongs_to_its_image_all_the_same() -> None:
    pairs, left_out = pair_names(["a.JPG", "a.JSON", "b.jpg", "b.LabelMe.Json", "b.XML"])
    assert [pair.annotations for pair in pairs] == [("a.JSON",), ("b.LabelMe.Json", "b.XML")]
    assert left_out == []


def test_of_two_annotations_that_differ_in_capitals_only_the_one_in_small_letters_counts() -> None:
    names = ["A.jpg", "A.JSON", "A.json", "A.Json"]
    (pair,) = pair_names(names)[0]
    assert pair.annotations == ("A.json",)
    assert reasons(names).keys() == {"A.JSON", "A.Json"}
    assert "A.json counts; remove one of the two" in reasons(names)["A.JSON"]


def test_a_name_that_cannot_be_published_is_left_out_and_can_be_printed() -> None:
    found = reasons(["new\nline.jpg", "\udcff.jpg", "x" * 250 + ".jpg", ".hidden.jpg", "a.labelme.jpg"])
    assert found.keys() == {"new\\nline.jpg", "\\udcff.jpg", "x" * 250 + ".jpg", ".hidden.jpg", "a.labelme.jpg"}
    assert "UTF-8" in found["\\udcff.jpg"]


@given(
    st.lists(
        st.text(st.sampled_from("aä.\n\udcff/") | st.characters(), max_size=6).map(lambda stem: stem + ".json")
        | st.text(st.sampled_from("aä.\n\udcff"), max_size=4).map(lambda stem: stem + ".jpg"),
        unique=True,
    )
)
def test_every_file_is_paired_or_left_out_and_no_file_is_both(names: list[str]) -> None:
    pairs, left_out = pair_names(names)
    paired = [name for pair in pairs for name in (pair.image, *pair.annotations)]
    assert sorted([*map(printable, paired), *(entry.path for entry in left_out)]) == sorted(map(printable, names))


@given(st.text())
def test_a_printed_name_is_one_line_of_utf_8(name: str) -> None:
    assert printable(name).isprintable()
    printable(name).encode()
