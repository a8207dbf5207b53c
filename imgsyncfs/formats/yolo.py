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

There is no place to embed anything. These formats are in no registry: a file alone knows neither the dataset's classes
nor the picture's size. `Format.read` takes both from its ``image``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from math import isfinite

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, LabelledObject, Mask, Polygon, RotatedBox
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Format, ImageInfo, Reading, Rendered
from imgsyncfs.formats.dataset_documents.enclosing import NOTHING, enclosing_box
from imgsyncfs.formats.originals import (
    ImageSize,
    RestoredObject,
    placed_objects,
    reassemble,
    restored_object,
    shown_size,
)
from imgsyncfs.formats.quadrangles import QuadrangleRow, read_rows, render_quadrangles
from imgsyncfs.formats.remarks import count_losses

Points = tuple[tuple[float, float], ...]

_TOOL = "YOLO"
_DECIMALS = 6
_SMALLEST = 0.5e-6
"""What is smaller is 0 in a file."""

_KINDS = {BoundingBox: "bounding boxes", RotatedBox: "rotated boxes", Polygon: "polygons", Mask: "masks"}


class _YoloFormat(Format):
    """What the three kinds have in common."""

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; see `Format.render`.

        Raises:
            AnnotationError: the picture's size is not known.
        """
        size = shown_size(annotation, image)
        width, height = _sides(size.width, size.height)
        numbers = {name: number for number, name in reversed([*enumerate(image.classes)])}
        items = [each.item for each in placed_objects(annotation)]
        rows: list[str] = []
        reasons: list[tuple[str, str]] = []
        for item, outline in zip(items, self._outlines(items), strict=True):
            kind = _KINDS[type(item)]
            if outline is None:
                reasons.append((kind, self._reason_hidden(item)))
            elif item.class_name not in numbers:
                reasons.append((f"{kind} of other classes", "the dataset's list of classes does not have theirs"))
            else:
                shown = [(x / width, y / height) for x, y in outline]
                cut = [(_cut(x), _cut(y)) for x, y in shown]
                if _is_outside(shown):
                    reasons.append((f"{kind} outside the picture", f"{_TOOL} has no coordinates there"))
                elif _has_no_area(cut):
                    reasons.append((f"{kind} without an area", f"{_TOOL} cannot learn them"))
                else:
                    rows.append(f"{numbers[item.class_name]} {self._row(cut)}\n")
                    reasons += self._remarks(item)
                    if any(map(_differs, shown, cut)):
                        reasons.append((f"{kind} that reach beyond the picture", f"{_TOOL} has them cut at its edge"))
        losses = count_losses(annotation.labels, reasons, _TOOL, shows_classifications=False)
        return Rendered("".join(rows).encode(), losses)

    def read(self, content: bytes, *, label_checked: int = 1, image: ImageInfo | None = None) -> Reading:
        """Read an annotation back; see `Format.read`.

        Raises:
            AnnotationError: the file is damaged, or of another kind; or nobody says the picture's size and classes.
        """
        width, height = _sides(image.width if image else None, image.height if image else None)
        classes = image.classes if image else ()
        names: list[str] = []
        outlines: list[Points] = []
        for line, number, values in _rows(content):
            if not 0 <= number < len(classes):
                reason = f"it is of class {number}, and the dataset has {len(classes)} classes; give the right list"
                raise AnnotationError(reason, field=f"line {line}")
            if not self._is_row(values):
                raise AnnotationError(f"it has {len(values) + 1} fields; {self._expected()}", field=f"line {line}")
            names.append(classes[number])
            outlines.append(tuple([(x * width, y * height) for x, y in self._points(values)]))
        objects = self._objects(names, outlines)
        size = ImageSize(height=height, width=width)
        return Reading(reassemble(None, objects, size=size, label_checked=label_checked))

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
    def _objects(self, names: Sequence[str], outlines: Sequence[Points]) -> list[RestoredObject]:
        """The objects that rows show."""

    def _remarks(self, item: LabelledObject) -> list[tuple[str, str]]:  # noqa: ARG002 - for kinds that have some
        """(what, reason) of what is lost of an object that is shown."""
        return []

    def _row(self, points: Points | list[tuple[float, float]]) -> str:
        """The numbers behind the class."""
        return " ".join([f"{number:.{_DECIMALS}f}" for point in points for number in point])

    def _points(self, values: Sequence[float]) -> Points:
        """The outline that a row's numbers give."""
        return tuple(zip(values[::2], values[1::2], strict=True))


class YoloFormat(_YoloFormat):
    """Upright boxes: ``class xc yc w h``."""

    def _outlines(self, items: Sequence[LabelledObject]) -> list[Points | None]:
        return [_around(item, corners) for item, corners in zip(items, render_quadrangles(items), strict=True)]

    def _reason_hidden(self, item: LabelledObject) -> str:
        return _TOO_LARGE if isinstance(item, RotatedBox) else _NOTHING

    def _remarks(self, item: LabelledObject) -> list[tuple[str, str]]:
        if isinstance(item, BoundingBox):
            return []
        return [(_KINDS[type(item)], f"{_TOOL} has upright boxes only, and shows those around them")]

    def _row(self, points: Points | list[tuple[float, float]]) -> str:
        (left, top), _, (right, bottom), _ = points
        return super()._row([((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)])

    def _is_row(self, values: Sequence[float]) -> bool:
        return len(values) == 4

    def _expected(self) -> str:
        return "a box has class, xc, yc, w and h; outlines are of another kind"

    def _points(self, values: Sequence[float]) -> Points:
        x, y, w, h = values
        return (x - w / 2, y - h / 2), (x + w / 2, y + h / 2)

    def _objects(self, names: Sequence[str], outlines: Sequence[Points]) -> list[RestoredObject]:
        return [
            restored_object(None, BoundingBox("", *outline[0], *outline[1]), class_name=name, extra={})
            for name, outline in zip(names, outlines, strict=True)
        ]


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

    def _objects(self, names: Sequence[str], outlines: Sequence[Points]) -> list[RestoredObject]:
        return read_rows([QuadrangleRow(outline, name) for name, outline in zip(names, outlines, strict=True)])


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

    def _objects(self, names: Sequence[str], outlines: Sequence[Points]) -> list[RestoredObject]:
        return [
            restored_object(None, Polygon("", outline), class_name=name, extra={})
            for name, outline in zip(names, outlines, strict=True)
        ]


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


def _rows(content: bytes) -> Iterator[tuple[int, int, list[float]]]:
    """For each row its line, its class, and the numbers behind that."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise AnnotationError(encoding_fault(content) or "it is not UTF-8; save it as such") from error
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            numbers = [float(field) for field in text.split()]
        except ValueError:
            numbers = []
        if not numbers or not all(map(isfinite, numbers)) or numbers[0] != int(numbers[0]):
            raise AnnotationError("a row is a class's number and finite numbers", field=f"line {line}")
        yield line, int(numbers[0]), numbers[1:]
