"""Convert folders for trainers: YOLO's numbered classes, and documents about all images."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import orjson
import pytest
import yaml
from pycocotools.coco import COCO
from support.convert_folders import edit_labelme, files_of, make_folder, rename_first
from support.cvat_reader import read_strictly
from support.mounting import box_annotation, local_workplace, write_image
from support.yolo_reader import read_yolo

from imgsyncfs.errors import ConvertError, FormatError
from imgsyncfs.tools.convert.own_files import RECORD_FILE
from imgsyncfs.tools.convert.run import convert_paths
from imgsyncfs.tools.convert.to_layout import LAYOUT_FORMATS

WRITTEN = {
    "yolo": {"a.txt", "b.txt", "full.txt", "classes.txt", "data.yaml", "LOSSES.txt"},
    "yolo-obb": {"a.txt", "b.txt", "full.txt", "classes.txt", "data.yaml", "LOSSES.txt"},
    "yolo-seg": {"a.txt", "b.txt", "full.txt", "classes.txt", "data.yaml", "LOSSES.txt"},
    "coco": {"_annotations.coco.json", "LOSSES.txt"},
    "cvat": {"annotations.xml", "LOSSES.txt"},
    "hf": {"metadata.jsonl", "LOSSES.txt"},
}


def new_files(folder: Path, before: dict[str, bytes]) -> dict[str, bytes]:
    """What was written, without the record."""
    return {name: content for name, content in files_of(folder).items() if name not in before and name != RECORD_FILE}


@pytest.mark.parametrize("name", LAYOUT_FORMATS)
def test_the_files_of_a_layout_stand_beside_the_images_and_nothing_else_changes(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    summary = convert_paths([folder], to=name)
    assert (summary.converted, summary.already, summary.left_out) == (3, 0, ())
    assert new_files(folder, before).keys() == WRITTEN[name]
    assert before.items() <= files_of(folder).items()
    again = files_of(folder)
    summary = convert_paths([folder], to=name)
    assert (summary.converted, summary.already, summary.left_out) == (0, 3, ())
    assert files_of(folder) == again


@pytest.mark.parametrize("name", LAYOUT_FORMATS)
def test_another_folder_gets_the_files_and_the_source_is_only_read(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder, annotations_only=False)
    assert convert_paths([folder], to=name, output=tmp_path / "out").converted == 3
    assert new_files(tmp_path / "out", {}).keys() == WRITTEN[name]
    assert files_of(folder, annotations_only=False) == before
    assert convert_paths([folder], to=name, output=tmp_path / "out").already == 3


def test_yolos_rows_have_the_numbers_of_the_classes_by_name(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    convert_paths([folder], to="yolo-obb")
    said = yaml.safe_load((folder / "data.yaml").read_text())
    assert said == {"train": ".", "val": ".", "nc": 2, "names": ["arm", "person"]}
    assert (folder / "classes.txt").read_text() == "arm\nperson\n"
    [(number, points)] = read_yolo((folder / "a.txt").read_bytes(), 2)
    assert (number, len(points)) == (1, 4)


def test_classes_that_are_given_come_first(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    convert_paths([folder], to="yolo", classes=["person", "car"])
    assert (folder / "classes.txt").read_text() == "person\ncar\narm\n"
    assert read_yolo((folder / "a.txt").read_bytes(), 3)[0][0] == 0
    convert_paths([folder], to="coco", classes=["person"])
    assert [each["name"] for each in json.loads((folder / "_annotations.coco.json").read_bytes())["categories"]] == [
        "person",
        "arm",
    ]


def test_classes_are_refused_where_a_format_has_no_numbers(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    with pytest.raises(ConvertError, match="leave out the order of classes"):
        convert_paths([folder], to="labelme", classes=["person"])


def test_a_checked_image_without_objects_has_an_empty_label_file_and_one_nobody_has_looked_at_none(
    tmp_path: Path,
) -> None:
    folder = make_folder(tmp_path / "set", "a", "b", "c")
    empty = {**orjson.loads(box_annotation()), "labels": []}
    (folder / "b.json").write_bytes(orjson.dumps(empty))
    (folder / "c.json").write_bytes(orjson.dumps({**empty, "label_checked": 0}))
    write_image(folder / "d.jpg")
    convert_paths([folder], to="yolo")
    assert sorted(path.name for path in folder.glob("?.txt")) == ["a.txt", "b.txt"]
    assert (folder / "b.txt").read_bytes() == b""


def test_labels_of_a_folder_that_is_called_images_stand_in_labels_beside_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set" / "images", "a")
    before = files_of(folder)
    convert_paths([folder], to="yolo")
    assert files_of(folder) == before
    assert {str(path.relative_to(tmp_path / "set")) for path in (tmp_path / "set").rglob("*.txt")} == {
        "labels/a.txt",
        "labels/classes.txt",
        "LOSSES.txt",
    }
    assert yaml.safe_load((tmp_path / "set" / "data.yaml").read_text())["train"] == "images"
    assert convert_paths([folder], to="yolo").already == 1


def test_where_ultralytics_would_look_for_the_labels_is_said_when_they_are_elsewhere(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images" / "set", "a")
    notes = convert_paths([folder], to="yolo").notes
    assert str(tmp_path / "labels" / "set") in notes[0].reason
    assert convert_paths([folder], to="yolo", output=tmp_path / "labels" / "set").notes == ()


def test_pycocotools_opens_the_document_and_finds_the_images(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    convert_paths([folder], to="coco", output=tmp_path / "out")
    found = COCO(str(tmp_path / "out" / "_annotations.coco.json"))
    images = found.loadImgs(found.getImgIds())
    assert [(tmp_path / "out" / each["file_name"]).resolve() for each in images] == sorted(folder.glob("*.jpg"))
    assert {(each["height"], each["width"]) for each in images} == {(48, 64)}
    assert len(found.getAnnIds()) == 4


def test_cvats_strict_reader_opens_the_document_and_every_image_is_in_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    write_image(folder / "z.png")
    convert_paths([folder], to="cvat")
    images = read_strictly((folder / "annotations.xml").read_bytes())
    assert [each["name"] for each in images] == ["a.jpg", "b.jpg", "full.jpg", "z.png"]
    assert images[0]["shapes"][0]["rotation"] == pytest.approx(28.647890)


def test_hugging_faces_document_has_a_line_for_every_image(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    write_image(folder / "z.png")
    convert_paths([folder], to="hf")
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == ["a.jpg", "b.jpg", "full.jpg", "z.png"]
    assert (lines[3]["width"], lines[3]["objects"]["names"]) == (64, [])


def test_what_is_not_shown_is_counted_named_and_written_until_there_is_nothing_any_more(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    summary = convert_paths([folder], to="yolo-seg")
    assert {(loss.what, loss.count, loss.file_count) for loss in summary.losses} == {
        ("classifications", 1, 1),
        ("regression values", 1, 1),
    }
    assert (folder / "LOSSES.txt").read_text().startswith("yolo-seg does not show of set:\n1 classifications: ")
    (folder / "full.json").write_bytes(box_annotation())
    convert_paths([folder], to="yolo-seg")
    assert not (folder / "LOSSES.txt").exists()


@pytest.mark.parametrize("name", LAYOUT_FORMATS)
def test_files_are_written_anew_when_annotations_were_edited(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set", "a", "b")
    convert_paths([folder], to=name)
    (folder / "a.json").write_bytes(box_annotation(name="zebra"))
    assert convert_paths([folder], to=name).left_out == ()
    out = tmp_path / "out"
    convert_paths([folder], to=name, output=out)
    places = {"metadata.jsonl", "_annotations.coco.json", "data.yaml"}
    written = new_files(folder, {"a.json": b"", "b.json": b""})
    assert {path: content for path, content in written.items() if path not in places} == {
        path: content for path, content in new_files(out, {}).items() if path not in places
    }
    assert any(b"zebra" in content for content in written.values())


@pytest.mark.parametrize("name", LAYOUT_FORMATS)
def test_files_that_somebody_wrote_or_changed_stay_and_are_named(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set", "a")
    main = {"coco": "_annotations.coco.json", "cvat": "annotations.xml", "hf": "metadata.jsonl"}.get(name, "a.txt")
    (folder / main).write_bytes(b"mine")
    for _ in range(2):
        summary = convert_paths([folder], to=name)
        assert [(Path(each.path).name, "remove it" in each.reason) for each in summary.left_out] == [(main, True)]
        assert (folder / main).read_bytes() == b"mine"
    (folder / main).unlink()
    convert_paths([folder], to=name)
    edited = (folder / main).read_bytes() + b"\n"
    (folder / main).write_bytes(edited)
    assert convert_paths([folder], to=name).left_out_count == 1
    assert (folder / main).read_bytes() == edited


def test_a_label_file_of_ours_goes_when_nobody_has_looked_at_its_image_any_more(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a", "b")
    convert_paths([folder], to="yolo")
    (folder / "a.json").write_bytes(orjson.dumps({**orjson.loads(box_annotation()), "labels": [], "label_checked": 0}))
    convert_paths([folder], to="yolo")
    assert [path.name for path in folder.glob("?.txt")] == ["b.txt"]


def test_what_was_edited_in_labelme_is_in_the_labels(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="labelme")
    edit_labelme(folder / "a.json", rename_first("cat"))
    convert_paths([folder], to="yolo")
    assert (folder / "classes.txt").read_text() == "cat\n"


def test_documents_are_no_annotations_of_images(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    for name in LAYOUT_FORMATS:
        convert_paths([folder], to=name)
    assert convert_paths([folder], to="labelme").left_out == ()
    assert convert_paths([folder], to="imagesynchronizer").left_out == ()


def test_an_annotation_that_does_not_parse_is_named_and_the_others_are_converted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    (folder / "b.json").write_bytes(b'{"anno_version": "0.2.0", "labels": 5}')
    for name in ("yolo", "coco"):
        summary = convert_paths([folder], to=name)
        assert (summary.converted, [Path(each.path).name for each in summary.left_out]) == (2, ["b.json"])


@pytest.mark.parametrize("name", LAYOUT_FORMATS)
def test_a_conversion_that_is_stopped_leaves_no_part_of_a_file_and_goes_on(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "set")
    convert_paths([folder], to=name, output=tmp_path / "whole")
    whole = new_files(tmp_path / "whole", {})
    number = 0
    while True:
        out = tmp_path / f"out{number}"
        calls = iter(range(number))

        def stop(descriptor: int, calls: object = calls) -> None:
            if next(calls, None) is None:  # type: ignore[call-overload]
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", stop)
            try:
                convert_paths([folder], to=name, output=out)
            except KeyboardInterrupt:
                assert new_files(out, {}).items() <= whole.items()
            else:
                break
        convert_paths([folder], to=name, output=out)
        assert new_files(out, {}) == whole
        number += 1
    assert number > 1


def test_a_folder_without_annotations_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    (left_out,) = convert_paths([tmp_path], to="yolo").left_out
    assert "no annotations are in it" in left_out.reason
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".db"] == ["a.jpg"]


def test_single_files_are_refused_since_the_files_are_about_all(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    with pytest.raises(ConvertError, match="name the folder"):
        convert_paths([folder / "a.json"], to="yolo")


def test_an_unknown_format_is_refused_with_near_names(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="yolo-obb"):
        convert_paths([tmp_path], to="yolo-ob")


def test_a_damaged_record_is_said_and_a_lost_one_gives_no_right_to_overwrite(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="yolo")
    (folder / RECORD_FILE).write_bytes(b"x" * 8192)
    with pytest.raises(ConvertError, match="remove it"):
        convert_paths([folder], to="yolo")
    (folder / RECORD_FILE).unlink()
    house = (folder / "a.json").read_bytes()
    (folder / "a.json").write_bytes(box_annotation(x=40))
    assert convert_paths([folder], to="yolo").left_out_count == 1
    (folder / "a.json").write_bytes(house)
    assert convert_paths([folder], to="yolo").already == 1
    (folder / "a.json").write_bytes(box_annotation(x=40))
    assert convert_paths([folder], to="yolo").converted == 1


def test_the_record_knows_a_file_that_was_about_to_be_replaced(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="yolo")
    connection = sqlite3.connect(folder / RECORD_FILE)
    with connection:
        connection.execute("INSERT INTO written VALUES ('a.txt', 'of the file that never came')")
    connection.close()
    (folder / "a.json").write_bytes(box_annotation(x=40))
    assert convert_paths([folder], to="yolo").left_out == ()


def test_the_command_takes_classes_and_says_what_it_wrote(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    workplace = local_workplace(tmp_path)
    done = workplace.run("convert", folder, "--to", "yolo", "--classes", "person, arm")
    assert done.stdout == "3 annotations converted to yolo.\n"
    assert "Not shown: 3 rotated boxes in 3 files" in done.stderr
    assert (folder / "classes.txt").read_text() == "person\narm\n"
    assert "3 are yolo already" in workplace.run("convert", folder, "--to", "yolo", "--classes", "person,arm").stdout
