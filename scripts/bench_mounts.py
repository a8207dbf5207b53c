"""The contestants of the benchmark: how each is mounted, where the files then are, and how it is ended.

Only what a `with` block here has mounted is unmounted, and only processes that it started are ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench_commands import SCRIPTS, BenchError
from bench_workload import BENCH, LIST, LIST_ID, LOOSE, LOOSE_ID, PACKED_ID, Workload, run_imgsyncfs

MOUNT_SECONDS = 60.0
END_SECONDS = 30.0
POLL_SECONDS = 0.01
SETTLE_SECONDS = 10.0
IDLE_SECONDS = 0.1


@dataclass(frozen=True)
class Mounted:
    """A mount that is there.

    Attributes:
        path: its mount point.
        process_id: who answers the kernel; None where nobody does (native files).
    """

    path: Path
    process_id: int | None = None


Mount = Callable[..., AbstractContextManager[Mounted]]


@dataclass(frozen=True)
class Contestant:
    """Something that shows the files.

    Attributes:
        name: in the rows.
        mount: makes it, given the workload, the folder of its disk cache and the port of a proxy (0 for none). One with
            a disk cache also takes ``cache_bytes``, the most that it keeps (0 for the default).
        folders: where each folder of the workload is, below the mount point; empty for what asks the server itself.
        ours: it is this project's.
        remote: the files come from Azurite.
        disk_cache: what was read stays on disk, for the next mount.
        page_cache: what was read is read again without asking anyone but the kernel.
        loose: in Azurite every file is a blob of its own.
        share: the part of the images that it reads; more would take minutes, and the rate is the same.
        delayed_share: the part behind the delay.
        stat_share: the part whose attributes it is asked for.
        only: the scenes in which it takes part, by their first measures; empty for all.
    """

    name: str
    mount: Mount
    folders: Mapping[str, str]
    ours: bool = False
    remote: bool = True
    disk_cache: bool = False
    page_cache: bool = False
    loose: bool = True
    share: float = 1.0
    delayed_share: float = 1.0
    stat_share: float = 1.0
    only: tuple[str, ...] = ()

    def paths(self, mounted: Mounted, folder: str, names: Sequence[str]) -> list[str]:
        """The paths of files of a folder of the workload."""
        directory = self.directory(mounted, folder)
        return [f"{directory}/{name}" for name in names]

    def directory(self, mounted: Mounted, folder: str) -> str:
        """The path of a folder of the workload."""
        return str(mounted.path / self.folders[folder])


@contextlib.contextmanager
def mounted_imgsyncfs(
    workload: Workload,
    cache: Path,
    port: int = 0,
    *,
    catalog: str = "",
    password: str = "",
    refresh: float = 60,
    cache_bytes: int = 0,
) -> Iterator[Mounted]:
    """This project's mount, with its defaults."""
    variables = workload.variables(cache=cache, port=port, catalog=catalog, password=password)
    path = _mountpoint(workload.folder)
    with contextlib.ExitStack() as stack:
        stack.callback(_unmount, path)
        # The loose blobs lie beside the catalog's own store.
        options = ["--refresh", f"{refresh:g}", "--allow-store", f"azure://{workload.azurite.account}/{LOOSE}"]
        if cache_bytes:
            options += ["--cache-size", str(cache_bytes)]
        run_imgsyncfs(variables, "mount", path, *options, seconds=MOUNT_SECONDS)
        process_id = kernel_requests(path)[0]
        # The daemon is no child of this process.
        descriptor = os.pidfd_open(process_id)
        stack.callback(os.close, descriptor)
        stack.callback(_await_end, descriptor)
        stack.callback(_unmount, path)
        yield Mounted(path, process_id)


@contextlib.contextmanager
def mounted_rclone(workload: Workload, cache: Path, port: int = 0, *, cache_bytes: int = 0) -> Iterator[Mounted]:
    """`rclone mount` with a full disk cache, and its defaults otherwise."""
    options = ["--vfs-cache-mode", "full", "--cache-dir", str(cache), "--read-only"]
    if cache_bytes:
        # By default it looks once a minute whether the cache has become too large.
        options += ["--vfs-cache-max-size", str(cache_bytes), "--vfs-cache-poll-interval", "1s"]
    path = _mountpoint(workload.folder)
    command = ["rclone", "mount", f"azurite:{LOOSE}", str(path), *options]
    with _mounted_process(command, path, workload.rclone_variables(port=port)) as mounted:
        yield mounted


@contextlib.contextmanager
def mounted_adlfs(workload: Workload, _cache: Path, port: int = 0) -> Iterator[Mounted]:
    """`fsspec.fuse` over `adlfs`; it keeps nothing on disk."""
    variables = {**os.environ, "AZURE_STORAGE_CONNECTION_STRING": workload.azurite.connection_string(port)}
    path = _mountpoint(workload.folder)
    command = [sys.executable, str(SCRIPTS / "bench_adlfs.py"), LOOSE, str(path)]
    with _mounted_process(command, path, variables) as mounted:
        yield mounted


