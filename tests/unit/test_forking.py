"""Processes forked from a template: what they are given, how they end, and a template that dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.mounting import all_end_after
from support.places import importing_support

from imgsyncfs.workers.forking import ForkedProcess, Template
from imgsyncfs.workers.messages import Message, connected_pair, receive, send

WAIT_SECONDS = 20.0


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Iterator[Template]:
    monkeypatch.setenv("PYTHONPATH", importing_support())
    with closing(Template()) as template:
        yield template


def forked(template: Template, **arguments: object) -> tuple[ForkedProcess, socket.socket]:
    """A process that says what it is (`support.forked_process.say`), and the socket on which it does."""
    ours, theirs = connected_pair()
    ours.settimeout(WAIT_SECONDS)
    with theirs:
        return template.fork("support.forked_process:say", arguments, (theirs.fileno(),)), ours


def said(ours: socket.socket) -> Message:
    message = receive(ours)
    assert message is not None
    return message


def test_a_process_runs_the_function_with_its_arguments_and_descriptors(template: Template) -> None:
    process, ours = forked(template, word="hello")
    with ours:
        assert said(ours).header == {"arguments": {"word": "hello"}, "process": process.process_id, "imported": False}
        assert process.is_alive()


def test_what_was_imported_ahead_every_process_has(template: Template) -> None:
    template.import_ahead(["no.such.module", "colorsys"])
    _, ours = forked(template)
    with ours:
        assert said(ours).header["imported"]


def test_a_process_ends_with_its_socket(template: Template) -> None:
    process, ours = forked(template)
    with ours:
        said(ours)
    assert process.wait(WAIT_SECONDS)
    assert not process.is_alive()


def test_a_process_can_be_killed_and_nothing_of_it_is_left(template: Template) -> None:
    process, ours = forked(template)
    with ours:
        said(ours)
        process.kill()
        assert receive(ours) is None
    assert process.wait(WAIT_SECONDS)
    assert all_end_after([process.process_id])
    process.kill()


def test_a_function_that_fails_ends_its_process_alone(template: Template) -> None:
    process = template.fork("support.forked_process:fail", {}, ())
    assert process.wait(WAIT_SECONDS)
    _, ours = forked(template)
    with ours:
        said(ours)


def test_another_template_takes_the_place_of_one_that_died(template: Template) -> None:
    template.import_ahead(["colorsys"])
    first, firsts = forked(template)
    said(firsts)
    # A template that dies before it has said which process it forked leaves one that nobody can ask about.
    assert first.is_alive()
    before = template.process_id
    os.kill(before, signal.SIGKILL)
    assert all_end_after([before])
    second, seconds = forked(template)
    with firsts, seconds:
        assert said(seconds).header["imported"]
        assert template.process_id != before
        # What the first one has forked lives on.
        assert first.is_alive()
        assert second.is_alive()


def test_a_process_that_the_template_died_over_has_ended(template: Template) -> None:
    os.kill(template.process_id, signal.SIGSTOP)
    process, ours = forked(template)
    os.kill(template.process_id, signal.SIGKILL)
    with ours:
        assert receive(ours) is None
    assert process.process_id == 0
    assert not process.is_alive()
    assert process.wait(0.0)
    process.kill()


def test_any_number_of_processes_that_nobody_asks_about_can_be_forked(template: Template) -> None:
    for _ in range(400):
        template.fork("support.forked_process:fail", {}, ())
    _, ours = forked(template)
    with ours:
        said(ours)


def test_a_template_ends_without_a_word_when_whoever_asked_has_ended() -> None:
    ours, theirs = connected_pair()
    with theirs:
        send(ours, {"fork": "operator:ne", "arguments": {}})
        ours.close()
        done = subprocess.run(
            [sys.executable, "-m", "imgsyncfs.workers.template", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": importing_support()},
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


FORKED_OF_THIS_PROCESS = """
import os, signal
from imgsyncfs.workers.forking import Template

reading, writing = os.pipe()
template = Template(["colorsys"], of_this_process=True)
os.close(writing)
print(os.read(reading, 1), os.getsid(template.process_id) == template.process_id)
first = template.process_id
os.kill(first, signal.SIGKILL)
os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
print(template.fork("operator:ne", {}, ()).wait(20), template.process_id != first)
template.close()
"""


def test_a_template_forked_of_a_process_holds_nothing_open_of_it_and_is_replaced_like_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED_OF_THIS_PROCESS],
        env={**os.environ, "PYTHONPATH": importing_support()},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "b'' True\nTrue True\n"), done.stderr
