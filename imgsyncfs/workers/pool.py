"""The coordinator's side of its worker processes: start them, hand out jobs, replace those that die.

Why processes: the coordinator serves all responders and must not share its interpreter lock with anything busy. One
CPU-bound thread beside it takes `stat` from 32,900/s to 182/s.

Threads and locks: `WorkerPool._lock` guards the table of jobs and the list of workers, and is held for dictionary
operations only. Each `_Worker.send_lock` guards that worker's pipe of jobs; it may be held while the pipe drains.
They are never held together. For each worker one thread reads answers; it resolves futures outside both locks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from imgsyncfs import errors
from imgsyncfs.errors import AnnotationError, ImgsyncfsError, WorkerLost
from imgsyncfs.workers.forking import ForkedProcess, Template
from imgsyncfs.workers.frames import read_frame, write_frame

logger = logging.getLogger(__name__)

MOST_TRIES = 3
"""A job whose worker died is given to another one, up to this number: the job is then the likely reason."""

QUICK_DEATH_SECONDS = 1.0
"""A worker that died younger than this is replaced after as long a pause: starting it keeps a core busy."""

END_SECONDS = 1.0
"""Until when all workers of a pool must have ended after their input has; then they are killed."""

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
    process: ForkedProcess
    to_worker: BinaryIO
    answers: BinaryIO
    started: float = field(default_factory=time.monotonic)
    send_lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: dict[int, _Job] = field(default_factory=dict)

    def send(self, frame: dict[str, Any]) -> None:
        with self.send_lock:
            write_frame(self.to_worker, frame)


def restore_error(description: dict[str, str]) -> Exception:
    """Make the exception that a worker has described."""
    kind = getattr(errors, description["type"], None)
    if kind is AnnotationError:
        return AnnotationError(description["message"], field=description["field"])
    if isinstance(kind, type) and issubclass(kind, ImgsyncfsError):
        return kind(description["message"], option=description.get("option", ""))
    return RuntimeError(f"{description['type']} in a worker process: {description['message']}")


class WorkerPool:
    """Worker processes that all run the same handler.

    Args:
        handler: ``module:Class``, see `imgsyncfs.workers.process.Handler`.
        settings: what the handler is made with; JSON-able. Goes over a pipe, so it may hold secrets.
        count: number of processes; `grow` adds more.
        threads: jobs that one process runs at a time.
        template: what the processes are forked from; it may have imported what they need. It is the caller's.
    """

    def __init__(self, handler: str, settings: dict[str, Any], *, count: int, threads: int, template: Template) -> None:
        self._template = template
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

    def give_up(self, answer: Future[Answer]) -> None:
        """End the process that has a job which takes too long; what else it has to do another one does.

        Args:
            answer: what `submit` returned; it is never done then.
        """
        with self._lock:
            for worker in (*self._workers, *self._coming):
                numbers = [number for number, job in worker.jobs.items() if job.answer is answer]
                if numbers:
                    del worker.jobs[numbers[0]]
                    break
            else:
                return
        worker.process.kill()

    def grow(self, count: int, *, first: dict[str, Any]) -> None:
        """Start more processes. They get jobs when they have come up: until then, the others are quicker.

        Args:
            count: how many there are to be.
            first: arguments of each one's first job, which makes it ready for others.
        """
        with self._lock:
            missing = count - len(self._workers) - len(self._coming)
        for _ in range(missing):
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
                if worker.process.is_alive():
                    self._workers.append(worker)

    def process_ids(self) -> list[int]:
        """The workers' process ids, without those that the template died over before they were there."""
        with self._lock:
            workers = self._workers + self._coming
        return [process_id for worker in workers if (process_id := worker.process.process_id)]

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
            with contextlib.suppress(OSError):
                # It was gone already.
                worker.to_worker.close()
        deadline = time.monotonic() + END_SECONDS
        for worker in workers:
            if not worker.process.wait(max(0.0, deadline - time.monotonic())):
                worker.process.kill()
                worker.process.wait(END_SECONDS)

    def _start(self) -> _Worker:
        their_jobs, our_jobs = os.pipe()
        our_answers, their_answers = os.pipe()
        try:
            process = self._template.fork("imgsyncfs.workers.process:serve", {}, (their_jobs, their_answers))
        finally:
            os.close(their_jobs)
            os.close(their_answers)
        worker = _Worker(process, os.fdopen(our_jobs, "wb"), os.fdopen(our_answers, "rb"))
        with contextlib.suppress(OSError):
            # One that has died already is seen by its listener.
            worker.send(self._setup)
        threading.Thread(target=self._listen, args=(worker,), name="worker", daemon=True).start()
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
            logger.debug("A worker does not take jobs any more.")

    def _listen(self, worker: _Worker) -> None:
        try:
            while (frame := read_frame(worker.answers)) is not None:
                self._take(worker, *frame)
                # Not kept until the next one comes: a job holds on to whatever those who wait for it need.
                del frame
        except Exception:
            # Nothing that comes after it can be read. What it had to do, another one does.
            logger.exception("Worker %d sent what is no answer; it is ended.", worker.process.process_id)
            worker.process.kill()
        worker.answers.close()
        self._replace(worker)

    def _take(self, worker: _Worker, header: dict[str, Any], payload: bytes) -> None:
        """Take what a worker sent."""
        number = header["id"]
        if "part" in header:
            with self._lock:
                job = worker.jobs.get(number)
            # None: it was given up.
            if job is not None and job.on_part is not None:
                job.on_part((header["part"], payload))
            return
        error = restore_error(header["error"]) if "error" in header else None
        result = (header["result"], payload) if error is None else None
        # Its own until it is known to have been answered.
        with self._lock:
            job = worker.jobs.pop(number, None)
        if job is None:
            return
        if result is None:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(result)

    def _replace(self, dead: _Worker) -> None:
        """Replace a dead worker. Until then jobs still go to the dead one, and are handed on here."""
        if not self._ending.is_set():
            logger.warning("Worker %d ended; it is replaced.", dead.process.process_id)
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
