"""The lines of errors.log: one for each cause, and no more than a reader and a disk can take."""

from __future__ import annotations

import pytest

from imgsyncfs.errors import AnnotationError, BlobMissing, StoreNotAllowed
from imgsyncfs.library.error_log import INTERNAL, LOSS, MOST_IN_MINUTE, QUIET_SECONDS, ErrorLog, kind_of


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> ErrorLog:
    return ErrorLog(clock)


def lines(log: ErrorLog) -> list[str]:
    """The messages, without their times."""
    return [line.partition(" ")[2] for line in log.content().decode().splitlines()]


def test_the_same_message_within_a_minute_is_one_line_and_counted(log: ErrorLog, clock: Clock) -> None:
    for _ in range(3):
        log.report("The blob a is gone.")
    clock.now += QUIET_SECONDS
    log.report("The blob a is gone.")
    assert lines(log) == ["The blob a is gone."] * 2
    assert log.count() == 4


def test_of_very_many_messages_in_a_minute_the_first_are_kept_and_the_others_counted(
    log: ErrorLog, clock: Clock
) -> None:
    for number in range(MOST_IN_MINUTE + 1_000):
        log.report(f"The blob {number} is gone.", kind="blob missing")
    assert lines(log) == [f"The blob {number} is gone." for number in range(MOST_IN_MINUTE)]
    clock.now += QUIET_SECONDS
    log.report("The blob x is gone.", kind="blob missing")
    assert lines(log)[MOST_IN_MINUTE:] == [
        "1,000 more messages were left out; status.json counts them by kind.",
        "The blob x is gone.",
    ]
    assert log.kinds() == {"blob missing": MOST_IN_MINUTE + 1_001}


def test_what_was_left_out_is_said_when_it_comes_again(log: ErrorLog, clock: Clock) -> None:
    for number in range(MOST_IN_MINUTE + 1):
        log.report(f"The blob {number} is gone.")
    clock.now += QUIET_SECONDS
    log.report(f"The blob {MOST_IN_MINUTE} is gone.")
    assert lines(log)[-1] == f"The blob {MOST_IN_MINUTE} is gone."


def test_a_mount_is_failing_for_a_while_after_something_went_wrong(log: ErrorLog, clock: Clock) -> None:
    assert not log.has_failed_within(60)
    log.report("The blob a is gone.")
    assert log.has_failed_within(60)
    clock.now += 60
    assert not log.has_failed_within(60)


def test_what_a_view_does_not_show_is_no_failure(log: ErrorLog) -> None:
    log.report("The view yolo does not show 3 masks.", kind=LOSS)
    assert not log.has_failed_within(60)
    assert log.kinds() == {LOSS: 1}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BlobMissing, "blob missing"),
        (StoreNotAllowed, "store not allowed"),
        (AnnotationError, "annotation"),
        (ValueError, INTERNAL),
    ],
)
def test_an_error_is_counted_by_its_name(error: type[Exception], kind: str) -> None:
    assert kind_of(error) == kind
