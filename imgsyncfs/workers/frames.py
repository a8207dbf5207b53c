"""How the coordinator and its worker processes talk: frames over a pipe.

A frame is a header (JSON) and an optional payload (raw bytes). JSON and not pickle, so that nothing read from a pipe
can run code; a payload beside it, because an extent of 4 MiB as JSON text would cost more than fetching it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import orjson

Send = Callable[[dict[str, Any], bytes], None]
"""Sends a part of a job's answer ahead: JSON-able, and a payload."""

_LENGTHS = struct.Struct("<II")


def write_frame(stream: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    """Write one frame and flush it.

    Args:
        stream: a binary stream, written by one thread at a time.
        header: a JSON-able mapping.
        payload: raw bytes that go with it.

    Raises:
        OSError: the other end is gone.
    """
    encoded = orjson.dumps(header)
    stream.write(_LENGTHS.pack(len(encoded), len(payload)) + encoded)
    if payload:
        stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read one frame.

    Args:
        stream: a buffered binary stream, read by one thread.

    Returns:
        (header, payload), or None when the other end has closed the stream, in the middle of a frame too.
    """
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    header_length, payload_length = _LENGTHS.unpack(lengths)
    encoded = stream.read(header_length)
    payload = stream.read(payload_length) if payload_length else b""
    if len(encoded) < header_length or len(payload) < payload_length:
        return None
    header: dict[str, Any] = orjson.loads(encoded)
    return header, payload
