"""The row ``stalled``: what a store that answers after seconds means for those who ask for nothing that is there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench_commands import BenchError
from bench_contestants import Contestant, mounted_by
from bench_mounts import Mounted, read_status, settle
from bench_readers import Job, run_readers
from bench_scenes import READ_SECONDS, look_into
from bench_stage import Stage, cache_folder
from bench_workload import BENCH

ANSWER_SECONDS = 5.0
BEGIN_SECONDS = 3.0
REST_SECONDS = 1.0
POLL_SECONDS = 0.05

READERS = 64
SIBLINGS = 16
LEAST_IMAGES = 4 * READERS

LISTED = 2_000_000
"""Entries, which take half a second: the directory is listed as often as that takes."""

NORMAL = ("normal_stat", "normal_list")
STALLED = ("stalled_stat", "stalled_list")


def play_stalled(stage: Stage, contestant: Contestant) -> None:
    """Readers, and looks at siblings, wait for the store; others list their directory and stat other files there."""
    stems, delay = stage.workload.stems, stage.delay
    if len(stems) < LEAST_IMAGES or delay is None:
        raise BenchError(f"the row stalled needs {LEAST_IMAGES} images or more, and the proxy that adds a delay")
    # Each name once: of a second look the kernel asks nobody.
    others = [f"{stem}{suffix}" for stem in stems[READERS:-SIBLINGS] for suffix in (".jpg", ".json")]
    with (
        cache_folder(stage.workload) as cache,
        mounted_by(contestant, stage.workload, cache, delay.port) as mounted,
        ThreadPoolExecutor(1) as executor,
    ):
        look_into(contestant, mounted, BENCH)
        images = contestant.paths(mounted, BENCH, [f"{stem}.jpg" for stem in stems[:READERS]])
        siblings = contestant.paths(mounted, BENCH, [f"{stem}.xml" for stem in stems[-SIBLINGS:]])
        jobs = [Job("read", images, threads=READERS), Job("stat", siblings, threads=SIBLINGS)]
        _look_around(stage, contestant, mounted, others[::2], NORMAL)
        with delay.prolonged(ANSWER_SECONDS):
            waiting = executor.submit(run_readers, jobs, seconds=READ_SECONDS)
            _await_waiting(mounted)
            # What it takes to ask the store is over by then.
            settle(mounted, seconds=REST_SECONDS)
            _look_around(stage, contestant, mounted, others[1::2], STALLED)
            left = read_status(mounted.path).waiting
            waiting.result(READ_SECONDS)
    claim = f"at the end {left} requests of the kernel waited for the store"
    stage.results.expect("stalled_stat", contestant, claim, holds=left >= READERS + SIBLINGS)


def _look_around(
    stage: Stage, contestant: Contestant, mounted: Mounted, names: Sequence[str], measures: tuple[str, str]
) -> None:
    """Stat files, and list the directory; what many readers do in half a second."""
    directory = contestant.directory(mounted, BENCH)
    stat = run_readers([Job("stat", contestant.paths(mounted, BENCH, names))], seconds=READ_SECONDS)
    repetitions = -(-LISTED // (len(stage.workload.stems) * contestant.entries))
    listed = run_readers([Job("list", [directory] * repetitions)], seconds=READ_SECONDS)
    for measure, reading in zip(measures, (stat, listed), strict=True):
        stage.results.add(measure, contestant, reading.rate)


def _await_waiting(mounted: Mounted) -> None:
    """Wait until the kernel has asked for all that is not there."""
    deadline = time.monotonic() + BEGIN_SECONDS
    while (waiting := read_status(mounted.path).waiting) < READERS + SIBLINGS:
        if time.monotonic() > deadline:
            raise BenchError(f"after {BEGIN_SECONDS:.0f} s only {waiting} requests of the kernel waited for the store")
        time.sleep(POLL_SECONDS)
