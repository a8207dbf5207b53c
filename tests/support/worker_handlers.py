"""Handlers that worker processes of the tests run."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

from imgsyncfs.errors import AnnotationError, BlobMissing
from imgsyncfs.workers.frames import Send

ERRORS = {
    "missing": BlobMissing("the blob is gone"),
    "annotation": AnnotationError("is no number", field="labels[0].object[0].x"),
    "surprise": KeyError("surprise"),
}


class Echo:
    """Answers with what it was asked and made with."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._meeting = threading.Barrier(2)

    def handle(self, arguments: dict[str, Any], tell: Send) -> tuple[dict[str, Any], bytes]:
        """Do what ``do`` says."""
        what = arguments["do"]
        if what == "die":
            os._exit(7)
        if what == "die once":
            self._die_once(arguments["marker"])
        if what in ERRORS:
            raise ERRORS[what]
        for number in range(arguments.get("parts", 0)):
            tell({"part": number}, b"x" * number)
        if what == "die after parts once":
            self._die_once(arguments["marker"])
        if what == "garble once":
            self._garble_once(arguments)
        if what == "wait for file":
            while not os.path.exists(arguments["marker"]):  # noqa: PTH110  # as above
                threading.Event().wait(0.01)
        others: dict[str, Callable[[], object]] = {
            "print": lambda: print("a library prints this"),
            "meet": lambda: self._meeting.wait(20),
        }
        others.get(what, bool)()
        return {"settings": self._settings, "process": os.getpid()}, arguments.get("payload", "").encode()

    def _garble_once(self, arguments: dict[str, Any]) -> None:
        """Write into all pipes that this process can write to."""
        if os.path.exists(arguments["marker"]):  # noqa: PTH110  # as above
            return
        with open(arguments["marker"], "w"):  # noqa: PTH123  # as above
            pass
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(descriptor, bytes.fromhex(arguments["garbage"]))
        threading.Event().wait(20)

    def _die_once(self, marker: str) -> None:
        if not os.path.exists(marker):  # noqa: PTH110  # no more imports than needed in a process that dies
            with open(marker, "w"):  # noqa: PTH123
                os._exit(7)
