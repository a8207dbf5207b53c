"""Processes forked from a template (`imgsyncfs.workers.template`), seen by whoever asks for them.

A template is asked and not waited for: it does what it was asked in order, and imports meanwhile. One that has died is
started again by the next who needs it; the processes forked before live on.

Threads: `Template._lock` guards which process is the template, `_TemplateProcess._lock` the order of what it is asked
and of its answers. The latter is held while an answer is waited for, by those alone who need an answer themselves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from imgsyncfs.workers.environment import started_environment
from imgsyncfs.workers.messages import connected_pair, receive, send
from imgsyncfs.workers.template import serve

logger = logging.getLogger(__name__)

FORK_SECONDS = 30.0
"""Until when a template must have answered: it may have to import for some tenths of a second first."""

END_SECONDS = 3.0


class ForkedProcess:
    """A process that the template forks, or has forked.

    Args:
        template: what it is forked from.
        place: which of its answers is about this one, from 0.
    """

    def __init__(self, template: _TemplateProcess, place: int) -> None:
        self._template = template
        self._place = place

    @property
    def process_id(self) -> int:
        """Its process id; waits for the template if need be, and is 0 if that has died over it."""
        return self._template.answer(self._place)[0]

    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known: not if the template has died over it."""
        handle = self._template.answer(self._place)[1]
        return handle >= 0 and not _is_ready(handle, 0)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; returns whether it has. It is not waited for if the template has died over it."""
        handle = self._template.answer(self._place)[1]
        return handle < 0 or _is_ready(handle, seconds)

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        handle = self._template.answer(self._place)[1]
        if handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def __del__(self) -> None:
        self._template.forget(self._place)


def _is_ready(handle: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        # Not select.select: a notebook may have thousands of files open.
        selector.register(handle, selectors.EVENT_READ)
        return bool(selector.select(seconds))


class Template:
    """Forks processes, of a template that is started at once.

    Args:
        modules: names of those that it imports first.
        of_this_process: fork the template of this process, which has one thread, and shares what it has imported. What
            takes its place when it has died is started anew all the same: there are threads then.
    """

    def __init__(self, modules: Sequence[str] = (), *, of_this_process: bool = False) -> None:
        self._lock = threading.Lock()
        self._modules = list(modules)
        self._is_closed = False
        self._process = _TemplateProcess(modules, _fork_template if of_this_process else _start_template)

    @property
    def process_id(self) -> int:
        """Process id of the template."""
        return self._process.process_id

    def import_ahead(self, modules: Sequence[str]) -> None:
        """Have the template import modules, before it forks what is asked for later.

        Args:
            modules: their names, in order.
        """
        with self._lock:
            self._modules += modules
            # One that has died is started again, with all modules, by the next fork.
            with contextlib.suppress(OSError):
                self._process.ask({"import": list(modules)})

    def fork(self, run: str, arguments: dict[str, Any], descriptors: Sequence[int]) -> ForkedProcess:
        """Have a process forked; it is there in milliseconds, or when the template has come up.

        Args:
            run: ``module:function``, see `imgsyncfs.workers.template.Run`.
            arguments: JSON-able. They pass through the template's memory, so they hold no secret.
            descriptors: for the process; stay the caller's, too.

        Raises:
            OSError: no process can be started.
        """
        header = {"fork": run, "arguments": arguments}
        with self._lock:
            try:
                return self._process.ask_for_fork(header, descriptors)
            except OSError:
                if self._is_closed:
                    raise
                logger.warning("The template process %d has ended; it is replaced.", self._process.process_id)
            self._process.close()
            self._process = _TemplateProcess(self._modules, _start_template)
            return self._process.ask_for_fork(header, descriptors)

    def close(self) -> None:
        """End the template. What it has forked ends when its own pipes and sockets do."""
        with self._lock:
            self._is_closed = True
            self._process.close()


class _Child(Protocol):
    """A process that was started here."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises `subprocess.TimeoutExpired`."""

    def kill(self) -> None:
        """End it at once."""


_Start = Callable[[socket.socket, Sequence[str]], _Child]
"""Starts a template that listens at a socket, and imports modules first."""


