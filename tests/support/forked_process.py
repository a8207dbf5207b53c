"""What the processes of `unit/test_forking.py` do."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from imgsyncfs.workers.messages import receive, send


def say(arguments: dict[str, Any], descriptors: list[int]) -> None:
    """Say what this process is, on the socket that it was given, and wait for its end."""
    connection = socket.socket(fileno=descriptors[0])
    send(connection, {"arguments": arguments, "process": os.getpid(), "imported": "colorsys" in sys.modules})
    receive(connection)


def fail(_arguments: dict[str, Any], _descriptors: list[int]) -> None:
    """Fail at once."""
    raise RuntimeError("as the test wants it")
