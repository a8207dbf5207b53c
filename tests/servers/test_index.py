"""Indexing: cataloguing blobs that lie in a store already, in place."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from support.publishing import DATASET, Place, WatchedStore, annotated_folder, fill, house, jpeg, noisy_jpeg, open_place
from support.services import Container

from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.errors import NamingError, PublishError, StoreUnreachable
from imgsyncfs.pictures.images import HEADER_BYTES
from imgsyncfs.stores.credentials import StoreCredentials
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.container import index
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.publish.publication import DatasetOptions, PublishSummary


@dataclass
class Shelf(Place):
    """A store that is indexed, and a catalog whose own store is another one; `folder` is where the local blobs lie."""

    def index(
        self,
        dataset_id: str = DATASET,
        *,
        journal: Journal | None = None,
        options: DatasetOptions = DatasetOptions(),  # noqa: B008 - frozen
    ) -> PublishSummary:
        return index(self.store, catalog=self.catalog, dataset_id=dataset_id, journal=journal, options=options)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    folder = tmp_path / "blobs"
    folder.mkdir()
    with open_place(tmp_path) as place:
        yield Shelf(place.catalog, WatchedStore(open_store(folder.as_uri())), folder)


def test_blobs_are_catalogued_where_they_lie(shelf: Shelf) -> None:
    files = annotated_folder(shelf.folder, 20)
    summary = shelf.index()
    assert (summary.images, summary.annotations, summary.uploaded_bytes, summary.revision) == (20, 20, 0, 1)
    assert (summary.left_out, summary.warnings) == ((), ())
    assert shelf.published() == files
    rows: list[ImageRow | AnnotationRow] = [*shelf.images().values(), *shelf.annotations().values()]
    assert {row.blob for row in rows} == files.keys()
    for row in rows:
        assert row.md5 == hashlib.md5(files[row.blob]).hexdigest()
        assert row.etag == shelf.store.describe(row.blob).etag
    assert shelf.store.written == []
    dataset = shelf.catalog.dataset(DATASET)
    assert dataset is not None
    assert (dataset.store, dataset.classes, dataset.size) == (shelf.store.url, ("person",), 20)


def test_the_size_of_an_image_is_that_after_exif_rotation(shelf: Shelf) -> None:
    fill(shelf.folder, {"a.jpg": jpeg(1, orientation=8)})
    shelf.index()
    row = shelf.images()["a"]
    assert (row.height, row.width, row.depth) == (40, 30, 3)


def test_an_image_whose_header_comes_late_is_read_whole(shelf: Shelf) -> None:
    target = io.BytesIO()
    Image.effect_noise((700, 600), 90).save(target, "TIFF")
    # Pillow writes the directory of a TIFF first; behind the picture it is just as good.
    Image.open(io.BytesIO(target.getvalue())).save(shelf.folder / "a.tif", compression="tiff_lzw")
    assert (shelf.folder / "a.tif").stat().st_size > HEADER_BYTES
    shelf.index()
    row = shelf.images()["a"]
    assert (row.height, row.width, row.depth) == (600, 700, 1)


def test_the_digest_of_a_large_image_in_a_local_store_is_computed(shelf: Shelf) -> None:
    large = noisy_jpeg(1500, 1000)
    fill(shelf.folder, {"a.jpg": large})
    shelf.index()
    assert len(large) > HEADER_BYTES
    assert shelf.images()["a"].md5 == hashlib.md5(large).hexdigest()


def test_a_touched_blob_gets_a_new_etag_and_keeps_its_time(shelf: Shelf) -> None:
    annotated_folder(shelf.folder, 1)
    shelf.index()
    before = shelf.images()["a_00000"]
    os.utime(shelf.folder / "a_00000.jpg", (1_000_000, 1_000_000))
    shelf.index()
    after = shelf.images()["a_00000"]
    assert after.etag != before.etag
    assert after.modified_at == before.modified_at


def test_what_cannot_be_used_is_left_out_with_its_reason(shelf: Shelf) -> None:
    (shelf.folder / "below").mkdir()
    fill(shelf.folder / "below", {"x.jpg": jpeg(1), "y.jpg": jpeg(2)})
    fill(
        shelf.folder,
        {
            "good.jpg": jpeg(1),
            "good.labelme.json": b'{"version": "5.0", "shapes": []}',
            "good.xml": b"<annotation/>",
            "labelme.jpg": jpeg(2),
            "labelme.json": b'{"version": "5.0.1", "flags": {}, "shapes": [], "imagePath": "a", "imageData": null}',
            "broken.jpg": jpeg(3),
            "broken.json": b'{"anno_version": "0.2.0"}',
            "text.jpg": b"no image",
            "text.json": house("person"),
            "notes.txt": b"",
        },
    )
    left_out = {entry.path: entry.reason for entry in shelf.index().left_out}
    assert shelf.published() == {"good.jpg": jpeg(1), "labelme.jpg": jpeg(2)}
    expected = {
        "below/": "the 2 blobs below it",
        "good.labelme.json": "download the folder and publish it",
        "good.xml": "download the folder and publish it",
        "labelme.json": "download the folder and publish it",
        "broken.jpg": "its annotation broken.json cannot be used: labels",
        "broken.json": "labels",
        "text.jpg": "no image of a known format",
        "text.json": "its image is left out",
        "notes.txt": "neither an image",
    }
    assert left_out.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in left_out[path], path


def test_an_empty_store_is_refused(shelf: Shelf) -> None:
    with pytest.raises(PublishError, match="it would have no image"):
        shelf.index()
    assert shelf.catalog.datasets() == []


def test_a_new_id_that_breaks_the_grammar_is_refused_before_anything_is_asked(shelf: Shelf) -> None:
    shelf.store.on_list = lambda: pytest.fail("the store was listed")
    with pytest.raises(NamingError):
        shelf.index("kitchen")


def test_a_store_that_has_not_changed_is_said_to_be_so(shelf: Shelf) -> None:
    annotated_folder(shelf.folder, 3)
    shelf.index()
    again = shelf.index()
    assert (again.changed, again.revision) == (False, 1)


def test_a_replaced_blob_gets_a_new_etag_and_a_later_time(shelf: Shelf) -> None:
    files = annotated_folder(shelf.folder, 3)
    shelf.index()
    before = shelf.annotations()
    other = files["a_00001.json"].replace(b"person", b"dragon")
    fill(shelf.folder, {"a_00001.json": other})
    assert shelf.index().revision == 2
    after = shelf.annotations()
    assert {name for name in after if after[name] != before[name]} == {"a_00001"}
    assert after["a_00001"].etag != before["a_00001"].etag
    assert after["a_00001"].modified_at > before["a_00001"].modified_at
    assert shelf.published() == files | {"a_00001.json": other}


def test_a_dataset_that_lay_in_another_store_is_indexed_with_a_warning(shelf: Shelf, tmp_path: Path) -> None:
    annotated_folder(tmp_path / "folder", 2)
    with open_place(tmp_path) as place:
        place.publish()
    annotated_folder(shelf.folder, 3)
    (warning,) = shelf.index().warnings
    assert (tmp_path / "store").as_uri() in warning
    dataset = shelf.catalog.dataset(DATASET)
    assert dataset is not None
    assert (dataset.store, dataset.revision, dataset.size) == (shelf.store.url, 2, 3)


def test_an_interrupted_index_goes_on_where_it_stopped(shelf: Shelf, tmp_path: Path) -> None:
    files = annotated_folder(shelf.folder, 60)

    def stop_at_read(number: int) -> None:
        if number == 80:
            raise StoreUnreachable("The store is away.")

    shelf.store.before_read = stop_at_read
    with Journal(tmp_path / "journal") as journal, pytest.raises(StoreUnreachable):
        shelf.index(journal=journal)
    assert shelf.catalog.datasets() == []
    finished = len(shelf.store.read_bytes)
    shelf.store.read_bytes.clear()
    shelf.store.before_read = lambda _: None
    with Journal(tmp_path / "journal") as journal:
        assert shelf.index(journal=journal).revision == 1
    assert len(shelf.store.read_bytes) < len(files) - 40
    assert finished + len(shelf.store.read_bytes) <= len(files) + 40
    assert shelf.published() == files


def test_a_container_in_azure_is_catalogued_without_reading_large_images(container: Container, tmp_path: Path) -> None:
    files = annotated_folder(tmp_path / "source", 12) | {"large.jpg": noisy_jpeg(1500, 1000)}
    with container.azurite.client() as client:
        for name, content in files.items():
            client.get_blob_client(container.name, f"photos/{name}").upload_blob(content)
        client.get_blob_client(container.name, "photos/below/x.jpg").upload_blob(jpeg(1))
        client.get_blob_client(container.name, "elsewhere.jpg").upload_blob(jpeg(1))
    credentials = StoreCredentials(connection_string=container.environment["AZURE_STORAGE_CONNECTION_STRING"])
    store = WatchedStore(open_store(f"{container.url}/photos", credentials=credentials))
    with open_place(tmp_path) as place:
        shelf = Shelf(place.catalog, store, tmp_path / "source")
        summary = shelf.index()
        assert [entry.path for entry in summary.left_out] == ["below/"]
        assert sum(count for blob, count in store.read_bytes if blob == "large.jpg") == HEADER_BYTES
        assert shelf.published() == files
        assert all(row.etag for row in shelf.images().values())
        assert shelf.index().changed is False
    store.close()
