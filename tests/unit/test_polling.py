"""A responder asks for the next request before it sleeps only where that request mostly comes at once."""

from __future__ import annotations

from imgsyncfs.mount.polling import POLL_SECONDS, SOON_SECONDS, Polling
from imgsyncfs.mount.protocol import LOOKUP, READ


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def serve(polling: Polling, clock: Clock, operation: int, *, after: float) -> None:
    """Have a request come so many seconds after the last answer, and be answered."""
    clock.now += after
    polling.note_request()
    polling.note_answer(operation)


def test_it_asks_on_while_requests_come_at_once() -> None:
    clock = Clock()
    polling = Polling(clock)
    serve(polling, clock, READ, after=1)
    assert not polling.goes_on()
    serve(polling, clock, READ, after=SOON_SECONDS / 2)
    assert polling.goes_on()
    clock.now += POLL_SECONDS
    assert not polling.goes_on()


def test_it_sleeps_after_the_read_of_somebody_who_computes_between_files() -> None:
    clock = Clock()
    polling = Polling(clock)
    for _ in range(3):
        serve(polling, clock, LOOKUP, after=1)
        serve(polling, clock, READ, after=SOON_SECONDS / 2)
        assert not polling.goes_on()
    # The read follows its look-up at once.
    serve(polling, clock, LOOKUP, after=1)
    assert polling.goes_on()
