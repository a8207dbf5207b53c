"""The places that the benchmark's images are read from, beside the files themselves; how each is filled.

================== =============================== =============================== ==================
place              images of 100 kB, annotations   small images, to list           read by
================== =============================== =============================== ==================
Azurite, loose     blobs; catalogued in place      blobs                           ours, the others
Azurite, packed    published in packs              published, without annotations  ours
a local store      published in packs              --                              ours
a JuiceFS volume   copied in                       copied in                       JuiceFS
================== =============================== =============================== ==================
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from bench_commands import COMMAND_SECONDS, installed, run, run_imgsyncfs
from bench_mounts import mounted_juicefs
from bench_servers import Azurite
from bench_workload import (
    BENCH,
    LIST,
    LIST_ID,
    LOOSE,
    LOOSE_ID,
    PACKED,
    PACKED_ID,
    Workload,
    add_siblings,
)

Place = Literal["azurite", "local", "juicefs", "files"]

THREADS = 12
UPLOADS = 4
"""Uploads at a time; more would only wait for the server."""

WARM_UP = 1_000
"""Blobs that are read before anything is measured."""


def content(workload: Workload, place: Place) -> Path:
    """The folder that holds, on this machine, what is read from a place."""
    folders = {
        "local": workload.local_store,
        "juicefs": workload.juicefs,
        "files": workload.folder / BENCH,
    }
    return workload.azurite.content if place == "azurite" else folders[place]


def fill(workload: Workload, places: Collection[Place]) -> None:
    """Fills places with the files.

    Args:
        workload: whose files are made.
        places: those that something is read from.

    Raises:
        BenchError: a command failed.
    """
    (workload.folder / "rclone.conf").touch()
    # The server is busy with the one, this machine's other processor with the other.
    with ThreadPoolExecutor(THREADS) as executor:
        running: list[Future[None]] = []
        if "juicefs" in places:
            running.append(executor.submit(_fill_juicefs, workload))
        if "local" in places:
            running.append(executor.submit(_fill_local_store, workload))
        if "azurite" in places:
            _prepare_azurite(workload)
            running += _fill_azurite(executor, workload)
        for filled in running:
            filled.result(COMMAND_SECONDS)
    add_siblings(workload)


def _prepare_azurite(workload: Workload) -> None:
    for container in (LOOSE, PACKED):
        workload.azurite.create(container)
    store = f"azure://{workload.azurite.account}/{PACKED}"
    run_imgsyncfs(_publishing(workload), "init", "--store", store)


def _fill_azurite(executor: Executor, workload: Workload) -> list[Future[None]]:
    """Upload as plain blobs, publish in packs; what is returned still runs."""
    azurite, variables = workload.azurite, _publishing(workload)
    running = [
        executor.submit(run_imgsyncfs, variables, "publish", workload.folder / name, "--name", dataset_id)
        for name, dataset_id in ((BENCH, PACKED_ID), (LIST, LIST_ID))
    ]
    paths = sorted((workload.folder / BENCH).iterdir())
    _upload(executor, azurite, [(f"{BENCH}/{path.name}", path) for path in paths])
    arguments = ("index", f"azure://{azurite.account}/{LOOSE}/{BENCH}", "--name", LOOSE_ID)
    running.append(executor.submit(run_imgsyncfs, variables, *arguments))
    running.append(executor.submit(azurite.warm_up, LOOSE, [f"{BENCH}/{path.name}" for path in paths[:WARM_UP]]))
    listed = [f"{stem}.jpg" for stem in workload.listed]
    _upload(executor, azurite, [(f"{LIST}/{name}", workload.folder / LIST / name) for name in listed])
    return running


def _upload(executor: Executor, azurite: Azurite, files: Sequence[tuple[str, Path]]) -> None:
    for uploaded in [executor.submit(azurite.put, LOOSE, files[start::UPLOADS]) for start in range(UPLOADS)]:
        uploaded.result(COMMAND_SECONDS)


def _fill_local_store(workload: Workload) -> None:
    variables = _publishing(workload, catalog=str(workload.local_catalog))
    run_imgsyncfs(variables, "init", "--store", f"file://{workload.local_store}")
    run_imgsyncfs(variables, "publish", workload.folder / BENCH, "--name", PACKED_ID)


def _fill_juicefs(workload: Workload) -> None:
    """Copy the images in through a mount; when that has ended, everything is written."""
    workload.juicefs.mkdir()
    command = [installed("juicefs"), "format", workload.juicefs_url, "bench", "--storage", "file"]
    run([*command, "--bucket", f"{workload.juicefs}/objects/"], os.environ)
    cache = workload.folder / "juicefs-cache"
    with mounted_juicefs(workload, cache, read_only=False) as mounted, ThreadPoolExecutor(UPLOADS) as executor:
        for folder in (BENCH, LIST):
            target = mounted.path / folder
            target.mkdir()
            sources = list((workload.folder / folder).glob("*.jpg"))
            list(executor.map(shutil.copyfile, sources, [target / source.name for source in sources]))


def _publishing(workload: Workload, *, catalog: str = "") -> dict[str, str]:
    return workload.variables(cache=workload.folder / "publisher-cache", catalog=catalog)
