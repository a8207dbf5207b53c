"""JSON in pure ASCII, which every reader takes whatever encoding it assumes."""

from __future__ import annotations

import re
from typing import Any

import orjson

from imgsyncfs.annotations.house_format import encode_json

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def encode_ascii_json(document: Any, *, indented: bool = False) -> bytes:
    """Write JSON with every character beyond ASCII escaped.

    labelme 4.0 opens files in the locale's encoding; XML cannot hold some characters that JSON can.

    Args:
        document: what orjson takes.
        indented: two spaces a level, as labelme does it.

    Returns:
        ASCII bytes.

    Raises:
        AnnotationError: JSON cannot hold it.
    """
    content = encode_json(document, orjson.OPT_INDENT_2 if indented else 0)
    if content.isascii():
        return content
    # In JSON such characters stand in texts only, so each can be escaped where it stands.
    return _NOT_ASCII.sub(_escape, content.decode()).encode("ascii")


def _escape(match: re.Match[str]) -> str:
    """Four digits for each unit of UTF-16, as JSON has it."""
    return re.sub("....", r"\\u\g<0>", match.group().encode("utf-16-be").hex())
