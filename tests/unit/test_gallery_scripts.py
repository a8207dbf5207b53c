"""What the gallery's pages load: the shapes are the annotation's, the summary counts them, and all of it is text."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace
from math import pi
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations, names, unhurried
from support.document_entries import CLASSES, HEIGHT, WIDTH, covering_masks, entry, many_entries, objects_of
from support.gallery_scripts import script, shapes, summary

from imgsyncfs.annotations.geometry import decode_run_length, encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.gallery import summary as summary_module
from imgsyncfs.formats.gallery.distributions import AREA_EDGES, RATIO_EDGES
from imgsyncfs.formats.gallery.pages import catalog_page, cover, dataset_page
from imgsyncfs.formats.gallery.shapes import MASK_SIDE, GalleryShapes, State, mask_shape
from imgsyncfs.formats.gallery.summary import GallerySummary, Kind

HOSTILE = "</script><script>alert('1')</script>\u2028<img src=x onerror=alert(1)>"


def labelled(*labels: Any, checked: int = 1, name: str = "a") -> DocumentEntry:
    annotation = Annotation(label_checked=checked, height=HEIGHT, width=WIDTH, labels=labels)
    return DocumentEntry(ImageInfo("dataset", name, "jpg", HEIGHT, WIDTH), "train", annotation)


def drawn_mask(numbers: list[Any], size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The pixels that the numbers of a mask draw."""
    x, y, scale, height, width, counts = numbers
    whole = np.zeros(size, np.bool_)
    if width:
        part = decode_run_length((height, width), counts).repeat(scale, axis=0).repeat(scale, axis=1)
        part = part[: size[0] - y, : size[1] - x]
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return whole


def check_object(shown: list[Any], item: LabelledObject) -> None:
    kind, _, *numbers = shown
    if isinstance(item, BoundingBox):
        assert kind == "b"
        assert numbers == pytest.approx([item.x1, item.y1, item.x2, item.y2], abs=0.006)
    elif isinstance(item, RotatedBox):
        assert kind == "r"
        assert numbers[:4] == pytest.approx([item.x, item.y, item.w, item.h], abs=0.006)
        assert numbers[4] == pytest.approx(item.a, abs=1e-6)
    elif isinstance(item, Polygon):
        assert kind == "p"
        assert numbers[0] == pytest.approx([value for point in item.points for value in point], abs=0.006)
    else:
        assert kind == "m"
        assert np.array_equal(drawn_mask(numbers, item.size), decode_run_length(item.size, item.counts))


@unhurried
@given(house_annotations)
def test_the_shapes_and_values_are_those_of_the_annotation_in_their_order(annotation: Annotation) -> None:
    known = tuple([label for label in annotation.labels if not isinstance(label, UnknownLabel)])
    image = ImageInfo("dataset", "a", "jpg")
    run = shapes(DocumentEntry(image, "train", replace(annotation, labels=known)))
    [[file, width, height, state, objects, values]] = run["images"]
    assert (file, width, height) == ("a.jpg", annotation.width or 0, annotation.height or 0)
    assert state == (State.CHECKED if annotation.label_checked == 1 else State.UNCHECKED)
    for shown, item in zip(objects, objects_of(annotation), strict=True):
        check_object(shown, item)
        assert run["classes"][shown[1]][0] == item.class_name
    assert values == [[label.label_name, label.label] for label in known if not isinstance(label, ObjectLabel)]


@unhurried
@given(house_annotations)
def test_a_label_of_an_unknown_type_is_drawn_or_told(annotation: Annotation) -> None:
    unknown = tuple([label for label in annotation.labels if isinstance(label, UnknownLabel)])
    run = shapes(labelled(*unknown))
    [[_, _, _, _, objects, values]] = run["images"]
    assert len(objects) + len(values) == len(unknown)


