"""Calls that may hang, with a time limit: they run in a thread that is left behind when it does not come back.

A database driver waits in C for a server that has gone; no signal and no option of every driver ends that.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

Result = TypeVar("Result")

_Job = tuple[Callable[[], Any], "Future[Any]"]


class TimeLimitExceeded(Exception):
    """A call did not come back in time; its thread is lost, and so is whatever it was working on."""


class TimeLimitedThread:
    """One thread that runs calls one after the other while the caller waits, but not for ever.

    Used by one thread at a time. After a `TimeLimitExceeded` every further call raises it at once.

    Args:
        name: of the thread.
        seconds: the longest that a call may take.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._seconds = seconds
        self._lost = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon thread, and none of an executor's: those are waited for when the interpreter ends.
        threading.Thread(target=_run, args=(self._jobs,), name=name, daemon=True).start()
        self._end = weakref.finalize(self, self._jobs.put, None)

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the thread.

        Args:
            function: what to run.

        Returns:
            What it returns.

        Raises:
            TimeLimitExceeded: it did not come back in time, or an earlier one did not.
            BaseException: whatever it raises.
        """
        if self._lost:
            raise TimeLimitExceeded
        future: Future[Result] = Future()
        self._jobs.put((function, future))
        try:
            return future.result(self._seconds)
        except FutureTimeoutError:
            if future.done():
                raise
            self._lost = True
            raise TimeLimitExceeded from None

    def end(self) -> None:
        """End the thread when all calls have come back."""
        self._end()

    def last(self, function: Callable[[], object]) -> None:
        """Run a function when all before it have come back, wait for it if they have, and end the thread."""
        future: Future[object] = Future()
        self._jobs.put((function, future))
        self.end()
        if not self._lost:
            self._lost = True
            wait([future], self._seconds)


def _run(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        function, future = job
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001  # handed to the caller, whatever it is
            future.set_exception(error)
        # Or the last call's cursor would live until the next call comes.
        del job, function, future
