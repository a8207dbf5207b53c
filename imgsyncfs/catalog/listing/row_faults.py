"""Which rows of a catalog cannot be shown as files, and why.

Most portions of rows have no fault at all: that is seen from whole columns, and no row is looked at by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TypeVar

from imgsyncfs.catalog.listing.table import ANNOTATION_EXT
from imgsyncfs.catalog.rows import AnnotationRow, ImageRow
from imgsyncfs.naming import file_name_fault

_HARMLESS = r"[\w-][\w.-]{0,199}"
"""Most names; `file_name_fault` finds nothing in them, even with a short extension."""

_HARMLESS_NAMES = re.compile(rf"(?:{_HARMLESS}\n)*", re.ASCII)
_SHORT_EXT = re.compile(r"[a-z0-9]{1,5}", re.ASCII)
_DIGEST = re.compile(r"(?:[0-9a-f]{32})?")
_DIGESTS = re.compile(r"(?:(?:[0-9a-f]{32})?\n)*")

_TWICE = "there is another row of this name; delete one"

Row = TypeVar("Row", ImageRow, AnnotationRow)

Hidden = list[tuple[str, str]]


def sound_images(rows: Sequence[ImageRow], known: Container[str]) -> tuple[Sequence[ImageRow], Hidden]:
    """Tell the images that can be shown from those that cannot.

    Args:
        rows: some images.
        known: names of images that are shown already.

    Returns:
        (rows that can be shown, (file name, reason) of the others)
    """
    exts = {row.ext for row in rows}
    numbers = [min(row.height, row.width, row.depth) for row in rows]
    plain = all(_ext_fault(ext) is None and _SHORT_EXT.fullmatch(ext) for ext in exts) and min(numbers) >= 0
    if plain and _have_no_fault(rows) and not any(row.name in known for row in rows):
        return rows, []
    return _sift(rows, _image_fault, known, lambda row: f"{row.name}.{row.ext}")


def sound_annotations(
    rows: Sequence[AnnotationRow], places: Mapping[str, int], flags: Sequence[int] | memoryview
) -> tuple[Sequence[AnnotationRow], Hidden]:
    """Tell the annotations that can be shown from those that cannot.

    Args:
        rows: some annotations.
        places: name of each image that is shown, to its place.
        flags: by place, not 0 if the image has its annotation already.

    Returns:
        (rows that can be shown, (file name, reason) of the others)
    """
    if _have_no_fault(rows) and all(row.name in places and not flags[places[row.name]] for row in rows):
        return rows, []

    def fault(row: AnnotationRow) -> str | None:
        found = _name_fault(row.name, ANNOTATION_EXT) or _file_fault(row)
        if found is None and row.name not in places:
            return "there is no image of this name that can be shown; delete the row, or publish the image"
        return found or (_TWICE if flags[places[row.name]] else None)

    return _sift(rows, fault, (), lambda row: f"{row.name}.{ANNOTATION_EXT}")


def _sift(
    rows: Sequence[Row], fault: Callable[[Row], str | None], known: Container[str], file_name: Callable[[Row], str]
) -> tuple[list[Row], Hidden]:
    """Look at each row."""
    good: list[Row] = []
    hidden: Hidden = []
    names: set[str] = set()
    for row in rows:
        reason = fault(row) or (_TWICE if row.name in names or row.name in known else None)
        if reason:
            hidden.append((file_name(row), reason))
        else:
            names.add(row.name)
            good.append(row)
    return good, hidden


def _have_no_fault(rows: Sequence[ImageRow] | Sequence[AnnotationRow]) -> bool:
    """Whether names and files of all rows are surely without fault, and no name is there twice."""
    names = [row.name for row in rows]
    blobs = [row.blob for row in rows]
    texts = "".join([*blobs, *[row.etag for row in rows]])
    lines = "".join([f"{name}\n" for name in names])
    digests = "".join([f"{row.md5}\n" for row in rows])
    return (
        len(set(names)) == len(names)
        and lines.count("\n") == digests.count("\n") == len(rows)
        and _HARMLESS_NAMES.fullmatch(lines) is not None
        and texts.isascii()
        and "\0" not in texts
        and all(blobs)
        and min([row.byte_count for row in rows]) >= 0
        and min([row.blob_offset for row in rows]) >= 0
        and _DIGESTS.fullmatch(digests) is not None
    )


def _image_fault(row: ImageRow) -> str | None:
    """Why an image cannot be shown, or None."""
    fault = _ext_fault(row.ext) or _name_fault(row.name, row.ext) or _file_fault(row)
    if fault is None and min(row.height, row.width, row.depth) < 0:
        return "its height, width or depth is below 0; correct it"
    return fault


def _ext_fault(ext: str) -> str | None:
    if not ext or "." in ext or ext == ANNOTATION_EXT:
        return f"an image cannot have the extension {ext!r}; correct its column ext"
    return None


def _name_fault(name: str, ext: str) -> str | None:
    return file_name_fault(name) or file_name_fault(f"{name}.{ext}")


def _file_fault(row: ImageRow | AnnotationRow) -> str | None:
    if row.byte_count < 0 or row.blob_offset < 0:
        return "its byte_count or blob_offset is below 0; correct it"
    if not _DIGEST.fullmatch(row.md5):
        return f"its md5 {row.md5!r} is not 32 hexadecimal digits; correct it, or leave it empty"
    if not row.blob or "\0" in row.blob:
        return f"its blob is named {row.blob!r}, which none can be; correct it"
    if not (_is_utf8(row.blob) and _is_utf8(row.etag)):
        return "its blob or etag is not valid UTF-8; correct it"
    return None


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
