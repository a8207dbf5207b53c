"""The coordinator's side of its responders: start them, send to them, replace those that die.

A responder that died had at most one request in its hands, which is answered with EIO at once. Requests that it was to
try again and had not begun with are sent to the one that takes its place.

Threads: one receives what responders send. `Responders._lock` guards the table of responders and what was sent to each;
`_Responder.send_lock` orders messages to one of them and is held while its socket takes one, which a responder does
that runs. `_Responder.send_lock` is taken first.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import select
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from imgsyncfs.errors import MountError
from imgsyncfs.mount import protocol
from imgsyncfs.mount.board import COUNTED, Board
from imgsyncfs.workers.forking import ForkedProcess, Template
from imgsyncfs.workers.messages import Message, close_all, connected_pair, receive, send

logger = logging.getLogger(__name__)

START_SECONDS = 30.0
"""Until when the responders must have come up; the template imports for some tenths of a second first."""

SEND_SECONDS = 10.0
"""Until when a responder must have made room for a message."""

END_SECONDS = 3.0

QUICK_DEATH_SECONDS = 1.0
"""A responder that died younger than this is replaced after a pause."""

PAUSE_SECONDS = 0.2

ALONE_SECONDS = 30.0
"""How long to try to start responders when there is none: whoever reads meanwhile waits."""

State = tuple[dict[str, Any], Sequence[int]]
"""A message that every responder gets: header and descriptors, which stay the sender's."""


Retry = tuple[dict[str, Any], bytes]
"""A request to be tried again: header and request."""


@dataclass
class _Responder:
    number: int
    process: ForkedProcess
    connection: socket.socket
    started: float = field(default_factory=time.monotonic)
    send_lock: threading.Lock = field(default_factory=threading.Lock)
    has_ended: bool = False
    sent: int = 0
    retries: deque[tuple[int, dict[str, Any], bytes]] = field(default_factory=deque)
    barrier: int = 0


