"""Convert folders and files, in place and into another folder."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image
from support.convert_folders import (
    FULL,
    ORIGINALS,
    edit_labelme,
    files_of,
    make_folder,
    rename_first,
    save_with_rolabelimg,
)
from support.mounting import Workplace, box_annotation, demo_workplace, write_image
from support.places import CASES, SUPPORT
from support.rolabelimg_reader import read_rolabelimg
from support.rolabelimg_saves import save_in_rolabelimg

from imgsyncfs.annotations.house_format import ObjectLabel, is_annotation, parse_annotation
from imgsyncfs.errors import ConvertError, FormatError
from imgsyncfs.formats.registry import FORMATS, ImageInfo
from imgsyncfs.pictures.images import HEADER_BYTES
from imgsyncfs.tools.convert.run import convert_paths
from imgsyncfs.tools.convert.writing import TEMPORARY_PREFIX, keep_copy, locked
from imgsyncfs.tools.preview.picture import preview_file

LABELME = FORMATS["labelme"]


def classes_of(content: bytes) -> list[str]:
    """The classes of an annotation's objects."""
    labels = [label for label in parse_annotation(content).labels if isinstance(label, ObjectLabel)]
    return [item.class_name for label in labels for item in label.objects]


# In place, to labelme and back.


@pytest.mark.parametrize("to", ["labelme", "imagesynchronizer"])
def test_originals_in_a_folder_that_is_a_link_are_left_alone(tmp_path: Path, to: str) -> None:
    folder = make_folder(tmp_path / "set")
    if to == "imagesynchronizer":
        convert_paths([folder], to="labelme")
        (folder / ORIGINALS).rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / f"{TEMPORARY_PREFIX}0123").touch()
    (folder / ORIGINALS).symlink_to(tmp_path / "elsewhere")
    before = files_of(tmp_path)
    with pytest.raises(ConvertError, match=f"{folder / ORIGINALS} is a link"):
        convert_paths([folder], to=to)
    assert files_of(tmp_path) == before


def test_an_image_whose_name_is_too_long_for_any_is_not_there(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="labelme")
    edit_labelme(folder / "a.json", lambda document: document.update(imagePath="x" * 300, imageData="cGl4ZWxz"))
    assert convert_paths([folder], to="imagesynchronizer").converted == 1


