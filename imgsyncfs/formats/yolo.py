"""Annotations as the labels of ultralytics' YOLO: boxes, oriented boxes, outlines.

Source: ``verify_image_label`` in ``data/utils.py`` of ultralytics 8.4.190. A row is the number of a class, then numbers
that are 1 at the picture's far edge: ``xc yc w h`` (detect), four corners (obb), or three points and more (segment).
Rows of a file are of one kind: it takes a row of more than six fields, and its whole file, for outlines, and drops the
picture where rows of both kinds are mixed. Likewise for one value above 1.01 or below -0.01, and for a class that the
dataset has not. Hence:

- The numbers of classes come from `ImageInfo.classes`, the dataset's, never from the files.
- What reaches beyond the picture is cut there, and what lies wholly outside is left out; both are losses.
- An empty file is a picture that was looked at and shows nothing.

Detect shows the upright boxes around rotated boxes, polygons and masks: a loss each time. The corners of an oriented
box that reaches beyond the picture move to its edge one by one. Segment shows boxes by their corners.

There is no place to embed anything: read beside the annotation that it was rendered from (`Format.reattached`), a file
changes only what was edited in it. A file alone knows neither the dataset's classes nor the picture's size, so these
are no formats to convert to; `Format.read` takes both from its ``image``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite

from imgsyncfs.annotations.house_format import (
    OBJECT_LABEL_TYPES,
    Annotation,
    BoundingBox,
    LabelledObject,
    Mask,
    Polygon,
    RotatedBox,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Format, ImageInfo, Reading, Rendered
from imgsyncfs.formats.dataset_documents.enclosing import NOTHING, enclosing_box
from imgsyncfs.formats.originals import ImageSize, placed_objects, restored_bounding_box, shown_size
from imgsyncfs.formats.quadrangles import moved_quadrangle, read_quadrangles, render_quadrangles
from imgsyncfs.formats.remarks import OBJECT_NAMES, count_losses
from imgsyncfs.formats.rows import Points, Row, read_alone, read_beside, split_original, with_original

_TOOL = "YOLO"
_DECIMALS = 6
_SMALLEST = 0.5e-6
"""What is smaller is 0 in a file."""


class _YoloFormat(Format):
    """What the three kinds have in common."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`.

        Raises:
            AnnotationError: the picture's size is not known.
        """
        reasons: list[tuple[str, str]] = []
        rows = [f"{row}\n" for row in self._rows(annotation, image, reasons) if row is not None]
        losses = count_losses(annotation.labels, reasons, _TOOL, shows_classifications=False)
        return Rendered("".join(rows).encode(), losses)

    def read(self, content: bytes, *, label_checked: int = 1, image: ImageInfo | None = None) -> Reading:
        """Read an annotation back; see `Format.read`.

        Raises:
            AnnotationError: the file is damaged, or of another kind; or nobody says the picture's size and classes.
        """
        text, original = split_original(content)
        image = image or ImageInfo("", "", "")
        size = shown_size(original, image) if original is not None else ImageSize(image.height, image.width)
        width, height = _sides(size.width, size.height)
        rows = [
            self._row(line, number, values, image.classes, (width, height)) for line, number, values in _lines(text)
        ]
        items = self._items(rows, original)
        if original is None:
            known = ImageSize(height=height, width=width)
            return Reading(read_alone(rows, items, size=known, label_checked=label_checked))
        written = self._rows(original, image, [])
        lines = _lines("\n".join([row for row in written if row is not None]))
        rendered = [
            self._row(*next(lines), image.classes, (width, height)) if row is not None else None for row in written
        ]
        return read_beside(rows, items, original, rendered, moved=self._moved, label_checked=label_checked)

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:  # noqa: ARG002 - as the others
        """Hand on the original, of which a file holds nothing; see `Format.reattached`."""
        return with_original(content, original)

    def _rows(self, annotation: Annotation, image: ImageInfo, reasons: list[tuple[str, str]]) -> list[str | None]:
        """The row of each object, None for one that has none; and (what, reason) of each thing that is lost."""
        size = shown_size(annotation, image)
        width, height = _sides(size.width, size.height)
        numbers = {name: number for number, name in reversed([*enumerate(image.classes)])}
        items = [each.item for each in placed_objects(annotation)]
        rows: list[str | None] = []
        for item, outline in zip(items, self._outlines(items), strict=True):
            kind = OBJECT_NAMES[OBJECT_LABEL_TYPES[type(item)]]
            rows.append(None)
            if outline is None:
                reasons.append((kind, self._reason_hidden(item)))
                continue
            if item.class_name not in numbers:
                reasons.append((f"{kind} of other classes", "the dataset's list of classes does not have theirs"))
                continue
            shown = [(x / width, y / height) for x, y in outline]
            cut = tuple([(_cut(x), _cut(y)) for x, y in shown])
            if _is_outside(shown):
                reasons.append((f"{kind} outside the picture", f"{_TOOL} has no coordinates there"))
            elif _has_no_area(cut):
                reasons.append((f"{kind} without an area", f"{_TOOL} cannot learn them"))
            else:
                rows[-1] = " ".join([str(numbers[item.class_name]), *self._numbers(cut)])
                reasons += self._remarks(item, kind)
                if any(map(_differs, shown, cut)):
                    reasons.append((f"{kind} that reach beyond the picture", f"{_TOOL} has them cut at its edge"))
        return rows

    def _row(
        self, line: int, number: int, values: Sequence[float], classes: Sequence[str], sides: tuple[int, int]
    ) -> Row:
        """A row, in pixels."""
        if not 0 <= number < len(classes):
            known = f"the dataset has {len(classes)} classes; name it in data.yaml or classes.txt"
            raise AnnotationError(f"it is of class {number}, and {known}", field=f"line {line}")
        if not self._is_row(values):
            raise AnnotationError(f"it has {len(values) + 1} fields; {self._expected()}", field=f"line {line}")
        return Row(tuple([(x * sides[0], y * sides[1]) for x, y in self._points(values)]), classes[number])

    @abstractmethod
    def _outlines(self, items: Sequence[LabelledObject]) -> list[Points | None]:
        """The outlines to show, in pixels; None for an object that cannot be shown."""

    @abstractmethod
    def _reason_hidden(self, item: LabelledObject) -> str:
        """Why an object has no outline."""

    @abstractmethod
    def _is_row(self, values: Sequence[float]) -> bool:
        """Whether so many numbers behind the class are of this kind."""

    @abstractmethod
    def _expected(self) -> str:
        """What a row of this kind has, in words."""

    @abstractmethod
    def _items(self, rows: Sequence[Row], before: Annotation | None) -> list[LabelledObject]:
        """The geometry that rows show by themselves."""

    @abstractmethod
    def _moved(self, row: Row, item: LabelledObject, source: LabelledObject, rendered: Row) -> LabelledObject:
        """An object in its new place; see `imgsyncfs.formats.rows.Moved`."""

    def _remarks(self, item: LabelledObject, kind: str) -> list[tuple[str, str]]:  # noqa: ARG002 - for kinds that have some
        """(what, reason) of what is lost of an object that is shown."""
        return []

    def _numbers(self, points: Points) -> list[str]:
        """The fields behind the class."""
        return [f"{number:.{_DECIMALS}f}" for point in points for number in point]

    def _points(self, values: Sequence[float]) -> Points:
        """The outline that a row's numbers give."""
        return tuple(zip(values[::2], values[1::2], strict=True))


