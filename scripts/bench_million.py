"""The row ``million``: a catalog of 10,000 datasets, one of which has a million images, all with annotations.

No image is read, so none is made: the rows alone are there, written by SQLite's own means in the form that the
catalog's code gives them.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from bench_commands import BenchError
from bench_contestants import Contestant
from bench_mounts import Mounted, family, mounted_imgsyncfs
from bench_readers import Job, run_readers
from bench_scenes import READ_SECONDS
from bench_stage import Stage
from bench_workload import Workload

from imgsyncfs.catalog import AnnotationRow, DatasetRow, ImageRow, open_catalog
from imgsyncfs.catalog.row_values import dataset_values
from imgsyncfs.catalog.schema import ANNOTATION_COLUMNS, DATASET_COLUMNS, IMAGE_COLUMNS

DATASETS = 10_000
IMAGES = 1_000_000
ENTRIES = 4 * IMAGES

BIG = "opensource_million_rgb_bbox"
LABEL_VERSION = "1.0.0"
PACK_BYTES = 64 << 20
IMAGE_BYTES = 100_000
ANNOTATION_BYTES = 800
MODIFIED_AT = 1_750_000_000
MEGABYTE = 1e6

FIGURES = (
    "mount_seconds",
    "listing_seconds",
    "readdir_seconds",
    "mount_again_seconds",
    "saved_listing_seconds",
    "saved_readdir_seconds",
    "memory_megabytes",
    "anonymous_megabytes",
    "bytes_per_image",
)


def play_million(stage: Stage, contestant: Contestant) -> None:
    """A mount of that catalog comes up, and the big dataset is looked into; then once more, from the saved listing."""

    def note(figure: str, value: float) -> None:
        stage.results.add(figure, contestant, value)

    with tempfile.TemporaryDirectory(prefix="million-", dir=stage.workload.folder) as folder:
        catalog, cache = Path(folder) / "catalog.db", Path(folder) / "cache"
        make_catalog(catalog, store=f"file://{folder}/store")
        with _timed_mount(stage.workload, catalog, cache, lambda seconds: note("mount_seconds", seconds)) as mounted:
            note("listing_seconds", first_stat(mounted))
            note("readdir_seconds", _readdir(mounted))
        with _timed_mount(
            stage.workload, catalog, cache, lambda seconds: note("mount_again_seconds", seconds)
        ) as mounted:
            note("saved_listing_seconds", first_stat(mounted))
            note("saved_readdir_seconds", _readdir(mounted))
            note("memory_megabytes", _memory(mounted, "Pss"))
            note("anonymous_megabytes", _memory(mounted, "Pss_Anon"))
        saved = [path for path in cache.rglob("*") if path.is_file() and "listings" in path.parts]
        if not saved:
            raise BenchError(f"no listing was saved below {cache}")
        note("bytes_per_image", sum(path.stat().st_size for path in saved) / IMAGES)


def make_catalog(path: Path, *, store: str) -> None:
    """Makes the catalog, an SQLite file.

    Args:
        path: of the file.
        store: URL that the datasets name; the folder is made, and stays empty.
    """
    Path(store.removeprefix("file://")).mkdir()
    with open_catalog(f"sqlite://{path}", create=True) as catalog:
        catalog.initialize(store=store)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        _insert(connection, "datasets", {}, DATASET_COLUMNS, (dataset_values(row) for row in _datasets(store)))
        key = {"dataset_id": BIG}
        values = attrgetter(*IMAGE_COLUMNS)
        _insert(connection, "images", key, IMAGE_COLUMNS, (values(_image(number)) for number in range(IMAGES)))
        key["label_version"] = LABEL_VERSION
        values = attrgetter(*ANNOTATION_COLUMNS)
        _insert(
            connection,
            "annotations",
            key,
            ANNOTATION_COLUMNS,
            (values(_annotation(number)) for number in range(IMAGES)),
        )


def _insert(
    connection: sqlite3.Connection,
    table: str,
    key: dict[str, str],
    columns: Iterable[str],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    names = [*key, *columns]
    given = tuple(key.values())
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    connection.executemany(statement, (given + row for row in rows))


def _datasets(store: str) -> Iterable[DatasetRow]:
    for number in range(DATASETS):
        dataset_id = BIG if number == 0 else f"opensource_set{number:05d}_rgb_bbox"
        yield DatasetRow(
            dataset_id=dataset_id,
            label_version=LABEL_VERSION,
            image_type="rgb",
            classes=("person", "face"),
            projects=("bench",),
            label_type=("bbox",),
            size=IMAGES if number == 0 else 0,
            note="",
            store=store,
            revision=1,
            updated_at=MODIFIED_AT,
        )


def _image(number: int) -> ImageRow:
    in_a_pack = PACK_BYTES // IMAGE_BYTES
    return ImageRow(
        name=_stem(number),
        ext="jpg",
        height=320,
        width=384,
        depth=3,
        byte_count=IMAGE_BYTES + number % 1000,
        md5=f"{number * 0x9E3779B97F4A7C15 % (1 << 128):032x}",
        blob=f"packs/{number // in_a_pack:032x}.pack",
        blob_offset=number % in_a_pack * IMAGE_BYTES,
        position=number,
        etag="",
        modified_at=MODIFIED_AT,
    )


def _annotation(number: int) -> AnnotationRow:
    in_a_pack = PACK_BYTES // ANNOTATION_BYTES
    return AnnotationRow(
        name=_stem(number),
        label_checked=1,
        object_count=5,
        byte_count=ANNOTATION_BYTES + number % 100,
        md5=f"{number * 0xC2B2AE3D27D4EB4F % (1 << 128):032x}",
        blob=f"packs/a{number // in_a_pack:031x}.pack",
        blob_offset=number % in_a_pack * ANNOTATION_BYTES,
        etag="",
        modified_at=MODIFIED_AT,
    )


def _stem(number: int) -> str:
    return f"{BIG}_{number:07d}"


@contextlib.contextmanager
def _timed_mount(workload: Workload, catalog: Path, cache: Path, note: Callable[[float], None]) -> Iterator[Mounted]:
    """Mount, and note how long it takes from the command to a listing of the mount's root."""
    begin = time.monotonic()
    with mounted_imgsyncfs(workload, cache, catalog=str(catalog)) as mounted:
        reading = run_readers([Job("list", [str(mounted.path)])], seconds=READ_SECONDS)
        note(time.monotonic() - begin)
        if reading.items < DATASETS:
            raise BenchError(f"the mount shows {reading.items} datasets and not {DATASETS}")
        yield mounted


def first_stat(mounted: Mounted) -> float:
    """Looks into the big dataset for the first time since the mount; returns the seconds that it takes."""
    path = f"{mounted.path}/{BIG}/{_stem(IMAGES // 2)}.jpg"
    return run_readers([Job("stat", [path])], seconds=READ_SECONDS).seconds


def _readdir(mounted: Mounted) -> float:
    reading = run_readers([Job("list", [f"{mounted.path}/{BIG}"])], seconds=READ_SECONDS)
    if reading.items != ENTRIES:
        raise BenchError(f"the big dataset shows {reading.items} entries and not {ENTRIES}")
    return reading.seconds


def _memory(mounted: Mounted, field: str) -> float:
    """What all processes behind a mount take, in megabytes; a page that several share counts once.

    Args:
        mounted: the mount.
        field: of the kernel's summary: ``Pss`` for all, ``Pss_Anon`` for what is in no file.
    """
    kilobytes = 0
    for process_id in family(mounted.process_id or 0):
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return kilobytes * 1024 / MEGABYTE
