"""What is measured: scenes, in each of which one contestant is mounted and read, and what proves the state it was in.

Before anything is timed that is read by names, the directory has been listed once: readers know the names from there.
After a mount with an empty disk cache, and nothing in the kernel, what comes must have been asked of the server:
that is counted there. What is read again, or after a new mount with the disk cache kept, must not.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from bench_commands import BenchError
from bench_contestants import Contestant, mounted_by
from bench_memory import put_at_hand
from bench_mounts import Mounted, family, read_status, settle
from bench_readers import Job, Reading, Work, dealt, run_readers
from bench_servers import Requests
from bench_stage import Stage, cache_folder, counting
from bench_workload import BENCH, BOXES, LIST, LOOSE

READ_SECONDS = 300.0
MANY_READERS = 8

LEAST_READ_AGAIN = 6000
"""From the kernel's page cache fewer take only some milliseconds."""

COPIES = 2
"""What is read is kept in a file of the disk cache and in the mount's own pages."""

DIGESTS_OF_OTHERS = 25
"""Of our own mount every file's digest is compared, in one round; of the others so many, which read far slower."""

MOST_BEYOND = 64 << 20
"""What lies beside the extents (listings, the database's log), and an extent for each request under way."""

EPOCH_REFRESH = 2
EPOCH_SECONDS = 5.0
OWN_REQUESTS = 12

MOST_CALLS_A_FILE = 0.05
FEW_CALLS = 20
"""A read that asks the daemon makes it read and write at least once; so many are what its own threads do meanwhile."""


@dataclass(frozen=True)
class ReadPlan:
    """How images are read in a scene.

    Attributes:
        cold: the measure of reading them the first time.
        readers: how many at once.
        shuffled: not in order.
        delayed: behind the proxy.
        again: measure of reading them once more.
        remounted: measure of reading them after another mount with the same disk cache.
        cache_share: the part of what is read that the disk cache may keep; 0 for all of it.
        second_epoch: measure of reading them once more after `EPOCH_SECONDS`, when every entry of a mount with
            ``--refresh 2`` would have timed out.
    """

    cold: str
    readers: int = 1
    shuffled: bool = False
    delayed: bool = False
    again: str = ""
    remounted: str = ""
    cache_share: float = 0.0
    second_epoch: str = ""


def play_reading(stage: Stage, contestant: Contestant, plan: ReadPlan) -> None:
    """Images of 100 kB are read: the first time, again, and after another mount."""
    if not contestant.folders:
        _request(stage, contestant, plan)
        return
    names = _image_names(stage, contestant, plan)
    port = stage.delay_port(delayed=plan.delayed)
    with cache_folder(stage.workload) as cache:
        cache_bytes = round(plan.cache_share * stage.workload.size(BENCH, names))
        refresh = EPOCH_REFRESH if plan.second_epoch else 0
        with mounted_by(contestant, stage.workload, cache, port, cache_bytes=cache_bytes, refresh=refresh) as mounted:
            look_into(contestant, mounted, BENCH)
            first = plan.cold if contestant.begins_cold else plan.remounted
            _read(stage, contestant, mounted, first, names, plan=plan)
            if stage.round == 0 and (contestant.ours or plan.remounted):
                _compare_digests(stage, contestant, mounted, plan.cold, names)
            if cache_bytes and contestant.ours:
                kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
                claim = f"{kept:,} bytes are in a cache of {cache_bytes:,}"
                stage.results.expect(plan.cold, contestant, claim, holds=kept <= cache_bytes + MOST_BEYOND)
            if stage.wants(plan.second_epoch, contestant):
                _read_second_epoch(stage, contestant, mounted, names, plan)
            if stage.wants(plan.again, contestant):
                _read(stage, contestant, mounted, plan.again, names * _repetitions(contestant, names), plan=plan)
            if stage.wants(plan.remounted, contestant):
                # Some write into their disk cache in the background.
                settle(mounted)
        if contestant.disk_cache and stage.wants(plan.remounted, contestant):
            with mounted_by(contestant, stage.workload, cache, port) as mounted:
                look_into(contestant, mounted, BENCH)
                _read(stage, contestant, mounted, plan.remounted, names, plan=plan)
                if stage.round == 0 and contestant.ours:
                    _compare_digests(stage, contestant, mounted, plan.remounted, names)


def _read_second_epoch(
    stage: Stage, contestant: Contestant, mounted: Mounted, names: list[str], plan: ReadPlan
) -> None:
    """Read everything twice more, the second time after a while; the kernel asks this project's mount for nothing."""
    _read(stage, contestant, mounted, "", names, plan=plan)
    time.sleep(EPOCH_SECONDS)
    with kernel_silent(stage, contestant, mounted, plan.second_epoch):
        _read(stage, contestant, mounted, plan.second_epoch, names * _repetitions(contestant, names), plan=plan)


