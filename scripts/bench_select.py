"""The row ``select``: one image in a hundred is chosen of a million, while the catalog is mounted.

The catalog is that of `bench_million`, with what its annotations show: persons each, and every hundredth a face.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path

from bench_commands import BenchError, run_imgsyncfs
from bench_contestants import Contestant
from bench_million import BIG, IMAGES, first_stat, make_catalog
from bench_mounts import mounted_imgsyncfs, settle
from bench_readers import Job, run_readers
from bench_scenes import READ_SECONDS
from bench_stage import Stage

from imgsyncfs.catalog.listing import load_listing
from imgsyncfs.catalog.selections import MARK
from imgsyncfs.catalog.worker import CatalogReader

SELECTION = "faces"
ONE_IN = 100
CHOSEN = IMAGES // ONE_IN
ENTRIES_PER_IMAGE = 4

FIGURES = ("select_seconds", "select_shown_seconds", "select_command", "select_listing")

_PERSONS = """
    INSERT INTO annotation_labels (dataset_id, label_version, name, place, label_name, label_value, object_count)
    SELECT dataset_id, label_version, name, 0, '', 'person', 5 FROM annotations
"""
_FACES = """
    INSERT INTO annotation_labels (dataset_id, label_version, name, place, label_name, label_value, object_count)
    SELECT said.dataset_id, said.label_version, said.name, 1, '', 'face', 1
    FROM annotations said JOIN images image ON image.dataset_id = said.dataset_id AND image.name = said.name
    WHERE image.position % ? = 0
"""
# The small datasets have no images, and so no classes.
_CLASSES = """
    INSERT INTO dataset_labels (dataset_id, label_version, object_classes, label_values)
    SELECT dataset_id, label_version, CASE WHEN size > 0 THEN '["face","person"]' ELSE '[]' END, '{}'
    FROM datasets
"""


def play_select(stage: Stage, contestant: Contestant) -> None:
    """A selection is made by its command, and the images in it are looked up, as a mount does it and in a mount.

    The dataset's own listing is there already. What the catalog takes for both is one figure. The other is what passes
    until a mount that nobody has looked into further shows the selection: of the hidden directories, it makes that of
    the selections.
    """
    with tempfile.TemporaryDirectory(prefix="select-", dir=stage.workload.folder) as folder:
        catalog, cache = Path(folder) / "catalog.db", Path(folder) / "cache"
        make_catalog(catalog, store=f"file://{folder}/store")
        add_labels(catalog)
        with mounted_imgsyncfs(stage.workload, cache, catalog=str(catalog)) as mounted:
            first_stat(mounted)
            settle(mounted)
            variables = stage.workload.variables(cache=cache, catalog=str(catalog))
            begin = time.monotonic()
            run_imgsyncfs(variables, "select", SELECTION, "--where", "class=face")
            command = time.monotonic() - begin
            reading = run_readers([Job("list", [f"{mounted.path}/.selections/{SELECTION}"])], seconds=READ_SECONDS)
        if reading.items != CHOSEN * ENTRIES_PER_IMAGE:
            raise BenchError(f"the selection of {BIG} shows {reading.items} entries and not those of {CHOSEN} images")
        listing = _list(catalog, next(path for path in cache.rglob("listings") if path.is_dir()))
    for figure, seconds in {
        "select_seconds": command + listing,
        "select_command": command,
        "select_listing": listing,
        "select_shown_seconds": command + reading.seconds,
    }.items():
        stage.results.add(figure, contestant, seconds)


def _list(catalog: Path, folder: Path) -> float:
    """Make the selection's listing from that of its dataset, as a mount's process does; returns the seconds."""
    settings = {"url": f"sqlite://{catalog}", "password": None, "timeout": READ_SECONDS}
    question = {"question": "listing", "dataset": MARK + SELECTION, "folder": str(folder)}
    begin = time.monotonic()
    answer, _ = CatalogReader(settings).handle(question, lambda *_: None)
    seconds = time.monotonic() - begin
    if answer["path"] is None or len(load_listing(Path(answer["path"]))) != CHOSEN:
        raise BenchError(f"the listing of the selection of {BIG} has not {CHOSEN} images")
    return seconds


def add_labels(catalog: Path) -> None:
    """Says in a catalog of `bench_million.make_catalog` what its annotations show."""
    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_PERSONS)
        connection.execute(_FACES, (ONE_IN,))
        connection.execute(_CLASSES)
