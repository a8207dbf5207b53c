"""Why a text file cannot be read: it is not in UTF-8."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE

_REMEDY = "convert it with: iconv -f {encoding} -t UTF-8 FILE > NEW"


def encoding_fault(content: bytes) -> str:
    """Say which encoding a file is in, and what to do about it; empty if it is UTF-8.

    Args:
        content: of the file.
    """
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in content[:4]:
        return f"it is in UTF-16 and not in UTF-8; {_REMEDY.format(encoding='UTF-16')}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        # Of the others it cannot be told which one it is; the first of these has all of GB2312 and GBK.
        remedy = _REMEDY.format(encoding="GB18030")
        return f"byte {error.start} is not UTF-8; if it was written in Chinese Windows, {remedy}"
    return ""
