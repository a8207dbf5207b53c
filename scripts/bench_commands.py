"""Programs that the benchmark runs to their ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
COMMAND_SECONDS = 300.0
LAST_WORDS = 1000


class BenchError(Exception):
    """A measurement, or what it needs, failed; the message says which and why."""


def installed(name: str) -> str:
    """The path of a program that the benchmark's environment has, whatever else of this name is on ``PATH``."""
    return str(Path(sys.executable).with_name(name))


def run(command: Sequence[str | Path], variables: Mapping[str, str], *, seconds: float = COMMAND_SECONDS) -> None:
    """Runs a program to its end, even if this process is interrupted: what it has begun can then be undone.

    Args:
        command: program and arguments.
        variables: its environment.
        seconds: after which it is ended.

    Raises:
        BenchError: it failed, with what it said; or it took too long.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal is for this process alone.
            start_new_session=True,
        )
        words = " ".join(map(str, command))
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise BenchError(f"{words} did not end within {seconds:.0f} s") from error
        except BaseException:
            process.wait(seconds)
            raise
        if status != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-LAST_WORDS:]
            raise BenchError(f"{words} ended with {status}: {said}")


def run_imgsyncfs(variables: Mapping[str, str], *arguments: str | Path, seconds: float = COMMAND_SECONDS) -> None:
    """Runs this project's command; see `run`."""
    run([installed("imgsyncfs"), *arguments], variables, seconds=seconds)
