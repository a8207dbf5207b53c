"""Converting folders in tools' own layouts to the house format."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.document_entries import objects_of
from support.layout_folders import IMAGE, put, write_layout
from support.publishing import house

from imgsyncfs.annotations.house_format import Annotation, BoundingBox, ObjectLabel, Polygon, parse_annotation
from imgsyncfs.errors import ConvertError, LayoutError
from imgsyncfs.tools.convert.run import ConvertSummary, convert_paths

HOUSE = "imagesynchronizer"
BOX = Annotation(
    label_checked=1, height=48, width=64, labels=(ObjectLabel("bbox", (BoundingBox("face", 16, 12, 32, 36),)),)
)


def convert(
    folder: Path, output: Path | None = None, *, layout: str | None = None, strict: bool = False
) -> ConvertSummary:
    return convert_paths([folder], to=HOUSE, output=output, layout=layout, strict=strict)


def side_by_side(folder: Path) -> Path:
    """YOLO's labels beside the images."""
    put(folder / "classes.txt", b"person\nface\n")
    for stem in ("a", "b"):
        put(folder / f"{stem}.jpg", IMAGE)
    put(folder / "a.txt", b"1 0.375 0.5 0.25 0.5\n")
    return folder


@pytest.mark.parametrize("layout", ["yolo", "yolo-seg", "coco", "cvat", "voc", "dota", "hf"])
def test_directories_and_documents_become_house_files_in_another_folder(tmp_path: Path, layout: str) -> None:
    folder = write_layout(tmp_path / "set", layout, {"a": BOX, "b": None})
    summary = convert(folder, tmp_path / "out")
    assert (summary.converted, summary.already, summary.left_out_count) == (1, 0, 0)
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "a.json"
    found = parse_annotation(path.read_bytes())
    assert [item.class_name for item in objects_of(found)] == ["face"]
    assert (found.height, found.width, found.depth, found.ext) == (48, 64, 3, "jpg")
    again = convert(folder, tmp_path / "out")
    assert (again.converted, again.already) == (0, 1)


@pytest.mark.parametrize("layout", ["yolo", "coco", "voc"])
def test_without_another_folder_these_are_refused_before_anything_is_written(tmp_path: Path, layout: str) -> None:
    folder = write_layout(tmp_path / "set", layout, {"a": BOX})
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConvertError, match="choose another folder") as error:
        convert(folder)
    assert error.value.option == "output"
    assert sorted(folder.rglob("*")) == before


def test_labels_beside_the_images_become_house_files_beside_them(tmp_path: Path) -> None:
    folder = side_by_side(tmp_path)
    assert convert(folder).converted == 1
    assert objects_of(parse_annotation((folder / "a.json").read_bytes())) == [BoundingBox("face", 16, 12, 32, 36)]
    assert not (folder / "b.json").exists()


def test_a_house_file_beside_keeps_what_the_named_layout_does_not_show(tmp_path: Path) -> None:
    folder = side_by_side(tmp_path)
    convert(folder)
    path = folder / "a.json"
    content = path.read_bytes().replace(b'"anno_version"', b'"camera": 7, "anno_version"')
    path.write_bytes(content)
    assert convert(folder, layout="yolo").already == 1
    assert path.read_bytes() == content
    put(folder / "a.txt", b"0 0.375 0.5 0.25 0.5\n")
    assert convert(folder, layout="yolo").converted == 1
    found = parse_annotation(path.read_bytes())
    assert ([item.class_name for item in objects_of(found)], found.extra) == (["person"], {"camera": 7})


def test_a_file_in_the_other_folder_that_says_something_else_is_kept_and_named(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "set", "coco", {"a": BOX})
    mine = put(tmp_path / "out" / "a.json", house("dog"))
    summary = convert(folder, tmp_path / "out")
    assert mine.read_bytes() == house("dog")
    (left_out,) = summary.left_out
    assert "remove it, or choose another folder" in left_out.reason


def test_annotations_in_splits_are_converted_beside_their_images(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_layout(tmp_path / split, "xanylabeling", {split: BOX})
        (tmp_path / split / f"{split}.json").rename(tmp_path / split / f"{split}.xanylabeling.json")
    assert convert(tmp_path).converted == 2
    assert objects_of(parse_annotation((tmp_path / "valid" / "valid.json").read_bytes())) == objects_of(BOX)


def test_a_strict_conversion_leaves_out_what_would_change_its_kind(tmp_path: Path) -> None:
    square = ((16.0, 12.0), (32.0, 12.0), (32.0, 36.0), (16.0, 36.0))
    outline = Annotation(
        label_checked=1, height=48, width=64, labels=(ObjectLabel("poly", (Polygon("face", square),)),)
    )
    folder = write_layout(tmp_path / "set", "coco", {"a": outline})
    document = folder / "train/_annotations.coco.json"
    content = document.read_bytes()
    part = content[content.index(b'"segmentation":[[') + len(b'"segmentation":[') : content.index(b"]]") + 1]
    document.write_bytes(content.replace(part, part + b"," + part))
    assert convert(folder, tmp_path / "out", strict=True).left_out_count == 1
    assert convert(folder, tmp_path / "out").converted == 1


def test_a_layout_is_named_for_folders_on_the_way_to_the_house_format_alone(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "set", "coco", {"a": BOX})
    with pytest.raises(ConvertError, match="convert to that first"):
        convert_paths([folder], to="labelme", layout="coco", output=tmp_path / "out")
    with pytest.raises(ConvertError, match="convert to that first"):
        convert_paths([folder / "train" / "a.jpg"], to=HOUSE, layout="coco", output=tmp_path / "out")
    with pytest.raises(LayoutError, match="it looks like COCO"):
        convert(folder, tmp_path / "out", layout="yolo")


def test_a_damaged_label_file_is_left_out_and_named(tmp_path: Path) -> None:
    folder = side_by_side(tmp_path)
    put(folder / "b.txt", b"1 0.5 0.5\n")
    summary = convert(folder)
    (left_out,) = summary.left_out
    assert (summary.converted, Path(left_out.path).name) == (1, "b.txt")
    assert left_out.reason.startswith("line 1: it has 3 fields")
