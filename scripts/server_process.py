"""Server processes of ``scripts/services``: start one and wait until it answers, end one, find it a port.

A process is ours if its command line names its own folder: a process id alone may long belong to another program.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Below the ports that Linux hands to outgoing connections (32768 and up): one of those could be taken by any client
# while the server is stopped, and a client that keeps asking a stopped server could even be connected to itself.
PORTS = range(20000, 30000)
START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG_LINES = 20


class ServiceError(Exception):
    """A server cannot be installed, started or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    Attributes:
        command: program and arguments; one of them is the server's own folder.
        log: gets what the server prints, after what is there.
        answers: asks the server, in about a second at most, whether it is ready.
        environment: variables added to this process's own.
        user: whom the server runs as; None is the caller.
    """

    command: Sequence[str | Path]
    log: Path
    answers: Callable[[], bool]
    environment: Mapping[str, str]
    user: str | None = None


class ProcessOwner(TypedDict, total=False):
    """The arguments of ``subprocess`` that say whom a process runs as."""

    user: str
    group: str
    extra_groups: list[str]


def as_user(name: str | None) -> ProcessOwner:
    """The arguments with which ``subprocess`` runs a program as another user; none for the caller itself."""
    return {} if name is None else {"user": name, "group": name, "extra_groups": []}


def launch(server: Launch) -> int:
    """Starts a server in a session of its own and waits until it answers.

    Returns:
        The process id.

    Raises:
        ServiceError: it died, or did not answer in time; with the last lines of its log. It does not run then.
    """
    with server.log.open("ab") as output:
        process = subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={**os.environ, **server.environment},
            start_new_session=True,  # Ctrl-C in the terminal is for the caller
            **as_user(server.user),
        )
    try:
        wait_until_it_answers(process, server)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.pid


def wait_until_it_answers(process: subprocess.Popen[bytes], server: Launch) -> None:
    """Returns when the server answers; raises ServiceError if it ends first, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not server.answers():
        if process.poll() is not None:
            trouble = f"ended at start with code {process.returncode}"
        elif time.monotonic() > deadline:
            trouble = f"did not answer within {START_SECONDS:.0f} s"
        else:
            time.sleep(0.05)
            continue
        last_lines = "\n".join(server.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise ServiceError(f"{server.command[0]} {trouble}; the end of {server.log}:\n{last_lines}")


def is_ours(pid: int | None, server_folder: Path) -> bool:
    """Whether the process lives and its command line names the folder; that of one which has ended is empty."""
    if pid is None:
        return False
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.fsencode(server_folder) in arguments


def end_process(pid: int | None, server_folder: Path, stop_signal: signal.Signals) -> bool:
    """Ends the process if it is ours, at the latest by SIGKILL, and returns when it is gone.

    Returns:
        Whether there was one to end.
    """
    if pid is None or not is_ours(pid, server_folder):
        return False
    for number in (stop_signal, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not is_ours(pid, server_folder):
                return True
            time.sleep(0.02)
    raise ServiceError(f"process {pid} does not end, not even by SIGKILL; see what it waits for: cat /proc/{pid}/wchan")


def free_port() -> int:
    """A port of the loopback address on which nothing listens."""
    for port in random.sample(PORTS, len(PORTS)):
        if is_free(port):
            return port
    raise ServiceError(f"every port from {PORTS.start} to {PORTS.stop - 1} is taken; end what holds them (ss -ltnp)")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port; connections of an earlier one that are still closing don't matter."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[None]:
    """Waits, ``seconds`` at most, until no other process holds the lock at ``path``, then holds it."""
    with path.open("w") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServiceError(f"{path} is held by another run; wait for it to end, or end it") from None
                time.sleep(0.1)
        yield


def tell(message: str) -> None:
    """Says what is done; on standard error, since standard output is for the shell's ``eval``."""
    print(message, file=sys.stderr, flush=True)
