"""Draw an annotation into its image, for people to look at."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    Mask,
    ObjectLabel,
    RegressionLabel,
    UnknownLabel,
)
from imgsyncfs.formats.remarks import labelme_shape
from imgsyncfs.pictures.images import decode_to_show, upright_rgb
from imgsyncfs.pictures.shapes import (
    Outline,
    Points,
    Strokes,
    draw_mask,
    draw_outlines,
    outline_of,
    outline_of_shape,
    strokes_for,
)
from imgsyncfs.pictures.text import Anchor, draw_caption, draw_plates, place_plates

MOST_DRAWN = 20_000
"""Objects that are drawn: they cover each other many times over, and each takes half a millisecond."""

MOST_SHOWN_PIXELS = 800
"""Along the longer side of what a notebook shows: all of it is seen at once."""


def draw_annotation(image: Image.Image, annotation: Annotation, *, most: int = MOST_DRAWN) -> Image.Image:
    """Draw an annotation into a copy of its image.

    Boxes, rotated boxes with an arrow to the side that their angle points to, polygons, and what labelme alone knows
    (points, circles, lines) are outlined, masks are tinted; each has its class on a plate, in a colour that follows
    from the class name alone. Classifications and values about the whole image stand in a corner, with what cannot be
    drawn. Lines and letters grow with the image.

    Args:
        image: of any mode; turned first if it has an EXIF block that asks for it, as coordinates are those of the
            turned image. Values of more than 8 bits are spread from black to white, transparent parts are white.
        annotation: in this image's pixels; what lies outside of it is left out.
        most: objects that are drawn; of more, the first are.

    Returns:
        An RGB image as large as the (turned) image.

    Raises:
        PreviewError: the image is of a mode that cannot be shown.
    """
    picture = upright_rgb(image)
    strokes = strokes_for(picture.size)
    labels, left_out = _first(annotation.labels, most)
    drawn = [each for label in labels for each in _drawn(label, strokes)]
    for label in labels:
        for item in label.objects if isinstance(label, ObjectLabel) else ():
            if isinstance(item, Mask):
                draw_mask(picture, item, strokes)
    draw_outlines(picture, [each.outline for each in drawn], strokes)
    anchors = [anchor for each in drawn if (anchor := _anchor(each, picture.size)) is not None]
    lines = _caption_lines(annotation, outside=len(drawn) - len(anchors), left_out=left_out)
    boxes: npt.NDArray[np.float64] = np.array([anchor.box for anchor in anchors], dtype=np.float64).reshape(-1, 4)
    caption = draw_caption(picture, lines, boxes)
    draw_plates(picture, place_plates(anchors, picture.size, gap=strokes.reach, taken=caption))
    return picture


def draw_content(content: bytes, annotation: Annotation | None, *, most_pixels: int = MOST_SHOWN_PIXELS) -> bytes:
    """Draw an annotation into an image that lies in memory, for a notebook.

    Args:
        content: an image file's.
        annotation: in this image's pixels; None draws nothing.
        most_pixels: along the longer side; a larger image is made smaller.

    Returns:
        A PNG file.

    Raises:
        PreviewError: the image cannot be shown.
    """
    image = decode_to_show(content)
    picture = upright_rgb(image) if annotation is None else draw_annotation(image, annotation)
    picture.thumbnail((most_pixels, most_pixels))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return encoded.getvalue()


class _Drawn(NamedTuple):
    """Something that is drawn: its lines, its class, and whether its text stands at its left edge."""

    outline: Outline
    class_name: str
    is_upright: bool


def _drawn(label: Label, strokes: Strokes) -> list[_Drawn]:
    """What is drawn of a label: objects, or a shape of labelme's that is kept as it is."""
    if isinstance(label, ObjectLabel):
        return [
            _Drawn(outline_of(item, strokes), item.class_name, isinstance(item, BoundingBox | Mask))
            for item in label.objects
        ]
    shape = labelme_shape(label)
    outline = outline_of_shape(shape, strokes) if shape is not None else None
    if shape is None or outline is None:
        return []
    name = shape.get("label")
    return [_Drawn(outline, name if isinstance(name, str) else "", is_upright=False)]


def _anchor(drawn: _Drawn, size: tuple[int, int]) -> Anchor | None:
    """Where an object's text goes; None if nothing of the object is in the picture."""
    outline, upright = drawn.outline, drawn.is_upright
    shown = _enclosing(outline.points, size)
    if shown is None:
        return None
    x1, y1, x2, y2 = shown
    top = outline.points[int(outline.points[:, 1].argmin())]
    x = x1 if upright else float(np.clip(top[0], x1, x2))
    text = drawn.class_name if drawn.class_name.strip() else "(no class)"
    return Anchor((x1, y1, x2, y2), (x, y1), text, outline.colour, centred=not upright)


def _enclosing(points: Points, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The part of the upright box around points that lies within (width, height); None if there is none."""
    if not len(points) or not np.isfinite(points).all():
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    if (high < 0).any() or (low > size).any():
        return None
    x1, y1 = np.clip(low, 0, size).tolist()
    x2, y2 = np.clip(high, 0, size).tolist()
    return x1, y1, x2, y2


def _first(labels: Sequence[Label], most: int) -> tuple[list[Label], int]:
    """The labels with so many objects at most, and how many objects are left out."""
    kept: list[Label] = []
    room, left_out = most, 0
    for label in labels:
        if isinstance(label, ObjectLabel) and len(label.objects) > room:
            left_out += len(label.objects) - room
            kept.append(replace(label, objects=label.objects[:room]))
            room = 0
        elif isinstance(label, UnknownLabel) and not room:
            left_out += 1
        else:
            room -= len(label.objects) if isinstance(label, ObjectLabel) else isinstance(label, UnknownLabel)
            kept.append(label)
    return kept, left_out


def _caption_lines(annotation: Annotation, *, outside: int, left_out: int) -> list[str]:
    """What is said about the picture as a whole."""
    lines = [line for label in annotation.labels if (line := _value_line(label))]
    lines += _not_drawn(annotation.labels, outside)
    if left_out:
        lines.append(f"not drawn: {left_out} more objects")
    if annotation.object_count == 0:
        lines.append("checked: nothing to label" if annotation.label_checked else "not labelled yet")
    return lines


def _value_line(label: object) -> str:
    if isinstance(label, ClassificationLabel):
        return f"{label.label_name}: {label.label}" if label.label_name else label.label
    if isinstance(label, RegressionLabel):
        value = str(label.label) if isinstance(label.label, int) else f"{label.label:.10g}"
        return f"{label.label_name}: {value}" if label.label_name else value
    return ""


def _is_drawn(label: UnknownLabel) -> bool:
    shape = labelme_shape(label)
    return shape is not None and outline_of_shape(shape, strokes_for((1, 1))) is not None


def _not_drawn(labels: Sequence[object], outside: int) -> list[str]:
    types = Counter(
        str(label.content.get("label_type"))
        for label in labels
        if isinstance(label, UnknownLabel) and not _is_drawn(label)
    )
    lines = [f"not drawn: {count} of type {label_type}" for label_type, count in types.items()]
    return [*lines, *([f"not drawn: {outside} outside the image"] if outside else [])]