def _start_template(connection: socket.socket, modules: Sequence[str]) -> _Child:
    return subprocess.Popen(
        [sys.executable, "-m", "imgsyncfs.workers.template", str(connection.fileno()), *modules],
        pass_fds=(connection.fileno(),),
        stdin=subprocess.DEVNULL,
        # Ctrl-C at a terminal is meant for whoever asks here.
        start_new_session=True,
        env=started_environment(),
    )


def _fork_template(connection: socket.socket, modules: Sequence[str]) -> _Child:
    process = os.fork()
    if process:
        return _ForkedChild(process)
    status = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        # It must hold nothing open of what this process has: no mount ends while somebody has its device.
        for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  # names of descriptors, not of files
            if descriptor > 2 and descriptor != connection.fileno():
                # The listing's own is closed by now.
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        serve(connection, modules)
        status = 0
    except BaseException:
        logger.exception("The template process ended.")
    finally:
        # Not the way that the process it was forked from ends.
        os._exit(status)


@dataclass
class _ForkedChild:
    """See `_Child`.

    Attributes:
        pid: its process id.
    """

    pid: int
    _has_ended: bool = False

    def wait(self, timeout: float | None = None) -> int:
        if self._has_ended:
            return 0
        handle = os.pidfd_open(self.pid)
        try:
            if timeout is not None and not _is_ready(handle, timeout):
                raise subprocess.TimeoutExpired("template", timeout)
        finally:
            os.close(handle)
        _, status = os.waitpid(self.pid, 0)
        self._has_ended = True
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        if not self._has_ended:
            os.kill(self.pid, signal.SIGKILL)


class _TemplateProcess:
    """One process.

    Args:
        modules: names of those that it imports first.
        start: starts it.
    """

    def __init__(self, modules: Sequence[str], start: _Start) -> None:
        self._connection, theirs = connected_pair()
        self._connection.settimeout(FORK_SECONDS)
        self._lock = threading.Lock()
        self._asked = self._answered = 0
        self._answers: dict[int, tuple[int, int]] = {}
        self._forgotten: set[int] = set()
        with theirs:
            self._process = start(theirs, modules)

    @property
    def process_id(self) -> int:
        return self._process.pid

    def ask(self, header: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Ask for something; raises OSError if the process has ended."""
        send(self._connection, header, b"", descriptors)

    def ask_for_fork(self, header: dict[str, Any], descriptors: Sequence[int]) -> ForkedProcess:
        """As `Template.fork`; the caller sees to the order."""
        self.ask(header, descriptors)
        self._asked += 1
        # Answers that nobody took would fill the socket in the end.
        if self._lock.acquire(blocking=False):
            try:
                while _is_ready(self._connection.fileno(), 0) and self._receive():
                    pass
            finally:
                self._lock.release()
        return ForkedProcess(self, self._asked - 1)

    def answer(self, place: int) -> tuple[int, int]:
        """Process id and descriptor (pidfd) of a process that was asked for.

        Both are 0 and -1 if it will never be there; the latter is -1 if it ended as soon as it was there.
        """
        with self._lock:
            while place not in self._answers and self._receive():
                pass
            return self._answers.get(place, (0, -1))

    def forget(self, place: int) -> None:
        """Nobody will ask for a process any more."""
        self._forgotten.add(place)
        _, handle = self._answers.pop(place, (0, -1))
        if handle >= 0:
            os.close(handle)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Who waits for an answer need not wait any more.
            self._connection.shutdown(socket.SHUT_RDWR)
        with self._lock:
            # What it has forked may live on, and is known by the answers that are here already.
            while self._receive():
                pass
        self._connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> bool:
        """Take the next answer; returns whether there was one."""
        try:
            message = receive(self._connection)
        except OSError:
            # It was closed here, or does not answer.
            return False
        if message is None:
            return False
        place, self._answered = self._answered, self._answered + 1
        handle = message.descriptors[0] if message.descriptors else -1
        self._answers[place] = (message.header["process"], handle)
        if place in self._forgotten:
            self.forget(place)
        return True
