"""A catalog that is published to within this process, and beside it what its datasets must hold: plain dictionaries.

Models of a library and of a mount (`tests/soak/test_library_model.py`, `tests/soak/test_mount_model.py`) compare what
they read with it. Contents are pieces of one random text, so that no two places hold the same bytes, and a publish
takes a few milliseconds: no image is decoded.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from imgsyncfs.blob_layout import LOOSE_FILE_BYTES, MEBIBYTE, cut_into_extents, extent_digests
from imgsyncfs.catalog import Catalog, open_catalog
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.tools.publish.packing import plan_packs, write_pack
from support.publishing import house

DATASETS = ("original_20260101_rgb_bbox", "original_20260102_rgb_bbox", "original_20260103_rgb_bbox")
STEMS = tuple(f"img_{number:05d}" for number in range(8))

SIZES = (0, 1, 511, 4096, 4097, 32_767, 32_768, 70_001, LOOSE_FILE_BYTES - 1, LOOSE_FILE_BYTES, 4 * MEBIBYTE)
"""Around those at which something changes: an entry in the cache's database or in a file, in a pack or loose."""

LARGE_BYTES = 8 * MEBIBYTE + 4097
"""A blob that is fetched in three extents."""

BROKEN_ANNOTATION = b'{"anno_version": "0.2.0", "labels": ['

TIME = 1_700_000_000
"""Before the first publish, in Unix seconds."""

BLOB_FAULTS = ("gone", "altered", "shorter")


@dataclass(frozen=True)
class ModelFile:
    """A file as a dataset must show it.

    Attributes:
        content: its bytes.
        modified_at: Unix seconds.
        blob: the name of the blob that it lies in.
        offset: where it begins there, in bytes.
    """

    content: bytes
    modified_at: int
    blob: str
    offset: int

    @property
    def md5(self) -> str:
        """Its digest, as the catalog has it."""
        return _md5(self.content)


Files = Mapping[str, ModelFile]
"""The files of one revision of a dataset, by their names."""


@dataclass(frozen=True)
class Revision:
    """One revision of a dataset.

    Attributes:
        dataset: its id.
        number: counts all publishes of the catalog.
        key: that of its listing.
        files: what it must show.
    """

    dataset: str
    number: int
    key: str
    files: Files


