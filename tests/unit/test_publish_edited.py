"""Publishing what was edited in a tool: only the edits change the catalog, and what they do to labels is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.labelme_files import new_shape, saved_by_labelme
from support.places import CASES
from support.publishing import DATASET, Place, annotated_folder, fill, house, jpeg, open_place
from support.rolabelimg_saves import moved, save_in_rolabelimg

from imgsyncfs.annotations.house_format import ObjectLabel, RotatedBox, dump_annotation, parse_annotation
from imgsyncfs.errors import PublishError
from imgsyncfs.formats.registry import FORMATS, ImageInfo
from imgsyncfs.tools.convert.run import convert_paths
from imgsyncfs.tools.publish.journal import Journal

SIZE = (480, 640, 3)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_place(tmp_path) as opened:
        yield opened


def rows_of(place: Place) -> tuple[int, Any]:
    """The revision, and where every annotation lies."""
    row = place.catalog.dataset(DATASET)
    assert row is not None
    return row.revision, place.annotations()


def view(place: Place, name: str, *, depth: int = 3) -> Place:
    """A copy of the dataset in a tool's layout, as `sync --view` makes it."""
    known = FORMATS[name]
    folder = place.folder.parent / f"view-{name}"
    images = place.images()
    for file, content in place.published().items():
        stem, _, ext = file.rpartition(".")
        if ext != "json":
            fill(folder, {file: content})
            continue
        row = images[stem]
        info = ImageInfo(DATASET, stem, row.ext, row.height, row.width, depth)
        fill(folder, {f"{stem}{known.view_suffix}": known.render(parse_annotation(content), info).content})
    return replace(place, folder=folder)


def case(place: Place, name: str) -> None:
    """Publish one of the small inputs."""
    shutil.copytree(CASES / name, place.folder)
    place.publish()


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = saved_by_labelme(orjson.loads(path.read_bytes()))
    edit(document)
    path.write_bytes(orjson.dumps(document))


# Without an edit.


@pytest.mark.parametrize("name", ["labelme", "rolabelimg"])
def test_a_view_that_nobody_edited_changes_nothing_and_sends_nothing(place: Place, name: str) -> None:
    annotated_folder(place.folder, 3)
    place.publish()
    before = rows_of(place)
    summary = view(place, name).publish()
    assert (summary.changed, summary.uploaded_bytes, summary.changes) == (False, 0, ())
    assert rows_of(place) == before


def test_an_annotation_that_is_only_spelt_otherwise_keeps_its_blob(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    before = rows_of(place)
    for path in place.folder.glob("*.json"):
        path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()), option=orjson.OPT_INDENT_2))
    assert place.publish().changed is False
    assert rows_of(place) == before


def test_what_has_not_changed_by_a_byte_is_not_asked_for(place: Place) -> None:
    annotated_folder(place.folder, 3)
    place.publish(loose=True)
    place.store.read_bytes.clear()
    (place.folder / "a_00001.json").write_bytes(house("dog"))
    place.publish(loose=True)
    assert len(place.store.read_bytes) == 1


def test_only_the_one_that_says_something_else_is_sent(place: Place) -> None:
    annotated_folder(place.folder, 3)
    place.publish()
    before = place.annotations()
    copy = view(place, "labelme")
    edit_json(copy.folder / "a_00001.json", lambda document: document["shapes"][0].update(label="dog"))
    assert copy.publish().changed
    after = place.annotations()
    assert {name for name in after if after[name] != before[name]} == {"a_00001"}


@pytest.mark.parametrize("name", ["border_boxes/in", "border_boxes/in2", "rolabelimg_view_published/in"])
def test_a_save_in_rolabelimg_of_every_file_changes_nothing(place: Place, name: str) -> None:
    case(place, name)
    before = rows_of(place)
    copy = view(place, "rolabelimg")
    for path in copy.folder.glob("*.xml"):
        save_in_rolabelimg(path, SIZE)
    summary = copy.publish()
    assert (summary.changed, summary.uploaded_bytes, summary.left_out) == (False, 0, ())
    assert rows_of(place) == before


# What a view does not show.


