"""The objects of an annotation as arrays, and the order of classes that numbers them: what a trainer reads.

Every object is a row, of whatever kind it is: an upright box, a rotated one, a polygon or a mask has an upright box
around it, and a rotated box as well, whose angle is 0 unless the object is a rotated box itself.

Source of the order of classes: the users' rule that a dataset's own column comes first, and that a number never depends
on which file is read first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgsyncfs.annotations.geometry import corners, mask_bounds, reduce_angle
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    LabelledObject,
    Mask,
    ObjectLabel,
    RotatedBox,
)

_Floats = npt.NDArray[np.float64]

_NOWHERE = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class BoxArrays:
    """The objects of an image, a row each, in the annotation's order.

    Attributes:
        class_names: of each.
        xyxy: (n, 4) of x1, y1, x2, y2 in pixels: the upright box around each, as it is in the annotation, which may
            reach beyond the image. NaN for an object that is nowhere: a polygon without points, an empty mask.
        xywhr: (n, 5) of centre, width, height and angle: of a rotated box itself, with the angle in radians in [0, pi),
            clockwise on screen; of any other object its upright box, with the angle 0.
    """

    class_names: tuple[str, ...]
    xyxy: _Floats
    xywhr: _Floats

    def within(self, width: int, height: int) -> BoxArrays:
        """What of the objects is in an image, in single precision, as a detector takes it.

        Args:
            width: of the image in pixels.
            height: likewise.

        Returns:
            The objects that cover anything of it. Their upright boxes end where the image does, and have a width and a
            height above 0 as 32-bit floats; the rotated ones are not cut. All numbers are finite as 32-bit floats.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            boxes = np.minimum(np.maximum(self.xyxy, 0.0), np.array((width, height) * 2)).astype(np.float32)
            rotated = self.xywhr.astype(np.float32)
            covers = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & np.isfinite(rotated).all(axis=1)
        return self._only(covers, boxes.astype(np.float64))

    def of_classes(self, names: Iterable[str]) -> BoxArrays:
        """The objects of some classes."""
        chosen = frozenset(names)
        return self._only(np.array([name in chosen for name in self.class_names], dtype=np.bool_), self.xyxy)

    def _only(self, rows: npt.NDArray[np.bool_], xyxy: _Floats) -> BoxArrays:
        if rows.all():
            return BoxArrays(self.class_names, xyxy, self.xywhr)
        names = tuple(name for name, chosen in zip(self.class_names, rows.tolist(), strict=True) if chosen)
        return BoxArrays(names, xyxy[rows], self.xywhr[rows])


def labelled_objects(annotation: Annotation | None) -> Iterator[LabelledObject]:
    """All objects of an annotation, in its order; none if there is no annotation."""
    for label in annotation.labels if annotation is not None else ():
        if isinstance(label, ObjectLabel):
            yield from label.objects


def box_arrays(annotation: Annotation | None) -> BoxArrays:
    """Put the objects of an annotation into arrays.

    Args:
        annotation: of an image; None if it has none, which gives no rows.

    Returns:
        A row for each object. The corners of an upright box may be given in any order, and a rotated box may have a
        negative width or height: the same region has the same numbers.

    Raises:
        AnnotationError: the run lengths of a mask are damaged.
    """
    return object_arrays(list(labelled_objects(annotation)))


def object_arrays(objects: Sequence[LabelledObject]) -> BoxArrays:
    """Put objects into arrays, those of one image or of many: numpy takes as long for a few as for hundreds.

    Args:
        objects: in the order of the rows.

    Returns:
        As `box_arrays`.

    Raises:
        AnnotationError: the run lengths of a mask are damaged.
    """
    first, second = np.array([_upright(item) for item in objects], dtype=np.float64).reshape(-1, 2, 2).swapaxes(0, 1)
    low, high = np.minimum(first, second), np.maximum(first, second)
    xywhr = np.zeros((len(objects), 5))
    turned = [row for row, item in enumerate(objects) if isinstance(item, RotatedBox)]
    if turned:
        boxes = [(item.x, item.y, abs(item.w), abs(item.h), item.a) for item in objects if isinstance(item, RotatedBox)]
        rotated = np.array(boxes, dtype=np.float64)
        outlines = corners(rotated)
        low[turned], high[turned] = outlines.min(axis=1), outlines.max(axis=1)
        rotated[:, 4] = reduce_angle(rotated[:, 4])
    with np.errstate(over="ignore", invalid="ignore"):
        xywhr[:, :2] = low / 2 + high / 2
        xywhr[:, 2:4] = high - low
    if turned:
        xywhr[turned] = rotated
    return BoxArrays(tuple([item.class_name for item in objects]), np.concatenate([low, high], axis=1), xywhr)


def _upright(item: LabelledObject) -> tuple[float, float, float, float]:
    """Two corners of the upright box around an object; a rotated one's are put in later, for all at once."""
    if isinstance(item, BoundingBox):
        return item.x1, item.y1, item.x2, item.y2
    if isinstance(item, Mask):
        bounds = mask_bounds(item.size, item.counts)
        # The last column and row are covered to their far edges.
        return _NOWHERE if bounds is None else (*bounds[:2], bounds[2] + 1, bounds[3] + 1)
    if isinstance(item, RotatedBox) or not item.points:
        return _NOWHERE
    across, down = zip(*item.points, strict=True)
    return min(across), min(down), max(across), max(down)
