"""Messages between processes of this project that may bring descriptors along.

A message is a header (JSON), an optional payload (raw bytes), and up to `MOST_DESCRIPTORS` descriptors. The socket
keeps messages apart (SOCK_SEQPACKET), so neither side reads half of one.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

MOST_DESCRIPTORS = 4
MESSAGE_BYTES = 1 << 16

_LENGTH = struct.Struct("<I")


class Message(NamedTuple):
    """A message that has come.

    Attributes:
        header: JSON-able.
        payload: raw bytes.
        descriptors: taken over by whoever receives it.
    """

    header: dict[str, Any]
    payload: bytes
    descriptors: list[int]


def send(
    connection: socket.socket, header: dict[str, Any], payload: bytes = b"", descriptors: Sequence[int] = ()
) -> None:
    """Send a message.

    Raises:
        OSError: the other side is gone, or takes no messages.
    """
    encoded = orjson.dumps(header)
    content = [_LENGTH.pack(len(encoded)), encoded, payload]
    if descriptors:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        connection.sendmsg(content, ancillary, socket.MSG_NOSIGNAL)
    else:
        connection.sendmsg(content, (), socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> Message | None:
    """Receive a message; None if the other side is gone.

    Raises:
        BlockingIOError: there is none, on a socket that does not wait.
        ValueError: what came is no message; descriptors that came with it are closed.
    """
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
    try:
        content, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # It ended with messages unread. What it sent before is still to come.
        content, ancillary, _, _ = connection.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, values in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(values[: len(values) - len(values) % descriptors.itemsize])
    if not content:
        return None
    try:
        header, payload = _parts(content)
    except ValueError:
        close_all(descriptors)
        raise
    return Message(header, payload, descriptors.tolist())


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    if len(content) < _LENGTH.size:
        raise ValueError(f"no message is {content!r}")
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    header = orjson.loads(content[_LENGTH.size : end])
    if end > len(content) or not isinstance(header, dict):
        raise ValueError("a message's header is no JSON object")
    return header, content[end:]


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets that talk to each other."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a message and are of no use."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
