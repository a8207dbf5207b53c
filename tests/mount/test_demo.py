"""The demo: the users' table and examples, and pictures that fit their labels."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from PIL import Image
from support.places import REPOSITORY

from imgsyncfs.annotations.house_format import BoundingBox, ObjectLabel, Polygon, RotatedBox, parse_annotation
from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import PublishError
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.demo import DEMO_FILES, make_demo

EXAMPLES = REPOSITORY / "scripts" / "demo_examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


def opened(demo: Path) -> Catalog:
    return open_catalog(f"sqlite://{demo / 'catalog.db'}")


def files_of(demo: Path) -> dict[str, bytes]:
    """Every image and annotation, read through the catalog."""
    files = {}
    with opened(demo) as catalog:
        store = open_store(catalog.default_store())
        for dataset in catalog.datasets():
            for image in catalog.images(dataset.dataset_id):
                content = store.read(image.blob, image.blob_offset, image.byte_count)
                files[f"{dataset.dataset_id}/{image.name}.{image.ext}"] = content
            for annotation in catalog.annotations(dataset.dataset_id, dataset.label_version):
                content = store.read(annotation.blob, annotation.blob_offset, annotation.byte_count)
                files[f"{dataset.dataset_id}/{annotation.name}.json"] = content
        store.close()
    return files


def test_the_demo_holds_the_users_table_but_for_the_sizes(demo: Path) -> None:
    with (DEMO_FILES / "datasets.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    with opened(demo) as catalog:
        datasets = catalog.datasets()
    assert len(datasets) == len(expected) == 22

    def shown(row: DatasetRow) -> dict[str, str]:
        lists = {name: ",".join(getattr(row, name)) for name in ("classes", "projects", "label_type")}
        texts = {name: getattr(row, name) for name in ("dataset_id", "label_version", "image_type", "note")}
        return {**texts, **lists}

    for row in expected:
        del row["size"]
    by_id = {row["dataset_id"]: row for row in expected}
    assert {row.dataset_id: shown(row) for row in datasets} == by_id


def test_the_size_of_each_dataset_counts_what_is_really_there(demo: Path) -> None:
    with opened(demo) as catalog:
        for dataset in catalog.datasets():
            assert dataset.size == sum(1 for _ in catalog.images(dataset.dataset_id)) > 0


def test_the_demo_is_what_the_package_ships(demo: Path) -> None:
    shipped = {
        path.relative_to(DEMO_FILES).as_posix(): path.read_bytes()
        for path in DEMO_FILES.glob("*/*")
        if path.suffix != ".csv"
    }
    assert files_of(demo) == shipped


def test_the_shipped_files_are_smaller_than_a_megabyte() -> None:
    assert sum(path.stat().st_size for path in DEMO_FILES.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize(
    ("name", "file", "size"),
    [
        ("bbox.json", "original_20200219_dewarp_bbox/original_20200219_dewarp_bbox_00002", (300, 300)),
        ("rbbox.json", "original_20200207_fisheye_rbbox/original_20200207_fisheye_rbbox_00012", (2880, 2880)),
        (
            "clf_reg.json",
            "opensource_imdbwiki&affectnet_rgb_clf&reg/opensource_imdbwiki&affectnet_rgb_clf&reg_00001",
            (263, 264),
        ),
    ],
)
def test_the_users_examples_are_there_byte_for_byte(demo: Path, name: str, file: str, size: tuple[int, int]) -> None:
    files = files_of(demo)
    assert files[f"{file}.json"] == (EXAMPLES / name).read_bytes()
    assert Image.open(io.BytesIO(files[f"{file}.jpg"])).size == size


def test_the_users_examples_are_the_ones_they_sent() -> None:
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in EXAMPLES.iterdir()}
    assert sums == {
        "bbox.json": "8e2be40945ad579aa44febc9860b7424",
        "clf_reg.json": "f3e65256c3661a27e81cc2fd6f355402",
        "fisheye_00079.csv": "42fb01d39d262c3575d54d00063d5e37",
        "rbbox.json": "46531f51e1d68928089a5538fc52cc4a",
    }


def test_the_23_fisheye_boxes_are_the_users_own_and_point_at_the_centre(demo: Path) -> None:
    file = "original_20200207_fisheye_rbbox/original_20200207_fisheye_rbbox_00079"
    files = files_of(demo)
    (label,) = orjson.loads(files[f"{file}.json"])["labels"]
    with (EXAMPLES / "fisheye_00079.csv").open(newline="") as table:
        expected = [
            {key: text if key == "class" else float(text) for key, text in row.items()} for row in csv.DictReader(table)
        ]
    assert label == {"label_type": "rbbox", "object": expected}
    assert len(expected) == 23
    for box in label["object"]:
        assert math.isclose(math.atan2(box["y"] - 1440, box["x"] - 1440) % math.pi, box["a"], abs_tol=1e-6)
    assert Image.open(io.BytesIO(files[f"{file}.jpg"])).size == (2880, 2880)


def test_every_label_type_and_every_odd_case_is_there(demo: Path) -> None:
    files = files_of(demo)
    annotations = {name: orjson.loads(content) for name, content in files.items() if name.endswith(".json")}
    labels = [label for annotation in annotations.values() for label in annotation["labels"]]
    assert {label["label_type"] for label in labels} == {"bbox", "rbbox", "clf", "reg", "poly", "seg", "keypoint"}
    empty = {
        checked
        for annotation in annotations.values()
        for checked in [annotation["label_checked"]]
        if not any(label.get("object", True) for label in annotation["labels"])
    }
    assert empty == {0, 1}
    assert any(f"{name.removesuffix('.jpg')}.json" not in files for name in files if name.endswith(".jpg"))
    assert any("camera" in annotation for annotation in annotations.values())
    assert any(item.get("class", "").isascii() is False for label in labels for item in label.get("object", []))


def test_every_annotation_is_for_its_image_and_every_box_lies_in_it(demo: Path) -> None:
    files = files_of(demo)
    for name, content in files.items():
        if not name.endswith(".json"):
            continue
        annotation = parse_annotation(content)
        width, height = Image.open(io.BytesIO(files[name.replace(".json", ".jpg")])).size
        assert (annotation.width, annotation.height) == (width, height)
        for label in annotation.labels:
            for item in label.objects if isinstance(label, ObjectLabel) else ():
                if isinstance(item, BoundingBox):
                    points = [(item.x1, item.y1), (item.x2, item.y2)]
                elif isinstance(item, RotatedBox):
                    points = [(item.x, item.y)]
                else:
                    points = list(item.points) if isinstance(item, Polygon) else []
                assert all(0 <= x <= width and 0 <= y <= height for x, y in points), name


def test_making_the_demo_again_changes_nothing(demo: Path) -> None:
    again = make_demo(demo)
    assert again.changed is False
    with opened(demo) as catalog:
        assert {row.revision for row in catalog.datasets()} == {1}


def test_an_interrupted_demo_is_completed(tmp_path: Path) -> None:
    summary = make_demo(tmp_path / "demo")
    with opened(tmp_path / "demo") as catalog:
        row = catalog.datasets()[0]
        catalog.replace_dataset(row, [], [])
    again = make_demo(tmp_path / "demo")
    assert again.changed is True
    assert (again.datasets, again.images, again.byte_count) == (22, summary.images, summary.byte_count)


def test_a_folder_that_holds_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(PublishError, match="not empty and holds no demo"):
        make_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_file_that_is_no_catalog_is_refused_or_made_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "catalog.db").write_bytes(content)
    if content:
        with pytest.raises(PublishError, match="another catalog"):
            make_demo(tmp_path)
        assert (tmp_path / "catalog.db").read_bytes() == content
    else:
        assert make_demo(tmp_path).changed


def test_another_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.execute("CREATE TABLE recipes (name text)")
    before = (tmp_path / "catalog.db").read_bytes()
    with pytest.raises(PublishError, match="another catalog"):
        make_demo(tmp_path)
    assert (tmp_path / "catalog.db").read_bytes() == before


def test_a_demo_that_was_moved_is_refused(tmp_path: Path) -> None:
    make_demo(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    with pytest.raises(PublishError, match="another catalog"):
        make_demo(tmp_path / "two")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(PublishError, match="cannot be used"):
        make_demo(tmp_path / "demo")
