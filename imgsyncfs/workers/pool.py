"""The coordinator's side of its worker processes: start them, hand out jobs, replace those that die.

Why processes: the coordinator serves all responders and must not share its interpreter lock with anything busy. One
CPU-bound thread beside it takes `stat` from 32,900/s to 182/s.

Threads and locks: `WorkerPool._lock` guards the table of jobs and the list of workers, and is held for dictionary
operations only. Each `_Worker.send_lock` guards that worker's standard input; it may be held while a pipe drains.
They are never held together. For each worker one thread reads answers; it resolves futures outside both locks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from imgsyncfs import errors
from imgsyncfs.errors import AnnotationError, ImgsyncfsError, WorkerLost
from imgsyncfs.workers.frames import read_frame, write_frame

logger = logging.getLogger(__name__)

MOST_TRIES = 3
"""A job whose worker died is given to another one, up to this number: the job is then the likely reason."""

QUICK_DEATH_SECONDS = 1.0
"""A worker that died younger than this is replaced after as long a pause: starting it keeps a core busy."""

END_SECONDS = 3.0
"""The timeout of a worker whose input has ended; then it is killed."""

Answer = tuple[dict[str, Any], bytes]
"""A worker's answer: a JSON-able result and a payload."""

OnPart = Callable[[Answer], None]
"""Takes a part of an answer, sent ahead of the rest. If the worker dies, another one sends all parts anew."""


@dataclass
class _Job:
    number: int
    arguments: dict[str, Any]
    on_part: OnPart | None = None
    answer: Future[Answer] = field(default_factory=Future)
    tries: int = 0


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    send_lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: dict[int, _Job] = field(default_factory=dict)

    def send(self, frame: dict[str, Any]) -> None:
        assert self.process.stdin is not None  # noqa: S101  # Popen was given PIPE
        with self.send_lock:
            write_frame(self.process.stdin, frame)  # type: ignore[arg-type]  # IO[bytes] is a BinaryIO here


def restore_error(description: dict[str, str]) -> Exception:
    """Make the exception that a worker has described."""
    kind = getattr(errors, description["type"], None)
    if kind is AnnotationError:
        return AnnotationError(description["message"], field=description["field"])
    if isinstance(kind, type) and issubclass(kind, ImgsyncfsError):
        return kind(description["message"])
    return RuntimeError(f"{description['type']} in a worker process: {description['message']}")


