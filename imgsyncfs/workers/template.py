"""The process that workers and responders are forked from: it has imported what they need, and has one thread.

`imgsyncfs.workers.forking.Template` starts it as ``python -m imgsyncfs.workers.template DESCRIPTOR MODULE…``, with a
socket, or forks it of a process that has one thread itself. A message has it import more modules, or fork a process
that runs a function with the descriptors that came along. So a process is there in milliseconds, at the start and in
the place of one that died, and all share the memory of the modules.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from imgsyncfs.workers.core_files import write_no_core_files
from imgsyncfs.workers.messages import close_all, receive, send

logger = logging.getLogger(__name__)

Run = Callable[[dict[str, Any], list[int]], None]
"""What a forked process does, given JSON-able arguments and descriptors that are its own."""


def main() -> None:
    """Be a template; see `serve`."""
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])


def serve(asking: socket.socket, modules: Sequence[str]) -> None:
    """Import and fork until whoever asks for it ends.

    Args:
        asking: where messages come from.
        modules: names of those to import first.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s process %(process)d %(levelname)s %(name)s: %(message)s"
    )
    write_no_core_files()
    # A library that prints does it where log lines go.
    os.dup2(2, 1)
    # The coordinator decides when the mount ends, and whoever is forked has nobody to wait for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _import(modules)
    while (message := receive(asking)) is not None:
        header, descriptors = message.header, message.descriptors
        if "import" in header:
            _import(header["import"])
            continue
        process = os.fork()
        if process == 0:
            asking.close()
            _become(header["fork"], header["arguments"], descriptors)
        close_all(descriptors)
        handles: list[int] = []
        with contextlib.suppress(ProcessLookupError):
            # It may have ended by now.
            handles.append(os.pidfd_open(process))
        with contextlib.suppress(BrokenPipeError):
            # Whoever asked has ended meanwhile, and so does what was forked.
            send(asking, {"process": process}, descriptors=handles)
        close_all(handles)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:
            # Whoever needs it says what does not work without it.
            logger.exception("The module %s cannot be imported.", module)
    # What is shared stays shared: collecting garbage would write to it.
    gc.collect()
    gc.freeze()


def _become(name: str, arguments: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be another process from now on: run a function, named as ``module:function``."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 0
    try:
        module, _, attribute = name.partition(":")
        run: Run = getattr(importlib.import_module(module), attribute)
        run(arguments, descriptors)
    except BaseException:
        logger.exception("The process ended; another takes its place.")
        status = 1
    finally:
        # Not the way that the process it was forked from ends.
        os._exit(status)


if __name__ == "__main__":
    main()
