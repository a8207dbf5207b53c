"""What the benchmark reads: images with annotations, made anew and always the same, in every place they are read from.

==================== ============================================ ========================================
dataset              as plain blobs (container ``loose``)         published in packs (container ``packed``)
==================== ============================================ ========================================
images of 100 kB     ``bench/NAME``; catalogued in place          yes
small ones, to list  ``list/NAME``, without annotations           yes
==================== ============================================ ========================================
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson
from bench_commands import COMMAND_SECONDS, run
from bench_servers import Azurite
from PIL import Image

BENCH, LIST = "bench", "list"
LOOSE, PACKED = "loose", "packed"

LOOSE_ID = "opensource_loose_rgb_bbox"
PACKED_ID = "opensource_packed_rgb_bbox"
LIST_ID = "opensource_list_rgb_bbox"

LARGE = (384, 320, 85)
SMALL = (16, 16, 50)
"""Width, height and JPEG quality: noise of these comes to 97 kB and to 0.7 kB."""

BOXES = 5
UPLOADS = 4
"""Uploads at a time; more would only wait for the server."""

WARM_UP = 1_000
"""Blobs that are read before anything is measured."""


@dataclass(frozen=True)
class Workload:
    """The images, their annotations, and where they lie.

    Attributes:
        folder: holds the folders ``bench`` and ``list``, and the catalog.
        azurite: holds the containers.
        stems: names without extension of the images of 100 kB, in order.
        listed: those of the small ones.
        digests: MD5 of each file in ``bench``, by name.
    """

    folder: Path
    azurite: Azurite
    stems: Sequence[str]
    listed: Sequence[str]
    digests: Mapping[str, str] = field(repr=False)

    @property
    def catalog(self) -> Path:
        """The catalog, an SQLite file."""
        return self.folder / "catalog.db"

    def size(self, folder: str, names: Sequence[str]) -> int:
        """The bytes of files in one of the folders together."""
        return sum((self.folder / folder / name).stat().st_size for name in names)

    def variables(self, *, cache: Path, port: int = 0, catalog: str = "", password: str = "") -> dict[str, str]:
        """The environment of `imgsyncfs`.

        Args:
            cache: folder of its disk cache.
            port: of a proxy before Azurite; 0 for none.
            catalog: another one.
            password: for that one.
        """
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("IMGSYNCFS_", "AZURE_"))}
        return {
            **mine,
            "IMGSYNCFS_CATALOG": catalog or str(self.catalog),
            "IMGSYNCFS_PASSWORD": password,
            "IMGSYNCFS_CACHE_DIR": str(cache),
            # No config file of whoever runs this.
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "AZURE_STORAGE_CONNECTION_STRING": self.azurite.connection_string(port),
        }

    def rclone_variables(self, *, port: int = 0) -> dict[str, str]:
        """The environment in which rclone knows Azurite as the remote ``azurite``."""
        azurite = self.azurite
        url = f"http://127.0.0.1:{port or azurite.port}/{azurite.account}?{azurite.signature()}"
        mine = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        return {
            **mine,
            "RCLONE_CONFIG": str(self.folder / "rclone.conf"),
            "RCLONE_CONFIG_AZURITE_TYPE": "azureblob",
            "RCLONE_CONFIG_AZURITE_SAS_URL": url,
        }


def make_workload(folder: Path, azurite: Azurite, *, images: int, listed: int) -> Workload:
    """Makes it all: files, blobs, catalog.

    Args:
        folder: a temporary one.
        azurite: an empty one.
        images: number of images of 100 kB.
        listed: number of small ones.

    Raises:
        BenchError: a command failed.
    """
    workload = Workload(folder, azurite, _stems(images), _stems(listed), {})
    (folder / "rclone.conf").touch()
    imgsyncfs = workload.variables(cache=folder / "publisher-cache")

    def prepare() -> None:
        for container in (LOOSE, PACKED):
            run(["rclone", "mkdir", f"azurite:{container}"], workload.rclone_variables())
        run_imgsyncfs(imgsyncfs, "init", "--store", f"azure://{azurite.account}/{PACKED}")

    def publish(name: str, dataset_id: str) -> None:
        run_imgsyncfs(imgsyncfs, "publish", folder / name, "--name", dataset_id)

    def upload(files: Sequence[tuple[str, Path]]) -> None:
        for uploaded in [executor.submit(azurite.put, LOOSE, files[start::UPLOADS]) for start in range(UPLOADS)]:
            uploaded.result(COMMAND_SECONDS)

    # The server is busy with the one, this machine's other processor with the other.
    with ThreadPoolExecutor(UPLOADS + 4) as executor:
        prepared = executor.submit(prepare)
        _make_folder(folder / BENCH, workload.stems, LARGE)
        _make_folder(folder / LIST, workload.listed, SMALL)
        prepared.result(COMMAND_SECONDS)
        running = [executor.submit(publish, BENCH, PACKED_ID), executor.submit(publish, LIST, LIST_ID)]
        paths = sorted((folder / BENCH).iterdir())
        upload([(f"{BENCH}/{path.name}", path) for path in paths])
        arguments = ("index", f"azure://{azurite.account}/{LOOSE}/{BENCH}", "--name", LOOSE_ID)
        running.append(executor.submit(run_imgsyncfs, imgsyncfs, *arguments))
        running.append(executor.submit(azurite.warm_up, LOOSE, [f"{BENCH}/{path.name}" for path in paths[:WARM_UP]]))
        upload([(f"{LIST}/{stem}.jpg", folder / LIST / f"{stem}.jpg") for stem in workload.listed])
        for done in running:
            done.result(COMMAND_SECONDS)
    for stem in workload.listed:
        # As many files natively as the mount shows.
        for suffix in (".labelme.json", ".xml"):
            (folder / LIST / f"{stem}{suffix}").touch()
    digests = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in paths}
    return replace(workload, digests=digests)


def run_imgsyncfs(variables: Mapping[str, str], *arguments: str | Path, seconds: float = COMMAND_SECONDS) -> None:
    """Runs the command; raises BenchError with what it said if it fails."""
    program = Path(sys.executable).with_name("imgsyncfs")
    run([program, *arguments], variables, seconds=seconds)


def annotation(seed: int, width: int, height: int) -> bytes:
    """A house annotation with some boxes."""
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(0, 1, (BOXES, 2, 2)), axis=1) * (width, height)
    boxes = [
        {"class": "person", "x1": x1, "y1": y1, "x2": x2, "y2": y2} for (x1, y1), (x2, y2) in corners.round(2).tolist()
    ]
    document = {
        "anno_version": "0.2.0",
        "label_checked": 1,
        "height": height,
        "width": width,
        "depth": 3,
        "ext": "jpg",
        "labels": [{"label_type": "bbox", "object": boxes}],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def noise_jpeg(seed: int, width: int, height: int, quality: int) -> bytes:
    """A JPEG of noise, another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _make_folder(folder: Path, stems: Sequence[str], kind: tuple[int, int, int]) -> None:
    """Make a folder of images with annotations."""
    folder.mkdir()
    numbered = list(enumerate(stems, 1))
    parts = [numbered[start :: os.cpu_count() or 1] for start in range(os.cpu_count() or 1)]
    with ProcessPoolExecutor() as executor:
        for _ in executor.map(_make_files, [folder] * len(parts), parts, [kind] * len(parts)):
            pass


def _stems(count: int) -> list[str]:
    return [f"image_{number:06d}" for number in range(1, count + 1)]


def _make_files(folder: Path, numbered: Sequence[tuple[int, str]], kind: tuple[int, int, int]) -> None:
    width, height, quality = kind
    for number, stem in numbered:
        (folder / f"{stem}.jpg").write_bytes(noise_jpeg(number, width, height, quality))
        (folder / f"{stem}.json").write_bytes(annotation(number, width, height))