class WorkerPool:
    """Worker processes that all run the same handler.

    Args:
        handler: ``module:Class``, see `imgsyncfs.workers.process.Handler`.
        settings: what the handler is made with; JSON-able. Goes over a pipe, so it may hold secrets.
        count: number of processes; `grow` adds more.
        threads: jobs that one process runs at a time.
    """

    def __init__(self, handler: str, settings: dict[str, Any], *, count: int, threads: int) -> None:
        self._setup = {"handler": handler, "settings": settings, "threads": threads}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._ending = threading.Event()
        self._replaced = 0
        self._coming: list[_Worker] = []
        self._workers: list[_Worker] = [self._start() for _ in range(count)]

    def submit(self, arguments: dict[str, Any], on_part: OnPart | None = None) -> Future[Answer]:
        """Give a job to the worker with the fewest.

        Args:
            arguments: JSON-able, for the handler.
            on_part: called on the worker's listening thread, before the future is done.

        Returns:
            A future of (result, payload), or of whatever the handler raised; of `WorkerLost` if several workers died
            over the job, or the pool was closed. The caller sets the timeout.
        """
        job = _Job(next(self._numbers), arguments, on_part)
        self._assign(job)
        return job.answer

    def grow(self, count: int, *, first: dict[str, Any]) -> None:
        """Start more processes. They get jobs when they have come up: until then, the others are quicker.

        Args:
            count: how many there are to be.
            first: arguments of each one's first job, which makes it ready for others.
        """
        for _ in range(count - len(self.process_ids())):
            worker = self._start()
            job = _Job(next(self._numbers), first, tries=MOST_TRIES)
            worker.jobs[job.number] = job
            with self._lock:
                self._coming.append(worker)
            job.answer.add_done_callback(lambda _, worker=worker: self._join(worker))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            with contextlib.suppress(OSError, ValueError):
                # One that has died already is seen by its listener.
                worker.send({"id": job.number, "arguments": job.arguments})

    def _join(self, worker: _Worker) -> None:
        """Let a process that came up take jobs; one that died is replaced by its listener."""
        with self._lock:
            if worker in self._coming:
                self._coming.remove(worker)
                if worker.process.poll() is None:
                    self._workers.append(worker)

    def process_ids(self) -> list[int]:
        """The workers' process ids."""
        with self._lock:
            return [worker.process.pid for worker in self._workers + self._coming]

    def replaced(self) -> int:
        """How many workers died and were replaced."""
        with self._lock:
            return self._replaced

    def close(self) -> None:
        """End all workers, and all unfinished jobs with an error."""
        self._ending.set()
        with self._lock:
            workers, self._workers, self._coming = self._workers + self._coming, [], []
        for worker in workers:
            assert worker.process.stdin is not None  # noqa: S101  # Popen was given PIPE
            try:
                worker.process.stdin.close()
            except OSError:
                logger.debug("Worker %d was gone already.", worker.process.pid)
        for worker in workers:
            try:
                worker.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _start(self) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "imgsyncfs.workers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C at a terminal is meant for whoever reads answers here.
            start_new_session=True,
        )
        worker = _Worker(process)
        worker.send(self._setup)
        threading.Thread(target=self._listen, args=(worker,), name=f"worker-{process.pid}", daemon=True).start()
        return worker

    def _assign(self, job: _Job) -> None:
        with self._lock:
            worker = min(self._workers, key=lambda candidate: len(candidate.jobs), default=None)
            if worker is not None:
                worker.jobs[job.number] = job
                job.tries += 1
        if worker is None:
            job.answer.set_exception(WorkerLost("The mount is ending; mount again to go on."))
            return
        try:
            worker.send({"id": job.number, "arguments": job.arguments})
        except (OSError, ValueError):
            # Its listener sees the end of its output as well, and hands the job on.
            logger.debug("Worker %d does not take jobs any more.", worker.process.pid)

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None  # noqa: S101  # Popen was given PIPE
        while (frame := read_frame(worker.process.stdout)) is not None:  # type: ignore[arg-type]  # IO[bytes] likewise
            self._take(worker, *frame)
            # Not kept until the next one comes: a job holds on to whatever those who wait for it need.
            del frame
        status = worker.process.wait()
        self._replace(worker, status)

    def _take(self, worker: _Worker, header: dict[str, Any], payload: bytes) -> None:
        """Take what a worker sent."""
        with self._lock:
            job = worker.jobs[header["id"]] if "part" in header else worker.jobs.pop(header["id"])
        if "part" in header:
            if job.on_part is not None:
                job.on_part((header["part"], payload))
        elif "error" in header:
            job.answer.set_exception(restore_error(header["error"]))
        else:
            job.answer.set_result((header["result"], payload))

    def _replace(self, dead: _Worker, status: int) -> None:
        """Replace a dead worker. Until then jobs still go to the dead one, and are handed on here."""
        if not self._ending.is_set():
            logger.warning("Worker %d ended with status %d; it is replaced.", dead.process.pid, status)
        if time.monotonic() - dead.started < QUICK_DEATH_SECONDS:
            self._ending.wait(QUICK_DEATH_SECONDS)
        replacement = None if self._ending.is_set() else self._start()
        with self._lock:
            if dead in self._workers:
                self._workers.remove(dead)
            left = list(dead.jobs.values())
            surplus = replacement is not None and self._ending.is_set()
            if replacement is not None and not surplus:
                self._workers.append(replacement)
                self._replaced += 1
        if replacement is not None and surplus:
            replacement.process.kill()
        for job in left:
            self._hand_on(job)

    def _hand_on(self, job: _Job) -> None:
        if job.tries >= MOST_TRIES:
            job.answer.set_exception(
                WorkerLost(
                    f"{job.tries} worker processes died over the same job; the mount's log has their last words."
                )
            )
        else:
            self._assign(job)