@contextmanager
def kernel_silent(stage: Stage, contestant: Contestant, mounted: Mounted, measure: str) -> Iterator[None]:
    """Note an error if the kernel asks this project's mount for anything meanwhile."""
    if not contestant.ours:
        yield
        return
    before = read_status(mounted.path).kernel_requests
    yield
    # Opening and reading status.json takes a few.
    asked = read_status(mounted.path).kernel_requests - before
    stage.results.expect(measure, contestant, f"the kernel asked {asked} times", holds=asked <= OWN_REQUESTS)


def play_listing(stage: Stage, contestant: Contestant) -> None:
    """A directory of small images is listed; then those of 100 kB, which nobody has looked at, are decoded."""
    with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
        settle(mounted)
        if stage.wants("list", contestant):
            _list(stage, contestant, mounted)
        if stage.wants("ls", contestant) or stage.wants("relist", contestant):
            _show_twice(stage, contestant, mounted)
        if stage.wants("decode", contestant):
            _decode(stage, contestant, mounted)


def play_stat(stage: Stage, contestant: Contestant) -> None:
    """Small images are stat'ed; then the annotations of those of 100 kB, which nobody has looked at, are read."""
    with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
        settle(mounted)
        if stage.wants("stat", contestant):
            _stat(stage, contestant, mounted, "stat")
        if stage.wants("render", contestant):
            _render(stage, contestant, mounted, "render")


def play_stat_8(stage: Stage, contestant: Contestant) -> None:
    """As `play_stat`, by eight readers."""
    with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
        settle(mounted)
        if stage.wants("stat_8", contestant):
            _stat(stage, contestant, mounted, "stat_8", MANY_READERS)
        if stage.wants("render_8", contestant):
            _render(stage, contestant, mounted, "render_8", MANY_READERS)
        if contestant.ours and stage.wants("view_yolo", contestant):
            _view(stage, contestant, mounted, "view_yolo", MANY_READERS)


def play_pictures(stage: Stage, contestant: Contestant) -> None:
    """Images of 100 kB with their annotations drawn in are read by eight: each is fetched and drawn for that."""
    names = [f"{stem}.jpg" for stem in stage.workload.stems]
    with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
        top = mounted.path / ".views" / "preview" / contestant.folders[BENCH]
        paths = sorted(map(str, top.glob("*.jpg")))
        if len(paths) != len(stage.workload.stems):
            raise BenchError(f"the view has {len(paths)} pictures and not {len(stage.workload.stems)}")
        settle(mounted)
        put_at_hand(stage.workload.folder, COPIES * stage.workload.size(BENCH, names))
        with counting(stage, contestant, mounted) as requests:
            jobs = [Job("read", part) for part in dealt(paths, MANY_READERS)]
            reading = run_readers(jobs, seconds=READ_SECONDS)
        if reading.bytes != run_readers([Job("stat", paths)], seconds=READ_SECONDS).bytes or reading.bytes == 0:
            raise BenchError("another number of bytes was read than the pictures have")
    stage.results.add("preview_8", contestant, reading.rate, requests[0])
    _expect_cold(stage, contestant, "preview_8", requests[0], paths)


def play_document(stage: Stage, contestant: Contestant) -> None:
    """The file of COCO's that describes all small images is looked at: all their annotations are read for it."""
    with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
        settle(mounted)
        path = mounted.path / ".views" / "coco" / contestant.folders[LIST] / "instances.json"
        with counting(stage, contestant, mounted) as requests:
            reading = run_readers([Job("stat", [str(path)])], seconds=READ_SECONDS)
        stage.results.expect("coco_10000", contestant, "no request at the store", holds=requests[0].all > 0)
        document = orjson.loads(path.read_bytes())
        images, boxes = len(document["images"]), len(document["annotations"])
        # Among so many small boxes there are some without width or height, which COCO's file leaves out.
        if images != len(stage.workload.listed) or not 0.99 <= boxes / (BOXES * images) <= 1:
            raise BenchError(f"{path.name} has {images} images and {boxes} boxes")
        if reading.bytes != path.stat().st_size:
            raise BenchError(f"{path.name} changed its size")
        stage.results.add("coco_10000", contestant, reading.seconds, requests[0])


