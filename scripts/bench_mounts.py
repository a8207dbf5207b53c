"""The mounts of the benchmark: how each is made, and how it is ended.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_commands import SCRIPTS, BenchError, installed, run_imgsyncfs
from bench_memory import forget_pages
from bench_workload import BENCH, LOOSE, Workload

MOUNT_SECONDS = 60.0
END_SECONDS = 30.0
POLL_SECONDS = 0.01
SETTLE_SECONDS = 10.0
IDLE_SECONDS = 0.05


@dataclass(frozen=True)
class Mounted:
    """A mount that is there.

    Attributes:
        path: its mount point.
        process_id: who answers the kernel; None where nobody does (native files).
    """

    path: Path
    process_id: int | None = None


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
        options = ["--refresh", f"{refresh:g}"]
        if workload.server is not None:
            # The loose blobs lie beside the catalog's own store.
            options += ["--allow-store", f"azure://{workload.server.account}/{LOOSE}"]
        if cache_bytes:
            options += ["--cache-size", str(cache_bytes)]
        run_imgsyncfs(variables, "mount", path, *options, seconds=MOUNT_SECONDS)
        process_id = read_status(path).process_id
        # The daemon is no child of this process.
        descriptor = os.pidfd_open(process_id)
        stack.callback(os.close, descriptor)
        stack.callback(_await_end, descriptor)
        stack.callback(_unmount, path)
        yield Mounted(path, process_id)


@contextlib.contextmanager
def mounted_local(workload: Workload, cache: Path, _port: int = 0) -> Iterator[Mounted]:
    """This project's mount of the catalog whose store is a local folder."""
    with mounted_imgsyncfs(workload, cache, catalog=str(workload.local_catalog)) as mounted:
        yield mounted


@contextlib.contextmanager
def mounted_rclone(
    workload: Workload, cache: Path, port: int = 0, *, cache_bytes: int = 0, remote: str = f"azurite:{LOOSE}"
) -> Iterator[Mounted]:
    """`rclone mount` with a full disk cache, and its defaults otherwise."""
    options = ["--vfs-cache-mode", "full", "--cache-dir", str(cache), "--read-only"]
    if cache_bytes:
        # By default it looks once a minute whether the cache has become too large.
        options += ["--vfs-cache-max-size", str(cache_bytes), "--vfs-cache-poll-interval", "1s"]
    path = _mountpoint(workload.folder)
    command = [installed("rclone"), "mount", remote, str(path), *options]
    with _mounted_process(command, path, workload.rclone_variables(port=port)) as mounted:
        yield mounted


@contextlib.contextmanager
def mounted_rclone_local(workload: Workload, cache: Path, _port: int = 0) -> Iterator[Mounted]:
    """`rclone mount` of the folder of images on this machine's disk."""
    with mounted_rclone(workload, cache, remote=str(workload.folder / BENCH)) as mounted:
        yield mounted


@contextlib.contextmanager
def mounted_juicefs(workload: Workload, cache: Path, _port: int = 0, *, read_only: bool = True) -> Iterator[Mounted]:
    """`juicefs mount` with a disk cache, and its defaults otherwise; one that is written to keeps nothing.

    By default JuiceFS keeps nothing on a disk that is more than 90 % full.
    """
    caching = ["--read-only", "--free-space-ratio", "0.01"] if read_only else ["--cache-size", "0"]
    quietly = ["--no-usage-report", "--no-bgjob", "--no-syslog", "--backup-meta", "0"]
    path = _mountpoint(workload.folder)
    command = [installed("juicefs"), "mount", workload.juicefs_url, str(path), "--cache-dir", str(cache)]
    with _mounted_process([*command, *caching, *quietly], path, os.environ) as mounted:
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


@contextlib.contextmanager
def native_files_on_disk(workload: Workload, _cache: Path, _port: int = 0) -> Iterator[Mounted]:
    """No mount at all: the images on this machine's disk, none of them in memory."""
    forget_pages(workload.folder / BENCH)
    yield Mounted(workload.folder)


@dataclass(frozen=True)
class Status:
    """What this project's mount says of itself.

    Attributes:
        process_id: of the daemon.
        kernel_requests: how many requests of the kernel were answered.
        store_requests: how often the store was asked.
        store_bytes: what came from there.
        waiting: requests of the kernel that wait for the store now.
    """

    process_id: int
    kernel_requests: int
    store_requests: int
    store_bytes: int
    waiting: int


def read_status(path: Path) -> Status:
    """What this project's mount says of itself; reading it takes some requests of the kernel."""
    status = json.loads((path / ".imgsyncfs" / "status.json").read_bytes())
    store = status["store"]
    return Status(
        process_id=status["process_id"],
        kernel_requests=status["responders"]["requests"],
        store_requests=store["requests"],
        store_bytes=store["bytes"],
        waiting=store["waiting"],
    )


def settle(mounted: Mounted, *, seconds: float = SETTLE_SECONDS) -> None:
    """Wait until a mount's processes do nothing: what they start in the background is no part of any row.

    Args:
        mounted: the mount.
        seconds: after which it is waited no longer.
    """
    if mounted.process_id is None:
        return
    deadline = time.monotonic() + seconds
    before = -1
    while (spent := sum(map(_ticks, family(mounted.process_id)))) != before and time.monotonic() < deadline:
        before = spent
        time.sleep(IDLE_SECONDS)


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