class Responders:
    """The responders of a mount.

    Args:
        board: shared with them; there are as many as it has slots.
        template: what they are forked from, started ahead; it is the caller's.
        setup: what each is made with; see `imgsyncfs.mount.responder.Responder`.
        take: takes what a responder sent: (its number, the message). Runs on the receiving thread; must not wait.
        state: gives the messages that a new responder needs, and keeps them as they are for the time of a block.
        tick: called on the receiving thread every now and then; returns in how many seconds to call it again.
        ended: called when the kernel has ended the mount.
        failed: called when nobody answers the kernel any more, and nobody can be put in their place.
        alone_seconds: how long to try that.
    """

    def __init__(
        self,
        board: Board,
        template: Template,
        setup: dict[str, Any],
        *,
        take: Callable[[int, Message], None],
        state: Callable[[], AbstractContextManager[list[State]]],
        tick: Callable[[], float],
        ended: Callable[[], None],
        failed: Callable[[], None],
        alone_seconds: float = ALONE_SECONDS,
    ) -> None:
        self._count = len(board.slots)
        self._take = take
        self._state = state
        self._tick = tick
        self._ended = ended
        self._failed = failed
        self._alone_seconds = alone_seconds
        self._answering = time.monotonic()
        self.board = board
        self._device = -1
        self._lock = threading.Lock()
        self._passed = threading.Condition(self._lock)
        self._responders: dict[int, _Responder] = {}
        self._undelivered: dict[int, list[Retry]] = {}
        self._due: dict[int, float] = {}
        self._before: Counter[str] = Counter()
        self._replaced = 0
        self._barrier = 0
        self._ending = False
        self._closing = False
        self._epoll = select.epoll()
        self._wake, self._woken = connected_pair()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._template = template
        self._setup = setup
        self._thread = threading.Thread(target=self._run, name="responders", daemon=True)

    def start(self, device: int) -> None:
        """Fork the responders; the kernel is answered from then on.

        Args:
            device: descriptor of the kernel's device.

        Raises:
            MountError: they do not come up.
        """
        self._device = device
        for number in range(self._count):
            self._fork(number)
        self._thread.start()
        if not self.wait_for_all(START_SECONDS):
            raise MountError("The mount's responders did not come up in time; its log may say why.")

    def send(self, number: int, header: dict[str, Any], payload: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a message to one responder, or to the one in its place.

        Args:
            number: of its slot.
            header: JSON-able; with ``retry``, the payload is a request that must be answered.
            payload: raw bytes.
            descriptors: are sent along, and stay the caller's.
        """
        while True:
            with self._lock:
                responder = self._responders.get(number)
                if responder is None:
                    if "retry" in header:
                        self._undelivered.setdefault(number, []).append((header, payload))
                    return
            if self._send(responder, header, payload, descriptors):
                return

    def broadcast(self, header: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message to all responders; a part of the state that new ones get by then."""
        with self._lock:
            responders = list(self._responders.values())
        for responder in responders:
            self._send(responder, header, b"", descriptors)

    def wait_for_all(self, seconds: float) -> bool:
        """Wait until all responders have handled what was sent to them; says whether they have.

        One that has not is killed: it may answer from what is no longer so.
        """
        with self._lock:
            self._barrier += 1
            barrier = self._barrier
        self.broadcast({"barrier": barrier})
        with self._passed:
            passed = self._passed.wait_for(
                lambda: self._closing or all(each.barrier >= barrier for each in self._responders.values()), seconds
            )
            late = [] if passed else [each for each in self._responders.values() if each.barrier < barrier]
        for responder in late:
            logger.warning("The responder %d does not answer; it is ended.", responder.process.process_id)
            responder.process.kill()
        return passed

    def process_ids(self) -> list[int]:
        """The process ids of the responders, without those that the template died over, and of the template."""
        with self._lock:
            processes = [each.process for each in self._responders.values()]
        return [*filter(None, (each.process_id for each in processes)), self._template.process_id]

    def replaced(self) -> int:
        """How many died and were replaced."""
        with self._lock:
            return self._replaced

    def counts(self) -> Counter[str]:
        """What all of them have counted; see `imgsyncfs.mount.board.COUNTED`."""
        with self._lock:
            counts = Counter(self._before)
        for slot in self.board.slots:
            counts.update(slot.counts())
        return counts

    def expect_end(self) -> None:
        """Replace no responder from now on: the mount is about to end."""
        with self._lock:
            self._ending = True

    def close(self) -> None:
        """End all responders."""
        with self._passed:
            self._ending = self._closing = True
            responders, self._responders = list(self._responders.values()), {}
            self._passed.notify_all()
        for responder in responders:
            with contextlib.suppress(OSError):
                responder.connection.shutdown(socket.SHUT_RDWR)
        self._wake.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(END_SECONDS)
        for responder in responders:
            responder.connection.close()

    def _send(self, responder: _Responder, header: dict[str, Any], payload: bytes, descriptors: Sequence[int]) -> bool:
        with responder.send_lock:
            if responder.has_ended:
                return False
            with self._lock:
                responder.sent += 1
                if "retry" in header:
                    handled = self.board.slots[responder.number].counts()["handled"]
                    while responder.retries and responder.retries[0][0] <= handled:
                        responder.retries.popleft()
                    responder.retries.append((responder.sent, header, payload))
            try:
                send(responder.connection, header, payload, descriptors)
            except TimeoutError:
                logger.warning("The responder %d takes no messages; it is ended.", responder.process.process_id)
                responder.process.kill()
            except OSError:
                # The receiving thread sees its end as well, and what was not handled goes to the next one.
                logger.debug("A responder is gone.")
            return True

    def _fork(self, number: int) -> None:
        self.board.slots[number].clear()
        process, ours = self._fork_from_template(number)
        responder = _Responder(number, process, ours)
        # Whoever changes the state waits for the end of this, and then sends the change to this one too.
        with self._state() as messages, responder.send_lock:
            with self._lock:
                if self._closing:
                    # It sees that nobody is there.
                    ours.close()
                    return
                self._responders[number] = responder
            for header, descriptors in (*messages, ({"begin": True}, ())):
                responder.sent += 1
                send(ours, header, b"", descriptors)
            responder.barrier = self._barrier
        self._epoll.register(ours, select.EPOLLIN)

    def _fork_from_template(self, number: int) -> tuple[ForkedProcess, socket.socket]:
        """Have a responder forked; returns it, and our end of its socket.

        Raises:
            OSError: no process can be started.
        """
        ours, theirs = connected_pair()
        ours.settimeout(SEND_SECONDS)
        with theirs, ExitStack() as if_it_fails:
            if_it_fails.callback(ours.close)
            process = self._template.fork(
                "imgsyncfs.mount.responder:respond",
                {**self._setup, "number": number, "responders": self._count},
                (self._device, self.board.descriptor, theirs.fileno()),
            )
            if_it_fails.pop_all()
        return process, ours

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._lock:
                if self._closing:
                    return
                by_descriptor = {each.connection.fileno(): each for each in self._responders.values()}
            try:
                for descriptor, _ in self._epoll.poll(pause):
                    responder = by_descriptor.get(descriptor)
                    if responder is not None:
                        self._receive(responder)
                pause = min(self._tick(), self._replace_due())
            except Exception:
                logger.exception("A responder's message could not be handled, or none be put in the place of another.")
                pause = PAUSE_SECONDS
            self._look_whether_anybody_answers(bool(by_descriptor))

    def _look_whether_anybody_answers(self, answers: bool) -> None:
        now = time.monotonic()
        if answers or self._ending:
            self._answering = now
        elif now > self._answering + self._alone_seconds:
            logger.error("No responder could be started for %g s: nobody answers the kernel.", self._alone_seconds)
            self._failed()

    def _receive(self, responder: _Responder) -> None:
        try:
            message = receive(responder.connection)
        except (OSError, ValueError):
            message = None
        if message is None:
            self._take_end(responder)
        elif "barrier" in message.header:
            with self._passed:
                responder.barrier = message.header["barrier"]
                self._passed.notify_all()
        elif "ended" in message.header:
            self.expect_end()
            self._ended()
        else:
            self._take(responder.number, message)
            close_all(message.descriptors)

    def _take_end(self, dead: _Responder) -> None:
        """Answer for a responder that has ended, and have it replaced."""
        with contextlib.suppress(KeyError, ValueError):
            self._epoll.unregister(dead.connection)
        with self._passed:
            if self._closing or self._responders.get(dead.number) is not dead:
                return
            del self._responders[dead.number]
            self._passed.notify_all()
            ending = self._ending
        if ending:
            dead.connection.close()
            return
        logger.warning("The responder %d has ended; it is replaced.", dead.process.process_id)
        slot = self.board.slots[dead.number]
        unique, counts = slot.in_hand(), slot.counts()
        if unique:
            protocol.write_quietly(self._device, protocol.refusal(unique, errno.EIO))
        with dead.send_lock:
            dead.has_ended = True
            with self._lock:
                left = [
                    (header, payload)
                    for place, header, payload in dead.retries
                    if place > counts["handled"] and protocol.IN_HEADER.unpack_from(payload)[2] != unique
                ]
                self._undelivered.setdefault(dead.number, [])[:0] = left
                self._before.update({name: counts[name] for name in COUNTED})
                self._replaced += 1
        slot.clear()
        dead.connection.close()
        young = time.monotonic() - dead.started < QUICK_DEATH_SECONDS
        self._due[dead.number] = time.monotonic() + (PAUSE_SECONDS if young else 0.0)

    def _replace_due(self) -> float:
        """Put others in the place of responders that have ended; returns in how many seconds to look again."""
        for number, due in list(self._due.items()):
            if due <= time.monotonic() and not self._ending:
                # Tried again a little later if the template cannot fork.
                self._due[number] = time.monotonic() + PAUSE_SECONDS
                self._fork(number)
                del self._due[number]
                with self._lock:
                    left = self._undelivered.pop(number, [])
                for header, payload in left:
                    self.send(number, header, payload)
        left_until = [due - time.monotonic() for due in self._due.values() if not self._ending]
        return max(0.0, min(left_until, default=math.inf))
