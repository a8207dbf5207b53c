"""What the benchmark's scenes are played on: the workload, and the numbers that come of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_commands import BenchError
from bench_contestants import Contestant
from bench_mounts import Mounted, read_status
from bench_servers import Delay, PostgreSql, Requests
from bench_workload import Workload


@dataclass
class Results:
    """What has been measured so far; a measure and a contestant's name are the key of each table.

    Attributes:
        samples: one number a round.
        requests: at the server, in the same rounds.
        failures: why there is no number where one was asked for.
        errors: our own failures, and what was measured in another state than it should have been.
    """

    samples: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    requests: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, measure: str, contestant: Contestant, value: float, requests: Requests | None = None) -> None:
        """Note a number."""
        self.samples[measure, contestant.name].append(value)
        if requests is not None and contestant.counted:
            self.requests[measure, contestant.name].append(requests.all)

    def expect(self, measure: str, contestant: Contestant, claim: str, *, holds: bool) -> None:
        """Note an error unless something holds."""
        if not holds:
            self.errors.append(f"{measure}, {contestant.name}: not in the state it should have been in: {claim}")

    def fail(self, measures: Sequence[str], contestant: Contestant, reason: str) -> None:
        """Note why a contestant has no numbers; those of earlier rounds go."""
        for measure in measures:
            self.samples.pop((measure, contestant.name), None)
            self.failures[measure, contestant.name] = reason
        if contestant.ours:
            self.errors.append(f"{measures[0]}, {contestant.name}: {reason}")


@dataclass(frozen=True)
class Stage:
    """What a scene is played with.

    Attributes:
        workload: the files.
        results: gets the numbers.
        round: from 0; in the first one digests are compared.
        wanted: measures and contestants that are asked for.
        delay: the proxy that adds a delay; None if no scene needs it.
        database: for a catalog; None if no scene needs it.
    """

    workload: Workload
    results: Results
    round: int
    wanted: frozenset[tuple[str, str]]
    delay: Delay | None = None
    database: PostgreSql | None = None

    def delay_port(self, *, delayed: bool) -> int:
        """The port to ask: of the proxy, or 0 for the server's own."""
        if not delayed:
            return 0
        if self.delay is None:
            raise BenchError("the proxy that adds a delay was not started")
        return self.delay.port

    def wants(self, measure: str, contestant: Contestant) -> bool:
        """Whether the number is asked for."""
        return (measure, contestant.name) in self.wanted


@dataclass(frozen=True)
class Scene:
    """Something that contestants do one after the other.

    Attributes:
        measures: what comes of it.
        play: does it.
        once: in the first round only.
        database: it needs PostgreSQL.
        delayed: it needs the proxy that adds a delay.
        modules: it needs these Python modules, which the benchmark does not install.
    """

    measures: tuple[str, ...]
    play: Callable[[Stage, Contestant], None]
    once: bool = False
    database: bool = False
    delayed: bool = False
    modules: tuple[str, ...] = ()


@contextlib.contextmanager
def counting(stage: Stage, contestant: Contestant, mounted: Mounted | None = None) -> Iterator[list[Requests]]:
    """Count what is asked of the store; the list has it after the block. Where nobody counts, it is nothing.

    Args:
        stage: has the server.
        contestant: who asks.
        mounted: its mount; None for one that has none.
    """
    counted: list[Requests] = []
    if contestant.remote:
        mark = stage.workload.azurite.mark()
        yield counted
        counted.append(stage.workload.azurite.requests_since(mark))
    elif contestant.ours and mounted is not None:
        before = read_status(mounted.path).store_requests
        yield counted
        counted.append(Requests(contents=read_status(mounted.path).store_requests - before))
    else:
        yield counted
        counted.append(Requests())


@contextlib.contextmanager
def cache_folder(workload: Workload) -> Iterator[Path]:
    """A new folder for a disk cache, whose files are emptied at the end and not removed.

    For minutes after many files were removed, ext4 takes up to a millisecond to make a new one, since it looks through
    all that it has just forgotten: the next one's cache would pay for it.
    """
    folder = Path(tempfile.mkdtemp(prefix="cache-", dir=workload.folder))
    try:
        yield folder
    finally:
        for parent, _, names in os.walk(folder):
            for name in names:
                os.truncate(Path(parent, name), 0)
