"""A worker process: runs jobs for the coordinator, several at a time, and ends when the coordinator does.

`imgsyncfs.workers.pool` has it forked from a template, with a pipe for jobs and one for answers. The first frame names
the handler class and its settings; each further frame is a job, answered by a frame with the same id. The main thread
only reads frames, so it sees at once that the coordinator is gone (end of file), however it ended, and exits without
waiting for in-flight requests. A job may send parts of its answer ahead, in frames with its id and ``part``.

Threads: jobs run on a pool of threads; `_Answers` guards the output stream with its lock, held for one frame.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from imgsyncfs.errors import AnnotationError, ImgsyncfsError
from imgsyncfs.workers.frames import Send, read_frame, write_frame

logger = logging.getLogger(__name__)


class Handler(Protocol):
    """The jobs of a worker. Its methods are called from several threads at once."""

    def __init__(self, settings: dict[str, Any]) -> None: ...

    def handle(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:
        """Do one job; returns a JSON-able result and a payload. An exception reaches the caller in the coordinator."""
        ...


@dataclass
class _Answers:
    stream: BinaryIO
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            with self.lock:
                write_frame(self.stream, header, payload)
        except OSError:
            # Nobody is left to answer; the main thread is about to see the same.
            logger.debug("The coordinator is gone.")


def load_handler(name: str, settings: dict[str, Any]) -> Handler:
    """Make the handler that the first frame names as ``module:Class``."""
    module, _, attribute = name.partition(":")
    handler: Handler = getattr(importlib.import_module(module), attribute)(settings)
    return handler


def describe_error(error: Exception) -> dict[str, str]:
    """Describe an exception in JSON-able fields; `imgsyncfs.workers.pool` makes it an exception again."""
    description = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, AnnotationError):
        description |= {"message": error.reason, "field": error.field}
    elif isinstance(error, ImgsyncfsError):
        description["option"] = error.option
    return description


def _run(handler: Handler, job: int, arguments: dict[str, Any], answers: _Answers) -> None:
    def send(part: dict[str, Any], payload: bytes) -> None:
        answers.send({"id": job, "part": part}, payload)

    try:
        result, payload = handler.handle(arguments, send)
    except ImgsyncfsError as error:
        answers.send({"id": job, "error": describe_error(error)})
    except Exception as error:
        logger.exception("A worker's job failed: %s", handler.__class__.__name__)
        answers.send({"id": job, "error": describe_error(error)})
    else:
        answers.send({"id": job, "result": result}, payload)


def serve(_arguments: dict[str, Any], descriptors: list[int]) -> None:
    """Serve jobs until their pipe ends; what a template forks for a pool (`imgsyncfs.workers.template.Run`)."""
    jobs, answers = os.fdopen(descriptors[0], "rb"), _Answers(os.fdopen(descriptors[1], "wb"))
    first = read_frame(jobs)
    if first is None:
        return
    setup, _ = first
    handler = load_handler(setup["handler"], setup["settings"])
    executor = ThreadPoolExecutor(max_workers=setup["threads"], thread_name_prefix="job")
    while (frame := read_frame(jobs)) is not None:
        header, _ = frame
        executor.submit(_run, handler, header["id"], header["arguments"], answers)
    # Requests under way have time limits of up to minutes, and nobody waits for them any more.
    os._exit(0)
