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

_HEAD = struct.Struct("<4sII")
_MARK = b"\x00isf"
"""What each frame begins with: whatever else comes is no frame, and is not waited for."""

MOST_HEADER_BYTES = 64 << 20


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
    stream.write(_HEAD.pack(_MARK, len(encoded), len(payload)) + encoded)
    if payload:
        stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read one frame.

    Args:
        stream: a buffered binary stream, read by one thread.

    Returns:
        (header, payload), or None when the other end has closed the stream, in the middle of a frame too.

    Raises:
        ValueError: what came is no frame.
    """
    head = stream.read(_HEAD.size)
    if not _MARK.startswith(head[: len(_MARK)]):
        raise ValueError(f"no frame begins with {head!r}")
    if len(head) < _HEAD.size:
        return None
    _, header_length, payload_length = _HEAD.unpack(head)
    if header_length > MOST_HEADER_BYTES:
        raise ValueError(f"no frame has a header of {header_length} bytes")
    encoded = stream.read(header_length)
    payload = stream.read(payload_length) if payload_length else b""
    if len(encoded) < header_length or len(payload) < payload_length:
        return None
    header = orjson.loads(encoded)
    if not isinstance(header, dict):
        raise ValueError("a frame's header is no JSON object")  # noqa: TRY004  # as all that is no frame
    return header, payload
