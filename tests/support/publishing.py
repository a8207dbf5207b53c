"""What the tests of publishing and indexing share: folders of real images, a catalog, a store that is watched."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.stores.contract import BlobInfo, Store
from imgsyncfs.stores.opening import open_store
from imgsyncfs.tools.publish.folder import publish
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.tools.publish.publication import DatasetOptions, PublishSummary

DATASET = "original_20200207_rgb_bbox"


def jpeg(colour: int, *, width: int = 40, height: int = 30, orientation: int = 1) -> bytes:
    """A small JPEG; another colour gives other bytes."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    target = io.BytesIO()
    Image.new("RGB", (width, height), (colour % 256, colour // 256 % 256, 128)).save(target, "JPEG", exif=exif)
    return target.getvalue()


def noisy_jpeg(width: int, height: int) -> bytes:
    """A JPEG of about one byte a pixel."""
    target = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(target, "JPEG", quality=90)
    return target.getvalue()


def house(*classes: str, x1: float = 1.5, width: int = 40, height: int = 30, checked: int = 1) -> bytes:
    """A house annotation with one upright box for each class."""
    boxes = [{"class": name, "x1": x1, "y1": 2, "x2": 20.25, "y2": 21} for name in classes]
    document = {"anno_version": "0.2.0", "label_checked": checked, "height": height, "width": width, "depth": 3}
    return orjson.dumps({**document, "ext": "jpg", "labels": [{"label_type": "bbox", "object": boxes}]})


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def annotated_folder(folder: Path, count: int) -> dict[str, bytes]:
    """Make a folder of images with house annotations; returns its files."""
    files = {}
    for number in range(count):
        files[f"a_{number:05d}.jpg"] = jpeg(number)
        files[f"a_{number:05d}.json"] = house("person", x1=number + 0.5)
    fill(folder, files)
    return files


@dataclass
class WatchedStore(Store):
    """A real store whose calls are counted, and may be stopped at a chosen one.

    Attributes:
        inner: the store.
        before_write: called with the number of the write, from 1 on, before it.
        before_read: called with the number of the read, from 1 on, before it.
        on_list: called before each listing.
    """

    inner: Store
    before_write: Callable[[int], None] = lambda _: None
    before_read: Callable[[int], None] = lambda _: None
    on_list: Callable[[], None] = lambda: None
    written: list[str] = field(default_factory=list)
    read_bytes: list[tuple[str, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def has_range_digests(self) -> bool:
        return self.inner.has_range_digests

    @property
    def is_cheap_to_read(self) -> bool:
        return self.inner.is_cheap_to_read

    def check(self) -> None:
        self.inner.check()

    def check_writable(self, folder: str) -> None:
        self.inner.check_writable(folder)

    def create(self) -> None:
        self.inner.create()

    def read(self, blob: str, offset: int, length: int, *, etag: str = "") -> bytes:
        with self._lock:
            self.read_bytes.append((blob, 0))
            number = len(self.read_bytes)
        self.before_read(number)
        content = self.inner.read(blob, offset, length, etag=etag)
        with self._lock:
            self.read_bytes.append((blob, len(content)))
            self.read_bytes.remove((blob, 0))
        return content

    def read_into(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> int:
        content = self.read(blob, offset, len(buffer), etag=etag)
        buffer[: len(content)] = content
        return len(content)

    def write(self, blob: str, content: bytes | Path, *, md5: str = "") -> BlobInfo:
        with self._lock:
            self.written.append(blob)
            number = len(self.written)
        self.before_write(number)
        return self.inner.write(blob, content, md5=md5)

    def describe(self, blob: str) -> BlobInfo:
        return self.inner.describe(blob)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        self.on_list()
        return self.inner.list(prefix)

    def close(self) -> None:
        self.inner.close()


@dataclass
class Place:
    """A catalog, a store, and a folder to publish."""

    catalog: Catalog
    store: WatchedStore
    folder: Path

    def publish(
        self,
        dataset_id: str = DATASET,
        *,
        loose: bool = False,
        strict: bool = False,
        journal: Journal | None = None,
        **said: Any,
    ) -> PublishSummary:
        return publish(
            self.folder,
            catalog=self.catalog,
            store=self.store,
            dataset_id=dataset_id,
            options=DatasetOptions(**said),
            loose=loose,
            strict=strict,
            journal=journal,
        )

    def images(self, dataset_id: str = DATASET) -> dict[str, ImageRow]:
        return {row.name: row for row in self.catalog.images(dataset_id)}

    def annotations(self, dataset_id: str = DATASET, label_version: str = "1.0.0") -> dict[str, AnnotationRow]:
        return {row.name: row for row in self.catalog.annotations(dataset_id, label_version)}

    def content(self, row: ImageRow | AnnotationRow) -> bytes:
        return self.store.inner.read(row.blob, row.blob_offset, row.byte_count)

    def published(self, dataset_id: str = DATASET) -> dict[str, bytes]:
        """What the dataset holds, as files."""
        images = {f"{row.name}.{row.ext}": self.content(row) for row in self.images(dataset_id).values()}
        annotations = {f"{row.name}.json": self.content(row) for row in self.annotations(dataset_id).values()}
        return images | annotations


@contextmanager
def published_place(folder: Path, count: int) -> Iterator[Place]:
    """A place as `open_place` makes it, with one published dataset of so many annotated images."""
    with open_place(folder) as place:
        annotated_folder(place.folder, count)
        place.publish()
        yield place


@contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """A place whose catalog and store lie in a folder; they are made there if they are missing."""
    store = WatchedStore(open_store((folder / "store").as_uri()))
    store.create()
    try:
        with open_catalog(f"sqlite://{folder / 'catalog.db'}", create=True) as catalog:
            catalog.initialize(store=store.url)
            yield Place(catalog, store, folder / "folder")
    finally:
        store.close()
