"""Annotations as DOTA's text, beside an image as ``x.dota.txt``.

Source: DOTA's development kit (v1.5 and 2.0) and the reader of mmrotate 1.0. A row is ``x1 y1 x2 y2 x3 y3 x4 y4
category difficult``, ten fields with blanks between them, in pixels of the turned picture, clockwise. mmrotate fails on
the two header lines of DOTA's own files (``imagesource:``, ``gsd:``): none are written, and some are read. Blanks in a
class name become ``-``. A file without rows is empty.

Bounding boxes, rotated boxes and polygons of four points are rows, exactly; other polygons and masks are losses: what
has not four corners is no box, and nothing is made one in silence. There is no place to embed anything. Read beside the
annotation that it was rendered from (`Format.reattached`), a file changes only what was edited in it; read alone, four
corners of a rectangle are a rotated box, others a polygon (`imgsyncfs.formats.quadrangles`).
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from math import isfinite

import orjson

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import (
    Annotation,
    LabelledObject,
    Polygon,
    RotatedBox,
    annotation_from_json,
    annotation_to_json,
    encode_json,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Format, ImageInfo, Rendered
from imgsyncfs.formats.originals import EMBEDDED_NAME, UNNAMED, ImageSize, placed_objects, reassemble
from imgsyncfs.formats.quadrangles import (
    Corners,
    QuadrangleRow,
    is_difficult,
    read_rows,
    read_rows_beside,
    render_quadrangles,
)
from imgsyncfs.formats.remarks import count_losses

_TOOL = "DOTA"
_FIELDS = 10
_HEADERS = ("imagesource", "gsd")
_ORIGINAL = f"#{EMBEDDED_NAME} "
"""Begins the line in which `reattached` hands the original on to `parse`; no file has it."""

_LOOKED_AT = 20
"""So many rows tell DOTA's files from other text."""


class DotaFormat(Format):
    """DOTA's text."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:  # noqa: ARG002 - names no image
        """Write an annotation; see `Format.render`."""
        items = [each.item for each in placed_objects(annotation)]
        rows: list[str] = []
        reasons: list[tuple[str, str]] = []
        for item, corners in zip(items, render_quadrangles(items), strict=True):
            if corners is None:
                reasons.append(_reason_hidden(item))
                continue
            name = _shown_name(item)
            if name not in (item.class_name, UNNAMED):
                reasons.append(("class names with blanks", "fields have blanks between them, so these became '-'"))
            rows.append(f"{_numbers(corners)} {name} {int(is_difficult(item))}\n")
        losses = count_losses(annotation.labels, reasons, _TOOL, shows_classifications=False)
        return Rendered("".join(rows).encode("utf-8", "replace"), losses)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back; see `Format.parse`."""
        text, original = _parts(content)
        rows = [_row(number, line) for number, line in _lines(text)]
        if original is None:
            return reassemble(None, read_rows(rows), size=ImageSize(), label_checked=label_checked)
        items = [each.item for each in placed_objects(original)]
        corners = render_quadrangles(items)
        names = [_shown_name(item) if found is not None else None for item, found in zip(items, corners, strict=True)]
        return read_rows_beside(rows, original, names, label_checked=label_checked)

    def recognizes(self, content: bytes) -> bool:
        """Recognize DOTA's text: rows of eight numbers, a name and perhaps a digit. An empty file may be one."""
        try:
            lines = _lines(content.removeprefix(BOM_UTF8).decode())
            for number, line in lines:
                _row(number, line)
                if number > _LOOKED_AT:
                    break
        except (UnicodeDecodeError, AnnotationError):
            return False
        return True

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:  # noqa: ARG002 - names none
        """Hand on the original, of which a file holds nothing; see `Format.reattached`."""
        line = encode_json(annotation_to_json(original))
        return b"\n".join((content.rstrip(), _ORIGINAL.encode() + line, b""))


def _shown_name(item: LabelledObject) -> str:
    parts = item.class_name.split()
    return "-".join(parts) if parts else UNNAMED


def _numbers(corners: Corners) -> str:
    return " ".join([repr(number) for place in corners for number in place])


def _reason_hidden(item: LabelledObject) -> tuple[str, str]:
    if isinstance(item, RotatedBox):
        return "rotated boxes", "their corners lie beyond the largest number"
    kind = "polygons" if isinstance(item, Polygon) else "masks"
    return kind, f"{_TOOL} has boxes of four corners only"


def _parts(content: bytes) -> tuple[str, Annotation | None]:
    """The rows, and the original if `reattached` has handed it on."""
    try:
        text = content.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise AnnotationError(encoding_fault(content) or "it is not UTF-8; save it as such") from error
    rows, separator, document = text.rpartition(_ORIGINAL)
    return (rows, annotation_from_json(orjson.loads(document))) if separator else (text, None)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The rows with their numbers from 1, without blank lines and headers."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not (number <= len(_HEADERS) and line.lower().startswith(_HEADERS)):
            yield number, line


def _row(number: int, line: str) -> QuadrangleRow:
    fields = line.split()
    if len(fields) not in (_FIELDS - 1, _FIELDS):
        reason = f"a row has {_FIELDS} fields, x1 y1 x2 y2 x3 y3 x4 y4 category difficult; this one has {len(fields)}"
        raise AnnotationError(reason, field=f"line {number}")
    try:
        numbers = [float(text) for text in fields[:8]]
    except ValueError:
        numbers = []
    if not numbers or not all(map(isfinite, numbers)):
        raise AnnotationError("its first eight fields must be finite numbers", field=f"line {number}")
    mark = fields[9] if len(fields) == _FIELDS else "0"
    if not mark.isdecimal():
        raise AnnotationError(f"its last field must be a digit, this is {mark!r:.40}", field=f"line {number}")
    corners = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return QuadrangleRow(corners, fields[8], int(mark) != 0)
