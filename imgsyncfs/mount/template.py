"""The process that responders are forked from: it has imported what they need, and has one thread.

The coordinator starts it as ``python -m imgsyncfs.mount.template DESCRIPTOR``, with a socket. Each message asks for one
responder, and brings the kernel's device, the board and the responder's own socket. A responder can so be replaced in
a millisecond, and all share the memory of the modules.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys

from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.mount.exchange import Board, Message, receive, send
from imgsyncfs.mount.responder import respond

logger = logging.getLogger(__name__)


def main() -> None:
    """Fork responders until the coordinator ends."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s responder %(process)d %(levelname)s %(name)s: %(message)s"
    )
    # The coordinator decides when the mount ends, and whoever is forked has nobody to wait for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    coordinator = socket.socket(fileno=int(sys.argv[1]))
    setup = receive(coordinator)
    if setup is None:
        return
    for name in setup.header["siblings"]:
        # Imports lxml, and whatever else the format needs.
        FORMATS[name].recognizes(b"")
    gc.collect()
    gc.freeze()
    while (message := receive(coordinator)) is not None:
        process = _fork(message, coordinator, setup)
        for descriptor in message.descriptors:
            os.close(descriptor)
        send(coordinator, {"process": process})


def _fork(message: Message, coordinator: socket.socket, setup: Message) -> int:
    process = os.fork()
    if process == 0:
        coordinator.close()
        device, board, connection = message.descriptors
        header = message.header
        respond(
            header["fork"],
            device,
            socket.socket(fileno=connection),
            Board(header["responders"], board),
            setup.header,
        )
    return process


if __name__ == "__main__":
    main()
