"""Messages of SQL Server's protocol, read and written (MS-TDS 7.4): as much of it as ODBC drivers need of a server."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PACKET_BYTES = 4096
BATCH, RPC, ANSWER, ATTENTION, TRANSACTION, LOGIN, PRELOGIN = 1, 3, 4, 6, 14, 16, 18
_HEADER = struct.Struct(">BBHHBB")
_END = 1

DONE, DONE_PROCEDURE, DONE_IN_PROCEDURE = 0xFD, 0xFE, 0xFF
ENCRYPTION_OPTION, FEDERATED_OPTION = 1, 6
ENCRYPTED, NOT_SUPPORTED = 1, 2

_COLLATION = bytes((0x09, 0x04, 0xD0, 0x00, 0x34))
_FEDERATED_FEATURE, _FEATURES_END = 2, 0xFF
_NO_LENGTH = 0xFFFF
_UNKNOWN_LENGTH = 0xFFFFFFFFFFFFFFFE

_BIG, _TEXT, _BYTE_TEXT, _LONG_TEXT = 0x26, 0xE7, 0xA7, 0x63
_LONGEST_SIZED = 8000


def packets(kind: int, content: bytes) -> bytes:
    """A message cut into packets."""
    most = PACKET_BYTES - _HEADER.size
    parts = [content[start : start + most] for start in range(0, len(content), most)] or [b""]
    made = []
    for number, part in enumerate(parts):
        status = _END if number == len(parts) - 1 else 0
        made.append(_HEADER.pack(kind, status, len(part) + _HEADER.size, 0, (number + 1) % 256, 0) + part)
    return b"".join(made)


def packet_length(header: bytes) -> tuple[int, bool, int]:
    """(kind, whether it is the message's last, length of what follows) of a packet, from its first eight bytes."""
    kind, status, length, *_ = _HEADER.unpack(header)
    return kind, bool(status & _END), length - _HEADER.size


def prelogin_options(content: bytes) -> dict[int, bytes]:
    """The options of a PRELOGIN message by their numbers."""
    options, place = {}, 0
    while content[place] != 0xFF:
        option, offset, length = struct.unpack_from(">BHH", content, place)
        options[option] = content[offset : offset + length]
        place += 5
    return options


def prelogin(options: dict[int, bytes]) -> bytes:
    """A PRELOGIN message."""
    offset = 5 * len(options) + 1
    head, values = b"", b""
    for option, value in options.items():
        head += struct.pack(">BHH", option, offset + len(values), len(value))
        values += value
    return head + b"\xff" + values


@dataclass(frozen=True)
class Login:
    """What a client logs in with.

    Attributes:
        user: its name.
        password: in clear.
        database: the one it wants.
        application: how it names itself.
        token: of Entra ID, empty without one.
    """

    user: str
    password: str
    database: str
    application: str
    token: str


def read_login(content: bytes) -> Login:
    """Read a LOGIN7 message."""

    def field(place: int) -> bytes:
        offset, letters = struct.unpack_from("<HH", content, place)
        return content[offset : offset + 2 * letters]

    def text(place: int) -> str:
        return field(place).decode("utf-16-le")

    scrambled = (byte ^ 0xA5 for byte in field(44))
    password = bytes((byte << 4 & 0xF0) | byte >> 4 for byte in scrambled).decode("utf-16-le")
    return Login(text(40), password, text(68), text(48), _token(content))


def _token(content: bytes) -> str:
    if not content[27] & 0x10:
        return ""
    (offset,) = struct.unpack_from("<H", content, 56)
    (place,) = struct.unpack_from("<I", content, offset)
    while content[place] != _FEATURES_END:
        feature, length = struct.unpack_from("<BI", content, place)
        if feature == _FEDERATED_FEATURE:
            (letters,) = struct.unpack_from("<I", content, place + 6)
            return content[place + 10 : place + 10 + letters].decode("utf-16-le")
        place += 5 + length
    return ""


def login_answer(database: str, *, federated: bool) -> bytes:
    """What a server says to a login that it takes."""
    name = "Microsoft SQL Server"
    acknowledged = struct.pack("<B", 1) + b"\x74\x00\x00\x04" + _short(name) + bytes((16, 0, 16, 0))
    answer = _change(1, _short(database) + _short("master")) + _change(7, b"\x05" + _COLLATION + b"\x00")
    answer += b"\xad" + struct.pack("<H", len(acknowledged)) + acknowledged
    answer += _change(4, _short(str(PACKET_BYTES)) + _short(str(PACKET_BYTES)))
    if federated:
        answer += b"\xae" + struct.pack("<BI", _FEDERATED_FEATURE, 0) + b"\xff"
    return answer + done()


def error(number: int, words: str) -> bytes:
    """An error of the server."""
    content = struct.pack("<IBB", number, 1, 16) + struct.pack("<H", len(words)) + words.encode("utf-16-le")
    content += _short("server") + _short("") + struct.pack("<I", 1)
    return b"\xaa" + struct.pack("<H", len(content)) + content


def transaction_change(kind: int) -> bytes:
    """A transaction began (8), was committed (9) or rolled back (10)."""
    number = b"\x08" + (1).to_bytes(8, "little")
    return _change(kind, number + b"\x00" if kind == 8 else b"\x00" + number)


def done(count: int | None = None, *, failed: bool = False, token: int = DONE, attention: bool = False) -> bytes:
    """The end of a statement's answer."""
    status = (0x10 if count is not None else 0) | (0x02 if failed else 0) | (0x20 if attention else 0)
    # What ends within a procedure is followed by its end.
    status |= token == DONE_IN_PROCEDURE
    return struct.pack("<BHHQ", token, status, 0, count or 0)


def rows(names: Sequence[str], values: Sequence[Sequence[Any]]) -> bytes:
    """A result: whole numbers and texts."""
    kinds = [_kind([row[place] for row in values]) for place in range(len(names))]
    answer = b"\x81" + struct.pack("<H", len(names))
    for name, kind in zip(names, kinds, strict=True):
        answer += struct.pack("<IH", 0, 1) + (b"\x26\x08" if kind == _BIG else _text_type(kind)) + _short(name)
    return b"".join([answer, *(b"\xd1" + b"".join(map(_value, kinds, row)) for row in values)])


def _kind(values: Sequence[Any]) -> int:
    if any(isinstance(value, str) for value in values):
        return 0 if any(isinstance(value, str) and 2 * len(value) > _LONGEST_SIZED // 2 for value in values) else _TEXT
    return _BIG


def _text_type(kind: int) -> bytes:
    return b"\xe7" + struct.pack("<H", _LONGEST_SIZED if kind == _TEXT else _NO_LENGTH) + _COLLATION


def _value(kind: int, value: Any) -> bytes:
    if kind == _BIG:
        return b"\x00" if value is None else b"\x08" + struct.pack("<q", value)
    encoded = None if value is None else str(value).encode("utf-16-le")
    if kind == _TEXT:
        return struct.pack("<H", _NO_LENGTH) if encoded is None else struct.pack("<H", len(encoded)) + encoded
    if encoded is None:
        return b"\xff" * 8
    chunk = struct.pack("<I", len(encoded)) + encoded if encoded else b""
    return struct.pack("<Q", len(encoded)) + chunk + struct.pack("<I", 0)


def handle_answer(handle: int) -> bytes:
    """The number of a prepared statement, as an output parameter."""
    named = b"\xac" + struct.pack("<H", 0) + _short("") + b"\x01"
    return named + struct.pack("<IH", 0, 0) + b"\x26\x04\x04" + struct.pack("<i", handle)


def batch_text(content: bytes) -> str:
    """The statements of a batch."""
    (headers,) = struct.unpack_from("<I", content)
    return content[headers:].decode("utf-16-le")


@dataclass(frozen=True)
class Call:
    """A remote procedure call: its name or number, and the values of its parameters."""

    procedure: str | int
    values: tuple[Any, ...]


def read_call(content: bytes) -> Call:
    """Read the first call of an RPC message."""
    (place,) = struct.unpack_from("<I", content)
    (letters,) = struct.unpack_from("<H", content, place)
    procedure: str | int
    if letters == _NO_LENGTH:
        (procedure,) = struct.unpack_from("<H", content, place + 2)
        place += 4
    else:
        procedure = content[place + 2 : place + 2 + 2 * letters].decode("utf-16-le")
        place += 2 + 2 * letters
    place += 2
    values = []
    while place < len(content) and content[place] not in {0x80, 0xFE, 0xFF}:
        place += 2 + 2 * content[place]
        value, place = _read_parameter(content, place)
        values.append(value)
    return Call(procedure, tuple(values))


def _read_parameter(content: bytes, place: int) -> tuple[Any, int]:
    kind = content[place]
    place += 1
    if kind in {0x26, 0x68}:
        length = content[place + 1]
        value = int.from_bytes(content[place + 2 : place + 2 + length], "little", signed=kind == _BIG)
        return (value if length else None), place + 2 + length
    if kind in {0x30, 0x34, 0x38, 0x7F}:
        length = {0x30: 1, 0x34: 2, 0x38: 4, 0x7F: 8}[kind]
        return int.from_bytes(content[place : place + length], "little", signed=True), place + length
    if kind in {0x6A, 0x6C}:
        length = content[place + 3]
        digits = content[place + 4 : place + 4 + length]
        if not length:
            return None, place + 4
        scale = content[place + 2]
        number = int.from_bytes(digits[1:], "little") * (1 if digits[0] else -1)
        return (number // 10**scale), place + 4 + length
    if kind == _LONG_TEXT:
        (length,) = struct.unpack_from("<i", content, place + 9)
        start = place + 13
        return (None, start) if length < 0 else (content[start : start + length].decode("utf-16-le"), start + length)
    if kind in {_TEXT, _BYTE_TEXT}:
        (most,) = struct.unpack_from("<H", content, place)
        return _read_text(
            content, place + 7, chunked=most == _NO_LENGTH, encoding="utf-16-le" if kind == _TEXT else "cp1252"
        )
    raise ValueError(f"a parameter of type {kind:#x}")


def _read_text(content: bytes, place: int, *, chunked: bool, encoding: str) -> tuple[str | None, int]:
    if not chunked:
        (length,) = struct.unpack_from("<H", content, place)
        if length == _NO_LENGTH:
            return None, place + 2
        return content[place + 2 : place + 2 + length].decode(encoding), place + 2 + length
    (total,) = struct.unpack_from("<Q", content, place)
    place += 8
    if total == 0xFFFFFFFFFFFFFFFF:
        return None, place
    parts: list[bytes] = []
    while True:
        (length,) = struct.unpack_from("<I", content, place)
        place += 4
        if not length:
            return b"".join(parts).decode(encoding), place
        parts.append(content[place : place + length])
        place += length


def _short(text: str) -> bytes:
    return struct.pack("<B", len(text)) + text.encode("utf-16-le")


def _change(kind: int, content: bytes) -> bytes:
    return b"\xe3" + struct.pack("<HB", len(content) + 1, kind) + content
