"""Worker processes: jobs and answers, errors, deaths, and the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.mounting import all_end_after, eventually
from support.places import importing_support

from imgsyncfs.errors import AnnotationError, BlobMissing, WorkerLost
from imgsyncfs.workers.forking import Template
from imgsyncfs.workers.pool import Answer, WorkerPool

ANSWER_SECONDS = 30.0


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Iterator[Template]:
    """What workers are forked from."""
    monkeypatch.setenv("PYTHONPATH", importing_support())
    with closing(Template()) as template:
        yield template


@pytest.fixture
def pool(template: Template) -> Iterator[WorkerPool]:
    """Two workers that run `support.worker_handlers.Echo`."""
    with closing(echoing(template)) as pool:
        yield pool


def echoing(template: Template) -> WorkerPool:
    return WorkerPool("support.worker_handlers:Echo", {"greeting": "hello"}, count=2, threads=4, template=template)


def test_a_job_is_answered_with_result_and_payload(pool: WorkerPool) -> None:
    result, payload = pool.submit({"do": "echo", "payload": "bytes beside it"}).result(ANSWER_SECONDS)
    assert result["settings"] == {"greeting": "hello"}
    assert payload == b"bytes beside it"


def test_what_a_job_tells_comes_before_its_answer_and_in_order(pool: WorkerPool) -> None:
    told: list[Answer] = []

    answer = pool.submit({"do": "echo", "parts": 3}, told.append)

    answer.result(ANSWER_SECONDS)
    assert told == [({"part": 0}, b""), ({"part": 1}, b"x"), ({"part": 2}, b"xx")]


def test_a_job_whose_worker_dies_tells_everything_once_more(pool: WorkerPool, tmp_path: Path) -> None:
    told: list[Answer] = []
    job = {"do": "die after parts once", "marker": str(tmp_path / "died"), "parts": 2}

    pool.submit(job, told.append).result(ANSWER_SECONDS)

    assert [words["part"] for words, _ in told] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "garbage",
    [
        b"a library that prints past Python",
        bytes(64),
        b"\x00isf\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x00isf\x03\x00\x00\x00\x00\x00\x00\x00[1]",
        b"\x00isf\x02\x00\x00\x00\x00\x00\x00\x00{}",
        b'\x00isf\x08\x00\x00\x00\x00\x00\x00\x00{"id":1}',
    ],
    ids=["text", "zeros", "endless header", "list", "no job", "no result"],
)
def test_a_worker_that_sends_no_answers_is_ended_and_another_does_its_job(
    pool: WorkerPool, tmp_path: Path, garbage: bytes
) -> None:
    job = {"do": "garble once", "marker": str(tmp_path / "garbled"), "garbage": garbage.hex()}
    before = pool.process_ids()
    result, _ = pool.submit(job).result(ANSWER_SECONDS)
    assert result["process"] in pool.process_ids()
    assert eventually(lambda: pool.replaced() == 1)
    [ended] = {*before} - {*pool.process_ids()}
    assert all_end_after([ended])


def test_what_a_job_tells_is_passed_over_if_nobody_asked(pool: WorkerPool) -> None:
    assert pool.submit({"do": "echo", "parts": 3, "payload": "x"}).result(ANSWER_SECONDS)[1] == b"x"


def test_jobs_are_spread_over_all_workers(pool: WorkerPool) -> None:
    answers = [pool.submit({"do": "echo"}) for _ in range(20)]
    assert {answer.result(ANSWER_SECONDS)[0]["process"] for answer in answers} == set(pool.process_ids())


def test_one_worker_runs_several_jobs_at_once(pool: WorkerPool) -> None:
    # Two jobs on each worker that wait for each other.
    for answer in [pool.submit({"do": "meet"}) for _ in range(4)]:
        answer.result(ANSWER_SECONDS)


def test_errors_arrive_as_what_they_were(pool: WorkerPool) -> None:
    with pytest.raises(BlobMissing, match="the blob is gone"):
        pool.submit({"do": "missing"}).result(ANSWER_SECONDS)
    with pytest.raises(AnnotationError) as caught:
        pool.submit({"do": "annotation"}).result(ANSWER_SECONDS)
    assert (caught.value.field, caught.value.reason) == ("labels[0].object[0].x", "is no number")
    with pytest.raises(RuntimeError, match="KeyError"):
        pool.submit({"do": "surprise"}).result(ANSWER_SECONDS)


def test_a_library_that_prints_does_no_harm(pool: WorkerPool) -> None:
    for _ in range(4):
        pool.submit({"do": "print"}).result(ANSWER_SECONDS)


def test_a_job_whose_worker_dies_is_done_by_another(pool: WorkerPool, tmp_path: Path) -> None:
    result, _ = pool.submit({"do": "die once", "marker": str(tmp_path / "died")}).result(ANSWER_SECONDS)
    assert result["settings"] == {"greeting": "hello"}
    assert pool.replaced() == 1


def test_a_job_that_kills_every_worker_ends_in_an_error_and_others_go_on(pool: WorkerPool) -> None:
    with pytest.raises(WorkerLost, match="died over the same job"):
        pool.submit({"do": "die"}).result(ANSWER_SECONDS)
    pool.submit({"do": "echo"}).result(ANSWER_SECONDS)


def test_a_job_that_is_given_up_ends_with_its_worker_and_others_go_on(pool: WorkerPool, tmp_path: Path) -> None:
    endless = pool.submit({"do": "wait for file", "marker": str(tmp_path / "never")})
    pool.give_up(endless)
    assert eventually(lambda: pool.replaced() == 1)
    for _ in range(4):
        pool.submit({"do": "echo"}).result(ANSWER_SECONDS)
    assert not endless.done()


def test_close_ends_the_workers_and_later_jobs_are_refused(pool: WorkerPool) -> None:
    processes = pool.process_ids()
    pool.close()
    assert all_end_after(processes)
    with pytest.raises(WorkerLost, match="ending"):
        pool.submit({"do": "echo"}).result(ANSWER_SECONDS)


def test_workers_end_with_a_daemon_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", importing_support())
    program = (
        "from imgsyncfs.workers.forking import Template\n"
        "from imgsyncfs.workers.pool import WorkerPool\n"
        "pool = WorkerPool('support.worker_handlers:Echo', {}, count=2, threads=1, template=Template())\n"
        "jobs = [pool.submit({'do': 'echo'}).result(30) for _ in range(4)]\n"
        "print(*pool.process_ids(), flush=True)\n"
        "pool.submit({'do': 'meet'})\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        workers = [int(word) for word in daemon.stdout.readline().split()]
        daemon.kill()
        assert all_end_after(workers)


def test_a_process_that_comes_up_takes_jobs_when_its_first_is_done(pool: WorkerPool, tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    before = set(pool.process_ids())

    pool.grow(3, first={"do": "wait for file", "marker": str(marker)})

    [newcomer] = set(pool.process_ids()) - before
    answers = [pool.submit({"do": "echo"}) for _ in range(30)]
    assert newcomer not in {answer.result(ANSWER_SECONDS)[0]["process"] for answer in answers}
    marker.touch()
    processes: set[int] = set()
    while newcomer not in processes:
        answers = [pool.submit({"do": "echo"}) for _ in range(30)]
        processes |= {answer.result(ANSWER_SECONDS)[0]["process"] for answer in answers}


def test_a_process_that_dies_while_it_comes_up_is_replaced(pool: WorkerPool) -> None:
    before = set(pool.process_ids())

    pool.grow(3, first={"do": "die"})
    [newcomer] = set(pool.process_ids()) - before

    while newcomer in pool.process_ids() or len(pool.process_ids()) < 3:
        pool.submit({"do": "echo"}).result(ANSWER_SECONDS)
    assert pool.replaced() == 1


def test_a_process_that_the_template_died_over_is_replaced_and_gets_no_jobs(
    pool: WorkerPool, template: Template
) -> None:
    before = set(pool.process_ids())
    os.kill(template.process_id, signal.SIGSTOP)
    pool.grow(3, first={"do": "echo"})
    os.kill(template.process_id, signal.SIGKILL)

    # What is not there has no process id; 0 would stand for everybody.
    assert set(pool.process_ids()) == before
    while len(pool.process_ids()) < 3:
        pool.submit({"do": "echo"}).result(ANSWER_SECONDS)
    answers = [pool.submit({"do": "echo"}) for _ in range(30)]
    assert {answer.result(ANSWER_SECONDS)[0]["process"] for answer in answers} == set(pool.process_ids())


def test_processes_that_are_coming_up_end_with_the_others(pool: WorkerPool, tmp_path: Path) -> None:
    pool.grow(3, first={"do": "wait for file", "marker": str(tmp_path / "never")})
    processes = pool.process_ids()

    pool.close()

    assert len(processes) == 3
    assert all_end_after(processes)
