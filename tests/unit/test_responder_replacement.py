"""The coordinator's side of its responders: what is sent to one that dies reaches the one in its place."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from queue import Queue
from typing import Any

import pytest

from imgsyncfs.mount import protocol
from imgsyncfs.mount.board import Board
from imgsyncfs.mount.responders import Responders
from imgsyncfs.workers.messages import Message, receive, send

WAIT_SECONDS = 20.0
REQUEST = protocol.IN_HEADER.pack(protocol.IN_HEADER.size, protocol.GETATTR, 7, 1, 0, 0, 0, 0, 0)


class Threadless:
    """Stands for the template: forks nothing, and gives away the responders' ends of their sockets."""

    process_id = 0

    def __init__(self) -> None:
        self.ends: Queue[socket.socket] = Queue()
        self.can_fork = True

    def fork(self, _run: str, _arguments: dict[str, Any], descriptors: Sequence[int]) -> NoProcess:
        if not self.can_fork:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        end = socket.socket(fileno=os.dup(descriptors[2]))
        end.settimeout(WAIT_SECONDS)
        # It has come up.
        send(end, {"barrier": 1})
        self.ends.put(end)
        return NoProcess()


class NoProcess:
    """Stands for a responder."""

    process_id = 0

    def kill(self) -> None:
        pass


@pytest.fixture
def template() -> Threadless:
    return Threadless()


@pytest.fixture
def failed() -> threading.Event:
    """Set when nobody answers the kernel any more."""
    return threading.Event()


@pytest.fixture
def responders(template: Threadless, failed: threading.Event) -> Iterator[Responders]:
    """One responder, whose part the test plays."""
    anything: Any = template
    made = Responders(
        Board(1),
        anything,
        {},
        take=lambda _number, _message: None,
        state=lambda: nullcontext([]),
        tick=lambda: 60.0,
        ended=lambda: None,
        failed=failed.set,
        alone_seconds=0.5,
    )
    device = os.open("/dev/null", os.O_WRONLY)
    made.start(device)
    yield made
    made.close()
    os.close(device)


def next_retry(end: socket.socket) -> Message:
    """The next request that is to be tried again."""
    while True:
        message = receive(end)
        assert message is not None
        if "retry" in message.header:
            return message


def test_a_request_that_a_responder_died_over_unhandled_reaches_the_next(
    responders: Responders, template: Threadless
) -> None:
    with closing(template.ends.get(timeout=WAIT_SECONDS)):
        responders.send(0, {"retry": True, "tries": 1}, REQUEST)
    with closing(template.ends.get(timeout=WAIT_SECONDS)) as second:
        assert next_retry(second).payload == REQUEST
        assert responders.replaced() == 1


def test_a_request_sent_while_a_responder_is_dead_reaches_the_next(
    responders: Responders, template: Threadless
) -> None:
    [dead] = responders._responders.values()
    template.ends.get(timeout=WAIT_SECONDS).close()
    with closing(template.ends.get(timeout=WAIT_SECONDS)) as second:
        # As from a thread that had looked the responder up just before it died.
        assert not responders._send(dead, {"retry": True, "tries": 1}, REQUEST, ())
        responders.send(0, {"retry": True, "tries": 1}, REQUEST)
        assert next_retry(second).payload == REQUEST


def test_once_the_end_is_near_no_responder_is_replaced(responders: Responders, template: Threadless) -> None:
    responders.expect_end()
    template.ends.get(timeout=WAIT_SECONDS).close()
    responders.close()
    assert template.ends.empty()
    assert responders.replaced() == 0


def test_the_mount_fails_when_nobody_can_be_put_in_the_place_of_the_last_responder(
    responders: Responders, template: Threadless, failed: threading.Event
) -> None:
    template.can_fork = False
    template.ends.get(timeout=WAIT_SECONDS).close()
    assert failed.wait(WAIT_SECONDS)
    assert responders.replaced() == 1


@pytest.mark.usefixtures("responders")
def test_the_mount_goes_on_when_a_responder_can_be_started_again(template: Threadless, failed: threading.Event) -> None:
    template.ends.get(timeout=WAIT_SECONDS).close()
    with closing(template.ends.get(timeout=WAIT_SECONDS)):
        assert not failed.wait(1.0)
