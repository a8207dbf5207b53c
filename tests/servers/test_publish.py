"""Publishing a folder: what is taken, what is left out, and what the catalog then says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest
from PIL import Image
from support.publishing import DATASET, Place, WatchedStore, annotated_folder, fill, house, jpeg, noisy_jpeg, open_place
from support.services import Container, Database

from imgsyncfs.annotations.house_format import BoundingBox, ObjectLabel, parse_annotation
from imgsyncfs.blob_layout import EXTENT_BYTES, LOOSE_FILE_BYTES, SEAL_BYTES
from imgsyncfs.catalog import open_catalog
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.errors import NamingError, PublishError
from imgsyncfs.formats.registry import FORMATS, ImageInfo
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.publication import dataset_store
from imgsyncfs.tools.publish.upload import Uploader, UploadFile
from imgsyncfs.workers.progress import SilentProgress

LABELME = orjson.dumps(
    {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {
                "label": "person",
                "points": [[3.5, 4], [10, 12.25]],
                "group_id": None,
                "shape_type": "rectangle",
                "flags": {},
            }
        ],
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 30,
        "imageWidth": 40,
    }
)
ROLABELIMG = (
    b"<annotation verified='no'><folder>f</folder><filename>a</filename><size><width>40</width><height>30</height>"
    b"<depth>3</depth></size><object><type>robndbox</type><name>person</name><robndbox><cx>20.5</cx><cy>15</cy>"
    b"<w>10</w><h>6</h><angle>0.5</angle></robndbox></object></annotation>"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_place(tmp_path) as opened:
        yield opened


def test_every_file_is_read_back_from_the_store_byte_for_byte(place: Place) -> None:
    files = annotated_folder(place.folder, 30)
    odd = b'\n { "labels":[ ],"anno_version":"0.2.0", "label_checked":0,"mine":1e3}\t'
    more = {"b.PNG": (place.folder / "a_00000.jpg").read_bytes(), "b.json": odd, "c.jpeg": jpeg(999)}
    fill(place.folder, more)
    summary = place.publish()
    assert place.published() == files | more
    assert (summary.images, summary.annotations, summary.revision, summary.changed) == (32, 31, 1, True)
    assert summary.byte_count == sum(len(content) for content in (files | more).values())
    assert (summary.left_out, summary.warnings, summary.removed) == ((), (), ())


def test_small_files_lie_in_packs_and_large_ones_alone(place: Place) -> None:
    annotated_folder(place.folder, 3)
    large = noisy_jpeg(1500, 1000)
    assert len(large) >= LOOSE_FILE_BYTES
    fill(place.folder, {"large.jpg": large})
    place.publish()
    rows = place.images()
    packs = {row.blob for name, row in rows.items() if name != "large"}
    assert len(packs) == 1
    assert packs.pop().startswith(f"{DATASET}/images-")
    assert {row.blob.rpartition("-")[0] for row in place.annotations().values()} == {f"{DATASET}/annotations"}
    assert rows["large"].blob == f"{DATASET}/large.{rows['large'].md5[:12]}.jpg"
    assert place.content(rows["large"]) == large


def test_no_packed_file_crosses_an_extent(place: Place) -> None:
    big = noisy_jpeg(1000, 900)
    assert EXTENT_BYTES // 6 < len(big) < LOOSE_FILE_BYTES
    fill(place.folder, {f"{number}.jpg": big + bytes([number]) for number in range(8)})
    place.publish()
    rows = place.images().values()
    assert {row.blob_offset // EXTENT_BYTES for row in rows} == {0, 1}
    for row in rows:
        assert row.blob_offset // EXTENT_BYTES == (row.blob_offset + row.byte_count - 1) // EXTENT_BYTES
        assert place.content(row) == (place.folder / f"{row.name}.jpg").read_bytes()


def test_loose_makes_a_blob_of_every_file(place: Place) -> None:
    files = annotated_folder(place.folder, 3)
    long = "ä" * 121
    fill(place.folder, {f"{long}.jpg": jpeg(77)})
    place.publish(loose=True)
    rows: list[ImageRow | AnnotationRow] = [*place.images().values(), *place.annotations().values()]
    assert len({row.blob for row in rows}) == 7
    assert {row.blob_offset for row in rows} == {0}
    assert place.published() == files | {f"{long}.jpg": jpeg(77)}


def upload_in_small_packs(store: WatchedStore, contents: Sequence[bytes]) -> tuple[list[bytes], int]:
    """Upload files in packs of 2 KiB; returns what then lies where each is said to lie, and the bytes sent."""
    uploader = Uploader(store, DATASET, {}, loose=False, progress=SilentProgress(), extent_bytes=1024, pack_bytes=2048)
    files = [
        UploadFile(str(number), "jpg", len(content), hashlib.md5(content).hexdigest(), partial(bytes, content))
        for number, content in enumerate(contents)
    ]
    placements, sent = uploader.upload(files, kind="images")
    found = [
        store.inner.read(placement.blob, placement.offset, file.byte_count)
        for placement, file in zip(placements, files, strict=True)
    ]
    return found, sent


def test_files_that_are_all_alike_are_uploaded_in_packs_that_are_one(place: Place) -> None:
    contents = [jpeg(1)] * 60
    found, _ = upload_in_small_packs(place.store, contents)
    assert found == contents
    assert len(place.store.written) == len(set(place.store.written)) <= 2


def test_many_packs_hold_all_files_in_their_order(place: Place) -> None:
    contents = [jpeg(number) for number in range(60)]
    found, sent = upload_in_small_packs(place.store, contents)
    assert found == contents
    assert len(place.store.written) > 20
    assert sent == sum(info.byte_count for info in place.store.list())


def test_the_rows_say_what_the_images_are(place: Place) -> None:
    fill(place.folder, {"turned.jpg": jpeg(1, orientation=6), "grey.JPG": jpeg(2)})
    Image.new("P", (7, 5)).save(place.folder / "palette.png")
    place.publish()
    found = {name: (row.ext, row.height, row.width, row.depth, row.position) for name, row in place.images().items()}
    assert found == {"grey": ("JPG", 30, 40, 3, 0), "palette": ("png", 5, 7, 3, 1), "turned": ("jpg", 40, 30, 3, 2)}


def test_the_rows_say_what_the_annotations_are(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", "dog"), "b.jpg": jpeg(2), "c.jpg": jpeg(3)})
    fill(place.folder, {"b.json": house(checked=0)})
    place.publish()
    found = {name: (row.label_checked, row.object_count) for name, row in place.annotations().items()}
    assert found == {"a": (1, 2), "b": (0, 0)}


@pytest.mark.parametrize("name", ["a.json", "a.labelme.json"])
def test_a_labelme_annotation_is_converted(place: Place, name: str) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), name: LABELME})
    assert place.publish().left_out == ()
    annotation = parse_annotation(place.published()["a.json"])
    (label,) = annotation.labels
    assert isinstance(label, ObjectLabel)
    (box,) = label.objects
    assert isinstance(box, BoundingBox)
    assert (box.class_name, box.x1, box.y1, box.x2, box.y2) == ("person", 3.5, 4, 10, 12.25)
    assert (annotation.height, annotation.width, annotation.depth, annotation.ext) == (30, 40, 3, "jpg")


def test_a_rolabelimg_annotation_is_converted(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.xml": ROLABELIMG})
    assert place.publish().left_out == ()
    document = orjson.loads(place.published()["a.json"])
    (box,) = document["labels"][0]["object"]
    assert {key: box[key] for key in ("class", "x", "y", "w", "h", "a")} == {
        "class": "person", "x": 20.5, "y": 15, "w": 10, "h": 6, "a": 0.5,
    }  # fmt: skip


def test_a_rendered_sibling_beside_its_annotation_is_passed_over(place: Place) -> None:
    annotation = house("person")
    info = ImageInfo(DATASET, "a", "jpg", 30, 40, 3)
    rendered = {
        f"a{known.suffix}": known.render(parse_annotation(annotation), info).content for known in FORMATS.values()
    }
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": annotation, **rendered})
    assert place.publish().left_out == ()
    assert place.published() == {"a.jpg": jpeg(1), "a.json": annotation}


def test_a_folder_copied_from_a_mount_can_be_published_under_another_id(place: Place) -> None:
    copied = replace(place, folder=place.folder / "original_20190101_rgb_bbox")
    annotation = house("person")
    info = ImageInfo("original_20190101_rgb_bbox", "a", "jpg", 30, 40, 3)
    rendered = FORMATS["rolabelimg"].render(parse_annotation(annotation), info).content
    fill(copied.folder, {"a.jpg": jpeg(1), "a.json": annotation, "a.xml": rendered})
    assert copied.publish().left_out == ()


def test_a_sibling_that_says_something_else_is_left_out_with_the_remedy(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person"), "a.labelme.json": LABELME, "a.xml": b"<broken"})
    left_out = {entry.path: entry.reason for entry in place.publish().left_out}
    assert left_out.keys() == {"a.labelme.json", "a.xml"}
    assert "remove the one of the two that is out of date" in left_out["a.labelme.json"]
    assert place.published()["a.json"] == house("person")


def test_an_annotation_for_another_image_size_is_published_with_a_warning(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", width=4000)})
    (warning,) = place.publish().warnings
    assert warning.startswith("a.json is made for 4000 x 30 pixels, its image has 40 x 30")


def test_what_cannot_be_used_is_left_out_with_its_reason(place: Place) -> None:
    whole = jpeg(1)
    fill(
        place.folder,
        {
            "good.jpg": whole,
            "cut.jpg": noisy_jpeg(100, 100)[:3000],
            "cut.json": house("person"),
            "text.png": b"no image",
            "broken.jpg": whole,
            "broken.json": b'{"anno_version": "0.2.0", "labels": [{"label_type": "bbox", "object": [{"class": "a"}]}]}',
            "other.jpg": whole,
            "other.json": b'{"some": "JSON"}',
            "vague.jpg": whole,
            "vague.xml": b"<html></html>",
            "twice.jpg": whole,
            "twice.png": whole,
            "alone.json": house("person"),
            "notes.txt": b"",
            "new\nline.jpg": whole,
        },
    )
    (place.folder / "below").mkdir()
    (place.folder / "link.jpg").symlink_to("nowhere")
    (place.folder / b"\xff.jpg".decode("utf-8", "surrogateescape")).write_bytes(whole)
    (place.folder / f"{'x' * 245}.jpg").write_bytes(whole)
    left_out = {entry.path: entry.reason for entry in place.publish().left_out}
    assert place.published() == {"good.jpg": whole}
    expected = {
        "cut.jpg": "cut short or damaged",
        "cut.json": "its image is left out",
        "text.png": "no image of a known format",
        "broken.jpg": "its annotation broken.json cannot be used: labels[0].object[0].x1",
        "broken.json": "labels[0].object[0].x1",
        "other.jpg": "its annotation other.json cannot be used",
        "other.json": "neither a house annotation",
        "vague.jpg": "its annotation vague.xml cannot be used",
        "vague.xml": "neither a house annotation",
        "twice.jpg": "several images have this stem (twice.jpg, twice.png)",
        "twice.png": "several images have this stem",
        "alone.json": "there is no image of this name",
        "notes.txt": "neither an image",
        "new\\nline.jpg": "newline",
        "below/": "publish it under an id of its own",
        "link.jpg": "cannot be looked at",
        "\\udcff.jpg": "not valid UTF-8",
        f"{'x' * 245}.jpg": "245 bytes long",
    }
    assert left_out.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in left_out[path], path


def test_a_folder_with_no_usable_image_is_refused_and_nothing_is_done(place: Place) -> None:
    fill(place.folder, {"a.jpg": b"no image", "b.json": house("person")})
    with pytest.raises(PublishError, match=r"2 files were left out; a\.jpg: it is no image .*; b\.json: there is no"):
        place.publish()
    assert place.catalog.datasets() == []
    assert place.store.written == []


def test_a_folder_that_is_not_there_is_refused(place: Place) -> None:
    with pytest.raises(PublishError, match="cannot be listed"):
        place.publish()


def test_a_new_id_that_breaks_the_grammar_is_refused_before_anything_is_read(place: Place) -> None:
    with pytest.raises(NamingError, match="kitchen"):
        place.publish("kitchen")


def test_an_id_that_breaks_the_grammar_can_be_published_again_if_the_catalog_has_it(place: Place) -> None:
    annotated_folder(place.folder, 1)
    place.publish()
    row = place.catalog.dataset(DATASET)
    assert row is not None
    place.catalog.replace_dataset(replace(row, dataset_id="kitchen"), [], [])
    assert place.publish("kitchen").revision == 2
    assert place.published("kitchen") == place.published()


def test_a_new_datasets_columns_come_from_its_id_and_its_annotations(place: Place) -> None:
    dataset_id = "original_20200207_fisheye_rbbox&bbox"
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person", "dog"), "b.jpg": jpeg(2), "b.json": house("cat")})
    place.publish(dataset_id)
    row = place.catalog.dataset(dataset_id)
    assert row is not None
    assert (row.label_version, row.image_type, row.label_type) == ("1.0.0", "fisheye360", ("rbbox", "bbox"))
    assert (row.classes, row.projects, row.note, row.size) == (("person", "dog", "cat"), (), "", 2)
    assert row.store == place.store.url


def test_a_class_that_the_column_cannot_hold_is_named_in_a_warning(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person, seated", "行人")})
    (warning,) = place.publish().warnings
    assert "person, seated" in warning
    row = place.catalog.dataset(DATASET)
    assert row is not None
    assert row.classes == ("行人",)


def test_what_is_said_about_a_dataset_stays_until_something_else_is_said(place: Place) -> None:
    annotated_folder(place.folder, 1)
    place.publish(label_version="2.0.0", note="ours", image_type="rgbd", projects=("x",))
    place.publish(label_type=("bbox", "poly"), classes=("b", "a"))
    assert place.publish().changed is False
    assert place.publish(note="").revision == 3
    row = place.catalog.dataset(DATASET)
    assert row is not None
    assert (row.label_version, row.note, row.image_type, row.projects) == ("2.0.0", "", "rgbd", ("x",))
    assert (row.label_type, row.classes) == (("bbox", "poly"), ("b", "a"))


def test_each_label_version_keeps_its_annotations(place: Place) -> None:
    fill(place.folder, {"a.jpg": jpeg(1), "a.json": house("person")})
    place.publish(label_version="1.0.0")
    fill(place.folder, {"a.json": house("person with face")})
    place.publish(label_version="2.0.0")
    assert place.content(place.annotations(label_version="1.0.0")["a"]) == house("person")
    assert place.content(place.annotations(label_version="2.0.0")["a"]) == house("person with face")


def test_a_dataset_is_published_to_its_own_store_or_not_at_all(place: Place, tmp_path: Path) -> None:
    annotated_folder(place.folder, 1)
    assert dataset_store(place.catalog, DATASET) == place.store.url
    place.publish()
    other = WatchedStore(open_store((tmp_path / "other").as_uri()))
    other.create()
    with pytest.raises(PublishError, match="publish it to its own store"):
        replace(place, store=other).publish()
    with pytest.raises(NamingError):
        dataset_store(place.catalog, "kitchen")


def test_a_folder_is_published_to_azure_and_postgresql(
    tmp_path: Path, container: Container, postgresql_database: Database
) -> None:
    files = annotated_folder(tmp_path / "folder", 20) | {"large.jpg": noisy_jpeg(1500, 1000)}
    fill(tmp_path / "folder", files)
    credentials = StoreCredentials(connection_string=container.environment["AZURE_STORAGE_CONNECTION_STRING"])
    store = WatchedStore(open_store(f"{container.url}/ours", credentials=credentials))
    with open_catalog(postgresql_database.url, password=postgresql_database.password) as catalog:
        catalog.initialize(store=store.url)
        place = Place(catalog, store, tmp_path / "folder")
        place.publish()
        assert place.published() == files
        fill(place.folder, {"a_00003.json": house("dog")})
        again = place.publish()
        assert again.uploaded_bytes == len(house("dog")) + SEAL_BYTES
        assert place.published() == files | {"a_00003.json": house("dog")}
    store.close()