@dataclass
class ModelledCatalog:
    """A catalog, its store, and what it must show.

    Attributes:
        folder: holds both; ``spare`` in it is where what was taken away lies.
        catalog: the catalog, open for publishing.
        newest: each dataset's newest revision, by its id.
        history: every revision that there was, by its listing's key.
        blob_faults: what is wrong with blobs of the store, by their names.
        is_store_away: whether the store's folder is somewhere else.
        is_catalog_away: likewise, the database.
    """

    folder: Path
    catalog: Catalog
    newest: dict[str, Revision] = field(default_factory=dict)
    history: dict[str, Revision] = field(default_factory=dict)
    blob_faults: dict[str, str] = field(default_factory=dict)
    is_store_away: bool = False
    is_catalog_away: bool = False
    _times: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """When each content was first published under a name: a mount keeps a file's time as long as its content."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        """The catalog's URL."""
        return f"sqlite://{self.folder / 'catalog.db'}"

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.folder / "store"

    def publish(self, dataset: str, files: Mapping[str, bytes], *, packed: bool) -> Revision:
        """Make a dataset hold exactly these files; those that stay as they are keep their blobs.

        Args:
            dataset: its id.
            files: name to content.
            packed: whether new small files go into packs.
        """
        number = next(self._numbers)
        before = self.newest[dataset].files if dataset in self.newest else {}
        kept = {name: file for name, file in before.items() if files.get(name) == file.content}
        fresh = {name: content for name, content in files.items() if name not in kept}
        small = [name for name, content in fresh.items() if packed and len(content) < LOOSE_FILE_BYTES]
        placed = self._write_packs(dataset, {name: fresh[name] for name in small})
        for name in fresh.keys() - set(small):
            blob = f"{dataset}/{name}-{_md5(fresh[name])}"
            self._write(blob, fresh[name])
            placed[name] = (blob, 0)
        made = {
            name: ModelFile(
                content, self._times.setdefault((dataset, name, _md5(content)), TIME + number), *placed[name]
            )
            for name, content in fresh.items()
        }
        return self._put(dataset, {**kept, **made}, number)

    def remove(self, dataset: str) -> None:
        """Remove a dataset from the catalog, as an administrator does."""
        with closing(sqlite3.connect(self.folder / "catalog.db")) as connection, connection:
            for table in ("images", "annotations", "extent_digests", "datasets"):
                connection.execute(f"DELETE FROM {table} WHERE dataset_id = ?", (dataset,))
        self.newest.pop(dataset, None)
        next(self._numbers)

    def cut_store(self) -> None:
        """Take the store away."""
        self.store.rename(self.folder / "spare" / "store")
        self.is_store_away = True

    def bring_store_back(self) -> None:
        """Bring it back."""
        (self.folder / "spare" / "store").rename(self.store)
        self.is_store_away = False

    def cut_catalog(self) -> None:
        """Take the database away."""
        (self.folder / "catalog.db").rename(self.folder / "spare" / "catalog.db")
        self.is_catalog_away = True

    def bring_catalog_back(self) -> None:
        """Bring it back."""
        (self.folder / "spare" / "catalog.db").rename(self.folder / "catalog.db")
        self.is_catalog_away = False

    def damage_blob(self, blob: str, fault: str) -> None:
        """Do to a blob what publishing never does; see `BLOB_FAULTS`. It can be mended."""
        path = self.store / blob
        content = path.read_bytes()
        spare = self.folder / "spare" / hashlib.sha256(blob.encode()).hexdigest()
        path.rename(spare)
        if fault == "altered":
            path.write_bytes(bytes(byte ^ 0x20 for byte in content[:64]) + content[64:])
        elif fault == "shorter":
            path.write_bytes(content[: len(content) // 2])
        self.blob_faults[blob] = fault

    def mend_blob(self, blob: str) -> None:
        """Make a blob what it was."""
        (self.folder / "spare" / hashlib.sha256(blob.encode()).hexdigest()).replace(self.store / blob)
        del self.blob_faults[blob]

    def _put(self, dataset: str, files: Files, number: int) -> Revision:
        images = {name: file for name, file in files.items() if not name.endswith(".json")}
        annotations = {name: file for name, file in files.items() if name.endswith(".json")}
        row = DatasetRow(
            dataset, "1.0.0", "fisheye360", ("person",), ("roadside",), ("bbox",), len(images), "", self.store.as_uri(),
            0, TIME + number,
        )  # fmt: skip
        self.catalog.replace_dataset(
            row,
            [
                ImageRow(
                    name.removesuffix(".jpg"), "jpg", 30, 40, 3, len(file.content), file.md5, file.blob, file.offset,
                    place, "", file.modified_at,
                )
                for place, (name, file) in enumerate(images.items())
            ],
            [
                AnnotationRow(
                    name.removesuffix(".json"), 1, 1, len(file.content), file.md5, file.blob, file.offset, "",
                    file.modified_at,
                )
                for name, file in annotations.items()
            ],
            extent_digests={file.md5: _digests(file.content) for file in images.values() if _digests(file.content)},
        )  # fmt: skip
        row_now = self.catalog.dataset(dataset)
        assert row_now is not None
        key = row_now.listing_key(self.catalog.identity())
        revision = self.history.get(key) or Revision(dataset, number, key, dict(files))
        self.newest[dataset] = self.history[key] = revision
        return revision

    def _write_packs(self, dataset: str, files: Mapping[str, bytes]) -> dict[str, tuple[str, int]]:
        names = list(files)
        placed = {}
        for pack in plan_packs([(len(files[name]), _md5(files[name])) for name in names], prefix=f"{dataset}/images"):
            path = self.store / pack.blob
            if not path.exists() and pack.blob not in self.blob_faults:
                path.parent.mkdir(exist_ok=True)
                with path.open("xb") as target:
                    write_pack(pack, lambda index: files[names[index]], target)
            placed.update({names[each.index]: (pack.blob, each.offset) for each in pack.members})
        return placed

    def _write(self, blob: str, content: bytes) -> None:
        path = self.store / blob
        if path.exists() or blob in self.blob_faults:
            return
        path.parent.mkdir(exist_ok=True)
        kept = self.folder.parent / "contents" / _md5(content)
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(content)
        os.link(kept, path)


def open_modelled_catalog(folder: Path) -> ModelledCatalog:
    """An empty catalog with an empty store, in a folder that is made; to be closed with its `catalog`."""
    (folder / "store").mkdir(parents=True)
    (folder / "spare").mkdir()
    catalog = open_catalog(f"sqlite://{folder / 'catalog.db'}", create=True)
    catalog.initialize(store=(folder / "store").as_uri())
    return ModelledCatalog(folder, catalog)


@cache
def image_content(variant: int) -> bytes:
    """The bytes of an "image"; each of 256 variants has other ones, and one in 32 is large."""
    size = LARGE_BYTES if variant % 32 == 31 else SIZES[variant % len(SIZES)]
    return _text()[variant * 1009 : variant * 1009 + size]


@cache
def annotation_content(variant: int) -> bytes:
    """The bytes of an annotation; one in 16 does not parse."""
    if variant % 16 == 15:
        return BROKEN_ANNOTATION + b" " * variant
    return house(*["person"] * (variant % 5), x1=variant + 0.5)


@cache
def _text() -> bytes:
    return random.Random(18).randbytes(LARGE_BYTES + 256 * 1009)


@cache
def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@cache
def _digests(content: bytes) -> str:
    return extent_digests(cut_into_extents(content), len(content))