def test_house_files_move_away_and_labelmes_take_their_names(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    summary = convert_paths([folder], to="labelme")
    after = files_of(folder)
    assert (summary.converted, summary.already, summary.left_out) == (3, 0, ())
    assert set(after) == set(before) | {f"{ORIGINALS}/{name}" for name in before}
    for name, content in before.items():
        assert after[f"{ORIGINALS}/{name}"] == content
        assert LABELME.parse(after[name]) == parse_annotation(content)
        assert orjson.loads(after[name])["imagePath"] == Path(name).with_suffix(".jpg").name


def test_unedited_files_come_back_byte_for_byte(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    os.utime(folder / "a.json", (1_000_000_000, 1_000_000_000))
    before = files_of(folder)
    convert_paths([folder], to="labelme")
    assert convert_paths([folder], to="imagesynchronizer").converted == 3
    assert files_of(folder) == before
    assert not (folder / ORIGINALS).exists()
    assert (folder / "a.json").stat().st_mtime == 1_000_000_000


def test_a_file_that_labelme_saved_without_an_edit_comes_back_byte_for_byte(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="labelme")
    for name in before:
        edit_labelme(folder / name, lambda document: document.update(version="6.3.1"))
    convert_paths([folder], to="imagesynchronizer")
    assert files_of(folder) == before


def test_an_edit_made_in_labelme_comes_back_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="labelme")
    edit_labelme(folder / "full.json", rename_first("dog"))
    convert_paths([folder], to="imagesynchronizer")
    after = files_of(folder)
    assert set(after) == set(before)
    assert after["a.json"] == before["a.json"]
    expected = orjson.loads(before["full.json"])
    expected["labels"][0]["object"][0]["class"] = "dog"
    assert orjson.loads(after["full.json"]) == expected


def test_what_a_tool_dropped_when_it_saved_comes_from_the_original(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "full")
    convert_paths([folder], to="labelme")

    def drop(document: dict[str, object]) -> None:
        document.pop("imgsyncfs")
        shapes = document["shapes"]
        assert isinstance(shapes, list)
        for shape in shapes:
            shape.pop("imgsyncfs")
        shapes[1]["label"] = "leg"

    edit_labelme(folder / "full.json", drop)
    convert_paths([folder], to="imagesynchronizer")
    expected = orjson.loads(orjson.dumps(FULL))
    expected["labels"][1]["object"][0]["class"] = "leg"
    assert orjson.loads((folder / "full.json").read_bytes()) == expected


def test_a_file_new_in_labelme_becomes_a_house_annotation_with_the_images_size(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="labelme")
    write_image(folder / "new.png", size=(31, 17))
    shape: dict[str, object] = {
        "label": "cat",
        "points": [[1, 2], [9, 8]],
        "shape_type": "rectangle",
        "flags": {},
        "group_id": None,
    }
    document: dict[str, object] = {
        "version": "4.5.6",
        "flags": {},
        "shapes": [shape],
        "imagePath": "new.png",
        "imageData": None,
    }
    (folder / "new.json").write_bytes(orjson.dumps(document))
    summary = convert_paths([folder], to="imagesynchronizer")
    annotation = parse_annotation((folder / "new.json").read_bytes())
    assert summary.converted == 2
    assert (annotation.height, annotation.width, annotation.depth, annotation.ext) == (17, 31, 3, "png")
    assert annotation.label_checked == 1
    assert classes_of((folder / "new.json").read_bytes()) == ["cat"]


def test_a_picture_that_is_only_in_labelmes_file_is_not_thrown_away(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    content = LABELME.render(parse_annotation(box_annotation()), ImageInfo("set", "a", "jpg")).content
    for name in ("alone", "a"):
        document = {**orjson.loads(content), "imageData": "aGVsbG8=", "imagePath": f"{name}.jpg"}
        (folder / f"{name}.json").write_bytes(orjson.dumps(document))
    before = (folder / "alone.json").read_bytes()
    summary = convert_paths([folder], to="imagesynchronizer")
    assert [Path(each.path).name for each in summary.left_out] == ["alone.json"]
    assert "imageData" in summary.left_out[0].reason
    assert (folder / "alone.json").read_bytes() == before
    assert convert_paths([folder], to="imagesynchronizer", output=tmp_path / "out").left_out == ()


def test_a_file_removed_in_labelme_stays_removed_and_its_original_is_kept_and_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="labelme")
    (folder / "b.json").unlink()
    summary = convert_paths([folder], to="imagesynchronizer")
    assert [(note.file_count, note.files) for note in summary.notes] == [(1, ("b.json",))]
    assert ORIGINALS in summary.notes[0].reason
    after = files_of(folder)
    assert after.pop(f"{ORIGINALS}/b.json") == before.pop("b.json")
    assert after == before


def test_a_file_removed_in_labelme_does_not_come_back_from_its_xml(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="rolabelimg")
    convert_paths([folder], to="labelme")
    (folder / "a.json").unlink()
    before = files_of(folder)
    for target in ("labelme", "imagesynchronizer"):
        assert convert_paths([folder], to=target).notes[0].files == ("a.json",)
        assert files_of(folder) == before


def test_converting_twice_is_no_mistake(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    for target in ("labelme", "rolabelimg", "imagesynchronizer"):
        assert convert_paths([folder], to=target).converted == 3
        before = files_of(folder)
        summary = convert_paths([folder], to=target)
        assert (summary.converted, summary.already) == (0, 3)
        assert files_of(folder) == before


def test_a_house_file_put_in_place_of_labelmes_is_not_overwritten(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="labelme")
    (folder / "a.json").write_bytes(box_annotation(x=50))
    before = files_of(folder)
    for target in ("labelme", "imagesynchronizer", "rolabelimg"):
        summary = convert_paths([folder], to=target)
        assert ORIGINALS in summary.left_out[0].reason
        assert files_of(folder) == before


def test_a_symbolic_link_is_left_alone(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    (folder / "a.json").rename(tmp_path / "elsewhere.json")
    (folder / "a.json").symlink_to("../elsewhere.json")
    assert "link" in convert_paths([folder], to="labelme").left_out[0].reason
    assert (folder / "a.json").is_symlink()
    assert convert_paths([folder], to="labelme", output=tmp_path / "out").converted == 1


# roLabelImg.


def test_an_xml_is_written_beside(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    summary = convert_paths([folder], to="rolabelimg_xml")
    after = files_of(folder)
    assert summary.converted == 3
    assert set(after) - set(before) == {"a.xml", "b.xml", "full.xml"}
    assert before.items() <= after.items()
    assert FORMATS["rolabelimg"].parse(after["full.xml"]) == parse_annotation(before["full.json"])


def test_what_rolabelimg_does_not_show_is_counted_and_named(tmp_path: Path) -> None:
    summary = convert_paths([make_folder(tmp_path / "set")], to="rolabelimg")
    assert {(loss.what, loss.count, loss.file_count, *loss.files) for loss in summary.losses} == {
        ("polygons", 1, 1, "full.json"),
        ("classifications", 1, 1, "full.json"),
        ("regression values", 1, 1, "full.json"),
    }


def test_an_edit_made_in_rolabelimg_comes_back_and_what_it_cannot_show_stays(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="rolabelimg")
    for name in ("a", "full"):
        save_with_rolabelimg(folder / f"{name}.xml")
    save_with_rolabelimg(folder / "full.xml", ("<name>person</name>", "<name>dog</name>"))
    summary = convert_paths([folder], to="imagesynchronizer")
    assert (summary.converted, summary.already) == (1, 2)
    after = files_of(folder)
    expected = orjson.loads(before["full.json"])
    expected["labels"][0]["object"][0]["class"] = "dog"
    assert orjson.loads(after["full.json"]) == expected
    assert {name: after[name] for name in ("a.json", "b.json")} == {name: before[name] for name in ("a.json", "b.json")}
    assert convert_paths([folder], to="imagesynchronizer").already == 3


def test_an_edit_of_an_unchecked_annotation_marks_it_as_checked_for_good(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    (folder / "a.json").write_bytes(box_annotation(checked=0))
    convert_paths([folder], to="rolabelimg")
    save_with_rolabelimg(folder / "a.xml", ("<name>person</name>", "<name>dog</name>"))
    for already in (0, 1, 1):
        summary = convert_paths([folder], to="imagesynchronizer")
        assert (summary.already, summary.notes) == (already, ())
        assert parse_annotation((folder / "a.json").read_bytes()).label_checked == 1


def test_a_folder_of_xml_alone_becomes_house_annotations(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="rolabelimg")
    for path in folder.glob("*.json"):
        path.unlink()
    assert convert_paths([folder], to="imagesynchronizer").converted == 3
    for name, content in before.items():
        assert orjson.loads((folder / name).read_bytes()) == orjson.loads(content)
    assert len(list(folder.glob("*.xml"))) == 3


def test_a_folder_of_xml_alone_becomes_labelmes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    annotation = parse_annotation((folder / "a.json").read_bytes())
    convert_paths([folder], to="rolabelimg")
    (folder / "a.json").unlink()
    convert_paths([folder], to="labelme")
    assert LABELME.parse((folder / "a.json").read_bytes()) == annotation
    assert not (folder / ORIGINALS).exists()


def test_an_xml_that_is_out_of_date_is_written_anew_and_does_not_come_back(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="rolabelimg")
    stale = (folder / "a.xml").read_bytes()
    (folder / "a.json").write_bytes(box_annotation(name="cat"))
    assert convert_paths([folder], to="imagesynchronizer").already == 1
    assert classes_of((folder / "a.json").read_bytes()) == ["cat"]
    assert convert_paths([folder], to="rolabelimg").converted == 1
    assert (folder / "a.xml").read_bytes() != stale
    assert (
        FORMATS["rolabelimg"].parse((folder / "a.xml").read_bytes()).labels
        == parse_annotation((folder / "a.json").read_bytes()).labels
    )


def test_an_edited_xml_older_than_the_house_annotation_is_named_and_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="rolabelimg")
    save_with_rolabelimg(folder / "a.xml", ("<name>person</name>", "<name>dog</name>"))
    os.utime(folder / "a.xml", (1_000_000_000, 1_000_000_000))
    before = files_of(folder)
    summary = convert_paths([folder], to="imagesynchronizer")
    assert (summary.already, summary.notes[0].files) == (1, ("a.xml",))
    assert "newer" in convert_paths([folder], to="rolabelimg").left_out[0].reason
    assert files_of(folder) == before


def test_edits_in_both_tools_that_contradict_each_other_are_named_and_kept(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a", "b")
    convert_paths([folder], to="rolabelimg")
    convert_paths([folder], to="labelme")
    edit_labelme(folder / "a.json", rename_first("cat"))
    save_with_rolabelimg(folder / "a.xml", ("<name>person</name>", "<name>dog</name>"))
    before = files_of(folder)
    summary = convert_paths([folder], to="imagesynchronizer")
    assert summary.converted == 1
    assert [Path(each.path).name for each in summary.left_out] == ["a.xml"]
    after = files_of(folder)
    for name in ("a.json", "a.xml", f"{ORIGINALS}/a.json"):
        assert after[name] == before[name]


def test_an_edit_made_in_rolabelimg_is_seen_in_labelme_and_comes_back_from_there(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="rolabelimg")
    save_with_rolabelimg(folder / "a.xml", ("<name>person</name>", "<name>dog</name>"))
    convert_paths([folder], to="labelme")
    assert orjson.loads((folder / "a.json").read_bytes())["shapes"][0]["label"] == "dog"
    edit_labelme(folder / "a.json", rename_first("cat"))
    convert_paths([folder], to="imagesynchronizer")
    assert classes_of((folder / "a.json").read_bytes()) == ["cat"]


def test_siblings_copied_out_of_a_mount_say_nothing_new(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="rolabelimg")
    convert_paths([folder], to="labelme", output=tmp_path / "out")
    (tmp_path / "out" / "a.json").rename(folder / "a.labelme.json")
    before = files_of(folder)
    summary = convert_paths([folder], to="imagesynchronizer")
    assert (summary.converted, summary.already, summary.left_out) == (0, 1, ())
    assert files_of(folder) == before
    (folder / "a.json").unlink()
    assert convert_paths([folder], to="imagesynchronizer").converted == 1
    assert orjson.loads((folder / "a.json").read_bytes()) == orjson.loads(before["a.json"])


# Images that lie apart.


def opened_by_labelme(path: Path) -> Path:
    """The image that labelme opens for a file of its own."""
    named: str = orjson.loads(path.read_bytes())["imagePath"]
    return path.parent / named


def test_a_labelme_file_apart_from_its_image_leads_to_it_after_a_conversion_there_and_back(tmp_path: Path) -> None:
    shutil.copytree(CASES / "image_path" / "in", tmp_path / "in")
    labels = tmp_path / "in" / "labels"
    convert_paths([labels], to="imagesynchronizer")
    assert is_annotation((labels / "a.json").read_bytes())
    convert_paths([labels], to="labelme")
    assert opened_by_labelme(labels / "a.json").samefile(tmp_path / "in" / "images" / "a.jpg")
    convert_paths([labels], to="imagesynchronizer")
    convert_paths([labels], to="labelme")
    assert opened_by_labelme(labels / "a.json").samefile(tmp_path / "in" / "images" / "a.jpg")


@pytest.mark.parametrize("to", ["labelme", "imagesynchronizer"])
def test_a_labelme_file_apart_from_its_image_leads_to_it_from_another_folder(tmp_path: Path, to: str) -> None:
    shutil.copytree(CASES / "image_path" / "in", tmp_path / "in")
    output = tmp_path / "some" / "where"
    convert_paths([tmp_path / "in" / "labels"], to=to, output=output)
    convert_paths([output], to="labelme")
    assert opened_by_labelme(output / "a.json").samefile(tmp_path / "in" / "images" / "a.jpg")


def test_labelme_files_in_an_output_lead_to_the_images_and_labelme_opens_them(tmp_path: Path) -> None:
    folder, output = make_folder(tmp_path / "set", "a", "b"), tmp_path / "out"
    convert_paths([folder], to="labelme", output=output)
    for stem in ("a", "b"):
        assert opened_by_labelme(output / f"{stem}.json").samefile(folder / f"{stem}.jpg")
    seen = subprocess.run(
        [os.environ["IMGSYNCFS_LABELME_PYTHON"], SUPPORT / "labelme_reader.py", *output.glob("*.json")],
        capture_output=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        check=True,
        timeout=60,
    )
    assert len(orjson.loads(seen.stdout)) == 2


# Photos that EXIF turns.


@pytest.mark.parametrize("orientation", [3, 6])
def test_the_xml_of_a_turned_photo_is_in_its_stored_pixels_and_comes_back(tmp_path: Path, orientation: int) -> None:
    folder = make_folder(tmp_path / "set", "a", image=False)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = (64, 48) if orientation == 3 else (48, 64)
    Image.new("RGB", stored).save(folder / "a.jpg", exif=exif)
    before = (folder / "a.json").read_bytes()
    house = json_box(before)
    convert_paths([folder], to="rolabelimg")
    (shape,) = read_rolabelimg(folder / "a.xml")
    x, y = (sum(corner[axis] for corner in shape.corners) / 4 for axis in (0, 1))
    turned = (64 - house["x"], 48 - house["y"]) if orientation == 3 else (house["y"], 64 - house["x"])
    assert (x, y) == pytest.approx(turned, abs=1e-3)
    save_in_rolabelimg(folder / "a.xml", (stored[1], stored[0], 3))
    assert convert_paths([folder], to="imagesynchronizer").already == 1
    assert (folder / "a.json").read_bytes() == before
    (folder / "a.json").unlink()
    assert preview_file(folder / "a.jpg").size == (64, 48)
    convert_paths([folder], to="imagesynchronizer")
    assert json_box((folder / "a.json").read_bytes()) == {**house, "a": pytest.approx(house["a"], abs=1e-5)}


def json_box(content: bytes) -> dict[str, Any]:
    """The only box of a house annotation."""
    (box,) = orjson.loads(content)["labels"][0]["object"]
    return dict(box)


# Into another folder.


@pytest.mark.parametrize(("target", "suffix"), [("labelme", ".json"), ("rolabelimg", ".xml")])
def test_with_output_the_source_is_left_alone(tmp_path: Path, target: str, suffix: str) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(tmp_path / "set")
    summary = convert_paths([folder], to=target, output=tmp_path / "new" / "out")
    assert files_of(folder) == before
    assert set(files_of(tmp_path / "new" / "out")) == {f"{stem}{suffix}" for stem in ("a", "b", "full")}
    assert summary.converted == 3
    back = convert_paths([tmp_path / "new" / "out"], to="imagesynchronizer", output=tmp_path / "back")
    assert back.converted == 3
    for name, content in files_of(tmp_path / "back").items():
        assert orjson.loads(content) == orjson.loads(before[name])


def test_a_house_annotation_is_the_same_bytes_in_the_output(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    convert_paths([folder], to="labelme")
    convert_paths([folder], to="imagesynchronizer", output=tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_a_file_edited_in_the_output_is_not_overwritten_and_a_rendering_is(tmp_path: Path) -> None:
    folder, output = make_folder(tmp_path / "set", "a", "b"), tmp_path / "out"
    convert_paths([folder], to="labelme", output=output)
    edit_labelme(output / "b.json", lambda document: document.update(version="6.3.1"))
    assert convert_paths([folder], to="labelme", output=output).already == 2
    convert_paths([folder / "b.json"], to="labelme", output=tmp_path / "anew")
    (tmp_path / "anew" / "b.json").replace(output / "b.json")
    edit_labelme(output / "a.json", rename_first("dog"))
    edited = (output / "a.json").read_bytes()
    (folder / "b.json").write_bytes(box_annotation(name="cat"))
    summary = convert_paths([folder], to="labelme", output=output)
    assert (summary.converted, [Path(each.path) for each in summary.left_out]) == (1, [output / "a.json"])
    assert (output / "a.json").read_bytes() == edited
    assert orjson.loads((output / "b.json").read_bytes())["shapes"][0]["label"] == "cat"


def test_several_folders_go_into_folders_of_their_names(tmp_path: Path) -> None:
    folders = [make_folder(tmp_path / name, "a") for name in ("one", "two")]
    convert_paths(folders, to="rolabelimg", output=tmp_path / "out")
    assert set(files_of(tmp_path / "out")) == {"one/a.xml", "two/a.xml"}
    other = make_folder(tmp_path / "other" / "one", "a")
    with pytest.raises(ConvertError, match="one by one"):
        convert_paths([*folders, other], to="rolabelimg", output=tmp_path / "out")


def test_the_output_must_be_another_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    with pytest.raises(ConvertError, match="name no folder to convert them in place"):
        convert_paths([folder], to="labelme", output=tmp_path / "set")


# Files, and files that are no annotations.


def test_single_files_are_converted_and_their_neighbours_are_not(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)
    summary = convert_paths([folder / "a.json", folder / "full.jpg", folder / "a.jpg"], to="labelme")
    assert summary.converted == 2
    assert files_of(folder)["b.json"] == before["b.json"]
    assert convert_paths([folder / "a.json", folder / "full.json"], to="imagesynchronizer").converted == 2
    assert files_of(folder) == before


def test_bad_files_are_named_with_the_reason_and_the_others_converted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    bad = {
        "broken.json": b'{"anno_version": "0.2.0", "labels": [',
        "field.json": orjson.dumps({**FULL, "labels": [{"label_type": "rbbox", "object": [{"class": "p", "x": 1}]}]}),
        "list.json": b"[1, 2]",
        "shapes.json": orjson.dumps({"shapes": [{"label": 1}], "imagePath": "shapes.jpg"}),
        "other.xml": b"<html/>",
        "kind.xml": box_annotation(),
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    summary = convert_paths([folder], to="labelme")
    assert summary.converted == 1
    reasons = {Path(each.path).name: each.reason for each in summary.left_out}
    assert set(reasons) == set(bad)
    assert summary.left_out_count == len(bad)
    assert "labels[0].object[0].y" in reasons["field.json"]
    assert "shapes[0].label" in reasons["shapes.json"]
    assert "JSON" in reasons["broken.json"]
    assert bad.items() <= files_of(folder).items()


def test_an_annotation_whose_name_ends_in_capitals_is_named_with_the_remedy(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a", "b")
    (folder / "a.json").rename(folder / "a.JSON")
    summary = convert_paths([folder], to="rolabelimg")
    assert (summary.converted, [Path(each.path).name for each in summary.left_out]) == (1, ["a.JSON"])
    assert "rename it to small letters" in summary.left_out[0].reason
    with pytest.raises(ConvertError, match="rename it to small letters"):
        convert_paths([folder / "a.JSON"], to="rolabelimg")


def test_an_unreadable_sibling_keeps_its_stem_as_it_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    (folder / "a.xml").write_bytes(b"<annotation><object>")
    before = files_of(folder)
    assert [Path(each.path).name for each in convert_paths([folder], to="labelme").left_out] == ["a.xml"]
    assert files_of(folder) == before


def test_a_folder_without_annotations_and_a_missing_one_are_mistakes(tmp_path: Path) -> None:
    make_folder(tmp_path / "sets" / "one", "a")
    assert "sub-folders" in convert_paths([tmp_path / "sets"], to="labelme").left_out[0].reason
    with pytest.raises(ConvertError, match="no .*/nowhere"):
        convert_paths([tmp_path / "sets" / "one", tmp_path / "nowhere"], to="labelme")
    assert not (tmp_path / "sets" / "one" / ORIGINALS).exists()


def test_the_folder_of_the_originals_is_not_converted(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set", "a")
    convert_paths([folder], to="labelme")
    with pytest.raises(ConvertError, match="originals"):
        convert_paths([folder / ORIGINALS], to="labelme")


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="labelme"):
        convert_paths([make_folder(tmp_path / "set")], to="labelmi")


def test_the_longest_and_strangest_names_are_converted(tmp_path: Path) -> None:
    stems = ("n" * 250, "line\nbreak", "x.labelme.y", "人 <&>", "~")
    folder = make_folder(tmp_path / "set", *stems)
    before = files_of(folder)
    for target, converted in (("labelme", 5), ("rolabelimg", 5), ("imagesynchronizer", 5)):
        summary = convert_paths([folder], to=target)
        assert (summary.converted, summary.left_out) == (converted, ())
    assert {name: content for name, content in files_of(folder).items() if name.endswith(".json")} == before


def test_sizes_come_from_the_images_header_where_the_annotation_says_none(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    sizeless = orjson.dumps({"anno_version": "0.2.0", "labels": [], "label_checked": 1})
    write_image(folder / "a.png", size=(31, 17))
    # libtiff puts the header behind the picture.
    Image.effect_noise((700, 600), 90).save(folder / "b.tif", compression="tiff_lzw")
    assert (folder / "b.tif").stat().st_size > HEADER_BYTES
    for name in ("a.json", "b.json"):
        (folder / name).write_bytes(sizeless)
    convert_paths([folder], to="labelme")
    for name, sides in (("a", (17, 31)), ("b", (600, 700))):
        document = orjson.loads((folder / f"{name}.json").read_bytes())
        assert (document["imageHeight"], document["imageWidth"]) == sides
    convert_paths([folder], to="imagesynchronizer")
    assert (folder / "a.json").read_bytes() == sizeless


# The machine.


def test_two_conversions_do_not_work_in_one_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    with locked(folder), pytest.raises(ConvertError, match="Another conversion"):
        convert_paths([folder], to="labelme")
    assert convert_paths([folder], to="labelme").converted == 3


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    (folder / f"{TEMPORARY_PREFIX}0123456789abcdef").write_bytes(b"half")
    convert_paths([folder], to="labelme")
    assert not [name for name in files_of(folder) if TEMPORARY_PREFIX in name]


def test_a_disk_without_hard_links_keeps_the_original_all_the_same(tmp_path: Path) -> None:
    def refuse(path: Path, copy: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path), None, str(copy))

    path, copy = tmp_path / "img.json", tmp_path / "original.json"
    path.write_bytes(orjson.dumps(FULL))
    keep_copy(path, copy, link=refuse)
    assert files_of(tmp_path) == {path.name: orjson.dumps(FULL), copy.name: orjson.dumps(FULL)}
    assert not copy.samefile(path)


def test_a_full_disk_stops_it_with_one_sentence_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "set")
    before = files_of(folder)

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(ConvertError, match="No space left on device.*run the same again"):
            convert_paths([folder], to="rolabelimg")
    assert files_of(folder) == before
    assert convert_paths([folder], to="rolabelimg").converted == 3


class MemoryAtTheEnd:
    """A `Progress` that measures what is in use when the last annotation is done."""

    def __init__(self) -> None:
        self.left = 0
        self.byte_count = 0

    def phase(self, name: str, total: int | None, unit: str) -> None:
        assert total is not None
        assert (name.split(maxsplit=1)[0], unit) == ("Converting", "annotations")
        self.left = total

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left == 0:
            # Not what pathlib's names take in the interpreter's own table, which grows and shrinks in large steps.
            snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
            self.byte_count = sum(statistic.size for statistic in snapshot.statistics("filename"))


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # of no weight here, and slow

    def in_use(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"img_{number:06}.json").write_bytes(orjson.dumps(FULL))
        memory = MemoryAtTheEnd()
        tracemalloc.start()
        try:
            assert convert_paths([folder], to="labelme", progress=memory).converted == count
        finally:
            tracemalloc.stop()
        return memory.byte_count

    in_use(20)  # what is imported and compiled once
    assert in_use(1000) < in_use(100) + 15_000


# The command.


def test_the_command_tells_what_was_done_and_what_is_not_shown(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    workplace = Workplace("", tmp_path)
    done = workplace.run("convert", folder, "--to", "rolabelme_xml")
    assert "3 annotations converted to rolabelimg." in done.stdout
    assert "Not shown: 1 polygons in 1 file (full.json): roLabelImg shows boxes only." in done.stderr
    assert "3 are rolabelimg already" in workplace.run("convert", folder, "--to", "rolabelimg").stdout


def test_the_command_names_bad_files_and_a_script_notices(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    (folder / "bad.json").write_bytes(b'{"anno_version": "0.2.0", "labels": 3}')
    done = Workplace("", tmp_path).run("convert", folder, "--to", "labelme", status=3)
    assert "3 annotations converted" in done.stdout
    assert f"{folder}/bad.json: labels: it must be a list, this is the number 3" in done.stderr


def test_a_mount_is_converted_into_an_output_folder_and_only_there(tmp_path: Path) -> None:
    workplace = demo_workplace(tmp_path)
    dataset = "original_20200207_fisheye_rbbox"
    with workplace.mounted() as mountpoint:
        refused = workplace.run("convert", mountpoint / dataset, "--to", "labelme", status=1)
        assert "add --output DIR" in refused.stderr
        done = workplace.run("convert", mountpoint / dataset, "--to", "labelme", "--output", tmp_path / "out")
        assert "Left out" not in done.stderr
        for path in (tmp_path / "out").iterdir():
            source = mountpoint / dataset / path.name
            assert LABELME.parse(path.read_bytes()) == parse_annotation(source.read_bytes())
        assert len(list((tmp_path / "out").iterdir())) == len(list((mountpoint / dataset).glob("*.jpg")))
