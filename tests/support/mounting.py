"""What tests of the mount share: run the command, mount for a while, make images."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image

from support.forked_command import run_forked

COMMAND_SECONDS = 60.0
PATIENCE_SECONDS = 20.0

_MOUNT_PROCESS = re.compile(rb"imgsyncfs\.(mount|workers)\.")


@dataclass(frozen=True)
class Workplace:
    """A catalog to work with, and what the command needs to reach it.

    Attributes:
        catalog: its URL.
        folder: a temporary folder; holds the cache.
        environment: variables beside the usual ones, secrets among them.
    """

    catalog: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """The environment of a command."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("IMGSYNCFS_", "AZURE_"))},
            "IMGSYNCFS_CATALOG": self.catalog,
            "IMGSYNCFS_CACHE_DIR": str(self.folder / "cache"),
            # No config file of the person who runs the tests.
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            **self.environment,
        }

    def run(
        self,
        *arguments: str | Path,
        status: int | None = 0,
        under: tuple[str, ...] = (),
        seconds: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run `imgsyncfs` with arguments, under another command if one is given, for so many seconds at most.

        Its exit status must be the one given (None: any). It has an interpreter of its own only where that tells: under
        another command, or with variables that are the interpreter's.
        """
        words = [str(argument) for argument in arguments]
        if under or any(name.startswith("PYTHON") for name in self.environment):
            done = subprocess.run(
                [*under, sys.executable, "-m", "imgsyncfs", *words],
                env=self.variables(),
                capture_output=True,
                text=True,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        else:
            done = run_forked(words, environment=self.variables(), seconds=seconds)
        if status is not None and done.returncode != status:
            raise AssertionError(f"{arguments} ended with {done.returncode}, not {status}:\n{done.stdout}{done.stderr}")
        return done

    @contextlib.contextmanager
    def mounted(self, *options: str | Path, name: str = "mnt", under: tuple[str, ...] = ()) -> Iterator[Path]:
        """Mount for as long as the block runs; the daemon and its workers must be gone afterwards."""
        mountpoint = self.folder / name
        mountpoint.mkdir(exist_ok=True)
        self.run("mount", mountpoint, *options, under=under)
        processes = process_ids(mountpoint)
        try:
            yield mountpoint
        finally:
            if os.path.ismount(mountpoint):
                self.run("umount", mountpoint)
        assert all_end_after(processes), "processes outlived the mount"
        assert eventually(lambda: not self.processes_left()), "processes that took others' places outlived the mount"

    def processes_left(self) -> list[int]:
        """The process ids of all mounts of this workplace and their workers, whoever started them."""
        mark = f"IMGSYNCFS_CACHE_DIR={self.folder / 'cache'}\0".encode()
        left = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and _MOUNT_PROCESS.search((entry / "cmdline").read_bytes()):
                    left += [int(entry.name)] if mark in (entry / "environ").read_bytes() + b"\0" else []
        return left

    def log(self) -> str:
        """What the mounts' processes logged."""
        return "".join(path.read_text() for path in (self.folder / "cache" / "logs").glob("*.log"))


def process_ids(mountpoint: Path) -> list[int]:
    """The processes behind a mount: coordinator, responders with their template, and workers."""
    status = mount_status(mountpoint)
    processes = [status["process_id"], *status["responders"]["process_ids"], *status["workers"]["process_ids"]]
    # Tests kill them, and 0 stands for all processes of a group.
    assert min(processes) > 1
    return processes


def mount_status(mountpoint: Path) -> dict[str, Any]:
    """How a mount says that it is doing."""
    status: dict[str, Any] = orjson.loads((mountpoint / ".imgsyncfs" / "status.json").read_bytes())
    return status


def store_requests(mountpoint: Path) -> int:
    """How many requests the mount has sent to stores."""
    requests: int = mount_status(mountpoint)["store"]["requests"]
    return requests


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for something that the mount does in its own time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def all_end_after(processes: list[int], *, seconds: float = 15.0) -> bool:
    """Wait for processes to end; say whether all did."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process)
            select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            os.close(descriptor)
    return not any(map(is_running, processes))


def local_workplace(folder: Path) -> Workplace:
    """A fresh catalog in an SQLite file with a local store."""
    workplace = Workplace(str(folder / "catalog.db"), folder)
    workplace.run("init", "--store", f"file://{folder}/store")
    return workplace


def workplace_with(folder: Path, dataset: str, *, count: int) -> Workplace:
    """A fresh catalog of one dataset, published from the sub-folder ``one``; see `write_folder`."""
    workplace = local_workplace(folder)
    workplace.run("publish", write_folder(folder / "one", count=count), "--name", dataset)
    return workplace


def copy_of(workplace: Workplace, folder: Path) -> Workplace:
    """A copy of a workplace with an SQLite catalog and local stores, all in another folder; without its cache.

    Publishing anew for each test would start two processes each time.
    """
    shutil.copytree(workplace.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cache", "mnt"))
    catalog = folder / Path(workplace.catalog).relative_to(workplace.folder)
    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        for table, column in (("datasets", "store"), ("catalog_settings", "value")):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (workplace.folder.as_uri(), folder.as_uri())
            )
    return Workplace(str(catalog), folder)


def demo_workplace(folder: Path) -> Workplace:
    """The demo catalog."""
    workplace = Workplace(str(folder / "demo" / "catalog.db"), folder)
    workplace.run("demo", folder / "demo")
    return workplace


def write_image(path: Path, *, size: tuple[int, int] = (64, 48), shade: int = 90) -> None:
    """Write a small real image; its kind follows from the name."""
    Image.new("RGB", size, (shade % 256, shade * 7 % 256, 40)).save(path)


def box_annotation(
    *, x: float = 30.0, size: tuple[int, int] = (64, 48), name: str = "person", checked: int = 1
) -> bytes:
    """A house annotation with one rotated box."""
    return orjson.dumps(
        {
            "anno_version": "0.2.0",
            "label_checked": checked,
            "height": size[1],
            "width": size[0],
            "depth": 3,
            "ext": "jpg",
            "labels": [
                {
                    "label_type": "rbbox",
                    "object": [{"class": name, "x": x, "y": 20.5, "w": 20.25, "h": 10.125, "a": 0.5}],
                }
            ],
        },
        option=orjson.OPT_INDENT_2,
    )


def noise_image(path: Path, *, seed: int) -> bytes:
    """Write a PNG of some 700 kB that nothing compresses, always of the same length; return its content."""
    noise = np.random.default_rng(seed).integers(0, 256, (480, 480, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, compress_level=0)
    return path.read_bytes()


def write_folder(folder: Path, *, count: int = 5, first: int = 0) -> Path:
    """A folder of images with annotations, as somebody would publish it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        write_image(folder / f"img_{number:05}.jpg", shade=number)
        (folder / f"img_{number:05}.json").write_bytes(box_annotation(x=30 + number / 8))
    return folder
