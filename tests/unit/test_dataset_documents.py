"""Hugging Face's ``metadata.jsonl``, YOLO's ``data.yaml``, and what all whole-dataset documents have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import compress_counts, house_annotations, names, unhurried
from support.document_entries import CLASSES, entry, objects_of, shown_objects, upright, written

from imgsyncfs.annotations import geometry
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, LabelledObject, Polygon, RotatedBox
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.contract import CHUNK_BYTES, MOST_KINDS, DocumentEntry, LossTally, in_chunks
from imgsyncfs.formats.dataset_documents.hugging_face import HuggingFaceDocument
from imgsyncfs.formats.dataset_documents.yolo import YoloDocument, data_yaml


def lines(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in content.splitlines()]


# metadata.jsonl


def test_each_image_has_a_line_with_its_objects() -> None:
    content, losses = written(HuggingFaceDocument(), [entry(BoundingBox("face", 1, 2, 4, 6)), entry(name="b")])
    assert losses == ()
    assert lines(content) == [
        {
            "file_name": "a.jpg",
            "width": 64,
            "height": 48,
            "label_checked": 1,
            "objects": {"bbox": [[1, 2, 3, 4]], "categories": [1], "names": ["face"]},
        },
        {
            "file_name": "b.jpg",
            "width": 64,
            "height": 48,
            "label_checked": 1,
            "objects": {"bbox": [], "categories": [], "names": []},
        },
    ]


def test_a_rotated_box_becomes_an_upright_one_with_a_word() -> None:
    content, [loss] = written(HuggingFaceDocument(), [entry(RotatedBox("face", 10, 20, 8, 4, 1.5707963267948966))])
    assert lines(content)[0]["objects"]["bbox"] == [[8, 16, 4, 8]]
    assert (loss.what, loss.count, loss.reason) == (
        "rotated boxes",
        1,
        "they are shown as the upright boxes around them",
    )


@unhurried
@given(st.lists(upright, max_size=5), st.sampled_from([0, 1]))
def test_upright_boxes_come_back_from_their_line(items: list[LabelledObject], checked: int) -> None:
    content, _ = written(HuggingFaceDocument(), [entry(*items, checked=checked)])
    (found,) = HuggingFaceDocument().read(content)
    annotation = found.reading.annotation
    assert (annotation.label_checked, found.image.path) == (checked, "a.jpg")
    for one, other in zip(items, objects_of(annotation), strict=True):
        assert isinstance(one, BoundingBox)
        assert isinstance(other, BoundingBox)
        assert other.class_name == one.class_name
        assert (other.x1, other.y1, other.x2, other.y2) == pytest.approx((one.x1, one.y1, one.x2, one.y2), abs=1e-5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2: it is not valid JSON"),
        (b'{"text": "a"}', "line 2: a line names the file_name"),
        (b'{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [0]}}', "add names"),
        (b'{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "names": []}}', "of one length"),
        (b'{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3]], "names": ["a"]}}', "4 numbers"),
        (b'{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, true]], "names": ["a"]}}', "4 numbers"),
    ],
)
def test_a_line_that_does_not_parse_is_named(line: bytes, said: str) -> None:
    with pytest.raises(AnnotationError, match=said):
        list(HuggingFaceDocument().read(b'{"file_name": "b.jpg"}\n' + line))


def test_an_image_that_nobody_has_seen_has_a_line_that_says_so() -> None:
    content, [loss] = written(HuggingFaceDocument(), [DocumentEntry(ImageInfo("dataset", "a", "jpg"), "test", None)])
    assert lines(content)[0]["label_checked"] == 0
    assert loss.what == "images that nobody has looked at"


@unhurried
@given(st.lists(shown_objects, max_size=5))
def test_every_object_has_a_box_a_number_and_a_name(items: list[LabelledObject]) -> None:
    content, _ = written(HuggingFaceDocument(), [entry(*items)])
    objects = lines(content)[0]["objects"]
    assert objects["names"] == [item.class_name for item in objects_of(entry(*items).annotation)]
    assert [CLASSES[number] for number in objects["categories"]] == objects["names"]
    assert all(width > 0 and height > 0 for _, _, width, height in objects["bbox"])


@unhurried
@given(house_annotations)
def test_every_house_annotation_makes_one_line_of_ascii(annotation: Annotation) -> None:
    content, _ = written(HuggingFaceDocument(), [DocumentEntry(ImageInfo("dataset", "a", "jpg"), "train", annotation)])
    assert content.isascii()
    assert len(lines(content)) == content.count(b"\n") == 1


# data.yaml


@pytest.mark.parametrize(
    ("splits", "train", "val", "test"),
    [
        (["train", "validation", "test"], "train", "valid", "test"),
        (["train"], "train", "train", "train"),
        (["train", "test"], "train", "train", "test"),
        (["validation"], "valid", "valid", "valid"),
        (["test", "validation"], "valid", "valid", "test"),
        ([], "train", "train", "train"),
    ],
)
def test_a_split_without_images_names_another_one(splits: Sequence[str], train: str, val: str, test: str) -> None:
    known = yaml.safe_load(data_yaml(splits, ["person"]))
    assert known == {
        "train": f"{train}/images",
        "val": f"{val}/images",
        "test": f"{test}/images",
        "nc": 1,
        "names": ["person"],
    }


@unhurried
@given(st.lists(names, unique=True))
def test_names_of_any_characters_are_read_back_in_their_order(classes: list[str]) -> None:
    content = data_yaml(["train"], classes)
    assert yaml.safe_load(content) == {**yaml.safe_load(data_yaml(["train"], [])), "nc": len(classes), "names": classes}


@pytest.mark.parametrize(
    "name", ["yes", "1", "null", "a: b", "- a", "#", "\x85", "\u2028", "\x7f", "\ufeff", "😀", '"']
)
def test_names_that_mean_something_in_yaml_stay_names(name: str) -> None:
    assert yaml.safe_load(data_yaml(["train"], [name]))["names"] == [name]


def test_the_splits_are_those_of_the_images() -> None:
    content, _ = written(YoloDocument(), [entry(split="train"), entry(split="test")])
    assert yaml.safe_load(content)["val"] == "train/images"


def test_no_document_of_yolo_is_read_back() -> None:
    with pytest.raises(AnnotationError, match="cannot be read back"):
        list(YoloDocument().read(b""))


# All documents


def test_the_kinds_of_losses_are_bounded() -> None:
    tally = LossTally()
    for number in range(10 * MOST_KINDS):
        tally.add(f"kind {number}", "no reason")
    assert len(tally.losses) == MOST_KINDS + 1
    assert sum(loss.count for loss in tally.losses) == 10 * MOST_KINDS


def test_short_parts_become_chunks() -> None:
    chunks = list(in_chunks([b"x" * 1000] * 1000))
    assert b"".join(chunks) == b"x" * 1_000_000
    assert all(CHUNK_BYTES <= len(chunk) < 2 * CHUNK_BYTES for chunk in chunks[:-1])


@unhurried
@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_run_lengths_become_cocos_text(counts: list[int]) -> None:
    text = geometry.compress_counts(counts)
    assert text == compress_counts(counts)
    assert geometry.decompress_counts(text).tolist() == counts


def test_a_polygon_without_points_is_around_nothing() -> None:
    content, [loss] = written(HuggingFaceDocument(), [entry(Polygon("face", ()))])
    assert lines(content)[0]["objects"]["bbox"] == []
    assert loss.what == "objects without an area"
