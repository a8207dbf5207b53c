"""Convert folders for the tools beside labelme and roLabelImg: X-AnyLabeling, Pascal VOC, DOTA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.convert_folders import FULL, ORIGINALS, edit_labelme, files_of, make_folder, rename_first
from support.mounting import box_annotation
from support.xanylabeling_tool import saved_by_xanylabeling

from imgsyncfs.annotations.house_format import ObjectLabel, RotatedBox, parse_annotation
from imgsyncfs.formats.registry import FORMATS, HOUSE_SUFFIX, ImageInfo
from imgsyncfs.tools.convert.run import convert_paths

XANYLABELING = FORMATS["xanylabeling"]


def objects_of(path: Path) -> list[object]:
    """The objects of a house annotation."""
    labels = [label for label in parse_annotation(path.read_bytes()).labels if isinstance(label, ObjectLabel)]
    return [item for label in labels for item in label.objects]


def save_with_xanylabeling(path: Path) -> None:
    """Open and save a file as X-AnyLabeling does."""
    path.write_bytes(saved_by_xanylabeling(path.read_bytes()))


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_comes_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    summary = convert_paths([folder], to=name)
    assert (summary.converted, summary.left_out) == (3, ())
    assert convert_paths([folder], to=name).already == 3
    convert_paths([folder], to="imagesynchronizer")
    assert {path: content for path, content in files_of(folder).items() if path in before} == before


@pytest.mark.parametrize("name", FORMATS)
def test_files_in_an_output_have_the_names_that_they_have_in_place(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to=name, output=tmp_path / "out")
    known = FORMATS[name]
    suffix = HOUSE_SUFFIX if known.view_suffix == HOUSE_SUFFIX else known.suffix
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"a{suffix}"]
    assert convert_paths([folder], to=name, output=tmp_path / "out").already == 1


# Two tools whose files take the house annotation's name.


def test_the_files_of_one_tool_take_the_place_of_the_other_tool_s_and_the_originals_come_back(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="labelme")
    assert convert_paths([folder], to="xanylabeling").converted == 3
    for name in before:
        save_with_xanylabeling(folder / name)
        assert XANYLABELING.recognizes((folder / name).read_bytes())
    assert convert_paths([folder], to="labelme").converted == 3
    convert_paths([folder], to="imagesynchronizer")
    assert files_of(folder) == before


def test_edits_made_in_both_tools_one_after_the_other_come_back(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "full")
    convert_paths([folder], to="labelme")
    edit_labelme(folder / "full.json", rename_first("cat"))
    convert_paths([folder], to="xanylabeling")
    save_with_xanylabeling(folder / "full.json")
    edit_labelme(folder / "full.json", lambda document: document["shapes"][1].update(label="leg"))
    convert_paths([folder], to="imagesynchronizer")
    expected = orjson.loads(orjson.dumps(FULL))
    expected["labels"][0]["object"][0]["class"] = "cat"
    expected["labels"][1]["object"][0]["class"] = "leg"
    assert orjson.loads((folder / "full.json").read_bytes()) == expected
    assert not (folder / ORIGINALS).exists()


@pytest.mark.parametrize(("source", "target"), [("labelme", "xanylabeling"), ("xanylabeling", "labelme")])
def test_a_picture_that_is_only_in_one_tool_s_file_is_not_thrown_away_for_the_other_s(
    tmp_path: Path, source: str, target: str
) -> None:
    content = FORMATS[source].render(parse_annotation(box_annotation()), ImageInfo("set", "a", "jpg")).content
    (tmp_path / "a.json").write_bytes(orjson.dumps({**orjson.loads(content), "imageData": "aGVsbG8="}))
    before = files_of(tmp_path)
    (left_out,) = convert_paths([tmp_path], to=target).left_out
    assert "its image is nowhere but in its imageData" in left_out.reason
    assert files_of(tmp_path) == before


def test_a_folder_that_was_labelled_in_xanylabeling_becomes_house_annotations(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a", "b")
    for name, mark in (("a", True), ("b", False)):
        annotation = parse_annotation((folder / f"{name}.json").read_bytes())
        document = orjson.loads(XANYLABELING.render(annotation, ImageInfo("set", name, "jpg")).content)
        del document["imgsyncfs"], document["shapes"][0]["imgsyncfs"]
        (folder / f"{name}.json").write_bytes(saved_by_xanylabeling(orjson.dumps({**document, "checked": mark})))
    assert convert_paths([folder], to="imagesynchronizer").converted == 2
    said = [parse_annotation((folder / f"{name}.json").read_bytes()) for name in "ab"]
    assert [each.label_checked for each in said] == [1, 0]
    assert [type(item) for item in objects_of(folder / "a.json")] == [RotatedBox]


def test_a_file_of_xanylabeling_that_is_called_labelme_s_is_read_as_labelme_s(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    annotation = parse_annotation((folder / "a.json").read_bytes())
    document = orjson.loads(XANYLABELING.render(annotation, ImageInfo("set", "a", "jpg")).content)
    del document["imgsyncfs"], document["shapes"][0]["imgsyncfs"]
    (folder / "a.labelme.json").write_bytes(orjson.dumps(document))
    (folder / "a.json").unlink()
    summary = convert_paths([folder], to="imagesynchronizer")
    assert (summary.converted, summary.left_out) == (1, ())
    assert [type(item) for item in objects_of(folder / "a.json")] == [RotatedBox]


# Siblings.


def test_an_edit_made_in_labelimg_comes_back_and_what_it_dropped_stays(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "full")
    boxes: dict[str, Any] = {
        "label_type": "bbox",
        "object": [{"class": "face", "x1": 1, "y1": 2, "x2": 9, "y2": 9, "id": 2}],
    }
    (folder / "full.json").write_bytes(orjson.dumps({**FULL, "labels": [*FULL["labels"], boxes]}))
    convert_paths([folder], to="voc")
    path = folder / "full.voc.xml"
    path.write_bytes(path.read_bytes().replace(b"<xmax>9<", b"<xmax>12<"))
    assert convert_paths([folder], to="imagesynchronizer").converted == 1
    expected = {**boxes, "object": [{**boxes["object"][0], "x2": 12}]}
    assert orjson.loads((folder / "full.json").read_bytes())["labels"] == [*FULL["labels"], expected]


def test_an_edit_of_a_row_comes_back_and_what_the_rows_do_not_show_stays(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "full")
    convert_paths([folder], to="dota")
    path = folder / "full.dota.txt"
    path.write_bytes(path.read_bytes().replace(b"person", b"dog"))
    assert convert_paths([folder], to="imagesynchronizer").converted == 1
    expected = orjson.loads(orjson.dumps(FULL))
    expected["labels"][0]["object"][0]["class"] = "dog"
    assert orjson.loads((folder / "full.json").read_bytes()) == expected


def test_an_emptied_file_of_rows_removes_the_objects_that_it_showed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "full")
    convert_paths([folder], to="dota")
    (folder / "full.dota.txt").write_bytes(b"")
    assert convert_paths([folder], to="imagesynchronizer").converted == 1
    labels = orjson.loads((folder / "full.json").read_bytes())["labels"]
    assert labels == [{**FULL["labels"][0], "object": []}, *FULL["labels"][1:]]


def test_rows_that_are_older_than_an_edited_annotation_are_named_and_not_overwritten(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="dota")
    os.utime(folder / "a.dota.txt", (1_000_000_000, 1_000_000_000))
    (folder / "a.json").write_bytes(box_annotation(name="cat"))
    before = files_of(folder)
    summary = convert_paths([folder], to="imagesynchronizer")
    assert (summary.already, summary.notes[0].files) == (1, ("a.dota.txt",))
    assert "newer" in convert_paths([folder], to="dota").left_out[0].reason
    assert files_of(folder) == before


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_one_tool_s_files_alone_becomes_house_annotations(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to=name, output=tmp_path / "out")
    (content,) = files_of(tmp_path / "out").values()
    (folder / "a.json").unlink()
    (folder / f"a{FORMATS[name].suffix}").write_bytes(content)
    assert convert_paths([folder], to="imagesynchronizer").converted == 1
    assert [type(item) for item in objects_of(folder / "a.json")] == [RotatedBox]
