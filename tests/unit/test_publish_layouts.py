"""Publishing folders in tools' own layouts: from elsewhere, and copies of a dataset that were edited."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from support.document_entries import objects_of
from support.layout_folders import IMAGE, LAYOUTS, put, write_layout
from support.publishing import DATASET, Place, jpeg, open_place

from imgsyncfs.annotations.geometry import encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Mask,
    ObjectLabel,
    RotatedBox,
    dump_annotation,
    parse_annotation,
)
from imgsyncfs.errors import LayoutError, PublishError
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.publish.publication import PublishSummary

OTHER = "original_20260105_rgb_bbox"


def full(shift: float = 0.0) -> Annotation:
    """An annotation with something that each layout cannot show."""
    mask = [[0 <= column - 40 < 10 and 5 <= row < 15 for column in range(64)] for row in range(48)]
    return Annotation(
        label_checked=1,
        height=48,
        width=64,
        depth=3,
        ext="jpg",
        labels=(
            ObjectLabel("bbox", (BoundingBox("face", 2.25 + shift, 3, 12.125 + shift, 13, {"id": 1}),)),
            ObjectLabel("rbbox", (RotatedBox("person", 40.123456789, 30, 14, 6, 0.5, {"id": 2}),)),
            ObjectLabel("seg", (Mask("face", (48, 64), tuple(encode_run_length(mask)), {"id": 3}),)),
            ClassificationLabel("Gender", "Female"),
        ),
        extra={"camera": 7},
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place with a dataset of three images, the last of which nobody has looked at."""
    with open_place(tmp_path) as opened:
        for stem, annotation in all_annotations().items():
            put(opened.folder / f"{stem}.jpg", IMAGE)
            put(opened.folder / f"{stem}.json", dump_annotation(annotation))
        opened.publish()
        yield opened


def all_annotations() -> dict[str, Annotation]:
    unseen = replace(full(), label_checked=0, labels=())
    return {"a": full(), "b": full(1.0), "c": unseen}


def view(place: Place, layout: str) -> Place:
    """A copy of the dataset in a tool's layout; of an image that nobody has looked at it has no annotation."""
    shown: dict[str, Annotation | None] = {**all_annotations()}
    if layout not in ("coco", "cvat", "hf"):
        shown["c"] = None
    return replace(place, folder=write_layout(place.folder.parent / layout, layout, shown))


def published(place: Place, stem: str, dataset: str = DATASET) -> Annotation:
    return parse_annotation(place.published(dataset)[f"{stem}.json"])


def rows_of(place: Place) -> object:
    row = place.catalog.dataset(DATASET)
    assert row is not None
    return row.revision, place.annotations()


def publish_as(place: Place, layout: str, dataset: str = OTHER, *, journal: Journal | None = None) -> PublishSummary:
    return publish(
        place.folder, catalog=place.catalog, store=place.store, dataset_id=dataset, layout=layout, journal=journal
    )


# Copies of a dataset.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_copy_that_nobody_edited_changes_nothing(place: Place, layout: str) -> None:
    before = rows_of(place)
    summary = view(place, layout).publish()
    assert (summary.changed, summary.uploaded_bytes, summary.left_out) == (False, 0, ())
    assert rows_of(place) == before


