"""A cache into which somebody has put pickles is read without running any of them."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.mounting import Workplace, eventually, mount_status, workplace_with

DATASET = "original_20260105_rgb_rbbox"


class Touches:
    """Makes a file when it comes out of a pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


def pickles(sign: Path) -> dict[str, bytes]:
    """Files that make a folder if anybody reads them as a pickle: plain, as NumPy's array, and as NumPy's archive."""
    objects = np.array([Touches(sign)], dtype=object)
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, objects, allow_pickle=True)
    np.savez(archive, starts=objects, values=objects)
    return {"plain": pickle.dumps(Touches(sign)), "array": array.getvalue(), "archive": archive.getvalue()}


def look_everywhere(mountpoint: Path) -> dict[str, bytes]:
    """Read the dataset, and a file of each kind of view."""
    found = {path.name: path.read_bytes() for path in (mountpoint / DATASET).iterdir()}
    for view in ("coco", "table", "yolo-640"):
        for root, _, names in os.walk(mountpoint / ".views" / view / DATASET):
            for name in names:
                assert Path(root, name).read_bytes() is not None
    return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, dict[str, bytes]]:
    """A workplace whose cache has whatever a mount keeps, and what the dataset holds."""
    workplace = workplace_with(tmp_path_factory.mktemp("filled"), DATASET, count=3)
    with workplace.mounted() as mountpoint:
        return workplace, look_everywhere(mountpoint)


@pytest.mark.parametrize("kind", ["plain", "array", "archive"])
def test_no_pickle_in_a_cache_is_read(filled: tuple[Workplace, dict[str, bytes]], tmp_path: Path, kind: str) -> None:
    workplace, content = filled
    sign = tmp_path / "was-run"
    planted = 0
    for path in (workplace.folder / "cache").rglob("*"):
        # The databases have tests of their own; journals and records are databases, too.
        if path.is_file() and not path.name.endswith((".db", "-wal", "-shm", ".log")):
            path.write_bytes(pickles(sign)[kind])
            planted += 1
    assert planted >= 3
    with workplace.mounted() as mountpoint:
        assert look_everywhere(mountpoint) == content
        assert eventually(lambda: mount_status(mountpoint)["catalog"]["trouble"] == "")
    assert not sign.exists()
    # It would have been.
    pickle.loads(pickles(sign)["plain"])
    assert sign.exists()
