"""Documents of views are kept in the cache, and whoever waits for one can see how far it is."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.mounting import Workplace, eventually, mount_status, workplace_with, write_folder

from imgsyncfs.library.documents import PROGRESS_SECONDS

DATASET = "original_20260401_rgb_rbbox"
OTHER = "original_20260402_rgb_rbbox"
COUNT = 40
NEVER = ("--refresh", "3600")

ROOM = 140_000
"""Bytes: one document about 300 images, but not two."""

GATED = """
import os, time
from pathlib import Path
from imgsyncfs.library.views.contract import Directory, Document, Layout, View

def write(entries, classes, losses):
    for number, entry in enumerate(entries):
        if number in {10, 12}:
            # Until the test lets it go on.
            Path(os.environ["GATES"], f"at-{number}").touch()
            while not Path(os.environ["GATES"], str(number)).exists():
                time.sleep(0.01)
        yield entry.image.name.encode() + b"\\n"

class GatedView(View):
    name = "gated"
    has_labels = False
    # Something may be lost.
    has_splits = True

    def documents(self, listing, layout, facts):
        return [Document(0, b"names.txt", write=write)]

GATED = GatedView()
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return workplace_with(tmp_path, DATASET, count=5)


def instances(mountpoint: Path, dataset: str = DATASET) -> Path:
    return mountpoint / ".views" / "coco" / dataset / "instances.json"


def documents(workplace: Workplace) -> list[Path]:
    return sorted((workplace.folder / "cache" / "documents").iterdir())


def remove_blobs(workplace: Workplace) -> None:
    """Empty the store. It must be there, or nothing is mounted."""
    for path in (workplace.folder / "store").iterdir():
        shutil.rmtree(path)


def counts(mountpoint: Path) -> tuple[int, int]:
    """How many documents were written, and taken from the cache."""
    status = mount_status(mountpoint)["documents"]
    return status["written"], status["from_cache"]


