"""Which file stems an image may have when it is published: its siblings need names too."""

from __future__ import annotations

import unicodedata

from imgsyncfs.catalog.naming import LONGEST_FILE_NAME_BYTES, file_name_fault
from imgsyncfs.formats.registry import FORMATS, HOUSE_SUFFIX

_SUFFIXES = (HOUSE_SUFFIX, *(known.suffix for known in FORMATS.values()))

LONGEST_STEM_BYTES = LONGEST_FILE_NAME_BYTES - max(map(len, _SUFFIXES))
"""The longest sibling of an image still fits into a directory."""

# The file beside "a.labelme" that ends in ".json" would have the name of a file beside "a".
_RESERVED_ENDINGS = tuple(
    longer.removesuffix(shorter)
    for longer in _SUFFIXES
    for shorter in _SUFFIXES
    if longer != shorter and longer.endswith(shorter)
)


def stem_fault(stem: str) -> str | None:
    """Say why an image with this file stem cannot be published.

    Args:
        stem: the file name without its extension, as Python decodes it (bytes that are not UTF-8 are surrogates).

    Returns:
        The reason, to be read after the name; None if the stem is fine.
    """
    fault = file_name_fault(stem)
    if fault is not None:
        return fault
    if stem.startswith("."):
        return "it starts with a dot, which hides the file; rename it"
    for ending in _RESERVED_ENDINGS:
        if stem.endswith(ending):
            return f"it ends in {ending!r}, which is kept for the rendered annotations; rename it"
    if any(unicodedata.category(character) == "Cc" for character in stem):
        return "it holds a control character such as a newline; rename it"
    length = len(stem.encode())
    if length > LONGEST_STEM_BYTES:
        return f"it is {length} bytes long without its extension; shorten it to {LONGEST_STEM_BYTES}"
    return None
