"""What systemd is told by a mount that it runs as a service of ``Type=notify`` (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)

SOCKET_VARIABLE = "NOTIFY_SOCKET"

SEND_SECONDS = 5.0


def tell_service_manager(*assignments: str) -> None:
    """Tell the service manager how this service is doing; does nothing where none has started it.

    Args:
        assignments: each ``NAME=VALUE`` on one line, for example ``READY=1``.
    """
    address = os.environ.get(SOCKET_VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    # "@" stands for the zero byte that an abstract socket's name begins with.
    place = "\0" + address[1:] if address.startswith("@") else address
    message = "\n".join(each.replace("\n", " ") for each in assignments)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(SEND_SECONDS)
            channel.connect(place)
            channel.sendall(message.encode(errors="surrogateescape"))
    except OSError as error:
        # The mount is of use without it; systemd says itself that it was told nothing.
        logger.warning("The service manager at %s cannot be told %s: %s", address, assignments[0], error)