def test_an_edit_in_rolabelimg_keeps_what_it_does_not_show_and_says_so(place: Place) -> None:
    case(place, "rolabelimg_view_published/in")
    before = {name: orjson.loads(content) for name, content in place.published().items() if name.endswith("json")}
    copy = view(place, "rolabelimg")
    for path in copy.folder.glob("*.xml"):
        save_in_rolabelimg(path, SIZE, lambda shapes: [moved(shapes[0], 7, 9), *shapes[1:]])
    summary = copy.publish()
    kept = {change.what: (change.count, change.file_count) for change in summary.changes}
    assert kept["masks"] == (1, 1)
    assert kept["polygons"] == (4, 2)
    assert kept["classifications"] == kept["regression values"] == kept["labels of unknown types"] == (2, 2)
    for name, document in before.items():
        after = orjson.loads(place.published()[name])
        assert after["camera"] == document["camera"]
        shown = ("bbox", "rbbox")
        hidden = [label for label in document["labels"] if label["label_type"] not in shown]
        assert [label for label in after["labels"] if label["label_type"] not in shown] == hidden
        assert after != document


def test_a_labelme_file_without_what_travels_along_keeps_what_labelme_does_not_show(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person")})
    document = orjson.loads((place.folder / "a.json").read_bytes())
    document["labels"] += [{"label_type": "reg", "label_name": "Age", "label": 4}, {"label_type": "kp", "data": [1]}]
    document["labels"][0]["object"][0]["score"] = 0.5
    (place.folder / "a.json").write_bytes(orjson.dumps(document))
    place.publish()
    copy = view(place, "labelme")

    def drop(document: dict[str, Any]) -> None:
        del document["imgsyncfs"]
        for shape in document["shapes"]:
            del shape["imgsyncfs"]
        document["shapes"].append(new_shape("rectangle", (1.0, 2.0), (9.0, 9.0)))

    edit_json(copy.folder / "a.json", drop)
    copy.publish()
    boxes, *others = orjson.loads(place.published()["a.json"])["labels"]
    assert boxes["object"][0] == document["labels"][0]["object"][0]
    assert [box["class"] for box in boxes["object"]] == ["person", "dog"]
    assert others == document["labels"][1:]


def test_a_new_label_version_starts_from_the_one_that_the_dataset_has(place: Place) -> None:
    case(place, "rolabelimg_view_published/in")
    before = place.published()
    copy = view(place, "rolabelimg")
    for path in copy.folder.glob("*.xml"):
        save_in_rolabelimg(path, SIZE)
    copy.publish(label_version="2.0.0")
    rows = place.annotations(label_version="2.0.0")
    assert {f"{row.name}.json": place.content(row) for row in rows.values()} == {
        name: content for name, content in before.items() if name.endswith(".json")
    }


def test_an_annotation_whose_blob_is_gone_is_published_with_a_warning(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person")})
    place.publish(loose=True)
    (row,) = place.annotations().values()
    (place.folder.parent / "store" / row.blob).unlink()
    (place.folder / "a.json").write_bytes(house("dog"))
    (warning, _) = place.publish(loose=True).warnings
    assert warning.startswith("a.json cannot be compared with the annotation in the catalog")
    assert orjson.loads(place.published()["a.json"])["labels"][0]["object"][0]["class"] == "dog"


# Siblings that say the same.


def test_a_folder_copied_out_of_a_mount_and_edited_in_rolabelimg_without_an_edit_is_published(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", x1=0.25)})
    info = ImageInfo("another_name", "a", "jpg", 30, 40, 3)
    annotation = parse_annotation((place.folder / "a.json").read_bytes())
    rendered = {f"a{known.suffix}": known.render(annotation, info).content for known in FORMATS.values()}
    fill(place.folder, rendered)
    assert place.publish().left_out == ()
    save_in_rolabelimg(place.folder / "a.xml", (30, 40, 3))
    edit_json(place.folder / "a.labelme.json", lambda document: document.update(version="6.3.1"))
    assert place.publish().left_out == ()


def test_siblings_that_were_rendered_before_the_annotation_was_edited_say_nothing_new(place: Place) -> None:
    info = ImageInfo(DATASET, "a", "jpg", 30, 40, 3)
    annotation = parse_annotation(house("person"))
    rendered = {f"a{known.suffix}": known.render(annotation, info).content for known in FORMATS.values()}
    rendered.pop("a.dota.txt")  # does not say what it was rendered from
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", "dog"), **rendered})
    assert place.publish().left_out == ()


def test_a_sibling_that_does_not_say_what_it_was_rendered_from_is_named_when_it_says_something_else(
    place: Place,
) -> None:
    info = ImageInfo(DATASET, "a", "jpg", 30, 40, 3)
    content = FORMATS["dota"].render(parse_annotation(house("person")), info).content
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", "dog"), "a.dota.txt": content})
    (left_out,) = place.publish().left_out
    assert left_out.path == "a.dota.txt"
    assert "a.json is published and says something else" in left_out.reason


def test_a_sibling_that_was_edited_is_left_out_with_the_command_that_brings_both_together(place: Place) -> None:
    info = ImageInfo(DATASET, "a", "jpg", 30, 40, 3)
    content = FORMATS["rolabelimg"].render(parse_annotation(house("person")), info).content
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person"), "a.xml": content})
    save_in_rolabelimg(place.folder / "a.xml", (30, 40, 3), lambda shapes: [moved(shapes[0], 5, 5)])
    (left_out,) = place.publish().left_out
    assert left_out.path == "a.xml"
    assert f"imgsyncfs convert {place.folder} --to imagesynchronizer" in left_out.reason


# Changes of kind.


def rotated() -> bytes:
    annotation = parse_annotation(house())
    box = RotatedBox("person", 300, 200, 200, 100, 0.5, {"id": 1})
    label = ObjectLabel("rbbox", (box,))
    return dump_annotation(replace(annotation, height=480, width=640, labels=(label,)))


def pulled(x: float) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document["shapes"][0]["points"][2][0] += x

    return edit


@pytest.mark.parametrize(("pull", "label_type", "harmless"), [(8, "rbbox", True), (150, "poly", False)])
def test_a_corner_that_was_moved_is_told_for_the_file_and_counted(
    place: Place, pull: float, label_type: str, *, harmless: bool
) -> None:
    fill(place.folder, {"a.jpg": jpeg(1, width=640, height=480), "a.json": rotated()})
    place.publish()
    copy = view(place, "labelme")
    edit_json(copy.folder / "a.json", pulled(pull))
    summary = copy.publish()
    assert [change.is_harmless for change in summary.file_changes["a.json"]] == [harmless]
    assert [(change.count, change.file_count, [*change.files]) for change in summary.changes] == [(1, 1, ["a.json"])]
    held = [label for label in orjson.loads(place.published()["a.json"])["labels"] if label["object"]]
    assert [label["label_type"] for label in held] == [label_type]


def test_what_the_label_type_does_not_name_is_told(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1, width=640, height=480), "a.json": rotated()})
    (warning,) = place.publish().warnings
    assert "label_type says bbox" in warning
    assert "rbbox (1)" in warning


@pytest.mark.parametrize("pull", [0, 8, 150])
def test_a_strict_publish_refuses_only_what_changes_its_kind(place: Place, pull: float) -> None:
    fill(place.folder, {"a.jpg": jpeg(1, width=640, height=480), "a.json": rotated()})
    place.publish()
    before = rows_of(place)
    copy = view(place, "labelme")
    edit_json(copy.folder / "a.json", pulled(pull))
    if pull < 100:
        copy.publish(strict=True)
        return
    with pytest.raises(PublishError, match=r"Nothing was published.*a\.json: 1 rotated boxes: they became polygons"):
        copy.publish(strict=True)
    assert rows_of(place) == before


def test_labels_that_no_trainer_sees_are_told_and_refused_if_strict(place: Place) -> None:
    shutil.copytree(CASES / "labelme_points_circles_lines" / "in", place.folder)
    with pytest.raises(PublishError, match="no trainer sees"):
        place.publish(strict=True)
    summary = place.publish()
    assert {change.what for change in summary.changes} == {"points", "circles", "linestrips"}
    shapes = orjson.loads((place.folder / "a.json").read_bytes())["shapes"]
    (path,) = view(place, "labelme").folder.glob("*.json")
    shown = orjson.loads(path.read_bytes())["shapes"]
    assert [(shape["shape_type"], shape["points"]) for shape in shown] == [
        (shape["shape_type"], shape["points"]) for shape in shapes
    ]


def test_changes_are_told_again_from_the_journal(place: Place, tmp_path: Path) -> None:
    shutil.copytree(CASES / "labelme_points_circles_lines" / "in", place.folder)
    with Journal(tmp_path / "journal") as journal:
        first = place.publish(journal=journal)
    with Journal(tmp_path / "journal") as journal:
        again = place.publish(journal=journal)
    assert again.changes == first.changes


def test_a_journal_of_an_earlier_publish_does_not_hide_that_the_catalog_has_changed(
    place: Place, tmp_path: Path
) -> None:
    annotated_folder(place.folder, 1)
    with Journal(tmp_path / "journal") as journal:
        place.publish(journal=journal)
    copy = view(place, "rolabelimg")
    for path in copy.folder.glob("*.xml"):
        save_in_rolabelimg(path, (30, 40, 3))
    document = orjson.loads((place.folder / "a_00000.json").read_bytes())
    with Journal(tmp_path / "journal") as journal:
        copy.publish(journal=journal)
        document["labels"].append({"label_type": "clf", "label_name": "Gender", "label": "Female"})
        (place.folder / "a_00000.json").write_bytes(orjson.dumps(document))
        place.publish(journal=journal)
        copy.publish(journal=journal)
    assert orjson.loads(place.published()["a_00000.json"])["labels"] == document["labels"]


def test_an_annotation_whose_name_ends_in_capitals_is_published(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.JSON": house("person"), "b.jpg": jpeg(2)})
    xml = FORMATS["rolabelimg"].render(parse_annotation(house()), ImageInfo(DATASET, "b", "jpg", 30, 40, 3)).content
    fill(place.folder, {"b.XML": xml})
    assert place.publish().left_out == ()
    assert place.annotations().keys() == {"a", "b"}


# Photos that EXIF turns.


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photo_labelled_in_rolabelimg_is_published_in_its_turned_pixels(
    place: Place, orientation: int
) -> None:
    photo = jpeg(1, width=40, height=30, orientation=orientation)
    fill(place.folder, {"a.jpg": photo, "a.json": house("person", width=30, height=40)})
    if orientation == 3:
        (place.folder / "a.json").write_bytes(house("person"))
    place.publish()
    before = rows_of(place)
    copy = view(place, "rolabelimg")
    info = ImageInfo(DATASET, "a", "jpg", 40, 30, 3, orientation=orientation)
    if orientation == 3:
        info = replace(info, height=30, width=40)
    annotation = parse_annotation(place.published()["a.json"])
    (copy.folder / "a.xml").write_bytes(FORMATS["rolabelimg"].render(annotation, info).content)
    save_in_rolabelimg(copy.folder / "a.xml", (30, 40, 3))
    assert copy.publish().changed is False
    assert rows_of(place) == before
    # Without the catalog's annotation, the stored pixels are turned all the same.
    assert copy.publish("original_20200208_rgb_bbox").changed
    (row,) = place.annotations("original_20200208_rgb_bbox").values()
    (box,) = orjson.loads(place.content(row))["labels"][0]["object"]
    assert (box["x1"], box["y1"], box["x2"], box["y2"]) == pytest.approx((2, 2, 20, 21), abs=0.6)


def test_a_folder_that_was_converted_for_labelme_is_published_as_it_is(place: Place) -> None:
    annotated_folder(place.folder, 2)
    place.publish()
    before = rows_of(place)
    convert_paths([place.folder], to="labelme")
    summary = place.publish()
    assert (summary.changed, summary.left_out) == (False, ())
    assert rows_of(place) == before


def test_a_flag_of_labelmes_without_a_name_is_no_class(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1)})
    flags = {"": True, " ": True, "Gender: Female": True, "old": True}
    document: dict[str, Any] = {
        "version": "5.5.0",
        "flags": flags,
        "shapes": [],
        "imagePath": "a.jpg",
        "imageData": None,
    }
    fill(place.folder, {"a.json": orjson.dumps({**document, "imageData": None, "imageHeight": 30, "imageWidth": 40})})
    summary = place.publish()
    row = place.catalog.dataset(DATASET)
    assert row is not None
    assert row.classes == ("Gender", "old")
    assert not [warning for warning in summary.warnings if "class" in warning]


def test_a_class_that_the_dataset_does_not_list_is_told_with_the_classes_that_would_be_all(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person")})
    assert place.publish().warnings == ()
    fill(place.folder, {"a.json": house("person", "dog", "cat")})
    (warning,) = place.publish().warnings
    assert "cat (1), dog (1)" in warning
    assert warning.endswith("with the classes person,cat,dog")
    assert place.publish(classes=["person", "dog", "cat"]).warnings == ()


def test_a_label_that_the_catalog_cannot_keep_is_told(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", "x" * 301)})
    assert any("cannot be found in the catalog" in warning for warning in place.publish(classes=["person"]).warnings)
