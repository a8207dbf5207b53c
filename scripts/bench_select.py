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

SELECTION = "faces"
ONE_IN = 100
CHOSEN = IMAGES // ONE_IN
ENTRIES_PER_IMAGE = 4

FIGURES = ("select", "select_command", "select_listing")

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
# The small datasets say that they have faces, too: none of them can be left out without asking.
_CLASSES = """
    INSERT INTO dataset_labels (dataset_id, label_version, object_classes, label_values)
    SELECT dataset_id, label_version, '["face","person"]', '{}' FROM datasets
"""


def play_select(stage: Stage, contestant: Contestant) -> None:
    """A selection is made by its command, and listed in a mount that has shown the dataset before."""
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
            made = time.monotonic()
            reading = run_readers([Job("list", [f"{mounted.path}/.selections/{SELECTION}"])], seconds=READ_SECONDS)
        if reading.items != CHOSEN * ENTRIES_PER_IMAGE:
            raise BenchError(f"the selection of {BIG} shows {reading.items} entries and not those of {CHOSEN} images")
        for figure, seconds in {
            "select": made - begin + reading.seconds,
            "select_command": made - begin,
            "select_listing": reading.seconds,
        }.items():
            stage.results.add(figure, contestant, seconds)


def add_labels(catalog: Path) -> None:
    """Says in a catalog of `bench_million.make_catalog` what its annotations show."""
    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_PERSONS)
        connection.execute(_FACES, (ONE_IN,))
        connection.execute(_CLASSES)
