"""Runs ``imgsyncfs`` in a process of its own that begins with everything imported.

A new interpreter takes 0.2 to 0.5 s of CPU for imports alone, and the tests run some thousand commands. Here
multiprocessing's fork server imports once what the commands import, and each command is a fork of it: with an
environment, a working directory, standard streams and an exit status of its own, as a new interpreter has. What reads
``PYTHON…`` variables, or is about start-up, needs a new interpreter all the same.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

COMMANDS = (
    "cache_commands",
    "catalog_commands",
    "completion_command",
    "convert_commands",
    "mount_commands",
    "mounted_commands",
    "pin_commands",
    "preview_commands",
    "publish_commands",
    "query_command",
    "selection_commands",
    "split_command",
    "status_command",
    "sync_commands",
    "system_commands",
)
LATE_IMPORTS = (
    *(f"imgsyncfs.cli.{name}" for name in COMMANDS),
    "imgsyncfs.cli.metrics",
    "PIL.Image",
    "imgsyncfs.catalog",
    "imgsyncfs.formats.labelme",
    "imgsyncfs.formats.rolabelimg",
    "imgsyncfs.library.library",
    "imgsyncfs.stores.azure.store",
    "imgsyncfs.stores.local",
    "imgsyncfs.tools.demo",
    "imgsyncfs.tools.publish.folder",
    "imgsyncfs.tools.sync.run",
    "numpy",
    "pyodbc",
    "rich.console",
    "rich.progress",
    "rich.table",
    "sqlite3",
    "xxhash",
)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(LATE_IMPORTS))


def run_forked(
    arguments: Sequence[str], *, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in this process's working directory and with nothing on standard input.

    Args:
        arguments: those of ``imgsyncfs``.
        environment: all variables of the command.
        seconds: how long it may take.

    Returns:
        Exit status, and what it wrote.

    Raises:
        subprocess.TimeoutExpired: it took longer; it has been killed.
    """
    # Files and no pipes: a mount goes on in the background, and what it inherits must not keep the reader waiting.
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        process = _CONTEXT.Process(target=_run, args=(arguments, dict(environment), output.name, errors.name))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), seconds, output.read(), errors.read())
        return subprocess.CompletedProcess(list(arguments), process.exitcode, output.read(), errors.read())


def _run(arguments: Sequence[str], environment: Mapping[str, str], output: str, errors: str) -> None:
    """The command itself, in the forked process."""
    for descriptor, path in ((0, os.devnull), (1, output), (2, errors)):
        opened = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["imgsyncfs", *arguments]
    from imgsyncfs.cli import main

    main()