@unhurried
@given(st.lists(house_annotations, max_size=4))
def test_the_summary_counts_what_the_shapes_show(annotations: list[Annotation]) -> None:
    entries = [
        DocumentEntry(ImageInfo("dataset", str(number), "jpg"), "train", each)
        for number, each in enumerate(annotations)
    ]
    run = shapes(*entries)
    rows, _ = summary(*entries)
    for row, (file, _, _, state, objects, _) in zip(rows, run["images"], strict=True):
        assert (row.file, row.state, row.objects) == (file, state, len(objects))
        counts = Counter(run["classes"][place][0] for _, place, *_ in objects)
        assert {name: count for (name, kind), count in row.pairs.items() if kind == Kind.CLASS} == counts


@given(st.lists(st.one_of(names, st.sampled_from(["a🙂b", "a🙃c", "a", "ab"])), min_size=1, max_size=8))
def test_file_names_come_back_from_the_letters_that_they_share(stems: list[str]) -> None:
    rows, _ = summary(*(DocumentEntry(ImageInfo("dataset", stem, "jpg"), "train", None) for stem in stems))
    assert [row.file for row in rows] == [f"{stem}.jpg" for stem in stems]


@given(covering_masks())
def test_a_mask_is_drawn_pixel_by_pixel(mask: Mask) -> None:
    assert np.array_equal(drawn_mask(mask_shape(mask), mask.size), decode_run_length(mask.size, mask.counts))


def test_a_large_mask_is_drawn_coarser_and_covers_all_that_it_covered() -> None:
    covered = np.zeros((2000, 1700), np.bool_)
    covered[3:1990, 5:1695:2] = True
    numbers = mask_shape(Mask("person", (2000, 1700), tuple(encode_run_length(covered))))
    assert numbers[2] == 4
    assert max(numbers[3:5]) <= MASK_SIDE
    assert len(numbers[5]) < 2000
    assert (drawn_mask(numbers, (2000, 1700)) | ~covered).all()


def test_an_image_that_nobody_has_labelled_has_a_state_of_its_own() -> None:
    bare = DocumentEntry(ImageInfo("dataset", "a", "jpg", HEIGHT, WIDTH), "train", None)
    run = shapes(bare, entry(checked=0), entry())
    assert [image[3] for image in run["images"]] == [0, 1, 2]


def test_values_are_named_and_what_is_unknown_is_told_as_it_came() -> None:
    labels = (
        ClassificationLabel("Gender", "Female"),
        RegressionLabel("Age", 42.5),
        UnknownLabel({"label_type": "future", "x": 1}),
    )
    run = shapes(labelled(*labels))
    assert run["images"][0][5] == [["Gender", "Female"], ["Age", 42.5], ["future", '{"x":1}']]
    [row], _ = summary(labelled(*labels))
    assert row.pairs == {("Gender: Female", Kind.CLASSIFICATION): 1, ("Age", Kind.REGRESSION): 42.5}


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ({"shape_type": "circle", "points": [[1, 2], [4, 6]]}, ["c", 1, 2, 5]),
        ({"shape_type": "line", "points": [[1, 2], [4, 6]]}, ["l", [1, 2, 4, 6]]),
        ({"shape_type": "point", "points": [[1, 2]]}, ["d", [1, 2]]),
    ],
)
def test_what_labelme_alone_knows_is_drawn(shape: dict[str, Any], shown: list[Any]) -> None:
    run = shapes(labelled(UnknownLabel({"label_type": "labelme", "shape": {"label": "dot", **shape}})))
    [[kind, place, *numbers]] = run["images"][0][4]
    assert ([kind, *numbers], run["classes"][place][0]) == (shown, "dot")


def test_a_shape_written_by_hand_that_cannot_be_drawn_is_told_and_not_lost() -> None:
    run = shapes(labelled(UnknownLabel({"label_type": "labelme", "shape": {"points": [[1, "x"]]}})))
    assert run["images"][0][4] == []
    assert run["images"][0][5][0][0] == "labelme"


def test_the_classes_of_the_dataset_come_first_and_in_its_order() -> None:
    _, known = summary(entry(BoundingBox("face", 1, 2, 3, 4)), classes=("person", "face"))
    assert [key[0] for key in known["keys"]] == ["person", "face"]