def test_a_later_mount_takes_a_document_from_the_cache_and_reads_no_store(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = instances(mountpoint).read_bytes()
        assert counts(mountpoint) == (1, 0)
    remove_blobs(workplace)
    with workplace.mounted(*NEVER) as mountpoint:
        assert instances(mountpoint).read_bytes() == before
        assert counts(mountpoint) == (0, 1)


def test_two_mounts_that_write_the_same_document_at_once_get_the_same(workplace: Workplace) -> None:
    elsewhere = workplace.folder / "elsewhere"
    elsewhere.mkdir()
    neighbour = replace(
        workplace, folder=elsewhere, environment={"IMGSYNCFS_CACHE_DIR": str(workplace.folder / "cache")}
    )
    with workplace.mounted(*NEVER) as one, neighbour.mounted(*NEVER) as other, ThreadPoolExecutor(2) as readers:
        first, second = readers.map(lambda each: instances(each).read_bytes(), (one, other))
        assert first == second
        assert len(documents(workplace)) == 1


def test_what_is_lost_is_known_of_a_document_that_was_kept(workplace: Workplace) -> None:
    def named(mountpoint: Path) -> bool:
        assert (mountpoint / ".views" / "hf" / DATASET / "train" / "metadata.jsonl").read_bytes()
        return f"The view hf of {DATASET} does not show" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()

    with workplace.mounted(*NEVER) as mountpoint:
        assert named(mountpoint)
    with workplace.mounted(*NEVER) as mountpoint:
        assert named(mountpoint)
        assert counts(mountpoint) == (0, 1)


def test_a_kept_document_that_is_damaged_is_written_anew(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = instances(mountpoint).read_bytes()
    (path,) = documents(workplace)
    kept = path.read_bytes()
    place = len(kept) // 3
    flipped = kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :]
    for damaged in (flipped, kept[:-1], b""):
        (path,) = documents(workplace)
        path.write_bytes(damaged)
        with workplace.mounted(*NEVER) as mountpoint:
            assert instances(mountpoint).read_bytes() == before
            assert counts(mountpoint) == (1, 0)


def test_a_refresh_that_changed_another_dataset_keeps_the_document(workplace: Workplace, tmp_path: Path) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        before = instances(mountpoint).read_bytes()
        workplace.run("publish", write_folder(tmp_path / "two", count=2), "--name", OTHER)
        assert eventually((mountpoint / OTHER).exists)
        assert instances(mountpoint).read_bytes() == before
        assert counts(mountpoint) == (1, 0)


def test_another_rule_of_the_splits_gives_another_document(workplace: Workplace) -> None:
    def metadata(mountpoint: Path) -> dict[str, bytes]:
        top = mountpoint / ".views" / "hf" / DATASET
        return {path.parent.name: path.read_bytes() for path in top.glob("*/metadata.jsonl")}

    with workplace.mounted(*NEVER) as mountpoint:
        before = metadata(mountpoint)
        workplace.run("split", DATASET, "0/100/0")
        assert eventually(lambda: set(metadata(mountpoint)) == {"validation"})
        assert metadata(mountpoint) != before


def test_clearing_the_cache_removes_documents_and_a_mount_writes_them_again(workplace: Workplace) -> None:
    with workplace.mounted("--refresh", "0.2") as mountpoint:
        before = instances(mountpoint).read_bytes()
        assert orjson.loads(workplace.run("cache", "stats", "--json").stdout)["documents"] == 1
        assert "1 of views" in workplace.run("cache", "stats").stdout
        assert "and 1 document of views" in workplace.run("cache", "clear").stdout
        assert documents(workplace) == []
        assert eventually(lambda: read_anew(instances(mountpoint)) == before and counts(mountpoint)[0] == 2)


def test_verifying_the_cache_removes_a_damaged_document(workplace: Workplace) -> None:
    with workplace.mounted(*NEVER) as mountpoint:
        assert instances(mountpoint).read_bytes()
    assert "and 1 document of views" in workplace.run("cache", "verify").stdout
    (path,) = documents(workplace)
    path.write_bytes(path.read_bytes()[1:])
    assert "removed 1 document that was damaged" in workplace.run("cache", "verify").stdout
    assert documents(workplace) == []


def test_documents_take_up_no_more_than_their_part_and_the_one_used_first_goes(tmp_path: Path) -> None:
    workplace = workplace_with(tmp_path, DATASET, count=300)
    with workplace.mounted(*NEVER, "--cache-size", f"{4 * ROOM}") as mountpoint:
        paths = [instances(mountpoint), mountpoint / ".views" / "cvat" / DATASET / "annotations.xml"]
        contents = [path.read_bytes() for path in paths]
        assert sum(map(len, contents)) > ROOM > max(map(len, contents))
        assert len(documents(workplace)) == 1
        assert [read_anew(path) for path in paths] == contents
        assert counts(mountpoint)[0] > 2


def test_a_document_that_is_longer_than_their_part_says_what_to_do(tmp_path: Path) -> None:
    workplace = workplace_with(tmp_path, DATASET, count=300)
    with workplace.mounted(*NEVER, "--cache-size", "300K") as mountpoint:
        with pytest.raises(OSError, match="Input/output"):
            instances(mountpoint).read_bytes()
        assert "make the cache larger" in (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert documents(workplace) == []


def read_anew(path: Path) -> bytes:
    """Read a file that the kernel may have kept, from the mount."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Gated:
    """A workplace with a view whose document waits until it is let go on, at two of its images."""

    workplace: Workplace
    gates: Path

    def open(self, *numbers: int) -> None:
        """Let the document go on over these images."""
        for number in numbers:
            (self.gates / str(number)).touch()


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    workplace = workplace_with(tmp_path, DATASET, count=COUNT)
    packages, gates = tmp_path / "packages", tmp_path / "gates"
    (packages / "gated-1.0.dist-info").mkdir(parents=True)
    (packages / "gated-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gated\nVersion: 1.0\n")
    (packages / "gated-1.0.dist-info" / "entry_points.txt").write_text("[imgsyncfs.views]\ngated = gated_view:GATED\n")
    (packages / "gated_view.py").write_text(GATED)
    gates.mkdir()
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    return Gated(replace(workplace, environment={"PYTHONPATH": path, "GATES": str(gates)}), gates)


def names_file(mountpoint: Path) -> Path:
    return mountpoint / ".views" / "gated" / DATASET / "names.txt"


EXPECTED = b"".join([b"img_%05d\n" % number for number in range(COUNT)])


def writing(mountpoint: Path) -> list[dict[str, Any]]:
    """What ``status.json`` says is being written."""
    found: list[dict[str, Any]] = mount_status(mountpoint)["documents"]["writing"]
    return found


def test_while_a_document_is_written_the_status_says_how_far_it_is(gated: Gated) -> None:
    with gated.workplace.mounted(*NEVER) as mountpoint, ThreadPoolExecutor(1) as reader:
        assert writing(mountpoint) == []
        content = reader.submit(names_file(mountpoint).read_bytes)
        assert eventually(lambda: len(writing(mountpoint)) == 1)
        reached = gated.gates / "at-10"
        assert eventually(reached.exists)
        # It is told again after a while only.
        assert eventually(lambda: time.time() > reached.stat().st_mtime + PROGRESS_SECONDS)
        gated.open(10)
        assert eventually(lambda: writing(mountpoint)[0]["images_done"] > 10)
        (document,) = writing(mountpoint)
        done = document.pop("images_done")
        assert done in {11, 12}
        assert document.pop("since") >= mount_status(mountpoint)["mounted_at"]
        assert document == {"view": "gated", "dataset": DATASET, "file": "names.txt", "images": COUNT}
        shown = " ".join(gated.workplace.run("status", mountpoint).stdout.split())
        assert f"names.txt: {done} of {COUNT} images after" in shown
        gated.open(12)
        assert content.result() == EXPECTED
        assert writing(mountpoint) == []


def test_ls_and_kept_documents_do_not_wait_for_one_that_is_written(gated: Gated) -> None:
    with gated.workplace.mounted(*NEVER) as mountpoint:
        before = instances(mountpoint).read_bytes()
    with gated.workplace.mounted(*NEVER) as mountpoint, ThreadPoolExecutor(1) as reader:
        content = reader.submit(names_file(mountpoint).read_bytes)
        assert eventually(lambda: len(writing(mountpoint)) == 1)
        assert names_file(mountpoint) in list(names_file(mountpoint).parent.iterdir())
        assert instances(mountpoint).read_bytes() == before
        assert len(writing(mountpoint)) == 1
        gated.open(10, 12)
        assert content.result() == EXPECTED


def test_who_asks_whether_something_is_lost_locks_nobody_out_of_the_directory(gated: Gated) -> None:
    with gated.workplace.mounted(*NEVER) as mountpoint, ThreadPoolExecutor(1) as reader:
        folder = names_file(mountpoint).parent
        is_there = reader.submit((folder / "LOSSES.txt").exists)
        assert eventually(lambda: len(writing(mountpoint)) == 1)
        # Whoever wants to make a file needs the directory for itself.
        with pytest.raises(OSError, match="Read-only"):
            (folder / "new").touch()
        assert (folder / "img_00001.jpg").stat().st_size
        assert len(writing(mountpoint)) == 1
        gated.open(10, 12)
        assert not is_there.result()


def test_a_killed_writer_is_replaced_and_leaves_nothing_behind(gated: Gated) -> None:
    with gated.workplace.mounted(*NEVER) as mountpoint, ThreadPoolExecutor(1) as reader:
        before = set(mount_status(mountpoint)["workers"]["process_ids"])
        content = reader.submit(names_file(mountpoint).read_bytes)
        assert eventually(lambda: any(each["images_done"] or each["images"] for each in writing(mountpoint)))
        assert documents(gated.workplace) == []
        # One of them writes, and the others wait for other documents. They may be coming up.
        assert eventually(lambda: bool(writers(mountpoint)))
        killed = writers(mountpoint)
        assert not before & killed
        for writer in killed:
            os.kill(writer, signal.SIGKILL)
        assert eventually(lambda: len(writers(mountpoint) - killed) == len(killed))
        gated.open(10, 12)
        assert content.result() == EXPECTED
        assert len(documents(gated.workplace)) == 1


def writers(mountpoint: Path) -> set[int]:
    return set(mount_status(mountpoint)["documents"]["process_ids"])


def test_who_waited_too_long_is_told_how_far_it_is_and_gets_it_later(gated: Gated) -> None:
    with gated.workplace.mounted(*NEVER, "--timeout", "2") as mountpoint:
        with pytest.raises(OSError, match="Input/output"):
            names_file(mountpoint).read_bytes()
        log = (mountpoint / ".imgsyncfs" / "errors.log").read_text()
        assert f"/.views/gated/{DATASET}/names.txt: it is still being written" in log
        assert f" of {COUNT} images after " in log
        gated.open(10, 12)
        assert eventually(lambda: writing(mountpoint) == [])
        assert names_file(mountpoint).read_bytes() == EXPECTED


def test_another_version_of_a_views_package_writes_anew(gated: Gated) -> None:
    gated.open(10, 12)
    with gated.workplace.mounted(*NEVER) as mountpoint:
        assert names_file(mountpoint).read_bytes() == EXPECTED
    packages = gated.gates.parent / "packages"
    (packages / "gated-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gated\nVersion: 1.1\n")
    with gated.workplace.mounted(*NEVER) as mountpoint:
        assert names_file(mountpoint).read_bytes() == EXPECTED
        assert counts(mountpoint) == (1, 0)
