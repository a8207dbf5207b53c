"""What the benchmark reads: images with annotations, made anew and always the same.

Where they are read from, beside the files themselves, is in `bench_places`.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from bench_commands import BenchError
from bench_servers import Azurite
from PIL import Image

BENCH, LIST = "bench", "list"
"""The folders of images."""

LOOSE, PACKED = "loose", "packed"
"""The containers in Azurite."""

LOOSE_ID = "opensource_loose_rgb_bbox"
PACKED_ID = "opensource_packed_rgb_bbox"
LIST_ID = "opensource_list_rgb_bbox"

LARGE = (384, 320, 85)
SMALL = (16, 16, 50)
"""Width, height and JPEG quality: noise of these comes to 97 kB and to 0.7 kB."""

BOXES = 5
CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"


@dataclass(frozen=True)
class Workload:
    """The images, their annotations, and where they lie.

    Attributes:
        folder: holds the folders ``bench`` and ``list``, the catalogs, the local store and the JuiceFS volume.
        stems: names without extension of the images of 100 kB, in order.
        listed: those of the small ones.
        digests: MD5 of each image in ``bench``, by name.
        server: holds the containers; None if no row needs it.
    """

    folder: Path
    stems: Sequence[str] = field(repr=False)
    listed: Sequence[str] = field(repr=False)
    digests: Mapping[str, str] = field(repr=False)
    server: Azurite | None = None

    @property
    def azurite(self) -> Azurite:
        """What holds the containers; raises BenchError if no row needs it."""
        if self.server is None:
            raise BenchError("Azurite was not started")
        return self.server

    @property
    def catalog(self) -> Path:
        """The catalog of what lies in Azurite, an SQLite file."""
        return self.folder / "catalog.db"

    @property
    def local_catalog(self) -> Path:
        """The catalog of what lies in the local store, an SQLite file."""
        return self.folder / "local.db"

    @property
    def local_store(self) -> Path:
        """A store in a local folder; the images are in packs there."""
        return self.folder / "store"

    @property
    def juicefs(self) -> Path:
        """The folder of the JuiceFS volume: its metadata in SQLite, and its objects."""
        return self.folder / "juicefs"

    @property
    def juicefs_url(self) -> str:
        """Where JuiceFS has the metadata."""
        return f"sqlite3://{self.juicefs}/metadata.db"

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
        azure = {} if self.server is None else {CONNECTION_VARIABLE: self.server.connection_string(port)}
        return {
            **mine,
            **azure,
            "IMGSYNCFS_CATALOG": catalog or str(self.catalog),
            "IMGSYNCFS_PASSWORD": password,
            "IMGSYNCFS_CACHE_DIR": str(cache),
            # No config file of whoever runs this.
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    def rclone_variables(self, *, port: int = 0) -> dict[str, str]:
        """The environment of rclone, in which it knows Azurite, if it runs, as the remote ``azurite``."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        mine["RCLONE_CONFIG"] = str(self.folder / "rclone.conf")
        if self.server is None:
            return mine
        url = f"http://127.0.0.1:{port or self.server.port}/{self.server.account}?{self.server.signature()}"
        return {**mine, "RCLONE_CONFIG_AZURITE_TYPE": "azureblob", "RCLONE_CONFIG_AZURITE_SAS_URL": url}


def make_files(folder: Path, *, images: int, listed: int) -> Workload:
    """Makes the folders ``bench`` and ``list``.

    Args:
        folder: a temporary one.
        images: number of images of 100 kB.
        listed: number of small ones.

    Returns:
        The workload, which is in no other place yet.
    """
    stems, listed_stems = _stems(images), _stems(listed)
    _make_folder(folder / BENCH, stems, LARGE)
    _make_folder(folder / LIST, listed_stems, SMALL)
    paths = (folder / BENCH).glob("*.jpg")
    digests = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in paths}
    return Workload(folder, stems, listed_stems, digests)


def add_siblings(workload: Workload) -> None:
    """Puts empty files into ``list``, so that natively there are as many as the mount shows."""
    for stem in workload.listed:
        for suffix in (".labelme.json", ".xml"):
            (workload.folder / LIST / f"{stem}{suffix}").touch()


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