def play_tar_files(stage: Stage, contestant: Contestant) -> None:
    """The tar files that hold all images of 100 kB with their annotations are read, cold, one after the other."""
    names = [f"{stem}.jpg" for stem in stage.workload.stems]
    with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
        top = mounted.path / ".views" / "webdataset" / contestant.folders[BENCH]
        paths = [str(path) for split in ("train", "valid", "test") for path in sorted(top.glob(f"{split}-*.tar"))]
        settle(mounted)
        put_at_hand(stage.workload.folder, COPIES * stage.workload.size(BENCH, names))
        with counting(stage, contestant, mounted) as requests:
            reading = run_readers([Job("read", paths)], seconds=READ_SECONDS)
        if reading.bytes != run_readers([Job("stat", paths)], seconds=READ_SECONDS).bytes:
            raise BenchError("another number of bytes was read than the tar files have")
        if stage.round == 0:
            _compare_members(stage, paths)
    stage.results.add("webdataset", contestant, len(names) / reading.seconds, requests[0])
    _expect_cold(stage, contestant, "webdataset", requests[0], names)


def _compare_members(stage: Stage, paths: Sequence[str]) -> None:
    """Read tar files once more, untimed, and compare the images in them with what was uploaded."""
    found = {}
    for path in paths:
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name.endswith(".jpg") else None
                if stream is not None:
                    found[member.name] = hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
    if found != stage.workload.digests:
        raise BenchError("the images in the tar files are not those that were uploaded")


def _list(stage: Stage, contestant: Contestant, mounted: Mounted) -> None:
    with counting(stage, contestant, mounted) as requests:
        reading = run_readers([Job("list", [contestant.directory(mounted, LIST)])], seconds=READ_SECONDS)
    entries = len(stage.workload.listed) * contestant.entries
    if reading.items != entries:
        raise BenchError(f"the directory shows {reading.items} entries and not {entries}")
    stage.results.add("list", contestant, reading.rate, requests[0])


def _show_twice(stage: Stage, contestant: Contestant, mounted: Mounted) -> None:
    """Run ``ls -l`` twice."""
    directory = contestant.directory(mounted, LIST)
    stage.results.add("ls", contestant, _ls(directory))
    with kernel_silent(stage, contestant, mounted, "relist"), counting(stage, contestant, mounted) as requests:
        seconds = _ls(directory)
    stage.results.add("relist", contestant, seconds, requests[0])
    stage.results.expect("relist", contestant, "a request at the store", holds=requests[0].all == 0)


def _stat(stage: Stage, contestant: Contestant, mounted: Mounted, measure: str, readers: int = 1) -> None:
    """Ask for attributes by names known beforehand: nothing was listed before."""
    names = [f"{stem}.jpg" for stem in stage.workload.listed]
    names = names[: round(len(names) * contestant.stat_share)]
    with counting(stage, contestant, mounted) as requests:
        jobs = [Job("stat", part) for part in dealt(contestant.paths(mounted, LIST, names), readers)]
        reading = run_readers(jobs, seconds=READ_SECONDS)
    if reading.bytes != stage.workload.size(LIST, names):
        raise BenchError("sizes are not those of the files")
    stage.results.add(measure, contestant, reading.rate, requests[0])


def _render(stage: Stage, contestant: Contestant, mounted: Mounted, measure: str, readers: int = 1) -> None:
    """Read every rendered annotation, cold; where there are none, the house annotations."""
    suffixes = (".labelme.json", ".xml") if contestant.ours else (".json",)
    names = [stem + suffix for stem in stage.workload.stems for suffix in suffixes]
    names = names[: round(len(names) * contestant.share)]
    look_into(contestant, mounted, BENCH)
    paths = contestant.paths(mounted, BENCH, names)
    with counting(stage, contestant, mounted) as requests:
        reading = run_readers([Job("read", part) for part in dealt(paths, readers)], seconds=READ_SECONDS)
    _expect_cold(stage, contestant, measure, requests[0], names[:: len(suffixes)])
    if reading.bytes != run_readers([Job("stat", paths)], seconds=READ_SECONDS).bytes or reading.bytes == 0:
        raise BenchError("another number of bytes was read than the files have")
    stage.results.add(measure, contestant, reading.rate, requests[0])


def _view(stage: Stage, contestant: Contestant, mounted: Mounted, measure: str, readers: int) -> None:
    """Read every label file of YOLO's view, whose annotations are in the disk cache by now."""
    top = mounted.path / ".views" / "yolo" / contestant.folders[BENCH]
    paths = sorted(map(str, top.glob("*/labels/*.txt")))
    if len(paths) != len(stage.workload.stems):
        raise BenchError(f"the view has {len(paths)} label files and not {len(stage.workload.stems)}")
    with counting(stage, contestant, mounted) as requests:
        reading = run_readers([Job("read", part) for part in dealt(paths, readers)], seconds=READ_SECONDS)
    if reading.bytes == 0:
        raise BenchError("the label files are empty")
    stage.results.add(measure, contestant, reading.rate, requests[0])


