"""A job of which a part may hang: it says when that begins and when it is over, and is waited for only so long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from imgsyncfs.workers.frames import Send
from imgsyncfs.workers.pool import Answer, OnPart

_SAYS = "trial"
_BEGUN, _OVER = "begun", "over"


def say_begun(send: Send) -> None:
    """In the worker: what may hang begins now."""
    send({_SAYS: _BEGUN}, b"")


def say_over(send: Send) -> None:
    """In the worker: it is over, and the job goes on."""
    send({_SAYS: _OVER}, b"")


class Trial:
    """Such a job, seen by whoever asks for it.

    Time counts from when the job says that it has begun: until then a process may have to come up, which on a busy
    machine takes seconds and says nothing about whom it is to ask.

    Args:
        submit: submits the job, given what is to be called for its parts.
    """

    def __init__(self, submit: Callable[[OnPart], Future[Answer]]) -> None:
        self._changed = threading.Condition()
        self._begun_at: float | None = None
        self._is_over = False
        self.answer = submit(self._note)
        self.answer.add_done_callback(lambda _: self._end())

    def hangs(self, seconds: float, *, most: float) -> bool:
        """Wait until the job is over, or has hung for so long.

        Args:
            seconds: from when it has begun.
            most: from now, whatever the job says, in seconds.

        Returns:
            Whether it hangs.
        """
        latest = time.monotonic() + most
        with self._changed:
            while not self._is_over:
                limit = latest if self._begun_at is None else min(latest, self._begun_at + seconds)
                left = limit - time.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
        return False

    def _note(self, part: Answer) -> None:
        """Note what the job says. Runs on the worker's listening thread."""
        told: dict[str, Any] = part[0]
        with self._changed:
            if told.get(_SAYS) == _BEGUN:
                self._begun_at = time.monotonic()
            self._is_over |= told.get(_SAYS) == _OVER
            self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
