"""Readers of the benchmark: fresh processes that begin together, and what they read in which time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Literal

from bench_commands import SCRIPTS, BenchError

Work = Literal[
    "read",
    "digest",
    "stat",
    "list",
    "get",
    "decode",
    "train",
    "torch_dataset",
    "torch_dataset_again",
    "torch_paths",
    "torch_paths_again",
]

PROGRAMS: Mapping[Work, str] = {
    "decode": "bench_decode.py",
    "train": "bench_train.py",
    "torch_dataset": "bench_torch.py",
    "torch_dataset_again": "bench_torch.py",
    "torch_paths": "bench_torch.py",
    "torch_paths_again": "bench_torch.py",
}
"""Those that need site-packages; without them an interpreter is ready in 15 ms."""


@dataclass(frozen=True)
class Job:
    """What one reader does.

    Attributes:
        work: kind of work; see `bench_reader`, `bench_decode`, `bench_train` and `bench_torch`.
        names: the paths, in the order of reading; for ``get`` the URLs' paths; for ``torch_dataset`` the catalog, the
            dataset and the folder of the disk cache.
        port: for ``get``, of the server.
        signature: for ``get``, what makes the server answer.
        threads: of the reader; for ``read`` and ``stat`` the names are dealt to so many.
    """

    work: Work
    names: Sequence[str]
    port: int = 0
    signature: str = field(default="", repr=False)
    threads: int = 1

    def line(self) -> str:
        """As the reader takes it."""
        return json.dumps({**asdict(self), "names": list(self.names)}) + "\n"


@dataclass(frozen=True)
class Reading:
    """What readers did together.

    Attributes:
        items: files, entries or images.
        bytes: of content; for ``stat`` the sum of the sizes.
        seconds: from the first reader's start to the last one's end.
        digests: MD5 of each file in the order of the jobs, for ``digest``.
    """

    items: int
    bytes: int
    seconds: float
    digests: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


def dealt(names: Sequence[str], readers: int) -> list[Sequence[str]]:
    """Deal names to readers like cards, so that together they go through them in order."""
    return [names[reader::readers] for reader in range(readers)]


def run_readers(jobs: Sequence[Job], *, seconds: float) -> Reading:
    """Runs a reader for each job; they start together when all of them are ready.

    Args:
        jobs: one for each reader.
        seconds: after which they are ended.

    Raises:
        BenchError: one failed, or they took too long.
    """
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        readers = [stack.enter_context(_started(job.work, errors)) for job in jobs]
        late = threading.Event()

        def end_all() -> None:
            late.set()
            for reader in readers:
                reader.kill()

        timer = threading.Timer(seconds, end_all)
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        try:
            for reader, job in zip(readers, jobs, strict=True):
                _pipe(reader.stdin).write(job.line())
                _pipe(reader.stdin).flush()
            for reader in readers:
                _pipe(reader.stdout).readline()
            for reader in readers:
                _pipe(reader.stdin).write("go\n")
                _pipe(reader.stdin).flush()
            lines = [_pipe(reader.stdout).readline() for reader in readers]
        except BrokenPipeError:
            lines = [""]
        if late.is_set():
            raise BenchError(f"readers did not end within {seconds:.0f} s")
        if not all(lines):
            errors.seek(0)
            raise BenchError(f"a reader ended without a result: {errors.read().strip()[-500:]}")
    return joined([json.loads(line) for line in lines])


def joined(results: Sequence[dict[str, Any]]) -> Reading:
    """Put together what the readers said; raises BenchError if one of them failed."""
    for result in results:
        if "error" in result:
            raise BenchError(f"a reader failed: {result['error']}")
    return Reading(
        items=sum(result["items"] for result in results),
        bytes=sum(result["bytes"] for result in results),
        seconds=max(result["end"] for result in results) - min(result["begin"] for result in results),
        digests=tuple(digest for result in results for digest in result.get("digests", ())),
    )


@contextlib.contextmanager
def _started(work: Work, errors: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """A reader's process; it is gone at the end of the block."""
    command = [SCRIPTS / PROGRAMS[work]] if work in PROGRAMS else ["-I", "-S", SCRIPTS / "bench_reader.py"]
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd="/"
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
            # What one that ended early was not given any more.
            with contextlib.suppress(BrokenPipeError):
                _pipe(process.stdin).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # Popen was given PIPE
    return stream