def _decode(stage: Stage, contestant: Contestant, mounted: Mounted) -> None:
    """Decode images by forked workers in shuffled order, cold."""
    names = _image_names(stage, contestant, ReadPlan("decode"))
    look_into(contestant, mounted, BENCH)
    put_at_hand(stage.workload.folder, COPIES * stage.workload.size(BENCH, names))
    with counting(stage, contestant, mounted) as requests:
        reading = run_readers([Job("decode", contestant.paths(mounted, BENCH, names))], seconds=READ_SECONDS)
    if reading.items != len(names):
        raise BenchError(f"{reading.items} images were decoded and not {len(names)}")
    stage.results.add("decode", contestant, reading.rate, requests[0])
    if contestant.counted:
        _expect_cold(stage, contestant, "decode", requests[0], names)


def play_training(stage: Stage, contestant: Contestant) -> None:
    """A network is trained on all images for an epoch, from the disk cache; native files come from the disk."""
    names = [f"{stem}.jpg" for stem in stage.workload.stems]
    with cache_folder(stage.workload) as cache:
        if contestant.disk_cache:
            with mounted_by(contestant, stage.workload, cache) as mounted:
                look_into(contestant, mounted, BENCH)
                paths = contestant.paths(mounted, BENCH, names)
                run_readers([Job("read", part) for part in dealt(paths, MANY_READERS)], seconds=READ_SECONDS)
                settle(mounted)
        with mounted_by(contestant, stage.workload, cache) as mounted:
            look_into(contestant, mounted, BENCH)
            put_at_hand(stage.workload.folder, COPIES * stage.workload.size(BENCH, names))
            with counting(stage, contestant, mounted) as requests:
                reading = run_readers([Job("train", contestant.paths(mounted, BENCH, names))], seconds=READ_SECONDS)
    stage.results.add("train", contestant, reading.rate, requests[0])
    if contestant.ours:
        asked = requests[0].all
        stage.results.expect("train", contestant, f"{asked} requests at the store", holds=asked == 0)


def play_torch(stage: Stage, contestant: Contestant) -> None:
    """PyTorch's data loader reads all images with their annotations, cold and once more: paths, then around the mount.

    The second epoch of the paths comes from the kernel's page cache, that of the dataset from the disk cache.
    """
    names = [f"{stem}.jpg" for stem in stage.workload.stems]
    for again in ("", "_again"):
        with cache_folder(stage.workload) as cache, mounted_by(contestant, stage.workload, cache) as mounted:
            look_into(contestant, mounted, BENCH)
            paths = contestant.paths(mounted, BENCH, names)
            _load(stage, contestant, "torch_paths_again" if again else "torch_paths", paths)
        if contestant.ours:
            with cache_folder(stage.workload) as cache:
                arguments = [str(stage.workload.local_catalog), contestant.folders[BENCH], str(cache)]
                _load(stage, contestant, "torch_dataset_again" if again else "torch_dataset", arguments)


def _load(stage: Stage, contestant: Contestant, work: Work, names: Sequence[str]) -> None:
    if not stage.wants(work, contestant):
        return
    images = [f"{stem}.jpg" for stem in stage.workload.stems]
    put_at_hand(stage.workload.folder, COPIES * stage.workload.size(BENCH, images))
    reading = run_readers([Job(work, names)], seconds=READ_SECONDS)
    if reading.items != len(images):
        raise BenchError(f"{work}: {reading.items} images came with boxes and not {len(images)}")
    stage.results.add(work, contestant, reading.rate)


def _image_names(stage: Stage, contestant: Contestant, plan: ReadPlan) -> list[str]:
    """The images that a contestant reads, in the order of reading."""
    names = [f"{stem}.jpg" for stem in stage.workload.stems]
    if plan.shuffled:
        names = random.Random(0).sample(names, len(names))
    share = contestant.delayed_share if plan.delayed else contestant.share
    return names[: max(1, round(len(names) * share))]


