"""A reader of YOLO labels that drops a picture where ultralytics 8.4 does, written from what its check demands."""

from __future__ import annotations

Outline = tuple[tuple[float, float], ...]


def read_yolo(content: bytes, class_count: int) -> list[tuple[int, Outline]]:
    """Read a file: for each row its class, and its outline; that of a box is its centre and its size.

    Raises:
        ValueError: ultralytics would drop the picture.
    """
    rows = [line.split() for line in content.decode("utf-8-sig").strip().splitlines() if line.strip()]
    has_outlines = any(len(row) > 6 for row in rows)
    if has_outlines and any(len(row) == 5 for row in rows):
        raise ValueError("labels mix segment and detection rows")
    if not has_outlines and any(len(row) != 5 for row in rows):
        raise ValueError("labels require 5 columns")
    found = []
    for row in rows:
        values = [float(text) for text in row[1:]]
        if max(values) > 1.01 or min(values) < 0:
            raise ValueError("out of bounds coordinates")
        if len(values) % 2 or not 0 <= int(row[0]) < class_count:
            raise ValueError("half a point, or a class that the dataset has not")
        found.append((int(row[0]), tuple(zip(values[::2], values[1::2], strict=True))))
    return found
