"""When a catalog's database is asked, by the mark in its store."""

from __future__ import annotations

from imgsyncfs.library.change_watch import IDLE_SECONDS, SECONDS_BETWEEN, ChangeWatch


class Mark:
    """A mark, and a clock."""

    def __init__(self, etag: str, *, may_sleep: bool = False) -> None:
        self.etag = etag
        self.now = 1_000_000.0
        self.watch = ChangeWatch(lambda: self.etag, may_sleep=may_sleep, clock=lambda: self.now)

    def poll(self, *, requests: int = 0) -> bool:
        """A refresh; whether the database was asked."""
        is_due = self.watch.is_due(requests=requests)
        if is_due:
            self.watch.note_asked()
        return is_due


def test_the_database_is_asked_once_for_each_mark() -> None:
    mark = Mark("a")
    assert [mark.poll() for _ in range(3)] == [True, False, False]
    mark.etag = "b"
    assert [mark.poll() for _ in range(3)] == [True, False, False]


def test_without_a_mark_it_is_asked_each_time() -> None:
    mark = Mark("")
    assert [mark.poll() for _ in range(3)] == [True, True, True]


def test_without_a_mark_a_database_that_may_sleep_is_left_alone_while_nobody_reads() -> None:
    mark = Mark("", may_sleep=True)
    assert mark.poll(requests=5)
    mark.now += IDLE_SECONDS - 1
    assert mark.poll(requests=6)
    mark.now += IDLE_SECONDS - 1
    assert mark.poll(requests=6)
    mark.now += 1
    assert not mark.poll(requests=6)
    # As soon as somebody reads again, and in the end all the same.
    assert mark.poll(requests=7)
    mark.now += SECONDS_BETWEEN - 1
    assert not mark.poll(requests=7)
    mark.now += 1
    assert mark.poll(requests=7)


def test_without_a_mark_any_other_database_is_asked_though_nobody_reads() -> None:
    mark = Mark("")
    mark.poll(requests=5)
    mark.now += 2 * IDLE_SECONDS
    assert mark.poll(requests=5)


def test_what_nobody_marked_is_seen_after_a_while_and_when_the_clock_was_set_back() -> None:
    mark = Mark("a")
    mark.poll()
    mark.now += SECONDS_BETWEEN - 1
    assert not mark.poll()
    mark.now += 1
    assert mark.poll()
    mark.now -= 10
    assert mark.poll()


def test_a_question_without_an_answer_is_asked_again() -> None:
    mark = Mark("a")
    assert mark.watch.is_due()
    assert mark.poll()


def test_a_change_while_the_database_was_asked_is_asked_for_again() -> None:
    mark = Mark("a")
    assert mark.watch.is_due()
    mark.etag = "b"
    mark.watch.note_asked()
    assert mark.poll()