class YoloFormat(_YoloFormat):
    """Upright boxes: ``class xc yc w h``."""

    def _outlines(self, items: Sequence[LabelledObject]) -> list[Points | None]:
        return [_around(item, corners) for item, corners in zip(items, render_quadrangles(items), strict=True)]

    def _reason_hidden(self, item: LabelledObject) -> str:
        return _TOO_LARGE if isinstance(item, RotatedBox) else _NOTHING

    def _remarks(self, item: LabelledObject, kind: str) -> list[tuple[str, str]]:
        if isinstance(item, BoundingBox):
            return []
        return [(kind, f"{_TOOL} has upright boxes only, and shows those around them")]

    def _numbers(self, points: Points) -> list[str]:
        (left, top), _, (right, bottom), _ = points
        return super()._numbers((((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)))

    def _is_row(self, values: Sequence[float]) -> bool:
        return len(values) == 4

    def _expected(self) -> str:
        return "a box has class, xc, yc, w and h; outlines are of another kind"

    def _points(self, values: Sequence[float]) -> Points:
        x, y, w, h = values
        return (x - w / 2, y - h / 2), (x + w / 2, y + h / 2)

    def _items(self, rows: Sequence[Row], before: Annotation | None) -> list[LabelledObject]:  # noqa: ARG002 - always such
        return [BoundingBox("", *row.points[0], *row.points[1]) for row in rows]

    def _moved(self, row: Row, item: LabelledObject, source: LabelledObject, rendered: Row) -> LabelledObject:
        if not isinstance(source, BoundingBox):
            return item
        (left, top), (right, bottom) = row.points
        return restored_bounding_box((left, top, right, bottom), source, [*rendered.points[0], *rendered.points[1]])


class YoloObbFormat(_YoloFormat):
    """Oriented boxes: ``class x1 y1 x2 y2 x3 y3 x4 y4``."""

    def _outlines(self, items: Sequence[LabelledObject]) -> list[Points | None]:
        return [*render_quadrangles(items)]

    def _reason_hidden(self, item: LabelledObject) -> str:
        return _TOO_LARGE if isinstance(item, RotatedBox) else f"{_TOOL} has boxes of four corners only here"

    def _is_row(self, values: Sequence[float]) -> bool:
        return len(values) == 8

    def _expected(self) -> str:
        return "an oriented box has a class and four corners, nine fields"

    def _items(self, rows: Sequence[Row], before: Annotation | None) -> list[LabelledObject]:
        return read_quadrangles(rows, before)

    def _moved(self, row: Row, item: LabelledObject, source: LabelledObject, rendered: Row) -> LabelledObject:
        return moved_quadrangle(row, item, source, rendered)


class YoloSegFormat(_YoloFormat):
    """Outlines: ``class x1 y1 x2 y2 x3 y3 …``."""

    def _outlines(self, items: Sequence[LabelledObject]) -> list[Points | None]:
        return [_outline(item, corners) for item, corners in zip(items, render_quadrangles(items), strict=True)]

    def _reason_hidden(self, item: LabelledObject) -> str:
        if isinstance(item, RotatedBox):
            return _TOO_LARGE
        if isinstance(item, Polygon):
            return f"{_TOOL} takes a row of fewer than three points for a box"
        return f"{_TOOL} has outlines only"

    def _is_row(self, values: Sequence[float]) -> bool:
        return len(values) >= 6 and len(values) % 2 == 0

    def _expected(self) -> str:
        return "an outline has a class and three points or more"

    def _items(self, rows: Sequence[Row], before: Annotation | None) -> list[LabelledObject]:  # noqa: ARG002 - always such
        return [Polygon("", row.points) for row in rows]

    def _moved(self, row: Row, item: LabelledObject, source: LabelledObject, rendered: Row) -> LabelledObject:
        if isinstance(source, Polygon):
            # A point that was not moved keeps its exact place.
            exact = dict(zip(rendered.points, source.points, strict=False))
            return replace(source, points=tuple([exact.get(point, point) for point in row.points]))
        if len(row.points) != 4:
            return item
        (box,) = read_quadrangles([row])
        return moved_quadrangle(row, box, source, rendered) if isinstance(box, RotatedBox) else item


_TOO_LARGE = "their corners lie beyond the largest number"
_NOTHING = "they cover nothing"


def _sides(width: int | None, height: int | None) -> tuple[int, int]:
    if not width or not height:
        raise AnnotationError(f"{_TOOL} needs the picture's size, and nobody says it; say it in height and width")
    return width, height


def _around(item: LabelledObject, corners: Points | None) -> Points | None:
    """The upright box around an object, by its four corners."""
    points = corners
    if isinstance(item, Polygon):
        points = item.points
    elif isinstance(item, Mask):
        box = enclosing_box(item, ())
        points = ((box.x, box.y), (box.x + box.w, box.y + box.h)) if box != NOTHING else None
    if not points:
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _outline(item: LabelledObject, corners: Points | None) -> Points | None:
    if not isinstance(item, Polygon):
        return corners
    points = item.points[:-1] if len(item.points) > 1 and item.points[0] == item.points[-1] else item.points
    return points if len(points) > 2 else None


def _cut(number: float) -> float:
    return number if 0.0 < number < 1.0 else float(number >= 1.0)


def _differs(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a file shows that a point was moved."""
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) > _SMALLEST


def _is_outside(points: Sequence[tuple[float, float]]) -> bool:
    return any(max(axis) <= 0.0 or min(axis) >= 1.0 for axis in zip(*points, strict=True))


def _has_no_area(points: Sequence[tuple[float, float]]) -> bool:
    return any(max(axis) - min(axis) <= _SMALLEST for axis in zip(*points, strict=True))


def _lines(text: str) -> Iterator[tuple[int, int, list[float]]]:
    """For each row its line, its class, and the numbers behind that."""
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        try:
            numbers = [float(field) for field in row.split()]
        except ValueError:
            numbers = []
        if not numbers or not all(map(isfinite, numbers)) or numbers[0] != int(numbers[0]):
            raise AnnotationError("a row is a class's number and finite numbers", field=f"line {line}")
        yield line, int(numbers[0]), numbers[1:]
