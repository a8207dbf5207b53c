"""Sixteen readers for half a minute, through a cache that is too small for them: nothing grows, every byte is right.

``IMGSYNCFS_SOAK_SECONDS=3600 scripts/test soak --timeout=4000`` does it for an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mounting import Workplace, box_annotation, process_ids
from support.places import SUPPORT
from support.services import Container

SECONDS = float(os.environ.get("IMGSYNCFS_SOAK_SECONDS", "30"))
WARM_SHARE = 0.4
"""The share of the time after which everything has the size that it is to keep."""

IMAGES = 240
CACHE_BYTES = 16 << 20
READERS = 16
EXTENT_BYTES = 4 << 20

GROWTH_BYTES = min(48 << 20, int(SECONDS * 0.4 * (1 << 20)))
"""What all processes together may grow by. The daemon takes some 0.3 MB more each second of the first two minutes; why,
and whether that ends, is not known yet."""

LOOSE = "original_20260301_rgb_rbbox"
PACKED = "original_20260302_rgb_rbbox"


@dataclass(frozen=True)
class Footprint:
    """What the processes behind a mount take.

    Attributes:
        memory_bytes: of their own, without what files they map.
        descriptors: that are open.
        threads: that run.
    """

    memory_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, processes: list[int]) -> Footprint:
        """Of these processes now."""
        memory = threads = 0
        for process in processes:
            fields = dict(
                line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
            )
            memory += int(fields["RssAnon"].split()[0]) * 1024
            threads += int(fields["Threads"])
        descriptors = sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in processes)
        return cls(memory, descriptors, threads)


def write_noise_folder(folder: Path) -> Path:
    """Images of some 100 kB that differ from each other, with annotations."""
    folder.mkdir()
    chance = np.random.default_rng(11)
    for number in range(IMAGES):
        noise = chance.integers(0, 256, (330, 330, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"img_{number:05}.jpg", quality=90)
        (folder / f"img_{number:05}.json").write_bytes(box_annotation(x=30 + number / 8, size=(330, 330)))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_sixteen_readers_get_every_byte_and_leave_nothing_behind(container: Container, tmp_path: Path) -> None:
    workplace = Workplace(str(tmp_path / "catalog.db"), tmp_path, container.environment)
    workplace.run("init", "--store", container.url)
    folder = write_noise_folder(tmp_path / "folder")
    workplace.run("publish", folder, "--name", LOOSE, "--loose")
    workplace.run("publish", folder, "--name", PACKED)
    workplace.run(
        "sync", tmp_path / "right", "--all", "--siblings", "labelme,rolabelimg", "--cache-dir", tmp_path / "other"
    )
    readers = SUPPORT / "soak_readers.py"
    footprints: list[tuple[float, Footprint]] = []
    volumes: list[int] = []
    with (
        workplace.mounted("--cache-size", str(CACHE_BYTES), "--refresh", "1") as mountpoint,
        started(sys.executable, readers, mountpoint, tmp_path / "right", str(SECONDS), LOOSE, PACKED) as reading,
    ):
        began = time.monotonic()
        while reading.poll() is None:
            # A sample now and then: there is no event to wait for.
            time.sleep(0.5)
            footprints.append((time.monotonic() - began, Footprint.of(process_ids(mountpoint))))
            volumes.append(volume(tmp_path / "cache" / "extents"))
        result = json.loads(reading.communicate(timeout=30)[0])

    assert result["wrong"] == []
    assert all(result["read"].values())
    warm = smallest(each for seconds, each in footprints if WARM_SHARE * SECONDS < seconds < 0.6 * SECONDS)
    late = smallest(each for seconds, each in footprints if 0.8 * SECONDS < seconds < SECONDS)
    print(f"{result}\nwarm {warm}, late {late}, cache at most {max(volumes):,} bytes")
    assert late.memory_bytes < warm.memory_bytes + GROWTH_BYTES
    # Each reader may have an extent and a connection in hand.
    # Idle connections to the store come and go by dozens; a leak would be one for each of some hundred thousand reads.
    assert late.descriptors <= warm.descriptors + 6 * READERS
    assert late.threads <= warm.threads + READERS
    assert max(volumes) <= CACHE_BYTES + READERS * EXTENT_BYTES


def smallest(footprints: Iterable[Footprint]) -> Footprint:
    """Of each the least there was: what leaks is in every sample, what sixteen readers have in hand only in some.

    Seen: between 130 and 300 descriptors within a minute, as often at its end as at its beginning.
    """
    seen = list(footprints)
    return Footprint(
        memory_bytes=min(each.memory_bytes for each in seen),
        descriptors=min(each.descriptors for each in seen),
        threads=min(each.threads for each in seen),
    )


def volume(folder: Path) -> int:
    """Bytes of the files under a folder in which others come and go."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


@contextlib.contextmanager
def started(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose children end with it, at the end of the block at the latest."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
