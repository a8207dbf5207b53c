"""Jobs of which a part may hang: how long they are waited for."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from imgsyncfs.workers.pool import Answer, OnPart
from imgsyncfs.workers.trial import Trial, say_begun, say_over

LONG = 20.0


class Job:
    """A job whose words the test says."""

    def __init__(self) -> None:
        self.answer: Future[Answer] = Future()
        self._on_part: OnPart | None = None
        self.trial = Trial(self._submit)

    def _submit(self, on_part: OnPart) -> Future[Answer]:
        self._on_part = on_part
        return self.answer

    def send(self, told: dict[str, Any], payload: bytes) -> None:
        assert self._on_part is not None
        self._on_part((told, payload))


def test_a_job_that_says_nothing_more_after_it_has_begun_hangs() -> None:
    job = Job()
    say_begun(job.send)
    assert job.trial.hangs(0.05, most=LONG)


def test_a_job_that_has_not_begun_has_more_time_and_not_for_ever() -> None:
    job = Job()
    assert job.trial.hangs(0.0, most=0.05)


def test_what_is_over_does_not_hang_however_long_the_rest_takes() -> None:
    job = Job()
    say_begun(job.send)
    say_over(job.send)
    assert not job.trial.hangs(0.0, most=0.0)


def test_a_job_that_is_answered_or_fails_does_not_hang() -> None:
    job = Job()
    say_begun(job.send)
    job.answer.set_exception(OSError())
    assert not job.trial.hangs(0.0, most=0.0)
