"""Which layout a folder is in, which images it holds, and where their annotations come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from support.document_entries import objects_of
from support.layout_folders import IMAGE, LAYOUTS, put, write_layout
from support.publishing import house

from imgsyncfs.annotations.house_format import Annotation, BoundingBox, ObjectLabel
from imgsyncfs.errors import LayoutError
from imgsyncfs.tools.layouts.contract import AnnotationEntry, AnnotationFile, FolderContents
from imgsyncfs.tools.layouts.registry import read_folder

BOX = b"0 0.5 0.5 0.25 0.5\n"
CORNERS = b"0 0.1 0.1 0.4 0.1 0.4 0.3 0.1 0.3\n"
OUTLINE = b"1 0.1 0.1 0.4 0.1 0.4 0.3\n"
VOC = (
    b"<annotation><filename>a.jpg</filename><size><width>64</width><height>48</height><depth>3</depth></size>"
    b"<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
    b"</annotation>"
)
DOTA = b"1 2 30 2 30 40 1 40 dog 0\n"
CVAT = b'<annotations><version>1.1</version><image id="0" name="%b" width="64" height="48"></image></annotations>'


def coco(*names: str) -> bytes:
    """A COCO document with a box in each image."""
    images = [{"id": number, "file_name": name, "width": 64, "height": 48} for number, name in enumerate(names, 1)]
    boxes = [{"id": each["id"], "image_id": each["id"], "category_id": 1, "bbox": [1, 2, 3, 4]} for each in images]
    return orjson.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dog"}]})


def folder_of(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        put(folder / name, IMAGE if name.endswith((".jpg", ".png")) else content)
    return folder


def sources(contents: FolderContents) -> dict[str, list[str]]:
    """The names of the sources of each image's annotation, by the image's path."""
    return {image.file.path: [source.name for source in image.sources] for image in contents.images}


def kinds(contents: FolderContents) -> set[str]:
    """The formats of annotation files."""
    files = [source for image in contents.images for source in image.sources if isinstance(source, AnnotationFile)]
    return {source.format.name for source in files if source.format is not None}


# Each layout, as its tools write it.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_here_is_recognized_with_all_images(tmp_path: Path, layout: str) -> None:
    box = Annotation(
        label_checked=1, height=48, width=64, labels=(ObjectLabel("bbox", (BoundingBox("face", 1, 2, 30, 40),)),)
    )
    contents = read_folder(write_layout(tmp_path, layout, {"a": box, "b": box}))
    assert [image.stem for image in contents.images] == ["a", "b"]
    assert all(image.sources for image in contents.images)
    assert contents.left_out == ()


@pytest.mark.parametrize(
    "files",
    [
        # ultralytics
        {"data.yaml": b"names: {0: dog}\ntrain: images/train\nval: images/val\n", "images/train/a.jpg": b""}
        | {"labels/train/a.txt": BOX, "images/val/b.jpg": b"", "labels/val/b.txt": BOX},
        {"dataset.yaml": b"path: ../datasets/x\ntrain: images/train\nval: images/val\nnames: [dog]\n"}
        | {"images/train/a.jpg": b"", "labels/train/a.txt": BOX, "images/val/b.jpg": b"", "labels/val/b.txt": BOX},
        # Roboflow, whose paths are of the directory above
        {
            "data.yaml": b"train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['dog']\n",
            "train/images/a.jpg": b"",
        }
        | {"train/labels/a.txt": BOX, "valid/images/b.jpg": b"", "valid/labels/b.txt": BOX, "README.dataset.txt": b""},
        # CVAT, with lists
        {"data.yaml": b"path: ./\ntrain: train.txt\nnames:\n  0: dog\n", "train.txt": b"data/pictures/a.jpg\n"}
        | {"pictures/a.jpg": b"", "pictures/a.txt": BOX, "images/b.jpg": b"", "labels/b.txt": BOX},
        # labelImg and X-AnyLabeling
        {"images/a.jpg": b"", "images/b.jpg": b"", "labels/a.txt": BOX, "labels/b.txt": BOX, "classes.txt": b"dog\n"},
        {"images/a.jpg": b"", "images/b.jpg": b"", "labels/a.txt": BOX, "labels/b.txt": BOX}
        | {"labels/classes.txt": b"dog\n"},
        {"a.jpg": b"", "b.jpg": b"", "a.txt": BOX, "b.txt": BOX, "classes.txt": b"dog\n"},
        # Darknet, as CVAT writes it
        {"obj.names": b"dog\n", "obj.data": b"classes = 1\n", "obj_train_data/a.jpg": b"", "obj_train_data/a.txt": BOX}
        | {"obj_train_data/b.jpg": b"", "obj_train_data/b.txt": BOX, "train.txt": b"data/obj_train_data/a.jpg\n"},
    ],
)
def test_a_yolo_folder_is_recognized_and_its_classes_are_known(tmp_path: Path, files: dict[str, bytes]) -> None:
    contents = read_folder(folder_of(tmp_path, files))
    assert contents.layout.name == "yolo"
    assert kinds(contents) == {"yolo"}
    assert contents.left_out == ()
    assert [image.stem for image in contents.images] == ["a", "b"]
    for image in contents.images:
        (source,) = image.sources
        assert isinstance(source, AnnotationFile)
        assert (source.file.name, source.classes) == (f"{image.stem}.txt", ("dog",))


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([BOX, BOX], "yolo"),
        ([CORNERS, CORNERS], "yolo-obb"),
        ([CORNERS, OUTLINE], "yolo-seg"),
        ([OUTLINE, b""], "yolo-seg"),
    ],
)
def test_the_kind_of_labels_is_told_by_their_fields(tmp_path: Path, rows: list[bytes], kind: str) -> None:
    files = {"classes.txt": b"dog\ncat\n", "images/a.jpg": b"", "images/b.jpg": b""}
    contents = read_folder(folder_of(tmp_path, {**files, "labels/a.txt": rows[0], "labels/b.txt": rows[1]}))
    assert kinds(contents) == {kind}


def test_four_corners_are_outlines_where_somebody_says_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"classes.txt": b"dog", "images/a.jpg": b"", "labels/a.txt": CORNERS})
    assert kinds(read_folder(folder, layout="yolo-seg")) == {"yolo-seg"}


def test_a_yolo_image_without_a_label_file_has_no_annotation_and_one_with_an_empty_file_has(tmp_path: Path) -> None:
    files = {"classes.txt": b"dog", "images/a.jpg": b"", "images/b.jpg": b"", "images/c.jpg": b""}
    contents = read_folder(folder_of(tmp_path, {**files, "labels/a.txt": BOX, "labels/b.txt": b""}))
    assert sources(contents) == {
        "images/a.jpg": ["labels/a.txt"],
        "images/b.jpg": ["labels/b.txt"],
        "images/c.jpg": [],
    }


def test_class_names_that_yaml_takes_for_other_values_stay_texts(tmp_path: Path) -> None:
    files = {"data.yaml": b"train: images\nval: images\nnames: [no, 1, 1.50]\n", "images/a.jpg": b""}
    (image,) = read_folder(folder_of(tmp_path, {**files, "labels/a.txt": BOX})).images
    (source,) = image.sources
    assert isinstance(source, AnnotationFile)
    assert source.classes == ("no", "1", "1.50")


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        # Roboflow
        (
            {"train/_annotations.coco.json": coco("a.jpg"), "train/a.jpg": b""}
            | {"valid/_annotations.coco.json": coco("b.jpg"), "valid/b.jpg": b"", "README.roboflow.txt": b""},
            ["train/a.jpg", "valid/b.jpg"],
        ),
        # COCO itself
        (
            {"annotations/instances_train2017.json": coco("a.jpg"), "train2017/a.jpg": b""}
            | {"annotations/instances_val2017.json": coco("b.jpg"), "val2017/b.jpg": b""}
            | {"annotations/captions_val2017.json": b"{}"},
            ["train2017/a.jpg", "val2017/b.jpg"],
        ),
        # CVAT
        (
            {"annotations/instances_default.json": coco("a.jpg", "b.jpg"), "images/default/a.jpg": b""}
            | {"images/default/b.jpg": b""},
            ["images/default/a.jpg", "images/default/b.jpg"],
        ),
        # FiftyOne, and paths of somebody's machine
        (
            {"labels.json": coco("C:\\pictures\\a.jpg", "/home/me/b.jpg"), "data/a.jpg": b"", "data/b.jpg": b""},
            ["data/a.jpg", "data/b.jpg"],
        ),
        ({"instances.json": coco("a.jpg", "b.jpg"), "a.jpg": b"", "b.jpg": b""}, ["a.jpg", "b.jpg"]),
        ({"_annotations.coco.json": coco("a.jpg", "b.jpg"), "a.jpg": b"", "b.jpg": b""}, ["a.jpg", "b.jpg"]),
    ],
)
def test_a_coco_folder_is_recognized_and_its_images_are_found(
    tmp_path: Path, files: dict[str, bytes], paths: list[str]
) -> None:
    contents = read_folder(folder_of(tmp_path, files))
    assert contents.layout.name == "coco"
    assert contents.left_out == ()
    assert [image.file.path for image in contents.images] == paths
    for image in contents.images:
        (source,) = image.sources
        assert isinstance(source, AnnotationEntry)
        assert len(objects_of(source.reading.reading.annotation)) == 1


def test_images_beside_those_of_a_document_are_there_without_an_annotation(tmp_path: Path) -> None:
    files = {"instances.json": coco("images/a.jpg"), "images/a.jpg": b"", "images/b.jpg": b""}
    assert sources(read_folder(folder_of(tmp_path, files)))["images/b.jpg"] == []


def test_images_that_a_document_names_and_nobody_finds_are_counted(tmp_path: Path) -> None:
    files = {"instances.json": coco("a.jpg", "b.jpg", "c.jpg"), "a.jpg": b""}
    (left_out,) = read_folder(folder_of(tmp_path, files)).left_out
    assert left_out.path == "instances.json"
    assert "2 of its images are not in the folder" in left_out.reason


@pytest.mark.parametrize("name", ["a.jpg", "images/a.jpg", "default/a.jpg"])
def test_a_cvat_folder_is_recognized_and_its_images_are_found(tmp_path: Path, name: str) -> None:
    contents = read_folder(folder_of(tmp_path, {"annotations.xml": CVAT % name.encode(), "images/a.jpg": b""}))
    assert contents.layout.name == "cvat"
    assert sources(contents) == {"images/a.jpg": [f"annotations.xml ({name})"]}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("JPEGImages", "Annotations"),
        ("VOC2007/JPEGImages", "VOC2007/Annotations"),
        ("VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/Annotations"),
        ("images", "annotations"),
    ],
)
def test_a_voc_folder_is_recognized(tmp_path: Path, images: str, labels: str) -> None:
    files = {f"{images}/a.jpg": b"", f"{labels}/a.xml": VOC, f"{images}/train/b.jpg": b"", f"{labels}/train/b.xml": VOC}
    contents = read_folder(folder_of(tmp_path, files))
    assert (contents.layout.name, kinds(contents)) == ("voc", {"voc"})
    assert sources(contents) == {
        f"{images}/a.jpg": [f"{labels}/a.xml"],
        f"{images}/train/b.jpg": [f"{labels}/train/b.xml"],
    }


@pytest.mark.parametrize("place", ["", "train/"])
@pytest.mark.parametrize("labels", ["labelTxt", "annfiles"])
def test_a_dota_folder_is_recognized(tmp_path: Path, place: str, labels: str) -> None:
    files = {f"{place}images/a.png": b"", f"{place}{labels}/a.txt": DOTA}
    contents = read_folder(folder_of(tmp_path, files))
    assert (contents.layout.name, kinds(contents)) == ("dota", {"dota"})
    assert sources(contents) == {f"{place}images/a.png": [f"{place}{labels}/a.txt"]}


def test_splits_with_annotations_beside_the_images_are_taken_together(tmp_path: Path) -> None:
    files = {"train/a.jpg": b"", "train/a.xml": VOC, "valid/b.jpg": b"", "valid/b.xml": VOC}
    assert sources(read_folder(folder_of(tmp_path, files))) == {
        "train/a.jpg": ["train/a.xml"],
        "valid/b.jpg": ["valid/b.xml"],
    }


# What stays as it was.


def test_annotations_beside_the_images_come_before_all_else(tmp_path: Path) -> None:
    files = {"a.jpg": b"", "a.json": house("dog"), "a.txt": BOX, "classes.txt": b"dog", "images/b.jpg": b""}
    contents = read_folder(folder_of(tmp_path, {**files, "labels/b.txt": BOX}))
    assert sources(contents) == {"a.jpg": ["a.json"]}
    assert [entry.path for entry in contents.left_out] == ["a.txt", "classes.txt", "images/", "labels/"]


def test_splits_without_annotations_are_not_searched(tmp_path: Path) -> None:
    contents = read_folder(folder_of(tmp_path, {"train/a.jpg": b"", "valid/b.jpg": b""}))
    assert contents.images == ()
    assert [entry.path for entry in contents.left_out] == ["train/", "valid/"]


# What is refused, and what is said.


def test_images_of_one_name_in_two_splits_are_an_error_that_names_both(tmp_path: Path) -> None:
    files = {"classes.txt": b"dog", "train/images/a.jpg": b"", "train/labels/a.txt": BOX, "test/images/a.png": b""}
    with pytest.raises(LayoutError, match=r"test/images/a\.png and train/images/a\.jpg"):
        read_folder(folder_of(tmp_path, files))


def test_a_folder_of_two_layouts_is_asked_about_and_taken_when_named(tmp_path: Path) -> None:
    files = {"images/a.jpg": b"", "labels/a.txt": BOX, "classes.txt": b"dog"}
    folder = folder_of(tmp_path, {**files, "annotations/instances_default.json": coco("a.jpg")})
    with pytest.raises(LayoutError, match="YOLO and COCO") as error:
        read_folder(folder)
    assert error.value.option == "layout"
    assert read_folder(folder, layout="coco").layout.name == "coco"
    assert read_folder(folder, layout="yolo").layout.name == "yolo"


def test_a_layout_that_does_not_fit_is_refused_with_what_the_folder_looks_like(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"images/a.jpg": b"", "labels/a.txt": BOX, "classes.txt": b"dog"})
    with pytest.raises(LayoutError, match="not in the layout of COCO; it looks like YOLO"):
        read_folder(folder, layout="coco")
    with pytest.raises(LayoutError, match="name the layout yolo"):
        read_folder(folder, layout="yolo-seg")


def test_an_unknown_layout_is_refused_with_near_names(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="yolo"):
        read_folder(tmp_path, layout="yollo")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "nothing says their names"),
        ({"data.yaml": b"names: [dog"}, "no valid YAML"),
        ({"data.yaml": b"names: {1: dog}\ntrain: images\n"}, "count from 0 without a gap"),
        ({"data.yaml": b"names: [{a: b}]\ntrain: images\n"}, "a list of texts"),
    ],
)
def test_numbers_without_names_are_refused(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        read_folder(folder_of(tmp_path, {**files, "images/a.jpg": b"", "labels/a.txt": BOX}))


def test_a_damaged_document_is_an_error_that_names_it_and_the_place(tmp_path: Path) -> None:
    files = {"instances.json": coco("a.jpg").replace(b'"category_id":1', b'"category_id":2'), "a.jpg": b""}
    with pytest.raises(LayoutError, match=r"instances\.json cannot be read as COCO: annotations\[0\]"):
        read_folder(folder_of(tmp_path, files))


def test_labels_without_an_image_are_named(tmp_path: Path) -> None:
    files = {"classes.txt": b"dog", "images/a.jpg": b"", "labels/a.txt": BOX, "labels/b.txt": BOX}
    (left_out,) = read_folder(folder_of(tmp_path, files)).left_out
    assert left_out.path == "labels/b.txt"


def test_images_that_are_not_where_the_layout_has_them_are_named(tmp_path: Path) -> None:
    files = {"classes.txt": b"dog", "images/a.jpg": b"", "labels/a.txt": BOX, "cover.jpg": b""}
    (left_out,) = read_folder(folder_of(tmp_path, files)).left_out
    assert left_out.path == "cover.jpg"


def test_a_division_that_is_not_taken_over_is_said_with_its_counts(tmp_path: Path) -> None:
    files = {f"{split}/{kind}": b"" for split in ("train", "val") for kind in (f"images/{split}.jpg",)}
    files |= {"train/images/c.jpg": b"", "train/labels/c.txt": BOX, "classes.txt": b"dog"}
    contents = read_folder(folder_of(tmp_path, files))
    assert any("(train 2, valid 1) is not taken over" in note for note in contents.notes)


def test_any_document_of_its_kind_is_taken_where_the_layout_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"export.json": coco("a.jpg"), "a.jpg": b""})
    assert sources(read_folder(folder, layout="coco")) == {"a.jpg": ["export.json (a.jpg)"]}


def test_a_named_format_beside_the_images_is_taken_before_others(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.jpg": b"", "a.json": house("dog"), "a.xml": VOC})
    assert sources(read_folder(folder, layout="rolabelimg")) == {"a.jpg": ["a.xml"]}
    assert kinds(read_folder(folder, layout="pascal_voc")) == {"voc"}


# What findings are kept by.


def test_a_fingerprint_changes_with_the_classes_and_not_with_other_entries(tmp_path: Path) -> None:
    def prints(contents: FolderContents) -> list[str]:
        return [source.fingerprint for image in contents.images for source in image.sources]

    yolo = folder_of(tmp_path / "yolo", {"classes.txt": b"dog", "images/a.jpg": b"", "labels/a.txt": BOX})
    before = prints(read_folder(yolo))
    put(yolo / "classes.txt", b"cat")
    assert prints(read_folder(yolo)) != before
    folder = folder_of(tmp_path / "coco", {"instances.json": coco("a.jpg", "b.jpg"), "a.jpg": b"", "b.jpg": b""})
    before = prints(read_folder(folder))
    document = orjson.loads(coco("a.jpg", "b.jpg"))
    document["annotations"][0]["bbox"][0] = 5
    put(folder / "instances.json", orjson.dumps(document))
    after = prints(read_folder(folder))
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