def in_file(path: str, before: bytes, after: bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = (folder / path).read_bytes()
        assert before in content
        (folder / path).write_bytes(content.replace(before, after, 1))

    return edit


def coco_box(folder: Path) -> None:
    path = folder / "train/_annotations.coco.json"
    document = orjson.loads(path.read_bytes())
    document["annotations"][0]["bbox"][0] += 5
    path.write_bytes(orjson.dumps(document))


EDITS = {
    "yolo": in_file("train/labels/a.txt", b"1 0.112305", b"1 0.190430"),
    "yolo-obb": in_file(
        "train/labels/a.txt",
        b"1 0.035156 0.062500 0.189453 0.062500 0.189453 0.270833 0.035156",
        b"1 0.113281 0.062500 0.267578 0.062500 0.267578 0.270833 0.113281",
    ),
    "dota": in_file("train/labelTxt/a.txt", b"2.25 3 12.125 3 12.125 13 2.25 13", b"7.25 3 17.125 3 17.125 13 7.25 13"),
    "coco": coco_box,
    "cvat": in_file("annotations.xml", b'xtl="2.25" ytl="3.0" xbr="12.125"', b'xtl="7.25" ytl="3.0" xbr="17.125"'),
    "hf": in_file("train/metadata.jsonl", b"2.25,3", b"7.25,3"),
}
"""Moves the first box of the image `a` by five pixels."""


@pytest.mark.parametrize("layout", EDITS)
def test_an_edited_box_is_taken_over_and_all_else_stays(place: Place, layout: str) -> None:
    before, copy = place.annotations(), view(place, layout)
    EDITS[layout](copy.folder)
    assert copy.publish().changed
    after = place.annotations()
    assert {name for name in after if after[name] != before[name]} == {"a"}
    found, was = published(place, "a"), full()
    (moved, *others), (original, *same) = objects_of(found), objects_of(was)
    assert isinstance(moved, BoundingBox)
    assert isinstance(original, BoundingBox)
    assert (moved.x1, moved.x2) == pytest.approx((original.x1 + 5, original.x2 + 5), abs=1e-3)
    assert (moved.y1, moved.y2, moved.extra) == (original.y1, original.y2, original.extra)
    assert others == same
    assert (found.labels[-1], found.extra) == (was.labels[-1], was.extra)


@pytest.mark.parametrize("layout", ["coco", "cvat", "yolo", "dota"])
def test_what_was_removed_in_a_copy_is_gone_and_the_rest_stays(place: Place, layout: str) -> None:
    copy = view(place, layout)
    less = replace(full(), labels=full().labels[1:])
    write_layout(copy.folder, layout, {**all_annotations(), "a": less, "c": None})
    copy.publish()
    assert objects_of(published(place, "a")) == objects_of(less)


def test_an_edited_tag_of_cvat_is_taken_over(place: Place) -> None:
    copy = view(place, "cvat")
    in_file("annotations.xml", b">Female<", b">Male<")(copy.folder)
    copy.publish()
    assert published(place, "a").labels == (*full().labels[:-1], ClassificationLabel("Gender", "Male"))
    assert published(place, "b") == full(1.0)


def test_of_two_documents_the_edited_one_counts(place: Place) -> None:
    copy = view(place, "coco")
    shutil.copy(copy.folder / "train/_annotations.coco.json", copy.folder / "instances.json")
    coco_box(copy.folder)
    copy.publish()
    (moved, *_) = objects_of(published(place, "a"))
    assert isinstance(moved, BoundingBox)
    assert moved.x1 == pytest.approx(7.25)
    assert published(place, "b") == full(1.0)


def test_two_documents_that_say_different_things_leave_the_image_out(tmp_path: Path) -> None:
    with open_place(tmp_path) as place:
        write_layout(place.folder, "coco", {"a": full(), "b": full()})
        shutil.copy(place.folder / "train/_annotations.coco.json", place.folder / "instances.json")
        coco_box(place.folder)
        summary = place.publish()
        assert summary.images == 1
        assert any("says something else of it than instances.json" in entry.reason for entry in summary.left_out)


@pytest.mark.parametrize(
    ("layout", "rename"),
    [
        ("yolo", in_file("data.yaml", b'"face"', b'"head"')),
        ("yolo-obb", in_file("data.yaml", b'"face"', b'"head"')),
        ("coco", in_file("train/_annotations.coco.json", b'"face"', b'"head"')),
    ],
)
def test_a_class_that_was_renamed_for_all_is_renamed_and_all_else_stays(
    place: Place, layout: str, rename: Callable[[Path], None]
) -> None:
    copy = view(place, layout)
    rename(copy.folder)
    copy.publish()
    was, now = objects_of(full()), objects_of(published(place, "a"))
    shown = [True, True, layout != "yolo-obb"]
    names = [
        "head" if is_shown and item.class_name == "face" else item.class_name
        for item, is_shown in zip(was, shown, strict=True)
    ]
    assert [item.class_name for item in now] == names
    assert [replace(item, class_name="") for item in now] == [replace(item, class_name="") for item in was]


@pytest.mark.parametrize("layout", ["yolo", "coco"])
def test_smaller_copies_of_the_images_are_not_taken_for_the_dataset(place: Place, layout: str) -> None:
    before, copy = rows_of(place), view(place, layout)
    for path in copy.folder.rglob("b.jpg"):
        path.write_bytes(jpeg(7, width=32, height=24))
    with pytest.raises(PublishError, match="has 32 x 24 pixels, and the dataset's image 64 x 48"):
        copy.publish()
    assert rows_of(place) == before
    assert copy.publish(OTHER).images == 3


# Folders from elsewhere.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_from_elsewhere_is_published_with_its_boxes(tmp_path: Path, layout: str) -> None:
    box = replace(full(), labels=full().labels[:1], extra={})
    with open_place(tmp_path) as place:
        write_layout(place.folder, layout, {"a": box, "b": None})
        summary = place.publish()
        assert (summary.images, summary.annotations, summary.left_out) == (2, 1, ())
        (item,) = objects_of(published(place, "a"))
        (original,) = objects_of(box)
        assert isinstance(original, BoundingBox)
        assert item.class_name == "face"
        if isinstance(item, RotatedBox):
            edges = (item.x - item.w / 2, item.x + item.w / 2)
        else:
            assert isinstance(item, BoundingBox)
            edges = (item.x1, item.x2)
        assert edges == pytest.approx((original.x1, original.x2), abs=0.5 if layout == "voc" else 1e-3)


def test_a_class_without_a_name_leaves_the_image_out_and_says_file_line_and_remedy(tmp_path: Path) -> None:
    with open_place(tmp_path) as place:
        write_layout(place.folder, "yolo", {"a": full(), "b": full()})
        put(place.folder / "train/labels/a.txt", b"0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n")
        reasons = {entry.path: entry.reason for entry in place.publish().left_out}
        assert set(reasons) == {"train/images/a.jpg", "train/labels/a.txt"}
        assert reasons["train/labels/a.txt"] == (
            "line 2: it is of class 7, and the dataset has 3 classes; name it in data.yaml or classes.txt"
        )


def test_a_folder_that_is_not_in_the_named_layout_publishes_nothing(place: Place) -> None:
    with pytest.raises(LayoutError, match="it looks like annotations beside the images"):
        publish_as(place, "coco")
    assert place.catalog.dataset(OTHER) is None


# Findings that are kept.


def test_findings_are_kept_until_the_classes_or_the_entry_change(place: Place, tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        copy = replace(place, folder=write_layout(tmp_path / "new", "yolo", {"a": full(), "b": full()}))
        copy.publish(OTHER, journal=journal)
        assert objects_of(published(copy, "a", OTHER))[0].class_name == "face"
        in_file("data.yaml", b'"face"', b'"head"')(copy.folder)
        copy.publish(OTHER, journal=journal)
        assert objects_of(published(copy, "a", OTHER))[0].class_name == "head"