def _repetitions(contestant: Contestant, names: Sequence[str]) -> int:
    """How often the same images are read again."""
    return max(1, LEAST_READ_AGAIN // len(names)) if contestant.page_cache else 1


def look_into(contestant: Contestant, mounted: Mounted, folder: str) -> None:
    """List a directory, untimed, and let the mount come to rest."""
    run_readers([Job("list", [contestant.directory(mounted, folder)])], seconds=READ_SECONDS)
    settle(mounted)


def _read(
    stage: Stage, contestant: Contestant, mounted: Mounted, measure: str, names: Sequence[str], *, plan: ReadPlan
) -> None:
    """Time a pass over images, and prove the state that it was made in."""
    jobs = [Job("read", part) for part in dealt(contestant.paths(mounted, BENCH, names), plan.readers)]
    if measure not in {plan.again, plan.second_epoch}:
        put_at_hand(stage.workload.folder, COPIES * stage.workload.size(BENCH, names))
    with counting(stage, contestant, mounted) as requests:
        calls = _system_calls(mounted)
        reading = run_readers(jobs, seconds=READ_SECONDS)
        calls = _system_calls(mounted) - calls
    _check_bytes(stage, measure, reading, names)
    if not measure:
        return
    stage.results.add(measure, contestant, reading.rate, requests[0])
    if not contestant.counted:
        return
    if measure == plan.cold:
        _expect_cold(stage, contestant, measure, requests[0], names)
        return
    if not contestant.ours:
        # What others keep is theirs.
        return
    asked = requests[0].all
    stage.results.expect(measure, contestant, f"{asked} requests at the store", holds=asked == 0)
    few = calls <= MOST_CALLS_A_FILE * len(names) + FEW_CALLS
    if measure in {plan.again, plan.second_epoch}:
        stage.results.expect(measure, contestant, f"the daemon was asked ({calls} system calls)", holds=few)
    else:
        stage.results.expect(measure, contestant, f"the kernel did not ask ({calls} system calls)", holds=not few)


def _request(stage: Stage, contestant: Contestant, plan: ReadPlan) -> None:
    """Read the images with plain HTTP, over one kept connection a reader."""
    names = _image_names(stage, contestant, plan)
    azurite = stage.workload.azurite
    port = stage.delay_port(delayed=plan.delayed) or azurite.port
    paths = [f"/{azurite.account}/{LOOSE}/{BENCH}/{name}" for name in names]
    jobs = [Job("get", part, port, azurite.signature()) for part in dealt(paths, plan.readers)]
    with counting(stage, contestant) as requests:
        reading = run_readers(jobs, seconds=READ_SECONDS)
    _check_bytes(stage, plan.cold, reading, names)
    stage.results.add(plan.cold, contestant, reading.rate, requests[0])
    _expect_cold(stage, contestant, plan.cold, requests[0], names)


def _expect_cold(stage: Stage, contestant: Contestant, measure: str, requests: Requests, names: Sequence[str]) -> None:
    """Every blob was asked for; a pack at least once."""
    least = len(names) if contestant.loose else 1
    claim = f"{requests.contents} reads at the store and not {least} or more"
    stage.results.expect(measure, contestant, claim, holds=requests.contents >= least)


def _check_bytes(stage: Stage, measure: str, reading: Reading, names: Sequence[str]) -> None:
    size = stage.workload.size(BENCH, names)
    if reading.bytes != size:
        raise BenchError(f"{measure}: {reading.bytes} bytes were read and not {size}")


def _compare_digests(
    stage: Stage, contestant: Contestant, mounted: Mounted, measure: str, names: Sequence[str]
) -> None:
    """Read once more, untimed, and compare with what was uploaded."""
    names = names if contestant.ours else names[:DIGESTS_OF_OTHERS]
    reading = run_readers([Job("digest", contestant.paths(mounted, BENCH, names))], seconds=READ_SECONDS)
    expected = stage.workload.digests
    wrong = [name for name, digest in zip(names, reading.digests, strict=True) if digest != expected[name]]
    if wrong:
        raise BenchError(f"{measure}: {len(wrong)} files have another content than was uploaded, {wrong[0]} first")


def _system_calls(mounted: Mounted) -> int:
    """How often the processes behind a mount have called read or write, or the like.

    Every question of the kernel is one of each: the question is read from /dev/fuse, the answer written to it.
    """
    if mounted.process_id is None:
        return 0
    calls = 0
    for process_id in family(mounted.process_id):
        lines = Path(f"/proc/{process_id}/io").read_text().splitlines()
        counts = {name: int(count) for name, count in (line.split(": ") for line in lines)}
        calls += counts["syscr"] + counts["syscw"]
    return calls


def _ls(directory: str) -> float:
    """Run ``ls -l``; returns the seconds it takes."""
    begin = time.monotonic()
    subprocess.run(
        ["ls", "-l", directory],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=READ_SECONDS,
        check=True,
    )
    return time.monotonic() - begin