def test_a_classification_with_another_text_for_each_image_does_not_grow_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(summary_module, "MOST_KEYS", 3)
    rows, known = summary(*(labelled(ClassificationLabel("Text", f"{n}")) for n in range(10)))
    assert [key[1] for key in known["keys"]] == [Kind.CLASSIFICATION] * 3 + [Kind.OTHERS]
    assert sum(("", Kind.OTHERS) in row.pairs for row in rows) == 7


def bins(*items: LabelledObject, checked: int = 1) -> dict[str, list[int]]:
    _, known = summary(entry(*items, checked=checked))
    counts = known["counts"]
    [[_, is_checked, flat]] = counts["groups"]
    assert is_checked == checked
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    edges = [0, len(AREA_EDGES) + 1, len(RATIO_EDGES) + 1, counts["angles"], counts["centres"] ** 2]
    starts = np.cumsum(edges).tolist()
    return {
        name: [place - low for place, count in found.items() for _ in range(count) if low <= place < high]
        for name, low, high in zip(("size", "ratio", "angle", "centre"), starts, starts[1:], strict=False)
    }


def test_an_upright_box_is_counted_by_size_ratio_and_centre_and_has_no_angle() -> None:
    # 16 x 4 pixels: an area of 2 ** 6; the centre is at (32, 12) of 64 x 48.
    assert bins(BoundingBox("face", 24, 10, 40, 14)) == {
        "size": [7],
        "ratio": [RATIO_EDGES.index(4.0) + 1],
        "angle": [],
        "centre": [8 * 32 + 16],
    }


@pytest.mark.parametrize(("angle", "place"), [(0.0, 0), (pi / 2, 9), (pi - 1e-9, 0), (-0.01, 17), (pi + 0.2, 1)])
def test_a_rotated_box_is_counted_by_its_angle_within_half_a_turn(angle: float, place: int) -> None:
    assert bins(RotatedBox("face", 32, 12, 8, 8, angle))["angle"] == [place]


def test_a_mask_is_counted_as_the_box_around_it() -> None:
    covered = np.zeros((HEIGHT, WIDTH), np.bool_)
    covered[10:14, 24:40] = True
    mask = Mask("face", (HEIGHT, WIDTH), tuple(encode_run_length(covered)))
    assert bins(mask) == bins(BoundingBox("face", 24, 10, 40, 14))


def test_text_of_the_catalog_stays_text() -> None:
    written = script(GalleryShapes(0), [entry(BoundingBox(HOSTILE, 1, 2, 3, 4))])
    assert written.isascii()
    assert shapes(entry(BoundingBox(HOSTILE, 1, 2, 3, 4)))["classes"][0][0] == HOSTILE
    page = dataset_page({"id": HOSTILE, "label_version": HOSTILE, "revision": 1, "images": 0, "at_once": 250}).decode()
    row = {
        "id": HOSTILE,
        "images": 1,
        "label_version": "1.0.0",
        "image_type": HOSTILE,
        "label_type": ("bbox",),
        "classes": (HOSTILE,),
        "projects": (),
        "note": HOSTILE,
    }
    for content in (page, catalog_page([row]).decode()):
        assert "<script>alert" not in content
        assert "onerror=alert(1)>" not in content.replace("\\u003cimg src=x onerror=alert(1)>", "")
    assert cover(HOSTILE, "images/a.jpg").isascii()


@pytest.mark.parametrize("document", [GallerySummary(), GalleryShapes(0)])
def test_the_same_entries_give_the_same_bytes(document: DatasetDocument) -> None:
    assert script(document, many_entries(40), CLASSES) == script(document, many_entries(40), CLASSES)


@pytest.mark.parametrize("document", [GallerySummary(), GalleryShapes(0)])
def test_memory_does_not_grow_with_the_number_of_images(document: DatasetDocument) -> None:
    peaks = []
    for count in (600, 3000):
        tracemalloc.start()
        assert sum(map(len, document.chunks(many_entries(count, objects=4), CLASSES, LossTally()))) > 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000