@contextlib.contextmanager
def mounted_floor(workload: Workload, _cache: Path, _port: int = 0) -> Iterator[Mounted]:
    """The bare passthrough, over the native files."""
    path = _mountpoint(workload.folder)
    command = [sys.executable, str(SCRIPTS / "bench_floor.py"), str(workload.folder), str(path)]
    with _mounted_process(command, path, os.environ) as mounted:
        yield mounted


@contextlib.contextmanager
def native_files(workload: Workload, _cache: Path, _port: int = 0) -> Iterator[Mounted]:
    """No mount at all: the files on this machine's disk."""
    yield Mounted(workload.folder)


def kernel_requests(path: Path) -> tuple[int, int]:
    """The process id of this project's mount, and how many requests of the kernel it has answered."""
    status = json.loads((path / ".imgsyncfs" / "status.json").read_bytes())
    return status["process_id"], status["responders"]["requests"]


def settle(mounted: Mounted) -> None:
    """Wait until a mount's processes do nothing: what they start in the background is no part of any row."""
    if mounted.process_id is None:
        return
    deadline = time.monotonic() + SETTLE_SECONDS
    before = -1
    while (spent := sum(map(_ticks, family(mounted.process_id)))) != before and time.monotonic() < deadline:
        before = spent
        time.sleep(IDLE_SECONDS)


@contextlib.contextmanager
def settled(
    contestant: Contestant, workload: Workload, cache: Path, port: int = 0, *, cache_bytes: int = 0, refresh: int = 0
) -> Iterator[Mounted]:
    """A contestant's mount that has come to rest."""
    limit = {"cache_bytes": cache_bytes} if cache_bytes else {}
    if refresh and contestant.ours:
        limit["refresh"] = refresh
    with contestant.mount(workload, cache, port, **limit) as mounted:
        settle(mounted)
        yield mounted


def family(process_id: int) -> list[int]:
    """A process and all below it."""
    family = [process_id]
    for each in family:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{each}/task").glob("*/children"):
                family += map(int, children.read_text().split())
    return family


def _ticks(process_id: int) -> int:
    """Processor time of a process so far, in the kernel's ticks; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def unmount_below(folder: Path) -> None:
    """End whatever is still mounted in a folder of the benchmark's own."""
    for path in _mounts():
        if folder in path.parents:
            _unmount(path)


def _mountpoint(folder: Path) -> Path:
    """A new empty directory for a mount."""
    path = folder / f"mnt-{secrets.token_hex(4)}"
    path.mkdir()
    return path


@contextlib.contextmanager
def _mounted_process(command: Sequence[str], path: Path, variables: Mapping[str, str]) -> Iterator[Mounted]:
    """A program that mounts and stays in the foreground."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal is for the benchmark, which unmounts first.
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + MOUNT_SECONDS
        while path not in _mounts():
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(errors="replace").strip()[-1000:]
                raise BenchError(f"{command[0]} did not mount: {text}")
            time.sleep(POLL_SECONDS)
        yield Mounted(path, process.pid)
    finally:
        _unmount(path)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _unmount(path: Path) -> None:
    """End the mount, if there is one; one that somebody keeps busy is detached at the end of the time."""
    deadline = time.monotonic() + END_SECONDS
    while path in _mounts():
        lazily = ["-z"] if time.monotonic() > deadline else []
        done = subprocess.run(
            ["fusermount", "-u", *lazily, path], capture_output=True, text=True, timeout=END_SECONDS, check=False
        )
        if done.returncode != 0:
            if lazily:
                raise BenchError(f"{path} cannot be unmounted: {done.stderr.strip()}")
            time.sleep(POLL_SECONDS)


def _mounts() -> list[Path]:
    """All mount points of this machine. Not by os.path.ismount: it asks the mount, and a dead one does not answer."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    # Spaces and the like are written as \040 there.
    return [Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[1])) for line in lines]


def _await_end(descriptor: int) -> None:
    """Wait until a process has ended; end it if it does not."""
    if not select.select([descriptor], [], [], END_SECONDS)[0]:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def contestants(*, quick: bool) -> dict[str, Contestant]:
    """All of them by name.

    Args:
        quick: there are a tenth of the files, and the slowest takes part in fewer scenes.
    """
    plain = {BENCH: BENCH, LIST: LIST}
    everyone = (
        Contestant(
            "packed",
            mounted_imgsyncfs,
            {BENCH: PACKED_ID, LIST: LIST_ID},
            ours=True,
            disk_cache=True,
            page_cache=True,
            loose=False,
        ),
        Contestant(
            "loose",
            mounted_imgsyncfs,
            {BENCH: LOOSE_ID, LIST: LIST_ID},
            ours=True,
            disk_cache=True,
            page_cache=True,
        ),
        Contestant("rclone", mounted_rclone, plain, disk_cache=True, share=1 / 3, delayed_share=0.15 if quick else 0.1),
        Contestant(
            "adlfs",
            mounted_adlfs,
            plain,
            share=0.1,
            delayed_share=0.05,
            stat_share=0.1,
            # Each of its mounts takes seconds to start.
            only=("cold_order",) if quick else (),
        ),
        Contestant("native", native_files, plain, remote=False, page_cache=True),
        Contestant("floor", mounted_floor, plain, remote=False),
        Contestant("http", native_files, {}, delayed_share=0.1),
    )
    return {contestant.name: contestant for contestant in everyone}
