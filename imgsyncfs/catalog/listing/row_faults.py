"""Which rows of a catalog cannot be shown as files, and why.

Most portions of rows have no fault at all: that is seen from whole columns, and no row is looked at by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from imgsyncfs.catalog.listing.table import ANNOTATION_EXT
from imgsyncfs.catalog.listing.typed_columns import TypedColumns
from imgsyncfs.catalog.naming import LONGEST_FILE_NAME_BYTES, file_name_fault
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow

TWICE = "there is another row of this name; delete one"
NO_IMAGE = "there is no image of this name that can be shown; delete the row, or publish the image"

_DIGEST = re.compile(r"(?:[0-9a-f]{32})?")
_DIGEST_LENGTHS = frozenset({0, 32})
_DIGITS_AND_SEPARATOR = b"0123456789abcdef\0"

_LARGEST = 2**63 - 1

_NOT_NEGATIVE = ("byte_count", "blob_offset", "height", "width", "depth")

Row = TypeVar("Row", ImageRow, AnnotationRow)

Hidden = list[tuple[str, str]]


def have_no_fault(columns: TypedColumns) -> bool:
    """Whether rows can surely be shown, each by itself. That a name is there twice is not seen here.

    Args:
        columns: of images or annotations; texts are UTF-8 and hold no NUL.

    Returns:
        True if there is no fault; False if there may be one.
    """
    texts = columns.texts
    lengths = texts["name"].lengths
    exts = {ext.decode() for ext in set(texts["ext"].values)} if "ext" in texts else {ANNOTATION_EXT}
    if "ext" in texts and any(_ext_fault(ext) or file_name_fault(ext) for ext in exts):
        return False
    longest_ext = max(len(ext.encode()) for ext in exts)
    digests = texts["md5"]
    return (
        b"/" not in texts["name"].joined
        and int(lengths.min()) > len("..")
        and int(lengths.max()) + len(".") + longest_ext <= LONGEST_FILE_NAME_BYTES
        and all(int(columns.numbers[name].min()) >= 0 for name in _NOT_NEGATIVE if name in columns.numbers)
        and all(texts["blob"].values)
        and _DIGEST_LENGTHS.issuperset(map(len, digests.values))
        and not digests.joined.translate(None, _DIGITS_AND_SEPARATOR)
    )


def sift_images(rows: Sequence[ImageRow]) -> tuple[list[ImageRow], Hidden]:
    """Separate the images that can be shown, each by itself, from those that cannot.

    Returns:
        (rows that can be shown, (file name, reason) of the others)
    """
    return _sift(rows, _image_fault, lambda row: f"{row.name}.{row.ext}")


def sift_annotations(rows: Sequence[AnnotationRow]) -> tuple[list[AnnotationRow], Hidden]:
    """Separate the annotations that can be shown, each by itself, from those that cannot; see `sift_images`."""
    return _sift(rows, _annotation_fault, lambda row: f"{row.name}.{ANNOTATION_EXT}")


def _sift(
    rows: Sequence[Row], fault: Callable[[Row], str | None], file_name: Callable[[Row], str]
) -> tuple[list[Row], Hidden]:
    """Look at each row."""
    good: list[Row] = []
    hidden: Hidden = []
    for row in rows:
        reason = fault(row)
        if reason:
            hidden.append((file_name(row), reason))
        else:
            good.append(row)
    return good, hidden


def _image_fault(row: ImageRow) -> str | None:
    """Why an image cannot be shown, or None."""
    fault = _ext_fault(row.ext) or _name_fault(row.name, row.ext) or _file_fault(row)
    if fault is None and min(row.height, row.width, row.depth) < 0:
        return "its height, width or depth is below 0; correct it"
    return fault


def _annotation_fault(row: AnnotationRow) -> str | None:
    return _name_fault(row.name, ANNOTATION_EXT) or _file_fault(row)


def _ext_fault(ext: str) -> str | None:
    if not ext or "." in ext or ext == ANNOTATION_EXT:
        return f"an image cannot have the extension {ext!r}; correct its column ext"
    return None


def _name_fault(name: str, ext: str) -> str | None:
    return file_name_fault(name) or file_name_fault(f"{name}.{ext}")


def _file_fault(row: ImageRow | AnnotationRow) -> str | None:
    if row.byte_count < 0 or row.blob_offset < 0:
        return "its byte_count or blob_offset is below 0; correct it"
    # A database without types of its own may hold any number.
    if any(isinstance(value, int) and abs(value) > _LARGEST for value in vars(row).values()):
        return "one of its numbers has more than 64 bits; correct it"
    if not _DIGEST.fullmatch(row.md5):
        return f"its md5 {row.md5!r} is not 32 hexadecimal digits; correct it, or leave it empty"
    if not row.blob or "\0" in row.blob:
        return f"its blob is named {row.blob!r}, which none can be; correct it"
    if not (_is_utf8(row.blob) and _is_utf8(row.etag)):
        return "its blob or etag is not valid UTF-8; correct it"
    return None


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
